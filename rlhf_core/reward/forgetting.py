"""How much earlier votes still count, where people's tastes have changed since.

Most of the time all votes say the same, and more of them say more. After a change the earlier ones
say what is no longer liked, and the sum of both says nothing. So the newest votes decide: if they
are foretold clearly better when a vote counts half after so many newer ones, it does. Otherwise all
count as they are.

Source:
    Klinkenberg and Joachims 2000, "Detecting concept drift with support vector machines": the
    window of examples whose model errs least on the newest batch. Here it fades instead of ending.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from rlhf_core.model.base_model import Base
from rlhf_core.records import Comparison
from rlhf_core.reward.heads import best_ridge, foretold, kept_by_folds, votes_of
from rlhf_core.reward.reward_data import opinion_keys

HALF_LIVES = (2.0, 1.0, 0.5, 0.25)  # in numbers of new opinions
MOST = 800  # newest opinions that are read for it
FEWEST = 30  # new ones with a preference, to say anything about tastes
CLEARLY = 2.33  # one-sided normal quantile of 1%, high because the best of four is tested
FORGOTTEN = 0.05  # of its weight: a vote with less is left out


def best_half_life(base: Base, comparisons: Sequence[Comparison], *, new: int) -> float:
    """After how many newer opinions one should count half; infinite if all should count.

    Args:
        base: The shared base, through whose states the votes are foretold.
        comparisons: What raters preferred, with their ages.
        new: How many opinions are new: those of a smaller age.
    """
    new = min(new, MOST // 2)  # else so many new ones would leave no earlier one to compare with
    newest = newest_opinions(comparisons)
    is_new = torch.tensor([c.age < new for c in newest])
    decided = torch.tensor([c.label != "tie" for c in newest])
    asked = is_new & decided
    keys = [key for key, yes in zip(opinion_keys(newest), asked.tolist(), strict=True) if yes]
    number = {key: n for n, key in enumerate(dict.fromkeys(keys))}
    if len(number) < FEWEST or not (~is_new & decided).any():
        return math.inf
    opinion = torch.tensor([number[key] for key in keys])
    sizes = opinion.bincount()
    votes = votes_of(base, newest)
    kept, ages = kept_by_folds(votes.questions), torch.tensor([float(c.age) for c in newest])

    def likelihoods(half_life: float) -> Tensor:
        """Mean log-likelihood of each new opinion's pairs, by heads that never saw its question."""
        fading = replace(votes, weights=votes.weights * 0.5 ** (ages / half_life))
        _, heads = best_ridge(fading)
        pairs = foretold(fading, heads, kept)[asked]
        return pairs.new_zeros(len(sizes)).index_add(0, opinion, pairs) / sizes  # (n,)

    whole = likelihoods(math.inf)
    gains = {share: likelihoods(share * new) - whole for share in HALF_LIVES}  # (n,) each
    best = max(gains, key=lambda share: float(gains[share].sum()))
    gain = gains[best]
    error = float(gain.std()) * math.sqrt(len(gain))
    return best * new if float(gain.sum()) > CLEARLY * error else math.inf


def newest_opinions(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """The comparisons of the `MOST` newest opinions, however many pairs each of them is."""
    ordered = sorted(comparisons, key=lambda c: c.age)
    keys = opinion_keys(ordered)
    kept = set(list(dict.fromkeys(keys))[:MOST])
    return [c for c, key in zip(ordered, keys, strict=True) if key in kept]


def faded(comparisons: Sequence[Comparison], half_life: float) -> tuple[Comparison, ...]:
    """The comparisons with the weight that is left of each; without those that are forgotten."""
    if math.isinf(half_life):
        return tuple(comparisons)
    left = [(c, 0.5 ** (c.age / half_life)) for c in comparisons]
    return tuple(replace(c, weight=c.weight * share) for c, share in left if share >= FORGOTTEN)
