"""What every engine does with a request until a thread of its own takes it, and with its pieces.

The way of a request: `stream` makes a ticket of it, which waits; `Prompts.encode` makes its tokens;
the engine takes the ticket when it is its turn, and sends the pieces that `stream` yields.

Invariant: who takes, adds or removes tickets holds `_wake`. Nothing here decodes or knows adapters'
weights.
"""

import asyncio
import threading
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import AsyncGenerator
from concurrent.futures import Future

from chat_app.engine import GenerationRequest, Piece
from chat_app.engine.measures import Measures
from chat_app.engine.prompts import Prompts
from chat_app.engine.waiting import PATIENCE, Ticket, Waiting
from chat_app.errors import BusyError, InvalidRequestError
from chat_app.settings import EngineSettings
from feedback_store.errors import say
from feedback_store.records import BASE_ADAPTER

STOPPED = say("the engine has stopped; see the server's log and start it again")


class QueuedEngine(ABC):
    """The queue of an engine.

    Args:
        settings: How many replies are decoded together, and how many may wait.
        key: The key that adapters have to be signed with; None loads unsigned ones, too.
        reply_seconds: A reply is cut off after this time; the wait for a row counts.
    """

    def __init__(
        self, settings: EngineSettings, *, key: bytes | None, reply_seconds: float = 60.0
    ) -> None:
        self._settings, self._key, self._reply_seconds = settings, key, reply_seconds
        self.measures = Measures()
        self._wake = threading.Condition()
        self._waiting = Waiting(settings.rows)
        self._prompts: Future[Prompts] = Future()
        self._prompts.set_running_or_notify_cancel()  # who stops waiting for it does not cancel it
        self._failure: Exception | None = None
        self._made: Counter[str] = Counter()

    async def stream(self, request: GenerationRequest) -> AsyncGenerator[Piece, None]:
        """Yield the reply piece by piece; see `Engine.stream`."""
        deadline = time.monotonic() + self._reply_seconds
        ticket = Ticket(request, deadline=deadline, measures=self.measures)
        with self._wake:
            self._require_running()
            most = self._settings.rows + self._settings.waiting
            if len(self._waiting) + self._rows_in_use() >= most:
                self.measures.refused.inc()
                raise BusyError(say("too many requests are waiting already; try again in a moment"))
            self._waiting.add(ticket)
        try:
            prompts = await asyncio.wrap_future(self._prompts)
            self._ready(ticket, await prompts.encode(request))
            while True:
                piece = await ticket.pieces.get()
                if isinstance(piece, Exception):
                    raise piece
                yield piece
                if piece.finish_reason is not None:
                    return
        finally:
            ticket.leave()
            with self._wake:
                self._waiting.remove(ticket)
            self._left(ticket)

    async def check(self, request: GenerationRequest) -> None:
        """Encode a request's prompt; passes while the model is still loading."""
        if self._prompts.done():
            self._require_running()
            self._require_adapter(request)
            await self._prompts.result().encode(request)

    def _ready(self, ticket: Ticket, ids: list[int]) -> None:
        """Let a request be taken, now that its prompt is encoded."""
        with self._wake:
            ticket.turn = len(ids) + self._made["prompt_tokens"] / PATIENCE
            ticket.ids = ids
        self._changed()

    def _require_adapter(self, request: GenerationRequest) -> None:
        if request.adapter != BASE_ADAPTER and not self._holds(request.adapter):
            raise InvalidRequestError(
                say("adapter {name} is not loaded; ask for 'policy'", name=repr(request.adapter))
            )

    @abstractmethod
    def _require_running(self) -> None:
        """Raise `BusyError` if nothing is decoded any more."""

    @abstractmethod
    def _rows_in_use(self) -> int:
        """How many replies are decoded, without those whose reader left."""

    @abstractmethod
    def _holds(self, adapter: str) -> bool:
        """Whether replies can come from it."""

    @abstractmethod
    def _changed(self) -> None:
        """Let the engine look at what is waiting."""

    @abstractmethod
    def _left(self, ticket: Ticket) -> None:
        """A reader has left, or has all."""
