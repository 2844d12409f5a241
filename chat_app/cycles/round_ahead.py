"""The training round that is next, for everybody who wants to see how far it is.

People call a cycle a round. Who has just voted sees the vote counted, unless reading it is slow:
then it may be some seconds old, so that however many ask, it costs little.
"""

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Generic, TypeVar

from chat_app.cycles.readiness import readiness
from chat_app.settings import ScheduleSettings
from feedback_store.errors import StoreUnavailableError
from feedback_store.store import FeedbackStore

OLDEST_S = 5.0
KEPT_TIMES = 20  # what it took to read: at most a 20th of a core reads it
Value = TypeVar("Value")


class Kept(Generic[Value]):
    """A value that is read when somebody asks, and kept for a while: the longer, the slower it is.

    It is safe to share between threads.

    Args:
        read: Reads it.
        now: A clock in seconds.
    """

    def __init__(
        self, read: Callable[[], Value], *, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._read, self._now = read, now
        self._lock = threading.Lock()
        self._kept: tuple[Value, float] | None = None  # until when it is good enough

    def get(self) -> Value:
        """The value, read by now or at most `OLDEST_S` ago."""
        with self._lock:
            if self._kept is None or self._now() >= self._kept[1]:
                began = self._now()
                value = self._read()
                took = self._now() - began
                self._kept = (value, self._now() + min(OLDEST_S, KEPT_TIMES * took))
            return self._kept[0]


@dataclass(frozen=True, slots=True)
class RoundAhead:
    """The round that a vote of now waits for.

    Attributes:
        number: Of the round, which is that of its cycle.
        new: How much evidence there is for it, in whole comparisons, at most `needed`.
        needed: How much starts it.
        by_itself: Whether it starts by itself; else an operator starts it.
        running: The round that runs at present, if one does.
    """

    number: int
    new: int
    needed: int
    by_itself: bool
    running: int | None = None


class RoundWatch:
    """Knows the next round; safe to share between threads."""

    def __init__(
        self,
        store: FeedbackStore,
        schedule: ScheduleSettings,
        *,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store, self._schedule = store, schedule
        self._kept = Kept(self._read, now=now)

    def get(self) -> RoundAhead:
        """The next round; see `Kept`."""
        return self._kept.get()

    def _read(self) -> RoundAhead:
        with suppress(StoreUnavailableError):  # a full disk: what was derived before can be read
            self._store.refresh_comparisons()
        found, last = readiness(self._store, self._schedule), self._store.last_cycle()
        running = last.id if last is not None and last.state == "running" else None
        return RoundAhead(
            number=1 if last is None else last.id + 1,
            new=min(int(found.new), found.needed),
            needed=found.needed,
            by_itself=self._schedule.enabled,
            running=running,
        )
