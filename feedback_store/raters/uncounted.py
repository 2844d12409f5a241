"""What people said that counts for nothing, or for less, in a cycle: how much, of whom, and why.

For the operator, who reads "46 decided comparisons, 80 are needed" and wonders where the others
are. A receipt tells each rater the same of each event. Nothing here decides what counts.
"""

import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sqlite_utils import Database

from feedback_store.feedback.events import (
    CONSENTED,
    KINDS_HEARD,
    LEFT_OUT_VOTES,
    SCREENED,
    owners_agree,
)
from feedback_store.raters.standing import rater_weights
from feedback_store.sqlite.rows import rows

# A comparison is left out for the first of these reasons that holds.
_COMPARISONS = f"""SELECT CASE
        WHEN NOT {CONSENTED} THEN 'consent'
        WHEN quarantined_at IS NOT NULL THEN 'quarantine'
        WHEN raters.kind NOT IN {KINDS_HEARD} THEN raters.kind
        WHEN NOT {SCREENED} THEN 'screening'
        WHEN reliability = 0 THEN 'contrary'
        WHEN NOT {owners_agree("comparisons.a, comparisons.b, comparisons.prompt_id")} THEN 'owner'
        WHEN label = 'tie' THEN 'tie'
        WHEN split = 'held_out_raters' THEN 'held_out_rater'
    END AS reason, count(*) AS count, count(DISTINCT rater_id) AS raters
    FROM comparisons JOIN raters ON raters.id = comparisons.rater_id
    WHERE withdrawn_at IS NULL GROUP BY 1"""
_ALONE = f"""SELECT count(*) AS count, count(DISTINCT rater_id) AS raters
    FROM unpaired JOIN raters ON raters.id = unpaired.rater_id
    WHERE {CONSENTED} AND quarantined_at IS NULL AND reliability > 0"""
# Of each event: was it changed later, did the operator leave it out, is it an answer to a gold
# question, did it become anything?
_EVENTS = f"""WITH derived AS MATERIALIZED (
        SELECT value AS id FROM comparisons, json_each(event_ids) WHERE withdrawn_at IS NULL
        UNION SELECT event_id FROM unpaired),
    omitted AS MATERIALIZED {LEFT_OUT_VOTES},
    events AS (
        SELECT 'vote' AS kind, id, rater_id, prompt_hash IS NULL AS gold,
            superseded_at IS NOT NULL AS changed FROM choices
        UNION ALL SELECT 'vote', id, rater_id, prompt_hash IS NULL, superseded_at IS NOT NULL
            FROM rankings
        UNION ALL SELECT 'vote', id, rater_id, 0, superseded_at IS NOT NULL OR value = 0 FROM thumbs
        UNION ALL SELECT iif(than_before IS NULL, 'retry', 'vote'), id, rater_id, 0,
            superseded_at IS NOT NULL FROM retries
            WHERE superseded_at IS NULL OR than_before IS NOT NULL
        UNION ALL SELECT 'vote', id, rater_id, 0, 0 FROM demonstrations
            WHERE superseded_at IS NULL AND id IN omitted)
    SELECT CASE WHEN changed THEN 'changed' WHEN id IN omitted THEN 'operator'
        WHEN gold THEN 'gold' WHEN kind = 'retry' THEN 'retry' ELSE 'outranked' END AS reason,
        count(*) AS count, count(DISTINCT rater_id) AS raters
    FROM events WHERE changed OR gold OR id NOT IN (SELECT id FROM derived) GROUP BY 1"""
_QUARANTINED = """SELECT raters.id, max(audit.id), at, json_extract(detail, '$.reason') AS reason
    FROM audit JOIN raters ON raters.id = json_extract(detail, '$.rater_id')
    WHERE action = 'quarantine' AND quarantined_at IS NOT NULL AND EXISTS (
        SELECT 1 FROM comparisons WHERE rater_id = raters.id AND withdrawn_at IS NULL)
    GROUP BY raters.id ORDER BY raters.id"""
_SAID = """SELECT rater_id, count(*) AS count, total(weight) AS weight FROM comparisons
    WHERE withdrawn_at IS NULL GROUP BY rater_id"""
# In the order in which they are told.
_WORDS = {
    "operator": "votes of {raters} that the operator left out",
    "quarantine": "comparisons of {raters} in quarantine",
    "judge": "comparisons of {raters} that are model judges (cycle.data.programs)",
    "simulated": "comparisons of {raters} that are simulated visitors (cycle.data.programs)",
    "screening": "comparisons of {raters} who have not passed the screening",
    "consent": "comparisons of {raters} without consent",
    "contrary": "comparisons of {raters} of reliability 0, for contradicting the others",
    "owner": "comparisons about conversations whose owner does not consent",
    "gold": "answers to gold questions",
    "changed": "votes that were changed or taken back later",
    "outranked": "votes on replies that say the same, or that a more direct vote outranks",
    "retry": "retries that were not accepted",
}
_HALF = {"tie": "ties", "alone": "thumbs and “both bad” without an opposite"}
_MOST_REASONS = 2  # of quarantines that are told


@dataclass(frozen=True, slots=True)
class LeftOut:
    """What does not count in a cycle.

    Attributes:
        counts: By reason, how many items, and of how many raters.
        quarantines: Reasons of those quarantines, the most frequent first, with how many raters;
            reasons that differ in numbers alone are one, and the first stands for them.
        lately: How many of these raters came into quarantine since the time that was asked for.
        weighed: Raters who count less than in full but not for nothing, by their reliability or the
            caps; their comparisons; and as how many these count.
    """

    counts: dict[str, tuple[int, int]]
    quarantines: tuple[tuple[str, int], ...]
    lately: int
    weighed: tuple[int, int, float]

    def lines(self) -> tuple[str, ...]:
        """At most two lines for people; none if everything counts in full."""
        told = [*self._not_counted()]
        less = [*self._counted_less()]
        return (
            *([f"not counted: {'; '.join(told)}"] if told else []),
            *([f"counted, but not in full: {'; '.join(less)}"] if less else []),
        )

    def _not_counted(self) -> Iterator[str]:
        for reason, words in _WORDS.items():
            count, raters = self.counts.get(reason, (0, 0))
            if count:
                text = f"{count} {words.format(raters=_raters(raters))}"
                yield text + self._why() if reason == "quarantine" else text

    def _why(self) -> str:
        """Why raters are in quarantine, in brackets."""
        often = self.quarantines[:_MOST_REASONS]
        told = [f"{n} such as “{why}”" if n > 1 else f"“{why}”" for why, n in often]
        if more := sum(n for _, n in self.quarantines[_MOST_REASONS:]):
            told.append(f"{more} for other reasons")
        if self.lately:
            told.append(f"{self.lately} since this cycle began")
        return f" ({', '.join(told)})" if told else ""

    def _counted_less(self) -> Iterator[str]:
        raters, comparisons, weight = self.weighed
        if raters:
            yield (
                f"{comparisons} comparisons of {_raters(raters)} weigh as much as {weight:.1f}, by "
                "reliability and caps"
            )
        for reason, words in _HALF.items():
            if count := self.counts.get(reason, (0, 0))[0]:
                yield f"{count} {words} are half of a decided vote each, or less"
        count, raters = self.counts.get("held_out_rater", (0, 0))
        if count:
            yield f"{count} comparisons of {raters} held-out raters are only measured on"


def left_out(db: Database, *, since: str | None = None) -> LeftOut:
    """What does not count now, as of the last refresh of the comparisons.

    Args:
        db: An open transaction.
        since: When the cycle began that asks, UTC ISO 8601.
    """
    found = [*rows(db, _COMPARISONS), *rows(db, _EVENTS)]
    found += [{"reason": "alone"} | row for row in rows(db, _ALONE)]
    put = rows(db, _QUARANTINED)
    return LeftOut(
        counts={r["reason"]: (r["count"], r["raters"]) for r in found if r["reason"]},
        quarantines=_grouped(row["reason"] for row in put),
        lately=sum(since is not None and row["at"] >= since for row in put),
        weighed=_weighed(db),
    )


def _grouped(reasons: Iterator[str]) -> tuple[tuple[str, int], ...]:
    same = defaultdict[str, list[str]](list)
    for reason in reasons:
        same[re.sub(r"\d[\d.]*", "#", reason)].append(reason)
    groups = sorted(same.values(), key=len, reverse=True)
    return tuple((group[0], len(group)) for group in groups)


def _weighed(db: Database) -> tuple[int, int, float]:
    factors = {rater: f for rater, f in rater_weights(db).items() if 0 < f < 1}
    said: list[dict[str, Any]] = [r for r in rows(db, _SAID) if r["rater_id"] in factors]
    weight = sum(row["weight"] * factors[row["rater_id"]] for row in said)
    return len(said), sum(row["count"] for row in said), weight


def _raters(count: int) -> str:
    return f"{count} rater{'s' if count != 1 else ''}"
