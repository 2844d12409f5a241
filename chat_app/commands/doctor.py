"""Is everything well here? Each finding names one thing, what was found, and whether it is good.

Only looks: nothing is repaired, and a data directory that does not exist is not made.
"""

import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from chat_app.commands.adapters import open_store
from chat_app.errors import ChatAppError, StartError
from chat_app.service.promotion import fault_of
from chat_app.settings import Settings
from feedback_store.records import BASE_ADAPTER

MIN_FREE_BYTES = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    name: str
    good: bool
    text: str

    def facts(self) -> dict[str, Any]:
        """The finding as plain values."""
        return asdict(self)


def examine(settings: Settings) -> list[Finding]:
    """Look at everything, whatever is wrong with the rest."""
    checks: dict[str, Callable[[Settings], str]] = {
        "python": _python,
        "disk": _disk,
        "database": _database,
        "comparisons": _comparisons,
        "adapters": _adapters,
        "cycles": _cycles,
        "erasure": _erasure,
        "model": _model,
    }
    findings = []
    for name, check in checks.items():
        try:
            findings.append(Finding(name, True, check(settings)))
        except Exception as exc:  # a doctor reports whatever it meets
            findings.append(Finding(name, False, " ".join(str(exc).split())))
    return findings


def _python(_: Settings) -> str:
    return f"{sys.version.split()[0]}, {len(os.sched_getaffinity(0))} cores"


def _disk(settings: Settings) -> str:
    place = settings.data.resolve()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if free < MIN_FREE_BYTES:
        raise OSError(f"only {free / 1e9:.1f} GB free for {settings.data}; make room")
    if not os.access(place, os.W_OK):
        raise PermissionError(f"{place} cannot be written; choose another with --data")
    return f"{free / 1e9:.1f} GB free, writable"


def _database(settings: Settings) -> str:
    if not settings.data.exists():
        raise StartError(
            f"no data directory {settings.data}; check --data, or start the service to make it"
        )
    with open_store(settings) as store:
        _report(store.verify(), "restore a backup")
        found, messages = store.condition(), store.counts()["messages"]
    megabytes = (found["file_bytes"] + found["wal_bytes"]) / 1e6
    return (
        f"sound, {messages} messages in {megabytes:.1f} MB, schema {found['schema']}, "
        f"SQLite {found['sqlite']} ({_pragmas(found['settings'])})"
    )


def _pragmas(settings: dict[str, Any]) -> str:
    """The settings that decide what is safe; the store does not open with others."""
    names = ("journal_mode", "synchronous", "foreign_keys", "secure_delete", "busy_timeout")
    return ", ".join(f"{name} {settings[name]}" for name in names)


def _comparisons(settings: Settings) -> str:
    if not settings.database.is_file():
        return "none"
    with open_store(settings) as store:
        stale, counts = store.condition()["stale"], store.counts()
    said = f"{counts['comparisons']} to learn from, {counts['unused_comparisons']} not used yet"
    return f"{said}; what {stale} raters said of a prompt waits to be derived" if stale else said


def _adapters(settings: Settings) -> str:
    if not settings.database.is_file():
        return "none"
    with open_store(settings) as store:
        rows = {a.name: a for a in store.adapters() if a.name != BASE_ADAPTER}
        served, busy = store.serving().adapter, store.running_cycle() is not None
    there = {path.name for path in settings.adapters.glob("*") if path.is_dir()}
    needed = {name for name, row in rows.items() if row.state == "published"} | {served}
    checked = sorted((rows.keys() & there) | (needed - {BASE_ADAPTER}))
    faults = [fault for name in checked if (fault := fault_of(settings.adapters / name))]
    if not busy:  # a cycle that runs registers its adapters once they are complete
        faults += [
            f"{settings.adapters / name} is no adapter of this service; a cycle that was killed "
            "may have left it: remove it"
            for name in sorted(there - rows.keys())
        ]
    _report(faults)
    return f"{len(checked)} verified, {served} served"


def _cycles(settings: Settings) -> str:
    if not settings.database.is_file():
        return "none"
    with open_store(settings) as store:
        last, running = store.last_cycle(), store.running_cycle()
    faults = []
    if last is not None and last.state == "running" and running is None:
        faults.append(
            f"cycle {last.id} was killed at stage {last.stage}; the next one marks it as failed"
        )
    own = f"{running.id:06d}" if running else None
    staged = settings.data.glob("cycles/*/staging-*")
    left = sorted(path for path in staged if path.parent.name != own)
    left += sorted(settings.data.glob("*.partial"))
    faults += [f"{path} was left by a process that was killed; remove it" for path in left]
    _report(faults)
    if last is None:
        return "none yet"
    return f"cycle {last.id} {last.state}"


def _erasure(settings: Settings) -> str:
    if not settings.database.is_file():
        return "none"
    with open_store(settings) as store:
        forgotten = store.forgotten()
    begun = [item.begun_at for item in forgotten if item.done_at is None]
    if begun:
        raise ChatAppError(
            f"forgetting a rater was begun at {begun[0]} and not finished; "
            "run the same `forget` again, or any `sweep`"
        )
    return f"{len(forgotten)} raters were forgotten"


def _report(faults: list[str], remedy: str = "") -> None:
    """Raise the first fault, and say how many more there are.

    Raises:
        ChatAppError: There is one.
    """
    if faults:
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        raise ChatAppError(faults[0] + more + (f"; {remedy}" if remedy else ""))


def _model(settings: Settings) -> str:
    from rlhf_core.model.base_model import load_base

    base = load_base(settings.model, quantization=settings.quantization, training=False)
    return f"{settings.model} ({settings.quantization}) loads on {base.device}"
