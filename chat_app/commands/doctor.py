"""Check the machine, the data directory and the model; each check gives one finding.

The doctor repairs nothing. It makes no data directory, except to convert a GGUF file or an adapter.
"""

import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from chat_app.commands.adapters import open_store
from chat_app.commands.find_model import resolved
from chat_app.commands.plan import BUSY, cost
from chat_app.errors import ChatAppError, StartError
from chat_app.profile import model_path
from chat_app.service.promotion import fault_of
from chat_app.settings import Settings
from feedback_store.records import BASE_ADAPTER
from rlhf_core.cycle.signing import checking_key
from rlhf_core.model.sources import resolve

MIN_FREE_BYTES = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check."""

    name: str
    good: bool
    text: str


def examine(settings: Settings) -> list[Finding]:
    """Run every check, also after one that failed."""
    checks: dict[str, Callable[[Settings], str]] = {
        "python": _python,
        "disk": _disk,
        "database": _database,
        "comparisons": _comparisons,
        "adapters": _adapters,
        "cycles": _cycles,
        "erasure": _erasure,
        "model": _model,
        "plan": _plan,
    }
    if settings.servers is not None:
        checks["vllm"] = _vllm
    findings = []
    for name, check in checks.items():
        try:
            findings.append(Finding(name, True, check(settings)))
        except Exception as exc:  # the doctor reports every error
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
    """The SQLite settings that protect the data; the store does not open with other ones."""
    names = ("journal_mode", "synchronous", "foreign_keys", "secure_delete", "busy_timeout")
    return ", ".join(f"{name} {settings[name]}" for name in names)


def _comparisons(settings: Settings) -> str:
    if not settings.database.is_file():
        return "none"
    with open_store(settings) as store:
        stale, counts = store.condition()["stale"], store.counts()
    text = f"{counts['comparisons']} to learn from, {counts['unused_comparisons']} new"
    waiting = f"; votes of {stale} pairs of rater and prompt are not derived yet" if stale else ""
    return text + waiting


def _adapters(settings: Settings) -> str:
    if not settings.database.is_file():
        return "none"
    with open_store(settings) as store:
        rows = {a.name: a for a in store.adapters() if a.name != BASE_ADAPTER}
        served, busy = store.serving().adapter, store.running_cycle() is not None
        key = checking_key(store, settings.data)
    there = {path.name for path in settings.adapters.glob("*") if path.is_dir()}
    needed = {name for name, row in rows.items() if row.state == "published"} | {served}
    checked = sorted((rows.keys() & there) | (needed - {BASE_ADAPTER}))
    faults = [fault for name in checked if (fault := fault_of(settings.adapters / name, key=key))]
    if not busy:  # a running cycle registers its adapters only when they are complete
        faults += [
            f"{settings.adapters / name} is not an adapter of this service; a killed cycle "
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
    if last is not None and last.state == "failed" and last.finished_at is None:
        faults.append(
            f"cycle {last.id} was killed at stage {last.stage}; start one to go on with it"
        )
    own = f"{running.id:06d}" if running else None
    staged = settings.data.glob("cycles/*/staging-*")
    left = sorted(path for path in staged if path.parent.name != own)
    left += sorted(settings.data.glob("*.partial"))
    if not _converting(settings):
        left += sorted(settings.models.glob("*.partial"))
    faults += [f"{path} was left by a killed process; remove it" for path in left]
    _report(faults)
    if last is None:
        return "none yet"
    return f"cycle {last.id} {last.state}"


def _converting(settings: Settings) -> bool:
    """Whether a process is making a model at this moment."""
    lock = FileLock(settings.models / ".lock")
    if not Path(lock.lock_file).exists():
        return False
    try:
        with lock.acquire(timeout=0):
            return False
    except Timeout:
        return True


def _erasure(settings: Settings) -> str:
    if not settings.database.is_file():
        return "none"
    with open_store(settings) as store:
        forgotten = store.forgotten()
    begun = [item.begun_at for item in forgotten if item.done_at is None]
    if begun:
        raise ChatAppError(
            f"forgetting a rater began at {begun[0]} and did not finish; "
            "the server finishes it when no cycle runs; so does the same `forget`, or any `sweep`"
        )
    return f"{len(forgotten)} raters were forgotten"


def _report(faults: list[str], remedy: str = "") -> None:
    """Raise the first fault, with the number of other ones.

    Raises:
        ChatAppError: There is a fault.
    """
    if faults:
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        raise ChatAppError(faults[0] + more + (f"; {remedy}" if remedy else ""))


def _model(settings: Settings) -> str:
    from rlhf_core.model.loading import load_base

    if _would_convert(settings):
        return f"{settings.model} is converted at the first start, and nothing was loaded"
    settings = resolved(settings)
    base = load_base(
        settings.model,
        quantization=settings.packing,
        reply=settings.reply,
        cache=settings.models,
    )
    return f"{settings.model} ({settings.packing}) loads on {base.device}"


def _would_convert(settings: Settings) -> bool:
    """Whether a look at the model would make the data directory that is not there."""
    kind = resolve(settings.model, settings.models).kind
    return kind in ("gguf", "adapter") and not settings.data.is_dir()


def _plan(settings: Settings) -> str:
    from rlhf_core.cycle.cost import WORTH_MEASURING
    from rlhf_core.model.facts import model_facts

    if _would_convert(settings):
        return "not known before the model is converted"
    settings = resolved(settings)
    used = f"profile {settings.profile}: {settings.packing}, {settings.reply.tokens} reply tokens"
    if model_facts(model_path(settings)).parameters < WORTH_MEASURING:
        return f"{used}; a cycle of so small a model fits"
    planned = cost(settings)
    if not planned["fits"]:
        raise ChatAppError(
            f"{used}; a cycle needs at least {planned['least_gb']:.1f} GB, more than is free; "
            f"{planned['advice'][0]}"
        )
    load = planned["load"]
    busy = f", timed at a load of {load}: less on a quiet machine" if load > BUSY else ""
    memory = f"needs {planned['memory_gb']:.1f} GB"
    return f"{used}; a cycle of {planned['hours']:.1f} hours{busy} {memory}"


def _vllm(settings: Settings) -> str:
    servers = settings.servers
    assert servers is not None, "this is asked only where there are some"
    faults = servers.faults(window=resolved(settings).reply.window)
    if bad := [fault for fault in faults.values() if fault]:
        raise ChatAppError(f"{len(bad)} of {len(faults)} servers cannot be used: {'; '.join(bad)}")
    return f"{len(faults)} servers answer and load adapters"
