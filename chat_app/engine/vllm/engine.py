"""The engine that has replies decoded by servers of vLLM.

The way of a prompt: `Prompts.encode` makes its tokens, as for the local engine; a ticket waits for
its turn; `Replicas.choose` names a server; `Replica.decode` sends the tokens there. The way of a
token: it comes back as an id, and `RemoteReply` makes text of the ids as the local engine does.

Invariant: one thread with an event loop of its own speaks to the servers and owns what is known of
them. A reply keeps its adapter and its server. If the server dies before the first token, another
one begins the reply; after it, the reply is lost, and no other. Nothing here knows weights, so
`doubts` is not offered.
"""

import asyncio
import hashlib
import json
import logging
import threading
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from chat_app.engine import FAILED, GenerationRequest
from chat_app.engine.prompts import Prompts
from chat_app.engine.queued import STOPPED, QueuedEngine
from chat_app.engine.vllm.remote_reply import RemoteReply
from chat_app.engine.vllm.replicas import Published, Replicas
from chat_app.engine.waiting import Ticket, Waiting
from chat_app.errors import BusyError, ChatAppError, InvalidRequestError, log_fault
from chat_app.settings import EngineSettings
from feedback_store.records import BASE_ADAPTER, PromptMessage
from rlhf_core.errors import ReplicaLostError
from rlhf_core.model.adapters import Manifest, verify_adapter
from rlhf_core.model.loading import Outline
from rlhf_core.training.vllm.replica import Replica, Servers

log = logging.getLogger(__name__)

Result = TypeVar("Result")


class VllmEngine(QueuedEngine):
    """Has replies decoded by servers of vLLM, each with the same base and adapters.

    Args:
        outline: Returns the base without its weights. It runs in the engine's thread.
        settings: Where the servers are; how many replies they decode, and how many may wait.
        key: As for `QueuedEngine`.
        reply_seconds: The same.
    """

    def __init__(
        self,
        outline: Callable[[], Outline],
        settings: EngineSettings,
        *,
        key: bytes | None,
        reply_seconds: float = 60.0,
    ) -> None:
        super().__init__(settings, key=key, reply_seconds=reply_seconds)
        self._going: dict[Ticket, RemoteReply] = {}  # `_wake` guards it, too
        self._adapters: dict[str, Published] = {}
        self._retired: set[str] = set()
        self._tasks: set[asyncio.Task[Any]] = set()  # that end with the engine
        self._outline: Outline | None = None
        self._replicas: Replicas | None = None
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(
            target=self._run, args=(outline,), name="engine", daemon=True
        )
        self._thread.start()

    # Called from any event loop

    async def load(self, adapter: str, path: Path) -> None:
        """Verify an adapter, then load it on all servers or on none.

        Raises:
            AdapterError: It does not verify, or a server refuses it.
            BusyError: No server answers, or one was lost meanwhile.
        """
        await self._within(self._load(adapter, path))

    async def unload(self, adapter: str) -> None:
        """Drop an adapter on all servers as soon as no reply uses it."""
        self._soon(self._retire, adapter)

    @property
    def doubting(self) -> bool:
        """Never: vLLM does not show what `Engine.doubts` reads."""
        return False

    async def load_doubts(self, path: Path) -> None:
        """Refuse; see `doubting`."""
        raise ChatAppError(f"{path.name} cannot be asked: vLLM does not show what it reads")

    def drop_doubts(self) -> None:
        """Know nothing, as always."""

    async def doubts(
        self, prompt: Sequence[PromptMessage], replies: Sequence[str]
    ) -> Mapping[tuple[int, int], float]:
        """Know nothing; see `doubting`."""
        return {}

    def health(self) -> dict[str, Any]:
        """Facts for the health routes and the metrics; ready while a server gets requests."""
        outline, replicas = self._outline, self._replicas
        every = replicas.every if replicas is not None else ()
        alive = self._thread.is_alive()
        return {
            "alive": alive,
            "ready": alive and any(not replica.fault for replica in every),
            "failure": self._failure,
            "base": outline.fingerprint if outline is not None else None,
            "adapters": sorted(self._adapters),
            "rows": len(self._going),
            "waiting": len(self._waiting),
            "new_tokens": self._made["tokens"],
            "replicas": [{"url": r.url, "fault": r.fault, "rows": r.rows} for r in every],
        }

    def close(self) -> None:
        """End all replies and wait for the thread."""
        self._soon(self._stop.set)
        self._thread.join(timeout=10)
        if self._outline is not None:
            self._prompts.result().close()

    def _soon(self, call: Callable[..., Any], *given: Any) -> None:
        """Have the engine's thread call something; nothing is left to do once it has ended."""
        try:
            self._loop.call_soon_threadsafe(call, *given)
        except RuntimeError:  # the loop is closed
            log.debug("the engine has ended before %s", call)

    async def _within(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Run something in the engine's loop."""

        async def ends_with_the_engine() -> Result:
            return await self._begin(work)

        try:
            self._require_running()
            running = asyncio.run_coroutine_threadsafe(ends_with_the_engine(), self._loop)
        except BaseException:
            work.close()
            raise
        return await asyncio.wrap_future(running)

    def _require_running(self) -> None:
        if self._failure is not None or self._stop.is_set() or not self._thread.is_alive():
            raise BusyError(STOPPED)

    def _rows_in_use(self) -> int:
        return len(self._going)

    def _holds(self, adapter: str) -> bool:
        return adapter in self._adapters

    def _changed(self) -> None:
        self._soon(self._take)

    def _left(self, ticket: Ticket) -> None:
        self._soon(self._leave, ticket)

    # The engine's thread

    def _run(self, outline: Callable[[], Outline]) -> None:
        end: Exception = BusyError(STOPPED)
        try:
            self._outline = outline()
            chat, config = self._outline.chat, self._outline.config
            # a server may have room for a prompt and its reply, and for no more
            self._prompts.set_result(Prompts(chat, config, most=chat.reply.window))
            self._loop.run_until_complete(self._serve(self._outline))
        except Exception as exc:
            log.exception("the engine has stopped")
            self._failure = end = exc
        finally:
            if not self._prompts.done():
                self._prompts.set_exception(end)
            with self._wake:
                left, self._waiting = list(self._waiting), Waiting(self._settings.rows)
            for ticket in left:
                ticket.send(end)
            self._loop.close()

    async def _serve(self, outline: Outline) -> None:
        key = self._settings.vllm_key
        servers = Servers(self._settings.vllm_urls, key.get_secret_value() if key else None)
        async with servers.client() as http:
            window = outline.chat.reply.window
            self._replicas = Replicas([Replica(url, http, window=window) for url in servers.urls])
            self._take()  # what was asked meanwhile
            watching = self._begin(self._replicas.watch())
            stopping = self._begin(self._stop.wait())
            await asyncio.wait({watching, stopping}, return_when=asyncio.FIRST_COMPLETED)
            self._stop.set()
            # a reply that ends may begin to drop its adapter, so one round may not be the last;
            # what these tasks have begun themselves, such as a connection, is theirs to end
            while tasks := list(self._tasks):
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
            if not watching.cancelled():
                watching.result()

    async def _load(self, adapter: str, path: Path) -> None:
        if self._outline is None or self._replicas is None:
            raise BusyError("the model is not loaded yet; load adapters once it is ready")
        if adapter in self._adapters and adapter not in self._retired:
            return
        base, key = self._outline.fingerprint, self._key
        manifest = await asyncio.to_thread(verify_adapter, path, base=base, kind="policy", key=key)
        published = Published(f"{adapter}-{_digest(manifest)}", path.resolve())
        self._retired.discard(adapter)
        await self._replicas.publish(published)
        self._adapters[adapter] = published

    def _retire(self, adapter: str) -> None:
        self._retired.add(adapter)
        self._drop_retired()

    def _drop_retired(self) -> None:
        """Drop retired adapters that no reply and no waiting request uses."""
        if not self._retired or self._replicas is None:
            return
        with self._wake:
            used = {ticket.request.adapter for ticket in (*self._waiting, *self._going)}
        for adapter in self._retired - used:
            self._retired.discard(adapter)
            if published := self._adapters.pop(adapter, None):
                self._begin(self._replicas.retire(published))

    def _begin(self, work: Coroutine[Any, Any, Result]) -> asyncio.Task[Result]:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _take(self) -> None:
        """Begin the replies whose turn it is, as long as there are free rows."""
        outline = self._outline
        if outline is None or self._replicas is None or self._stop.is_set():
            return
        interval = 1 / self._settings.updates_per_second
        with self._wake:
            for ticket in self._waiting.encoded(list(self._going)):
                if len(self._going) >= self._settings.rows:
                    return
                self._waiting.remove(ticket)
                ticket.begin()
                reply = RemoteReply(ticket, outline, interval=interval)
                reply.task = self._begin(self._decode(reply, outline))
                reply.task.add_done_callback(partial(self._ended, reply))
                self._going[ticket] = reply

    def _leave(self, ticket: Ticket) -> None:
        """A reader has left, or has all: the reply ends, if it has not yet."""
        if (reply := self._going.get(ticket)) and reply.task and not reply.ended:
            reply.task.cancel()
        self._drop_retired()

    def _ended(self, reply: RemoteReply, _: "asyncio.Task[None]") -> None:
        """Its row is free; also if its task was cancelled before it began."""
        with self._wake:
            del self._going[reply.ticket]
        self._take()
        self._drop_retired()

    async def _decode(self, reply: RemoteReply, outline: Outline) -> None:
        """Decode a reply to its end, and tell its reader how it ended."""
        try:
            async with asyncio.timeout_at(reply.ticket.deadline):
                self._require_adapter(reply.ticket.request)
                await self._decode_somewhere(reply, outline)
        except TimeoutError:
            reply.end("length")
        except asyncio.CancelledError:  # its reader has left, or the engine closes
            reply.ticket.send(BusyError(STOPPED))
            raise
        except (BusyError, InvalidRequestError) as exc:
            reply.ticket.send(exc)
        except Exception as exc:  # its text names a server, which is nothing for visitors
            log_fault(log, "a reply is lost", exc)
            reply.give_up(ChatAppError(FAILED))

    async def _decode_somewhere(self, reply: RemoteReply, outline: Outline) -> None:
        """Have a server decode a reply, and another one if it is lost before the first token."""
        replicas, tried = self._replicas, list[Replica]()
        assert replicas is not None, "no reply begins before there are servers"
        while not reply.ended:
            replica = replicas.choose(_conversation(reply.ticket.request), but=tried)
            try:
                await self._decode_on(replica, reply, outline)
            except ReplicaLostError as exc:
                replicas.lose(replica, exc)
                if reply.ids and not reply.ended:
                    raise
                tried.append(replica)

    async def _decode_on(self, replica: Replica, reply: RemoteReply, outline: Outline) -> None:
        request, ids = reply.ticket.request, reply.ticket.ids or []
        based = request.adapter == BASE_ADAPTER
        name = "" if based else self._adapters[request.adapter].name  # stays while it is used
        most = min(request.sampling.max_new_tokens, self._prompts.result().room(ids))
        sampling = replace(request.sampling, max_new_tokens=most)
        self._made["prompt_tokens"] += len(ids)
        replica.rows += 1
        try:
            pieces = replica.decode(
                name, ids, sampling, seed=request.seed, ends=sorted(outline.ends)
            )
            async with aclosing(pieces) as arriving:
                async for decoded in arriving:
                    self._made["tokens"] += len(decoded.ids)
                    reply.take(decoded)
                    if reply.ended:  # by a stop text; closing lets the server stop, too
                        break
        finally:
            replica.rows -= 1
        if not reply.ended:
            raise ReplicaLostError(f"{replica.url} ended a reply without a reason")


def _digest(manifest: Manifest) -> str:
    """Says which weights these are."""
    files = json.dumps(manifest.files, sort_keys=True)
    return hashlib.sha256(files.encode()).hexdigest()[:12]


def _conversation(request: GenerationRequest) -> str:
    """What stays the same in a conversation: who asks, and how it began."""
    begun = 2 if request.prompt[0]["role"] == "system" else 1
    return f"{request.source} {json.dumps(list(request.prompt[:begun]))}"
