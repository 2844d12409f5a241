"""Writers take turns: threads of a process share a commit, processes take turns by a file lock.

Every write is flushed to disk before it is acknowledged, and the flush takes most of its time. So
short writes come as functions ("work") into a line. Whoever has the turn does its own work, then
the work that waits behind it, each in a savepoint, and commits once for all of them. A block
(`with transaction()`) can only run in its own thread: it waits in the same line and has a commit of
its own.

Invariants: nobody hears "saved" before the commit is on disk; work that raises is undone alone, and
only its writer hears of it; if the transaction itself is lost, everybody in it hears so; the line
is in the order of asking.

Between processes SQLite keeps writers apart, but it waits by sleeping and trying again, so a
process that writes without a pause would overtake the others for seconds. A lock on a file, held
while a transaction is awaited, puts whoever has just committed behind those who wait. Where a file
cannot be locked, SQLite's own lock has to do.

Source:
    The thread that has the turn working for the others is "flat combining": Hendler and others,
    SPAA 2010.
"""

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

from filelock import lock_descriptor, unlock_descriptor
from sqlite_utils import Database
from sqlite_utils.utils import sqlite3  # type: ignore[attr-defined]  # pysqlite3, if there

# A commit takes no more writers when it has so many or is so old: the first of them waits longest.
MAX_WRITERS = 256
MAX_AGE_S = 0.05
_POLL_S = 0.001  # between two tries for the lock of the processes

Result = TypeVar("Result")


class Writer:
    """One who waits in line, with work for whoever has the turn, or for the turn itself."""

    def __init__(self, work: Callable[[Database], Any] | None = None) -> None:
        self.work = work
        self.result: Any = None
        self.error: Exception | None = None
        self.woken = threading.Event()  # the turn has come, or the work is settled

    def settle(self, fault: sqlite3.Error | None) -> None:
        """The commit is over: saved, or lost by a fault, of which each writer gets its own copy."""
        if fault is not None and self.error is None:
            self.error = type(fault)(*fault.args)
            self.error.__cause__ = fault
        self.woken.set()


class GroupCommit:
    """The writing connection of a process, shared by its threads.

    Args:
        db: The connection, used by nobody else.
        lock_path: The file whose lock the processes take in turns.
        patience_s: Seconds to wait for a turn before giving up.
    """

    def __init__(self, db: Database, lock_path: str, *, patience_s: float) -> None:
        self._db = db
        self._lock = os.open(lock_path, os.O_RDWR | os.O_CREAT, 0o600)
        self._patience_s = patience_s
        self._guard = threading.Lock()  # of the two below
        self._line: deque[Writer] = deque()
        self._turn: Writer | None = None
        self._writing_thread: int | None = None

    @property
    def mine(self) -> bool:
        """Whether this thread is inside a write."""
        return self._writing_thread == threading.get_ident()

    def run(self, work: Callable[[Database], Result]) -> Result:
        """Return what `work` returns, once its writes are saved; or raise what it raises.

        Another thread may do it, while more work waits: it must be short, and must not wait for a
        thread that writes.
        """
        if self.mine:
            with self._savepoint():
                return work(self._db)
        writer = Writer(work)
        with self._in_line(writer):
            if self._turn is writer:  # else another has done the work
                self._do_in_turn(writer)
        if writer.error is not None:
            raise writer.error
        return writer.result  # type: ignore[no-any-return]  # it is what `work` returned

    @contextmanager
    def transaction(self) -> Iterator[Database]:
        """Run a block whose writes are saved together, or not at all; inside another, as part."""
        if self.mine:
            with self._savepoint():
                yield self._db
            return
        with self._in_line(Writer()), self._transaction():
            yield self._db

    @contextmanager
    def exclusive(self) -> Iterator[Database]:
        """Have the connection outside any transaction, as VACUUM and checkpoints need it."""
        with self._in_line(Writer()):
            yield self._db

    def close(self) -> None:
        """Close the lock's file. The connection is its owner's to close."""
        lock, self._lock = self._lock, -1
        if lock >= 0:  # a number that was closed before may be somebody else's file by now
            os.close(lock)

    @contextmanager
    def _in_line(self, writer: Writer) -> Iterator[None]:
        """Wait for the turn, or for another to do the work; then let the next in line go on."""
        try:
            self._wait(writer)
            if self._turn is writer:
                self._writing_thread = threading.get_ident()
                self._roll_back()  # what an interrupt may have left open
            yield
        finally:
            with self._guard:
                if writer in self._line:  # an interrupt cut the wait short
                    self._line.remove(writer)
                elif self._turn is writer:
                    self._writing_thread = None
                    self._turn = self._line.popleft() if self._line else None
                    if self._turn is not None:
                        self._turn.woken.set()

    def _wait(self, writer: Writer) -> None:
        with self._guard:
            if self._turn is None:
                self._turn = writer
                return
            self._line.append(writer)
        if writer.woken.wait(self._patience_s):
            return
        with self._guard:
            if writer in self._line:
                self._line.remove(writer)  # here, so that nobody does the work after all
                raise sqlite3.OperationalError(
                    f"other threads have been writing for over {self._patience_s:g} s"
                )
        # The turn has just come, or another has just begun the work.
        if not writer.woken.wait(self._patience_s):
            raise sqlite3.OperationalError("another thread did not finish the work of this write")

    def _do_in_turn(self, first: Writer) -> None:
        """Do the first one's work and what waits behind it: cheaper than waking each for it."""
        batch, began = [first], time.monotonic()
        fault: sqlite3.Error | None = sqlite3.OperationalError("it was interrupted")
        try:
            with self._transaction():
                writer: Writer | None = first
                while writer is not None:
                    self._do(writer)
                    writer = self._next_in(batch, began)
            fault = None
        except sqlite3.Error as exc:
            fault = exc
        finally:
            for writer in batch:
                writer.settle(fault)

    def _next_in(self, batch: list[Writer], began: float) -> Writer | None:
        """Move the next work from the line into the batch; None if it is time to commit."""
        with self._guard:
            full = len(batch) >= MAX_WRITERS or time.monotonic() - began > MAX_AGE_S
            if full or not self._line or self._line[0].work is None:
                return None
            batch.append(self._line[0])  # before it leaves the line, or an interrupt could lose it
            return self._line.popleft()

    def _do(self, writer: Writer) -> None:
        assert writer.work is not None
        try:
            with self._savepoint():
                writer.result = writer.work(self._db)
        except Exception as exc:
            writer.error = exc
            if not self._db.conn.in_transaction:  # a full disk, say, has undone all of it
                raise sqlite3.OperationalError(
                    f"a write in the same commit failed ({exc})"
                ) from exc

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """A whole transaction, without a savepoint.

        Under one, SQLite keeps every old page in memory, and each statement with a trigger walks
        over all of them: twenty thousand imported lines took six times as long.
        """
        self._begin()
        try:
            yield
            self._db.conn.execute("COMMIT")
        except BaseException:
            self._roll_back()
            raise

    def _begin(self) -> None:
        """Take the write lock at once: upgrading a read later fails as "locked" under load."""
        deadline = time.monotonic() + self._patience_s
        try:
            with suppress(OSError, ValueError):  # it cannot be locked, or is closed
                while not lock_descriptor(self._lock, blocking=False):
                    if time.monotonic() > deadline:
                        raise sqlite3.OperationalError(
                            f"other processes have been writing for over {self._patience_s:g} s"
                        )
                    time.sleep(_POLL_S)
            self._db.conn.execute("BEGIN IMMEDIATE")
        finally:
            with suppress(OSError, ValueError):
                unlock_descriptor(self._lock)

    @contextmanager
    def _savepoint(self) -> Iterator[None]:
        if not self._db.conn.in_transaction:  # else the block would be saved without its outer one
            raise sqlite3.OperationalError("an error that was passed over ended the transaction")
        self._db.conn.execute("SAVEPOINT block")
        try:
            yield
            self._db.conn.execute("RELEASE block")
        except BaseException:
            with suppress(sqlite3.Error):  # it has gone with the whole transaction
                self._db.conn.execute("ROLLBACK TO block")
                self._db.conn.execute("RELEASE block")
            raise

    def _roll_back(self) -> None:
        with suppress(sqlite3.Error):  # SQLite has done it already, or does when it next can
            self._db.rollback()
