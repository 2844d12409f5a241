"""How much each rater counts: weights, assessments, quarantine and release.

Weights are computed whenever judgements are read, from the column `raters.reliability` and from
`caps`. An assessment measures reliability again, notes which new raters have agreed with others
(`raters.proven`), and may quarantine. Each change is recorded in the audit table in the same
transaction: who decided, when and why.

Only a person releases a rater, and what the rater did before never counts against them again. So no
assessment overrules that person, unless something new happens. Operators are neither capped nor
assessed.
"""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlite_utils import Database

from feedback_store.comparisons.refresh import refresh
from feedback_store.errors import ConflictError, InvalidFeedbackError, say
from feedback_store.feedback.events import CONSENTED, KINDS_HEARD, SCREENED
from feedback_store.raters.agreement import Agreement, PairVote, agreement, judgement
from feedback_store.raters.behaviour import (
    ASSESSED,
    NO_GOLD,
    RELEASED,
    behaviours,
    gold_results,
    releases,
)
from feedback_store.raters.caps import (
    RaterFacts,
    cap_factors,
    counted_as_one,
    new_after,
    program_factor,
)
from feedback_store.raters.programs import people_spoke, program_share
from feedback_store.raters.proof import Account, proven
from feedback_store.raters.reliability import RaterReport, assess
from feedback_store.records import PROGRAMS, Rater
from feedback_store.sqlite.database import SQLiteFile
from feedback_store.sqlite.ids import utc_now
from feedback_store.sqlite.numbers import take_numbers_again
from feedback_store.sqlite.rows import Row, audit, require, rows, stream, to_record

# Each table is summed first, along an index that has only these columns.
_SAID = f"""SELECT raters.id, kind, raters.created_at, reliability, total(weight) AS weight,
        iif(proven, NULL, origin) AS origin,
        {CONSENTED} AND quarantined_at IS NULL AND kind IN {KINDS_HEARD}
        AND {SCREENED} AS heard FROM (
        SELECT rater_id, total(weight) AS weight FROM comparisons
        WHERE withdrawn_at IS NULL GROUP BY rater_id
        UNION ALL SELECT rater_id, total(weight) AS weight FROM unpaired GROUP BY rater_id) AS said
    JOIN raters ON raters.id = said.rater_id GROUP BY raters.id"""
_RATERS = f"""SELECT *, kind IN {KINDS_HEARD} AS kind_trains FROM raters
    ORDER BY created_at, id"""
_KNOWN = """SELECT raters.id, kind, created_at, reliability,
        iif(proven, NULL, origin) AS origin FROM json_each(:raters) AS wanted
    CROSS JOIN raters ON raters.id = wanted.value"""
_TRAINS = """SELECT rater_id, total(weight) AS weight FROM (
        SELECT rater_id, weight FROM comparisons WHERE withdrawn_at IS NULL AND split = 'train'
        UNION ALL SELECT rater_id, weight FROM unpaired WHERE split = 'train')
    GROUP BY rater_id"""
_TEXT = """coalesce((SELECT text_hash FROM messages WHERE id = comparisons.{0}),
    (SELECT text_hash FROM demonstrations WHERE id = comparisons.{0}))"""
# Edits are left out: their writers judge their own text. So are retries, which say little.
_JUDGED = f"""WITH {RELEASED} SELECT comparisons.rater_id, prompt_hash, label, weight, number,
        {_TEXT.format("a")} AS a, {_TEXT.format("b")} AS b
    FROM comparisons JOIN raters ON raters.id = comparisons.rater_id
    LEFT JOIN released ON released.rater_id = comparisons.rater_id
    WHERE withdrawn_at IS NULL AND source IN ('choice', 'ranking', 'thumbs') AND {ASSESSED}
    AND comparisons.created_at > coalesce(released.at, '') AND prompt_hash IN (
        SELECT prompt_hash FROM comparisons GROUP BY 1 HAVING min(rater_id) < max(rater_id))"""
_ACCOUNTS = """SELECT id, reliability, proven, origin, created_at > :recent AS new,
    quarantined_at IS NULL AS heard FROM raters"""
_AT_ONCE = 500  # raters in one write transaction: about thirty milliseconds
_DECIDED = """SELECT action, at, json_extract(detail, '$.rater_id') AS rater_id,
        json_extract(detail, '$.by') AS "by", json_extract(detail, '$.reason') AS reason
    FROM audit WHERE action IN ('quarantine', 'release') ORDER BY id"""


_SHOWN = ("id", "kind", "passed", "created_at", "reliability", "counts_as_one", *NO_GOLD)


@dataclass(frozen=True, slots=True)
class RaterStanding:
    """How much a rater counts now: comparisons of the weight `said`, times `weight` in [0, 1].

    `decided_by` and `reason` tell of the last quarantine or release, if there was one. The rater
    was right in `gold_right` of `gold_total` gold questions since the last release. `counts_as_one`
    is how many raters the caps take as one with this one, itself included: those who are new, of
    one origin, and have not agreed with others yet. `passed` is whether the rater passed the
    screening, None without a result. `kind_trains` is whether raters of this kind are learnt from.
    """

    id: str
    kind: str
    created_at: str
    said: float
    reliability: float
    weight: float
    quarantined_at: str | None
    decided_by: str | None
    reason: str | None
    gold_right: int
    gold_total: int
    counts_as_one: int = 1
    passed: int | None = None
    kind_trains: bool = True


def rater_weights(
    db: Database,
    *,
    of: Mapping[str, float] | None = None,
    training: Mapping[str, float] | None = None,
    now: datetime | None = None,
) -> dict[str, float]:
    """The factor on the weight of all that a rater says; a rater who is not in it has factor 1.

    Args:
        db: An open transaction.
        of: The weight of what each rater said, if it is not all that the store holds.
        training: The part of it that trains, of which programs have at most their share; all of
            it if None.
        now: Decides which accounts are new.
    """
    if of is None:
        said = [row for row in rows(db, _SAID) if row["heard"]]
    else:
        known = rows(db, _KNOWN, {"raters": json.dumps([*of])})
        said = [row | {"weight": of[row["id"]]} for row in known]
    caps = cap_factors(_facts(said), now=now or datetime.now(UTC))
    factors = {row["id"]: row["reliability"] * caps.get(row["id"], 1.0) for row in said}
    factors = _programs_capped(db, said, factors, of if training is None else training)
    return {rater: factor for rater, factor in factors.items() if factor != 1.0}


def _programs_capped(
    db: Database, said: Iterable[Row], factors: dict[str, float], trains: Mapping[str, float] | None
) -> dict[str, float]:
    """The factors, so that programs have at most their share of the weight that trains."""
    share = program_share(db)
    programs = {row["id"] for row in said if row["kind"] in PROGRAMS} if share < 1 else set()
    if programs and not people_spoke(db):  # the visitors that stand in for people are no others
        programs -= {row["id"] for row in said if row["kind"] == "simulated"}
    if not programs:
        return factors
    if trains is None:
        trains = {row["rater_id"]: row["weight"] for row in rows(db, _TRAINS)}
    people, theirs = (
        math.fsum(trains.get(r, 0.0) * f for r, f in factors.items() if (r in programs) is them)
        for them in (False, True)
    )
    less = program_factor(people, theirs, share=share)
    return factors | {rater: factors[rater] * less for rater in programs}


class Raters:
    """The standing of a store's raters."""

    _file: SQLiteFile

    def raters(self) -> list[RaterStanding]:
        """How much each rater counts now, oldest first."""
        refresh(self._file)
        with self._file.read() as db:
            weights = rater_weights(db)
            said = {row["id"]: row for row in rows(db, _SAID)}
            heard = [row for row in said.values() if row["heard"]]
            groups = counted_as_one(_facts(heard), now=datetime.now(UTC)).values()
            sizes = {fact.rater_id: len(group) for group in groups for fact in group}
            decided = {row["rater_id"]: row for row in rows(db, _DECIDED)}
            gold = gold_results(db)
            known = rows(db, _RATERS)
        return [
            _standing(
                row | gold.get(row["id"], NO_GOLD) | {"counts_as_one": sizes.get(row["id"], 1)},
                said.get(row["id"]),
                weights,
                decided,
            )
            for row in known
        ]

    def agreement(self) -> Agreement:
        """How far raters agree on the same two responses to the same prompt."""
        refresh(self._file)
        with self._file.long_read() as db:
            return agreement(_judgements(db))

    def assess_raters(self, *, by: str = "assessment") -> list[RaterReport]:
        """Measure every rater, quarantine as the rules say, and return what was found."""
        refresh(self._file)
        with self._file.long_read() as db:
            released = releases(db)
            did, judgements = behaviours(db), _judgements(db)
            accounts = rows(db, _ACCOUNTS, {"recent": new_after(datetime.now(UTC))})
        was = {row["id"]: row for row in accounts}
        reports = assess(did, judgements)  # may take seconds, so outside a transaction
        proof = proven([_account(r, was[r.rater_id]) for r in reports], judgements)
        changed = [r for r in reports if _changes(r, was[r.rater_id], proof.get(r.rater_id))]
        for start in range(0, len(changed), _AT_ONCE):  # so that nobody waits for long
            with self._file.write() as db:
                now = releases(db)
                for report in changed[start : start + _AT_ONCE]:
                    # unless the rater was forgotten or released meanwhile
                    if now.get(report.rater_id) == released[report.rater_id]:
                        _apply(db, report, by, proof.get(report.rater_id))
        return reports

    def measure_raters(self) -> list[RaterReport]:
        """What an assessment would find now; nothing is changed."""
        refresh(self._file)
        with self._file.long_read() as db:
            did, judgements = behaviours(db), _judgements(db)
        return assess(did, judgements)

    def quarantine(self, rater_id: str, *, by: str, reason: str) -> Rater:
        """Keep what a rater says from being learnt from, until they are released.

        A rater who is quarantined already keeps the first date, but gets the new decision.

        Raises:
            InvalidFeedbackError: There is no reason.
        """
        if not reason.strip():
            raise InvalidFeedbackError(say("a quarantine needs a reason; say why in a few words."))
        with self._file.write() as db:
            require(db, "raters", rater_id)
            _quarantine(db, rater_id, by, reason)
            return to_record(Rater, require(db, "raters", rater_id))

    def release(self, rater_id: str, *, by: str) -> Rater:
        """End a quarantine; what the rater did before will not count against them again.

        Raises:
            ConflictError: The rater is not quarantined.
        """
        with self._file.write() as db:
            before = require(db, "raters", rater_id)
            if before["quarantined_at"] is None:
                raise ConflictError(
                    say("rater {id} is not quarantined; nothing was changed.", id=repr(rater_id))
                )
            sql = "UPDATE raters SET quarantined_at = NULL, reliability = 1 WHERE id = ?"
            db.execute(sql, [rater_id])
            take_numbers_again(db, rater_id)
            audit(db, "release", rater_id=rater_id, by=by, reliability=before["reliability"])
            return to_record(Rater, require(db, "raters", rater_id))


def _standing(
    row: Row, said: Row | None, weights: dict[str, float], decided: dict[str, Row]
) -> RaterStanding:
    last = decided.get(row["id"], {})
    listened = row["kind_trains"] if said is None else said["heard"]
    heard = row["quarantined_at"] is None and listened
    return RaterStanding(
        **{name: row[name] for name in _SHOWN},
        kind_trains=bool(row["kind_trains"]),
        said=said["weight"] if said else 0.0,
        weight=weights.get(row["id"], 1.0) if heard else 0.0,
        quarantined_at=row["quarantined_at"],
        decided_by=last.get("by"),
        reason=last.get("reason"),
    )


def _judgements(db: Database) -> list[PairVote]:
    return [
        judgement(
            row["rater_id"],
            row["prompt_hash"],
            (row["a"], row["b"]),
            row["label"],
            weight=row["weight"],
            opinion=row["number"],
        )
        for row in stream(db, _JUDGED)
    ]


def _facts(said: Iterable[Row]) -> list[RaterFacts]:
    """What the caps depend on; operators are not capped, and model judges together."""
    return [
        RaterFacts(row["id"], row["weight"] * row["reliability"], row["created_at"], row["origin"])
        for row in said
        if row["kind"] not in ("operator", "judge")
    ]


def _account(report: RaterReport, row: Row) -> Account:
    heard = bool(row["heard"]) and report.quarantine is None
    gold = report.gold_right, report.gold_total
    return Account(report.rater_id, row["origin"], bool(row["new"]), heard, *gold)


def _changes(report: RaterReport, row: Row, proof: bool | None) -> bool:
    """Whether a report changes what is stored of a rater; without a proof that one stays."""
    told = report.reliability, row["proven"] if proof is None else proof
    return report.quarantine is not None or told != (row["reliability"], row["proven"])


def _apply(db: Database, report: RaterReport, by: str, proof: bool | None) -> None:
    before = require(db, "raters", report.rater_id)
    if proof is not None and proof != before["proven"]:
        db.execute("UPDATE raters SET proven = ? WHERE id = ?", [proof, report.rater_id])
        audit(db, "proven", rater_id=report.rater_id, by=by, after=proof)
    if before["reliability"] != report.reliability:
        sql = "UPDATE raters SET reliability = ? WHERE id = ?"
        db.execute(sql, [report.reliability, report.rater_id])
        if before["reliability"] == 0:
            take_numbers_again(db, report.rater_id)
        audit(
            db,
            "reliability",
            rater_id=report.rater_id,
            by=by,
            before=before["reliability"],
            after=report.reliability,
        )
    if report.quarantine is not None and before["quarantined_at"] is None:
        _quarantine(db, report.rater_id, by, report.quarantine)


def _quarantine(db: Database, rater_id: str, by: str, reason: str) -> None:
    sql = "UPDATE raters SET quarantined_at = coalesce(quarantined_at, ?) WHERE id = ?"
    db.execute(sql, [utc_now(), rater_id])
    audit(db, "quarantine", rater_id=rater_id, by=by, reason=reason)
