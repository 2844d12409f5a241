"""The tree of messages: functions on an open transaction.

Invariants: a message never changes; its parent is stored before it and in the same conversation, so
no path has a cycle; each message carries the hashes that comparisons are derived from, so that no
derivation reads a text again.
"""

from collections.abc import Sequence
from dataclasses import fields

from sqlite_utils import Database

from feedback_store.errors import ConflictError, InvalidFeedbackError, UnknownRecordError, say
from feedback_store.records import (
    CLIENT_MESSAGE,
    FINISH_REASONS,
    ROLES,
    Message,
    PromptMessage,
)
from feedback_store.splits import is_held_out_question, path_hash, path_hashes, text_hash
from feedback_store.sqlite.feed import note_vote
from feedback_store.sqlite.ids import new_id, utc_now
from feedback_store.sqlite.rows import (
    Row,
    encode,
    first,
    insert,
    insert_many,
    one_of,
    require,
    rows,
    to_record,
)

SHOWN = 60  # characters of a name that is unknown
_PATH_SQL = """
    WITH RECURSIVE path (id, depth) AS (
        SELECT ?, 0
        UNION ALL
        SELECT messages.parent_id, depth + 1 FROM path JOIN messages ON messages.id = path.id
        WHERE messages.parent_id IS NOT NULL
    )
    SELECT messages.* FROM path JOIN messages ON messages.id = path.id ORDER BY depth DESC
"""
# One hash may stand for many paths, in other cases and white space.
_REPLIES_AT_PATH = """SELECT messages.id FROM messages
    JOIN conversations ON conversations.id = messages.conversation_id
    WHERE path_hash = ? AND adapter IS NOT NULL AND rater_id = ? AND deleted_at IS NULL
    ORDER BY messages.rowid DESC LIMIT 20"""
_NAMED_BY_CLIENT = f"""SELECT messages.* FROM conversations
    JOIN messages ON conversations.id = messages.conversation_id
    WHERE rater_id = ? AND deleted_at IS NULL AND role = 'assistant'
    AND json_extract(sampling, '$.{CLIENT_MESSAGE}') = ? ORDER BY messages.rowid DESC LIMIT 20"""
_SAME_BELOW = """SELECT * FROM messages WHERE parent_id = ? AND role = ? AND content = ?
    ORDER BY rowid DESC LIMIT 1"""

# SQL: the record is that rater's, in a conversation that is not deleted.
_OWNED_BY = {
    "conversations": "conversations.rater_id = :rater AND deleted_at IS NULL",
    "candidates": """candidates.rater_id = :rater AND NOT EXISTS (SELECT 1 FROM messages
        JOIN conversations ON conversations.id = messages.conversation_id
        WHERE messages.id = prompt_message_id AND deleted_at IS NOT NULL)""",
    "messages": """EXISTS (SELECT 1 FROM conversations WHERE rater_id = :rater
        AND conversations.id = messages.conversation_id AND deleted_at IS NULL)""",
}
_YOURS = {
    "conversations": say("your conversations"),
    "candidates": say("your candidates"),
    "messages": say("your messages"),
}


def require_own(db: Database, table: str, record_id: str, rater_id: str | None) -> Row:
    """The row with this id; with a rater, only if it is that rater's.

    Raises:
        UnknownRecordError: There is no such row.
    """
    sql = f"SELECT * FROM {table} WHERE id = :id AND (:rater IS NULL OR {_OWNED_BY[table]})"
    row = first(db, sql, {"id": record_id, "rater": rater_id})
    if row is None:
        things = f"the {table}" if rater_id is None else _YOURS[table]
        raise UnknownRecordError(
            say("there is no {id} among {things}; check the id.", id=repr(record_id), things=things)
        )
    return row


def named_by_client(db: Database, client_message: str, rater_id: str) -> list[Message]:
    """The rater's replies that a client calls by this name, the latest first: one went on.

    Raises:
        UnknownRecordError: The rater has none.
    """
    found = [
        to_record(Message, row) for row in rows(db, _NAMED_BY_CLIENT, [rater_id, client_message])
    ]
    if not found:
        short = client_message[:SHOWN] + ("..." if len(client_message) > SHOWN else "")
        raise UnknownRecordError(
            f"the client called no reply of yours {short!r}; send the name with the "
            "request for the reply, in the header X-Feedback-Chat-Message"
        )
    return found


def path_to(db: Database, message_id: str) -> list[Message]:
    """The messages from the root of the conversation to this one."""
    require(db, "messages", message_id)
    return [to_record(Message, row) for row in rows(db, _PATH_SQL, [message_id])]


def prompt_of(path: Sequence[Message]) -> tuple[PromptMessage, ...]:
    """What a model sees of a path of messages."""
    return tuple(PromptMessage(role=message.role, content=message.content) for message in path)


def refuse_gold_question(db: Database, message: Row) -> None:
    """Refuse thumbs, retries and rewritten answers of a gold question's reply.

    Raises:
        InvalidFeedbackError: The message is such a reply.
    """
    sql = "SELECT 1 FROM candidates WHERE id = ? AND gold IS NOT NULL"
    if message["candidates_id"] is not None and first(db, sql, [message["candidates_id"]]):
        raise InvalidFeedbackError(
            say(
                "message {id} belongs to a gold question; answer it with a choice or a ranking.",
                id=repr(message["id"]),
            )
        )


def add_below(
    db: Database, conversation_id: str, parent_id: str | None, messages: Sequence[PromptMessage]
) -> list[Message]:
    """Insert messages, each below the one before, and return them.

    A client may send hundreds at once, and everybody who writes waits meanwhile: what holds for all
    of them is looked up once.
    """
    require(db, "conversations", conversation_id)
    empty = dict.fromkeys(field.name for field in fields(Message))
    below = empty | {"conversation_id": conversation_id, "parent_id": parent_id}
    above, found = _parent_of(db, below), []
    for message in messages:
        one_of(message["role"], ROLES, "the role of a message")
        row = below | {
            "id": new_id(),
            "parent_id": above["id"] if above else None,
            "role": message["role"],
            "content": message["content"],
            "created_at": utc_now(),
        }
        above = row | _hashes(row, above)
        found.append(above)
    insert_many(db, "messages", found)
    _mark_retries_stale(db, parent_id)
    return [to_record(Message, row) for row in found]


def without_empty_replies(messages: Sequence[PromptMessage]) -> list[PromptMessage]:
    """What is said in a dialogue: clients send replies back that have no text."""
    return [m for m in messages if m["role"] != "assistant" or m["content"].strip()]


def stored_path(db: Database, rater_id: str, messages: Sequence[PromptMessage]) -> list[Message]:
    """The part of a dialogue that is stored, from its root; empty if it holds no policy's reply.

    Only a policy's reply tells which conversation goes on. Many conversations begin with the same
    question, and all conversations of one client with the same system prompt.
    """
    texts = [(message["role"], message["content"].strip()) for message in messages]
    for length, path_of in reversed(list(enumerate(path_hashes(messages), 1))):
        if messages[length - 1]["role"] != "assistant":
            continue
        for row in rows(db, _REPLIES_AT_PATH, [path_of, rater_id]):
            path = path_to(db, row["id"])
            # The hash ignores case and white space, but the model does not.
            if [(message.role, message.content.strip()) for message in path] == texts[:length]:
                return path + _same_below(db, path[-1], messages[length:])
    return []


def _same_below(db: Database, reply: Message, messages: Sequence[PromptMessage]) -> list[Message]:
    """The messages after a reply that are stored already, because a client sent them before."""
    path: list[Message] = []
    for message in messages:
        above = path[-1].id if path else reply.id
        row = first(db, _SAME_BELOW, [above, message["role"], message["content"]])
        if row is None:
            break
        path.append(to_record(Message, row))
    return path


def store_message(db: Database, row: Row) -> Row:
    """Insert a message whose parent is stored; the same message again changes nothing.

    Raises:
        ConflictError: It is stored with another content, or its parent is in another conversation.
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
    """A message below a new or an old response tells which of the two the rater accepted."""
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
    """The hashes that comparisons are derived from, and whether the question is held out."""
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
    """Record that the conversation's rater wanted `message` in place of the message `retry_of`."""
    old = require(db, "messages", retry_of)
    if old["parent_id"] != message.parent_id or message.parent_id is None:
        raise ConflictError(
            say(
                "message {id} answers another message than {other}; a retry answers the same one.",
                id=repr(retry_of),
                other=repr(message.id),
            )
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
    note_vote(db, "retry", row)
    _mark_retries_stale(db, message.id)
