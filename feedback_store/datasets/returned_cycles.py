"""A cycle that ran on another machine, recorded as if it had run here.

Invariants: all of it is one transaction; a result is added once; it is of evidence that this store
wrote, and no other cycle has come to a verdict since. A candidate is served only if the adapter is
still served that it was compared with, and if nobody was forgotten whose words were in the
evidence; else it is kept as rejected. What it may have learnt from whom is noted as for a cycle
that ran here, but for those who are forgotten: its adapters are marked at once.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from sqlite_utils import Database

from feedback_store.datasets.evidence_copy import EvidenceNote, keep_note, note_of
from feedback_store.errors import ConflictError, CycleInProgressError, UnknownRecordError
from feedback_store.privacy.copies import rater_hash
from feedback_store.records import Cycle, Promotion
from feedback_store.registry.adapters import serving_of, split_metrics
from feedback_store.registry.cycles import cycle_in_progress, follow_verdict
from feedback_store.sqlite import feed
from feedback_store.sqlite.database import SQLiteFile
from feedback_store.sqlite.ids import utc_now
from feedback_store.sqlite.rows import audit, first, insert, require, rows, scalar, to_record

_USES = """INSERT INTO cycle_comparisons (cycle_id, comparison_id, used_as)
    SELECT ?, comparisons.id, split FROM json_each(?) AS used
    CROSS JOIN comparisons ON comparisons.id = used.value"""
_PROMPTS = """INSERT OR IGNORE INTO cycle_prompts (cycle_id, message_id)
    SELECT ?, messages.id FROM json_each(?) AS used
    CROSS JOIN messages ON messages.id = used.value"""
_USED = {
    "comparisons": "SELECT comparison_id AS id FROM cycle_comparisons WHERE cycle_id = ?",
    "prompts": "SELECT message_id AS id FROM cycle_prompts WHERE cycle_id = ?",
}
_FORGOTTEN = "SELECT rater FROM forgotten WHERE done_at IS NULL OR done_at >= ?"
_VERDICT = """SELECT id, state FROM cycles WHERE id > ?
    AND state IN ('promoted', 'passed', 'rejected') ORDER BY id DESC LIMIT 1"""


@dataclass(frozen=True, slots=True)
class ReturnedCycle:
    """The result of a cycle on another machine.

    Attributes:
        evidence: The id of the evidence that it ran on.
        digest: Of the result; another digest is another result.
        served: The adapter that the candidate was compared with.
        parent: The adapter that it began as.
        state: How it ended: promoted, passed or rejected.
        reasons: Why.
        metrics: What it measured.
        config: Its settings.
        promotion: What becomes of a candidate that passed.
        seen: The numbers that it saw, by table.
        comparisons: The ids of those that it used.
        prompts: The ids of the messages without a vote that it used.
        finished_at: When it ended, by the clock of the machine where it ran.
    """

    evidence: str
    digest: str
    served: str
    parent: str
    state: str
    reasons: tuple[str, ...]
    metrics: Mapping[str, float]
    config: Mapping[str, Any]
    promotion: Promotion
    seen: Mapping[str, int]
    comparisons: tuple[str, ...]
    prompts: tuple[str, ...]
    finished_at: str


class ReturnedCycles:
    """Cycles that ran on other machines."""

    _file: SQLiteFile

    def uses_of(self, cycle_id: int) -> tuple[dict[str, list[str]], dict[str, int]]:
        """The ids of the comparisons and prompts that a cycle used, and the numbers it saw."""
        with self._file.read() as db:
            uses = {
                name: [row["id"] for row in rows(db, sql, [cycle_id])]
                for name, sql in _USED.items()
            }
            return uses, json.loads(require(db, "cycles", cycle_id)["seen"])

    def added_cycle(self, evidence: str, digest: str) -> Cycle | None:
        """The cycle that a result became; None if it may be added.

        Raises:
            UnknownRecordError: This store did not write the evidence.
            ConflictError: Another result of the evidence was added, or another cycle has come to a
                verdict since.
            CycleInProgressError: A cycle runs here.
        """
        with self._file.read() as db:
            return _added(db, evidence, digest)

    def add_cycle(
        self,
        result: ReturnedCycle,
        adapters: Mapping[str, str],
        *,
        forgotten: int,
        place: Callable[[int], object],
    ) -> Cycle:
        """Record the result of a cycle, with its adapters, and serve the candidate if it won.

        Args:
            result: What came back.
            adapters: The adapters' new names by kind, which are on disk; empty if there are none.
            forgotten: As `forgotten_since` says; if more were forgotten by now, nothing is added.
            place: Gets the cycle's number, and puts its report in place.

        Raises:
            UnknownRecordError, ConflictError, CycleInProgressError: As for `added_cycle`.
        """
        with self._file.write() as db:
            added = _added(db, result.evidence, result.digest)
            if added is not None:
                return added
            note = _require_note(db, result.evidence)
            gone = _gone(db, note)
            if len(gone) != forgotten:
                raise ConflictError("somebody was forgotten in this moment; add it again.")
            cycle_id = _insert(db, note, result, adapters, gone)
            _note_lineage(db, note, [*adapters.values()], gone)
            keep_note(db, replace(note, people=(), cycle=cycle_id, result=result.digest))
            place(cycle_id)
            return to_record(Cycle, require(db, "cycles", cycle_id))

    def forgotten_since(self, evidence: str) -> int:
        """How many of those whose words are in the evidence have been forgotten since."""
        with self._file.read() as db:
            return len(_gone(db, _require_note(db, evidence)))


def _require_note(db: Database, evidence: str) -> EvidenceNote:
    note = note_of(db, evidence)
    if note is None:
        raise UnknownRecordError(
            f"this installation did not write the evidence {evidence[:12]}; add the result where "
            "the evidence was written."
        )
    return note


def _added(db: Database, evidence: str, digest: str) -> Cycle | None:
    note = _require_note(db, evidence)
    if note.cycle is not None:
        if note.result == digest:
            return to_record(Cycle, require(db, "cycles", note.cycle))
        raise ConflictError(
            f"another result of this evidence was added as cycle {note.cycle}; nothing was changed."
        )
    running = cycle_in_progress(db)
    if running is not None:
        raise CycleInProgressError(
            f"cycle {running.id} is running (process {running.pid}); add the result when it has "
            "ended; nothing was changed."
        )
    later = first(db, _VERDICT, [note.last_cycle])
    if later is not None:
        raise ConflictError(
            f"cycle {later['id']} has run here since the evidence was written, and was "
            f"{later['state']}, so the result is of votes that were used; nothing was changed. "
            "Write new evidence and run the cycle again."
        )
    return None


def _gone(db: Database, note: EvidenceNote) -> list[str]:
    """The hashes of those in the evidence who were forgotten since, or wait for it.

    Also of those who have come back under the same id since then.
    """
    there = {rater_hash(row["id"]) for row in rows(db, "SELECT id FROM raters")}
    there -= {row["rater"] for row in rows(db, _FORGOTTEN, [note.at])}
    return [person for person in note.people if person not in there]


def _insert(
    db: Database,
    note: EvidenceNote,
    result: ReturnedCycle,
    adapters: Mapping[str, str],
    gone: list[str],
) -> int:
    """The cycle's row, what it used, its adapters, and what becomes of the candidate."""
    finite, complaints = split_metrics(result.metrics)
    refused = _why_not_served(db, result, gone) if result.state != "rejected" else ()
    state = "rejected" if refused else result.state
    row = {
        "state": state,
        "stage": "done",
        "progress": 1.0,
        "adapter": adapters.get("policy"),
        "reasons": (*refused, *result.reasons, *complaints),
        "metrics": finite,
        "config": dict(result.config),
        "pid": 0,  # no process of this machine
        "started_at": note.at,  # votes that stood then may have taught it
        "finished_at": utc_now(),  # the other machine's clock may be wrong
        "seen": dict(result.seen),
    }
    insert(db, "cycles", row)
    cycle_id = int(scalar(db, "SELECT max(id) FROM cycles"))
    used = {_USES: result.comparisons, _PROMPTS: result.prompts}
    there = [
        db.conn.execute(sql, [cycle_id, json.dumps(ids)]).rowcount for sql, ids in used.items()
    ]
    for kind, name in adapters.items():
        insert(
            db,
            "adapters",
            {
                "name": name,
                "kind": kind,
                "parent": result.parent,
                "cycle_id": cycle_id,
                "state": "candidate",
                "metrics": finite,
                "created_at": utc_now(),
            },
        )
    withdrawn = len(result.comparisons) + len(result.prompts) - sum(there)
    done = {"finished_there": result.finished_at, "withdrawn": withdrawn}
    audit(db, "cycle_added", cycle=cycle_id, evidence=note.id, **done)
    promotion = None if state == "rejected" else result.promotion
    follow_verdict(db, cycle_id, state=state, adapter=adapters.get("policy"), promotion=promotion)
    feed.note(db, "cycle", cycle_id)
    return cycle_id


def _why_not_served(db: Database, result: ReturnedCycle, gone: list[str]) -> tuple[str, ...]:
    served, why = serving_of(db).adapter, []
    if served != result.served:
        why.append(
            f"adapter {served!r} is served by now, not {result.served!r}, which the new adapter "
            "was compared with; run another cycle"
        )
    if gone:
        why.append(
            f"{len(gone)} of those whose words were in the evidence were forgotten since; write "
            "new evidence and run another cycle"
        )
    return tuple(why)


def _note_lineage(db: Database, note: EvidenceNote, adapters: list[str], gone: list[str]) -> None:
    """From whom the adapters have learnt, or may have: as `erasure` notes it of deleted rows."""
    people = set(note.people).difference(gone)
    teachers = [row["id"] for row in rows(db, "SELECT id FROM raters")]
    taught = [
        (rater, name) for rater in teachers if rater_hash(rater) in people for name in adapters
    ]
    db.conn.executemany("INSERT OR IGNORE INTO taught VALUES (?, ?)", taught)
    for name in adapters:
        parent = require(db, "adapters", name, key="name")["parent"]
        above = first(db, "SELECT tainted_at FROM adapters WHERE name = ?", [parent])
        if gone or (above and (above["tainted_at"] or "") > note.at):
            db.conn.execute("UPDATE adapters SET tainted_at = ? WHERE name = ?", [utc_now(), name])
