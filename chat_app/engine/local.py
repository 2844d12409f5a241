"""The engine in this process: one worker thread that owns the model and decodes in steps.

Between two steps, and only there, requests join and leave the batch and adapters are loaded and
dropped, so nothing ever changes under a forward pass and no reply changes its adapter. The event
loop hands tickets in and gets pieces back; it never touches a tensor. Does not know the store.
"""

import asyncio
import logging
import threading
import time
from collections import Counter, deque
from collections.abc import AsyncGenerator, Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import torch

from chat_app.engine import FinishReason, GenerationRequest, Piece
from chat_app.engine.batch import DecodingBatch, Row
from chat_app.errors import BusyError, ChatAppError, InvalidRequestError, StartError
from chat_app.settings import EngineSettings
from feedback_store.records import BASE_ADAPTER
from rlhf_core.model.adapters import verify_adapter
from rlhf_core.model.base_model import Base
from rlhf_core.model.chat_format import decode_reply, encode_prompt, fit_prompt

log = logging.getLogger(__name__)

DEFAULT_CONTEXT = 2048  # tokens, for a model whose configuration does not say
UNFINISHED = "\ufffd"  # what decoders show for bytes that are no character yet


class Ticket:
    """One request on its way through the engine, and the way back to its event loop."""

    def __init__(self, request: GenerationRequest, *, deadline: float) -> None:
        self.request = request
        self.deadline = deadline
        self.cancelled = False
        self.pieces: asyncio.Queue[Piece | Exception] = asyncio.Queue()
        self._loop = asyncio.get_running_loop()

    def send(self, piece: Piece | Exception) -> None:
        """Deliver from the worker thread; a loop that is gone needs nothing any more."""
        try:
            self._loop.call_soon_threadsafe(self.pieces.put_nowait, piece)
        except RuntimeError:
            self.cancelled = True


class ReplyText:
    """The text of one reply as its tokens arrive.

    What was given out is never taken back and never ends in half a character: bytes of an
    unfinished character, and spaces that a tokenizer may still swallow, wait for what follows.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str]) -> None:
        self._decode = decode
        self._shown = ""

    def take(self, ids: Sequence[int], *, final: bool = False) -> str:
        """Text not given out yet; ``final`` gives everything that there will be."""
        text = self._decode(ids).rstrip(UNFINISHED)
        if not final:
            text = text.rstrip()
            if not text.startswith(self._shown):
                return ""  # the decoder still changes its mind about the end
        new = text[len(self._shown) :]
        self._shown += new
        return new


class _Reply:
    """A ticket whose row is being decoded."""

    def __init__(self, ticket: Ticket, row: Row, base: Base) -> None:
        self.ticket = ticket
        self.row = row
        self._text = ReplyText(lambda ids: decode_reply(base.tokenizer, ids))
        self._next_update = 0.0

    def update(self, interval: float) -> None:
        """Send new text, the first at once and later ones at most every ``interval`` seconds."""
        now = time.monotonic()
        if now < self._next_update:
            return
        text = self._text.take(self.row.ids)
        if text:
            self._next_update = now + interval
            self.ticket.send(Piece(text))

    def finish(self, reason: FinishReason) -> None:
        """Send the rest of the text and why it ended."""
        text = self._text.take(self.row.ids, final=True)
        self.ticket.send(Piece(text, reason, len(self.row.prompt_ids), len(self.row.ids)))


class LocalEngine:
    """Decodes replies on a model that it loads itself, in its own thread.

    Args:
        load: Makes the base; runs in the worker thread, so the constructor returns at once.
        settings: Size of the batch and of the queue.
        reply_seconds: A reply is cut off after this long, the wait for a row included.
    """

    def __init__(
        self, load: Callable[[], Base], settings: EngineSettings, *, reply_seconds: float = 60.0
    ) -> None:
        self._load_base = load
        self._settings = settings
        self._reply_seconds = reply_seconds
        self._wake = threading.Condition()  # guards the four below
        self._waiting: deque[Ticket] = deque()
        self._commands: deque[Callable[[], None]] = deque()
        self._retired: set[str] = set()
        self._closing = False
        self._base: Base | None = None
        self._replies: list[_Reply] = []
        self._failure: Exception | None = None
        self._made: Counter[str] = Counter()
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    # Called from an event loop

    async def stream(self, request: GenerationRequest) -> AsyncGenerator[Piece, None]:
        """Yield the reply piece by piece; see `Engine.stream`."""
        ticket = Ticket(request, deadline=time.monotonic() + self._reply_seconds)
        self._enqueue(ticket)
        try:
            while True:
                piece = await ticket.pieces.get()
                if isinstance(piece, Exception):
                    raise piece
                yield piece
                if piece.finish_reason is not None:
                    return
        finally:
            ticket.cancelled = True

    async def check(self, request: GenerationRequest) -> None:
        """Try a request's prompt between two steps; nothing is known while the model is loaded."""
        base = self._base

        def prompt() -> None:
            assert base is not None
            _row(base, request)

        if base is not None and self._thread.is_alive():
            await self._between_steps(prompt)

    async def load(self, adapter: str, path: Path) -> None:
        """Verify an adapter beside the decoding and attach it between two steps."""
        base = self._base
        if base is None:
            raise StartError("the model is not loaded yet; load adapters once it is ready")
        if adapter not in self._retired and adapter in base.adapters:  # in this order: it is
            return  # retired until it has been dropped, see `_drop_retired`
        await asyncio.to_thread(verify_adapter, path, base=base.fingerprint)

        def attach() -> None:
            self._retired.discard(adapter)
            if adapter not in base.adapters:
                base.attach_weights(adapter, path)

        await self._between_steps(attach)

    async def unload(self, adapter: str) -> None:
        """Drop an adapter as soon as no reply uses it."""
        await self._between_steps(lambda: self._retired.add(adapter))

    def health(self) -> dict[str, Any]:
        """Facts for the health routes and the metrics."""
        base = self._base
        return {
            "alive": self._thread.is_alive(),
            "ready": base is not None and self._thread.is_alive(),
            "failure": self._failure,
            "adapters": sorted(base.adapters) if base is not None else [],
            "rows": len(self._replies),
            "waiting": len(self._waiting),
            "room": self._settings.rows
            + self._settings.waiting
            - len(self._replies)
            - len(self._waiting),
            "replies": self._made["replies"],
            "new_tokens": self._made["tokens"],
        }

    def close(self) -> None:
        """Stop after the present step and wait for the thread."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        self._thread.join(timeout=10)

    def _enqueue(self, ticket: Ticket) -> None:
        with self._wake:
            if self._failure is not None or self._closing or not self._thread.is_alive():
                raise BusyError("the engine has stopped; see the server's log and start it again")
            waiting = sum(not other.cancelled for other in self._waiting)
            if waiting + len(self._replies) >= self._settings.rows + self._settings.waiting:
                raise BusyError(f"{waiting} requests are waiting already; try again in a moment")
            self._waiting.append(ticket)
            self._wake.notify()

    async def _between_steps(self, command: Callable[[], None]) -> None:
        done: Future[None] = Future()

        def run() -> None:
            try:
                command()
            except Exception as exc:
                done.set_exception(exc)
            else:
                done.set_result(None)

        with self._wake:
            self._commands.append(run)
            self._wake.notify()
        await asyncio.wrap_future(done)

    # The worker thread

    def _run(self) -> None:
        torch.set_num_threads(self._settings.threads)
        try:
            base = self._load_base()
            self._base = base
        except Exception as exc:
            self._failure = exc
            self._end_all(exc)
            return
        try:
            self._decode(base)
        finally:  # even if the thread dies: nobody waits for ever, and nobody comes after
            with self._wake:
                self._closing = True
            self._end_all(BusyError("the engine has stopped; try again when it is back"))

    def _decode(self, base: Base) -> None:
        """Step after step until it is time to stop; one that fails costs its replies only."""
        batch = DecodingBatch(base)
        while self._wait():
            for command in self._taken_commands():
                command()
            try:
                self._step(base, batch)
                self._drop_retired(base)
            except Exception as exc:
                log.exception("decoding failed; the replies in flight are lost")
                self._end_all(ChatAppError(f"the engine failed on this reply: {exc}; try again"))
                batch = DecodingBatch(base)

    def _wait(self) -> bool:
        """Sleep until there is something to do; False when it is time to stop."""
        with self._wake:
            while not (self._closing or self._replies or self._waiting or self._commands):
                self._wake.wait()
            return not self._closing

    def _taken_commands(self) -> list[Callable[[], None]]:
        with self._wake:
            commands = list(self._commands)
            self._commands.clear()
        return commands

    def _step(self, base: Base, batch: DecodingBatch) -> None:
        """One token for every row, after letting new rows in."""
        joining = self._joining(base)
        if joining:
            self._replies += joining
            batch.admit([reply.row for reply in joining])
        if not batch.rows:
            return
        self._expire()
        batch.sample()
        self._made["tokens"] += len(batch.rows)
        self._deliver()
        batch.advance()

    def _joining(self, base: Base) -> list[_Reply]:
        """Waiting requests for which there is a row; one that cannot be read is told so."""
        with self._wake:
            room = self._settings.rows - len(self._replies)
            tickets: list[Ticket] = []
            while self._waiting and len(tickets) < room:
                ticket = self._waiting.popleft()
                if not ticket.cancelled:
                    tickets.append(ticket)
        replies = []
        for ticket in tickets:
            try:
                replies.append(_Reply(ticket, _row(base, ticket.request), base))
            except Exception as exc:
                ticket.send(exc)
        return replies

    def _expire(self) -> None:
        """Cancelled rows and rows past their time end with this step."""
        now = time.monotonic()
        for reply in self._replies:
            if reply.ticket.cancelled:
                reply.row.finish_reason = "cancelled"
            elif now > reply.ticket.deadline:
                reply.row.finish_reason = "length"

    def _deliver(self) -> None:
        interval = 1 / self._settings.updates_per_second
        going = []
        for reply in self._replies:
            if reply.row.finish_reason is None:
                reply.update(interval)
                going.append(reply)
            else:
                reply.finish(reply.row.finish_reason)
                self._made["replies"] += 1
        self._replies = going

    def _drop_retired(self, base: Base) -> None:
        """Let go of retired adapters that no row and no waiting request names."""
        if not self._retired:
            return
        with self._wake:
            waiting = {ticket.request.adapter for ticket in self._waiting}
        used = waiting | {reply.row.adapter for reply in self._replies}
        for adapter in self._retired - used:
            try:
                if adapter in base.adapters:
                    base.drop(adapter)
            finally:  # what cannot be dropped is not tried for ever
                self._retired.discard(adapter)

    def _end_all(self, error: Exception) -> None:
        """Tell everybody who waits that there will be no more."""
        with self._wake:
            tickets = [reply.ticket for reply in self._replies] + list(self._waiting)
            self._waiting.clear()
            self._replies = []
        for ticket in tickets:
            ticket.send(error)


def _row(base: Base, request: GenerationRequest) -> Row:
    """A request as token ids, its oldest turns left out where the model's context is too short."""
    if request.adapter != BASE_ADAPTER and request.adapter not in base.adapters:
        raise InvalidRequestError(f"adapter {request.adapter!r} is not loaded; ask for 'policy'")
    context = getattr(base.model.config, "max_position_embeddings", None) or DEFAULT_CONTEXT
    room = context - request.sampling.max_new_tokens
    messages = fit_prompt(base.tokenizer, request.prompt, room)
    if messages is None:
        raise InvalidRequestError(
            f"the last message does not fit the model, which has room for {room} tokens; shorten it"
        )
    ids = encode_prompt(base.tokenizer, messages)
    return Row(ids, request.adapter, request.sampling, request.seed)
