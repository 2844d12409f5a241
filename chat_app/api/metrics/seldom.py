"""A value that takes long to read is read seldom, so that reading costs a small share of the time.

The store's reads take turns, so a long one makes chats wait. A value that is read in a millisecond
is a tenth of a second old at most, one of 300 milliseconds half a minute.
"""

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

Value = TypeVar("Value")

SHARE = 0.01  # of the time


class Seldom(Generic[Value]):
    """Reads a value, and gives the same one until a hundred times as long has passed.

    Args:
        read: Returns the present value.
        now: A clock, in seconds.
    """

    def __init__(
        self, read: Callable[[], Value], *, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._read, self._now = read, now
        self._lock = threading.Lock()
        self._known: tuple[Value, float] | None = None  # and until when it is given

    def __call__(self) -> Value:
        """The value, read now or before."""
        with self._lock:
            began = self._now()
            if self._known is None or began >= self._known[1]:
                value = self._read()
                ended = self._now()
                self._known = value, ended + (ended - began) / SHARE
            return self._known[0]
