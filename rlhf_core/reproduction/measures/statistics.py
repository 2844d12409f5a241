"""Intervals of the reproduction: Wilson's for shares, the bootstrap for everything else.

Requests about one subject, or in the same words, are no independent evidence, so clusters of them
are counted and drawn, not requests. Training differs between seeds, so several seeds are drawn,
too; they ask about the same subjects, so a subject is drawn for all seeds at once.

Shapes: K quantities, S seeds, N prompts, G clusters, D draws.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rlhf_core.gate.intervals import wilson_interval
from rlhf_core.reproduction.claims import Figure

DRAWS = 10_000
CHUNK = 500  # draws at a time
Z95 = 1.959964
Array = NDArray[np.float64]
Statistic = Callable[[Array], Array]  # means (K, ...) -> (...)


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """A number for each prompt of each seed, and what each prompt shares with others.

    Attributes:
        values: The numbers, (S, N).
        clusters: Names of clusters, (S, N); the same name in two seeds is the same cluster.
        named: Whether the clusters are of requests; else each value is one of its own.
    """

    values: Array
    clusters: NDArray[np.str_]
    named: bool = True

    def like(self, values: ArrayLike) -> "Table":
        """Other numbers for the same prompts."""
        return Table(np.asarray(values, dtype=np.float64), self.clusters, self.named)

    def only(self, chosen: NDArray[np.bool_]) -> "Table":
        """The same as one row of the chosen prompts alone."""
        return Table(self.values[chosen][None], self.clusters[chosen][None], self.named)

    @property
    def mean(self) -> float:
        """Over all prompts and seeds."""
        return float(self.values.mean())

    def says(self, about: str) -> str:
        """Words for a figure, and of how many prompts and clusters it is."""
        if not self.named:
            return about
        distinct = f"{self.values.size} replies, {len(np.unique(self.clusters))} subjects or texts"
        return f"{about}; {distinct}" if about else distinct


Values = Table | ArrayLike


def share(values: Values, about: str = "") -> Figure:
    """The mean of values in [0, 1], such as wins with ties as one half; (S, N)."""
    table = as_table(values)
    return share_within(table, np.ones_like(table.values), about)


def share_within(values: Values, chosen: Values, about: str = "") -> Figure:
    """The mean of values over the chosen prompts only, which may differ by seed; each (S, N).

    Source:
        Wilson 1927, the score interval, for one seed, with Student's t for few clusters; the
        bootstrap for several, unless all values are the same, of which it would be sure.
    """
    table, inside = as_table(values), as_table(chosen).values > 0
    kept = table.only(inside)
    if not kept.values.size:
        return Figure(float("nan"), about=kept.says(about))
    if len(table.values) > 1 and np.ptp(kept.values) > 0:
        found = bootstrap(
            [table.like(table.values * inside), table.like(inside)],
            lambda means: _divided(means[0], means[1]),
        )
        return Figure(found.value, found.low, found.high, kept.says(about))
    return _wilson(kept, about)


def difference(new: Values, old: Values, about: str = "", *, unit: str = "") -> Figure:
    """Mean of `new` less mean of `old` on the same prompts; each (S, N)."""
    return bootstrap([new, old], lambda means: means[0] - means[1], about=about, unit=unit)


def ratio(new: Values, old: Values, about: str = "") -> Figure:
    """Mean of `new` over mean of `old` on the same prompts; each (S, N)."""
    return bootstrap([new, old], lambda means: _divided(means[0], means[1]), about=about)


def relative_change(new: Values, old: Values, about: str = "") -> Figure:
    """How much the mean of `new` differs from that of `old`, as a part of the old; (S, N)."""
    return bootstrap([new, old], lambda means: _divided(means[0], means[1]) - 1, about=about)


def bootstrap(
    values: Sequence[Values],
    statistic: Statistic,
    *,
    about: str = "",
    unit: str = "",
    seed: int = 0,
) -> Figure:
    """A statistic of means, with the percentile interval of a paired bootstrap over clusters.

    Clusters are drawn with replacement, the same for all quantities and all seeds; with several
    seeds, seeds are drawn, too. One cluster alone has no interval.

    Args:
        values: The quantities, each (S, N).
        statistic: From their means, (K,) or (K, D), to one number each.
        about: Words for the figure.
        unit: Of the figure.
        seed: Of the draws.

    Source:
        Efron and Tibshirani 1993, An Introduction to the Bootstrap, sections 8.3 and 13.3; Owen
        2007, The pigeonhole bootstrap, Annals of Applied Statistics 1:386, for seeds that share
        subjects.
    """
    tables = [as_table(one) for one in values]
    seeds = len(tables[0].values)
    drawn = np.random.default_rng(seed).integers(seeds, size=(seeds, DRAWS))
    means = np.stack([np.take_along_axis(_drawn(t, seed), drawn, axis=0).mean(0) for t in tables])
    found = statistic(means)  # (D,)
    low, high = None, None
    if np.isfinite(found).any() and len(np.unique(tables[0].clusters)) > 1:
        with np.errstate(invalid="ignore"):  # between infinite quotients numpy finds no number
            ends = np.nanpercentile(found, (2.5, 97.5))
        low, high = map(float, ends)
        high = math.inf if math.isnan(high) else high
    value = statistic(np.array([table.values.mean() for table in tables]))
    return Figure(float(value), low, high, tables[0].says(about), unit)


def as_table(values: Values) -> Table:
    """One seed's values may come as a plain list, and each value is then a cluster of its own."""
    if isinstance(values, Table):
        return values
    table = np.asarray(values, dtype=np.float64)
    table = table[None] if table.ndim == 1 else table
    return Table(table, np.arange(table.size).reshape(table.shape).astype(str), named=False)


def _wilson(kept: Table, about: str) -> Figure:
    """Wilson's interval of one row, by clusters."""
    row, clusters = kept.values[0].tolist(), kept.clusters[0].tolist()
    groups = sorted(set(clusters))
    if len(groups) < 2:
        return Figure(kept.mean, 0.0, 1.0, kept.says(about))
    if min(row) == max(row):  # nothing tells how clusters differ: each is one piece of evidence
        row, clusters = row[:1] * len(groups), groups
    z = _student(len(groups) - 1)
    low, value, high = wilson_interval(row, clusters, [1.0] * len(row), z=z)
    return Figure(value, min(low, value), max(high, value), kept.says(about))  # against rounding


def _student(freedom: int) -> float:
    """The 97.5% quantile of Student's t.

    Source:
        Abramowitz and Stegun 1964, formula 26.7.5; exact for one and two degrees of freedom.
    """
    if freedom <= 2:
        return {1: 12.7062, 2: 4.3027}[freedom]
    z, v = Z95, float(freedom)
    return (
        z
        + (z**3 + z) / (4 * v)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * v**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * v**3)
    )


def _drawn(table: Table, seed: int) -> Array:
    """The mean of each seed in each draw of clusters, (S, D)."""
    names, place = np.unique(table.clusters, return_inverse=True)
    place = place.reshape(table.values.shape)
    groups = len(names)
    sums = np.stack(
        [
            np.bincount(where, weights=row, minlength=groups)
            for where, row in zip(place, table.values, strict=True)
        ]
    )  # (S, G)
    sizes = np.stack([np.bincount(where, minlength=groups) for where in place])  # (S, G)
    weights = _weights(groups, seed)
    parts = []
    for begin in range(0, DRAWS, CHUNK):
        counts = weights[begin : begin + CHUNK].T.astype(np.float64)  # (G, CHUNK)
        parts.append(_divided(sums @ counts, sizes @ counts))
    return np.concatenate(parts, axis=1)


@lru_cache(maxsize=8)
def _weights(groups: int, seed: int) -> NDArray[np.uint8]:
    """How often each cluster is in each draw, (D, G); the same for all quantities."""
    rng = np.random.default_rng([seed, groups])
    found = np.empty((DRAWS, groups), dtype=np.uint8)
    for begin in range(0, DRAWS, CHUNK):
        picked = rng.integers(groups, size=(CHUNK, groups))
        picked += groups * np.arange(CHUNK)[:, None]
        found[begin : begin + CHUNK] = np.bincount(
            picked.ravel(), minlength=CHUNK * groups
        ).reshape(CHUNK, groups)
    return found


def _divided(above: Array, below: Array) -> Array:
    """A quotient; NaN or infinite where the divisor is 0, without a warning."""
    with np.errstate(divide="ignore", invalid="ignore"):
        quotient: Array = np.divide(above, below)
        return quotient
