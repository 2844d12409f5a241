"""The rounds of training, one cycle each: what was tested, how it ended, and what people said."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from chat_app.cycles.trials import choices_of
from chat_app.handlers.progress.shares import Scores, ShareInterval, scores_of
from chat_app.handlers.progress.values import FEWEST
from chat_app.handlers.report import ProbeReplies, Report
from feedback_store.records import Cycle, Serving, Trial
from feedback_store.store import FeedbackStore
from rlhf_core.gate.betting import MOST, VALUES
from rlhf_core.gate.intervals import clustered_interval

Outcome = Literal[
    "running",
    "promoted",
    "rolled_back",
    "served_anyway",
    "canary",
    "waiting",
    "rejected",
    "rejected_by_people",
    "refused",
    "failed",
    "cancelled",
]
# The checks of the gate that a page has words for; the others are "other".
CAUSES = (
    "votes_chance",
    "held_out_prompts",
    "win_rate_low",
    "same_length_low",
    "kl",
    "empty_rate",
    "unfinished_increase",
    "cut_increase",
    "repeated_increase",
    "same_rate",
    "probe_flattery",
    "probe_refusal",
    "probe_invention",
    "probe_rudeness",
    "probe_skills",
    "probe_instructions",
)
SAMPLES = 3
SHOWN_FIRST = ("instructions", "invention", "flattery", "rudeness", "skills", "refusal")
Z = 1.96


@dataclass(frozen=True, slots=True)
class Live:
    """What people chose, blind, between a round's version and the one before.

    `share` is None while they still choose: to know it could sway them.
    """

    share: ShareInterval | None
    choices: int
    raters: int
    open: bool


@dataclass(frozen=True, slots=True)
class ProbeShare:
    """Share of right replies to one kind of probe."""

    kind: str
    served: float
    candidate: float


@dataclass(frozen=True, slots=True)
class RoundView:
    """One round.

    Attributes:
        number: Of the cycle.
        at: When it ended, or began if it runs.
        outcome: How it ended.
        cause: The first check of the gate that failed, for a rejection.
        liked: Whether the candidate's replies were shown to be preferred.
        version: The number of the version that it made, if that was ever served.
        before: The number of the version that it was compared with.
        votes: The evidence that it learnt from, in votes.
        win_rate: How often its replies were preferred in the test, by the reward model.
        live: What people chose; None below five raters.
        probes: Shares of right replies.
        scores: Of the reward model.
        samples: Replies to the same few packaged probes in every round.
    """

    number: int
    at: str
    outcome: Outcome
    cause: str | None
    liked: bool
    version: int | None
    before: int | None
    votes: int | None
    win_rate: ShareInterval | None
    live: Live | None
    probes: tuple[ProbeShare, ...]
    scores: Scores | None
    samples: tuple[ProbeReplies, ...]


@dataclass(frozen=True, slots=True)
class History:
    """What rounds are told from: `trials` newest first, `servings` oldest first."""

    versions: Mapping[str, int]
    servings: Sequence[Serving]
    trials: Sequence[Trial]

    def served_at(self, moment: str) -> str:
        """The adapter that was served at a time."""
        before = [one.adapter for one in self.servings if one.since <= moment]
        return before[-1] if before else self.servings[0].adapter

    def trials_of(self, adapter: str | None) -> list[Trial]:
        """The trials about an adapter, newest first."""
        return [trial for trial in self.trials if trial.adapter == adapter]


def round_of(
    store: FeedbackStore, cycle: Cycle, report: Report | None, history: History
) -> RoundView:
    """One cycle as a round."""
    found, trials = cycle.metrics, history.trials_of(cycle.adapter)
    version = None if cycle.adapter is None else history.versions.get(cycle.adapter)
    before = history.served_at(cycle.started_at)
    outcome = _outcome(cycle, trials, version)
    votes = found.get("evidence/effective")
    return RoundView(
        number=cycle.id,
        at=cycle.finished_at or cycle.started_at,
        outcome=outcome,
        cause=_cause(report) if outcome in ("rejected", "served_anyway") else None,
        liked=found.get("win_rate_low", 0.0) > 0.5,
        version=version,
        before=history.versions.get(before),
        votes=None if votes is None else round(votes),
        win_rate=_win_rate(found),
        live=next((live for trial in trials if (live := _live(store, trial))), None),
        probes=_probes(found),
        scores=None if report is None else scores_of(report.scores_served, report.scores_candidate),
        samples=() if report is None else _samples(report.probe_samples),
    )


def _outcome(cycle: Cycle, trials: Sequence[Trial], version: int | None) -> Outcome:
    """How a cycle ended; what people found later is its end, too."""
    ends = {(trial.kind, trial.outcome) for trial in trials}
    if ("guard", "worse") in ends:
        return "rolled_back"
    if cycle.state == "passed":
        return "canary" if ("canary", None) in ends else "waiting"
    if cycle.state == "rejected" and version is not None:
        return "served_anyway"
    if cycle.state == "rejected" and ends & {("canary", "worse"), ("canary", "not_shown")}:
        return "rejected_by_people"
    ends_of: dict[str, Outcome] = {
        "running": "running",
        "promoted": "promoted",
        "rejected": "rejected",
        "refused": "refused",
        "cancelled": "cancelled",
    }
    return ends_of.get(cycle.state, "failed")


def _cause(report: Report | None) -> str | None:
    """The first check that failed: its name alone, since its text is for the operator."""
    failed = [] if report is None else [check.name for check in report.checks if not check.passed]
    if not failed:
        return None
    return failed[0] if failed[0] in CAUSES else "other"


def _win_rate(metrics: Mapping[str, float]) -> ShareInterval | None:
    value = metrics.get("win_rate")
    if value is None:
        return None
    return ShareInterval(value, metrics.get("win_rate_low"), metrics.get("win_rate_high"))


def _live(store: FeedbackStore, trial: Trial) -> Live | None:
    """The choices of a trial, of each rater the first few, as the trial counts them."""
    counted: dict[str, list[float]] = {}
    for rater, choice in choices_of(store, trial):
        own = counted.setdefault(rater, [])
        if len(own) < MOST:
            own.append(VALUES[choice] + 0.5)
    if len(counted) < FEWEST:
        return None
    values = [value for own in counted.values() for value in own]
    if trial.ended_at is None:
        return Live(None, len(values), len(counted), open=True)
    raters = [rater for rater, own in counted.items() for _ in own]
    low, share, high = (round(b, 4) for b in clustered_interval(values, raters, z=Z))
    return Live(ShareInterval(share, low, high), len(values), len(counted), open=False)


def _probes(metrics: Mapping[str, float]) -> tuple[ProbeShare, ...]:
    prefix = "probe/"
    return tuple(
        ProbeShare(kind, metrics[f"probe_served/{kind}"], share)
        for name, share in metrics.items()
        if (kind := name.removeprefix(prefix)) != name and f"probe_served/{kind}" in metrics
    )


def _samples(samples: Sequence[ProbeReplies]) -> tuple[ProbeReplies, ...]:
    """One probe of each kind, the same in every round."""
    first: dict[str, ProbeReplies] = {}
    for sample in samples:
        first.setdefault(sample.kind, sample)
    return tuple(first[kind] for kind in SHOWN_FIRST if kind in first)[:SAMPLES]
