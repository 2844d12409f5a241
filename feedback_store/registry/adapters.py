"""Adapters, and which one is served: training writes them and the server follows.

The anchor is the adapter that the KL budget of cycles counts from; only an operator moves it.

Invariants: an adapter's name is never used twice; the served adapter is one row, so promotion and
rollback are the same atomic write. Each row of the served adapter names the one before it, which is
the way back; an adapter that did not load is not on it. Weights are files elsewhere.
"""

import json
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from sqlite_utils import Database

from feedback_store.errors import ConflictError
from feedback_store.records import (
    ADAPTER_KINDS,
    ADAPTER_STATES,
    BASE_ADAPTER,
    Adapter,
    Cycle,
    ServedBase,
    Serving,
)
from feedback_store.registry.fencing import require_running
from feedback_store.sqlite.database import SQLiteFile
from feedback_store.sqlite.ids import utc_now
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


class Adapters:
    """The adapters of a store, which one is served, and the base that answers."""

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
        """Add an adapter under a new name.

        Raises:
            CycleEndedError: It is of a cycle that does not run any more.
        """
        one_of(kind, ADAPTER_KINDS, "the kind of an adapter")
        one_of(state, ADAPTER_STATES, "the state of an adapter")
        with self._file.write() as db:
            if first(db, "SELECT 1 FROM adapters WHERE name = ?", [name]):
                raise ConflictError(f"adapter {name!r} exists; names are not used twice.")
            if cycle_id is not None:
                require_running(db, cycle_id)
            row = {
                "name": name,
                "kind": kind,
                "parent": parent,
                "cycle_id": cycle_id,
                "state": state,
                "metrics": split_metrics(metrics or {})[0],
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
            return serve_adapter(db, name, by=by, force=force)

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


def _serving(db: Database) -> Serving:
    return to_record(Serving, rows(db, _SERVING)[0])


def require_serving(db: Database, name: str) -> None:
    """Refuse to go on if another adapter is served than a candidate was compared with."""
    served = _serving(db).adapter
    if served != name:
        raise ConflictError(
            f"adapter {served!r} is served by now, not {name!r}, "
            "which the new adapter was compared with"
        )


def settle_candidate(db: Database, name: str, state: str) -> None:
    """Publish or reject an adapter that is a candidate still."""
    sql = "UPDATE adapters SET state = ? WHERE name = ? AND state = 'candidate'"
    if db.execute(sql, [state, name]).rowcount:
        audit(db, "adapter_state", adapter=name, before="candidate", after=state)


def _rejection(db: Database, adapter: Row) -> tuple[str, ...] | None:
    if (adapter["kind"], adapter["state"]) != ("policy", "rejected"):
        return None
    if adapter["cycle_id"] is None:
        return ()
    return to_record(Cycle, require(db, "cycles", adapter["cycle_id"])).reasons


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


def serve_adapter(db: Database, name: str, *, by: str, force: bool = False) -> Serving:
    """Write that an adapter is served; with `force` also one that was rejected."""
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


def split_metrics(metrics: Mapping[str, float]) -> tuple[dict[str, float], tuple[str, ...]]:
    """The finite metrics, which JSON can hold, and a reason for each of the others."""
    finite = {name: float(value) for name, value in metrics.items() if math.isfinite(value)}
    rest = metrics.keys() - finite.keys()
    return finite, tuple(f"{name} is not a finite number" for name in sorted(rest))
