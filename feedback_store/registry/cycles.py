"""Cycles: what each uses, how far it is and how it ended.

Invariants: a promoted cycle ends in the transaction that serves its adapter; at most one cycle
runs, and the next cycle marks a cycle whose process has died as failed; a cycle that has ended
writes no more (`fencing`). Reports are files elsewhere.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from sqlite_utils import Database

from feedback_store.errors import CycleInProgressError, InvalidFeedbackError
from feedback_store.records import (
    CYCLE_STAGES,
    CYCLE_STATES,
    Cycle,
    Promotion,
)
from feedback_store.registry.adapters import serving_of, settle_candidate, split_metrics
from feedback_store.registry.fencing import require_running
from feedback_store.registry.serving import require_serving, serve_adapter
from feedback_store.registry.trials import insert_trial
from feedback_store.sqlite.database import SQLiteFile
from feedback_store.sqlite.feed import note
from feedback_store.sqlite.ids import utc_now
from feedback_store.sqlite.numbers import last_numbers
from feedback_store.sqlite.process_identity import identity
from feedback_store.sqlite.rows import (
    Row,
    audit,
    encode,
    first,
    insert,
    one_of,
    require,
    rows,
    scalar,
    to_record,
)

_END_STATES = tuple(state for state in CYCLE_STATES if state != "running")
# Only an adapter lasts of a cycle without a verdict; it may have learnt from the comparisons.
_FORGET_USES = """DELETE FROM {table} WHERE cycle_id = :cycle
    AND NOT EXISTS (SELECT 1 FROM adapters WHERE adapters.cycle_id = :cycle)"""
_USE = """INSERT INTO cycle_comparisons (cycle_id, comparison_id, used_as) VALUES (?, ?, ?)
    ON CONFLICT DO NOTHING"""
DIED = "its process has died; the next cycle goes on where it stopped"
COPIED = "it ran when the backup was made, and the backup has no files of it; start a new cycle"
_AT_ONCE = 500  # uses in one write transaction: about ten milliseconds


class Cycles:
    """The cycles of a store, one at a time."""

    _file: SQLiteFile

    def start_cycle(self, config: Mapping[str, Any], *, pid: int) -> Cycle:
        """Begin a cycle run by process `pid`.

        Raises:
            CycleInProgressError: Another cycle runs and its process is alive; or it was cancelled
                and its process has not ended yet.
        """
        with self._file.write() as db:
            _require_nobody_ending(db, pid)
            running = first(db, "SELECT * FROM cycles WHERE state = 'running'")
            if running is not None:
                if _is_alive(running):
                    raise CycleInProgressError(
                        f"cycle {running['id']} is running (process {running['pid']}, stage "
                        f"{running['stage']}); wait for it, or stop that process."
                    )
                _end_cycle(db, running["id"], state="failed", reasons=(DIED,))
            row = {
                "state": "running",
                "stage": CYCLE_STAGES[0],
                "progress": 0.0,
                "reasons": (),
                "metrics": {},
                "config": dict(config),
                "pid": pid,
                "process": identity(pid),
                "started_at": utc_now(),
            }
            insert(db, "cycles", row)
            return _cycle(db, scalar(db, "SELECT max(id) FROM cycles"))

    def update_cycle(
        self,
        cycle_id: int,
        *,
        stage: str | None = None,
        progress: float | None = None,
        metrics: Mapping[str, float] | None = None,
    ) -> Cycle:
        """Record how far a running cycle is, from 0 to 1, and what is known of it already.

        Raises:
            CycleEndedError: It does not run any more.
        """
        one_of(stage, (None, *CYCLE_STAGES), "the stage of a cycle")
        if progress is not None and not 0 <= progress <= 1:
            raise InvalidFeedbackError(f"progress cannot be {progress!r}; use a number 0 to 1.")
        with self._file.write() as db:
            require_running(db, cycle_id)
            said = {
                "stage": stage,
                "progress": progress,
                "metrics": None if metrics is None else split_metrics(metrics)[0],
            }
            known = {name: value for name, value in said.items() if value is not None}
            db.table("cycles").update(cycle_id, known)
            return _cycle(db, cycle_id)

    def finish_cycle(
        self,
        cycle_id: int,
        *,
        state: str,
        reasons: Sequence[str] = (),
        metrics: Mapping[str, float] | None = None,
        adapter: str | None = None,
        promotion: Promotion | None = None,
        expected_serving: str | None = None,
    ) -> Cycle:
        """End a running cycle, and what becomes of its adapter, in the same transaction.

        The adapter of a rejected cycle is rejected with it.

        Args:
            cycle_id: The running cycle.
            state: How it ended.
            reasons: Why. Each metric that is not a finite number is one more reason.
            metrics: What it measured.
            adapter: The policy adapter that it made.
            promotion: Publish the adapter: `offline` serves it, and a guard watches it; `canary`
                lets people compare it with the served one; `manual` waits for the operator.
            expected_serving: The adapter that `adapter` was compared with.

        Raises:
            CycleEndedError: It does not run any more.
            ConflictError: Another adapter than `expected_serving` is served now.
        """
        one_of(state, _END_STATES, "the end of a cycle")
        ends = {None: state, "offline": "promoted", "canary": "passed", "manual": "passed"}
        if promotion and (state != ends[promotion] or adapter is None):
            raise InvalidFeedbackError(
                f"a cycle that ended {state} with adapter {adapter!r} has nothing to promote; "
                f"end it {ends[promotion]}, with an adapter."
            )
        finite, complaints = split_metrics(metrics or {})
        reasons = (*reasons, *complaints)
        with self._file.write() as db:
            require_running(db, cycle_id)
            if expected_serving is not None:
                require_serving(db, expected_serving)
            follow_verdict(db, cycle_id, state=state, adapter=adapter, promotion=promotion)
            _end_cycle(db, cycle_id, state=state, reasons=reasons, metrics=finite, adapter=adapter)
            return _cycle(db, cycle_id)

    def cancel_cycle(self, *, by: str) -> Cycle | None:
        """End the running cycle because somebody wants it; its process can write nothing more.

        What people said stays to be learnt from, and no later cycle resumes this one. The caller
        ends the process.

        Returns:
            The cycle, or None if none runs.
        """
        with self._file.write() as db:
            cycle = cycle_in_progress(db)
            if cycle is None:
                return None
            metrics = cycle.metrics
            _end_cycle(db, cycle.id, state="cancelled", reasons=(f"by {by}",), metrics=metrics)
            audit(db, "cycle_cancelled", cycle=cycle.id, by=by)
            return _cycle(db, cycle.id)

    def cycle_process(self, cycle_id: int) -> int | None:
        """Id of the process that began a cycle, though the cycle may have ended; None if dead."""
        with self._file.read() as db:
            row = require(db, "cycles", cycle_id)
        return row["pid"] if _is_alive(row) else None

    def use_comparisons(
        self,
        cycle_id: int,
        ids: Iterable[str],
        *,
        prompts: Iterable[str] = (),
        seen: Mapping[str, int] | None = None,
    ) -> None:
        """Record which comparisons a cycle uses, and how, so that receipts can say it.

        How follows from the comparison's present split: the cycle trains its adapters on `train`
        and only measures them on `held_out` (a held-out question) and `held_out_raters`.

        If the cycle is refused, or ends before it makes an adapter, its end deletes these records:
        nothing of the cycle lasts. There are several transactions, so that nobody waits for long.

        Args:
            cycle_id: The cycle.
            ids: The comparisons.
            prompts: Messages of users that nobody judged, which the policy answers in training.
            seen: `last_numbers` when the cycle looked; now, if None. What comes later is new.

        Raises:
            UnknownRecordError: One of them is no longer there: it was withdrawn meanwhile.
            CycleEndedError: The cycle does not run any more.
        """
        with self._file.write() as db:
            require_running(db, cycle_id)
            seen = last_numbers(db) if seen is None else seen
            db.execute("UPDATE cycles SET seen = ? WHERE id = ?", [encode(dict(seen)), cycle_id])
        for some in _batches(ids):
            with self._file.write() as db:
                require_running(db, cycle_id)
                uses = [(cycle_id, i, require(db, "comparisons", i)["split"]) for i in some]
                db.conn.executemany(_USE, uses)
        for some in _batches(prompts):
            with self._file.write() as db:
                require_running(db, cycle_id)
                there = [(cycle_id, require(db, "messages", i)["id"]) for i in some]
                sql = "INSERT OR IGNORE INTO cycle_prompts (cycle_id, message_id) VALUES (?, ?)"
                db.conn.executemany(sql, there)

    def cycle(self, cycle_id: int) -> Cycle:
        """The cycle with this number."""
        with self._file.read() as db:
            return _cycle(db, cycle_id)

    def cycles(self, limit: int = 50) -> list[Cycle]:
        """The latest cycles, newest first."""
        sql = "SELECT * FROM cycles ORDER BY id DESC LIMIT ?"
        with self._file.read() as db:
            return [_as_it_is(row) for row in rows(db, sql, [limit])]

    def running_cycle(self) -> Cycle | None:
        """The running cycle, if there is one; a cycle whose process has died does not run."""
        with self._file.read() as db:
            return cycle_in_progress(db)

    def last_cycle(self) -> Cycle | None:
        """The latest cycle, running or not, if there is one."""
        return next(iter(self.cycles(limit=1)), None)

    def cycle_counts(self) -> dict[str, int]:
        """How many cycles have ended in each way, 0 included."""
        sql = "SELECT state, count(*) AS n FROM cycles GROUP BY state"
        with self._file.read() as db:
            found = {row["state"]: row["n"] for row in rows(db, sql)}
        return {state: found.get(state, 0) for state in _END_STATES}

    def votes_sufficed_at(self) -> str:
        """When there last were enough votes for a cycle: the end of the last that was not refused.

        A running cycle counts from its start; without any, it is when the store was made.
        """
        sql = """SELECT coalesce(
            (SELECT coalesce(finished_at, started_at) FROM cycles WHERE state != 'refused'
             ORDER BY id DESC LIMIT 1),
            (SELECT min(since) FROM serving))"""
        with self._file.read() as db:
            return str(scalar(db, sql))


def follow_verdict(
    db: Database, cycle_id: int, *, state: str, adapter: str | None, promotion: Promotion | None
) -> None:
    """What becomes of the adapter of a cycle that ends; see `Cycles.finish_cycle`."""
    if adapter is None:
        return
    require(db, "adapters", adapter, key="name")
    if state == "rejected":
        settle_candidate(db, adapter, "rejected")
    if promotion:
        settle_candidate(db, adapter, "published")
    if promotion == "offline":
        serve_adapter(db, adapter, by=f"cycle {cycle_id}", guard=True)
    if promotion == "canary":
        insert_trial(db, "canary", adapter, serving_of(db).adapter, by=f"cycle {cycle_id}")


def _batches(ids: Iterable[str]) -> Iterator[list[str]]:
    rest = iter(ids)
    while some := list(islice(rest, _AT_ONCE)):
        yield some


def cycle_in_progress(db: Database) -> Cycle | None:
    """See `Cycles.running_cycle`."""
    row = first(db, "SELECT * FROM cycles WHERE state = 'running'")
    return to_record(Cycle, row) if row is not None and _is_alive(row) else None


def _cycle(db: Database, cycle_id: int) -> Cycle:
    return _as_it_is(require(db, "cycles", cycle_id))


def _as_it_is(row: Row) -> Cycle:
    """A cycle's record: one whose process has died has failed, though nobody has written it yet."""
    if row["state"] == "running" and not _is_alive(row):
        row = row | {"state": "failed", "reasons": (DIED,)}
    return to_record(Cycle, row)


def _is_alive(running: Row) -> bool:
    """Whether the process that began a cycle still runs; another process may have its pid now."""
    process = identity(running["pid"])
    return process is not None and process == running["process"]


def _require_nobody_ending(db: Database, pid: int) -> None:
    """Refuse to begin beside the process of a cycle that was cancelled: memory is for one."""
    last = first(db, "SELECT * FROM cycles ORDER BY id DESC LIMIT 1")
    ending = last is not None and last["state"] == "cancelled" and last["pid"] != pid
    if last is not None and ending and _is_alive(last):
        raise CycleInProgressError(
            f"cycle {last['id']} was cancelled, and its process {last['pid']} has not ended yet; "
            "try again in a moment, or end that process."
        )


def _end_cycle(
    db: Database,
    cycle_id: int,
    *,
    state: str,
    reasons: Sequence[str],
    metrics: Mapping[str, float] | None = None,
    adapter: str | None = None,
) -> None:
    end: Row = {
        "state": state,
        "reasons": encode(tuple(reasons)),
        "metrics": encode(dict(metrics or {})),
        "adapter": adapter,
        "finished_at": utc_now(),
    }
    if state not in ("failed", "cancelled"):  # these keep the stage and progress of their end
        end |= {"stage": "done", "progress": 1.0}
    db.table("cycles").update(cycle_id, end)
    note(db, "cycle", cycle_id)
    if state in ("failed", "cancelled"):  # nobody will decide on what it left
        sql = "UPDATE adapters SET state = 'rejected' WHERE cycle_id = ? AND state = 'candidate'"
        db.execute(f"{sql} AND kind = 'policy'", [cycle_id])
    if state in ("refused", "failed", "cancelled"):
        for table in ("cycle_comparisons", "cycle_prompts"):
            db.execute(_FORGET_USES.format(table=table), {"cycle": cycle_id})
        # What it looked at starts no cycle by itself (`new_evidence`). Who cancels one wants none
        # on what has been said since, either.
        sql = "UPDATE cycles SET seen = ? WHERE id = ? AND (seen = '{}' OR state = 'cancelled')"
        db.execute(sql, [encode(last_numbers(db)), cycle_id])


def end_cycle_of_copy(db: Database) -> None:
    """In a copy of a store, end the cycle that ran when it was made: its process is another's.

    What was to be sent then is the other's, too: alarms, and what webhooks had not taken.
    """
    db.execute("UPDATE alarms SET next_try_at = NULL")
    for row in rows(db, "SELECT id FROM cycles WHERE state = 'running'"):
        _end_cycle(db, row["id"], state="failed", reasons=(COPIED,))
    db.execute("UPDATE webhooks SET taken = (SELECT coalesce(max(number), 0) FROM feed)")
