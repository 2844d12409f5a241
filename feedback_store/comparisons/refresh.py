"""Comparisons kept in step with the events: fetch what has changed, derive, write the difference.

Every event marks its rater and prompt as stale, in its own transaction. `refresh` derives the stale
ones again, a batch at a time, so that chats can write in between. A full rebuild marks everything
as stale: it is the same derivation and gives the same result. What the operator has left out says
nothing. No text is read.
"""

import gc
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from json.encoder import encode_basestring_ascii as quoted
from typing import Any

from sqlite_utils import Database

from feedback_store.comparisons.pairing import (
    DraftComparison,
    DraftUnpaired,
    JudgedReply,
    Opinion,
    OpinionSource,
    derive,
)
from feedback_store.feedback.events import EVENT_TABLES, LEFT_OUT_VOTES
from feedback_store.splits import split
from feedback_store.sqlite.database import SQLiteFile
from feedback_store.sqlite.ids import utc_now
from feedback_store.sqlite.numbers import take_numbers
from feedback_store.sqlite.rows import scalar

_DERIVATION = 4  # raise it when pairing.py changes, so that stores derive everything again
BATCH = 500  # groups of a rater and a prompt at a time
BATCHES = 4  # in one write transaction: about a tenth of a second
Group = tuple[str, str]  # (rater id, hash of the prompt)
Values = tuple[Any, ...]

_STALE = f"""FROM stale_prompts AS stale CROSS JOIN {{table}} AS event
    ON event.rater_id = stale.rater_id AND event.prompt_hash = stale.prompt_hash
    AND event.superseded_at IS NULL AND event.id NOT IN {LEFT_OUT_VOTES}"""
_UP_TO = "WHERE (stale.rater_id, stale.prompt_hash) <= (:rater, :prompt)"
_REPLY = "{0}.id, {0}.text_hash, {0}.parent_id, {0}.held_out"

_CHOICES = f"""SELECT stale.rater_id, stale.prompt_hash, event.id, event.choice, event.created_at,
        event.strength, {_REPLY.format("a")}, {_REPLY.format("b")}
    {_STALE.format(table="choices")}
    CROSS JOIN messages AS a INDEXED BY messages_shown
        ON a.candidates_id = event.candidates_id AND a.label = 'a'
    CROSS JOIN messages AS b INDEXED BY messages_shown
        ON b.candidates_id = event.candidates_id AND b.label = 'b'
    {_UP_TO}"""
_RANKINGS = f"""SELECT stale.rater_id, stale.prompt_hash, event.id, event."order",
        event.created_at, shown.label, {_REPLY.format("shown")}
    {_STALE.format(table="rankings")}
    CROSS JOIN messages AS shown INDEXED BY messages_shown
        ON shown.candidates_id = event.candidates_id
    {_UP_TO}"""  # the index gives the labels of one event together and in order
_EDITS = f"""SELECT stale.rater_id, stale.prompt_hash, event.id, event.created_at,
        event.text_hash, {_REPLY.format("old")}
    {_STALE.format(table="demonstrations")}
    CROSS JOIN messages AS old ON old.id = event.message_id
    {_UP_TO}"""
_THUMBS = f"""SELECT stale.rater_id, stale.prompt_hash, event.id, event.value, event.created_at,
        {_REPLY.format("reply")}
    {_STALE.format(table="thumbs")}
    CROSS JOIN messages AS reply ON reply.id = event.message_id
    {_UP_TO} AND event.value <> 0"""
# Whether the rater accepted a retry, the row `event`: the new response was liked, by a thumb that
# counts, or the conversation went on from it; and it did not go on from the old one.
RETRY_ACCEPTED = f"""(
        EXISTS (SELECT 1 FROM messages AS next WHERE next.parent_id = event.message_id)
        OR EXISTS (SELECT 1 FROM thumbs WHERE thumbs.message_id = event.message_id AND value = 1
                   AND thumbs.rater_id = event.rater_id AND superseded_at IS NULL
                   AND thumbs.id NOT IN {LEFT_OUT_VOTES}))
    AND NOT EXISTS (SELECT 1 FROM messages AS next WHERE next.parent_id = event.retry_of)"""
_RETRIES = f"""SELECT stale.rater_id, stale.prompt_hash, event.id, event.created_at,
        {_REPLY.format("new")}, {_REPLY.format("old")}
    {_STALE.format(table="retries")}
    CROSS JOIN messages AS new ON new.id = event.message_id
    CROSS JOIN messages AS old ON old.id = event.retry_of
    {_UP_TO} AND event.than_before IS NULL AND {RETRY_ACCEPTED}"""
_THAN_BEFORE = f"""SELECT stale.rater_id, stale.prompt_hash, event.id, event.created_at,
        event.than_before, {_REPLY.format("new")}, {_REPLY.format("old")}
    {_STALE.format(table="retries")}
    CROSS JOIN messages AS new ON new.id = event.message_id
    CROSS JOIN messages AS old ON old.id = event.retry_of
    {_UP_TO} AND event.than_before IS NOT NULL"""
_STORED = f"""SELECT {{columns}} FROM stale_prompts AS stale CROSS JOIN {{table}} AS derived
    ON derived.rater_id = stale.rater_id AND derived.prompt_hash = stale.prompt_hash {_UP_TO}"""
_PAIR = (
    *("id", "rater_id", "prompt_hash", "prompt_id", "a", "b", "label", "source", "weight"),
    *("strength", "split", "event_ids", "created_at", "withdrawn_at"),
)
_SINGLE = (
    *("id", "rater_id", "prompt_hash", "prompt_id", "message_id", "good", "source", "weight"),
    *("split", "event_id", "created_at"),
)
_BESIDE = {"better": (0, 1), "same": (0, 0), "worse": (1, 0)}
_PLACES = {"a": (0, 1), "b": (1, 0), "tie": (0, 0), "both_bad": (-1, -1)}


def refresh(file: SQLiteFile) -> int:
    """Derive what is stale, and return how many comparisons are new."""
    with file.read() as db:
        sql = "SELECT max(value) FROM bookkeeping WHERE name = 'derivation'"
        current = scalar(db, sql) == _DERIVATION
    if not current:
        with file.write() as db:
            mark_all_stale(db)
    new = 0
    while _any_stale(file):
        with file.write() as db, _no_garbage():
            new += sum(_refresh_batch(db) for _ in range(BATCHES))
    return new


def mark_all_stale(db: Database) -> None:
    """Mark everything, so that the next refresh derives all of it again."""
    for table in EVENT_TABLES.values():  # in the order of an index: three times as fast
        _mark_stale(db, f"{table} WHERE superseded_at IS NULL AND prompt_hash IS NOT NULL")
    for table in ("comparisons", "unpaired"):  # no event may imply some of these any more
        _mark_stale(db, table)
    db.conn.execute(
        "INSERT INTO bookkeeping VALUES ('derivation', ?)"
        " ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        [_DERIVATION],
    )


def _mark_stale(db: Database, where: str) -> None:
    pairs = f"SELECT DISTINCT rater_id, prompt_hash FROM {where}"
    db.conn.execute(f"INSERT OR IGNORE INTO stale_prompts {pairs}")


def opinions_of(db: Database, up_to: Group) -> Iterator[tuple[Group, Opinion]]:
    """The opinions that stand on stale prompts, up to a group, in any order."""
    bound = {"rater": up_to[0], "prompt": up_to[1]}
    execute = db.conn.execute
    for rater, prompt, event, choice, at, strength, *replies in execute(_CHOICES, bound):
        a, b = JudgedReply(*replies[:4]), JudgedReply(*replies[4:])
        source: OpinionSource = "both_bad" if choice == "both_bad" else "choice"
        yield (rater, prompt), Opinion(event, source, at, (a, b), _PLACES[choice], strength)
    for _, shown in groupby(execute(_RANKINGS, bound), key=lambda row: row[2]):
        yield _ranking(list(shown))
    for rater, prompt, event, at, text, *old in execute(_EDITS, bound):
        replies = (JudgedReply(event, text, *old[2:]), JudgedReply(*old))
        yield (rater, prompt), Opinion(event, "edit", at, replies, (0, 1))
    for rater, prompt, event, value, at, *reply in execute(_THUMBS, bound):
        yield (rater, prompt), Opinion(event, "thumb", at, (JudgedReply(*reply),), (value,))
    for rater, prompt, event, at, *pair in execute(_RETRIES, bound):
        replies = (JudgedReply(*pair[:4]), JudgedReply(*pair[4:]))
        yield (rater, prompt), Opinion(event, "retry", at, replies, (0, 1))
    for rater, prompt, event, at, said, *pair in execute(_THAN_BEFORE, bound):
        replies = (JudgedReply(*pair[:4]), JudgedReply(*pair[4:]))
        yield (rater, prompt), Opinion(event, "than_before", at, replies, _BESIDE[said])


def _ranking(rows: Sequence[tuple[Any, ...]]) -> tuple[Group, Opinion]:
    rater, prompt, event, order, at = rows[0][:5]
    place = {label: i for i, group in enumerate(json.loads(order)) for label in group}
    replies = tuple(JudgedReply(*row[6:]) for row in rows)
    places = tuple(place[row[5]] for row in rows)
    return (rater, prompt), Opinion(event, "ranking", at, replies, places)


@contextmanager
def _no_garbage() -> Iterator[None]:
    """Do not look for garbage: a batch makes no cycles, and to look takes a fifth of its time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _any_stale(file: SQLiteFile) -> bool:
    with file.read() as db:
        return bool(scalar(db, "SELECT EXISTS (SELECT 1 FROM stale_prompts)"))


def _refresh_batch(db: Database) -> int:
    sql = "SELECT rater_id, prompt_hash FROM stale_prompts ORDER BY 1, 2 LIMIT ?"
    groups: list[Group] = db.conn.execute(sql, [BATCH]).fetchall()
    if not groups:
        return 0
    opinions: dict[Group, list[Opinion]] = defaultdict(list)
    for group, opinion in opinions_of(db, groups[-1]):
        opinions[group].append(opinion)
    derived = {group: derive(*group, opinions[group]) for group in groups if group in opinions}
    held_out = _held_out_raters(db)
    pairs = _rows(_pair_row(g, pair, held_out) for g, d in derived.items() for pair in d.pairs)
    singles = _rows(_single_row(g, one, held_out) for g, d in derived.items() for one in d.singles)
    new = _replace(db, "comparisons", _PAIR, pairs, up_to=groups[-1])
    _replace(db, "unpaired", _SINGLE, singles, up_to=groups[-1])
    db.conn.execute("DELETE FROM stale_prompts WHERE (rater_id, prompt_hash) <= (?, ?)", groups[-1])
    return new


def _replace(
    db: Database, table: str, columns: tuple[str, ...], implied: dict[str, Values], *, up_to: Group
) -> int:
    """Make the rows of the stale groups what the opinions imply; return how many are new."""
    named = ", ".join(columns)
    bound = {"rater": up_to[0], "prompt": up_to[1]}
    sql = _STORED.format(columns=", ".join(f"derived.{name}" for name in columns), table=table)
    stored = _rows(db.conn.execute(sql, bound))
    if stored == implied:
        return 0
    _remove(db, table, [row for name, row in stored.items() if name not in implied])
    new = sorted(row for name, row in implied.items() if name not in stored)
    numbers = _numbers(db, table, new)
    db.conn.executemany(  # an upsert would take three times as long
        f"INSERT INTO {table} ({named}, number) VALUES ({', '.join('?' * len(columns))}, ?)",
        [(*row, numbers[_opinion(row)]) for row in new],
    )
    # With a new row the whole opinion is new: its other rows weigh less now.
    joined = ((numbers.get(_opinion(row)), row[0]) for row in implied.values() if row[0] in stored)
    db.conn.executemany(
        f"UPDATE {table} SET number = ? WHERE id = ?", [pair for pair in joined if pair[0]]
    )
    changed = [row for name, row in implied.items() if stored.get(name, row) != row]
    sets = ", ".join(f"{name} = ?" for name in columns[1:])
    db.conn.executemany(
        f"UPDATE {table} SET {sets} WHERE id = ?", [(*row[1:], row[0]) for row in changed]
    )
    return len(new)


def _numbers(db: Database, table: str, new: Iterable[Values]) -> dict[tuple[Any, ...], int]:
    """The next number for each opinion that has a new row."""
    opinions = dict.fromkeys(_opinion(row) for row in new)
    return dict(zip(opinions, take_numbers(db, table, len(opinions)), strict=True))


def _opinion(row: Values) -> tuple[Any, ...]:
    """The same for the rows of one opinion: the pairs of a ranking, a rater's thumbs on a prompt.

    `row` has the values of `_PAIR` or of `_SINGLE`.
    """
    if len(row) == len(_SINGLE):
        return (*row[1:3], row[_SINGLE.index("event_id")])
    source = row[_PAIR.index("source")]
    one = {"ranking": row[_PAIR.index("event_ids")], "thumbs": source}.get(source, row[0])
    return (*row[1:3], one)


def _remove(db: Database, table: str, gone: Sequence[Values]) -> None:
    """Delete what no opinion implies any more; only mark what a cycle has used."""
    used: set[str] = set()
    if table == "comparisons":
        sql = "SELECT 1 FROM cycle_comparisons WHERE comparison_id = ?"
        used = {row[0] for row in gone if db.conn.execute(sql, [row[0]]).fetchone()}
        db.conn.executemany(
            "UPDATE comparisons SET withdrawn_at = ? WHERE id = ? AND withdrawn_at IS NULL",
            [(utc_now(), name) for name in used],
        )
    names = [(row[0],) for row in gone if row[0] not in used]
    db.conn.executemany(f"DELETE FROM {table} WHERE id = ?", names)


def _rows(values: Iterable[Values]) -> dict[str, Values]:
    """Rows by their id, which is their first value."""
    return {row[0]: row for row in values}


def _held_out_raters(db: Database) -> set[str]:
    return {row[0] for row in db.conn.execute("SELECT id FROM raters WHERE held_out")}


def _pair_row(group: Group, pair: DraftComparison, held_out: set[str]) -> Values:
    """The values of `_PAIR`."""
    prompt = pair.a if pair.a.prompt_id <= pair.b.prompt_id else pair.b
    return (
        pair.id,
        *group,
        prompt.prompt_id,
        pair.a.id,
        pair.b.id,
        pair.label,
        pair.source,
        pair.weight,
        pair.strength,
        split(bool(prompt.held_out), group[0] in held_out),
        f"[{', '.join(map(quoted, pair.event_ids))}]",  # JSON, faster than by json.dumps
        pair.created_at,
        None,
    )


def _single_row(group: Group, single: DraftUnpaired, held_out: set[str]) -> Values:
    """The values of `_SINGLE`."""
    reply = single.reply
    return (
        single.id,
        *group,
        reply.prompt_id,
        reply.id,
        int(single.good),
        single.source,
        single.weight,
        split(bool(reply.held_out), group[0] in held_out),
        single.event_id,
        single.created_at,
    )
