"""What has happened since a number of the feed, for whoever follows the store from outside.

Invariants: of a vote that was erased, or whose words nobody may use, a row says nothing but its
number; that holds when it is read, not when it was given. No text is read unless it is asked for.
Two processes never deliver to one webhook at the same time, unless one takes longer than it may.
"""

import json
from collections.abc import Collection
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlite_utils import Database

from feedback_store.feedback.events import CONSENTED, EVENT_TABLES, owners_agree
from feedback_store.records import Cycle, RaisedAlarm, Serving
from feedback_store.sqlite.database import FollowedFile, SQLiteFile
from feedback_store.sqlite.feed import said_by
from feedback_store.sqlite.ids import iso_utc
from feedback_store.sqlite.rows import Row, decode, first, rows, scalar, to_record

_NEXT = """SELECT number, kind, about, at FROM feed
    WHERE number > ? AND kind IN (SELECT value FROM json_each(?)) ORDER BY number LIMIT ?"""
_SIDES = "(SELECT prompt_message_id FROM candidates WHERE id = {0}.candidates_id)"
_JUDGED = {
    table: (_SIDES if table in ("choices", "rankings") else "{0}.message_id").format(table)
    for table in EVENT_TABLES.values()
}
_THERE = """NOT EXISTS (SELECT 1 FROM messages JOIN conversations
    ON conversations.id = conversation_id WHERE messages.id = {0} AND deleted_at IS NOT NULL)"""
_VOTE = """SELECT {0}.* FROM {0} JOIN raters ON raters.id = {0}.rater_id
    WHERE {0}.id = ? AND {1} AND {2} AND {3}"""
_GOLD = "SELECT gold IS NOT NULL FROM candidates WHERE id = ?"
_REPLIES = "SELECT id, label, adapter, content FROM messages WHERE {0} ORDER BY label"
_TOLD = ("id", "rater_id", "created_at", "message_id", "candidates_id", "retry_of", "tags", "order")
_WORDS = ("comment", "content", "prompt")
_BEGIN = """INSERT INTO webhooks (id, taken, next_try_at)
    VALUES (?, coalesce((SELECT max(number) FROM feed), 0), '') ON CONFLICT DO NOTHING"""


@dataclass(frozen=True, slots=True)
class Happening:
    """One row of the feed; `facts` is None of a vote that must not be told, or is gone."""

    number: int
    kind: str
    at: str
    facts: dict[str, Any] | None


class Feed:
    """The feed of a store."""

    _file: SQLiteFile

    def happenings(
        self, after: int, kinds: Collection[str], *, limit: int = 100, texts: bool = False
    ) -> list[Happening]:
        """What has happened after a number of the feed, oldest first; one snapshot.

        Args:
            after: The number of the last one that is known.
            kinds: Of `HAPPENINGS`.
            limit: How many at most.
            texts: Whether prompts, replies, comments and rewritten answers are wanted, and why a
                cycle failed, which may quote them.
        """
        with self._file.read() as db:
            found = rows(db, _NEXT, [after, json.dumps(sorted(kinds)), limit])
            return [
                Happening(row["number"], row["kind"], row["at"], _facts(db, row, texts=texts))
                for row in found
            ]

    def last_happening(self) -> int:
        """The number of the newest row of the feed; 0 if nothing has happened."""
        with self._file.read() as db:
            return int(scalar(db, "SELECT coalesce(max(number), 0) FROM feed"))

    def vote_counts(self) -> dict[tuple[str, str], int]:
        """How many votes were ever given, by kind and what they say; an erasure takes none away."""
        with self._file.read() as db:
            found = rows(db, "SELECT kind, said, votes FROM vote_counts")
        return {(row["kind"], row["said"]): row["votes"] for row in found}

    def take_webhook(self, webhook: str, *, lease: timedelta) -> tuple[int, int] | None:
        """Take a webhook's turn for some time; a new webhook begins at the end of the feed.

        Args:
            webhook: Its id.
            lease: How long nobody else gets it; `give_webhook` ends that.

        Returns:
            The last number that it has taken and how often the next was tried in vain; None if its
            next try has not come, or another process delivers to it.
        """
        now = datetime.now(UTC)
        with self._file.write() as db:
            db.conn.execute(_BEGIN, [webhook])
            row = first(db, "SELECT * FROM webhooks WHERE id = ?", [webhook])
            assert row is not None, webhook
            if row["next_try_at"] > iso_utc(now):
                return None
            sql = "UPDATE webhooks SET next_try_at = ? WHERE id = ?"
            db.conn.execute(sql, [iso_utc(now + lease), webhook])
            return row["taken"], row["tries"]

    def give_webhook(self, webhook: str, taken: int, *, tries: int, wait: timedelta) -> None:
        """Note how far a webhook is, and when its next try is."""
        later = iso_utc(datetime.now(UTC) + wait)
        sql = "UPDATE webhooks SET taken = ?, tries = ?, next_try_at = ? WHERE id = ?"
        with self._file.write() as db:
            db.conn.execute(sql, [taken, tries, later, webhook])


class FollowedFeed(Feed):
    """The feed of a store that another process writes; it only reads, and holds no lock."""

    def __init__(self, path: Path) -> None:
        self._file = FollowedFile(path)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _facts(db: Database, row: Row, *, texts: bool) -> dict[str, Any] | None:
    kind, about = row["kind"], row["about"]
    if kind in EVENT_TABLES:
        return _vote(db, kind, about, texts=texts)
    if kind == "alarm":
        found = first(db, "SELECT * FROM alarms WHERE id = ?", [about])
        return None if found is None else _alarm_facts(to_record(RaisedAlarm, found))
    if kind == "cycle":
        found = first(db, "SELECT * FROM cycles WHERE id = ?", [about])
        return None if found is None else _cycle_facts(to_record(Cycle, found), texts=texts)
    found = first(db, "SELECT * FROM serving WHERE id = ?", [about])
    return None if found is None else asdict(to_record(Serving, found))


def _alarm_facts(alarm: RaisedAlarm) -> dict[str, Any]:
    facts = asdict(alarm)
    del facts["tries"]
    return facts


def _cycle_facts(cycle: Cycle, *, texts: bool) -> dict[str, Any]:
    names = ("id", "state", "stage", "adapter", "reasons", "metrics", "started_at", "finished_at")
    facts = {name: getattr(cycle, name) for name in names}
    if cycle.state == "failed" and not texts:  # the text of any error, which may quote people
        facts["reasons"] = ()
    return facts


def _vote(db: Database, kind: str, about: str, *, texts: bool) -> dict[str, Any] | None:
    """A vote, if it still is there and everybody whose words it is about agrees."""
    table = EVENT_TABLES[kind]
    judged = _JUDGED[table]
    sql = _VOTE.format(table, CONSENTED, owners_agree(judged), _THERE.format(judged))
    found = first(db, sql, [about])
    if found is None:
        return None
    vote = decode(found)
    facts = {name: vote[name] for name in _TOLD if vote.get(name) is not None}
    facts |= {"said": said_by(kind, found)}
    by_side = "candidates_id" in facts
    if by_side and scalar(db, _GOLD, [facts["candidates_id"]]):
        facts["gold"] = True  # an answer to a test, which trains nothing
    column = "candidates_id" if by_side else "id"
    value = facts["candidates_id"] if by_side else facts.get("message_id")
    replies = rows(db, _REPLIES.format(f"{column} = ?"), [value])
    told = ("id", "label", "adapter", "content") if texts else ("id", "label", "adapter")
    facts["replies"] = [{name: reply[name] for name in told} for reply in replies]
    if texts:
        facts |= {name: vote[name] for name in _WORDS if vote.get(name)}
        facts["asked"] = _asked(db, replies)
    return facts


def _asked(db: Database, replies: list[Row]) -> str | None:
    """The message that the replies answer."""
    if not replies:
        return None
    sql = "SELECT content FROM messages WHERE id = (SELECT parent_id FROM messages WHERE id = ?)"
    found = first(db, sql, [replies[0]["id"]])
    return None if found is None else str(found["content"])
