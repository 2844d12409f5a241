"""Shares with their interval, and how the scores of two policies' replies lie."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

FEWEST_SCORES = 10
BINS, WIDTH = 16, 0.5  # from -4 to 4 standard deviations


@dataclass(frozen=True, slots=True)
class ShareInterval:
    """A share from 0 to 1 and its interval, as far as that is known."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Scores:
    """The reward model's scores of the served policy's replies and of the candidate's.

    The unit is the standard deviation of the served policy's scores, and 0 is their mean, since
    each round has a reward model of its own.

    Attributes:
        start: Where the first bin begins; the first and the last one hold all beyond, too.
        width: Of a bin.
        served: Share of the replies in each bin.
        candidate: The same of the candidate.
        shift: How far the candidate's mean is above the served policy's.
        above: Share of the candidate's replies that score above the served policy's median.
    """

    start: float
    width: float
    served: tuple[float, ...]
    candidate: tuple[float, ...]
    shift: float
    above: float


def scores_of(served: Sequence[float], candidate: Sequence[float]) -> Scores | None:
    """How scores lie, as shares in bins; None if they are too few, or all the same."""
    if min(len(served), len(candidate)) < FEWEST_SCORES:
        return None
    if not all(map(math.isfinite, (*served, *candidate))):
        return None
    mean, unit = statistics.fmean(served), statistics.pstdev(served)
    if unit < 1e-9:
        return None
    middle = statistics.median(served)
    return Scores(
        start=-BINS * WIDTH / 2,
        width=WIDTH,
        served=_in_bins([(score - mean) / unit for score in served]),
        candidate=_in_bins([(score - mean) / unit for score in candidate]),
        shift=round((statistics.fmean(candidate) - mean) / unit, 2),
        above=round(sum(score > middle for score in candidate) / len(candidate), 4),
    )


def _in_bins(values: Sequence[float]) -> tuple[float, ...]:
    counts = [0] * BINS
    for value in values:
        counts[min(BINS - 1, max(0, math.floor(value / WIDTH) + BINS // 2))] += 1
    return tuple(round(count / len(values), 4) for count in counts)
