"""When the next round begins: votes so far, how many start it, and about when that may be."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from chat_app.cycles.readiness import SOME, Readiness, readiness
from chat_app.cycles.status import seconds_left
from chat_app.settings import ScheduleSettings
from feedback_store.records import Cycle
from feedback_store.store import FeedbackStore

Waits = Literal["runs", "trial", "operator", "votes", "soon"]
FEWEST, SOONEST_H = 5.0, 1.0  # votes, and hours that they took, before anybody can tell a pace


@dataclass(frozen=True, slots=True)
class NextRound:
    """What the next round waits for.

    Attributes:
        waits: It runs, or waits for people who compare two versions, for the operator, or for
            votes; or it begins soon.
        votes: Evidence since the last round, in decided votes, at most `needed`.
        needed: How many start it.
        hours: Until it begins, if votes come as they did since the last one; None if nobody can
            tell.
        progress: Of the round that runs, from 0 to 1.
        seconds_left: Of that round, if somebody can tell.
    """

    waits: Waits
    votes: int
    needed: int
    hours: float | None = None
    progress: float | None = None
    seconds_left: float | None = None


def next_round(store: FeedbackStore, settings: ScheduleSettings, *, since: str) -> NextRound:
    """What the next round waits for; the comparisons must be refreshed.

    Args:
        store: The store.
        settings: When rounds begin.
        since: When the store was made.
    """
    found, running, last = readiness(store, settings), store.running_cycle(), store.last_cycle()
    trial = store.open_trial()
    canary = trial is not None and trial.kind == "canary"
    waits: Waits = "soon"
    if running is not None:
        waits = "runs"
    elif canary:
        waits = "trial"
    elif not settings.enabled:
        waits = "operator"
    elif found.due is None:
        waits = "votes"
    return NextRound(
        waits=waits,
        votes=min(int(found.new), found.needed),
        needed=found.needed,
        hours=_hours(settings, found, _hours_since(last, since)) if waits == "votes" else None,
        progress=None if running is None else round(running.progress, 3),
        seconds_left=None if running is None else seconds_left(running),
    )


def _hours(settings: ScheduleSettings, found: Readiness, passed: float) -> float | None:
    """Hours until there are votes enough, or some and the time is up that asks for fewer."""
    if found.new < FEWEST or passed < SOONEST_H:
        return None
    pace = found.new / passed
    until = [(found.needed - found.new) / pace]
    if settings.every_hours:
        every = settings.every_hours * min(2.0**found.rejections, settings.most_backoff)
        until.append(max(every - passed, (SOME * found.needed - found.new) / pace))
    return round(max(0.0, min(until)), 1)


def _hours_since(last: Cycle | None, made: str) -> float:
    since = made if last is None else last.finished_at or last.started_at
    return (datetime.now(UTC) - datetime.fromisoformat(since)).total_seconds() / 3600
