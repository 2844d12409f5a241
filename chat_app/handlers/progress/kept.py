"""A view that everybody may ask for at the same time: made by one, given to all, kept a while."""

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

KEPT_S, KEPT_TIMES = 10.0, 20  # seconds, or so many times what it took: at most a 20th of a core
Shown = TypeVar("Shown")


class KeptForAll(Generic[Shown]):
    """Makes a view anew only after some seconds: the longer it took, the later.

    Who asks while somebody makes it anew gets the one before. It is safe to share between threads.

    Args:
        make: Makes it.
        now: A clock in seconds.
    """

    def __init__(
        self, make: Callable[[], Shown], *, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._make, self._now = make, now
        self._lock = threading.Lock()
        self._kept: Shown | None = None
        self._until = 0.0

    def get(self) -> Shown:
        """The view."""
        kept = self._kept
        if kept is not None and (self._now() < self._until or self._lock.locked()):
            return kept  # it is new enough, or somebody makes it anew
        with self._lock:
            if self._kept is None or self._now() >= self._until:
                began = self._now()
                self._kept = self._make()
                took = self._now() - began
                self._until = self._now() + max(KEPT_S, KEPT_TIMES * took)
            return self._kept
