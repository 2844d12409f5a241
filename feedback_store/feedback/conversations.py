"""Conversations, each a tree of messages: the part of the store that chat uses.

A message never changes. A retry, an edit and blind candidates are siblings under one parent. A
method that takes a `rater_id` finds only what is in that rater's conversations; to it, the message
of another rater is an unknown id.
"""

import json
from collections.abc import Sequence
from typing import Any

from sqlite_utils import Database

from feedback_store.errors import ConflictError, UnknownRecordError, say
from feedback_store.feedback.messages import (
    add_below,
    note_retry,
    path_to,
    require_own,
    store_message,
    stored_path,
    without_empty_replies,
)
from feedback_store.records import (
    PAGES,
    Choice,
    Conversation,
    ConversationView,
    Message,
    Place,
    PromptMessage,
    Retry,
    StoredDemonstration,
    Thumb,
)
from feedback_store.sqlite.database import SQLiteFile
from feedback_store.sqlite.ids import new_id, utc_now
from feedback_store.sqlite.rows import (
    Row,
    first,
    insert,
    one_of,
    require,
    rows,
    to_record,
)

# Conversations that hold a gold question, so no words of the rater. CROSS JOIN makes SQLite start
# at the few gold questions instead of all messages. A caller may append a condition.
GOLD_CONVERSATIONS = """SELECT messages.conversation_id FROM candidates
    CROSS JOIN messages ON messages.id = prompt_message_id WHERE gold IS NOT NULL"""

# A conversation as a record, with the time of its last message.
CONVERSATION = """SELECT *, coalesce((SELECT max(messages.created_at) FROM messages
    WHERE conversation_id = conversations.id), created_at) AS updated_at FROM conversations"""

# The conversation that holds a message or candidates.
_CONVERSATION_OF = """SELECT conversation_id FROM messages
    WHERE id = :message OR id = (SELECT prompt_message_id FROM candidates WHERE id = :candidates)"""
_MESSAGES_IN = (
    "SELECT * FROM messages WHERE conversation_id = :conversation ORDER BY created_at, rowid"
)
# Its newest message, by the index alone, and whether that answers a gold question.
_NEWEST = """SELECT newest.id, candidates.gold FROM conversations LEFT JOIN messages AS newest
        ON newest.rowid = (SELECT rowid FROM messages WHERE conversation_id = conversations.id
            ORDER BY created_at DESC, rowid DESC LIMIT 1)
    LEFT JOIN candidates ON candidates.id = newest.candidates_id
    WHERE conversations.id = :conversation AND conversations.rater_id = :rater
        AND deleted_at IS NULL"""
_THUMBS_IN = """SELECT thumbs.* FROM messages JOIN thumbs ON message_id = messages.id
    WHERE conversation_id = :conversation AND rater_id = :rater
    AND superseded_at IS NULL AND value <> 0"""
_CHOICES_IN = """SELECT choices.* FROM (SELECT DISTINCT candidates_id AS shown FROM messages
        WHERE conversation_id = :conversation AND candidates_id IS NOT NULL)
    JOIN choices ON candidates_id = shown WHERE rater_id = :rater AND superseded_at IS NULL"""

_RETRIES_IN = """SELECT retries.* FROM messages JOIN retries ON message_id = messages.id
    WHERE conversation_id = :conversation AND rater_id = :rater AND superseded_at IS NULL"""
_BETTER_IN = """SELECT demonstrations.* FROM messages
    JOIN demonstrations ON message_id = messages.id
    WHERE conversation_id = :conversation AND rater_id = :rater AND superseded_at IS NULL"""
_PLACES = """WITH places (id, message_id) AS (
        SELECT value, value FROM json_each(:ids) UNION ALL
        SELECT id, prompt_message_id FROM candidates
        WHERE id IN (SELECT value FROM json_each(:ids)))
    SELECT places.id, message_id, conversation_id, content, page FROM places
    CROSS JOIN messages ON messages.id = message_id
    CROSS JOIN conversations ON conversations.id = conversation_id"""


class Conversations:
    """The conversations and messages of a store."""

    _file: SQLiteFile

    def add_conversation(
        self, rater_id: str, *, title: str = "", conversation_id: str | None = None
    ) -> Conversation:
        """Begin a conversation, or return the one of this rater that has this id.

        Raises:
            ConflictError: The conversation with this id belongs to another rater, or is deleted.
        """

        def work(db: Database) -> Row:
            """Find the conversation, or insert it."""
            known = first(db, f"{CONVERSATION} WHERE id = ?", [conversation_id])
            if known is not None and known["rater_id"] != rater_id:
                raise ConflictError(
                    f"conversation {conversation_id!r} belongs to another rater; use a new id."
                )
            if known is not None and known["deleted_at"] is not None:
                raise ConflictError(f"conversation {conversation_id!r} is deleted; use a new id.")
            return known or _begin(db, rater_id, title, conversation_id=conversation_id)

        return to_record(Conversation, self._file.run(work))

    def add_dialogue(
        self,
        rater_id: str,
        messages: Sequence[PromptMessage],
        *,
        title: str = "",
        conversation_id: str | None = None,
        parent_id: str | None = None,
        page: str | None = None,
    ) -> list[Message]:
        """Add messages to a rater's conversation, each below the one before, all or none.

        Args:
            rater_id: Whose conversation it is.
            messages: At least one, in order.
            title: The title of a new conversation, used if neither of the next two is given.
            conversation_id: The conversation to add to, below `parent_id` or at the root.
            parent_id: The message above the first of them.
            page: Where a new conversation begins, one of `PAGES`; None in the chat.

        Raises:
            UnknownRecordError: The conversation is not the rater's, or the parent is not in it.
        """

        def work(db: Database) -> list[Message]:
            if conversation_id is not None:
                known = require_own(db, "conversations", conversation_id, rater_id)["id"]
            elif parent_id is not None:
                known = require_own(db, "messages", parent_id, rater_id)["conversation_id"]
            else:
                known = _begin(db, rater_id, title, page=page)["id"]
            return add_below(db, known, parent_id, messages)

        return self._file.run(work)

    def continue_dialogue(
        self, rater_id: str, messages: Sequence[PromptMessage], *, title: str = ""
    ) -> list[Message]:
        """Add what is new of a dialogue that a client sends whole, and return its path.

        The new messages go below the last of the policy's replies that the rater's conversations
        hold at the end of the same path. Without such a reply, the dialogue begins a conversation.
        All of it is added or none. Messages that are empty are not added, but a reply of the
        policy may be empty, and is known by its place.
        """

        def work(db: Database) -> list[Message]:
            """Find where the dialogue goes on, and add what is new, in one transaction."""
            sent = [*messages[:-1], *without_empty_replies(messages[-1:])]
            path = stored_path(db, rater_id, sent)
            said = without_empty_replies(sent)
            if not path and len(said) < len(sent):
                sent = said
                path = stored_path(db, rater_id, sent)
            if not path:
                return add_below(db, _begin(db, rater_id, title)["id"], None, sent)
            last, rest = path[-1], without_empty_replies(sent[len(path) :])
            return path + add_below(db, last.conversation_id, last.id, rest)

        return self._file.run(work)

    def stored_dialogue(self, rater_id: str, messages: Sequence[PromptMessage]) -> list[Message]:
        """The part of a rater's dialogue that is stored, down from its beginning."""
        with self._file.read() as db:
            return stored_path(db, rater_id, messages)

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
        """Add a message below `parent_id` or at the root; the same message again changes nothing.

        `retry_of` is the response that the conversation's rater wanted to have replaced.

        Raises:
            ConflictError: A message with this id but another content is stored.
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
                note_retry(db, stored, retry_of)
            return stored

        return self._file.run(work)

    def message(self, message_id: str, *, rater_id: str | None = None) -> Message:
        """The message with this id; with `rater_id`, only if in that rater's conversation."""
        with self._file.read() as db:
            return to_record(Message, require_own(db, "messages", message_id, rater_id))

    def conversation_view(
        self,
        rater_id: str,
        *,
        conversation_id: str | None = None,
        message_id: str | None = None,
        candidates_id: str | None = None,
    ) -> ConversationView:
        """A rater's conversation as a page shows it, found by its id or by what is in it.

        Raises:
            UnknownRecordError: The rater has no such conversation, or it is a gold question.
        """
        about = {"message": message_id, "candidates": candidates_id, "rater": rater_id}
        with self._file.read() as db:
            if conversation_id is None:
                found = first(db, _CONVERSATION_OF, about)
                conversation_id = found["conversation_id"] if found else ""
            row = require_own(db, "conversations", conversation_id, rater_id)
            if first(db, f"{GOLD_CONVERSATIONS} AND messages.conversation_id = ?", [row["id"]]):
                about_what = candidates_id or message_id or conversation_id
                raise UnknownRecordError(
                    say(
                        "{id} belongs to no conversation; answer it where it is asked.",
                        id=repr(about_what),
                    )
                )
            about["conversation"] = row["id"]
            thumbs = [to_record(Thumb, thumb) for thumb in rows(db, _THUMBS_IN, about)]
            choices = [to_record(Choice, choice) for choice in rows(db, _CHOICES_IN, about)]
            retries = [to_record(Retry, retry) for retry in rows(db, _RETRIES_IN, about)]
            messages = [to_record(Message, message) for message in rows(db, _MESSAGES_IN, about)]
            row["updated_at"] = messages[-1].created_at if messages else row["created_at"]
            better = [to_record(StoredDemonstration, one) for one in rows(db, _BETTER_IN, about)]
            return ConversationView(
                to_record(Conversation, row),
                tuple(messages),
                {thumb.message_id: thumb for thumb in thumbs},
                {choice.candidates_id: choice for choice in choices},
                {retry.message_id: retry for retry in retries},
                {str(one.message_id): one for one in better},
            )

    def newest_message(self, rater_id: str, conversation_id: str) -> str | None:
        """The id of the newest message of a rater's conversation; None if there is none in it.

        Raises:
            UnknownRecordError: The rater has no such conversation, or it is a gold question.
        """
        with self._file.read() as db:
            found = first(db, _NEWEST, {"rater": rater_id, "conversation": conversation_id})
        if found is None or found["gold"] is not None:
            raise UnknownRecordError(
                say(
                    "there is no {id} among {things}; check the id.",
                    id=repr(conversation_id),
                    things=say("your conversations"),
                )
            )
        return None if found["id"] is None else str(found["id"])

    def messages(self, conversation_id: str) -> list[Message]:
        """All messages of a conversation, every branch, oldest first."""
        sql = "SELECT * FROM messages WHERE conversation_id = ? ORDER BY created_at, rowid"
        with self._file.read() as db:
            require(db, "conversations", conversation_id)
            return [to_record(Message, row) for row in rows(db, sql, [conversation_id])]

    def path(self, message_id: str) -> list[Message]:
        """The messages from the root of the conversation to this one, which a reply to it sees."""
        with self._file.read() as db:
            return path_to(db, message_id)

    def last_message_at(self) -> str | None:
        """When the newest of the messages that were stored last was written; None without any.

        Imported ones are stored now and were written long ago.
        """
        sql = """SELECT max(created_at) AS at FROM (
            SELECT created_at FROM messages ORDER BY rowid DESC LIMIT 1000)"""
        with self._file.read() as db:
            newest = rows(db, sql)[0]["at"]
        return None if newest is None else str(newest)

    def places_of(self, ids: Sequence[str]) -> dict[str, Place]:
        """Where each message is; candidates are where the message is that they answer."""
        with self._file.read() as db:
            found = rows(db, _PLACES, {"ids": json.dumps(list(ids))})
        return {row["id"]: to_record(Place, row) for row in found}

    def owner_of(self, message_id: str) -> str:
        """The rater in whose conversation a message is."""
        with self._file.read() as db:
            message = require(db, "messages", message_id)
            owner = require(db, "conversations", message["conversation_id"])["rater_id"]
        return str(owner)


def _begin(
    db: Database,
    rater_id: str,
    title: str,
    *,
    conversation_id: str | None = None,
    page: str | None = None,
) -> Row:
    """Insert a conversation, on an open transaction."""
    require(db, "raters", rater_id)
    one_of(page, (None, *PAGES), "the page of a conversation")
    row = {
        "id": conversation_id or new_id(),
        "rater_id": rater_id,
        "title": title,
        "created_at": utc_now(),
        "page": page,
    }
    insert(db, "conversations", row)
    return row | {"updated_at": row["created_at"]}
