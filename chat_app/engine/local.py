"""The engine in this process: one worker thread owns the model and decodes in steps.

The way of a prompt: `Prompts.encode` makes its tokens in a thread of its own; `LocalEngine._take`
gives it a row; `DecodingBatch.read` reads it, in parts if it is long, between the steps of others.
The way of a token: `DecodingBatch.sample` appends it to its `Row`; `_Reply.piece` has the
new text; `send_all` wakes the event loop; `LocalEngine.stream` yields the text there.

Invariant: requests join or leave the batch, and adapters are attached or dropped, only between two
steps. So nothing changes during a forward pass, and a reply keeps its adapter. Between two steps
there is never more work than a part of a prompt. The event loop never touches a tensor. The engine
does not know the store.
"""

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from chat_app.engine import FAILED, Piece
from chat_app.engine.doubts import Doubts
from chat_app.engine.prompts import Prompts
from chat_app.engine.queued import STOPPED, QueuedEngine
from chat_app.engine.reply_text import ReplyText
from chat_app.engine.waiting import Ticket, Waiting, send_all
from chat_app.errors import BusyError, ChatAppError, InvalidRequestError, StartError
from chat_app.settings import EngineSettings
from feedback_store.records import BASE_ADAPTER, PromptMessage
from rlhf_core.model.adapters import verify_adapter
from rlhf_core.model.base_model import Base
from rlhf_core.model.caches import Prefixes
from rlhf_core.model.decoding import DecodingBatch, Row, let_join
from rlhf_core.model.facts import machine_facts
from rlhf_core.model.fast_layers import pack
from rlhf_core.model.token_batches import together_tokens

log = logging.getLogger(__name__)

_Command = tuple[Callable[[], Any], Future[Any]]  # what to run between two steps, and its end


class _Reply:
    """A ticket with a row, which is in the batch or whose prompt is being read."""

    def __init__(self, ticket: Ticket, ids: list[int], base: Base, *, room: int) -> None:
        request = ticket.request
        most = min(request.sampling.max_new_tokens, room)
        sampling = replace(request.sampling, max_new_tokens=most)
        adapter = None if request.adapter == BASE_ADAPTER else request.adapter
        self.row = Row(ids, adapter, sampling, request.seed)
        self.ticket = ticket
        self._text = ReplyText(lambda ids: base.chat.decode_reply(ids), stop=request.stop)
        self._next_update = 0.0

    def piece(self, now: float, *, interval: float) -> Piece | None:
        """The new text after a step, if it is time for it.

        The first text goes out at once, later text at most every ``interval`` seconds. The last
        piece has all the rest. A reply also ends when its reader left or its time is over.
        """
        row, ticket = self.row, self.ticket
        if row.finish_reason is None and ticket.cancelled:
            row.finish_reason = "cancelled"
        if row.finish_reason is None and now > ticket.deadline:
            row.finish_reason = "length"
        if row.finish_reason != "cancelled" and self._text.stops(row.ids):
            row.finish_reason = "stop"
        if row.finish_reason is not None:
            text = self._text.take(row.ids, final=True)
        elif now < self._next_update or not (text := self._text.take(row.ids)):
            return None
        self._next_update = now + interval
        return Piece(text, row.finish_reason, len(row.prompt_ids), len(row.ids))


class LocalEngine(QueuedEngine):
    """Decodes replies on a model that it loads itself, in its own thread.

    Args:
        load: Returns the base. It runs in the worker thread, so the constructor returns at once.
        settings: Size of the batch and of the queue.
        key: As for `QueuedEngine`.
        reply_seconds: The same.
    """

    def __init__(
        self,
        load: Callable[[], Base],
        settings: EngineSettings,
        *,
        key: bytes | None,
        reply_seconds: float = 60.0,
    ) -> None:
        super().__init__(settings, key=key, reply_seconds=reply_seconds)
        self._load_base = load
        self._commands: deque[_Command] = deque()  # `_wake` guards this and the next two, too
        self._retired: set[str] = set()
        self._closing = False
        self._base: Base | None = None
        self._replies: list[_Reply] = []
        self._doubts = Doubts(self._between_steps, key=key)
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    # Called from an event loop

    async def load(self, adapter: str, path: Path) -> None:
        """Verify an adapter while decoding goes on, then attach it between two steps."""
        base = self._loaded()
        if adapter not in self._retired and adapter in base.adapters:  # in this order: it is
            return  # retired until it has been dropped, see `_drop_retired`
        await asyncio.to_thread(
            verify_adapter, path, base=base.fingerprint, kind="policy", key=self._key
        )

        def attach() -> None:
            """In the worker thread, between two steps."""
            self._retired.discard(adapter)
            if adapter not in base.adapters:
                base.attach_weights(adapter, path)
            if self._replies or len(self._waiting):
                return
            try:  # while nobody waits, so that nobody waits at the next swap
                base.prepare_next(adapter)
            except Exception:  # memory, perhaps; this adapter is served all the same
                log.exception("no modules were made for the next adapter")

        await self._between_steps(attach)

    async def unload(self, adapter: str) -> None:
        """Drop an adapter as soon as no reply uses it."""
        await self._between_steps(lambda: self._retired.add(adapter))

    @property
    def doubting(self) -> bool:
        """Whether there is a posterior to ask; see `Engine.doubting`."""
        return self._doubts.known

    async def load_doubts(self, path: Path) -> None:
        """Verify a reward model and ask its posterior; see `Engine.load_doubts`."""
        await self._doubts.load(path, base=self._loaded().fingerprint)

    def drop_doubts(self) -> None:
        """Ask no posterior any more; see `Engine.drop_doubts`."""
        self._doubts.drop()

    async def doubts(
        self, prompt: Sequence[PromptMessage], replies: Sequence[str]
    ) -> Mapping[tuple[int, int], float]:
        """Ask how uncertain each pair is; see `Engine.doubts`."""
        base, prompts = self._loaded(), self._prompts.result()
        return await self._doubts.of_pairs(base, prompts, prompt, replies)

    def health(self) -> dict[str, Any]:
        """Facts for the health routes and the metrics."""
        base, rows, waiting = self._base, len(self._replies), len(self._waiting)
        alive = self._thread.is_alive()
        return {
            "alive": alive,
            "ready": base is not None and alive,
            "failure": self._failure,
            "base": base.fingerprint if base is not None else None,
            "adapters": sorted(base.adapters) if base is not None else [],
            "rows": rows,
            "waiting": waiting,
            "new_tokens": self._made["tokens"],
        }

    def close(self) -> None:
        """Stop after the present step and wait for the thread."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        self._thread.join(timeout=10)
        if self._base is not None:
            self._prompts.result().close()

    def _loaded(self) -> Base:
        if self._base is None:
            raise StartError("the model is not loaded yet; load adapters once it is ready")
        return self._base

    def _rows_in_use(self) -> int:
        # whoever left gave the room back, though the row goes on until the step ends
        return sum(not reply.ticket.cancelled for reply in self._replies)

    def _holds(self, adapter: str) -> bool:
        return self._base is not None and adapter in self._base.adapters

    def _changed(self) -> None:
        with self._wake:
            self._wake.notify()

    def _left(self, ticket: Ticket) -> None:
        """Its row ends after the present step, see `_Reply.piece`."""

    async def _between_steps(self, command: Callable[[], Any]) -> Any:
        """Run a command in the worker thread, where no forward pass is under way."""
        done: Future[Any] = Future()
        with self._wake:
            self._require_running()
            self._commands.append((command, done))
            self._wake.notify()
        return await asyncio.wrap_future(done)

    def _require_running(self) -> None:
        if self._failure is not None or self._closing or not self._thread.is_alive():
            raise BusyError(STOPPED)

    # The worker thread

    def _run(self) -> None:
        torch.set_num_threads(self._settings.threads)
        end: Exception = BusyError("the engine has stopped; try again when it is back")
        try:
            try:
                base = self._load_base()
                prompts = Prompts(base.chat, base.model.config)
                self._base = base
                self._prompts.set_result(prompts)
            except Exception as exc:
                self._failure = end = exc
                return
            self._decode(base)
        finally:  # also if the thread dies: no request may wait for ever
            with self._wake:
                self._closing = True
            self._end_replies(end)
            if not self._prompts.done():
                self._prompts.set_exception(end)
            for _, done in self._commands:
                if done.set_running_or_notify_cancel():
                    done.set_exception(end)

    def _decode(self, base: Base) -> None:
        """Decode step after step until the engine closes; a failed step loses its replies only."""
        if self._settings.pack:
            pack(base.model, most=machine_facts().free // 4)
        prefixes = Prefixes(self._settings.prefix_mb * 2**20)
        joins = let_join(base)
        batch = DecodingBatch(base, prefixes, joins=joins)
        while (commands := self._wait()) is not None:
            for command, done in commands:
                if not done.set_running_or_notify_cancel():
                    continue  # the caller was cancelled
                try:
                    result = command()
                except Exception as exc:
                    done.set_exception(exc)
                else:
                    done.set_result(result)
            try:
                self._step(base, batch)
                self._drop_retired(base, prefixes)
            except Exception:  # its text is in the log; it is nothing for visitors
                log.exception("decoding failed; the replies in flight are lost")
                self._end_replies(ChatAppError(FAILED))
                batch = DecodingBatch(base, prefixes, joins=joins)

    def _wait(self) -> list[_Command] | None:
        """Sleep until there is work. Returns the waiting commands, or None to stop."""
        with self._wake:
            while not (self._closing or self._replies or self._commands or self._waiting.encoded()):
                self._wake.wait()
            if self._closing:
                return None
            commands = list(self._commands)
            self._commands.clear()
            return commands

    def _step(self, base: Base, batch: DecodingBatch) -> None:
        """Decode a token for every row, send the new text, and read some of the new prompts."""
        if batch.rows:
            batch.sample()
            self._made["tokens"] += len(batch.rows)
        now, interval = time.monotonic(), 1 / self._settings.updates_per_second
        pieces = [(reply.ticket, reply.piece(now, interval=interval)) for reply in self._replies]
        send_all([(ticket, piece) for ticket, piece in pieces if piece is not None])
        going = [reply for reply in self._replies if reply.row.finish_reason is None]
        self._replies = going
        self._take(base, batch)
        reading = [reply for reply in self._replies if batch.unread(reply.row)]
        reading.sort(key=lambda reply: reply.ticket.turn)
        self._made["prompt_tokens"] += batch.advance([reply.row for reply in reading])

    def _take(self, base: Base, batch: DecodingBatch) -> None:
        """Give free rows to the requests whose prompts are read next, and to no more.

        So prompts that are read later hold no row meanwhile, and a shorter one can pass them.
        """
        with self._wake:
            taken = [reply.ticket for reply in self._replies]
            for ticket in self._waiting.encoded(taken):
                earlier = (r for r in self._replies if r.ticket.turn <= ticket.turn)
                unread = sum(batch.unread(reply.row) for reply in earlier)
                full = len(self._replies) >= self._settings.rows
                if full or unread >= together_tokens(base.device):
                    return
                self._waiting.remove(ticket)
                try:
                    self._require_adapter(ticket.request)
                    ids = ticket.ids or []
                    room = self._prompts.result().room(ids)
                    reply = _Reply(ticket, ids, base, room=room)
                    batch.resume(reply.row)
                    ticket.begin()
                    self._replies.append(reply)
                except InvalidRequestError as exc:
                    ticket.send(exc)

    def _drop_retired(self, base: Base, prefixes: Prefixes) -> None:
        """Drop retired adapters that no row and no waiting request uses."""
        if not self._retired:
            return
        with self._wake:
            waiting = {ticket.request.adapter for ticket in self._waiting}
        used = waiting | {reply.row.adapter for reply in self._replies}
        for adapter in self._retired - used:
            try:
                if adapter in base.adapters:
                    base.retire(adapter)
                prefixes.forget(adapter)
            finally:  # what cannot be dropped is not tried for ever
                self._retired.discard(adapter)

    def _end_replies(self, error: Exception) -> None:
        """Send an error to every request, decoded or waiting, and forget them all."""
        with self._wake:
            tickets = [reply.ticket for reply in self._replies] + list(self._waiting)
            self._waiting = Waiting(self._settings.rows)
            self._replies = []
        for ticket in tickets:
            ticket.send(error)
