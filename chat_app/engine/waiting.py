"""Which requests wait for a row of the engine, and which of them gets the next one.

A short prompt passes long ones, and one source of requests cannot take all rows while others ask.
"""

import asyncio
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Sequence, Set

from chat_app.engine import GenerationRequest, Piece
from chat_app.engine.measures import Measures, ReplyTimes

# A short prompt passes long ones, but nobody waits for ever: those that pass a long one have
# together at most this many times its own tokens. With 1, whoever came after one of several long
# ones had been read waited for all the others (docs/results.md, "Long prompts").
PATIENCE = 16
RECENT_S = 60.0  # who asked within this time may well ask again: a share of the rows is kept free
SMALLEST = 1 / 8  # of the rows, however many sources ask


class Ticket:
    """One request in the engine, and the queue that carries its pieces to its event loop.

    Attributes:
        ids: The tokens of its prompt, once they are known; before, it cannot be taken.
        turn: The lowest is taken first. It is the prompt's own length, and a part of what was read
            of all prompts until it came (see `PATIENCE`).
        loop: Whose requests it is of.
    """

    def __init__(self, request: GenerationRequest, *, deadline: float, measures: Measures) -> None:
        self.request = request
        self.deadline = deadline
        self.cancelled = False
        self.ids: list[int] | None = None
        self.turn = 0.0
        self.pieces: asyncio.Queue[Piece | Exception] = asyncio.Queue()
        self.loop = asyncio.get_running_loop()
        self._times = ReplyTimes(measures, time.monotonic())

    def begin(self) -> None:
        """Note that it has a row."""
        self._times.begin(time.monotonic(), len(self.ids or ()))

    def leave(self) -> None:
        """Note that its reader wants no more, if it has not ended."""
        self.cancelled = True
        self._times.end("cancelled", time.monotonic())

    def note(self, piece: Piece | Exception) -> None:
        """Note that a piece is sent."""
        if isinstance(piece, Piece):
            self._times.piece(time.monotonic(), piece)
        else:
            self._times.end("cancelled" if self.cancelled else "error", time.monotonic())

    def send(self, piece: Piece | Exception) -> None:
        """Pass a piece from the worker thread to the event loop."""
        send_all([(self, piece)])


def send_all(pieces: Sequence[tuple[Ticket, Piece | Exception]]) -> None:
    """Pass what a step made to its readers; a loop is woken once, not for each of them."""

    def put(of_loop: Sequence[tuple[Ticket, Piece | Exception]]) -> None:
        for ticket, piece in of_loop:
            ticket.pieces.put_nowait(piece)

    for ticket, piece in pieces:
        ticket.note(piece)
    for loop in {ticket.loop for ticket, _ in pieces}:
        of_loop = [(ticket, piece) for ticket, piece in pieces if ticket.loop is loop]
        try:
            loop.call_soon_threadsafe(put, of_loop)
        except RuntimeError:  # the loop is closed, so no one reads any more
            for ticket, _ in of_loop:
                ticket.cancelled = True


class Waiting:
    """The tickets without a row; its owner guards it by a lock.

    While several sources ask, each has at most its share of the rows: a row costs all others a part
    of every step. One share is kept free for those who asked a moment ago. A source alone has all.

    Args:
        rows: That the engine has.
        now: A clock, in seconds.
    """

    def __init__(self, rows: int, *, now: Callable[[], float] = time.monotonic) -> None:
        self._rows, self._now = rows, now
        self._tickets: list[Ticket] = []
        self._asked: OrderedDict[str, float] = OrderedDict()  # by source: when, the latest last

    def __len__(self) -> int:
        return len(self._tickets)

    def __iter__(self) -> Iterator[Ticket]:
        return iter(self._tickets)

    def add(self, ticket: Ticket) -> None:
        """Let a ticket wait."""
        self._tickets.append(ticket)
        source = ticket.request.source
        self._asked[source] = self._now()
        self._asked.move_to_end(source)

    def remove(self, ticket: Ticket) -> None:
        """Let a ticket wait no more, if it does."""
        if ticket in self._tickets:
            self._tickets.remove(ticket)

    def encoded(self, taken: Sequence[Ticket] = ()) -> list[Ticket]:
        """The tickets that may be taken beside those with a row, in the order of their turns."""
        rows = Counter(ticket.request.source for ticket in taken)
        share = self._share({*rows, *(ticket.request.source for ticket in self._tickets)})
        found = []
        for ticket in sorted(self._tickets, key=lambda ticket: ticket.turn):
            if ticket.ids is not None and rows[ticket.request.source] < share:
                rows[ticket.request.source] += 1
                found.append(ticket)
        return found

    def _share(self, asking: Set[str]) -> int:
        """The most rows of one source: a part for each that asks, and one for all others."""
        while self._asked and next(iter(self._asked.values())) < self._now() - RECENT_S:
            self._asked.popitem(last=False)
        others = any(source not in asking for source in reversed(self._asked))
        parts = max(1, len(asking) + others)
        return max(self._rows // parts, int(self._rows * SMALLEST), 1)
