"""Programs that vote, beside people: which of them train, and at most how much of the whole.

Programs are simulated visitors and model judges (`records.PROGRAMS`). One rule holds for both:
what they say is kept apart, counted and named, and is learnt from only if the operator lets their
kind train. Where no person has spoken, simulated visitors stand in for people, as in a test. The
rule is SQL in `feedback/events.py`, and a part of `HEARD`, so that cycles, counts, exports and the
schedule cannot differ about it. The operator's decision is in the bookkeeping: a server or a cycle
writes what its settings say, and what only reads finds it there.

Who decides in the gate is a narrower question, see `deciding_kinds`.
"""

import json
from collections.abc import Collection
from dataclasses import dataclass

from sqlite_utils import Database

from feedback_store.feedback.events import CONSENTED, KINDS_HEARD, PEOPLE_SPOKE
from feedback_store.records import PROGRAMS, RATER_KINDS
from feedback_store.sqlite.database import SQLiteFile
from feedback_store.sqlite.numbers import take_numbers_again
from feedback_store.sqlite.rows import first, one_of, rows, scalar

_SAID = f"""SELECT raters.kind, count(DISTINCT raters.id) AS raters, count(*) AS comparisons,
        raters.kind IN {KINDS_HEARD} AS trains
    FROM comparisons JOIN raters ON raters.id = comparisons.rater_id
    WHERE withdrawn_at IS NULL AND quarantined_at IS NULL AND {CONSENTED} GROUP BY raters.kind"""
_BY_KIND = """SELECT kind, count(*) AS count FROM json_each(:ids) AS wanted
    CROSS JOIN comparisons ON comparisons.id = wanted.value
    CROSS JOIN raters ON raters.id = comparisons.rater_id GROUP BY kind ORDER BY kind"""
_SPOKE = """SELECT id FROM raters WHERE kind IN (SELECT value FROM json_each(:kinds)) AND (
        EXISTS (SELECT 1 FROM comparisons WHERE rater_id = raters.id)
        OR EXISTS (SELECT 1 FROM unpaired WHERE rater_id = raters.id)
        OR EXISTS (SELECT 1 FROM demonstrations WHERE rater_id = raters.id)) ORDER BY id"""
_STORE = """INSERT INTO bookkeeping VALUES ('programs', ?)
    ON CONFLICT (name) DO UPDATE SET value = excluded.value"""


@dataclass(frozen=True, slots=True)
class KindCount:
    """What the raters of one kind said: how many they are, their comparisons, and if these train.

    Those without consent or in quarantine are not counted.
    """

    kind: str
    raters: int
    comparisons: int
    trains: bool


class Programs:
    """Programs among the raters of a store."""

    _file: SQLiteFile

    def let_programs_train(self, kinds: Collection[str], *, share: float = 1.0) -> None:
        """Note which kinds of programs train beside people; the same again writes nothing.

        What raters said whom this makes heard is new to cycles, as after a release.

        Args:
            kinds: Of `PROGRAMS`.
            share: Of the weight of all comparisons, how much they have at most, in [0, 1].
        """
        for kind in kinds:
            one_of(kind, PROGRAMS, "a kind of programs")
        value = json.dumps({"kinds": sorted(set(kinds)), "share": share})
        with self._file.read() as db:
            known = first(db, "SELECT value FROM bookkeeping WHERE name = 'programs'")
        if known is None or known["value"] != value:
            with self._file.write() as db:
                before = _kinds_heard(db)
                db.execute(_STORE, [value])
                now = {"kinds": json.dumps(sorted(_kinds_heard(db) - before))}
                for row in rows(db, _SPOKE, now):
                    take_numbers_again(db, row["id"])

    def program_share(self) -> float:
        """The largest share of the whole weight that programs have, where people spoke."""
        with self._file.read() as db:
            return program_share(db)

    def said_by_kind(self) -> list[KindCount]:
        """How much the raters of each kind said, people first, as of the last refresh."""
        with self._file.long_read() as db:
            found = {row["kind"]: row for row in rows(db, _SAID)}
        return [
            KindCount(kind, row["raters"], row["comparisons"], bool(row["trains"]))
            for kind in RATER_KINDS
            if (row := found.get(kind))
        ]

    def comparisons_by_kind(self, ids: Collection[str]) -> dict[str, int]:
        """Of these comparisons, how many are of each kind of rater."""
        with self._file.read() as db:
            found = rows(db, _BY_KIND, {"ids": json.dumps(list(ids))})
        return {row["kind"]: row["count"] for row in found}

    def deciding_kinds(self, *, programs: bool) -> frozenset[str]:
        """The kinds of raters that the gate asks: people, or the visitors that stand in for them.

        Args:
            programs: Whether it also asks the programs that train, as the operator decided.
        """
        with self._file.read() as db:
            if programs:
                return _kinds_heard(db)
            spoke = people_spoke(db)
        return frozenset({"person", "operator", *([] if spoke else ["simulated"])})


def _kinds_heard(db: Database) -> frozenset[str]:
    return frozenset(row["kind"] for row in rows(db, f"SELECT kind FROM {KINDS_HEARD}"))


def people_spoke(db: Database) -> bool:
    """Whether a person, or the operator, has said something that may be learnt from."""
    return bool(scalar(db, f"SELECT {PEOPLE_SPOKE}"))


def program_share(db: Database) -> float:
    """The largest share of the whole weight that programs have, where people spoke."""
    sql = "SELECT value ->> '$.share' AS share FROM bookkeeping WHERE name = 'programs'"
    row = first(db, sql)
    return 1.0 if row is None else float(row["share"])
