"""Which adapter is served, which was before, and what follows from a trial.

Invariants: the served adapter is one row, so promotion and rollback are the same atomic write. Each
row names the adapter before it, which is the way back; one that did not load, or that people found
worse, is not on it. Whoever serves another adapter ends the open trial. The end of a trial and what
follows from it are one transaction.
"""

from collections.abc import Collection
from typing import Any

from sqlite_utils import Database

from feedback_store.errors import ConflictError
from feedback_store.records import (
    BASE_ADAPTER,
    TRIAL_KINDS,
    TRIAL_OUTCOMES,
    Serving,
    Trial,
)
from feedback_store.registry.adapters import (
    reject_adapter,
    rejection_of,
    require_published_policy,
    serving_of,
)
from feedback_store.registry.trials import end_open_trial, insert_trial
from feedback_store.sqlite.database import SQLiteFile
from feedback_store.sqlite.feed import note
from feedback_store.sqlite.ids import utc_now
from feedback_store.sqlite.rows import (
    audit,
    first,
    insert,
    one_of,
    require,
    rows,
    scalar,
    to_record,
)


class ServedAdapter:
    """The served adapter of a store, and the trials that decide on it."""

    _file: SQLiteFile

    def serving(self) -> Serving:
        """Which policy adapter new replies use now."""
        with self._file.read() as db:
            return serving_of(db)

    def serve(self, name: str, *, by: str, force: bool = False, guard: bool = False) -> Serving:
        """Serve a published policy adapter to new replies; promotion and rollback both do this.

        With `force` a rejected one is published first. The audit log then has the gate's reasons.
        With `guard` people compare it with the one before from then on.
        """
        with self._file.write() as db:
            return serve_adapter(db, name, by=by, force=force, guard=guard)

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
            now = serving_of(db)
            if now.adapter not in damaged:
                return now
            sql = "SELECT name FROM adapters WHERE kind = 'policy' AND state = 'published'"
            sound = {row["name"] for row in rows(db, sql)}.difference(damaged)
            way = dict.fromkeys((prefer, *_served_before(db), BASE_ADAPTER))
            good, *before = [name for name in way if name is not None and name in sound]
            return _write_serving(db, good, before[0] if before else None, by=by)

    def start_trial(
        self, kind: str, adapter: str, other: str, *, by: str, force: bool = False
    ) -> Trial:
        """Let people compare two adapters from now on; the open trial, if any, is stopped.

        With `force` a rejected `adapter` is tried; it stays rejected until people find it better.

        Raises:
            ConflictError: The two are the same, one may not be served, or the served one is not
                `other` in a canary, or not `adapter` in a guard.
        """
        one_of(kind, TRIAL_KINDS, "the kind of a trial")
        with self._file.write() as db:
            rejected = rejection_of(db, require(db, "adapters", adapter, key="name")) is not None
            for name in (other,) if force and rejected else (adapter, other):
                require_published_policy(db, name, "in a trial")
            if adapter == other:
                raise ConflictError(f"{adapter!r} is served already; name another adapter.")
            wanted = other if kind == "canary" else adapter
            if serving_of(db).adapter != wanted:
                raise ConflictError(f"{wanted!r} is not served by now; begin again.")
            return insert_trial(db, kind, adapter, other, by=by)

    def end_trial(self, trial_id: int, outcome: str, reason: str, *, by: str) -> Trial:
        """End an open trial, and do what follows from it.

        A canary that is better is served, and watched by a guard; one that is not is rejected, and
        the guard that it replaced begins anew. A served adapter that is worse is rejected, and the
        one before is served again. A trial that is stopped changes nothing.

        Args:
            trial_id: The trial.
            outcome: Of `TRIAL_OUTCOMES`, about the trial's `adapter`.
            reason: Why, in words; it becomes a reason of the adapter's cycle.
            by: Who ends it.

        Raises:
            ConflictError: The trial has ended, for example as another adapter was served.
        """
        one_of(outcome, TRIAL_OUTCOMES, "the outcome of a trial")
        with self._file.write() as db:
            trial = to_record(Trial, require(db, "trials", trial_id))
            if trial.ended_at is not None:
                raise ConflictError(f"trial {trial_id} has ended ({trial.outcome}).")
            end_open_trial(db, outcome, reason, by=by)
            _follow(db, trial, outcome, reason, by=by)
            return to_record(Trial, require(db, "trials", trial_id))

    def stages(self) -> dict[str, str]:
        """Where each policy adapter is on its way.

        candidate (waits), canary, served, retired (was served), rejected, rolled back (was served,
        and then people found it worse).
        """
        sql = """SELECT name, CASE
                WHEN name = (SELECT adapter FROM serving ORDER BY id DESC LIMIT 1) THEN 'served'
                WHEN name IN (SELECT adapter FROM trials WHERE ended_at IS NULL AND kind = 'canary')
                    THEN 'canary'
                WHEN state = 'rejected' THEN iif(name IN (SELECT adapter FROM trials
                    WHERE kind = 'guard' AND outcome = 'worse'), 'rolled back', 'rejected')
                WHEN name IN (SELECT adapter FROM serving) THEN 'retired'
                ELSE 'candidate' END AS stage
            FROM adapters WHERE kind = 'policy' ORDER BY rowid"""
        with self._file.read() as db:
            return {row["name"]: row["stage"] for row in rows(db, sql)}


def _follow(db: Database, trial: Trial, outcome: str, reason: str, *, by: str) -> None:
    if trial.kind == "canary" and outcome == "better":
        serve_adapter(db, trial.adapter, by=by, force=True, guard=True)
    elif trial.kind == "canary":
        if outcome != "stopped":
            reject_adapter(db, trial.adapter, reason, by=by)
        _guard_again(db, by=by)
    elif trial.kind == "guard" and outcome == "worse":
        way = [name for name in _served_before(db) if name != trial.other]
        _write_serving(db, trial.other, way[0] if way else None, by=by, reason=reason)
        reject_adapter(db, trial.adapter, reason, by=by)


def _guard_again(db: Database, *, by: str) -> None:
    """Begin the guard of the served adapter anew, if it was stopped for a canary."""
    sql = """SELECT * FROM trials WHERE kind = 'guard' AND adapter = ?
        AND started_at >= (SELECT since FROM serving ORDER BY id DESC LIMIT 1)
        ORDER BY id DESC LIMIT 1"""
    guard = first(db, sql, [serving_of(db).adapter])
    if guard is not None and guard["outcome"] == "stopped":
        insert_trial(db, "guard", guard["adapter"], guard["other"], by=by)


def require_serving(db: Database, name: str) -> None:
    """Refuse to go on if another adapter is served than a candidate was compared with."""
    served = serving_of(db).adapter
    if served != name:
        raise ConflictError(
            f"adapter {served!r} is served by now, not {name!r}, "
            "which the new adapter was compared with"
        )


def serve_adapter(
    db: Database, name: str, *, by: str, force: bool = False, guard: bool = False
) -> Serving:
    """Write that an adapter is served; with `force` also one that was rejected.

    With `guard`, a trial against the adapter before begins. A cycle that waited for this is
    promoted.
    """
    require(db, "adapters", name, key="name")
    detail = _publish_rejected(db, name, by=by) if force else {}
    require_published_policy(db, name, "served")
    now = serving_of(db)
    if now.adapter == name:
        return now
    serving = _write_serving(db, name, now.adapter, by=by, **detail)
    db.execute(
        "UPDATE cycles SET state = 'promoted' WHERE adapter = ? AND state = 'passed'", [name]
    )
    if guard and name != BASE_ADAPTER:  # back to the base is no promotion
        insert_trial(db, "guard", name, now.adapter, by=by)
    return serving


def _publish_rejected(db: Database, name: str, *, by: str) -> dict[str, Any]:
    """Publish an adapter if it was rejected, so that a rollback can serve it, too.

    Returns what the audit log is to know of it.
    """
    reasons = rejection_of(db, require(db, "adapters", name, key="name"))
    if reasons is None:
        return {}
    db.table("adapters").update(name, {"state": "published"})
    audit(db, "adapter_state", adapter=name, before="rejected", after="published", by=by)
    return {"forced": True, "reasons": reasons}


def _write_serving(
    db: Database, name: str, previous: str | None, *, by: str, **detail: Any
) -> Serving:
    """Write the row that names the served adapter, and into the audit log who wrote it."""
    new = {"adapter": name, "previous": previous, "since": utc_now(), "by": by}
    end_open_trial(db, "stopped", f"{name} is served", by=by)
    insert(db, "serving", new)
    note(db, "served", scalar(db, "SELECT max(id) FROM serving"))
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
