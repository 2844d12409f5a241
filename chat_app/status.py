"""The facts of `feedback-chat status`, from the store alone: no engine, no server needed."""

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


def _seconds(cycle: Cycle) -> float | None:
    if cycle.finished_at is None:
        return None
    started, finished = map(datetime.fromisoformat, (cycle.started_at, cycle.finished_at))
    return round((finished - started).total_seconds(), 1)
