"""Writers who share a commit: one at a time writes, then one flush to disk serves all who waited.

Invariants: nobody hears "saved" before the commit that holds it has been flushed; what one writer
does is undone alone when it raises; when the shared transaction is lost, everyone in it hears so;
threads have turns in the order of asking, and a process that has committed lets others go first.

There is one queue and at any time one thread that writes. Work that comes as a function is done, in
a savepoint of the open transaction, by whoever has the turn, so that many small writes need no
switch of thread each. A block (`with transaction()`) can only run in its own thread: it is handed
the turn, and leaves the transaction open to the next in line. The last one commits for all.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

from sqlite_utils import Database
from sqlite_utils.utils import sqlite3  # type: ignore[attr-defined]  # pysqlite3, if there

from feedback_store.sqlite.door import Door

# A batch takes no more writers when it has so many or is so old: the first of them waits longest.
MAX_WRITERS = 256
MAX_AGE_S = 0.05

Result = TypeVar("Result")


class Writer:
    """One who waits: for the turn, for the work to be done by another, and for the commit."""

    def __init__(self, work: Callable[[Database], Any] | None = None) -> None:
        self.work = work
        self.batch: CommitBatch | None = None  # the one that the work was done in
        self.result: Any = None
        # until the work has been done: whoever is to do it may be interrupted at any moment
        self.error: Exception | None = sqlite3.OperationalError("it was interrupted")
        self._go = threading.Lock()
        self._go.acquire()

    def wait(self, timeout_s: float = -1) -> bool:
        """Wait for a release; False if the time is over."""
        return self._go.acquire(timeout=timeout_s)

    def release(self) -> None:
        """Let the writer go on."""
        self._go.release()

    def rearm(self) -> None:
        """Forget a release that nobody waited for, as the wait had been cut short."""
        self._go.acquire(blocking=False)

    def outcome(self) -> Any:
        """What the work returned; or raise what it, or its commit, raised."""
        if self.error is not None:
            raise self.error
        if self.batch is not None:
            self.batch.require_saved()
        return self.result


class CommitBatch:
    """The writers in one transaction, waiting for its commit."""

    def __init__(self) -> None:
        self.began = time.monotonic()
        self.waiting: list[Writer] = []
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
        self._line: deque[Writer] = deque()
        self._turn: Writer | None = None
        self._batch: CommitBatch | None = (
            None  # the open transaction; whose turn it is may touch it
        )
        self._writing_thread: int | None = None

    @property
    def mine(self) -> bool:
        """Whether this thread is inside a write."""
        return self._writing_thread == threading.get_ident()

    def run(self, work: Callable[[Database], Result]) -> Result:
        """Return what `work` returns, once its writes are saved; or raise what it raises.

        It may be done in another thread, while others wait: it must be short, and must not wait for
        another thread.
        """
        if self.mine:
            with self._savepoint():
                return work(self._db)
        writer = Writer(work)
        try:
            self._await_turn(writer)
            if self._turn is writer:  # else another has done it meanwhile
                self._do(writer, self._batch or self._begin())
        finally:
            self._end_turn(writer)
        return writer.outcome()  # type: ignore[no-any-return]  # it is what `work` returned

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
        writer = Writer()
        try:
            self._await_turn(writer)
            if alone:
                self._commit()
            batch = self._batch or self._begin()
            self._writing_thread = threading.get_ident()
            with self._whole() if alone else self._savepoint():
                yield self._db
        finally:
            self._end_turn(writer, alone=alone)
        batch.require_saved()

    @contextmanager
    def exclusive(self) -> Iterator[Database]:
        """Have the connection outside any transaction, as VACUUM and checkpoints need it."""
        writer = Writer()
        try:
            self._await_turn(writer)
            self._commit()
            self._writing_thread = threading.get_ident()
            yield self._db
        finally:
            self._end_turn(writer)

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

    def _begin(self) -> CommitBatch:
        """Take the write lock at once: upgrading a read later fails as "locked" under load."""
        self._roll_back()  # what an interrupt may have left open
        try:
            with self._door.held(self._patience_s):
                self._db.conn.execute("BEGIN IMMEDIATE")
        except TimeoutError as exc:
            raise sqlite3.OperationalError(str(exc)) from exc
        self._batch = CommitBatch()
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

    def _await_turn(self, writer: Writer) -> None:
        """Return when it is the writer's turn, or when another has done and saved the work."""
        with self._guard:
            if self._turn is None:
                self._turn = writer
                return
            self._line.append(writer)
        if writer.wait(self._patience_s):
            return
        with self._guard:
            if writer in self._line:
                self._line.remove(writer)
                raise sqlite3.OperationalError(
                    f"other threads have been writing for over {self._patience_s:g} s"
                )
        # the turn has come after all, or the work is being done
        if not writer.wait(self._patience_s):
            raise sqlite3.OperationalError("what was done for this write did not end")

    def _end_turn(self, writer: Writer, *, alone: bool = False) -> None:
        """Do the work that waits, then leave the transaction to the next in line, or commit it."""
        with self._guard:
            if self._turn is not writer:  # another did the work, or the wait was cut short
                if writer in self._line:
                    self._line.remove(writer)
                return
        try:
            if not alone:
                self._do_waiting_work()
        finally:
            self._writing_thread = None
            self._leave(writer, alone=alone)

    def _do_waiting_work(self) -> None:
        """Do what the next in line have brought: dearer than doing it is to wake them for it."""
        while (batch := self._batch) is not None and not batch.full:
            writer = self._next_work(batch)
            if writer is None:
                return
            self._do(writer, batch)

    def _next_work(self, batch: CommitBatch) -> Writer | None:
        with self._guard:
            if not (self._line and self._line[0].work):
                return None
            batch.waiting.append(self._line[0])  # first, or an interrupt could lose it
            return self._line.popleft()

    def _do(self, writer: Writer, batch: CommitBatch) -> None:
        """Do a writer's work as part of the batch; what it raises is for the writer to hear."""
        self._writing_thread = threading.get_ident()
        writer.batch = batch
        assert writer.work is not None
        try:
            with self._savepoint():
                writer.result = writer.work(self._db)
            writer.error = None
        except Exception as exc:
            writer.error = exc

    def _leave(self, writer: Writer, *, alone: bool) -> None:
        """Hand the turn on and wait for the end of the transaction; or end it."""
        batch = self._batch
        if batch is not None and not alone and not batch.full:
            writer.rearm()
            batch.waiting.append(writer)
            if self._hand_on():
                writer.wait()
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
        self._turn = self._line[0] if self._line else None
        if self._turn is not None:
            self._line.popleft()
            self._turn.release()
