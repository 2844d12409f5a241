"""Adapters: training writes them. Which one is served is in `serving.py`.

The anchor is the adapter that the KL budget of cycles counts from; only an operator moves it.

Invariants: an adapter's name is never used twice; the served adapter and the anchor stay published.
Weights are files elsewhere.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict

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
            if state != "published" and serving_of(db).adapter == name:
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
            return rejection_of(db, require(db, "adapters", name, key="name"))

    def anchor(self) -> str:
        """The policy adapter that the KL budget of cycles counts from; at first the bare base."""
        with self._file.read() as db:
            return _anchor(db)

    def set_anchor(self, name: str, *, by: str) -> str:
        """Let the KL budget of the cycles from now on count from a published policy adapter."""
        with self._file.write() as db:
            require_published_policy(db, name, "the anchor")
            before = _anchor(db)
            if before != name:
                db.table("bookkeeping").upsert({"name": "anchor", "value": name}, pk="name")
                audit(db, "anchor", before=before, after=name, by=by)
        return name


def serving_of(db: Database) -> Serving:
    """Which policy adapter new replies use now."""
    return to_record(Serving, rows(db, _SERVING)[0])


def settle_candidate(db: Database, name: str, state: str) -> None:
    """Publish or reject an adapter that is a candidate still."""
    sql = "UPDATE adapters SET state = ? WHERE name = ? AND state = 'candidate'"
    if db.execute(sql, [state, name]).rowcount:
        audit(db, "adapter_state", adapter=name, before="candidate", after=state)


def reject_adapter(db: Database, name: str, reason: str, *, by: str) -> None:
    """Reject an adapter because of what people chose; the cycle that waited for it ends so.

    The base is the last way back, so it is never rejected. The anchor may be: cycles go on to count
    KL from it.
    """
    if name == BASE_ADAPTER:
        return
    before = require(db, "adapters", name, key="name")
    db.table("adapters").update(name, {"state": "rejected"})
    audit(db, "adapter_state", adapter=name, before=before["state"], after="rejected", by=by)
    if before["cycle_id"] is not None:
        cycle = to_record(Cycle, require(db, "cycles", before["cycle_id"]))
        if cycle.state == "passed":
            ended = {"state": "rejected", "reasons": encode((*cycle.reasons, reason))}
            db.table("cycles").update(cycle.id, ended)


def rejection_of(db: Database, adapter: Row) -> tuple[str, ...] | None:
    """Why a policy adapter was rejected: by people's choices, or else by its cycle's gate."""
    if (adapter["kind"], adapter["state"]) != ("policy", "rejected"):
        return None
    sql = """SELECT reason FROM trials WHERE adapter = ?
        AND (outcome = 'worse' OR kind = 'canary' AND outcome = 'not_shown')
        ORDER BY id DESC LIMIT 1"""
    by_people = first(db, sql, [adapter["name"]])
    if by_people is not None:
        return (by_people["reason"],)
    if adapter["cycle_id"] is None:
        return ()
    return to_record(Cycle, require(db, "cycles", adapter["cycle_id"])).reasons


def _anchor(db: Database) -> str:
    found = first(db, "SELECT value FROM bookkeeping WHERE name = 'anchor'")
    return BASE_ADAPTER if found is None else str(found["value"])


def require_published_policy(db: Database, name: str, use: str) -> None:
    """Refuse an adapter that may not be served."""
    adapter = to_record(Adapter, require(db, "adapters", name, key="name"))
    if (adapter.kind, adapter.state) != ("policy", "published"):
        raise ConflictError(
            f"adapter {name!r} is a {adapter.state} {adapter.kind} adapter; "
            f"only published policy adapters can be {use}."
        )


def split_metrics(metrics: Mapping[str, float]) -> tuple[dict[str, float], tuple[str, ...]]:
    """The finite metrics, which JSON can hold, and a reason for each of the others."""
    finite = {name: float(value) for name, value in metrics.items() if math.isfinite(value)}
    rest = metrics.keys() - finite.keys()
    return finite, tuple(f"{name} is not a finite number" for name in sorted(rest))
