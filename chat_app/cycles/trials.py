"""People decide on an adapter: when a trial ends, what follows, and what its choices show so far.

In a trial some side-by-sides show a reply of each of two adapters. A canary runs before a promotion
and asks whether the new adapter is better than the served one. A guard runs after it and asks
whether the served one is worse than the one before. Invariants: the test may be looked at after
every choice (`rlhf_core/gate/betting.py`); a trial without a verdict ends at a limit, and then what
is served stays.
"""

import asyncio
import logging
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from feedback_store.errors import ConflictError
from feedback_store.records import Alarm, Trial
from feedback_store.store import FeedbackStore
from rlhf_core.config import AlarmSettings, CycleSettings, TrialSettings
from rlhf_core.gate.betting import (
    ENOUGH,
    LiveEvidence,
    Preferred,
    falls_short,
    live_evidence,
)

log = logging.getLogger(__name__)

FEWEST = 20  # choices that can reject a canary; with fewer nobody was asked
CHECK_S = 2.0  # between two looks at the choices
SERVER = "server: people's choices"


@dataclass(frozen=True, slots=True)
class End:
    """How a trial ends now: the outcome about its adapter, and the reason in words."""

    outcome: str
    reason: str


def share_of(trial: Trial, settings: CycleSettings) -> float:
    """The share of the side-by-sides that belong to a trial."""
    shares = {"canary": settings.trial.canary_share, "guard": settings.trial.guard_share}
    return shares[trial.kind]


def choices_of(store: FeedbackStore, trial: Trial) -> list[tuple[str, Preferred]]:
    """Who preferred which adapter of a trial; the first is its own."""
    sides: dict[str | None, Preferred] = {trial.adapter: "first", trial.other: "second"}
    choices = store.trial_choices(trial.id)
    return [(rater, sides.get(adapter, "neither")) for rater, adapter in choices]


def evidence_of(store: FeedbackStore, trial: Trial) -> LiveEvidence:
    """What the choices of a trial show so far about its adapter."""
    return live_evidence(choices_of(store, trial))


def end_of(trial: Trial, found: LiveEvidence, settings: TrialSettings, now: datetime) -> End | None:
    """How a trial ends now, or None while it goes on."""
    if found.verdict != "not shown":
        strongest = max(found.better, found.worse)
        said = f"{preferred(trial, found)}; the evidence that it is {found.verdict}"
        return End(found.verdict, f"{said} is {strongest:.0f}, and {ENOUGH:.0f} is enough")
    most = {"canary": settings.canary_choices, "guard": settings.guard_choices}[trial.kind]
    age = now - datetime.fromisoformat(trial.started_at)
    if found.choices < FEWEST and age >= timedelta(days=settings.days):
        said = f"{found.choices} choices in {age.days} days are too few to say anything"
        return End("stopped", said)
    if found.choices >= most or age >= timedelta(days=settings.days):
        wanted = "better" if trial.kind == "canary" else "worse"
        after = f"after {age.days} days" if found.choices < most else f"of at most {most}"
        return End("not_shown", f"{preferred(trial, found)}, {after}: not shown to be {wanted}")
    return None


def preferred(trial: Trial, found: LiveEvidence) -> str:
    """How often a trial's adapter was preferred, in words; some raters may be programs."""
    return (
        f"{trial.adapter} was preferred to {trial.other} in {found.rate:.0%} of "
        f"{found.choices} choices by {found.raters} raters"
    )


def told(facts: Mapping[str, Any]) -> str:
    """What an open trial shows so far, in one line; of `trial_facts`."""
    about = f"{facts['kind']} of {facts['adapter']} beside {facts['other']}"
    if not facts["choices"]:
        return f"{about}: nobody has chosen yet"
    return (
        f"{about}: preferred in {facts['rate']:.0%} of {facts['choices']} choices by "
        f"{facts['raters']} raters; the evidence that it is better is "
        f"{facts['better']:.3g}, that it is worse {facts['worse']:.3g}, and "
        f"{facts['enough']:.0f} is enough"
    )


def ended(facts: Mapping[str, Any]) -> str:
    """How a trial ended, in one line; of `last_trial_facts`."""
    about = f"{facts['kind']} of {facts['adapter']} beside {facts['other']}"
    return f"{about}: {facts['outcome'].replace('_', ' ')}; {facts['reason']}"


def trial_facts(store: FeedbackStore) -> dict[str, Any] | None:
    """The open trial as plain values, or None if there is none."""
    trial = store.open_trial()
    if trial is None:
        return None
    facts = {name: getattr(trial, name) for name in ("kind", "adapter", "other", "started_at")}
    return facts | asdict(evidence_of(store, trial)) | {"enough": ENOUGH}


def last_trial_facts(store: FeedbackStore) -> dict[str, Any] | None:
    """The latest trial that has ended, with its verdict; None if there was none."""
    trial = next((trial for trial in store.trials(limit=2) if trial.ended_at), None)
    if trial is None:
        return None
    names = ("kind", "adapter", "other", "started_at", "ended_at", "outcome", "reason")
    return {name: getattr(trial, name) for name in names}


def check_trial(store: FeedbackStore, settings: TrialSettings) -> Trial | None:
    """End the open trial if its choices show enough, or at its limit; returns it if it ended."""
    trial = store.open_trial()
    if trial is None:
        return None
    end = end_of(trial, evidence_of(store, trial), settings, datetime.now(UTC))
    if trial.kind == "guard" and not settings.guard_share:
        end = End("stopped", "cycle.trial.guard_share is 0")
    if end is None:
        return None
    try:
        ended = store.end_trial(trial.id, end.outcome, end.reason, by=SERVER)
    except ConflictError:  # an operator has served another adapter in this moment
        return None
    log.warning("the %s of %s has ended: %s", trial.kind, trial.adapter, end.reason)
    return ended


def trial_alarm(trial: Trial) -> Alarm | None:
    """What an operator should hear of a trial that has ended: people do not want its adapter."""
    kinds = {
        ("guard", "worse"): "rolled_back",
        ("canary", "worse"): "rejected",
        ("canary", "not_shown"): "rejected",
    }
    kind = kinds.get((trial.kind, trial.outcome or ""))
    if kind is None:
        return None
    return Alarm(kind, f"{trial.adapter} was {kind.replace('_', ' ')}: {trial.reason}")


def drifting(store: FeedbackStore, trial: Trial, settings: AlarmSettings) -> Alarm | None:
    """The alarm of a served adapter that people like less than its cycle's gate said."""
    cycle = store.adapter(trial.adapter).cycle_id
    promised = math.nan if cycle is None else store.cycle(cycle).metrics.get("win_rate", math.nan)
    if trial.kind != "guard" or trial.ended_at is not None or not promised > 0.5:
        return None
    wanted = 0.5 + settings.live_edge * (promised - 0.5)
    choices = choices_of(store, trial)
    if falls_short(choices, wanted) < ENOUGH:
        return None
    found = live_evidence(choices)
    text = (
        f"{preferred(trial, found)}, where the gate found {promised:.0%}; to go back, run "
        "`feedback-chat rollback`"
    )
    return Alarm("live_win_rate", text, round(found.rate, 4), round(wanted, 4))


async def watch_trials(store: FeedbackStore, settings: TrialSettings) -> None:
    """Check the open trial every few seconds, until cancelled."""
    fault = ""  # the last one, so that each is told once
    while True:
        try:
            await asyncio.to_thread(check_trial, store, settings)
            fault = ""
        except Exception as exc:  # whatever it is, the watch goes on
            if str(exc) != fault:
                log.exception("the choices of the trial cannot be read; it goes on")
            fault = str(exc)
        await asyncio.sleep(CHECK_S)
