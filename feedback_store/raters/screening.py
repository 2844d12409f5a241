"""Screening: whoever is to label for the team first takes a test, whose answers the team knows.

The questions are gold questions (`feedback/gold_questions.py`): blind, the sides drawn by lot, each
given once, the first answer counts, and none becomes a comparison. Who has answered all of them has
a result. Whoever passed may get a labeler's key, whose votes are another rater's: the result goes
over to that one, and to no second key in use. Invariants: a result is written once with its audit
entry, and again only if it differs; where screening is required, what a person says who has not
passed is kept and not learnt from, and is new from when it is.

Source:
    Ouyang et al. 2022, arXiv:2203.02155, appendix B.1: labelers were chosen by how often they
    agreed with the researchers. The pass share is a plain share, since all take the same test;
    `guessing_passes` says how long it has to be.
"""

import json
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from sqlite_utils import Database

from feedback_store.errors import ConflictError
from feedback_store.feedback.events import HEARD
from feedback_store.feedback.gold_questions import GoldItem
from feedback_store.raters.accounts import insert_rater
from feedback_store.raters.reliability import at_least
from feedback_store.splits import prompt_hash
from feedback_store.sqlite.database import SQLiteFile
from feedback_store.sqlite.numbers import take_numbers_again
from feedback_store.sqlite.rows import audit, first, rows

_ANSWERS = """WITH answers AS (
        SELECT choices.rater_id, candidates.id, choice = gold AS right,
            row_number() OVER (PARTITION BY candidates.id
                ORDER BY choices.created_at, choices.rowid) AS place
        FROM json_each(:questions) AS asked
        CROSS JOIN messages ON messages.path_hash = asked.value AND messages.role = 'user'
        CROSS JOIN candidates ON prompt_message_id = messages.id AND gold IS NOT NULL
        CROSS JOIN choices ON choices.candidates_id = candidates.id
            AND choices.rater_id = candidates.rater_id)
    SELECT rater_id AS id, count(*) AS answered, CAST(total(right) AS INTEGER) AS right FROM answers
    WHERE place = 1 AND (:rater IS NULL OR rater_id = :rater) GROUP BY rater_id ORDER BY rater_id"""
_STORE = """INSERT INTO bookkeeping VALUES ('screening', ?)
    ON CONFLICT (name) DO UPDATE SET value = excluded.value"""
_REQUIRED = "SELECT 1 FROM bookkeeping WHERE name = 'screening' AND value = 1"
# Who is heard, and would not be if screening was required.
_HEARD_WITHOUT = f"""SELECT id FROM raters WHERE kind = 'person' AND passed IS NOT 1
    AND consent NOT LIKE 'dataset:%' AND {HEARD}"""
_HEARD_NOW = f"SELECT 1 FROM raters WHERE id = ? AND kind = 'person' AND {HEARD}"
_LABELS_AS = """SELECT keys.name FROM audit JOIN keys ON keys.name = detail ->> 'name'
    WHERE action = 'labeler_key' AND detail ->> 'rater_id' = ? AND revoked_at IS NULL"""


@dataclass(frozen=True, slots=True)
class Screened:
    """How far a rater is with the test: right in so many of those `answered`, of `questions`.

    `passed` is None until all are answered.
    """

    rater_id: str
    answered: int
    questions: int
    right: int
    passed: bool | None


class Screening:
    """The screening of a store's raters."""

    _file: SQLiteFile

    def require_screening(self, *, on: bool) -> None:
        """Whether only people who passed are learnt from; the same again writes nothing.

        No longer required, what was not heard before is new.
        """
        with self._file.read() as db:
            known = first(db, _REQUIRED) is not None
        if known != on:
            with self._file.write() as db:
                db.execute(_STORE, [int(on)])
                for row in [] if on else rows(db, _HEARD_WITHOUT):
                    take_numbers_again(db, row["id"])

    def screened(
        self, items: Sequence[GoldItem], *, share: float, rater_id: str | None = None
    ) -> list[Screened]:
        """How far raters are with the test; only those who have begun.

        Args:
            items: Its questions.
            share: Of right answers, from which on it is passed.
            rater_id: Only this rater.
        """
        questions = json.dumps([prompt_hash(item.prompt) for item in items])
        with self._file.read() as db:
            found = rows(db, _ANSWERS, {"questions": questions, "rater": rater_id})
        need = math.ceil(round(share * len(items), 9))
        return [
            Screened(
                row["id"],
                row["answered"],
                len(items),
                row["right"],
                row["right"] >= need if row["answered"] >= len(items) else None,
            )
            for row in found
        ]

    def note_screened(self, results: Collection[Screened], *, by: str) -> None:
        """Write who has passed the test and who has not, with the audit log.

        What is known is not written again, so it may be called after every answer.
        """
        done = [one for one in results if one.passed is not None]
        if not [one for one in done if self.has_passed(one.rater_id) is not one.passed]:
            return
        with self._file.write() as db:
            for one in done:
                detail = {"right": one.right, "questions": one.questions}
                _note(db, one.rater_id, bool(one.passed), by=by, **detail)

    def has_passed(self, rater_id: str) -> bool | None:
        """Whether a rater passed; None if there is no result, or no such rater."""
        with self._file.read() as db:
            row = first(db, "SELECT passed FROM raters WHERE id = ?", [rater_id])
        return None if row is None or row["passed"] is None else bool(row["passed"])


def guessing_passes(questions: int, share: float) -> float:
    """The probability that somebody passes who tosses a coin for each question."""
    return at_least(math.ceil(round(share * questions, 9)), questions, 0.5)


def pass_on(db: Database, passed: str, labeler: str, *, key: str, by: str) -> None:
    """Let the rater of a labeler's key count as passed, since its owner passed as another rater.

    Args:
        db: A write transaction.
        passed: The rater who took the test.
        labeler: The rater of the key.
        key: Its name.
        by: Who says that both are one person.

    Raises:
        ConflictError: The rater has not passed, or opened another key that is in use.
    """
    row = first(db, "SELECT passed FROM raters WHERE id = ?", [passed])
    if row is None or not row["passed"]:
        raise ConflictError(f"rater {passed!r} has not passed the screening; no key was made.")
    others = {row["name"] for row in rows(db, _LABELS_AS, [passed])} - {key}
    if others:
        raise ConflictError(
            f"rater {passed!r} labels with the key {min(others)!r}; revoke that one, or name the "
            "rater as whom the owner of this key took the test."
        )
    audit(db, "labeler_key", rater_id=passed, name=key, by=by)
    insert_rater(db, labeler)
    _note(db, labeler, True, by=by, key=key)


def _note(db: Database, rater_id: str, passed: bool, *, by: str, **detail: Any) -> None:
    before = first(db, "SELECT passed FROM raters WHERE id = ?", [rater_id])
    if before is None or before["passed"] == passed:
        return
    db.execute("UPDATE raters SET passed = ? WHERE id = ?", [passed, rater_id])
    if passed and first(db, _REQUIRED) and first(db, _HEARD_NOW, [rater_id]):
        take_numbers_again(db, rater_id)  # what is heard only now is new
    audit(db, "screened", rater_id=rater_id, by=by, passed=passed, **detail)
