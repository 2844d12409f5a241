"""In and out: raw events as JSON lines, TRL's preference format, and forgetting a rater for good.

Invariants: exporting and importing into an empty store and exporting again gives the same lines;
importing twice changes nothing; an import is taken whole or not at all; after `forget` no byte of
what the rater wrote is left in the database's files. Chats that nobody judged are not exported,
and copies made before (backups, exports, trained weights) are beyond the reach of `forget`.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields
from typing import Any

from sqlite_utils import Database

from feedback_store.conversations import audit, store_message
from feedback_store.database import SQLiteFile
from feedback_store.errors import (
    ConflictError,
    FeedbackStoreError,
    InvalidFeedbackError,
    StoreUnavailableError,
)
from feedback_store.events import EVENT_TABLES, check_labels, checked_prompt
from feedback_store.learning import Learning, derive_afresh
from feedback_store.records import (
    Choice,
    Conversation,
    Demonstration,
    Message,
    Ranking,
    Rater,
    Thumb,
)
from feedback_store.rows import Row, decode, encode, first, insert, require, rows, stream

_RECORDS: dict[str, type] = {
    "thumb": Thumb,
    "choice": Choice,
    "ranking": Ranking,
    "demonstration": Demonstration,
}
_CANDIDATES_COLUMNS = ("id", "prompt_message_id", "rater_id", "created_at")

# Selects what belongs to the rater :rater: the messages of their conversations, and the replies
# that were shown to them.
_MESSAGES = """SELECT messages.id FROM messages JOIN conversations
    ON conversations.id = conversation_id WHERE conversations.rater_id = :rater"""
_CANDIDATES = f"""SELECT id FROM candidates
    WHERE rater_id = :rater OR prompt_message_id IN ({_MESSAGES})"""
_EVENTS = {
    "thumbs": f"rater_id = :rater OR message_id IN ({_MESSAGES})",
    "choices": f"rater_id = :rater OR candidates_id IN ({_CANDIDATES})",
    "rankings": f"rater_id = :rater OR candidates_id IN ({_CANDIDATES})",
    "demonstrations": f"rater_id = :rater OR message_id IN ({_MESSAGES})",
}
_EVENT_IDS = " UNION ALL ".join(f"SELECT id FROM {t} WHERE {w}" for t, w in _EVENTS.items())


class Exchange(Learning):
    """Export, import and erasure of a store."""

    _file: SQLiteFile

    def export_events(self) -> Iterator[Row]:
        """Every event ever recorded, superseded ones too, each with all that it speaks of."""
        with self._file.long_read() as db:
            for name, table in EVENT_TABLES.items():
                for row in stream(db, f"SELECT * FROM {table} ORDER BY created_at, rowid"):
                    yield {"event": name, **decode(row), **_context(db, row)}

    def export_preferences(self, *, split: str | None = None) -> Iterator[Row]:
        """Comparisons that are not ties, in TRL's conversational preference format."""
        for comparison in self.comparisons(split=split):
            if comparison.label == "tie":
                continue
            oriented = comparison if comparison.label == "a" else comparison.swap()
            yield {
                "prompt": list(oriented.prompt),
                "chosen": [{"role": "assistant", "content": oriented.response_a}],
                "rejected": [{"role": "assistant", "content": oriented.response_b}],
            }

    def import_events(self, events: Iterable[Mapping[str, Any]]) -> int:
        """Take in what `export_events` gave, all or nothing; return how many events were new."""
        new = 0
        with self._file.write():
            for number, event in enumerate(events, start=1):
                try:
                    with self._file.write() as db:
                        new += _import_event(db, event)
                except FeedbackStoreError as exc:
                    raise type(exc)(f"event {number}: {exc} Nothing was imported.") from exc
                except (AttributeError, KeyError, TypeError, ValueError) as exc:
                    raise InvalidFeedbackError(
                        f"event {number} is not in the format of `export --format events` "
                        f"({type(exc).__name__}: {exc}); nothing was imported."
                    ) from exc
        return new

    def forget(self, rater_id: str) -> dict[str, int]:
        """Erase a rater: their conversations, their feedback, and what was derived from it.

        Returns:
            How many rows of each kind were erased.

        Raises:
            StoreUnavailableError: The rows are gone, but a reader still holds the old pages.
        """
        with self._file.write() as db:
            require(db, "raters", rater_id)
            db.execute("PRAGMA defer_foreign_keys = ON")
            erased = _erase(db, rater_id)
            derive_afresh(db)
            audit(db, "forget", **erased)
        self.compact()
        return erased

    def compact(self) -> None:
        """Rewrite the file without what was deleted, and empty the write-ahead log."""
        with self._file.maintenance() as db:
            db.execute("VACUUM")
            busy = db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
        if busy:
            raise StoreUnavailableError(
                "another process is reading, so deleted text may remain in the write-ahead log; "
                "let it finish, then call compact() again."
            )


def _context(db: Database, row: Row) -> Row:
    """The rater of an event, and the messages that it speaks of with all their ancestors."""
    context: Row = {"rater": require(db, "raters", row["rater_id"])}
    about, shown = row.get("message_id"), row.get("candidates_id")
    replies: list[Row] = []
    if shown is not None:
        about = require(db, "candidates", shown)["prompt_message_id"]
        sql = "SELECT * FROM messages WHERE candidates_id = ? ORDER BY label"
        replies = rows(db, sql, [shown])
    if about is None:
        return context
    messages = [*_ancestors(db, about), *replies]
    names = dict.fromkeys(m["candidates_id"] for m in messages if m["candidates_id"] is not None)
    conversation = require(db, "conversations", messages[0]["conversation_id"])
    return context | {
        "conversation": conversation,
        "owner": require(db, "raters", conversation["rater_id"]),
        "candidates": [require(db, "candidates", name) for name in names],
        "messages": [decode(message) for message in messages],
    }


def _ancestors(db: Database, message_id: str | None) -> list[Row]:
    path: list[Row] = []
    while message_id is not None:
        path.append(require(db, "messages", message_id))
        message_id = path[-1]["parent_id"]
    return path[::-1]


def _import_event(db: Database, event: Mapping[str, Any]) -> int:
    name = event["event"]
    if name not in EVENT_TABLES:
        raise InvalidFeedbackError(f"there is no kind of event {name!r}.")
    db.execute("PRAGMA defer_foreign_keys = ON")  # candidates and messages refer to each other
    _import_context(db, event)
    row = _columns(_RECORDS[name], event) | {"superseded_at": event["superseded_at"]}
    if name == "choice":
        check_labels(db, row["candidates_id"], [["a"], ["b"]])
    elif name == "ranking":
        row["order"] = tuple(tuple(group) for group in row["order"])
        check_labels(db, row["candidates_id"], row["order"])
    elif name == "demonstration":
        row["prompt"] = checked_prompt(row["prompt"])
    return _import_row(db, EVENT_TABLES[name], row)


def _import_context(db: Database, event: Mapping[str, Any]) -> None:
    people = [event["rater"]] + ([event["owner"]] if "owner" in event else [])
    for person in people:
        # Consent may have changed here since, so a rater who is known is left alone.
        if first(db, "SELECT 1 FROM raters WHERE id = ?", [person["id"]]) is None:
            insert(db, "raters", _columns(Rater, person))
    if "conversation" in event:
        _import_row(db, "conversations", _columns(Conversation, event["conversation"]))
    for item in event.get("candidates", ()):
        _import_row(db, "candidates", {column: item[column] for column in _CANDIDATES_COLUMNS})
    for message in event.get("messages", ()):
        store_message(db, _columns(Message, message))


def _columns(cls: type, values: Mapping[str, Any]) -> Row:
    """Only the columns of a record, so that a file can name no others."""
    return {field.name: values[field.name] for field in fields(cls)}


def _import_row(db: Database, table: str, row: Row) -> int:
    known = first(db, f"SELECT * FROM {table} WHERE id = ?", [row["id"]])
    if known is None:
        insert(db, table, row)
        return 1
    for column, value in row.items():
        if column != "superseded_at" and known[column] != encode(value):
            raise ConflictError(f"{row['id']!r} is stored with another {column}.")
    if row.get("superseded_at") is not None and known["superseded_at"] is None:
        sql = f"UPDATE {table} SET superseded_at = ? WHERE id = ?"
        db.execute(sql, [row["superseded_at"], row["id"]])
    return 0


def _erase(db: Database, rater_id: str) -> dict[str, int]:
    """Delete from the leaves to the root, since each step finds its rows by the later ones."""
    erased: dict[str, int] = {}

    def delete(table: str, where: str) -> None:
        sql = f"DELETE FROM {table} WHERE {where}"
        erased[table] = db.conn.execute(sql, {"rater": rater_id}).rowcount

    delete(
        "comparisons",
        "rater_id = :rater OR id IN (SELECT comparison_id FROM comparison_events"
        f" WHERE event_id IN ({_EVENT_IDS}))",
    )
    for table, where in _EVENTS.items():
        delete(table, where)
    db.conn.execute(
        f"UPDATE messages SET candidates_id = NULL, label = NULL"
        f" WHERE candidates_id IN ({_CANDIDATES})",
        {"rater": rater_id},
    )
    delete("candidates", f"id IN ({_CANDIDATES})")
    delete("messages", f"id IN ({_MESSAGES})")
    delete("conversations", "rater_id = :rater")
    delete("audit", "action = 'consent' AND detail ->> 'rater_id' = :rater")
    delete("raters", "id = :rater")
    return erased
