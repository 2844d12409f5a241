"""Raw events, out and in, with everything that they refer to.

Invariants: events that were exported, imported into an empty store and exported again are the same
lines; importing twice changes nothing; a file is imported whole or not at all. Chats that nobody
judged are not exported.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import MISSING, fields
from typing import Any

from sqlite_utils import Database

from feedback_store.errors import (
    ConflictError,
    FeedbackStoreError,
    InvalidFeedbackError,
)
from feedback_store.feedback.demonstrations import checked_prompt
from feedback_store.feedback.events import (
    EVENT_TABLES,
    STORES_OWN,
    check_labels,
    mark_stale,
    store_event,
)
from feedback_store.feedback.messages import store_message
from feedback_store.privacy.forgetting import is_forgotten
from feedback_store.raters.accounts import would_hold_out
from feedback_store.records import (
    Choice,
    Conversation,
    Message,
    Ranking,
    Rater,
    Retry,
    StoredDemonstration,
    Thumb,
)
from feedback_store.sqlite.database import SQLiteFile, translated
from feedback_store.sqlite.rows import Row, decode, encode, first, insert, require, rows, stream

_RECORDS: dict[str, type] = {
    "thumb": Thumb,
    "choice": Choice,
    "ranking": Ranking,
    "demonstration": StoredDemonstration,
    "retry": Retry,
}
FORGOTTEN = "a rater who was forgotten here"
_CANDIDATES_COLUMNS = ("id", "prompt_message_id", "rater_id", "created_at", "gold")


class EventFiles:
    """Export and import of a store."""

    _file: SQLiteFile

    def export_events(self) -> Iterator[Row]:
        """Every event ever recorded, superseded ones too, each with everything it refers to."""
        with self._file.long_read() as db:
            for name, table in EVENT_TABLES.items():
                for row in stream(db, f"SELECT * FROM {table} ORDER BY created_at, rowid"):
                    said = {k: v for k, v in decode(row).items() if k not in STORES_OWN}
                    yield {"event": name, **said, **_context(db, row)}

    def import_events(
        self, events: Iterable[Mapping[str, Any]], *, left_out: Counter[str] | None = None
    ) -> int:
        """Import what `export_events` gave, all or nothing; return how many events were new.

        Events of, or about, a rater who was forgotten here are left out and counted in `left_out`.
        """
        new, left_out = 0, Counter() if left_out is None else left_out
        with self._file.write() as db:
            for number, event in enumerate(events, start=1):
                try:
                    with translated(self._file.path):
                        if any(is_forgotten(db, person["id"]) for person in _people(event)):
                            left_out[FORGOTTEN] += 1
                        else:
                            new += _import_event(db, event)
                except FeedbackStoreError as exc:
                    raise type(exc)(f"event {number}: {exc} Nothing was imported.") from exc
                except (AttributeError, KeyError, TypeError, ValueError) as exc:
                    raise InvalidFeedbackError(
                        f"event {number} is not in the format of `export --format events`; a data "
                        "set of others needs its own --format "
                        f"({type(exc).__name__}: {exc}); nothing was imported."
                    ) from exc
        return new


def _context(db: Database, row: Row) -> Row:
    """The rater of an event, and the messages it is about with all their ancestors."""
    context: Row = {"rater": _person(db, row["rater_id"])}
    about, shown = row.get("message_id"), row.get("candidates_id")
    replies: list[Row] = []
    if shown is not None:
        about = require(db, "candidates", shown)["prompt_message_id"]
        sql = "SELECT * FROM messages WHERE candidates_id = ? ORDER BY label"
        replies = rows(db, sql, [shown])
    elif "retry_of" in row:
        replies = _retried(db, row)
    if about is None:
        return context
    messages = [*_ancestors(db, about), *replies]
    names = dict.fromkeys(m["candidates_id"] for m in messages if m["candidates_id"] is not None)
    sql = "SELECT * FROM messages WHERE candidates_id = ? ORDER BY label"
    whole = messages + [reply for name in names for reply in rows(db, sql, [name])]
    candidates = [require(db, "candidates", name) for name in names]
    conversation = require(db, "conversations", messages[0]["conversation_id"])
    shown_to = {item["rater_id"] for item in candidates}
    return context | {
        "conversation": conversation,
        "owner": _person(db, conversation["rater_id"]),
        "candidates": candidates,
        "shown_to": [_person(db, rater_id) for rater_id in sorted(shown_to)],
        "messages": [decode(item) for item in {item["id"]: item for item in whole}.values()],
    }


def _person(db: Database, rater_id: str) -> Row:
    """A rater without the origin: what was made of an address stays in the store that saw it."""
    return _columns(Rater, require(db, "raters", rater_id))


def _retried(db: Database, row: Row) -> list[Row]:
    """The response that was replaced, and what follows either: this tells which was accepted."""
    sql = "SELECT * FROM messages WHERE parent_id IN (?, ?) ORDER BY created_at, id"
    children = rows(db, sql, [row["message_id"], row["retry_of"]])
    return [require(db, "messages", row["retry_of"]), *children]


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
    for person in _people(event):
        # Consent may have changed here since, so a rater who is known is left alone.
        if first(db, "SELECT 1 FROM raters WHERE id = ?", [person["id"]]) is None:
            held_out = would_hold_out(db, person["id"])
            insert(db, "raters", {"held_out": held_out} | _columns(Rater, person))
    if "conversation" in event:
        _import_row(db, "conversations", _columns(Conversation, event["conversation"]))
    for item in event.get("candidates", ()):
        _import_row(db, "candidates", {"gold": None} | _only(item, _CANDIDATES_COLUMNS))
    for message in event.get("messages", ()):
        store_message(db, _columns(Message, message))


def _people(event: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The rater, the owner of the conversation, and those to whom candidates in it were shown."""
    owner = [event["owner"]] if "owner" in event else []
    return [event["rater"], *owner, *event.get("shown_to", ())]


def _columns(cls: type, values: Mapping[str, Any]) -> Row:
    """Only the columns of a record, so that a file can name no others.

    Those with a default may be missing, as they are in a file of an earlier version.
    """
    needed = {field.name for field in fields(cls) if field.default is MISSING}
    names = [field.name for field in fields(cls)]
    return {name: values[name] for name in names if name in needed or name in values}


def _only(values: Mapping[str, Any], names: Sequence[str]) -> Row:
    return {name: values[name] for name in names if name in values}


def _import_row(db: Database, table: str, row: Row) -> int:
    known = first(db, f"SELECT * FROM {table} WHERE id = ?", [row["id"]])
    if known is None:
        if table in EVENT_TABLES.values():
            store_event(db, table, row)
        else:
            insert(db, table, row)
        return 1
    for column, value in row.items():
        if column != "superseded_at" and known[column] != encode(value):
            raise ConflictError(f"{row['id']!r} is stored with another {column}.")
    if row.get("superseded_at") is not None and known["superseded_at"] is None:
        db.table(table).update(row["id"], {"superseded_at": row["superseded_at"]})
        mark_stale(db, table, row["id"])
    return 0
