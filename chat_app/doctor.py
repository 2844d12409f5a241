"""Is everything well here? Each finding names one thing, what was found, and whether it is good.

Only looks: nothing is repaired, and a data directory that does not exist is not made.
"""

import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from chat_app.cli_data import fault_of, open_store
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
        "adapters": _adapters,
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
        return f"no data directory {settings.data} yet; the first start makes it"
    with open_store(settings) as store:
        damage = store.verify()
        if damage:
            raise ValueError(f"{damage[0]}; restore a backup")
        counts = store.counts()
    return f"sound, {counts['messages']} messages, {counts['comparisons']} comparisons"


def _adapters(settings: Settings) -> str:
    if not settings.database.exists():
        return "none yet"
    with open_store(settings) as store:
        names = [a.name for a in store.adapters() if a.name != BASE_ADAPTER]
        served = store.serving().adapter
    faults = [fault for name in names if (fault := fault_of(settings, name))]
    if faults:
        raise ValueError(faults[0])
    return f"{len(names)} verified, {served} served"


def _model(settings: Settings) -> str:
    from rlhf_core.base_model import load_base

    base = load_base(settings.model, quantization=settings.quantization, training=False)
    return f"{settings.model} ({settings.quantization}) loads on {base.device}"
