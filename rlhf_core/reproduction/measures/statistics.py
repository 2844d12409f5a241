"""Intervals of the reproduction: Wilson's for shares, the bootstrap for everything else.

One run draws prompts; several seeds draw seeds first, and prompts within each: training differs
between seeds, and thousands of prompts of one seed say nothing about that.

Shapes: K quantities, S seeds, N prompts, D draws.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rlhf_core.gate.intervals import wilson_interval
from rlhf_core.reproduction.claims import Figure

DRAWS = 10_000
Z95 = 1.959964
Array = NDArray[np.float64]
Statistic = Callable[[Array], Array]  # means (K, ...) -> (...)


def share(values: ArrayLike, about: str = "") -> Figure:
    """The mean of values in [0, 1], such as wins with ties as one half; (S, N).

    Source:
        Wilson 1927, the score interval, for one seed; the bootstrap over seeds and prompts else.
    """
    table = _table(values)
    if len(table) == 1:
        row = table[0].tolist()
        clusters = [str(i) for i in range(len(row))]
        low, value, high = wilson_interval(row, clusters, [1.0] * len(row), z=Z95)
        return Figure(value, min(low, value), max(high, value), about)  # against rounding
    return bootstrap([table], lambda means: means[0], about=about)


def difference(new: ArrayLike, old: ArrayLike, about: str = "") -> Figure:
    """Mean of `new` less mean of `old` on the same prompts; each (S, N)."""
    return bootstrap([new, old], lambda means: means[0] - means[1], about=about)


def ratio(new: ArrayLike, old: ArrayLike, about: str = "") -> Figure:
    """Mean of `new` over mean of `old` on the same prompts; each (S, N)."""
    return bootstrap([new, old], lambda means: _divided(means[0], means[1]), about=about)


def relative_change(new: ArrayLike, old: ArrayLike, about: str = "") -> Figure:
    """How much the mean of `new` differs from that of `old`, as a part of the old; (S, N)."""
    return bootstrap([new, old], lambda means: _divided(means[0], means[1]) - 1, about=about)


def share_within(values: ArrayLike, chosen: ArrayLike, about: str = "") -> Figure:
    """The mean of values over the chosen prompts only, which may differ by seed; each (S, N)."""
    inside = _table(chosen)
    kept = [_table(values) * inside, inside]
    return bootstrap(kept, lambda means: _divided(means[0], means[1]), about=about)


def bootstrap(
    values: Sequence[ArrayLike], statistic: Statistic, *, about: str = "", seed: int = 0
) -> Figure:
    """A statistic of means, with the percentile interval of a paired, hierarchical bootstrap.

    Prompts are drawn with replacement, the same for all quantities. With several seeds, seeds are
    drawn first, then the prompts of each.

    Args:
        values: The quantities, each (S, N).
        statistic: From their means, (K,) or (K, D), to one number each.
        about: Words for the figure.
        seed: Of the draws.

    Source:
        Efron and Tibshirani 1993, An Introduction to the Bootstrap, sections 8.3 and 13.3.
    """
    table = np.stack([_table(one) for one in values])  # (K, S, N)
    _, seeds, prompts = table.shape
    rng = np.random.default_rng(seed)
    drawn = rng.integers(seeds, size=(seeds, DRAWS))  # which seed stands at each place
    means = np.zeros((len(table), DRAWS))
    for place in drawn:
        counts = rng.multinomial(prompts, np.full(prompts, 1 / prompts), size=DRAWS)  # (D, N)
        by_seed = table @ (counts.T / prompts)  # (K, S, D)
        means += np.take_along_axis(by_seed, place[None, None], axis=1)[:, 0] / seeds
    found = statistic(means)  # (D,)
    low, high = None, None
    if np.isfinite(found).any():
        with np.errstate(invalid="ignore"):  # between infinite quotients
            low, high = np.nanpercentile(found, (2.5, 97.5))
    value = statistic(table.mean(axis=(1, 2)))
    return Figure(float(value), _number(low), _number(high), about)


def _table(values: ArrayLike) -> Array:
    """One seed's values may come as a plain list."""
    table = np.asarray(values, dtype=np.float64)
    return table[None] if table.ndim == 1 else table


def _divided(above: Array, below: Array) -> Array:
    """A quotient; NaN or infinite where the divisor is 0, without a warning."""
    with np.errstate(divide="ignore", invalid="ignore"):
        quotient: Array = np.divide(above, below)
        return quotient


def _number(bound: float | None) -> float | None:
    return None if bound is None else float(bound)
