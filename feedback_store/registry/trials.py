"""Trials: which two policy adapters people compare now, and what they chose.

In a trial some side-by-sides show a reply of each adapter, blind, and the choices decide. What they
show is computed elsewhere, and what follows from it is in `serving.py`. Invariant: at most one
trial is open.
"""

from sqlite_utils import Database

from feedback_store.feedback.events import HEARD, LEFT_OUT_VOTES, owners_agree
from feedback_store.records import Cycle, Trial
from feedback_store.sqlite.database import SQLiteFile
from feedback_store.sqlite.ids import utc_now
from feedback_store.sqlite.rows import (
    audit,
    encode,
    first,
    insert,
    require,
    rows,
    scalar,
    to_record,
)

# Only whoever was shown the two decides: a model judge may have read them since.
# A new account is known by where it came from until it has agreed with others, as for its weight.
_CHOICES = f"""SELECT coalesce(iif(raters.proven, NULL, raters.origin), raters.id) AS rater,
        messages.adapter AS preferred
    FROM candidates
    JOIN choices ON choices.id = (SELECT id FROM choices AS made
        WHERE made.candidates_id = candidates.id AND made.rater_id = candidates.rater_id
        ORDER BY created_at, id LIMIT 1)
    JOIN raters ON raters.id = choices.rater_id
    LEFT JOIN messages ON messages.candidates_id = candidates.id AND messages.label = choices.choice
    WHERE candidates.trial_id = ? AND {HEARD} AND {owners_agree("candidates.prompt_message_id")}
    AND choices.id NOT IN {LEFT_OUT_VOTES}
    ORDER BY choices.created_at, choices.id"""


class Trials:
    """The trials of a store."""

    _file: SQLiteFile

    def open_trial(self) -> Trial | None:
        """The trial that goes on now, if there is one."""
        with self._file.read() as db:
            return open_trial_of(db)

    def trials(self, limit: int = 50) -> list[Trial]:
        """The latest trials, newest first."""
        with self._file.read() as db:
            found = rows(db, "SELECT * FROM trials ORDER BY id DESC LIMIT ?", [limit])
        return [to_record(Trial, row) for row in found]

    def trial_choices(self, trial_id: int) -> list[tuple[str, str | None]]:
        """Who chose which adapter's reply, in the order of the choices; None: neither is better.

        Only choices that may be learnt from count. Of a changed choice the first one counts: only
        that is surely blind. New accounts of one address that have not agreed with others yet are
        one rater.
        """
        with self._file.read() as db:
            require(db, "trials", trial_id)
            found = rows(db, _CHOICES, [trial_id])
        return [(row["rater"], row["preferred"]) for row in found]


def open_trial_of(db: Database) -> Trial | None:
    """See `Trials.open_trial`."""
    row = first(db, "SELECT * FROM trials WHERE ended_at IS NULL")
    return None if row is None else to_record(Trial, row)


def insert_trial(db: Database, kind: str, adapter: str, other: str, *, by: str) -> Trial:
    """Begin a trial, in place of the open one."""
    end_open_trial(db, "stopped", f"a {kind} of {adapter} began", by=by)
    row = {"kind": kind, "adapter": adapter, "other": other, "started_at": utc_now()}
    insert(db, "trials", row)
    trial = require(db, "trials", scalar(db, "SELECT max(id) FROM trials"))
    audit(db, "trial_started", trial=trial["id"], kind=kind, adapter=adapter, other=other, by=by)
    return to_record(Trial, trial)


def end_open_trial(db: Database, outcome: str, reason: str, *, by: str) -> None:
    """Write how the open trial ended, if there is one; nothing follows from it here."""
    trial = open_trial_of(db)
    if trial is not None:
        end = {"ended_at": utc_now(), "outcome": outcome, "reason": reason}
        db.table("trials").update(trial.id, end)
        audit(db, "trial_ended", trial=trial.id, outcome=outcome, reason=reason, by=by)
        if trial.kind == "canary" and outcome == "stopped":  # the cycle goes on to wait
            sql = "SELECT * FROM cycles WHERE adapter = ? AND state = 'passed'"
            for row in rows(db, sql, [trial.adapter]):
                told = (*to_record(Cycle, row).reasons, f"its canary was stopped: {reason}")
                db.table("cycles").update(row["id"], {"reasons": encode(told)})
