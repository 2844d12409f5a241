"""A door between processes: only one at a time waits for SQLite's write lock.

SQLite's own waiting is by sleeping and trying again, so a process that writes without a pause
overtakes the others for seconds, while its next transaction finds the lock free. Whoever begins a
transaction holds the door meanwhile, so the one who has just committed comes behind the one who
waits. This is about fairness and speed only: writers are kept apart by SQLite. Where files cannot
be locked, the door stands open.
"""

import contextlib
import errno
import os
import sys
import time
from collections.abc import Iterator

if sys.platform != "win32":
    import fcntl

_POLL_S = 0.001


class Door:
    """The door at the lock file `path`."""

    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600)

    @contextlib.contextmanager
    def held(self, patience_s: float) -> Iterator[None]:
        """Hold the door, after waiting for `patience_s` seconds at most.

        Raises:
            TimeoutError: Another process still holds it.
        """
        deadline = time.monotonic() + patience_s
        while not self._take():
            if time.monotonic() > deadline:
                raise TimeoutError(f"other processes have been writing for over {patience_s:g} s")
            time.sleep(_POLL_S)
        try:
            yield
        finally:
            self._give_back()

    def close(self) -> None:
        """Give the file back to the system."""
        file, self._file = self._file, -1
        if file >= 0:  # a number that was closed before may be somebody else's file by now
            os.close(file)

    def _take(self) -> bool:
        if sys.platform == "win32" or self._file < 0:
            return True
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as exc:
            return exc.errno not in (errno.EAGAIN, errno.EACCES)
        return True

    def _give_back(self) -> None:
        if sys.platform != "win32" and self._file >= 0:
            with contextlib.suppress(OSError):
                fcntl.flock(self._file, fcntl.LOCK_UN)
