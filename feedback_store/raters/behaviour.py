"""What each rater did alone, read from the store: gold questions, sides, speed, repetition.

This module only counts, with the limits of speed (`FASTEST_S`) that the counts need; `reliability`
decides what they mean. It counts nothing from before a rater's last release.

The client says by `seconds` how long a choice took. If it says nothing or 0, as the page does, or
more than has passed since the question, the store's clock decides: replies were complete when they
were stored, and nobody saw them before the question was stored. The clock and the limit of votes a
minute apply to people only. Simulated visitors are programs and answer at once; the files of
imported data sets mostly give all votes one time.
"""

from typing import NamedTuple

from sqlite_utils import Database

from feedback_store.feedback.events import CONSENTED
from feedback_store.sqlite.rows import Row, rows

FASTEST_S = 2.0  # nobody reads two replies in less time ...
GLANCE_CHARS = 100  # ... unless both together are shorter than this
# Silent reading is about 24 characters a second (238 words a minute: Brysbaert 2019,
# https://doi.org/10.1016/j.jml.2019.104047); three times that is skimming.
READ_CHARS_PER_S = 75.0
MOST_VOTES = 60  # more votes of all kinds than this ...
WITHIN_S = 60.0  # ... in less time than this are a burst
APART_S = 3600.0  # bursts in the same hour, from the first one on, are one occasion
NO_GOLD = {"gold_right": 0, "gold_total": 0}

RELEASED = """released AS (
    SELECT json_extract(detail, '$.rater_id') AS rater_id, max(at) AS at FROM audit
    WHERE action = 'release' GROUP BY 1)"""
# A model judge measures nobody, and is measured against people (`judge_report`).
ASSESSED = f"{CONSENTED} AND raters.kind NOT IN ('operator', 'judge')"
_SINCE_RELEASE = "{0}.created_at > coalesce(released.at, '')"
_NEW = f"superseded_at IS NULL AND {_SINCE_RELEASE}"
_BY_CLOCK = "(raters.kind = 'person' AND coalesce(raters.consent, '') NOT LIKE 'dataset:%')"


def _seconds(start: str, end: str = "choices.created_at") -> str:
    return f"(julianday({end}) - julianday({start})) * 86400"


_CHARS = "(SELECT sum(length(content)) FROM messages WHERE candidates_id = candidates.id)"
_ASKED_AT = "(SELECT created_at FROM messages WHERE messages.id = prompt_message_id)"
# 1 if too fast to have read, 0 if not, NULL if unknown. A rater may read while the replies are
# written and choose at the end, so the time since the question must be too short as well.
_FAST = f"""CASE
    WHEN seconds > 0 AND (NOT {_BY_CLOCK} OR seconds <= {_seconds(_ASKED_AT)})
        THEN seconds < {FASTEST_S}
    WHEN NOT {_BY_CLOCK} THEN NULL
    WHEN {_seconds("candidates.created_at")} >= {FASTEST_S} THEN 0
    WHEN {_CHARS} < {GLANCE_CHARS} THEN NULL
    ELSE {_seconds(_ASKED_AT)} < {_CHARS} / {READ_CHARS_PER_S} END"""
_DID = f"""WITH {RELEASED}, timed AS MATERIALIZED (
        SELECT choices.rater_id, choice, {_FAST} AS fast FROM choices
        JOIN raters ON raters.id = choices.rater_id
        JOIN candidates ON candidates.id = choices.candidates_id
        LEFT JOIN released ON released.rater_id = choices.rater_id
        WHERE {_NEW.format("choices")}),
    chose AS (
        SELECT rater_id, total(choice = 'a') AS "left", total(choice IN ('a', 'b')) AS sided,
            total(fast) AS fast, count(fast) AS timed FROM timed GROUP BY rater_id)
    SELECT raters.id, quarantined_at IS NOT NULL AS quarantined,
        (SELECT count(*) FROM choices WHERE rater_id = raters.id AND superseded_at IS NULL)
        + (SELECT count(*) FROM rankings WHERE rater_id = raters.id AND superseded_at IS NULL)
        + (SELECT count(*) FROM thumbs WHERE rater_id = raters.id AND superseded_at IS NULL
            AND value <> 0) AS votes,
        coalesce("left", 0) AS "left", coalesce(sided, 0) AS sided,
        coalesce(fast, 0) AS fast, coalesce(timed, 0) AS timed
    FROM raters LEFT JOIN chose ON chose.rater_id = raters.id
    WHERE {ASSESSED} ORDER BY raters.id"""
_RELEASES = f"""WITH {RELEASED} SELECT raters.id AS rater_id, coalesce(released.at, '') AS at
    FROM raters LEFT JOIN released ON released.rater_id = raters.id WHERE {ASSESSED}"""
# The first answer counts, because then the receipt says that it was a test. If that was "both bad",
# none counts, so that "both bad" gives nobody a second try.
_GOLD = f"""WITH {RELEASED}, answers AS (
        SELECT choices.rater_id, candidates_id, choices.created_at,
            CASE WHEN choice <> 'both_bad' THEN choice = gold END AS right
        FROM candidates CROSS JOIN choices ON candidates_id = candidates.id
        WHERE gold IS NOT NULL
        UNION ALL SELECT rankings.rater_id, candidates_id, rankings.created_at,
            "order" -> 0 = json_array(gold) AS right
        FROM candidates CROSS JOIN rankings ON candidates_id = candidates.id
        WHERE gold IS NOT NULL),
    answered AS (
        SELECT rater_id, right, min(created_at) AS created_at FROM answers
        GROUP BY rater_id, candidates_id)
    SELECT answered.rater_id, total(right) AS gold_right, count(*) AS gold_total
    FROM answered
    LEFT JOIN released ON released.rater_id = answered.rater_id
    WHERE right IS NOT NULL AND {_SINCE_RELEASE.format("answered")} GROUP BY 1"""
_BURSTS = f"""WITH {RELEASED}, said AS (
        SELECT rater_id, created_at, superseded_at FROM choices
        UNION ALL SELECT rater_id, created_at, superseded_at FROM rankings
        UNION ALL SELECT rater_id, created_at, superseded_at FROM thumbs WHERE value <> 0
        UNION ALL SELECT rater_id, created_at, superseded_at FROM demonstrations),
    spaced AS (
        SELECT said.rater_id, said.created_at AS "end", lag(said.created_at, {MOST_VOTES}) OVER (
            PARTITION BY said.rater_id ORDER BY said.created_at) AS start
        FROM said JOIN raters ON raters.id = said.rater_id
        LEFT JOIN released ON released.rater_id = said.rater_id
        WHERE {_BY_CLOCK} AND {_NEW.format("said")}),
    burst AS (
        SELECT rater_id, "end", min("end") OVER (PARTITION BY rater_id) AS first FROM spaced
        WHERE {_seconds("start", '"end"')} < {WITHIN_S})
    SELECT rater_id, count(DISTINCT CAST({_seconds("first", '"end"')} / {APART_S} AS INTEGER))
        AS bursts FROM burst GROUP BY 1"""
_COPIES = f"""WITH {RELEASED}, texts AS (
        SELECT demonstrations.rater_id, count(DISTINCT prompt_hash) AS prompts FROM demonstrations
        LEFT JOIN released ON released.rater_id = demonstrations.rater_id
        WHERE {_NEW.format("demonstrations")} GROUP BY demonstrations.rater_id, text_hash)
    SELECT rater_id, max(prompts) AS copies, sum(prompts) AS written FROM texts GROUP BY 1"""


class Behaviour(NamedTuple):
    """What a rater did alone, as counts."""

    rater_id: str
    votes: int
    gold_right: int
    gold_total: int
    left: int  # choices of the left reply ...
    sided: int  # ... among choices of one reply
    fast: int  # choices too fast to have read the replies ...
    timed: int  # ... among choices whose time is known
    quarantined: bool  # already, so this rater measures nobody else
    bursts: int = 0  # occasions of more votes in a minute than a person gives
    copies: int = 0  # different prompts answered with the same text ...
    written: int = 0  # ... among all prompts answered


_COUNTED = [name for name in Behaviour._fields if name not in ("rater_id", "quarantined")]


def releases(db: Database) -> dict[str, str]:
    """The time of the last release of each rater who may be assessed; "" if there is none."""
    return {rater: row["at"] for rater, row in _by_rater(db, _RELEASES).items()}


def behaviours(db: Database) -> list[Behaviour]:
    """The counts of each rater who may be assessed; reading them may take seconds."""
    measured = [_by_rater(db, sql) for sql in (_GOLD, _BURSTS, _COPIES)]
    found = []
    for row in rows(db, _DID):
        counts = dict.fromkeys(_COUNTED, 0) | row
        for by_rater in measured:
            counts |= by_rater.get(row["id"], {})
        numbers = {name: int(counts[name]) for name in _COUNTED}
        found.append(Behaviour(row["id"], quarantined=bool(row["quarantined"]), **numbers))
    return found


def gold_results(db: Database) -> dict[str, Row]:
    """`gold_right` and `gold_total` since the last release, by rater."""
    found = _by_rater(db, _GOLD)
    return {rater: {name: int(row[name]) for name in NO_GOLD} for rater, row in found.items()}


def _by_rater(db: Database, sql: str) -> dict[str, Row]:
    return {row["rater_id"]: row for row in rows(db, sql)}
