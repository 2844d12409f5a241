"""Trials as the operator page shows them: numbers, verdict, and the path of the evidence."""

from dataclasses import dataclass

from chat_app.cycles.trials import choices_of
from feedback_store.records import Trial
from feedback_store.store import FeedbackStore
from rlhf_core.gate.betting import ENOUGH, LiveEvidence, live_evidence, stakes

POINTS = 200  # of a path, at most
Point = tuple[int, float, float]


@dataclass(frozen=True, slots=True)
class TrialView:
    """People compare an adapter with another one, or did.

    Attributes:
        id: Its number.
        kind: "canary": before a promotion; "guard": after it.
        adapter: Which one it is about.
        number: The version that it is; None if it was never served.
        other: What it is compared with.
        other_number: The version that this is.
        started_at: When it began.
        ended_at: When it ended; None while it is open.
        outcome: The verdict about the adapter; None while it is open.
        reason: Why, in words.
        evidence: What the choices show.
        enough: So much evidence decides.
        most: Choices at which it ends without a verdict.
        days: Days after which it does.
        path: After some of the choices: how many there were, and the evidence that the adapter is
            better, and that it is worse.
    """

    id: int
    kind: str
    adapter: str
    number: int | None
    other: str
    other_number: int | None
    started_at: str
    ended_at: str | None
    outcome: str | None
    reason: str | None
    evidence: LiveEvidence
    enough: float
    most: int
    days: float
    path: tuple[Point, ...] = ()


def trial_view(
    store: FeedbackStore, trial: Trial, limits: tuple[int, int, float], *, path: bool = True
) -> TrialView:
    """One trial with what its choices show.

    Args:
        store: The store that has it.
        trial: The trial.
        limits: The most choices of a canary and of a guard, and the most days of either.
        path: Whether to add the path of the evidence.
    """
    choices, versions = choices_of(store, trial), store.versions()
    canary, guard, days = limits
    return TrialView(
        **{name: getattr(trial, name) for name in ("id", "kind", "adapter", "other")},
        **{name: getattr(trial, name) for name in ("started_at", "ended_at", "outcome", "reason")},
        number=versions.get(trial.adapter),
        other_number=versions.get(trial.other),
        evidence=live_evidence(choices),
        enough=ENOUGH,
        most=canary if trial.kind == "canary" else guard,
        days=days,
        path=thinned([stake for stake in stakes(choices) if stake is not None]) if path else (),
    )


def thinned(path: list[tuple[float, float]]) -> tuple[Point, ...]:
    """The points of a path with their numbers, from 0 on; the last is always one of them."""
    whole = [(0, 1.0, 1.0), *((n, *stake) for n, stake in enumerate(path, start=1))]
    step = -(-len(whole) // POINTS)
    kept = whole[::step]
    return tuple(kept if kept[-1] == whole[-1] else [*kept, whole[-1]])
