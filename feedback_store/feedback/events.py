"""What raters said: thumbs, choices, rankings and demonstrations, each stored exactly once.

A client that may have to send an event again makes a key for it: the second request then finds the
row that the first one wrote. Without a key, saying what stands already changes nothing. A rater's
later event about the same thing supersedes the earlier one, which stays as history. The caller
checks whether the rater may judge the thing at all.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlite_utils import Database

from feedback_store.errors import ConflictError, InvalidFeedbackError, UnknownRecordError
from feedback_store.feedback.messages import path_to, prompt_of, refuse_gold_question
from feedback_store.records import (
    CHOICES,
    SPLITS,
    Choice,
    PromptMessage,
    Ranking,
    StoredDemonstration,
    Thumb,
)
from feedback_store.splits import prompt_hash, split_of, text_hash
from feedback_store.sqlite.database import SQLiteFile
from feedback_store.sqlite.ids import new_id, utc_now
from feedback_store.sqlite.rows import (
    Row,
    encode,
    first,
    insert,
    not_negative,
    one_of,
    require,
    rows,
    to_record,
)

EVENT_TABLES = {
    "thumb": "thumbs",
    "choice": "choices",
    "ranking": "rankings",
    "demonstration": "demonstrations",
    "retry": "retries",
}
MAX_KEY_LENGTH = 200

# A person's words are trained on only with their consent; simulated raters and operators need none.
CONSENTED = "(raters.kind <> 'person' OR raters.consent IS NOT NULL)"
# Reliability 0 is no quarantine, but whoever has it is not learnt from either, and is told so.
HEARD = f"{CONSENTED} AND raters.quarantined_at IS NULL AND raters.reliability > 0"


def owners_agree(messages: str) -> str:
    """SQL: whoever's conversations these messages are in agrees, too, to what is learnt from them.

    Args:
        messages: SQL for ids of messages, with commas; `raters` in the query is who judged them.
    """
    return f"""NOT EXISTS (SELECT 1 FROM messages AS theirs
        JOIN conversations ON conversations.id = theirs.conversation_id
        JOIN raters AS owner ON owner.id = conversations.rater_id
        WHERE theirs.id IN ({messages}) AND owner.id <> raters.id
        AND NOT {CONSENTED.replace("raters.", "owner.")})"""


_PROMPT_OF_MESSAGE = """SELECT parent.path_hash FROM messages
    LEFT JOIN messages AS parent ON parent.id = messages.parent_id WHERE messages.id = ?"""
# What is said of a gold question is on no prompt, so that no comparison is derived from it.
_PROMPT_OF_CANDIDATES = """SELECT CASE WHEN gold IS NULL THEN path_hash END FROM candidates
    JOIN messages ON messages.id = prompt_message_id WHERE candidates.id = ?"""

# Not part of the opinion: a retry may well measure another time.
_NOT_CONTENT = {"seconds"}


class Events:
    """The feedback of a store."""

    _file: SQLiteFile

    def add_thumb(
        self,
        message_id: str,
        rater_id: str,
        value: int,
        *,
        tags: Sequence[str] | None = None,
        comment: str | None = None,
        idempotency_key: str | None = None,
    ) -> Thumb:
        """Record a thumb up (1), down (-1) or taken back (0) on a response.

        Without a key, tags and a comment that are not given leave those of the same thumb standing.
        """
        one_of(value, (1, -1, 0), "a thumb")
        about = {"message_id": message_id, "rater_id": rater_id}
        content = {"value": int(value), "tags": tuple(tags or ()), "comment": comment or ""}
        given = {"value"} | ({"tags"} if tags is not None else set())
        given |= {"comment"} if comment is not None else set()

        def work(db: Database) -> Row:
            _require_response(db, message_id)
            return _record(db, "thumbs", about, content, idempotency_key, given=given)

        return to_record(Thumb, self._file.run(work))

    def add_choice(
        self,
        candidates_id: str,
        rater_id: str,
        choice: str,
        *,
        strength: float | None = None,
        seconds: float | None = None,
        idempotency_key: str | None = None,
    ) -> Choice:
        """Record which of two candidates is better; `seconds` is the time taken to decide."""
        one_of(choice, CHOICES, "a choice")
        not_negative(strength, "the strength of a choice")
        not_negative(seconds, "the seconds of a choice")
        about = {"candidates_id": candidates_id, "rater_id": rater_id}
        content = {"choice": choice, "strength": strength, "seconds": seconds}
        given = {"choice"} | ({"strength"} if strength is not None else set())

        def work(db: Database) -> Row:
            if len(labels := _labels(db, candidates_id)) != 2:
                raise InvalidFeedbackError(
                    f"candidates {candidates_id!r} are {len(labels)}, so a choice between two "
                    "does not fit; send a ranking."
                )
            return _record(db, "choices", about, content, idempotency_key, given=given)

        return to_record(Choice, self._file.run(work))

    def add_ranking(
        self,
        candidates_id: str,
        rater_id: str,
        order: Sequence[Sequence[str]],
        *,
        idempotency_key: str | None = None,
    ) -> Ranking:
        """Record an order of all candidates, best first, ties in one group."""
        groups = tuple(tuple(sorted(group)) for group in order)
        about = {"candidates_id": candidates_id, "rater_id": rater_id}

        def work(db: Database) -> Row:
            check_labels(db, candidates_id, groups)
            return _record(db, "rankings", about, {"order": groups}, idempotency_key)

        return to_record(Ranking, self._file.run(work))

    def add_demonstration(
        self,
        rater_id: str,
        content: str,
        *,
        message_id: str | None = None,
        prompt: Sequence[PromptMessage] | None = None,
        idempotency_key: str | None = None,
    ) -> StoredDemonstration:
        """Record a response written by a rater, in place of `message_id` or to `prompt`."""
        if not content.strip():
            raise InvalidFeedbackError("a demonstration cannot be empty; write a response.")
        if (message_id is None) == (prompt is None):
            raise InvalidFeedbackError(
                "a demonstration belongs to either a message or a prompt; give exactly one."
            )
        about = {"rater_id": rater_id, "message_id": message_id}

        def work(db: Database) -> Row:
            said = prompt or ()
            if message_id is not None:
                _require_response(db, message_id)
                said = prompt_of(path_to(db, message_id)[:-1])
            text = {"prompt": checked_prompt(said), "content": content}
            return _record(db, "demonstrations", about, text, idempotency_key)

        return to_record(StoredDemonstration, self._file.run(work))

    def thumbs(self) -> list[Thumb]:
        """All thumbs that stand, oldest first."""
        with self._file.read() as db:
            return [to_record(Thumb, row) for row in _standing(db, "thumbs", "AND value <> 0")]

    def choices(self) -> list[Choice]:
        """All choices that stand, oldest first."""
        with self._file.read() as db:
            return [to_record(Choice, row) for row in _standing(db, "choices")]

    def demonstrations(self, *, split: str | None = None) -> list[StoredDemonstration]:
        """All demonstrations that stand and whose raters are heard, oldest first.

        `split` keeps one of `SPLITS`: those of a held-out question or rater are not for training.
        """
        one_of(split, (None, *SPLITS), "the split")
        with self._file.read() as db:
            standing = _standing(
                db, "demonstrations", f"AND {HEARD} AND {owners_agree('demonstrations.message_id')}"
            )
            found = [to_record(StoredDemonstration, row) for row in standing]
            raters = rows(db, "SELECT id FROM raters WHERE held_out")
        held_out = {row["id"] for row in raters}
        return [
            item
            for item in found
            if split in (None, split_of(item.prompt, held_out_rater=item.rater_id in held_out))
        ]


def _standing(db: Database, table: str, condition: str = "") -> list[Row]:
    sql = (
        f"SELECT {table}.* FROM {table} JOIN raters ON raters.id = {table}.rater_id"
        f" WHERE superseded_at IS NULL {condition} ORDER BY {table}.created_at, {table}.rowid"
    )
    return rows(db, sql)


def _record(
    db: Database,
    table: str,
    about: Mapping[str, Any],
    content: Mapping[str, Any],
    key: str | None,
    *,
    given: Collection[str] | None = None,
) -> Row:
    """Insert an event and supersede the rater's earlier one about the same thing, once per key.

    `given` names what of the content the rater said, if not all of it: without a key, an event that
    says no more than the standing one is that one.
    """
    require(db, "raters", about["rater_id"])
    previous = _current(db, table, about)
    if key is None:
        if previous and all(previous[name] == encode(content[name]) for name in given or content):
            return previous
        key = new_id()
    elif (known := _with_key(db, table, about["rater_id"], key)) is not None:
        _check_same(known, {**about, **content}, key)
        return known
    row = {"id": new_id(), **about, **content, "idempotency_key": key, "created_at": utc_now()}
    if previous is not None:
        sql = f"UPDATE {table} SET superseded_at = ? WHERE id = ?"
        db.execute(sql, [row["created_at"], previous["id"]])
    store_event(db, table, row)
    return row


def _with_key(db: Database, table: str, rater_id: str, key: str) -> Row | None:
    if not 0 < len(key) <= MAX_KEY_LENGTH:
        raise InvalidFeedbackError(
            f"an idempotency key of {len(key)} characters; use 1 to {MAX_KEY_LENGTH}, a UUID say."
        )
    sql = f"SELECT * FROM {table} WHERE rater_id = ? AND idempotency_key = ?"
    return first(db, sql, [rater_id, key])


def store_event(db: Database, table: str, row: Row) -> None:
    """Insert an event with the hashes of what it is about, on an open transaction."""
    if table == "demonstrations":
        found = prompt_hash(row["prompt"])
        row = row | {"text_hash": text_hash(row["content"])}
    elif "message_id" in row:
        found = _path_hash(db, _PROMPT_OF_MESSAGE, row["message_id"])
    else:
        found = _path_hash(db, _PROMPT_OF_CANDIDATES, row["candidates_id"])
    insert(db, table, row | {"prompt_hash": found})
    if found is not None:
        sql = "INSERT OR IGNORE INTO stale_prompts VALUES (?, ?)"
        db.conn.execute(sql, [row["rater_id"], found])


def mark_stale(db: Database, table: str, event_id: str) -> None:
    """Note that comparisons are to be derived again from what a rater said about a prompt."""
    db.conn.execute(
        f"INSERT OR IGNORE INTO stale_prompts SELECT rater_id, prompt_hash FROM {table}"
        " WHERE id = ? AND prompt_hash IS NOT NULL",
        [event_id],
    )


def _path_hash(db: Database, sql: str, about: str) -> str | None:
    found = db.conn.execute(sql, [about]).fetchone()
    if found is None:
        raise UnknownRecordError(f"there is nothing with the id {about!r}; check the id.")
    return None if found[0] is None else str(found[0])


def _check_same(known: Row, content: Mapping[str, Any], key: str) -> None:
    for name, value in content.items():
        if name not in _NOT_CONTENT and known[name] != encode(value):
            raise ConflictError(
                f"idempotency key {key!r} was used before with another {name}; "
                "use a new key for a new event."
            )


def _current(db: Database, table: str, about: Mapping[str, Any]) -> Row | None:
    """The rater's standing event about a thing; a NULL is about nothing, so it matches none."""
    where = " AND ".join(f"{name} = :{name}" for name in about)
    return first(db, f"SELECT * FROM {table} WHERE {where} AND superseded_at IS NULL", about)


def _require_response(db: Database, message_id: str) -> Row:
    message = require(db, "messages", message_id)
    if message["role"] != "assistant":
        raise InvalidFeedbackError(
            f"message {message_id!r} is from the {message['role']}; only responses are judged."
        )
    refuse_gold_question(db, message)
    return message


def _labels(db: Database, candidates_id: str) -> list[str]:
    require(db, "candidates", candidates_id)
    sql = "SELECT label FROM messages WHERE candidates_id = ? ORDER BY label"
    return [row["label"] for row in rows(db, sql, [candidates_id])]


def check_labels(db: Database, candidates_id: str, groups: Sequence[Sequence[str]]) -> None:
    """Refuse groups that do not name each of the candidates exactly once."""
    labels = _labels(db, candidates_id)
    named = sorted(label for group in groups for label in group)
    if named != labels or not all(groups):
        raise InvalidFeedbackError(
            f"the order {encode(groups)} does not name each of {', '.join(labels)} once; "
            "send every label exactly once, best first."
        )


def checked_prompt(prompt: Sequence[PromptMessage]) -> tuple[PromptMessage, ...]:
    """A prompt with nothing but its roles and texts, at least one."""
    if not prompt:
        raise InvalidFeedbackError("a demonstration needs a prompt; give at least one message.")
    return tuple(PromptMessage(role=item["role"], content=item["content"]) for item in prompt)
