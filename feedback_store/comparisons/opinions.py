"""What a cycle may draw from: the rows of opinions without their texts, a bounded number of them.

An opinion is all rows with one number: a comparison, the pairs of a ranking, a rater's thumbs on a
prompt, a demonstration. A pool holds all opinions of a range of numbers, or if there are too many,
those whose numbers were drawn by lot, each with the same probability. So the work depends on the
size of the pool, never on that of the store.

Rows that may not be learnt from are not in it (see `training_data`).
"""

import json
import random
from collections.abc import Collection
from dataclasses import dataclass

from sqlite_utils import Database

from feedback_store.feedback.conversations import GOLD_CONVERSATIONS
from feedback_store.feedback.events import (
    HEARD,
    LEFT_OUT_CONVERSATIONS,
    LEFT_OUT_VOTES,
    owners_agree,
)
from feedback_store.records import OpinionRow
from feedback_store.sqlite.rows import Row, one_of, rows, stream

DRAWN = 2  # times `most`: so many are drawn by lot if there are more than `most` ...
ROUNDS = 16  # ... in so many rounds of `most` numbers: many are of other splits, or gone
_LOOKED_AT = 16  # times `most`: messages among which prompts without a vote are looked for


@dataclass(frozen=True, slots=True)
class _Table:
    """How the rows of one table become those of a pool."""

    name: str
    standing: str  # what the table's index by number asks for
    may: str  # what its rows and raters must be
    owners: str  # SQL for the messages whose owners must agree
    columns: str
    joins: str = ""


_TABLES = {
    "comparisons": _Table(
        "comparisons",
        standing="said.split = :split AND said.withdrawn_at IS NULL",
        may=HEARD,
        owners="said.a, said.b, said.prompt_id",
        columns="""said.weight, said.label, coalesce(one.text_hash, said.a) AS a,
            coalesce(other.text_hash, said.b) AS b, one.adapter AS adapter_a,
            other.adapter AS adapter_b""",
        joins="""LEFT JOIN messages AS one ON one.id = said.a
            LEFT JOIN messages AS other ON other.id = said.b""",
    ),
    "unpaired": _Table(
        "unpaired",
        standing="said.split = :split",
        may=HEARD,
        owners="said.message_id, said.prompt_id",
        columns="""said.weight, iif(good, 'a', 'b') AS label, '' AS a, '' AS b,
            one.adapter AS adapter_a, NULL AS adapter_b""",
        joins="JOIN messages AS one ON one.id = said.message_id",
    ),
    "demonstrations": _Table(
        "demonstrations",
        standing="said.held_out = (:split = 'held_out') AND said.superseded_at IS NULL",
        may=f"{HEARD} AND raters.held_out = (:split = 'held_out_raters')"
        f" AND said.id NOT IN {LEFT_OUT_VOTES}",
        owners="said.message_id",
        columns="1.0 AS weight, 'a' AS label, said.id AS a, '' AS b, '' AS adapter_a,"
        " '' AS adapter_b",
    ),
}
# What a cycle without a verdict looked at has taught nothing, so it is as new as before. Policies
# imitate demonstrations, so those count as seen only if the policy was kept.
_SEEN = """SELECT coalesce(max(seen ->> '$.comparisons'), 0) AS comparisons,
    coalesce(max(seen ->> '$.unpaired'), 0) AS unpaired,
    coalesce(max(iif(state = 'promoted' AND metrics ->> '$.sft' = 1, seen, '{}')
        ->> '$.demonstrations'), 0) AS demonstrations
    FROM cycles WHERE state IN ('running', 'passed', 'promoted', 'rejected')"""
# CROSS JOIN keeps the order: from numbers to rows to their raters.
_KIND = "(:kinds IS NULL OR raters.kind IN (SELECT value FROM json_each(:kinds)))"
_SAID = "{name} AS said INDEXED BY {name}_by_number"
_NEWEST = f"""SELECT DISTINCT number FROM {_SAID} CROSS JOIN raters ON raters.id = said.rater_id
    WHERE {{standing}} AND number > :above AND number <= :up_to AND {{may}} AND {_KIND}
    ORDER BY number DESC LIMIT :most"""
_OLDEST = f"SELECT min(number) AS oldest FROM {_SAID} WHERE {{standing}} AND number > :above"
_DRAWN = f"""SELECT DISTINCT number FROM json_each(:numbers) AS drawn CROSS JOIN {_SAID}
    CROSS JOIN raters ON raters.id = said.rater_id
    WHERE {{standing}} AND number = drawn.value AND {{may}} AND {_KIND}"""
_ROWS = f"""SELECT number, said.id, said.rater_id, said.prompt_hash, said.created_at, {{columns}}
    FROM json_each(:numbers) AS drawn CROSS JOIN {_SAID}
    CROSS JOIN raters ON raters.id = said.rater_id {{joins}}
    WHERE {{standing}} AND number = drawn.value AND {{may}} AND {_KIND} AND {{agreed}}
    ORDER BY number, said.id"""
# Only a vote of the rater who asked is looked for: the same question of somebody else is known by
# its text, to whoever reads it.
_UNVOTED = f"""SELECT messages.id FROM (
        SELECT number, message_id FROM searchable ORDER BY number DESC LIMIT :looked_at) AS newest
    CROSS JOIN messages ON messages.id = newest.message_id
    CROSS JOIN conversations ON conversations.id = messages.conversation_id
    CROSS JOIN raters ON raters.id = conversations.rater_id
    WHERE messages.role = 'user' AND NOT messages.held_out AND NOT raters.held_out AND {HEARD}
    AND deleted_at IS NULL AND conversations.id NOT IN ({GOLD_CONVERSATIONS})
    AND conversations.id NOT IN {LEFT_OUT_CONVERSATIONS}
    AND NOT EXISTS (SELECT 1 FROM comparisons WHERE comparisons.rater_id = raters.id
        AND comparisons.prompt_hash = messages.path_hash AND withdrawn_at IS NULL)
    AND NOT EXISTS (SELECT 1 FROM unpaired WHERE unpaired.rater_id = raters.id
        AND unpaired.prompt_hash = messages.path_hash)
    ORDER BY newest.number DESC LIMIT :most"""


def seen_numbers(db: Database) -> dict[str, int]:
    """By table, the number up to which cycles that reached a verdict have seen opinions."""
    return rows(db, _SEEN)[0]


def opinion_pool(
    db: Database,
    table: str,
    split: str,
    *,
    numbers: range,
    most: int,
    seed: str,
    kinds: Collection[str] | None = None,
) -> tuple[OpinionRow, ...]:
    """The pool of one table and split.

    Args:
        db: An open transaction.
        table: "comparisons", "unpaired" or "demonstrations".
        split: One of `SPLITS`.
        numbers: The range of numbers.
        most: If there are no more, all are in it.
        seed: What is drawn by lot depends on this alone.
        kinds: Only what raters of these kinds said.

    Returns:
        The rows by number and id. They are of at least ``most`` opinions if there are so many,
        less those whose owners no longer agree: these are left out after the draw.
    """
    one_of(table, _TABLES, "the kind of opinions")
    said = _TABLES[table]
    of = None if kinds is None else json.dumps(sorted(kinds))
    bound = {"split": split, "above": numbers.start - 1, "up_to": numbers.stop - 1, "kinds": of}
    sql = _sql(_NEWEST, said)
    found = {row["number"] for row in rows(db, sql, bound | {"most": most + 1})}
    if len(found) > most:
        oldest = rows(db, _sql(_OLDEST, said), bound)[0]["oldest"]
        lots = random.Random(seed)
        drawn = _drawn(db, said, bound, range(oldest, max(found) + 1), most, lots)
        # Where most numbers are gone, lots find few: the newest fill up.
        found = drawn if len(drawn) >= most else drawn | found
    wanted = {"split": split, "kinds": of, "numbers": json.dumps(sorted(found))}
    return tuple(_opinion_row(row) for row in stream(db, _sql(_ROWS, said), wanted))


def _sql(text: str, said: _Table) -> str:
    return text.format(
        name=said.name,
        standing=said.standing,
        may=said.may,
        agreed=owners_agree(said.owners),
        columns=said.columns,
        joins=said.joins,
    )


def _drawn(
    db: Database, said: _Table, of: Row, numbers: range, most: int, lots: random.Random
) -> set[int]:
    """Numbers of opinions that are there: all of a short range, else drawn by lot in rounds."""
    short = len(numbers) <= DRAWN * most
    found: set[int] = set()
    for _ in range(1 if short else ROUNDS):
        some = lots.sample(numbers, len(numbers) if short else most)
        bound = {"split": of["split"], "kinds": of["kinds"], "numbers": json.dumps(some)}
        found |= {row["number"] for row in rows(db, _sql(_DRAWN, said), bound)}
        if len(found) >= DRAWN * most:
            break
    return found


def _opinion_row(row: Row) -> OpinionRow:
    """The verdict is on the texts in their own order, whichever stood on the left."""
    a, b = sorted((row["a"], row["b"]))
    first_won = row["label"] == ("a" if a == row["a"] else "b")
    return OpinionRow(
        number=row["number"],
        id=row["id"],
        rater_id=row["rater_id"],
        created_at=row["created_at"],
        weight=row["weight"],
        adapters=tuple(name for name in (row["adapter_a"], row["adapter_b"]) if name),
        subject=f"{row['prompt_hash']}\n{a}\n{b}",
        verdict=0 if row["label"] == "tie" else 1 if first_won else -1,
    )


def unvoted_prompts(db: Database, most: int) -> list[str]:
    """The newest training prompts that their raters asked and did not vote on: ids of messages."""
    bound = {"most": most, "looked_at": _LOOKED_AT * most}
    return [row["id"] for row in rows(db, _UNVOTED, bound)]
