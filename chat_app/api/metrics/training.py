"""What `/metrics` says of training: cycles, how near the next one is, trials, alarms."""

from collections.abc import Iterator, Mapping
from typing import Any

from prometheus_client.core import Metric

from chat_app.api.metrics.families import gauge, gauges, one_of_these
from chat_app.cycles.newest_metrics import newest_metrics
from chat_app.cycles.trials import trial_facts
from chat_app.service.chat import ChatService
from feedback_store.records import CYCLE_STAGES, TRIAL_KINDS, TRIAL_OUTCOMES, Cycle
from feedback_store.store import FeedbackStore

# By the gauge: the name in the metrics of a cycle, and what it is.
NEWEST = {
    "cycle_sft_loss": ("loss/sft", "loss of SFT in nats a token"),
    "cycle_reward_loss": ("loss/reward", "loss of the reward model"),
    "cycle_reward_accuracy_ratio": (
        "reward/accuracy",
        "share of the pairs in a batch that the reward model orders as people do",
    ),
    "cycle_kl_nats": ("objective/kl", "KL of the policy to its reference, for a reply"),
    "cycle_score": ("objective/scores", "mean score of the reward model"),
    "cycle_reward": ("objective/rlhf_reward", "mean reward: the score less the penalty for KL"),
    "cycle_entropy_nats": ("objective/entropy", "entropy of the policy, for a reply"),
    "cycle_reply_tokens": ("val/length", "mean length of a reply in PPO"),
    "cycle_win_rate_ratio": ("win_rate", "how often the candidate wins against the served policy"),
    "cycle_gate_kl_nats": ("kl", "KL of the candidate, for a reply, as the gate measured it"),
    "cycle_held_out_accuracy_ratio": (
        "reward_accuracy",
        "share of the held-out votes that the reward model predicts",
    ),
}
STATES = ("none", "open", *TRIAL_OUTCOMES)


def cycles(service: ChatService) -> Iterator[Metric]:
    """The newest cycle: its stage, how far it is, what it measured; and how all have ended."""
    store = service.store
    last = store.last_cycle()
    running = last is not None and last.state == "running"
    stage = last.stage if last is not None and running else None
    yield gauge("cycle_running", "whether a cycle runs", float(running))
    yield one_of_these("cycle_stage", "1: the running cycle's stage", "stage", CYCLE_STAGES, stage)
    ended = store.cycle_counts()
    yield gauges("cycles", "cycles, by how they have ended so far", ["state"], ended)
    if last is None:
        return
    yield gauge("cycle_number", "the number of the newest cycle", last.id)
    yield gauge("cycle_progress_ratio", "how far the newest cycle is", last.progress)
    yield from _measured(service, last)


def _measured(service: ChatService, cycle: Cycle) -> Iterator[Metric]:
    found = newest_metrics(service.settings.data, cycle.id) | cycle.metrics
    for name, (key, text) in NEWEST.items():
        if key in found:
            yield gauge(name, f"{text}; of the newest cycle", found[key])


def next_cycle_of(facts: Mapping[str, Any]) -> Iterator[Metric]:
    """How near the next cycle is."""
    for name, text in (
        ("next_cycle_new", "evidence since the last cycle, in comparisons"),
        ("next_cycle_needed", "evidence that starts a cycle"),
        ("next_cycle_rejections", "cycles in a row that were rejected"),
        ("next_cycle_due", "whether a cycle would begin, but for what it still waits for"),
    ):
        yield gauge(name, text, float(facts[name.removeprefix("next_cycle_")]))


def trials(store: FeedbackStore) -> Iterator[Metric]:
    """Where the latest canary and guard are, and what people's choices show in the open trial."""
    latest = dict.fromkeys(TRIAL_KINDS, "none")
    for trial in reversed(store.trials()):  # the newest of a kind comes last
        latest[trial.kind] = trial.outcome or "open"
    yield gauges(
        "trial_state",
        "1: the state of the latest trial of a kind",
        ["kind", "state"],
        {(kind, state): float(state == now) for kind, now in latest.items() for state in STATES},
    )
    facts = trial_facts(store)
    if facts is None:
        return
    about = tuple(str(facts[label]) for label in ("kind", "adapter", "other"))
    for name, text in (
        ("choices", "choices that count"),
        ("rate", "share of the choices that prefer the adapter; neither is half of one"),
        ("better", "evidence that the adapter is better; 20 is enough"),
        ("worse", "evidence that the adapter is worse; 20 is enough"),
    ):
        yield gauges(f"trial_{name}", text, ["kind", "adapter", "other"], {about: facts[name]})
