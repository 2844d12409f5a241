"""Which files hold what people said: exports and backups, and whose words are in an export.

A path is in the audit table before a file is written. Once the file is whole, and in the
transaction that names it, the hash of everybody whose words are in it is noted, until the person is
forgotten. So is everybody whose words were sent to an endpoint, by its address. What is written
without a path (to the standard output, or as a download) is not known here: whoever takes it has to
delete it.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import cast

from sqlite_utils import Database

from feedback_store.feedback.events import EVENT_TABLES
from feedback_store.sqlite.database import SQLiteFile
from feedback_store.sqlite.ids import utc_now
from feedback_store.sqlite.rows import audit, insert_many, rows, scalar

_COPIES = """SELECT action AS kind, detail ->> 'path' AS path, at FROM audit
    WHERE action IN ('export', 'backup') AND detail ->> 'path' IS NOT NULL
    AND detail ->> 'path' NOT IN
        (SELECT detail ->> 'path' FROM audit WHERE action = 'backup_removed') ORDER BY id"""
_SHOWN_TO = """SELECT conversations.rater_id AS id FROM candidates
    JOIN messages ON messages.id = prompt_message_id
    JOIN conversations ON conversations.id = messages.conversation_id WHERE candidates.id = ?"""
# Whose conversations others judged: their words may be in a row that names only who judged.
_OWNERS = """SELECT DISTINCT conversations.rater_id AS id FROM {0} AS said
    CROSS JOIN messages ON messages.id IN ({1})
    CROSS JOIN conversations ON conversations.id = messages.conversation_id
    WHERE conversations.rater_id <> said.rater_id"""
_JUDGED = {
    "preference": ("comparisons", "said.prompt_id, said.a, said.b"),
    "unpaired": ("unpaired", "said.prompt_id, said.message_id"),
    "sft": (EVENT_TABLES["demonstration"], "said.message_id"),
}


@dataclass(frozen=True, slots=True)
class Copy:
    """The kind ("export" or "backup"), path and time of a copy; it may be gone by now."""

    kind: str
    path: str
    at: str


class Copies:
    """The copies of a store."""

    _file: SQLiteFile

    def note_backup(self, path: str) -> None:
        """Note that a backup is about to be written, so that `forget` can name it later."""
        with self._file.write() as db:
            audit(db, "backup", path=path)

    def note_verified_backup(self, path: str, *, by: str) -> None:
        """Note that a backup is whole: it was restored for a trial."""
        with self._file.write() as db:
            audit(db, "backup_verified", by=by, path=path)

    def note_removed_backup(self, path: str, *, by: str) -> None:
        """Note that a backup was removed; its path is not used again."""
        with self._file.write() as db:
            audit(db, "backup_removed", by=by, path=path)

    def last_verified_backup(self) -> str | None:
        """When the newest verified backup was noted, None if there was none."""
        sql = "SELECT max(at) FROM audit WHERE action = 'backup_verified'"
        with self._file.read() as db:
            return cast("str | None", scalar(db, sql))

    def made_at(self) -> str:
        """When the store was made."""
        with self._file.read() as db:
            return str(scalar(db, "SELECT min(since) FROM serving"))

    def copies(self) -> list[Copy]:
        """Every export and backup that was noted, oldest first, but for those noted as removed."""
        with self._file.read() as db:
            return [Copy(**row) for row in rows(db, _COPIES)]

    def note_words_sent(self, candidates_id: str, to: str) -> None:
        """Note that the words of whoever was shown a pair are about to be sent to an endpoint."""
        with self._file.read() as db:
            owners = [rater_hash(row["id"]) for row in rows(db, _SHOWN_TO, [candidates_id])]
            if all(to in exports_with(db, owner) for owner in owners):
                return
        with self._file.write() as db:
            for owner in owners:
                db.execute(
                    "INSERT OR IGNORE INTO exported VALUES (?, ?, ?)", [owner, to, utc_now()]
                )

    def known_exports(self) -> dict[str, str]:
        """When each exported file was whole of which it is known whose words are in it, by path.

        Endpoints are among them, by address, with the last time at which somebody's words were new.
        """
        sql = "SELECT path, max(at) AS at FROM exported GROUP BY path"
        with self._file.read() as db:
            return {row["path"]: row["at"] for row in rows(db, sql)}


def rater_hash(rater_id: str) -> str:
    """The hash that is kept in place of a rater's id."""
    return hashlib.sha256(f"forgotten\n{rater_id}".encode()).hexdigest()


def owners_of_judged(db: Database, form: str) -> set[str]:
    """Those in whose conversations others judged, as far as a data set of a form may quote them."""
    if form not in _JUDGED:
        return set()
    return {row["id"] for row in rows(db, _OWNERS.format(*_JUDGED[form]))}


def note_people(db: Database, path: str, people: Iterable[str]) -> None:
    """Note whose words are in a file that is whole now, in place of what was there before.

    The people are given by their hashes (`rater_hash`).
    """
    at = utc_now()
    db.conn.execute("DELETE FROM exported WHERE path = ?", [path])
    insert_many(db, "exported", [{"rater": one, "path": path, "at": at} for one in people])


def exports_with(db: Database, rater: str) -> frozenset[str]:
    """The paths of the exported files with the words of a rater, by the rater's hash."""
    found = rows(db, "SELECT path FROM exported WHERE rater = ?", [rater])
    return frozenset(row["path"] for row in found)
