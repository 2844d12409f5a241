"""The list of a rater's conversations: search, rename, pin, delete and restore.

Each method finds only the rater's own conversations, and none that holds a gold question. A deleted
conversation is hidden at once, from its rater, operators and training: every vote in it, whoever
gave it, is superseded at the moment of the deletion, and what was derived from it is withdrawn as
for a vote that was taken back. To restore it makes these votes stand again, so a vote that a cycle
has used before is not used as a new one. What the weights have learnt stays learnt. `sweep` erases
what has been deleted for `DELETED_DAYS` (`privacy/forgetting.py`).
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sqlite_utils import Database

from feedback_store.errors import InvalidFeedbackError, UnknownRecordError, say
from feedback_store.feedback.conversations import CONVERSATION, GOLD_CONVERSATIONS
from feedback_store.feedback.search import MOST_WORDS, folded, quoted_words
from feedback_store.records import Conversation
from feedback_store.sqlite.database import SQLiteFile
from feedback_store.sqlite.ids import utc_now
from feedback_store.sqlite.rows import Row, first, rows, to_record

MOST_TITLE = 200
ALL = -1  # for SQLite: no limit

_OWN = f"""{CONVERSATION} WHERE rater_id = :rater
    AND id NOT IN ({GOLD_CONVERSATIONS} AND candidates.rater_id = :rater)"""
_LISTED = f"""{_OWN} AND page IS :page AND deleted_at IS NULL
    ORDER BY pinned DESC, updated_at DESC, id DESC LIMIT :limit"""
_DELETED = f"""{_OWN} AND page IS NULL AND deleted_at IS NOT NULL
    ORDER BY deleted_at DESC, id DESC LIMIT :limit"""
# The index knows no raters, so its hits are only numbers until they meet those of the rater.
_SAID = """WITH hits AS MATERIALIZED (
        SELECT rowid AS number FROM message_search WHERE message_search MATCH :words),
    own AS MATERIALIZED (
        SELECT searchable.number, conversation_id FROM conversations
        CROSS JOIN messages ON messages.conversation_id = conversations.id
        CROSS JOIN searchable ON searchable.message_id = messages.id
        WHERE rater_id = :rater AND role = 'user')
    SELECT DISTINCT conversation_id FROM own WHERE number IN (SELECT number FROM hits)"""
_BEGINS, _ENDS = "\x02", "\x03"  # round each word that was found
_PASSAGES = f"""WITH own AS MATERIALIZED (
        SELECT searchable.number, conversation_id, messages.id AS message_id
        FROM json_each(:ids) CROSS JOIN conversations ON conversations.id = value
        CROSS JOIN messages ON messages.conversation_id = conversations.id
        CROSS JOIN searchable ON searchable.message_id = messages.id
        WHERE rater_id = :rater AND role = 'user')
    SELECT conversation_id, message_id,
        snippet(message_search, 0, '{_BEGINS}', '{_ENDS}', '…', 12) AS text
    FROM message_search CROSS JOIN own ON own.number = +message_search.rowid
    WHERE message_search MATCH :words ORDER BY own.number"""  # one walk through the hits
_IN_IT = "SELECT {0} FROM messages WHERE conversation_id = :conversation"
# SQL: an event of each table is about something in the conversation `:conversation`.
ABOUT = {
    "thumbs": f"message_id IN ({_IN_IT.format('id')})",
    "demonstrations": f"message_id IN ({_IN_IT.format('id')})",
    "retries": f"message_id IN ({_IN_IT.format('id')})",
    "choices": f"candidates_id IN ({_IN_IT.format('candidates_id')})",
    "rankings": f"candidates_id IN ({_IN_IT.format('candidates_id')})",
}


@dataclass(frozen=True, slots=True)
class Passage:
    """Where a query was found in a message: pieces of its text, and whether each was asked for."""

    message_id: str
    pieces: tuple[tuple[str, bool], ...]


class ConversationList:
    """The conversations of each rater of a store, as a list that the rater keeps."""

    _file: SQLiteFile

    def conversations(
        self, rater_id: str, query: str = "", *, page: str | None = None, limit: int | None = None
    ) -> list[Conversation]:
        """A rater's conversations of one page: pinned ones first, then the last used first.

        With a `query`, only those whose title, or one of the rater's own messages, has all of its
        words; a word may go on, so "piz" finds "Pizza", in any case and with or without accents.
        At most `limit` of them.

        Raises:
            InvalidFeedbackError: The query has too many words.
        """
        words = _words(query)
        bound = {"rater": rater_id, "page": page, "words": quoted_words(words, ends="*")}
        most = ALL if limit is None else limit
        with self._file.long_read() if words else self._file.read() as db:
            listed = rows(db, _LISTED, bound | {"limit": ALL if words else most})
            said = {row["conversation_id"] for row in rows(db, _SAID, bound)} if words else set()
        if words:
            wanted = [folded(word) for word in words]
            found = [row for row in listed if row["id"] in said or _has(row["title"], wanted)]
            listed = found[:limit]
        return [to_record(Conversation, row) for row in listed]

    def passages(
        self, rater_id: str, query: str, conversation_ids: Sequence[str]
    ) -> dict[str, Passage]:
        """The newest of the rater's messages that has all words of a query, by conversation.

        A conversation that was found by its title alone is left out.

        Raises:
            InvalidFeedbackError: The query has too many words.
        """
        words = _words(query)
        if not words or not conversation_ids:
            return {}
        bound = {"rater": rater_id, "words": quoted_words(words, ends="*")}
        with self._file.long_read() as db:
            found = rows(db, _PASSAGES, bound | {"ids": json.dumps(list(conversation_ids))})
        return {
            row["conversation_id"]: Passage(row["message_id"], _pieces(row["text"]))
            for row in found
        }

    def deleted_conversations(self, rater_id: str, *, limit: int = 100) -> list[Conversation]:
        """What a rater has deleted in the chat and can still restore, the last deleted first."""
        with self._file.read() as db:
            found = rows(db, _DELETED, {"rater": rater_id, "limit": limit})
        return [to_record(Conversation, row) for row in found]

    def deleted_conversation(self, rater_id: str, conversation_id: str) -> Conversation | None:
        """A conversation that the rater has deleted and can restore; None if there is none."""
        sql = f"{_OWN} AND id = :id AND deleted_at IS NOT NULL"
        with self._file.read() as db:
            row = first(db, sql, {"rater": rater_id, "id": conversation_id})
        return None if row is None else to_record(Conversation, row)

    def every_conversation(self, rater_id: str) -> list[Row]:
        """What is kept of each of a rater's conversations, oldest first: those of all pages.

        A deleted one is among them until it is erased, with its `deleted_at`. For the rater alone.
        """
        with self._file.read() as db:
            found = rows(db, f"{_OWN} ORDER BY created_at, id", {"rater": rater_id})
        return [row | {"pinned": bool(row["pinned"])} for row in found]

    def rename_conversation(self, rater_id: str, conversation_id: str, title: str) -> Conversation:
        """Give a conversation another title; white space becomes single spaces.

        Raises:
            InvalidFeedbackError: The title is empty or too long.
            UnknownRecordError: The rater has no such conversation.
        """
        title = " ".join(title.split())
        if not 0 < len(title) <= MOST_TITLE:
            raise InvalidFeedbackError(
                say(
                    "a title of {count} characters; give between 1 and {most}.",
                    count=len(title),
                    most=MOST_TITLE,
                )
            )
        return self._change(rater_id, conversation_id, "title", title)

    def pin_conversation(self, rater_id: str, conversation_id: str, pinned: bool) -> Conversation:
        """Keep a conversation at the top of the list, or no longer.

        Raises:
            UnknownRecordError: The rater has no such conversation.
        """
        return self._change(rater_id, conversation_id, "pinned", int(pinned))

    def delete_conversation(self, rater_id: str, conversation_id: str) -> int:
        """Hide a conversation from everybody, and return how many votes count no longer.

        A conversation that is deleted already stays so. `restore_conversation` undoes it until
        `sweep` has erased it.

        Raises:
            UnknownRecordError: The rater has no such conversation.
        """

        def work(db: Database) -> int:
            row = _require(db, rater_id, conversation_id, deleted=True)
            if row["deleted_at"] is not None:
                return 0
            withdrawn = _withdraw(db, conversation_id, at := _free_moment(db, conversation_id))
            sql = "UPDATE conversations SET deleted_at = ? WHERE id = ?"
            db.execute(sql, [at, conversation_id])
            return withdrawn

        return self._file.run(work)

    def restore_conversation(self, rater_id: str, conversation_id: str) -> Conversation:
        """Undo `delete_conversation`: the conversation is listed, and its votes count again.

        Raises:
            UnknownRecordError: The rater has no such conversation, or it was erased meanwhile.
        """

        def work(db: Database) -> Conversation:
            row = _require(db, rater_id, conversation_id, deleted=True)
            if row["deleted_at"] is not None:
                _reinstate(db, conversation_id, row["deleted_at"])
                sql = "UPDATE conversations SET deleted_at = NULL WHERE id = ?"
                db.execute(sql, [conversation_id])
            return to_record(Conversation, row)

        return self._file.run(work)

    def _change(
        self, rater_id: str, conversation_id: str, column: str, value: str | int
    ) -> Conversation:
        def work(db: Database) -> Conversation:
            row = _require(db, rater_id, conversation_id)
            sql = f"UPDATE conversations SET {column} = ? WHERE id = ?"
            db.execute(sql, [value, conversation_id])
            return to_record(Conversation, row | {column: value})

        return self._file.run(work)


def _require(db: Database, rater_id: str, conversation_id: str, *, deleted: bool = False) -> Row:
    """A rater's conversation; with `deleted`, also one that is deleted."""
    sql = f"{_OWN} AND id = :id {'' if deleted else 'AND deleted_at IS NULL'}"
    row = first(db, sql, {"rater": rater_id, "id": conversation_id})
    if row is None:
        raise UnknownRecordError(
            say(
                "there is no {id} among {things}; check the id.",
                id=repr(conversation_id),
                things=say("your conversations"),
            )
        )
    return row


def _free_moment(db: Database, conversation_id: str) -> str:
    """A time at which no vote in the conversation was superseded, so that it tells these apart."""
    used = " UNION ALL ".join(
        f"SELECT 1 FROM {table} WHERE {about} AND superseded_at = :at"
        for table, about in ABOUT.items()
    )
    at = utc_now()
    while first(db, used, {"conversation": conversation_id, "at": at}):
        at = utc_now()  # a millisecond later at most
    return at


def _withdraw(db: Database, conversation_id: str, at: str) -> int:
    """Supersede the standing votes in a conversation; return how many people would count."""
    bound = {"conversation": conversation_id, "at": at}
    for table, about in ABOUT.items():
        db.conn.execute(
            f"UPDATE {table} SET superseded_at = :at WHERE {about} AND superseded_at IS NULL", bound
        )
        _mark_stale(db, table, bound)
    return sum(rows(db, sql, bound)[0]["votes"] for sql in _votes())


def _reinstate(db: Database, conversation_id: str, at: str) -> None:
    """Let the votes stand again that were superseded at a time."""
    bound = {"conversation": conversation_id, "at": at}
    for table, about in ABOUT.items():
        _mark_stale(db, table, bound)
        db.conn.execute(  # a vote that was given meanwhile, by an import perhaps, stands instead
            f"UPDATE OR IGNORE {table} SET superseded_at = NULL"
            f" WHERE {about} AND superseded_at = :at",
            bound,
        )


def _mark_stale(db: Database, table: str, bound: Row) -> None:
    db.conn.execute(
        f"INSERT OR IGNORE INTO stale_prompts SELECT rater_id, prompt_hash FROM {table}"
        f" WHERE {ABOUT[table]} AND superseded_at = :at AND prompt_hash IS NOT NULL",
        bound,
    )


def _votes() -> Iterator[str]:
    """SQL for each kind: how many votes were superseded at a time; a bare retry is none."""
    said = {"thumbs": "AND value <> 0", "retries": "AND than_before IS NOT NULL"}
    for table, about in ABOUT.items():
        where = f"{about} AND superseded_at = :at {said.get(table, '')}"
        yield f"SELECT count(*) AS votes FROM {table} WHERE {where}"


def _words(query: str) -> list[str]:
    """The words of a query, each once; a NUL would end the expression of the index."""
    words = list(dict.fromkeys(query.replace("\0", " ").split()))
    if len(words) > MOST_WORDS:
        raise InvalidFeedbackError(
            say(
                "a search for {count} words; give at most {most}.",
                count=len(words),
                most=MOST_WORDS,
            )
        )
    return words


def _pieces(text: str) -> tuple[tuple[str, bool], ...]:
    """A passage cut where a word that was found begins or ends."""
    pieces = list[tuple[str, bool]]()
    for number, part in enumerate(text.split(_BEGINS)):
        word, ends, rest = part.partition(_ENDS)
        marked = number > 0 and bool(ends)
        pieces += [(word, marked), (rest, False)]
    return tuple((part, marked) for part, marked in pieces if part)


def _has(title: str, words: Sequence[str]) -> bool:
    text = folded(title)
    return all(word in text for word in words)
