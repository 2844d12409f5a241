"""The facts of `feedback-chat status`, from the store alone: no engine, no server needed."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from feedback_store.records import Cycle
from feedback_store.store import FeedbackStore


def status_of(store: FeedbackStore) -> dict[str, Any]:
    """What is served, what is stored, and how the last cycle went."""
    store.refresh_comparisons()  # cheap: only what was said since the last time
    serving = store.serving()
    cycle = store.last_cycle()
    return {
        "serving": serving.adapter,
        "previous": serving.previous,
        "counts": store.counts(),
        "last_cycle": None if cycle is None else cycle_facts(cycle),
    }


def cycle_facts(cycle: Cycle) -> dict[str, Any]:
    """One cycle as plain values; ``seconds`` is None while it runs."""
    return {
        "id": cycle.id,
        "state": cycle.state,
        "stage": cycle.stage,
        "progress": cycle.progress,
        "adapter": cycle.adapter,
        "reasons": list(cycle.reasons),
        "seconds": _seconds(cycle),
        "metrics": dict(cycle.metrics),
    }


def skipped_sft(metrics: Mapping[str, float]) -> str | None:
    """Why a cycle's first training was left out; None if it was not, or nothing is known of it."""
    names = ("sft", "demonstrations", "demonstrations_needed")
    done, have, needed = (metrics.get(name) for name in names)
    if done != 0 or have is None or needed is None:
        return None
    if have >= needed:
        return "skipped: turned off (sft.enabled)"
    return f"skipped: {have:.0f} of {needed:.0f} demonstrations"


def _seconds(cycle: Cycle) -> float | None:
    if cycle.finished_at is None:
        return None
    started, finished = map(datetime.fromisoformat, (cycle.started_at, cycle.finished_at))
    return round((finished - started).total_seconds(), 1)
