"""Forget a rater for good, and keep nothing for longer than was promised.

Invariants: after `forget`, no byte of what the rater wrote is left in the database's files, and
what the caller's `clean` has to delete is deleted. After a kill at any point, either nothing was
done or a note says what to finish, by the same call or by `finish_forgetting`. A hash of the
rater's id stays, so that no import brings them back. Copies made before (backups, weights) cannot
be changed here; adapters are marked.

Nothing is erased while a cycle runs: it holds what it read, and the adapter that it makes is only
known, and marked, once it has ended. `forget_later` notes the wish, and nothing is learnt from the
rater any more.
"""

import json
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlite_utils import Database

from feedback_store.comparisons import refresh as derivation
from feedback_store.errors import (
    CycleInProgressError,
    InvalidFeedbackError,
    StoreUnavailableError,
    UnknownRecordError,
)
from feedback_store.privacy.copies import exports_with, rater_hash
from feedback_store.privacy.erasure import count, erase, taint
from feedback_store.registry.cycles import cycle_in_progress
from feedback_store.sqlite.database import SQLiteFile
from feedback_store.sqlite.ids import iso_utc, utc_now
from feedback_store.sqlite.rows import Row, audit, first, require, rows

MOST_DAYS = 36_500
DELETED_DAYS = 30  # for which a conversation that its rater has deleted can be restored
_DUE = "compaction_due"  # in the bookkeeping, since when
SWEPT_AT_ONCE = 500  # conversations in one write transaction, so that chats can write in between


# Imported conversations have the dates of their data set, and their raters that of the import.
_EXPIRED = """SELECT conversations.id FROM conversations JOIN raters ON raters.id = rater_id
    WHERE deleted_at < :deleted OR (
        max(conversations.created_at, raters.created_at) < :before AND NOT EXISTS (
            SELECT 1 FROM messages
            WHERE conversation_id = conversations.id AND created_at >= :before))
    ORDER BY conversations.id LIMIT :limit"""
# Until the rows are gone, nothing is learnt from them: neither from what has a consent nor else.
_UNHEARD = """UPDATE raters SET consent = NULL, quarantined_at = coalesce(quarantined_at, ?)
    WHERE id = ?"""


@dataclass(frozen=True, slots=True)
class Erased:
    """What was erased with a rater: rows by table, files by kind; and the adapters marked."""

    rows: dict[str, int]
    files: dict[str, int]
    adapters: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Forgotten:
    """Who was forgotten (the hash of the id) and when; it is unfinished if `done_at` is None."""

    rater: str
    begun_at: str
    done_at: str | None


@dataclass(frozen=True, slots=True)
class Traces:
    """By what files outside the database may be found that quote a rater.

    Attributes:
        since: The time of the rater's first row; no file that is older quotes the rater.
        exports: The paths of exported files that do, as far as that was noted, and the addresses
            of endpoints that got the rater's words.
        adapters: Those that learnt, or may have learnt, from the rater; empty until the rows are
            gone.
    """

    since: str
    exports: frozenset[str]
    adapters: tuple[str, ...]


Clean = Callable[[Traces], Mapping[str, int]]
"""Deletes what files outside the database say of a rater; returns the counts."""


def is_forgotten(db: Database, rater_id: str) -> bool:
    """Whether a rater was forgotten, so that nothing they said before may be imported again."""
    sql = "SELECT 1 FROM forgotten WHERE rater = ?"
    return first(db, sql, [rater_hash(rater_id)]) is not None


def is_being_forgotten(db: Database, rater_id: str) -> bool:
    """Whether a rater is to be forgotten, and is not yet."""
    sql = "SELECT 1 FROM forgotten WHERE rater = ? AND done_at IS NULL"
    return first(db, sql, [rater_hash(rater_id)]) is not None


def nothing_else(traces: Traces) -> Mapping[str, int]:
    """The `clean` of a store that has nothing beside its database."""
    return {}


_PATIENCE_MS, _TRIES = 200, 50  # for readers in other processes: 20 s altogether


class Privacy:
    """Erasure from a store."""

    _file: SQLiteFile

    def forget(self, rater_id: str, *, clean: Clean = nothing_else) -> Erased:
        """Erase a rater: their conversations, their feedback, and what was derived from it.

        After an interruption, the same call finishes it with the same result.

        Args:
            rater_id: Whom to forget.
            clean: Is called before and after the rows are deleted, and deletes what other files say
                of the rater. It may be called more often.

        Raises:
            UnknownRecordError: There is no such rater, not even one half forgotten.
            CycleInProgressError: A cycle is reading what was said; nothing was erased.
            StoreUnavailableError: The rows are gone, but a reader still holds the old pages.
        """
        with self._file.write() as db:
            if _intend(db, rater_id):
                _refuse_during_a_cycle(db)  # and roll back
        return _finish(self._file, rater_hash(rater_id), clean)

    def forget_later(self, rater_id: str) -> None:
        """Note that a rater is to be forgotten, by `finish_forgetting`, when no cycle runs.

        From now on nothing is learnt from the rater, and nothing is stored of them any more.

        Raises:
            UnknownRecordError: There is no such rater.
        """
        with self._file.write() as db:
            if _intend(db, rater_id):
                audit(db, "forget_later", rater_id=rater_id)

    def finish_forgetting(self, rater: str, *, clean: Clean = nothing_else) -> Erased:
        """Finish what waited or was interrupted, for one rater of those in `forgotten`.

        Args:
            rater: The hash of the id.
            clean: As in `forget`.

        Raises:
            CycleInProgressError: A cycle is reading what was said.
            StoreUnavailableError: As in `forget`.
        """
        return _finish(self._file, rater, clean)

    def was_forgotten(self, rater_id: str) -> bool:
        """Whether everything that a rater said was erased, or is to be."""
        with self._file.read() as db:
            return is_forgotten(db, rater_id)

    def is_being_forgotten(self, rater_id: str) -> bool:
        """Whether a rater is to be forgotten, and is not yet."""
        with self._file.read() as db:
            return is_being_forgotten(db, rater_id)

    def forgotten(self) -> list[Forgotten]:
        """All who were forgotten, the first one first."""
        with self._file.read() as db:
            found = db.table("forgotten").rows_where(
                select="rater, begun_at, done_at", order_by="begun_at, rater"
            )
            return [Forgotten(**row) for row in found]

    def raters_forgotten_in(self, other: Collection[Forgotten]) -> list[str]:
        """The raters of this store, a restored one perhaps, whom another store has forgotten."""
        hashes = {item.rater for item in other}
        with self._file.read() as db:
            known = [row["id"] for row in db.table("raters").rows_where(select="id", order_by="id")]
        return [rater_id for rater_id in known if rater_hash(rater_id) in hashes]

    def sweep(
        self, *, older_than_days: float | None = None, dry_run: bool = False
    ) -> dict[str, int]:
        """Delete the conversations whose last message is older, with all that was said about them.

        An imported one is as old as the import of its rater, if that was later. What a rater has
        deleted is kept for `DELETED_DAYS` at most; without days, only that is deleted. With
        `dry_run` rows are only counted. What an interrupted sweep left in the file goes, too.

        Returns:
            How many rows of each kind were, or would be, deleted.

        Raises:
            CycleInProgressError: A cycle is reading what was said; nothing more was deleted.
        """
        before = "" if older_than_days is None else _days_ago(older_than_days)
        if dry_run:
            with self._file.long_read() as db:
                return count(db, _expired(db, before, limit=-1))
        swept: Counter[str] = Counter()
        while done := _sweep_some(self._file, before):
            swept.update(done)
        derivation.refresh(self._file)
        self.compact()
        return dict(swept)

    def compact(self) -> None:
        """Rewrite the file without what was deleted, and empty the write-ahead log."""
        compact(self._file)

    def compaction_due(self) -> bool:
        """Whether a sweep was interrupted, so that the file still has what it deleted."""
        with self._file.read() as db:
            return _due(db) is not None


def compact(file: SQLiteFile) -> None:
    """See `Privacy.compact`."""
    with file.read() as db:
        due = _due(db)  # a sweep that begins meanwhile notes another time
    with file.maintenance() as db:
        db.execute("INSERT INTO message_search (message_search) VALUES ('optimize')")
        db.execute("VACUUM")
    empty_log(file)
    if due is not None:
        with file.write() as db:
            db.execute("DELETE FROM bookkeeping WHERE name = ? AND value = ?", [_DUE, due])


def empty_log(file: SQLiteFile) -> None:
    """Fold the write-ahead log into the file, and leave nothing in it.

    A reader in another process may delay it. The wait is outside the lock, so others can write.
    """
    for _ in range(_TRIES):
        with file.maintenance() as db:
            patience = db.execute("PRAGMA busy_timeout").fetchone()[0]
            db.execute(f"PRAGMA busy_timeout = {_PATIENCE_MS}")
            try:
                busy = db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
            finally:
                db.execute(f"PRAGMA busy_timeout = {patience}")
        if not busy:
            return
        time.sleep(_PATIENCE_MS / 1000)
    raise StoreUnavailableError(
        "another process is reading, so deleted text may remain in the write-ahead log; "
        "let it finish, then do the same again."
    )


def _finish(file: SQLiteFile, rater: str, clean: Clean) -> Erased:
    """Every step may be repeated; the last one notes that all are done."""
    files = Counter(clean(_traces(file, rater)))
    with file.write() as db:
        _erase_rater(db, rater)
    derivation.refresh(file)
    compact(file)
    # a reader of the old rows may have written a file meanwhile; and the adapters are known now
    files.update(clean(_traces(file, rater)))
    with file.write() as db:
        db.table("exported").delete_where("rater = ?", [rater])
        db.table("forgotten").update(rater, {"done_at": utc_now()})
    empty_log(file)
    note = _note_of(file, rater)
    return Erased(json.loads(note["rows"]), dict(files), tuple(json.loads(note["adapters"])))


def _due(db: Database) -> str | None:
    """When the last sweep was that is not known to be out of the file."""
    row = first(db, "SELECT value FROM bookkeeping WHERE name = ?", [_DUE])
    return None if row is None else str(row["value"])


def _note_of(file: SQLiteFile, rater: str) -> Row:
    with file.read() as db:
        return require(db, "forgotten", rater, key="rater")


def _traces(file: SQLiteFile, rater: str) -> Traces:
    with file.read() as db:
        note = require(db, "forgotten", rater, key="rater")
        return Traces(note["since"], exports_with(db, rater), tuple(json.loads(note["adapters"])))


def _sweep_some(file: SQLiteFile, before: str) -> dict[str, int]:
    with file.write() as db:
        _refuse_during_a_cycle(db)
        conversations = _expired(db, before, limit=SWEPT_AT_ONCE)
        if not conversations:
            return {}
        swept = erase(db, conversations)
        db.table("bookkeeping").upsert({"name": _DUE, "value": utc_now()}, pk="name")
        audit(db, "sweep", before=before, **swept)
        return swept


def _intend(db: Database, rater_id: str) -> bool:
    """Note whom to forget before anything is deleted, and learn nothing from them any more.

    A rater who came back is forgotten again.

    Returns:
        Whether the rater's rows are still there.
    """
    rater, known = rater_hash(rater_id), first(db, "SELECT * FROM raters WHERE id = ?", [rater_id])
    pending = "SELECT 1 FROM forgotten WHERE rater = ? AND done_at IS NULL"
    if known is None:
        if first(db, pending, [rater]) is None:
            raise UnknownRecordError(f"there is no {rater_id!r} among the raters; check the id.")
        return False
    db.execute(
        "INSERT INTO forgotten (rater, rater_id, since, begun_at) VALUES (?, ?, ?, ?)"
        " ON CONFLICT (rater) DO UPDATE SET rater_id = excluded.rater_id,"
        " since = min(since, excluded.since), begun_at = excluded.begun_at, done_at = NULL",
        [rater, rater_id, known["created_at"], utc_now()],
    )
    db.execute(_UNHEARD, [utc_now(), rater_id])
    return True


def _erase_rater(db: Database, rater: str) -> None:
    """Delete a rater's rows, mark the adapters and note both, unless that was done before."""
    rater_id = require(db, "forgotten", rater, key="rater")["rater_id"]
    if rater_id is None:
        return
    _refuse_during_a_cycle(db)
    found = db.table("conversations").rows_where("rater_id = ?", [rater_id], select="id")
    conversations = [row["id"] for row in found]
    erased = erase(db, conversations, rater_id=rater_id)
    adapters = taint(db, rater_id)
    note = {"rater_id": None, "rows": json.dumps(erased), "adapters": json.dumps(adapters)}
    db.table("forgotten").update(rater, note)
    audit(db, "forget", adapters=adapters, **erased)


def _refuse_during_a_cycle(db: Database) -> None:
    running = cycle_in_progress(db)
    if running is not None:
        raise CycleInProgressError(
            f"cycle {running.id} is reading what was said; try again when it has ended."
        )


def _expired(db: Database, before: str, *, limit: int) -> list[str]:
    deleted = max(before, _days_ago(DELETED_DAYS))
    bound = {"before": before, "deleted": deleted, "limit": limit}
    return [row["id"] for row in rows(db, _EXPIRED, bound)]


def _days_ago(days: float) -> str:
    """The time so many days ago, as the store writes times."""
    if not 0 < days <= MOST_DAYS:
        raise InvalidFeedbackError(
            f"the days to keep cannot be {days!r}; use more than 0, and at most {MOST_DAYS}."
        )
    return iso_utc(datetime.now(UTC) - timedelta(days=days))
