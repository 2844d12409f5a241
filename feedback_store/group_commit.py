"""Writers who share a commit: one at a time writes, then one flush to disk serves all who waited.

Invariants: nobody hears "saved" before the commit that holds it has been flushed; a writer's block
is undone alone when it raises; when the shared transaction is lost, everyone in it hears so; turns
are given in the order of asking, across processes too.

A block runs in its own thread, in a savepoint of the transaction that is open. Whoever ends a block
while others wait leaves the transaction open, hands the turn on and waits for the commit; the last
one commits for all. So there is a queue on a lock, and no separate writer thread: a thread would
need every block as a function that is sent to it and would have to carry results and errors back,
two switches of thread for each block, and would come to the same number of commits.
"""

import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from sqlite_utils import Database
from sqlite_utils.utils import sqlite3  # type: ignore[attr-defined]  # pysqlite3, if there

from feedback_store.door import Door

# A batch takes no more writers when it has so many or is so old: the first of them waits longest.
MAX_WRITERS = 256
MAX_AGE_S = 0.05


class Batch:
    """The writers in one transaction, each waiting on a lock of its own."""

    def __init__(self) -> None:
        self.began = time.monotonic()
        self.waiting: list[threading.Lock] = []
        self.fault: Exception | None = None

    @property
    def full(self) -> bool:
        """Whether it is time to commit, however many are still to come."""
        old = time.monotonic() - self.began > MAX_AGE_S
        return old or len(self.waiting) >= MAX_WRITERS

    def end(self, fault: Exception | None) -> None:
        """Let everyone go: saved if there is no fault, and not saved if there is one."""
        self.fault = fault
        for writer in self.waiting:
            writer.release()

    def require_saved(self) -> None:
        """Raise the fault, as an error of the caller's own."""
        if isinstance(self.fault, sqlite3.Error):
            raise type(self.fault)(*self.fault.args) from self.fault
        if self.fault is not None:
            raise sqlite3.OperationalError("a write in the same commit failed") from self.fault


class GroupCommit:
    """The writing connection of a process, shared by its threads.

    Args:
        db: The connection, used by nobody else.
        door: Held while a transaction is awaited, for the sake of other processes.
        patience_s: Seconds to wait for a turn before giving up.
    """

    def __init__(self, db: Database, door: Door, *, patience_s: float) -> None:
        self._db = db
        self._door = door
        self._patience_s = patience_s
        self._guard = threading.Lock()  # of the two below
        self._line: deque[threading.Lock] = deque()
        self._turn: threading.Lock | None = None
        self._batch: Batch | None = None  # the open transaction; whose turn it is may touch it
        self._writing_thread: int | None = None

    @property
    def mine(self) -> bool:
        """Whether this thread is inside a write."""
        return self._writing_thread == threading.get_ident()

    @contextmanager
    def transaction(self, *, alone: bool = False) -> Iterator[Database]:
        """Run a block whose writes are saved together, or not at all; inside another, as part.

        Args:
            alone: Share the commit with nobody, as long blocks and deferred constraints should.

        A block must not wait for another thread, which may be waiting for this block's commit.
        """
        if self.mine:
            with self._savepoint():
                yield self._db
            return
        ticket = _ticket()
        try:
            self._await_turn(ticket)
            if alone:
                self._commit()
            batch = self._batch or self._begin()
            self._writing_thread = threading.get_ident()
            with self._whole() if alone else self._savepoint():
                yield self._db
        finally:
            self._end_turn(ticket, alone=alone)
        batch.require_saved()

    @contextmanager
    def exclusive(self) -> Iterator[Database]:
        """Have the connection outside any transaction, as VACUUM and checkpoints need it."""
        ticket = _ticket()
        try:
            self._await_turn(ticket)
            self._commit()
            self._writing_thread = threading.get_ident()
            yield self._db
        finally:
            self._end_turn(ticket)

    @contextmanager
    def _savepoint(self) -> Iterator[None]:
        if not self._db.conn.in_transaction:  # else the block would be saved without its outer one
            raise sqlite3.OperationalError("an error that was passed over ended the transaction")
        self._db.conn.execute("SAVEPOINT block")
        try:
            yield
            self._db.conn.execute("RELEASE block")
        except BaseException as exc:
            try:
                self._db.conn.execute("ROLLBACK TO block")
                self._db.conn.execute("RELEASE block")
            except sqlite3.Error:  # it has gone with the whole transaction: disk full, I/O error
                self._abort(exc)
            raise

    @contextmanager
    def _whole(self) -> Iterator[None]:
        """A block that is the whole transaction, and so needs no savepoint.

        Under one, SQLite keeps every old page in memory, and each statement with a trigger walks
        over all of them: twenty thousand imported lines took six times as long.
        """
        try:
            yield
        except BaseException as exc:
            self._abort(exc)
            raise

    def _begin(self) -> Batch:
        """Take the write lock at once: upgrading a read later fails as "locked" under load."""
        self._roll_back()  # what an interrupt may have left open
        try:
            with self._door.held(self._patience_s):
                self._db.conn.execute("BEGIN IMMEDIATE")
        except TimeoutError as exc:
            raise sqlite3.OperationalError(str(exc)) from exc
        self._batch = Batch()
        return self._batch

    def _commit(self) -> None:
        """End the open transaction, if any; what came of it is in its batch."""
        batch, self._batch = self._batch, None
        if batch is None:
            return
        fault: Exception | None = InterruptedError()  # until it is known to be on disk
        try:
            self._db.conn.execute("COMMIT")
            fault = None
        except sqlite3.Error as exc:
            fault = exc
            self._roll_back()
        finally:
            batch.end(fault)

    def _abort(self, cause: BaseException) -> None:
        batch, self._batch = self._batch, None
        self._roll_back()
        if batch is not None:
            batch.end(cause if isinstance(cause, Exception) else InterruptedError())

    def _roll_back(self) -> None:
        with suppress(sqlite3.Error):  # SQLite has done it already, or does when it next can
            self._db.rollback()

    def _await_turn(self, ticket: threading.Lock) -> None:
        with self._guard:
            if self._turn is None:
                self._turn = ticket
                return
            self._line.append(ticket)
        if ticket.acquire(timeout=self._patience_s):
            return
        with self._guard:
            if self._turn is not ticket:
                raise sqlite3.OperationalError(
                    f"other threads have been writing for over {self._patience_s:g} s"
                )

    def _end_turn(self, ticket: threading.Lock, *, alone: bool = False) -> None:
        """Leave the transaction to the next in line and wait for its end, or commit it."""
        with self._guard:
            if self._turn is not ticket:  # it was interrupted, or gave up
                if ticket in self._line:
                    self._line.remove(ticket)
                return
        self._writing_thread = None
        batch = self._batch
        if batch is not None and not alone and not batch.full:
            ticket.acquire(blocking=False)  # it is free if the wait for the turn was cut short
            batch.waiting.append(ticket)
            if self._hand_on():
                ticket.acquire()
                return
            batch.waiting.pop()
        try:
            self._commit()
        finally:
            with self._guard:
                self._give_turn()

    def _hand_on(self) -> bool:
        """Give the turn to the next in line; False if nobody is there, and it is kept."""
        with self._guard:
            if self._line:
                self._give_turn()
                return True
        return False

    def _give_turn(self) -> None:
        self._turn = self._line.popleft() if self._line else None
        if self._turn is not None:
            self._turn.release()


def _ticket() -> threading.Lock:
    """What one writer waits on, for its turn and then for the commit: a lock that is held."""
    ticket = threading.Lock()
    ticket.acquire()
    return ticket
