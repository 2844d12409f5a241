"""What raters say, as events: each is stored exactly once.

A client that may send an event twice gives it a key, and the second request finds the row of the
first. Without a key, an event that repeats the standing one changes nothing. A rater's later event
about the same thing supersedes the earlier one, which stays as history. The reasons of a choice are
written into its row: a new row would be another choice to blind trials, receipts and clocks. The
caller checks whether the rater may judge the thing.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlite_utils import Database

from feedback_store.errors import ConflictError, InvalidFeedbackError, UnknownRecordError, say
from feedback_store.feedback.messages import refuse_gold_question
from feedback_store.records import (
    CHOICES,
    Choice,
    Ranking,
    Thumb,
)
from feedback_store.splits import prompt_hash, split_of, text_hash
from feedback_store.sqlite.database import SQLiteFile
from feedback_store.sqlite.feed import note_vote
from feedback_store.sqlite.ids import new_id, utc_now
from feedback_store.sqlite.numbers import take_numbers
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
_KINDS = {table: kind for kind, table in EVENT_TABLES.items()}
STORES_OWN = {"number", "held_out"}  # columns that are nobody's business outside the store
MAX_KEY_LENGTH = 200

# A person's words are trained on only with their consent; programs and operators need none.
CONSENTED = "(raters.kind <> 'person' OR raters.consent IS NOT NULL)"
# Where people are screened, those who have not passed teach nothing (`raters/screening.py`). Who is
# in an imported data set can take no test: whoever imports it has chosen them.
SCREENED = """(raters.kind <> 'person' OR raters.passed = 1 OR raters.consent LIKE 'dataset:%'
    OR NOT EXISTS (SELECT 1 FROM bookkeeping WHERE name = 'screening' AND value = 1))"""
_MAY_TEACH = f"""{CONSENTED} AND raters.quarantined_at IS NULL AND raters.reliability > 0
    AND {SCREENED}"""
_SPEAKS = _MAY_TEACH.replace("raters.", "speaker.")
# SQL: some person, or the operator, has said something that may be learnt from.
PEOPLE_SPOKE = f"""EXISTS (SELECT 1 FROM raters AS speaker
    WHERE speaker.kind IN ('person', 'operator') AND {_SPEAKS} AND (
        EXISTS (SELECT 1 FROM comparisons WHERE rater_id = speaker.id AND withdrawn_at IS NULL)
        OR EXISTS (SELECT 1 FROM unpaired WHERE rater_id = speaker.id)
        OR EXISTS (SELECT 1 FROM demonstrations
            WHERE rater_id = speaker.id AND superseded_at IS NULL)))"""
# SQL for the kinds of raters that are learnt from: people; the programs that the operator lets
# train beside them (`raters/programs.py`); and where no person spoke, the simulated visitors that
# stand in for them. It depends on no row, so SQLite looks it up once in a statement.
KINDS_HEARD = f"""(SELECT 'person' AS kind UNION ALL SELECT 'operator'
    UNION ALL SELECT allowed.value FROM bookkeeping, json_each(bookkeeping.value, '$.kinds')
        AS allowed WHERE bookkeeping.name = 'programs'
    UNION ALL SELECT 'simulated' WHERE NOT {PEOPLE_SPOKE})"""
# Nothing is learnt from a rater of reliability 0 either; their receipts say so.
HEARD = f"{_MAY_TEACH} AND raters.kind IN {KINDS_HEARD}"

# SQL for ids: what the operator has left out (`leaving_out`). A conversation takes the votes with
# it that are about something in it, those that are still to come, too.
LEFT_OUT_CONVERSATIONS = "(SELECT id FROM left_out WHERE kind = 'conversation')"
_IN_THEM = """SELECT {0}.id FROM left_out CROSS JOIN messages ON conversation_id = left_out.id
    CROSS JOIN {0} ON {0}.{1} = messages.{2} WHERE kind = 'conversation'"""
LEFT_OUT_VOTES = f"""(SELECT id FROM left_out WHERE kind = 'vote'
    UNION ALL {_IN_THEM.format("thumbs", "message_id", "id")}
    UNION ALL {_IN_THEM.format("choices", "candidates_id", "candidates_id")}
    UNION ALL {_IN_THEM.format("rankings", "candidates_id", "candidates_id")}
    UNION ALL {_IN_THEM.format("demonstrations", "message_id", "id")}
    UNION ALL {_IN_THEM.format("retries", "message_id", "id")})"""


def owners_agree(messages: str) -> str:
    """SQL: the owners of the conversations with these messages consent to learning from them.

    Args:
        messages: SQL for the ids of the messages, with commas. The table `raters` of the query is
            the rater who judged them.
    """
    return f"""NOT EXISTS (SELECT 1 FROM messages AS theirs
        JOIN conversations ON conversations.id = theirs.conversation_id
        JOIN raters AS owner ON owner.id = conversations.rater_id
        WHERE theirs.id IN ({messages}) AND owner.id <> raters.id
        AND NOT {CONSENTED.replace("raters.", "owner.")})"""


_PROMPT_OF_MESSAGE = """SELECT parent.path_hash FROM messages
    LEFT JOIN messages AS parent ON parent.id = messages.parent_id WHERE messages.id = ?"""
# An answer to a gold question has no prompt, so that no comparison is derived from it.
_PROMPT_OF_CANDIDATES = """SELECT CASE WHEN gold IS NULL THEN path_hash END FROM candidates
    JOIN messages ON messages.id = prompt_message_id WHERE candidates.id = ?"""

# What a vote says, whatever is given with it: the reasons, the strength.
_OPINIONS = ("value", "choice", "order", "content", "than_before")
_LEAVE_OUT_TOO = """INSERT INTO left_out (kind, id, "by", reason, at)
    SELECT kind, :new, "by", reason, at FROM left_out WHERE kind = 'vote' AND id = :old"""
# Not part of the opinion: a request that is sent again may have measured another time.
_NOT_CONTENT = {"seconds"}


class Events:
    """The votes of a store."""

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

        Without a key, a thumb that says no more than the standing one changes nothing.
        """
        one_of(value, (1, -1, 0), say("a thumb"))
        about = {"message_id": message_id, "rater_id": rater_id}
        content = {"value": int(value), "tags": tuple(tags or ()), "comment": comment or ""}
        given = {"value"} | ({"tags"} if tags is not None else set())
        given |= {"comment"} if comment is not None else set()

        def work(db: Database) -> Row:
            require_response(db, message_id)
            return record_event(db, "thumbs", about, content, idempotency_key, given=given)

        return to_record(Thumb, self._file.run(work))

    def add_choice(
        self,
        candidates_id: str,
        rater_id: str,
        choice: str,
        *,
        strength: float | None = None,
        seconds: float | None = None,
        tags: Sequence[str] | None = None,
        comment: str | None = None,
        idempotency_key: str | None = None,
    ) -> Choice:
        """Record which of two candidates is better; `seconds` is the time taken to decide.

        Sent again, a choice takes the reasons that are given then: they are no part of the opinion.
        """
        one_of(choice, CHOICES, say("a choice"))
        not_negative(strength, say("the strength of a choice"))
        not_negative(seconds, say("the seconds of a choice"))
        about = {"candidates_id": candidates_id, "rater_id": rater_id}
        content = {"choice": choice, "strength": strength, "seconds": seconds}
        given = {"choice"} | ({"strength"} if strength is not None else set())

        def work(db: Database) -> Row:
            """Check the candidates, and record the choice."""
            if len(labels := _labels(db, candidates_id)) != 2:
                raise InvalidFeedbackError(
                    say(
                        "candidates {id} are {count} replies, but a choice is between two; send a "
                        "ranking.",
                        id=repr(candidates_id),
                        count=len(labels),
                    )
                )
            row = record_event(db, "choices", about, content, idempotency_key, given=given)
            return _with_reasons(db, row, tags, comment)

        return to_record(Choice, self._file.run(work))

    def explain_choice(
        self,
        candidates_id: str,
        rater_id: str,
        *,
        tags: Sequence[str] | None = None,
        comment: str | None = None,
    ) -> Choice:
        """Give the rater's standing choice reasons, or others; None leaves what is there.

        Raises:
            UnknownRecordError: No choice of theirs stands.
        """
        about = {"candidates_id": candidates_id, "rater_id": rater_id}

        def work(db: Database) -> Row:
            row = current(db, "choices", about)
            if row is None:
                raise UnknownRecordError(
                    say("no choice of yours stands on {id}.", id=repr(candidates_id))
                )
            return _with_reasons(db, row, tags, comment)

        return to_record(Choice, self._file.run(work))

    def choice_of(self, candidates_id: str, rater_id: str) -> Choice | None:
        """The rater's standing choice between candidates."""
        with self._file.read() as db:
            about = {"candidates_id": candidates_id, "rater_id": rater_id}
            row = current(db, "choices", about)
        return None if row is None else to_record(Choice, row)

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
            return record_event(db, "rankings", about, {"order": groups}, idempotency_key)

        return to_record(Ranking, self._file.run(work))

    def thumbs(self) -> list[Thumb]:
        """All thumbs that stand, oldest first, without those taken back."""
        with self._file.read() as db:
            return [to_record(Thumb, row) for row in standing(db, "thumbs", "AND value <> 0")]

    def choices(self) -> list[Choice]:
        """All choices that stand, oldest first."""
        with self._file.read() as db:
            return [to_record(Choice, row) for row in standing(db, "choices")]


def standing(
    db: Database, table: str, condition: str = "", bound: Mapping[str, Any] | None = None
) -> list[Row]:
    """The events of a table that are not superseded, oldest first."""
    sql = (
        f"SELECT {table}.* FROM {table} JOIN raters ON raters.id = {table}.rater_id"
        f" WHERE superseded_at IS NULL {condition} ORDER BY {table}.created_at, {table}.rowid"
    )
    return rows(db, sql, bound or {})


def record_event(
    db: Database,
    table: str,
    about: Mapping[str, Any],
    content: Mapping[str, Any],
    key: str | None,
    *,
    given: Collection[str] | None = None,
) -> Row:
    """Insert an event and supersede the rater's earlier one about the same thing, once per key.

    `about` says who judged what, `content` how, and `given` what of the content the rater named, if
    not all. Without a key, an event that says no more than the standing one is that one. If the
    operator has left out the earlier one, one of the same opinion is left out, too.
    """
    require(db, "raters", about["rater_id"])
    previous = current(db, table, about)
    if key is None:
        if previous and all(previous[name] == encode(content[name]) for name in given or content):
            return previous
        key = new_id()
    elif (known := _with_key(db, table, {**about, **content}, key)) is not None:
        return known
    row = {"id": new_id(), **about, **content, "idempotency_key": key, "created_at": utc_now()}
    if previous is not None:
        sql = f"UPDATE {table} SET superseded_at = ? WHERE id = ?"
        db.execute(sql, [row["created_at"], previous["id"]])
        said = [name for name in _OPINIONS if name in content]
        if all(previous[name] == encode(content[name]) for name in said):
            db.execute(_LEAVE_OUT_TOO, {"new": row["id"], "old": previous["id"]})
    store_event(db, table, row)
    note_vote(db, _KINDS[table], row)
    return row


def _with_reasons(db: Database, row: Row, tags: Sequence[str] | None, comment: str | None) -> Row:
    """The row of a choice with the reasons that are given, which are written if they are new."""
    given = {} if tags is None else {"tags": encode(tuple(tags))}
    given |= {} if comment is None else {"comment": comment}
    row = {"tags": "[]", "comment": ""} | row  # a row that was just inserted has neither
    if any(row[name] != value for name, value in given.items()):
        sets = ", ".join(f"{name} = :{name}" for name in given)
        db.conn.execute(f"UPDATE choices SET {sets} WHERE id = :id", given | {"id": row["id"]})
    return row | given


def _with_key(db: Database, table: str, content: Mapping[str, Any], key: str) -> Row | None:
    """The event that the rater sent before with this key, which has to be the same."""
    if not 0 < len(key) <= MAX_KEY_LENGTH:
        raise InvalidFeedbackError(
            say(
                "an idempotency key of {count} characters; use 1 to {most}, as a UUID.",
                count=len(key),
                most=MAX_KEY_LENGTH,
            )
        )
    sql = f"SELECT * FROM {table} WHERE rater_id = ? AND idempotency_key = ?"
    known = first(db, sql, [content["rater_id"], key])
    if known is None:
        return None
    for name, value in content.items():
        if name not in _NOT_CONTENT and known[name] != encode(value):
            raise ConflictError(
                say(
                    "idempotency key {key} was used before with another {name}; use a new key for "
                    "a new event.",
                    key=repr(key),
                    name=name,
                )
            )
    return known


def store_event(db: Database, table: str, row: Row) -> None:
    """Insert an event with the hashes of what it is about, and mark its prompt as stale."""
    if table == "demonstrations":
        found = prompt_hash(row["prompt"])
        [number] = take_numbers(db, table, 1)
        held_out = split_of(row["prompt"]) == "held_out"
        row = row | {"text_hash": text_hash(row["content"])}
        row |= {"number": number, "held_out": held_out}
    elif "message_id" in row:
        found = _path_hash(db, _PROMPT_OF_MESSAGE, row["message_id"])
    else:
        found = _path_hash(db, _PROMPT_OF_CANDIDATES, row["candidates_id"])
    insert(db, table, row | {"prompt_hash": found})
    if found is not None:
        sql = "INSERT OR IGNORE INTO stale_prompts VALUES (?, ?)"
        db.conn.execute(sql, [row["rater_id"], found])


def mark_stale(db: Database, table: str, event_id: str) -> None:
    """Have the comparisons of an event's rater and prompt derived again."""
    db.conn.execute(
        f"INSERT OR IGNORE INTO stale_prompts SELECT rater_id, prompt_hash FROM {table}"
        " WHERE id = ? AND prompt_hash IS NOT NULL",
        [event_id],
    )


def _path_hash(db: Database, sql: str, about: str) -> str | None:
    found = db.conn.execute(sql, [about]).fetchone()
    if found is None:
        raise UnknownRecordError(
            say("there is nothing with the id {id}; check the id.", id=repr(about))
        )
    return None if found[0] is None else str(found[0])


def current(db: Database, table: str, about: Mapping[str, Any]) -> Row | None:
    """The rater's standing event about a thing; a NULL in `about` matches nothing."""
    where = " AND ".join(f"{name} = :{name}" for name in about)
    return first(db, f"SELECT * FROM {table} WHERE {where} AND superseded_at IS NULL", about)


def require_response(db: Database, message_id: str) -> None:
    """Refuse a message that is no response, or that belongs to a gold question."""
    message = require(db, "messages", message_id)
    if message["role"] != "assistant":
        raise InvalidFeedbackError(
            say(
                "message {id} is from the {role}; only replies are judged.",
                id=repr(message_id),
                role=message["role"],
            )
        )
    refuse_gold_question(db, message)


def _labels(db: Database, candidates_id: str) -> list[str]:
    require(db, "candidates", candidates_id)
    sql = "SELECT label FROM messages WHERE candidates_id = ? ORDER BY label"
    return [row["label"] for row in rows(db, sql, [candidates_id])]


def check_labels(db: Database, candidates_id: str, groups: Sequence[Sequence[str]]) -> None:
    """Refuse groups that do not name each of the candidates exactly once.

    Raises:
        InvalidFeedbackError: They do not.
    """
    labels = _labels(db, candidates_id)
    named = sorted(label for group in groups for label in group)
    if named != labels or not all(groups):
        raise InvalidFeedbackError(
            say(
                "the order {order} does not name each of {labels} once; send every label exactly "
                "once, best first.",
                order=encode(groups),
                labels=", ".join(labels),
            )
        )
