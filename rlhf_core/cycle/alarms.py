"""Alarms: what operators should hear of a cycle, from its metrics and those of earlier ones.

The gate decides about a candidate; an alarm decides nothing. It may tell of a cycle that the gate
let through. Pure functions find alarms, and `raise_alarms` keeps them in the store, each once,
whoever calls it and however often. Invariants: a metric that is missing raises no alarm; a text has
numbers and the gate's own sentences, and quotes nobody. Sending is the app's.
"""

import logging
import math
from collections.abc import Iterable, Mapping, Sequence

from feedback_store import Alarm, Cycle, FeedbackStore, FeedbackStoreError
from rlhf_core.config import AlarmSettings

log = logging.getLogger(__name__)

Metrics = Mapping[str, float]
WINDOW = 50  # cycles that are looked at; the oldest of them is the first
RECENT = 3  # cycles whose mean agreement is compared with


def raise_alarms(store: FeedbackStore, settings: AlarmSettings) -> None:
    """Raise the alarms of every cycle that ended since the last call, in any process.

    A cycle that was killed cannot raise its own, so the server and the next cycle do.
    """
    cycles = store.cycles(limit=WINDOW)  # the newest comes first
    watched = store.watched_cycle()
    for at, cycle in reversed([*enumerate(cycles)]):
        if cycle.id > watched and cycle.state != "running":
            earlier = [other.metrics for other in cycles[at + 1 :]]
            ended = [alarm] if (alarm := end_alarm(cycle)) else []
            _keep(store, cycle, [*measured_alarms(cycle.metrics, earlier, settings), *ended])
            store.note_watched(cycle.id)


def raise_alarms_safely(store: FeedbackStore, settings: AlarmSettings) -> None:
    """The same; a store that cannot be written is one line in the log, so that no cycle is lost."""
    try:
        raise_alarms(store, settings)
    except FeedbackStoreError as exc:
        log.warning("alarms could not be stored, and will be at the next cycle: %s", exc)


def _keep(store: FeedbackStore, cycle: Cycle, alarms: Iterable[Alarm]) -> None:
    for alarm in alarms:
        store.raise_alarm(alarm, key=str(cycle.id), cycle_id=cycle.id)


def end_alarm(cycle: Cycle) -> Alarm | None:
    """The alarm of a cycle that was rejected or failed.

    Why it was rejected, the gate says in numbers. Why it failed may quote somebody, so the alarm
    says only where to read it.
    """
    if cycle.state == "rejected":
        return Alarm("rejected", f"rejected: {'; '.join(cycle.reasons) or 'no reason was noted'}")
    if cycle.state == "failed":
        return Alarm("failed", f"failed in stage {cycle.stage}; `feedback-chat status` says why")
    return None


def measured_alarms(
    now: Metrics, earlier: Sequence[Metrics], settings: AlarmSettings
) -> tuple[Alarm, ...]:
    """The alarms of a cycle's numbers.

    Args:
        now: The cycle's metrics, by name.
        earlier: Those of the cycles before it, the newest first.
        settings: The limits; a number at its limit raises an alarm.
    """
    first = earlier[::-1]  # the oldest comes first
    tokens = now.get("candidate/mean_tokens", math.nan)
    served = now.get("served/mean_tokens", math.nan)
    found = [
        _length("length", tokens, served, "the served policy's", settings),
        _length(
            "length_drift",
            tokens,
            _first_of(first, "served/mean_tokens"),
            "the first policy's",
            settings,
        ),
        _entropy(now, first, settings.entropy_fall),
        _kl(now, settings.kl_share),
        _over_optimised(now, settings),
        _agreement(now, earlier, settings.agreement_fall),
        _one_rater(now, settings.rater_share),
    ]
    return tuple(alarm for alarm in found if alarm)


def _length(
    kind: str, tokens: float, before: float, whose: str, settings: AlarmSettings
) -> Alarm | None:
    ratio = tokens / before if before > 0 else math.nan
    longer, shorter = ratio >= settings.length_growth, ratio <= settings.length_fall
    if not (longer or shorter):
        return None
    limit = settings.length_growth if longer else settings.length_fall
    text = (
        f"replies have {tokens:.0f} tokens in the mean, {ratio:.2f} times {whose} {before:.0f} "
        f"(limit {limit:g}); read the samples in the report"
    )
    return Alarm(kind, text, ratio, limit)


def _entropy(now: Metrics, first: Sequence[Metrics], limit: float) -> Alarm | None:
    """The entropy at the end of PPO, beside that with which the first cycle began."""
    last = now.get("policy/entropy_last", math.nan)
    before = _first_of([*first, now], "policy/entropy_first")
    left = last / before if before > 0 else math.nan
    if not left <= limit:
        return None
    text = (
        f"the policy's entropy is {last:.2g} nats per token, {left:.0%} of the first policy's "
        f"{before:.2g} (limit {limit:.0%}); replies may become all alike"
    )
    return Alarm("entropy", text, left, limit)


def _kl(now: Metrics, limit: float) -> Alarm | None:
    kl, most = now.get("kl", math.nan), now.get("gate/kl_limit", math.nan)
    if not kl >= limit * most:
        return None
    text = (
        f"the KL to the anchor is {kl:.3g} nats a reply, {kl / most:.0%} of what the gate allows "
        f"(limit {limit:.0%}); docs/operations.md says what to do when the KL budget is spent"
    )
    return Alarm("kl", text, kl / most, limit)


def _over_optimised(now: Metrics, settings: AlarmSettings) -> Alarm | None:
    """The score that PPO climbs rises, and held-out votes do not follow.

    Source:
        Gao et al. 2022, arXiv:2210.10760: the score goes on rising where what it stands for falls.
    """
    first, last = (now.get(f"policy/score_{end}", math.nan) for end in ("first", "last"))
    win_rate = now.get("win_rate", math.nan)
    if not (last - first >= settings.score_rise and win_rate <= settings.win_rate):
        return None
    text = (
        f"the score rose by {last - first:.2g} in PPO, but the candidate wins only {win_rate:.0%} "
        f"by held-out votes (limit {settings.win_rate:.0%}): PPO exploits the reward model; "
        "collect more votes, or lower cycle.policy.iterations"
    )
    return Alarm("over_optimised", text, win_rate, settings.win_rate)


def _agreement(now: Metrics, earlier: Sequence[Metrics], fall: float) -> Alarm | None:
    agreed = now.get("reward_accuracy", math.nan)
    recent = [m["reward_accuracy"] for m in earlier if "reward_accuracy" in m][:RECENT]
    before = math.fsum(recent) / len(recent) if recent else math.nan
    if not before - agreed >= fall:
        return None
    text = (
        f"the reward model predicts {agreed:.0%} of the votes that it has not seen, and "
        f"{before:.0%} in the cycles before; look at `feedback-chat raters list`"
    )
    return Alarm("agreement", text, agreed, before - fall)


def _one_rater(now: Metrics, limit: float) -> Alarm | None:
    share = now.get("data/largest_rater_share", math.nan)
    if not share >= limit:
        return None
    text = (
        f"one rater has {share:.0%} of the weight of all comparisons (limit {limit:.0%}); collect "
        "votes of more people"
    )
    return Alarm("one_rater", text, share, limit)


def _first_of(metrics: Sequence[Metrics], name: str) -> float:
    """The first value of a metric; NaN if no cycle has it."""
    return next((found[name] for found in metrics if name in found), math.nan)
