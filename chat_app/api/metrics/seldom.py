"""A value that takes long to read is read seldom, and nobody waits long for it.

Reading costs a hundredth of the time at most: a value that is read in a millisecond is a tenth of a
second old at most, one of 300 milliseconds half a minute. It is read in a thread of its own, so a
scrape waits a moment, and then has the value of before, or none.
"""

import logging
import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from chat_app.errors import log_fault

log = logging.getLogger(__name__)

Value = TypeVar("Value")

SHARE = 0.01  # of the time
PATIENCE_S = 1.0


class Seldom(Generic[Value]):
    """Reads a value anew once a hundred times as long has passed as reading it took.

    Args:
        read: Returns the present value.
        now: A clock, in seconds.
        patience: Seconds that a caller waits for a reading.
    """

    def __init__(
        self,
        read: Callable[[], Value],
        *,
        now: Callable[[], float] = time.monotonic,
        patience: float = PATIENCE_S,
    ) -> None:
        self._read, self._now, self._patience = read, now, patience
        self._lock = threading.Lock()
        self._known: Value | None = None
        self._due = 0.0
        self._reading: threading.Thread | None = None

    def __call__(self) -> Value | None:
        """The newest value that is known; None before the first."""
        with self._lock:
            if self._reading is None and self._now() >= self._due:
                self._reading = threading.Thread(target=self._renew, name="seldom", daemon=True)
                self._reading.start()
            reading = self._reading
        if reading is not None:
            reading.join(self._patience)
        return self._known

    def _renew(self) -> None:
        began = self._now()
        try:
            self._known = self._read()
        except Exception as exc:  # the next scrape tries again
            log_fault(log, "a metric cannot be read", exc)
        ended = self._now()
        with self._lock:
            self._due, self._reading = ended + (ended - began) / SHARE, None
