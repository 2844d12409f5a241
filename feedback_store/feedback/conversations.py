"""Raters, their conversations and the tree of messages: the part of the store that chat uses.

A message is never changed: a retry, an edit and blind candidates are siblings under one parent.
Who may see or write what is decided by the caller; `owner_of` says whose a message is.
"""

import string
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from sqlite_utils import Database

from feedback_store.errors import ConflictError, InvalidFeedbackError
from feedback_store.records import (
    FINISH_REASONS,
    RATER_KINDS,
    ROLES,
    CandidateReply,
    Conversation,
    Message,
    Rater,
)
from feedback_store.splits import is_held_out_question, is_held_out_rater, path_hash, text_hash
from feedback_store.sqlite.database import SQLiteFile
from feedback_store.sqlite.ids import new_id, utc_now
from feedback_store.sqlite.rows import (
    Row,
    encode,
    first,
    insert,
    one_of,
    require,
    rows,
    scalar,
    to_record,
)

# Of the first raters nobody is held out: a service for few would learn from none of them.
FEWEST_RATERS_TO_HOLD_OUT_ONE = 20

# Conversations that hold a gold question, so nobody's own words. CROSS JOIN keeps SQLite from
# reading all messages for the few tests; a condition on `candidates` may be added at the end.
GOLD_CONVERSATIONS = """SELECT messages.conversation_id FROM candidates
    CROSS JOIN messages ON messages.id = prompt_message_id WHERE gold IS NOT NULL"""

_PATH_SQL = """
    WITH RECURSIVE path (id, depth) AS (
        SELECT ?, 0
        UNION ALL
        SELECT messages.parent_id, depth + 1 FROM path JOIN messages ON messages.id = path.id
        WHERE messages.parent_id IS NOT NULL
    )
    SELECT messages.* FROM path JOIN messages ON messages.id = path.id ORDER BY depth DESC
"""


def path_to(db: Database, message_id: str) -> list[Message]:
    """The messages from the root of the conversation to this one."""
    require(db, "messages", message_id)
    return [to_record(Message, row) for row in rows(db, _PATH_SQL, [message_id])]


def audit(db: Database, action: str, **detail: Any) -> None:
    """Note an act that somebody may have to answer for; never the text of a chat."""
    insert(db, "audit", {"at": utc_now(), "action": action, "detail": detail})


def refuse_gold_question(db: Database, message: Row) -> None:
    """Refuse evidence about a reply that belongs to a gold question."""
    sql = "SELECT 1 FROM candidates WHERE id = ? AND gold IS NOT NULL"
    if message["candidates_id"] is not None and first(db, sql, [message["candidates_id"]]):
        raise InvalidFeedbackError(
            f"message {message['id']!r} belongs to a gold question; "
            "nothing but a choice or a ranking answers that."
        )


class Conversations:
    """Raters, conversations and messages of a store."""

    _file: SQLiteFile

    def add_rater(
        self, rater_id: str | None = None, *, kind: str = "person", consent: str | None = None
    ) -> Rater:
        """Add a rater, or return the one who has this id; a consent given here is recorded."""
        one_of(kind, RATER_KINDS, "the kind of a rater")
        with self._file.read() as db:
            row = first(db, "SELECT * FROM raters WHERE id = ?", [rater_id])
        if row is None:
            row = self._add_rater(rater_id or new_id(), kind, consent)
        if consent is not None and row["consent"] != consent:
            return self.set_consent(row["id"], consent)
        return to_record(Rater, row)

    def _add_rater(self, rater_id: str, kind: str, consent: str | None) -> Row:
        with self._file.write() as db:
            db.execute(
                "INSERT INTO raters (id, kind, consent, created_at, held_out)"
                " VALUES (?, ?, ?, ?, ?)"
                " ON CONFLICT (id) DO NOTHING",  # another process may have been quicker
                [rater_id, kind, consent, utc_now(), would_hold_out(db, rater_id)],
            )
            return require(db, "raters", rater_id)

    def set_consent(self, rater_id: str, version: str | None) -> Rater:
        """Record which version of the terms a rater agrees to; None takes the consent back."""
        with self._file.write() as db:
            before = require(db, "raters", rater_id)["consent"]
            db.execute("UPDATE raters SET consent = ? WHERE id = ?", [version, rater_id])
            audit(db, "consent", rater_id=rater_id, before=before, after=version)
            return to_record(Rater, require(db, "raters", rater_id))

    def rater(self, rater_id: str) -> Rater:
        """The rater with this id."""
        with self._file.read() as db:
            return to_record(Rater, require(db, "raters", rater_id))

    def add_conversation(
        self, rater_id: str, *, title: str = "", conversation_id: str | None = None
    ) -> Conversation:
        """Begin a conversation; the same id again returns it, if it is the same rater's."""
        with self._file.write() as db:
            require(db, "raters", rater_id)
            known = first(db, "SELECT * FROM conversations WHERE id = ?", [conversation_id])
            if known is not None and known["rater_id"] != rater_id:
                raise ConflictError(
                    f"conversation {conversation_id!r} belongs to another rater; use a new id."
                )
            if known is None:
                known = {
                    "id": conversation_id or new_id(),
                    "rater_id": rater_id,
                    "title": title,
                    "created_at": utc_now(),
                }
                insert(db, "conversations", known)
        return to_record(Conversation, known)

    def add_message(  # noqa: PLR0913 - one argument for each column that a caller knows
        self,
        conversation_id: str,
        role: str,
        content: str,
        *,
        parent_id: str | None = None,
        adapter: str | None = None,
        sampling: dict[str, Any] | None = None,
        seed: int | None = None,
        finish_reason: str | None = None,
        candidates_id: str | None = None,
        label: str | None = None,
        message_id: str | None = None,
        retry_of: str | None = None,
    ) -> Message:
        """Add a message below `parent_id`, or as a root; the same id again changes nothing.

        `retry_of` is the response that the conversation's rater asked to have made anew.

        Raises:
            ConflictError: The id is known with another content.
        """
        row = {
            "id": message_id or new_id(),
            "conversation_id": conversation_id,
            "parent_id": parent_id,
            "role": role,
            "content": content,
            "adapter": adapter,
            "sampling": sampling,
            "seed": seed,
            "finish_reason": finish_reason,
            "candidates_id": candidates_id,
            "label": label,
        }

        def work(db: Database) -> Message:
            stored = to_record(Message, store_message(db, row))
            if retry_of is not None:
                _note_retry(db, stored, retry_of)
            return stored

        return self._file.run(work)

    def add_candidates(
        self,
        prompt_message_id: str,
        replies: Sequence[CandidateReply],
        *,
        rater_id: str,
        gold: str | None = None,
    ) -> tuple[str, list[Message]]:
        """Add replies to be judged blind, labelled a, b, ... in the order given, all or none.

        Args:
            prompt_message_id: The message that they answer.
            replies: What is shown, from left to right.
            rater_id: To whom.
            gold: The label of the one known to be best: a gold question of the rater, which never
                becomes a comparison.
        """
        if not 2 <= len(replies) <= len(string.ascii_lowercase):
            raise InvalidFeedbackError(
                f"{len(replies)} replies cannot be compared; give between 2 and 26."
            )
        one_of(gold, (None, *string.ascii_lowercase[: len(replies)]), "the gold label")
        candidates_id = new_id()
        with self._file.write() as db:
            prompt = require(db, "messages", prompt_message_id)
            require(db, "raters", rater_id)
            row = {
                "id": candidates_id,
                "prompt_message_id": prompt_message_id,
                "rater_id": rater_id,
                "created_at": utc_now(),
                "gold": gold,
            }
            insert(db, "candidates", row)
            common = {
                "conversation_id": prompt["conversation_id"],
                "parent_id": prompt_message_id,
                "role": "assistant",
                "candidates_id": candidates_id,
            }
            messages = [
                store_message(db, common | {"id": new_id(), "label": label} | asdict(reply))
                for label, reply in zip(string.ascii_lowercase, replies, strict=False)
            ]
        return candidates_id, [to_record(Message, row) for row in messages]

    def message(self, message_id: str) -> Message:
        """The message with this id."""
        with self._file.read() as db:
            return to_record(Message, require(db, "messages", message_id))

    def conversation(self, conversation_id: str) -> Conversation:
        """The conversation with this id."""
        with self._file.read() as db:
            return to_record(Conversation, require(db, "conversations", conversation_id))

    def conversations(self, rater_id: str) -> list[Conversation]:
        """A rater's conversations, newest first, without those of gold questions."""
        sql = f"""SELECT * FROM conversations WHERE rater_id = ?
            AND id NOT IN ({GOLD_CONVERSATIONS} AND candidates.rater_id = ?)
            ORDER BY created_at DESC, id DESC"""
        with self._file.read() as db:
            return [to_record(Conversation, row) for row in rows(db, sql, [rater_id, rater_id])]

    def messages(self, conversation_id: str) -> list[Message]:
        """All messages of a conversation, every branch, oldest first."""
        sql = "SELECT * FROM messages WHERE conversation_id = ? ORDER BY created_at, rowid"
        with self._file.read() as db:
            require(db, "conversations", conversation_id)
            return [to_record(Message, row) for row in rows(db, sql, [conversation_id])]

    def path(self, message_id: str) -> list[Message]:
        """The messages from the root of the conversation to this one: what a reply to it sees."""
        with self._file.read() as db:
            return path_to(db, message_id)

    def candidates(self, candidates_id: str) -> list[Message]:
        """The replies that were shown together, by label."""
        sql = "SELECT * FROM messages WHERE candidates_id = ? ORDER BY label"
        with self._file.read() as db:
            require(db, "candidates", candidates_id)
            return [to_record(Message, row) for row in rows(db, sql, [candidates_id])]

    def owner_of(self, message_id: str) -> str:
        """The rater in whose conversation a message is."""
        with self._file.read() as db:
            message = require(db, "messages", message_id)
            owner = require(db, "conversations", message["conversation_id"])["rater_id"]
        return str(owner)

    def owner_of_candidates(self, candidates_id: str) -> str:
        """The rater to whom candidates were shown."""
        with self._file.read() as db:
            return str(require(db, "candidates", candidates_id)["rater_id"])


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


def would_hold_out(db: Database, rater_id: str) -> bool:
    """Whether a rater who is new now is to be measured on only, which is for ever."""
    few = FEWEST_RATERS_TO_HOLD_OUT_ONE
    known = scalar(db, "SELECT count(*) FROM (SELECT 1 FROM raters LIMIT ?)", [few])
    return bool(known == few and is_held_out_rater(rater_id))


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


def _note_retry(db: Database, message: Message, retry_of: str) -> None:
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
