"""The tree of messages, as functions on an open transaction.

Invariants: a message is never changed; its parent is stored before it and in the same conversation,
so no path can lead round in a circle; each message carries the hashes that comparisons are derived
from, so that no derivation has to read a text again.
"""

from collections.abc import Sequence
from dataclasses import fields

from sqlite_utils import Database

from feedback_store.errors import ConflictError, InvalidFeedbackError
from feedback_store.records import FINISH_REASONS, ROLES, Message, PromptMessage
from feedback_store.splits import is_held_out_question, path_hash, path_hashes, text_hash
from feedback_store.sqlite.ids import new_id, utc_now
from feedback_store.sqlite.rows import Row, encode, first, insert, one_of, require, rows, to_record

_PATH_SQL = """
    WITH RECURSIVE path (id, depth) AS (
        SELECT ?, 0
        UNION ALL
        SELECT messages.parent_id, depth + 1 FROM path JOIN messages ON messages.id = path.id
        WHERE messages.parent_id IS NOT NULL
    )
    SELECT messages.* FROM path JOIN messages ON messages.id = path.id ORDER BY depth DESC
"""
_REPLIES_AT_PATH = """SELECT messages.id FROM messages
    JOIN conversations ON conversations.id = messages.conversation_id
    WHERE path_hash = ? AND adapter IS NOT NULL AND rater_id = ? ORDER BY messages.rowid DESC"""
_SAME_BELOW = """SELECT * FROM messages WHERE parent_id = ? AND role = ? AND content = ?
    ORDER BY rowid DESC LIMIT 1"""


def path_to(db: Database, message_id: str) -> list[Message]:
    """The messages from the root of the conversation to this one."""
    require(db, "messages", message_id)
    return [to_record(Message, row) for row in rows(db, _PATH_SQL, [message_id])]


def prompt_of(path: Sequence[Message]) -> tuple[PromptMessage, ...]:
    """What a model would see of a path of messages."""
    return tuple(PromptMessage(role=message.role, content=message.content) for message in path)


def refuse_gold_question(db: Database, message: Row) -> None:
    """Refuse evidence about a reply that belongs to a gold question."""
    sql = "SELECT 1 FROM candidates WHERE id = ? AND gold IS NOT NULL"
    if message["candidates_id"] is not None and first(db, sql, [message["candidates_id"]]):
        raise InvalidFeedbackError(
            f"message {message['id']!r} belongs to a gold question; "
            "nothing but a choice or a ranking answers that."
        )


def add_below(
    db: Database, conversation_id: str, parent_id: str | None, messages: Sequence[PromptMessage]
) -> list[Message]:
    """Insert messages one below the other, on an open transaction."""
    path: list[Message] = []
    for message in messages:
        row = dict.fromkeys(field.name for field in fields(Message)) | {
            "id": new_id(),
            "conversation_id": conversation_id,
            "parent_id": path[-1].id if path else parent_id,
            "role": message["role"],
            "content": message["content"],
            "created_at": utc_now(),
        }
        path.append(to_record(Message, store_message(db, row)))
    return path


def stored_path(db: Database, rater_id: str, messages: Sequence[PromptMessage]) -> list[Message]:
    """What is stored of a dialogue, from its root; empty without a stored reply of a policy.

    Only replies of a policy are looked for: a first question is asked by many, and the same system
    prompt stands above all conversations of a client, so neither says which one goes on.
    """
    texts = [(message["role"], message["content"].strip()) for message in messages]
    for length, path_of in reversed(list(enumerate(path_hashes(messages), 1))):
        if messages[length - 1]["role"] != "assistant":
            continue
        for row in rows(db, _REPLIES_AT_PATH, [path_of, rater_id]):
            path = path_to(db, row["id"])
            # the hash ignores case and inner white space, which the model does not
            if [(message.role, message.content.strip()) for message in path] == texts[:length]:
                return path + _same_below(db, path[-1], messages[length:])
    return []


def _same_below(db: Database, reply: Message, messages: Sequence[PromptMessage]) -> list[Message]:
    """Of the messages after a stored reply those that are stored, too: a request sent again."""
    path: list[Message] = []
    for message in messages:
        above = path[-1].id if path else reply.id
        row = first(db, _SAME_BELOW, [above, message["role"], message["content"]])
        if row is None:
            break
        path.append(to_record(Message, row))
    return path


def store_message(db: Database, row: Row) -> Row:
    """Insert a message whose parent is stored, on an open transaction; known ones change nothing.

    That the parent comes first makes the tree a tree: no path can lead round in a circle.
    """
    one_of(row["role"], ROLES, "the role of a message")
    one_of(row["finish_reason"], (None, *FINISH_REASONS), "the finish reason of a message")
    known = first(db, "SELECT * FROM messages WHERE id = ?", [row["id"]])
    if known is not None:
        if any(known[name] != encode(value) for name, value in row.items()):
            raise ConflictError(
                f"message {row['id']!r} is stored with another content; use a new id."
            )
        return known
    require(db, "conversations", row["conversation_id"])
    parent = _parent_of(db, row)
    if row["candidates_id"] is not None:
        require(db, "candidates", row["candidates_id"])
    row = {"created_at": utc_now()} | row
    insert(db, "messages", row | _hashes(row, parent))
    _mark_retries_stale(db, row["parent_id"])
    return row


def _mark_retries_stale(db: Database, message_id: str | None) -> None:
    """Going on from a new or an old response tells which of them was accepted."""
    db.conn.execute(
        "INSERT OR IGNORE INTO stale_prompts SELECT rater_id, prompt_hash FROM retries"
        " WHERE (message_id = :id OR retry_of = :id) AND prompt_hash IS NOT NULL",
        {"id": message_id},
    )


def _parent_of(db: Database, row: Row) -> Row | None:
    if row["parent_id"] is None:
        return None
    parent = require(db, "messages", row["parent_id"])
    if parent["conversation_id"] != row["conversation_id"]:
        raise ConflictError(
            f"message {row['parent_id']!r} is in another conversation than "
            f"{row['conversation_id']!r}; answer within one conversation."
        )
    return parent


def _hashes(row: Row, parent: Row | None) -> Row:
    """What comparisons are derived from, so that no derivation has to read a text again."""
    if row["role"] == "user":
        held_out = is_held_out_question(row["content"])
    else:
        held_out = bool(parent["held_out"]) if parent else is_held_out_question("")
    above = parent["path_hash"] if parent else None
    return {
        "path_hash": path_hash(above, row["role"], row["content"]),
        "text_hash": text_hash(row["content"]),
        "held_out": held_out,
    }


def note_retry(db: Database, message: Message, retry_of: str) -> None:
    """Note that the conversation's rater asked for a message in place of `retry_of`."""
    old = require(db, "messages", retry_of)
    if old["parent_id"] != message.parent_id or message.parent_id is None:
        raise ConflictError(
            f"message {retry_of!r} answers another message than {message.id!r}; "
            "a retry answers the same one."
        )
    refuse_gold_question(db, old)
    if first(db, "SELECT 1 FROM retries WHERE message_id = ?", [message.id]):
        return
    conversation = require(db, "conversations", message.conversation_id)
    row = {
        "id": new_id(),
        "message_id": message.id,
        "retry_of": retry_of,
        "rater_id": conversation["rater_id"],
        "idempotency_key": message.id,
        "created_at": message.created_at,
        "prompt_hash": require(db, "messages", message.parent_id)["path_hash"],
    }
    insert(db, "retries", row)
    _mark_retries_stale(db, message.id)
