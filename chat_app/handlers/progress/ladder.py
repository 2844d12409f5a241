"""How far each version is above version 1, by a chain of tests.

No test compares a late version with version 1. But each round compared a candidate with the version
that was served then, so the strengths add up along the chain, as Bradley and Terry's model has it:
the logarithm of the odds that one is preferred to another is the difference of their strengths.

It is an estimate, and rather too high: a candidate is served because its test went well, and taste
need not be one scale. The intervals add up as if the tests were independent.

Source:
    Bradley and Terry 1952, Biometrika 39:324.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from chat_app.handlers.progress.shares import ShareInterval

Z = 1.96  # of an interval of 95%
MOST = 0.98  # a share of 1 would be a strength without end
LEAST_ERROR = 0.01


@dataclass(frozen=True, slots=True)
class Step:
    """How a version's test went: its win rate against the `other` version, with its error."""

    other: str
    won: float
    error: float


@dataclass(frozen=True, slots=True)
class Rung:
    """A version on the ladder; `against_first` is None where a test of the chain is not known."""

    version: int
    since: str
    served: bool
    against_first: ShareInterval | None


def step_of(metrics: Mapping[str, float], other: str) -> Step | None:
    """The test in the metrics of a cycle, if there is one.

    The error is the standard error of questions and reward model together; a cycle of an earlier
    version has bounds alone, of which each is about two errors away.
    """
    won = metrics.get("win_rate")
    if won is None:
        return None
    parts = [metrics.get(f"win_rate_{of}_error") for of in ("question", "member")]
    known = [part for part in parts if part is not None]
    low, high = metrics.get("win_rate_low", 0.0), metrics.get("win_rate_high", 1.0)
    error = math.hypot(*known) if known else (high - low) / 4
    return Step(other, won, max(error, LEAST_ERROR))


def against_first(first: str, tests: Mapping[str, Step]) -> dict[str, ShareInterval]:
    """The estimated share in which each version is preferred to the `first` one.

    Args:
        first: The version that all are compared with.
        tests: By version, oldest first, so that the other one of a test comes before.
    """
    strengths = {first: (0.0, 0.0)}  # and the variance
    for name, test in tests.items():
        if name == first or test.other not in strengths:
            continue
        strength, variance = strengths[test.other]
        won = min(MOST, max(1 - MOST, test.won))
        error = test.error / (won * (1 - won))  # of the logarithm of the odds
        strengths[name] = (strength + math.log(won / (1 - won)), variance + error**2)
    return {name: _share(*found) for name, found in strengths.items()}


def _share(strength: float, variance: float) -> ShareInterval:
    if not variance:
        return ShareInterval(0.5, 0.5, 0.5)
    spread = Z * math.sqrt(variance)
    low, value, high = (
        round(1 / (1 + math.exp(-at)), 4) for at in (strength - spread, strength, strength + spread)
    )
    return ShareInterval(value, low, high)
