"""Adapters, which one is served, and cycles: training writes them and the server follows.

The anchor is the adapter that the KL budget of cycles counts from; only an operator moves it.

Invariants: an adapter's name is never used twice; the served adapter is one row, so promotion and
rollback are the same atomic write; a promoted cycle ends in the transaction that serves its
adapter; at most one cycle runs, and the next cycle marks a cycle whose process has died as failed.
Each row of the served adapter names the one before it, which is the way back; an adapter that did
not load is not on it. Weights and reports are files elsewhere.
"""

import json
import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import islice
from typing import Any

from sqlite_utils import Database

from feedback_store.errors import ConflictError, CycleInProgressError, InvalidFeedbackError
from feedback_store.records import (
    ADAPTER_KINDS,
    ADAPTER_STATES,
    BASE_ADAPTER,
    CYCLE_STAGES,
    CYCLE_STATES,
    Adapter,
    Cycle,
    ServedBase,
    Serving,
)
from feedback_store.sqlite.database import SQLiteFile
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

_SERVING = 'SELECT adapter, previous, since, "by" FROM serving ORDER BY id DESC LIMIT 1'
_SIGNED_SINCE = "adapters_signed_since"  # in the bookkeeping
_END_STATES = tuple(state for state in CYCLE_STATES if state != "running")
# Only an adapter lasts of a failed cycle; if there is one, it may have learnt from the comparisons.
_FORGET_USES = """DELETE FROM {table} WHERE cycle_id = :cycle
    AND NOT EXISTS (SELECT 1 FROM adapters WHERE adapters.cycle_id = :cycle)"""
_USE = """INSERT INTO cycle_comparisons (cycle_id, comparison_id, used_as) VALUES (?, ?, ?)
    ON CONFLICT DO NOTHING"""
DIED = "its process has died; the next cycle goes on where it stopped"
COPIED = "it ran when the backup was made, and the backup has no files of it; start a new cycle"
_AT_ONCE = 500  # uses in one write transaction: about ten milliseconds


class Registry:
    """The adapters and cycles of a store."""

    _file: SQLiteFile

    def note_base(self, base: ServedBase) -> None:
        """Note the base model that a server answers with."""
        row = {"name": "served_base", "value": encode(asdict(base))}
        with self._file.write() as db:
            db.table("bookkeeping").upsert(row, pk="name")

    def base(self) -> ServedBase | None:
        """The base model that the last server answered with, or None if there was none."""
        with self._file.read() as db:
            found = scalar(db, "SELECT max(value) FROM bookkeeping WHERE name = 'served_base'")
        return None if found is None else ServedBase(**json.loads(found))

    def next_adapter_number(self) -> int:
        """Take the next number for adapter names; no number is taken twice."""
        with self._file.write() as db:
            names = [row["name"] for row in rows(db, "SELECT name FROM adapters")]
            numbers = [int(end) for name in names if (end := name.rpartition("-")[2]).isdecimal()]
            sql = "SELECT max(value) FROM bookkeeping WHERE name = 'adapter_number'"
            number = max(scalar(db, sql) or 0, *numbers) + 1
            db.table("bookkeeping").upsert({"name": "adapter_number", "value": number}, pk="name")
        return number

    def register_adapter(
        self,
        name: str,
        *,
        kind: str,
        parent: str | None = None,
        cycle_id: int | None = None,
        metrics: Mapping[str, float] | None = None,
        state: str = "candidate",
    ) -> Adapter:
        """Add an adapter under a new name."""
        one_of(kind, ADAPTER_KINDS, "the kind of an adapter")
        one_of(state, ADAPTER_STATES, "the state of an adapter")
        with self._file.write() as db:
            if first(db, "SELECT 1 FROM adapters WHERE name = ?", [name]):
                raise ConflictError(f"adapter {name!r} exists; names are not used twice.")
            if cycle_id is not None:
                require(db, "cycles", cycle_id)
            row = {
                "name": name,
                "kind": kind,
                "parent": parent,
                "cycle_id": cycle_id,
                "state": state,
                "metrics": _split_metrics(metrics or {})[0],
                "created_at": utc_now(),
            }
            insert(db, "adapters", row)
        return to_record(Adapter, row)

    def set_adapter_state(self, name: str, state: str) -> Adapter:
        """Publish or reject an adapter; the served adapter and the anchor stay published."""
        one_of(state, ADAPTER_STATES, "the state of an adapter")
        with self._file.write() as db:
            before = require(db, "adapters", name, key="name")["state"]
            if state != "published" and _serving(db).adapter == name:
                raise ConflictError(
                    f"adapter {name!r} is being served, so it cannot become {state}; "
                    "roll back to another adapter first."
                )
            if state != "published" and _anchor(db) == name:
                raise ConflictError(
                    f"adapter {name!r} is the anchor, so it cannot become {state}; "
                    "name another anchor first."
                )
            db.table("adapters").update(name, {"state": state})
            audit(db, "adapter_state", adapter=name, before=before, after=state)
            return to_record(Adapter, require(db, "adapters", name, key="name"))

    def adapter(self, name: str) -> Adapter:
        """The adapter with this name."""
        with self._file.read() as db:
            return to_record(Adapter, require(db, "adapters", name, key="name"))

    def adapters(self, kind: str | None = None) -> list[Adapter]:
        """All adapters, or those of one kind, oldest first."""
        sql = "SELECT * FROM adapters WHERE :kind IS NULL OR kind = :kind ORDER BY rowid"
        with self._file.read() as db:
            return [to_record(Adapter, row) for row in rows(db, sql, {"kind": kind})]

    def serving(self) -> Serving:
        """Which policy adapter new replies use now."""
        with self._file.read() as db:
            return _serving(db)

    def serve(self, name: str, *, by: str, force: bool = False) -> Serving:
        """Serve a published policy adapter to new replies; promotion and rollback both do this.

        With `force` a rejected one is published first. The audit log then has the gate's reasons.
        """
        with self._file.write() as db:
            return _serve(db, name, by=by, force=force)

    def served_before(self) -> tuple[str, ...]:
        """The adapters on the way back from the served one, the latest first, each once."""
        with self._file.read() as db:
            return _served_before(db)

    def fall_back(self, damaged: Collection[str], *, prefer: str | None, by: str) -> Serving:
        """Serve another adapter than one that does not load; nothing if another is served by now.

        Args:
            damaged: The adapters that do not load.
            prefer: The adapter that answers now, if there is one; else the latest one before.
            by: Who does it, and why.
        """
        with self._file.write() as db:
            now = _serving(db)
            if now.adapter not in damaged:
                return now
            sql = "SELECT name FROM adapters WHERE kind = 'policy' AND state = 'published'"
            sound = {row["name"] for row in rows(db, sql)}.difference(damaged)
            way = dict.fromkeys((prefer, *_served_before(db), BASE_ADAPTER))
            good, *before = [name for name in way if name is not None and name in sound]
            return _write_serving(db, good, before[0] if before else None, by=by)

    def signed_since(self) -> str | None:
        """When the adapters of this store were signed; later ones are signed when published."""
        with self._file.read() as db:
            sql = "SELECT max(value) FROM bookkeeping WHERE name = ?"
            found = scalar(db, sql, [_SIGNED_SINCE])
        return None if found is None else str(found)

    def note_signed(self, adapters: Sequence[str], *, by: str) -> None:
        """Note that adapters which had no signature got one; from now on all need one."""
        with self._file.write() as db:
            sql = "INSERT OR IGNORE INTO bookkeeping (name, value) VALUES (?, ?)"
            db.execute(sql, [_SIGNED_SINCE, utc_now()])
            if adapters:
                audit(db, "adapters_signed", adapters=list(adapters), by=by)

    def rejection(self, name: str) -> tuple[str, ...] | None:
        """Why a policy adapter was rejected; None if it was not, empty if no reason was kept."""
        with self._file.read() as db:
            return _rejection(db, require(db, "adapters", name, key="name"))

    def anchor(self) -> str:
        """The policy adapter that the KL budget of cycles counts from; at first the bare base."""
        with self._file.read() as db:
            return _anchor(db)

    def set_anchor(self, name: str, *, by: str) -> str:
        """Let the KL budget of the cycles from now on count from a published policy adapter."""
        with self._file.write() as db:
            _require_published_policy(db, name, "the anchor")
            before = _anchor(db)
            if before != name:
                db.table("bookkeeping").upsert({"name": "anchor", "value": name}, pk="name")
                audit(db, "anchor", before=before, after=name, by=by)
        return name

    def start_cycle(self, config: Mapping[str, Any], *, pid: int) -> Cycle:
        """Begin a cycle run by process `pid`.

        Raises:
            CycleInProgressError: Another cycle runs and its process is alive.
        """
        with self._file.write() as db:
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
        """Record how far a running cycle is, from 0 to 1, and what is known of it already."""
        one_of(stage, (None, *CYCLE_STAGES), "the stage of a cycle")
        if progress is not None and not 0 <= progress <= 1:
            raise InvalidFeedbackError(f"progress cannot be {progress!r}; use a number 0 to 1.")
        with self._file.write() as db:
            _require_running(db, cycle_id)
            said = {
                "stage": stage,
                "progress": progress,
                "metrics": None if metrics is None else _split_metrics(metrics)[0],
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
        serve: bool = False,
        expected_serving: str | None = None,
    ) -> Cycle:
        """End a running cycle, and with `serve` promote its adapter in the same transaction.

        Args:
            cycle_id: The running cycle.
            state: How it ended.
            reasons: Why. Each metric that is not a finite number is one more reason.
            metrics: What it measured.
            adapter: The policy adapter that it made.
            serve: Publish the adapter if it is a candidate, and let new replies use it.
            expected_serving: The adapter that `adapter` was compared with.

        Raises:
            ConflictError: Another adapter than `expected_serving` is served now.
        """
        one_of(state, _END_STATES, "the end of a cycle")
        if serve and (state != "promoted" or adapter is None):
            raise InvalidFeedbackError(
                f"a cycle that ended {state} with adapter {adapter!r} has nothing to serve; "
                "end it promoted, with an adapter."
            )
        finite, complaints = _split_metrics(metrics or {})
        reasons = (*reasons, *complaints)
        with self._file.write() as db:
            _require_running(db, cycle_id)
            if expected_serving is not None:
                _require_serving(db, expected_serving)
            if adapter is not None:
                require(db, "adapters", adapter, key="name")
                if serve:
                    _publish_candidate(db, adapter)
                    _serve(db, adapter, by=f"cycle {cycle_id}")
            _end_cycle(db, cycle_id, state=state, reasons=reasons, metrics=finite, adapter=adapter)
            return _cycle(db, cycle_id)

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

        If the cycle is refused, or fails before it makes an adapter, its end deletes these records:
        nothing of the cycle lasts. There are several transactions, so that nobody waits for long.

        Args:
            cycle_id: The cycle.
            ids: The comparisons.
            prompts: Messages of users that nobody judged, which the policy answers in training.
            seen: `last_numbers` when the cycle looked; now, if None. What comes later is new.

        Raises:
            UnknownRecordError: One of them is no longer there: it was withdrawn meanwhile.
        """
        with self._file.write() as db:
            require(db, "cycles", cycle_id)
            seen = last_numbers(db) if seen is None else seen
            db.execute("UPDATE cycles SET seen = ? WHERE id = ?", [encode(dict(seen)), cycle_id])
        for some in _batches(ids):
            with self._file.write() as db:
                uses = [(cycle_id, i, require(db, "comparisons", i)["split"]) for i in some]
                db.conn.executemany(_USE, uses)
        for some in _batches(prompts):
            with self._file.write() as db:
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


def _batches(ids: Iterable[str]) -> Iterator[list[str]]:
    rest = iter(ids)
    while some := list(islice(rest, _AT_ONCE)):
        yield some


def cycle_in_progress(db: Database) -> Cycle | None:
    """See `Registry.running_cycle`."""
    row = first(db, "SELECT * FROM cycles WHERE state = 'running'")
    return to_record(Cycle, row) if row is not None and _is_alive(row) else None


def _serving(db: Database) -> Serving:
    return to_record(Serving, rows(db, _SERVING)[0])


def _require_serving(db: Database, name: str) -> None:
    served = _serving(db).adapter
    if served != name:
        raise ConflictError(
            f"adapter {served!r} is served by now, not {name!r}, "
            "which the new adapter was compared with"
        )


def _publish_candidate(db: Database, name: str) -> None:
    sql = "UPDATE adapters SET state = 'published' WHERE name = ? AND state = 'candidate'"
    if db.execute(sql, [name]).rowcount:
        audit(db, "adapter_state", adapter=name, before="candidate", after="published")


def _rejection(db: Database, adapter: Row) -> tuple[str, ...] | None:
    if (adapter["kind"], adapter["state"]) != ("policy", "rejected"):
        return None
    return () if adapter["cycle_id"] is None else tuple(_cycle(db, adapter["cycle_id"]).reasons)


def _anchor(db: Database) -> str:
    found = first(db, "SELECT value FROM bookkeeping WHERE name = 'anchor'")
    return BASE_ADAPTER if found is None else str(found["value"])


def _require_published_policy(db: Database, name: str, use: str) -> None:
    adapter = to_record(Adapter, require(db, "adapters", name, key="name"))
    if (adapter.kind, adapter.state) != ("policy", "published"):
        raise ConflictError(
            f"adapter {name!r} is a {adapter.state} {adapter.kind} adapter; "
            f"only published policy adapters can be {use}."
        )


def _serve(db: Database, name: str, *, by: str, force: bool = False) -> Serving:
    row = require(db, "adapters", name, key="name")
    reasons, detail = _rejection(db, row), dict[str, Any]()
    if force and reasons is not None:  # from now on it is published, so a rollback can serve it
        detail = {"forced": True, "reasons": reasons}
        db.table("adapters").update(name, {"state": "published"})
        audit(db, "adapter_state", adapter=name, before="rejected", after="published", by=by)
    _require_published_policy(db, name, "served")
    now = _serving(db)
    return now if now.adapter == name else _write_serving(db, name, now.adapter, by=by, **detail)


def _write_serving(
    db: Database, name: str, previous: str | None, *, by: str, **detail: Any
) -> Serving:
    """Write the row that names the served adapter, and into the audit log who wrote it."""
    new = {"adapter": name, "previous": previous, "since": utc_now(), "by": by}
    insert(db, "serving", new)
    audit(db, "serve", **new, **detail)
    return to_record(Serving, new)


def _served_before(db: Database) -> tuple[str, ...]:
    now, *earlier = rows(db, "SELECT adapter, previous FROM serving ORDER BY id DESC")
    way, wanted = dict[str, None](), now["previous"]
    for row in earlier:
        if row["adapter"] == wanted:
            way[wanted], wanted = None, row["previous"]
    way.pop(now["adapter"], None)
    return tuple(way)


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


def _require_running(db: Database, cycle_id: int) -> None:
    state = require(db, "cycles", cycle_id)["state"]
    if state != "running":
        raise ConflictError(f"cycle {cycle_id} has ended ({state}); start a new one.")


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
    if state != "failed":  # a failed cycle keeps the stage and progress at which it failed
        end |= {"stage": "done", "progress": 1.0}
    db.table("cycles").update(cycle_id, end)
    if state in ("refused", "failed"):
        for table in ("cycle_comparisons", "cycle_prompts"):
            db.execute(_FORGET_USES.format(table=table), {"cycle": cycle_id})


def end_cycle_of_copy(db: Database) -> None:
    """In a copy of a store, end the cycle that ran when it was made: its process is another's."""
    for row in rows(db, "SELECT id FROM cycles WHERE state = 'running'"):
        _end_cycle(db, row["id"], state="failed", reasons=(COPIED,))


def _split_metrics(metrics: Mapping[str, float]) -> tuple[dict[str, float], tuple[str, ...]]:
    finite = {name: float(value) for name, value in metrics.items() if math.isfinite(value)}
    rest = metrics.keys() - finite.keys()
    return finite, tuple(f"{name} is not a finite number" for name in sorted(rest))
