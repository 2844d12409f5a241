"""The facts of `feedback-chat status`, from the store alone: no engine, no server needed."""

import math
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from chat_app.cycles.readiness import readiness
from chat_app.cycles.trials import last_trial_facts, trial_facts
from chat_app.settings import ScheduleSettings
from feedback_store.records import Cycle, RaisedAlarm
from feedback_store.store import FeedbackStore

PACE_KNOWN = 0.05  # of a cycle; before that, its pace says little
PACE_SURE = 0.5  # from then on its pace alone counts; before, the plan does, too, if it is longer
LAST_STAGES = ("evaluate", "publish", "done")
LEAST_S = 120.0  # that are left before these stages: how long they take is seen when they begin


def status_of(store: FeedbackStore, schedule: ScheduleSettings) -> dict[str, Any]:
    """What is served and stored, how the last cycle went, alarms since, what the next waits for."""
    store.refresh_comparisons()  # cheap: only what was said since the last time
    serving = store.serving()
    cycle = store.last_cycle()
    since = "" if cycle is None else cycle.started_at
    return {
        "serving": serving.adapter,
        "previous": serving.previous,
        "anchor": store.anchor(),
        "forced": forced_facts(store, serving.adapter),
        "trial": trial_facts(store),
        "last_trial": last_trial_facts(store),
        "counts": store.counts(),
        "said_by": [asdict(kind) for kind in store.said_by_kind()],
        "next_cycle": next_cycle(store, schedule),
        "last_cycle": None if cycle is None else cycle_facts(cycle),
        "alarms": [alarm_facts(alarm) for alarm in store.alarms(since=since)],
    }


def forced_facts(store: FeedbackStore, adapter: str) -> dict[str, Any] | None:
    """When an adapter was served against the gate's verdict, by whom, and what the gate said."""
    entry = store.forced().get(adapter)
    if entry is None:
        return None
    return {"at": entry.at, "by": entry.detail["by"], "reasons": entry.detail.get("reasons", [])}


def next_cycle(store: FeedbackStore, schedule: ScheduleSettings) -> dict[str, Any]:
    """When the next cycle begins by itself, as plain values; see `Readiness`."""
    found = asdict(readiness(store, schedule))
    del found["reason"], found["idle"], found["votes"]
    return {"by_itself": schedule.enabled, **found, "due": found["due"] is not None}


def next_cycle_told(facts: Mapping[str, Any]) -> str:
    """The same in one line."""
    if not facts["by_itself"]:
        return f"waits for an operator to start it; votes are worth {facts['new']:.0f} comparisons"
    return f"waits for {facts['waits_for']}" if facts["waits_for"] else "begins now"


def cycle_facts(cycle: Cycle) -> dict[str, Any]:
    """One cycle as plain values; ``seconds`` is None unless it came to an end.

    ``seconds_left`` is None if it does not run, and while nobody can tell.
    """
    return {
        "id": cycle.id,
        "state": cycle.state,
        "stage": cycle.stage,
        "progress": cycle.progress,
        "adapter": cycle.adapter,
        "reasons": list(cycle.reasons),
        "seconds": _seconds(cycle),
        "seconds_left": seconds_left(cycle),
        "metrics": dict(cycle.metrics),
    }


def alarm_facts(alarm: RaisedAlarm) -> dict[str, Any]:
    """One alarm as plain values."""
    facts = asdict(alarm)
    del facts["tries"]
    return facts | {"cycle": facts.pop("cycle_id"), "time": facts.pop("raised_at")}


def seconds_left(cycle: Cycle, now: datetime | None = None) -> float | None:
    """How long a running cycle will still take; None if it does not run, or nobody can tell yet.

    Progress is a share of the planned time. So the time that was used corrects the plan; in the
    first half only upwards, since the early stages say little about the later ones. A cycle that
    resumed another one found some work done, which took it no time: there the plan alone counts.
    """
    if cycle.state != "running":
        return None
    planned, rest = cycle.metrics.get("planned/hours"), 1 - cycle.progress
    left = None if planned is None else rest * planned * 3600
    if cycle.progress >= PACE_KNOWN and "resumed_cycle" not in cycle.metrics:
        used = (now or datetime.now(UTC)) - datetime.fromisoformat(cycle.started_at)
        pace = rest * used.total_seconds() / cycle.progress
        left = pace if left is None or cycle.progress >= PACE_SURE else max(pace, left)
    if left is None:
        return None
    return round(left if cycle.stage in LAST_STAGES else max(LEAST_S, left))


def time_left(cycle: Cycle) -> str:
    """The same in words, such as "about 12 minutes left"; empty if nobody can tell."""
    seconds = seconds_left(cycle)
    if seconds is None:
        return ""
    return "about a minute left" if seconds < 90 else f"about {seconds / 60:.0f} minutes left"


def skipped_sft(metrics: Mapping[str, float]) -> str | None:
    """Why a cycle's first training was left out; None if it was not, or nothing is known of it."""
    names = ("sft", "demonstrations", "demonstrations_needed")
    done, have, needed = (metrics.get(name) for name in names)
    if done != 0 or have is None or needed is None:
        return None
    if have >= needed:
        return "skipped: turned off (sft.enabled)"
    return f"skipped: {have:.0f} of {needed:.0f} demonstrations"


def outcome(cycle: Cycle) -> list[str]:
    """What people ask first about a cycle: how it ended, what it measured, why; a line for each."""
    found, state = cycle.metrics, cycle.state
    seconds, left = _seconds(cycle), time_left(cycle)
    if state == "running":
        first = f"running, {cycle.progress:.0%} done, in stage {cycle.stage}"
        first += left and f", {left}"
    else:
        cut = state in ("failed", "cancelled")
        first = f"{state} in stage {cycle.stage}" if cut else state
        first += f": {cycle.adapter}" if cycle.adapter else ""
        first += f", after {_time(seconds)}" if seconds is not None else ""
        first += f" and {found['memory_gb']:.1f} GB" if "memory_gb" in found else ""
    told = [first]
    if "reward_accuracy" in found:
        told.append(
            f"the reward model predicts {found['reward_accuracy']:.0%} of held-out votes, at least "
            f"{found.get('reward_accuracy_low', math.nan):.0%}"
        )
    if "win_rate" in found:
        told.append(
            f"the candidate wins {_interval(found, 'win_rate')} against the policy that was served"
            f", with a KL of {found['kl']:.3g} nats a reply"
        )
        now, before = (found[f"{name}/mean_tokens"] for name in ("candidate", "served"))
        told.append(f"its replies have {now:.0f} tokens in the mean, {before:.0f} before")
    skipped = skipped_sft(found)
    return [
        *told,
        *([f"SFT {skipped}"] if skipped else []),
        *(f"held-out raters: {fact}" for fact in on_held_out_raters(found)),
        *cycle.reasons,
    ]


def _time(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 180 else f"{seconds / 60:.0f} minutes"


def on_held_out_raters(metrics: Mapping[str, float]) -> tuple[str, ...]:
    """What a cycle found on held-out raters, or how much it lacks; empty if it did not look."""
    prefix = "held_out_raters/"
    found = {k.removeprefix(prefix): v for k, v in metrics.items() if k.startswith(prefix)}
    told = []
    if "reward_accuracy" in found:
        told.append(
            f"the reward model predicts {_interval(found, 'reward_accuracy')} of "
            f"{found['votes']:.0f} votes of {found['raters']:.0f} raters, a drop of "
            f"{_interval(found, 'reward_accuracy_drop')} from votes on held-out questions"
        )
    elif "votes" in found:
        told.append(
            f"no reward accuracy: {found['votes']:.0f} decided votes of {found['raters']:.0f} "
            f"raters; {found.get('votes_needed', 0):.0f} votes of "
            f"{found.get('raters_needed', 0):.0f} raters are needed"
        )
    if "win_rate" in found:
        told.append(
            f"the candidate wins {_interval(found, 'win_rate')} on {found['prompts']:.0f} prompts "
            "of theirs, by the held-out reward model"
        )
    elif "prompts" in found:
        told.append(
            f"no win rate: {found['prompts']:.0f} new prompts of theirs, "
            f"{found.get('prompts_needed', 0):.0f} are needed"
        )
    return tuple(told)


def _interval(found: Mapping[str, float], name: str) -> str:
    low, high = (found.get(f"{name}_{side}", math.nan) for side in ("low", "high"))
    return f"{found[name]:.0%} ({low:.0%} to {high:.0%})"


def _seconds(cycle: Cycle) -> float | None:
    if cycle.finished_at is None:
        return None
    started, finished = map(datetime.fromisoformat, (cycle.started_at, cycle.finished_at))
    return round((finished - started).total_seconds(), 1)
