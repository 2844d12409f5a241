"""What a cycle reads of a store, as a small store for another machine, and the note of it here.

Invariants: nobody is in the copy who has not agreed to training, nor anything that was deleted,
changed later or left out, nor a message that no cycle reads; raters have numbers in place of ids;
there is no key, title, comment, reason or name. A cycle draws from the copy what it would draw
here. Whose words are in it is noted here, by the hashes that `forgotten` has, too.
"""

import json
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from sqlite_utils import Database

from feedback_store.comparisons.opinions import unvoted_prompts
from feedback_store.comparisons.refresh import refresh
from feedback_store.errors import ConflictError, CycleInProgressError
from feedback_store.feedback.events import (
    CONSENTED,
    EVENT_TABLES,
    LEFT_OUT_CONVERSATIONS,
    LEFT_OUT_VOTES,
)
from feedback_store.privacy.copies import note_people, rater_hash
from feedback_store.privacy.erasure import erase
from feedback_store.registry.cycles import cycle_in_progress, end_cycle_of_copy
from feedback_store.sqlite.database import SQLiteFile, translated
from feedback_store.sqlite.ids import utc_now
from feedback_store.sqlite.rows import audit, encode, first, rows, scalar

_NOTE = "evidence {0}"  # in the bookkeeping
_SILENT = f"(SELECT id FROM raters WHERE NOT {CONSENTED})"
_HIDDEN = f"""SELECT id FROM conversations WHERE rater_id IN {_SILENT}
    OR deleted_at IS NOT NULL OR id IN {LEFT_OUT_CONVERSATIONS}"""
# The first answer to a gold question counts, also if it was changed later.
_GOLD = "(SELECT id FROM candidates WHERE gold IS NOT NULL)"
_STALE = "(rater_id, prompt_hash) IN (SELECT rater_id, prompt_hash FROM stale_prompts)"
_JUDGED = "(SELECT candidates_id FROM choices UNION SELECT candidates_id FROM rankings)"
_READ = f"""CREATE TABLE kept AS WITH RECURSIVE kept (id) AS (
        SELECT prompt_id FROM comparisons UNION SELECT a FROM comparisons
        UNION SELECT b FROM comparisons
        UNION SELECT prompt_id FROM unpaired UNION SELECT message_id FROM unpaired
        UNION SELECT message_id FROM thumbs UNION SELECT message_id FROM demonstrations
        UNION SELECT message_id FROM retries UNION SELECT retry_of FROM retries
        UNION SELECT id FROM messages WHERE candidates_id IN {_JUDGED}
        UNION SELECT prompt_message_id FROM candidates WHERE id IN {_JUDGED}
        UNION SELECT value FROM json_each(:unvoted)
        UNION SELECT parent_id FROM kept JOIN messages USING (id))
    SELECT id FROM kept WHERE id IS NOT NULL"""
_UNREAD = (
    "DROP TRIGGER message_is_searchable",
    "DROP TRIGGER message_is_gone",
    "DROP TABLE message_search",
    "DELETE FROM searchable WHERE message_id NOT IN (SELECT value FROM json_each(:unvoted))",
    "DELETE FROM messages WHERE id NOT IN (SELECT id FROM kept)",
    f"""DELETE FROM candidates WHERE id NOT IN {_JUDGED}
        AND id NOT IN (SELECT candidates_id FROM messages WHERE candidates_id IS NOT NULL)""",
    "DELETE FROM conversations WHERE id NOT IN (SELECT conversation_id FROM messages)",
    "DROP TABLE kept",
)
_OWNED = ("conversations", "candidates", *EVENT_TABLES.values(), "comparisons", "unpaired")
_NOBODYS = " UNION ".join(f"SELECT rater_id FROM {table}" for table in _OWNED)
# A new table belongs here, unless a cycle reads it; a test knows those that are kept.
EMPTIED = (
    *("alarms", "cycle_comparisons", "cycle_prompts", "exported", "feed", "forgotten", "keys"),
    *("judge_answers", "judge_probes", "judges"),
    *("left_out", "stale_prompts", "taught", "trials", "vote_counts", "webhooks"),
)
_KEPT_NOTES = "'derivation', 'adapter_number', 'anchor', 'watched_cycle', 'programs', 'screening'"
_BLANK = (
    "UPDATE candidates SET trial_id = NULL",
    *(f"DELETE FROM {table}" for table in EMPTIED),
    *(f"UPDATE {table} SET idempotency_key = id" for table in EVENT_TABLES.values()),
    *(f"UPDATE {table} SET tags = '[]', comment = ''" for table in ("thumbs", "choices")),
    "UPDATE conversations SET title = '', page = NULL, pinned = 0",
    "UPDATE messages SET sampling = NULL, seed = NULL",
    """UPDATE raters SET consent = iif(consent LIKE 'dataset:%', 'dataset:', 'given')
        WHERE consent IS NOT NULL""",
    """UPDATE raters SET origin = numbered.number FROM (
        SELECT id, dense_rank() OVER (ORDER BY origin) AS number FROM raters
        WHERE origin IS NOT NULL) AS numbered WHERE numbered.id = raters.id""",
    f"DELETE FROM raters WHERE id NOT IN ({_NOBODYS})",
    "DELETE FROM audit WHERE action <> 'release'",  # an assessment begins at a rater's last one
    "UPDATE audit SET detail = json_object('rater_id', detail ->> 'rater_id')",
    "UPDATE adapters SET metrics = '{}'",
    "UPDATE serving SET \"by\" = ''",
    "UPDATE cycles SET reasons = '[]', config = '{}', pid = 0, process = NULL",
    f"""DELETE FROM bookkeeping WHERE name NOT IN ({_KEPT_NOTES})
        AND name NOT LIKE 'last_number_of_%'""",
)


@dataclass(frozen=True, slots=True)
class EvidenceNote:
    """What a store keeps of evidence that it has written for a cycle on another machine.

    Attributes:
        id: Of the evidence.
        at: When it was copied.
        token: Whoever has the evidence has it, too; it seals the result.
        last_cycle: The last cycle before it, 0 if there was none.
        people: Whose words are in it, as hashes; empty once its cycle was added.
        cycle: The cycle that came of it, once it was added.
        result: The digest of that result.
    """

    id: str
    at: str
    token: str
    last_cycle: int
    people: tuple[str, ...] = ()
    cycle: int | None = None
    result: str | None = None


class EvidenceCopies:
    """Evidence of a store for cycles on other machines."""

    _file: SQLiteFile

    def begin_evidence(self, path: str) -> int:
        """Note that a file with people's words is about to be written; returns the note's id."""
        with self._file.write() as db:
            _require_no_cycle(db)
            audit(db, "export", path=path, format="evidence")
            return int(scalar(db, "SELECT max(id) FROM audit"))

    def copy_evidence(self, path: Path, *, unvoted: int) -> tuple[str, ...]:
        """Write what a cycle reads into a new store.

        Args:
            path: In a folder that is removed later; SQLite leaves files beside it.
            unvoted: How many prompts without a vote are in it at most.

        Returns:
            The hashes of the raters in it, in the order of their numbers.
        """
        refresh(self._file)
        with translated(path), closing(self._file.connect()) as db:
            db.execute("VACUUM INTO ?", [str(path)])
        copy = SQLiteFile(path, allow_old_sqlite=True)  # this store was opened with it, too
        try:
            with copy.write() as db:
                _erase_what_is_hidden(db)
            refresh(copy)  # what others said about it
            with copy.write() as db:
                people = _strip(db, unvoted)
            with copy.maintenance() as db:
                db.execute("VACUUM")
        finally:
            copy.close()
        return people

    def note_evidence(
        self, note: EvidenceNote, path: str, *, begun: int, publish: Callable[[], object]
    ) -> None:
        """Give a finished file of evidence its name, and note whose words are in it.

        Args:
            note: What is kept of it.
            path: The file.
            begun: The id of the note that `begin_evidence` made.
            publish: Names the file; meanwhile nobody can be forgotten.

        Raises:
            ConflictError: Somebody was forgotten while it was written; it got no name.
        """
        with self._file.write() as db:
            gone = "id >= ? AND action IN ('forget', 'sweep')"
            if db.table("audit").count_where(gone, [begun]):
                raise ConflictError(
                    f"conversations were deleted while {path} was being written; write it again."
                )
            keep_note(db, note)
            note_people(db, path, note.people)
            publish()

    def evidence(self, evidence_id: str) -> EvidenceNote | None:
        """The note of evidence that this store wrote; None if it did not."""
        with self._file.read() as db:
            return note_of(db, evidence_id)


def keep_note(db: Database, note: EvidenceNote) -> None:
    """Write the note of evidence, or what has become of it."""
    row = {"name": _NOTE.format(note.id), "value": encode(asdict(note))}
    db.table("bookkeeping").upsert(row, pk="name")


def note_of(db: Database, evidence_id: str) -> EvidenceNote | None:
    """See `EvidenceCopies.evidence`."""
    sql = "SELECT value FROM bookkeeping WHERE name = ?"
    found = first(db, sql, [_NOTE.format(evidence_id)])
    if found is None:
        return None
    note = EvidenceNote(**json.loads(found["value"]))
    return replace(note, people=tuple(note.people))


def _require_no_cycle(db: Database) -> None:
    running = cycle_in_progress(db)
    if running is not None:
        raise CycleInProgressError(
            f"cycle {running.id} is running and decides what is served next; write the evidence "
            "when it has ended."
        )


def _erase_what_is_hidden(db: Database) -> None:
    _require_no_cycle(db)  # it may have begun since
    end_cycle_of_copy(db)  # whose process has died
    # What was said since the last derivation was said after this copy.
    for table in ("comparisons", "unpaired"):
        db.conn.execute(f"DELETE FROM {table} WHERE {_STALE}")
    db.conn.execute("DELETE FROM stale_prompts")
    left_out = [row["id"] for row in rows(db, f"SELECT id FROM {LEFT_OUT_VOTES}")]
    for table in EVENT_TABLES.values():
        gold = f"AND candidates_id NOT IN {_GOLD}" if table in ("choices", "rankings") else ""
        db.conn.execute(
            f"""DELETE FROM {table} WHERE rater_id IN {_SILENT}
                OR id IN (SELECT value FROM json_each(?))
                OR (superseded_at IS NOT NULL {gold})""",
            [json.dumps(left_out)],
        )
    for table in ("comparisons", "unpaired"):
        db.conn.execute(f"DELETE FROM {table} WHERE rater_id IN {_SILENT}")
    erase(db, [row["id"] for row in rows(db, _HIDDEN)])


def _strip(db: Database, unvoted: int) -> tuple[str, ...]:
    """Take out what no cycle reads and what would tell who somebody is."""
    execute = db.conn.execute
    execute("PRAGMA defer_foreign_keys = ON")
    execute("DELETE FROM comparisons WHERE withdrawn_at IS NOT NULL")
    bound = {"unvoted": json.dumps(unvoted_prompts(db, unvoted))}
    for statement in (_READ, *_UNREAD):
        execute(statement, bound if ":unvoted" in statement else {})
    for statement in _BLANK:
        execute(statement)
    return _number_raters(db)


def _number_raters(db: Database) -> tuple[str, ...]:
    """Replace each rater's id by its place in their order, which stays; return their hashes."""
    ids = [row["id"] for row in rows(db, "SELECT id FROM raters ORDER BY id")]
    names = [(f"#{number:09d}", rater) for number, rater in enumerate(ids)]
    db.conn.executemany("UPDATE raters SET id = ? WHERE id = ?", names)
    for table in _OWNED:
        db.conn.executemany(f"UPDATE {table} SET rater_id = ? WHERE rater_id = ?", names)
    db.conn.executemany(
        "UPDATE audit SET detail = json_object('rater_id', ?) WHERE detail ->> 'rater_id' = ?",
        names,
    )
    return tuple(map(rater_hash, ids))


def new_note(
    evidence_id: str, token: str, last_cycle: int, people: tuple[str, ...]
) -> EvidenceNote:
    """The note of evidence that was copied now."""
    return EvidenceNote(evidence_id, utc_now(), token, last_cycle, people)
