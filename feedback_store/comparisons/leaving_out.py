"""What the operator leaves out of training: one conversation, or one vote; and taking it in again.

What is left out stays as it was said, and its people can still read it. But nothing is derived from
it: no comparison, no judgement, no prompt, no demonstration and no choice in a trial, so training,
the gate, exports and counts do without it. What a cycle has learnt from it stays learnt. Whoever
decided, when and why is in the row and in the audit log. A conversation takes the votes with it
that are still to come. How a rater votes (sides, times) is measured with what is left out, too.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from sqlite_utils import Database

from feedback_store.comparisons.refresh import refresh
from feedback_store.errors import ConflictError, InvalidFeedbackError, UnknownRecordError, say
from feedback_store.feedback.conversation_list import ABOUT
from feedback_store.feedback.events import EVENT_TABLES, LEFT_OUT_VOTES
from feedback_store.sqlite.database import SQLiteFile
from feedback_store.sqlite.ids import utc_now
from feedback_store.sqlite.numbers import take_numbers
from feedback_store.sqlite.rows import Row, audit, first, insert, one_of, rows, scalar, to_record

LEFT_OUT_KINDS = ("conversation", "vote")
MOST_REASON = 200  # characters
MOST_ITEMS = 200
_QUESTION_CHARS = 200

_STORE = """INSERT INTO left_out (kind, id, "by", reason, at)
    VALUES (:kind, :id, :by, :reason, :at)
    ON CONFLICT (kind, id) DO UPDATE SET "by" = excluded."by", reason = excluded.reason"""
_PARENT = "(SELECT parent_id FROM messages WHERE id = event.message_id)"
_ASKED = "(SELECT prompt_message_id FROM candidates WHERE id = event.candidates_id)"
_ABOUT = {"thumb": _PARENT, "choice": _ASKED, "ranking": _ASKED, "retry": _PARENT}
_ABOUT |= {"demonstration": f"coalesce({_PARENT}, event.message_id)"}
# SQL: `other` is an event of the same rater about the same thing, and left out, too.
_THINGS = {"thumb": "message_id", "choice": "candidates_id", "ranking": "candidates_id"}
_THINGS |= {"demonstration": "message_id", "retry": "message_id"}
_SAME = """{0} AS other CROSS JOIN left_out AS noted ON noted.kind = 'vote' AND noted.id = other.id
    WHERE other.rater_id = event.rater_id AND other.{1} = event.{1}"""
_SAME_VOTE = " UNION ALL ".join(
    f"""SELECT other.id FROM {table} AS event CROSS JOIN {_SAME.format(table, _THINGS[said])}
        AND event.id = :id"""
    for said, table in EVENT_TABLES.items()
)
_VOTES = " UNION ALL ".join(
    f"""SELECT left_out.*, '{said}' AS said, event.rater_id, {_ABOUT[said]} AS message_id,
        {"event.prompt" if said == "demonstration" else "'[]'"} AS prompt
        FROM left_out CROSS JOIN {table} AS event ON event.id = left_out.id
        WHERE left_out.kind = 'vote' AND NOT EXISTS (
            SELECT 1 FROM {_SAME.format(table, _THINGS[said])} AND other.rowid > event.rowid)"""
    for said, table in EVENT_TABLES.items()
)
_ITEMS = f"""WITH found AS (
        SELECT left_out.*, 'conversation' AS said, rater_id, (SELECT messages.id FROM messages
            WHERE conversation_id = left_out.id ORDER BY created_at, rowid LIMIT 1) AS message_id,
            json_array(json_object('content', title)) AS prompt
            FROM left_out CROSS JOIN conversations USING (id) WHERE kind = 'conversation'
        UNION ALL {_VOTES})
    SELECT found.kind, found.id, "by", reason, at, said, found.rater_id,
        coalesce(conversations.id, iif(kind = 'conversation', found.id, NULL)) AS conversation_id,
        substr(coalesce(messages.content, prompt ->> '$[#-1].content', ''), 1, {_QUESTION_CHARS})
            AS question
    FROM found LEFT JOIN messages ON messages.id = found.message_id
    LEFT JOIN conversations ON conversations.id = messages.conversation_id
    WHERE deleted_at IS NULL AND (:before IS NULL OR at || found.id < :before)
    ORDER BY at || found.id DESC LIMIT :limit"""


@dataclass(frozen=True, slots=True)
class LeftOutItem:
    """What is left out: a conversation or a vote, by whom, why, and the question it is about.

    `said` is "conversation", or the kind of the vote: "thumb", "choice", "ranking",
    "demonstration" or "retry". `conversation_id` is None for an answer to a prompt of its own.
    """

    kind: str
    id: str
    by: str
    reason: str
    at: str
    said: str
    rater_id: str
    conversation_id: str | None
    question: str

    @property
    def place(self) -> str:
        """Its place in the order; `left_out_items` goes on before it."""
        return self.at + self.id


class LeavingOut:
    """What the operator of a store leaves out."""

    _file: SQLiteFile

    def leave_out(self, kind: str, ids: Collection[str], *, by: str, reason: str) -> None:
        """Leave conversations or votes out of training, all of them or none.

        One that is left out already keeps its date, and gets the new reason.

        Args:
            kind: One of `LEFT_OUT_KINDS`.
            ids: Of conversations, or of events.
            by: Who decides.
            reason: One line.

        Raises:
            InvalidFeedbackError: The reason is empty or too long.
            UnknownRecordError: There is no such conversation or vote; nothing was left out.
        """
        one_of(kind, LEFT_OUT_KINDS, "what is left out")
        reason = " ".join(reason.split())
        if not 0 < len(reason) <= MOST_REASON:
            raise InvalidFeedbackError(
                say(
                    "a reason of {count} characters; say why in 1 to {most}.",
                    count=len(reason),
                    most=MOST_REASON,
                )
            )
        with self._file.write() as db:
            for item in ids:
                whose = _rater_of(db, kind, item)
                row = {"kind": kind, "id": item, "by": by, "reason": reason, "at": utc_now()}
                db.execute(_STORE, row)
                _mark_stale(db, kind, item)
                about = {"kind": kind, "id": item, "rater_id": whose}
                audit(db, "leave_out", by=by, reason=reason, **about)
        refresh(self._file)

    def take_in(self, kind: str, ids: Collection[str], *, by: str) -> None:
        """Let conversations or votes count again; those that were never used are new.

        A vote comes with what its rater said of the same before, if that is left out, too.

        Raises:
            ConflictError: None of them is left out.
        """
        one_of(kind, LEFT_OUT_KINDS, "what is left out")
        with self._file.write() as db:
            out = [item for item in ids if left_out_row(db, kind, item) is not None]
            if not out:
                raise ConflictError(say("this is not left out any more; nothing was changed."))
            for item in out:
                if kind == "vote":
                    earlier = f"kind = 'vote' AND id IN ({_SAME_VOTE})"
                    db.execute(f"DELETE FROM left_out WHERE {earlier}", {"id": item})
                db.execute("DELETE FROM left_out WHERE kind = ? AND id = ?", [kind, item])
                _mark_stale(db, kind, item)
                _number_again(db, kind, item)
                about = {"kind": kind, "id": item, "rater_id": _rater_of(db, kind, item)}
                audit(db, "take_in", by=by, **about)
        refresh(self._file)

    def left_out_items(self, *, before: str | None = None, limit: int = 50) -> list[LeftOutItem]:
        """What is left out, the latest first; not what its owner has deleted.

        Of a vote that was given again, with other reasons perhaps, the present one.

        Args:
            before: What comes after this `place`.
            limit: How many at most.
        """
        if not 1 <= limit <= MOST_ITEMS:
            raise InvalidFeedbackError(f"{limit} rows cannot be given; ask for 1 to {MOST_ITEMS}.")
        with self._file.read() as db:
            found = rows(db, _ITEMS, {"before": before, "limit": limit})
        return [to_record(LeftOutItem, row) for row in found]

    def votes_left_out(self) -> int:
        """How many votes are left out, alone or with their conversation."""
        with self._file.read() as db:
            return int(scalar(db, f"SELECT count(DISTINCT id) FROM {LEFT_OUT_VOTES}"))

    def why_left_out(self, kind: str, item_id: str) -> str | None:
        """The reason why a conversation or a vote is left out; None if it is not."""
        with self._file.read() as db:
            row = left_out_row(db, kind, item_id)
        return None if row is None else str(row["reason"])


def left_out_row(db: Database, kind: str, item_id: str) -> Row | None:
    """What is noted of something that is left out."""
    sql = 'SELECT "by", reason, at FROM left_out WHERE kind = ? AND id = ?'
    return first(db, sql, [kind, item_id])


def import_left_out(db: Database, kind: str, item_id: str, noted: Mapping[str, Any]) -> None:
    """Note of something that is new here that it is left out, as `left_out_row` says."""
    row = {"kind": kind, "id": item_id} | {name: noted[name] for name in ("by", "reason", "at")}
    insert(db, "left_out", row)


def _rater_of(db: Database, kind: str, item_id: str) -> str:
    tables = ("conversations",) if kind == "conversation" else EVENT_TABLES.values()
    for table in tables:
        row = first(db, f"SELECT rater_id FROM {table} WHERE id = ?", [item_id])
        if row is not None:
            return str(row["rater_id"])
    raise UnknownRecordError(f"there is no {kind} {item_id!r}; check the id.")


def _where(kind: str, table: str) -> str:
    """SQL: an event of a table is, or is about something in, what `_bound` names."""
    return f"{table}.id = :id" if kind == "vote" else ABOUT[table]


def _mark_stale(db: Database, kind: str, item_id: str) -> None:
    for table in EVENT_TABLES.values():
        db.conn.execute(
            f"INSERT OR IGNORE INTO stale_prompts SELECT rater_id, prompt_hash FROM {table}"
            f" WHERE {_where(kind, table)} AND prompt_hash IS NOT NULL",
            {"id": item_id, "conversation": item_id},
        )


def _number_again(db: Database, kind: str, item_id: str) -> None:
    """Demonstrations that are heard only now are new; which of them a cycle used is not noted."""
    sql = f"SELECT id FROM demonstrations WHERE {_where(kind, 'demonstrations')} ORDER BY number"
    found = rows(db, sql, {"id": item_id, "conversation": item_id})
    if not found:
        return
    numbers = take_numbers(db, "demonstrations", len(found))
    db.conn.executemany(
        "UPDATE demonstrations SET number = ? WHERE id = ?",
        [(number, row["id"]) for number, row in zip(numbers, found, strict=True)],
    )
