"""Raw events, out and in, with everything that they refer to.

Invariants: events that were exported, imported into an empty store and exported again are the same
lines; importing twice changes nothing; a file is imported whole or not at all. Chats that nobody
judged are not exported, nor what is about a conversation that its owner has deleted. A title that
was changed here stays, and so do reasons of a choice that were given here. What the operator has
left out is exported and says so; it is left out where it is new, and elsewhere the operator there
has decided.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import MISSING, fields
from typing import Any

from sqlite_utils import Database

from feedback_store.comparisons.leaving_out import import_left_out, left_out_row
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
    Message,
    Ranking,
    Rater,
    Retry,
    StoredDemonstration,
    Thumb,
)
from feedback_store.sqlite.database import SQLiteFile, translated
from feedback_store.sqlite.rows import (
    Row,
    decode,
    encode,
    first,
    insert,
    not_negative,
    require,
    rows,
    stream,
)

_RECORDS: dict[str, type] = {
    "thumb": Thumb,
    "choice": Choice,
    "ranking": Ranking,
    "demonstration": StoredDemonstration,
    "retry": Retry,
}
FORGOTTEN = "a rater who was forgotten here"
DELETED = "a conversation that was deleted here"
_CONVERSATION_COLUMNS = ("id", "rater_id", "title", "created_at")
_CANDIDATES_COLUMNS = (
    *("id", "prompt_message_id", "rater_id", "created_at", "gold"),
    *("arm", "propensity"),  # missing in files of an earlier version
)


class EventFiles:
    """Export and import of a store."""

    _file: SQLiteFile

    def export_events(self) -> Iterator[Row]:
        """Every event ever recorded, superseded ones too, each with everything it refers to.

        What is about a deleted conversation is left out: it is kept for its owner's undo alone.
        """
        with self._file.long_read() as db:
            for name, table in EVENT_TABLES.items():
                for row in stream(db, f"SELECT * FROM {table} ORDER BY created_at, rowid"):
                    context = _context(db, row)
                    if context is not None:
                        said = {k: v for k, v in decode(row).items() if k not in STORES_OWN}
                        said |= _left_out(db, "vote", row["id"])
                        yield {"event": name, **said, **context}

    def import_events(
        self, events: Iterable[Mapping[str, Any]], *, left_out: Counter[str] | None = None
    ) -> int:
        """Import what `export_events` gave, all or nothing; return how many events were new.

        Events of, or about, a rater who was forgotten here, and those about a conversation that was
        deleted here, are left out and counted in `left_out`.
        """
        new, left_out = 0, Counter() if left_out is None else left_out
        with self._file.write() as db:
            for number, event in enumerate(events, start=1):
                try:
                    with translated(self._file.path):
                        if any(is_forgotten(db, person["id"]) for person in people_of(event)):
                            left_out[FORGOTTEN] += 1
                        elif _about_deleted(db, event):
                            left_out[DELETED] += 1
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


def _context(db: Database, row: Row) -> Row | None:
    """The rater of an event, and the messages it is about with all their ancestors.

    None if they are in a conversation that is deleted.
    """
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
    conversation = require(db, "conversations", messages[0]["conversation_id"])
    if conversation["deleted_at"] is not None:
        return None
    names = dict.fromkeys(m["candidates_id"] for m in messages if m["candidates_id"] is not None)
    sql = "SELECT * FROM messages WHERE candidates_id = ? ORDER BY label"
    whole = messages + [reply for name in names for reply in rows(db, sql, [name])]
    candidates = [require(db, "candidates", name) for name in names]
    shown_to = {item["rater_id"] for item in candidates}
    return context | {
        "conversation": _only(conversation, (*_CONVERSATION_COLUMNS, "page"))
        | _left_out(db, "conversation", conversation["id"]),
        "owner": _person(db, conversation["rater_id"]),
        "candidates": candidates,
        "shown_to": [_person(db, rater_id) for rater_id in sorted(shown_to)],
        "messages": [decode(item) for item in {item["id"]: item for item in whole}.values()],
    }


def _left_out(db: Database, kind: str, item_id: str) -> Row:
    """What is noted of something that the operator has left out; nothing of anything else."""
    noted = left_out_row(db, kind, item_id)
    return {} if noted is None else {"left_out": noted}


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
        not_negative(row["strength"], "the strength of a choice")
        row |= _reasons_here(db, row)
    elif name == "ranking":
        row["order"] = tuple(tuple(group) for group in row["order"])
        check_labels(db, row["candidates_id"], row["order"])
    elif name == "demonstration":
        row["prompt"] = checked_prompt(row["prompt"])
    new = _import_row(db, EVENT_TABLES[name], row)
    if new and "left_out" in event:
        import_left_out(db, "vote", row["id"], event["left_out"])
    return new


def _reasons_here(db: Database, choice: Row) -> Row:
    """The reasons of a choice that is stored here; without any, it takes those of the file."""
    known = first(db, "SELECT tags, comment FROM choices WHERE id = ?", [choice["id"]])
    if known is None:
        return {}
    if known["tags"] != "[]" or known["comment"] or "tags" not in choice:
        return known
    given = {name: encode(choice[name]) for name in known}
    db.table("choices").update(choice["id"], given)
    return given


def _import_context(db: Database, event: Mapping[str, Any]) -> None:
    for person in people_of(event):
        # Consent may have changed here since, so a rater who is known is left alone.
        if first(db, "SELECT 1 FROM raters WHERE id = ?", [person["id"]]) is None:
            held_out = would_hold_out(db, person["id"])
            insert(db, "raters", {"held_out": held_out} | _columns(Rater, person))
    if "conversation" in event:
        _import_conversation(db, event["conversation"])
    for item in event.get("candidates", ()):
        _import_row(db, "candidates", {"gold": None} | _only(item, _CANDIDATES_COLUMNS))
    for message in event.get("messages", ()):
        store_message(db, _columns(Message, message))


def _import_conversation(db: Database, values: Mapping[str, Any]) -> None:
    row = {name: values[name] for name in _CONVERSATION_COLUMNS} | _only(values, ("page",))
    known = first(db, "SELECT title FROM conversations WHERE id = ?", [row["id"]])
    _import_row(db, "conversations", row | (known or {}))  # its owner may have renamed it here
    if known is None and "left_out" in values:
        import_left_out(db, "conversation", row["id"], values["left_out"])


def _about_deleted(db: Database, event: Mapping[str, Any]) -> bool:
    """Whether an event is about a conversation that its owner has deleted here."""
    sql = "SELECT 1 FROM conversations WHERE id = ? AND deleted_at IS NOT NULL"
    return "conversation" in event and bool(first(db, sql, [event["conversation"]["id"]]))


def people_of(event: Mapping[str, Any]) -> list[Mapping[str, Any]]:
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
