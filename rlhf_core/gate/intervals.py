"""Intervals for values that come in clusters, such as several replies to one question."""

import math
from collections import defaultdict
from collections.abc import Hashable, Sequence

import numpy as np

FLIPS = 9999


def clustered_interval(
    values: Sequence[float], clusters: Sequence[str], *, z: float
) -> tuple[float, float, float]:
    """Lower bound, mean and upper bound of values in [0, 1] that come in clusters."""
    mean, error = clustered_error(values, clusters)
    return max(0.0, mean - z * error), mean, min(1.0, mean + z * error)


def clustered_error(
    values: Sequence[float], clusters: Sequence[str], weights: Sequence[float] | None = None
) -> tuple[float, float]:
    """The weighted mean of values that come in clusters, and its standard error.

    Replies to one prompt are not independent, so the error is computed from the sums of clusters
    (the usual cluster-robust estimate). It is at least half a win, of the smallest weight, because
    a few prompts that agree are no proof.
    """
    weights = weights or [1.0] * len(values)
    whole = sum(weights)
    mean = sum(w * value for w, value in zip(weights, values, strict=True)) / whole
    sums: defaultdict[str, float] = defaultdict(float)  # of weighted deviations, by cluster
    for w, value, cluster in zip(weights, values, clusters, strict=True):
        sums[cluster] += w * (value - mean)
    groups = len(sums)
    # variance of the mean from the clusters' sums, with the usual factor for few clusters
    variance = sum(s * s for s in sums.values()) / whole**2 * groups / max(1, groups - 1)
    return mean, max(math.sqrt(variance), 0.5 * min(weights) / whole)


def increase_low(
    new: Sequence[bool], old: Sequence[bool], clusters: Sequence[str], *, z: float
) -> float:
    """Lower bound of how much more often `new` is true than `old`; both answer the same prompts."""
    differences = [float(n) - float(o) for n, o in zip(new, old, strict=True)]
    mean, error = clustered_error(differences, clusters)
    return mean - z * error


def wilson_interval(
    right: Sequence[float],
    clusters: Sequence[str],
    weights: Sequence[float],
    *,
    z: float,
    votes: Sequence[Hashable] | None = None,
) -> tuple[float, float, float]:
    """Lower bound, value and upper bound of a weighted share of votes that come in clusters.

    Votes of one cluster are not independent. So the bounds are computed for a smaller number of
    independent votes of equal weight, whose share would be equally uncertain. The values of one
    vote, such as the pairs of a ranking, are never more than one; `votes` names the vote of each
    value, and by default each is one.

    Source:
        Wilson 1927, the score interval for a proportion; Kish 1965, Survey Sampling, sections 8.2
        and 11.2, the design effects of clusters and of weights.
    """
    p, error = clustered_error(right, clusters, weights)
    # n independent votes have the variance p (1 - p) / n = error^2; solve for n, at most as many as
    # the weights leave. If all are right or all are wrong, n would be 0, and those count instead:
    # fewer, such as one for each cluster, would let a wrong prediction raise the bound.
    sums: defaultdict[Hashable, float] = defaultdict(float)  # of weights, by vote
    for vote, weight in zip(range(len(weights)) if votes is None else votes, weights, strict=True):
        sums[vote] += weight
    most = sum(weights) ** 2 / sum(w * w for w in sums.values())
    n = min(most, p * (1 - p) / error**2) or most
    # Wilson's interval for n votes
    middle = p + z * z / (2 * n)
    spread = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    low, high = ((middle + sign * spread) / (1 + z * z / n) for sign in (-1, 1))
    return low, p, high


def sign_flip_test(values: Sequence[float], clusters: Sequence[str]) -> float:
    """Probability of so large a sum or a larger one, if each cluster's sign were a coin flip.

    Source:
        Fisher 1935, The Design of Experiments, section 21. The flips that were drawn count as one
        more with the sum that was found (Phipson and Smyth 2010, SAGMB 9:39).
    """
    sums: defaultdict[str, float] = defaultdict(float)
    for value, cluster in zip(values, clusters, strict=True):
        sums[cluster] += value
    found = np.array(list(sums.values()))
    signs = np.random.default_rng(0).choice((-1.0, 1.0), size=(FLIPS, len(found)))
    # rounding must not make a sum larger than itself
    larger = (signs @ found >= found.sum() - 1e-9 * np.abs(found).sum()).sum()
    return float((larger + 1) / (FLIPS + 1))
