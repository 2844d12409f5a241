"""How much each labeler's votes count, by how often others rank the same replies as they do.

A service weighs its raters in `feedback_store/raters`, from gold questions, habits and caps, too.
That cannot be shared: the core imports the store in the cycle alone, and the store nothing of the
core. So here is its central part by itself, for rankings by two labelers each: one-coin
Dawid-Skene with the store's prior, and its scale from a coin's weight, 0, to the expected one, 1.
A test holds both side by side on the same votes.

Shapes: V, two for each overlap; R labelers.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

RIGHT, WRONG = 7.0, 3.0  # the prior, as the store's: pseudo-counts of right and wrong rankings
STEPS = 100


class Overlap(NamedTuple):
    """Two labelers who ranked the same replies."""

    one: str
    other: str
    agreement: float  # share of the pairs on which both prefer the same reply; ties are left out


def weights_by_agreement(overlaps: Sequence[Overlap]) -> dict[str, float]:
    """The weight of each labeler in these overlaps, in [0, 1].

    A labeler is right with probability p, whatever is shown. Each step asks how probably each
    ranking is right, given the other's, and counts these probabilities into new p. Who is mostly
    wrong has no say about others, and is not believed the other way round.

    Source:
        Dawid and Skene 1979, https://doi.org/10.2307/2346806, with one probability for each rater
        in place of a confusion matrix, and a Beta prior for it.
    """
    names = sorted({name for overlap in overlaps for name in overlap[:2]})
    place = {name: number for number, name in enumerate(names)}
    pairs = np.array([(place[o.one], place[o.other]) for o in overlaps], dtype=np.intp)
    who, other = np.concatenate([pairs, pairs[:, ::-1]]).T  # each (V,)
    agree = np.array([o.agreement for o in overlaps] * 2)  # (V,)
    usual = RIGHT / (RIGHT + WRONG)
    p = np.full(len(names), usual)  # (R,)
    for _ in range(STEPS):
        skill = np.log(p / (1 - p))  # (R,)
        trust = skill.clip(min=0)[other]  # (V,)
        same, different = (1 / (1 + np.exp(-skill[who] - side * trust)) for side in (1, -1))
        right = np.bincount(who, agree * same + (1 - agree) * different, len(names))
        p = (RIGHT + right) / (RIGHT + WRONG + np.bincount(who, minlength=len(names)))
    weights = ((p - 0.5) / (usual - 0.5)).clip(0, 1)
    return dict(zip(names, weights.tolist(), strict=True))
