"""Which two replies to show: how uncertain it is which of them people prefer.

A logistic regression on what the bare base makes of replies (`heads.py`) has a posterior in closed
form (Laplace). It gives the difference of two scores a mean and a variance, and so a variance to
the chance that the first is preferred. A vote on the pair with the largest one is worth most to
this model. It says nothing of how noisy people are: a pair that everybody finds equal has a chance
near 1/2 and no variance, once that is known.

Pairs whose replies nearly agree are left out, and so are prompts like those that were judged. Of
these the model keeps a sketch of 128 signs each. No text can be read from it, but whoever has the
file and the base can tell whether a prompt was judged. Nothing here draws lots or knows the
service.

Shapes: d numbers in a vector, r directions, P prompts that were judged, B signs of a sketch.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import combinations
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from rlhf_core.errors import AdapterError
from rlhf_core.model.base_model import Base
from rlhf_core.records import Comparison
from rlhf_core.reward.heads import (
    JudgedPairs,
    best_ridge,
    fit_head,
    require_preferences,
    vectors_and_prompts,
    votes_from,
)

FILE = "choices.safetensors"  # in the directory of a reward model, which is signed
MOST_VOTES = 1000  # whose vectors are made for it
MOST_DIRECTIONS = 512  # that are kept: those of which votes said most
SIGNS = 128  # of a sketch
ALIKE = 0.98  # cosine of two prompts' states, less their mean, from which on they are alike
AGREE = 0.1  # of the usual distance of two replies, below which they nearly agree
NODES, WEIGHTS = (torch.from_numpy(x) for x in np.polynomial.hermite_e.hermegauss(32))

Pair = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Uncertainty:
    """The posterior of one head, and what was judged.

    Attributes:
        head: Its mean. (d,)
        directions: Those in which votes said something. (r, d)
        known: By how much each of them lessens the variance. (r,)
        prior: The variance of a difference of length 1 before any vote. (1,)
        usual: Root mean square distance of two replies that were compared. (1,)
        centre: Mean state of the prompts that were judged. (d / 2,)
        planes: They make the sketches. (d / 2, B)
        sketches: Of the prompts that were judged, 1 and -1. (P, B)
    """

    head: Tensor
    directions: Tensor
    known: Tensor
    prior: Tensor
    usual: Tensor
    centre: Tensor
    planes: Tensor
    sketches: Tensor

    def of_pairs(self, vectors: Tensor) -> dict[Pair, float]:
        """The variance of the chance that the first of two replies is preferred, by pair.

        Args:
            vectors: Of the replies to one prompt, from `vectors_of`. (N, d)

        Returns:
            From 0 to 1/4 by the replies' places, without pairs that nearly agree.
        """
        pairs = [*combinations(range(len(vectors)), 2)]
        apart = torch.stack([vectors[a] - vectors[b] for a, b in pairs]).double()  # (M, d)
        mean, variance = self.difference(apart)
        found = chance_variance(mean, variance).tolist()
        far = (apart.norm(dim=1) >= AGREE * self.usual.double()).tolist()
        return {pair: v for pair, v, is_far in zip(pairs, found, far, strict=True) if is_far}

    def difference(self, apart: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance of the difference of two scores, in log-odds; (M,) each.

        Args:
            apart: The first reply's vector less the second's. (M, d)
        """
        along = apart @ self.directions.double().T  # (M, r)
        before = self.prior.double() * apart.square().sum(1)
        variance = before - (along.square() * self.known.double()).sum(1)
        return apart @ self.head.double(), variance.clamp(min=0)

    def knows(self, prompt: Tensor) -> bool:
        """Whether a prompt is like one that was judged; its mean state, (d / 2,).

        Source:
            Charikar 2002, "Similarity estimation techniques from rounding algorithms": signs of
            random projections differ in proportion to the angle.
        """
        sketch = _signs(prompt[None], self.centre, self.planes)[0]  # (B,)
        differ = (SIGNS - self.sketches.float() @ sketch) / 2  # (P,)
        return bool((differ <= SIGNS * math.acos(ALIKE) / math.pi).any())

    def save(self, directory: Path) -> None:
        """Write it beside a reward model, before that is published."""
        tensors = {f.name: getattr(self, f.name).contiguous() for f in fields(self)}
        save_file(tensors, directory / FILE)

    @classmethod
    def load(cls, directory: Path) -> "Uncertainty":
        """Read it from a reward model's directory, which the caller has verified.

        Raises:
            AdapterError: There is none, or it cannot be used.
        """
        try:
            return cls(**load_file(directory / FILE))
        except (OSError, TypeError, ValueError) as exc:
            raise AdapterError(f"{directory / FILE} cannot be used: {exc}") from exc


def fit_uncertainty(base: Base, comparisons: Sequence[Comparison]) -> Uncertainty:
    """Fit a posterior to comparisons, to the first of them if there are many.

    A snapshot has them in the order of hashes, so the first are a random sample.

    Raises:
        NotEnoughDataError: No comparison prefers one response over the other.
    """
    some = comparisons[:MOST_VOTES]
    require_preferences(some)
    sides = [(c.prompt, response) for c in some for response in (c.response_a, c.response_b)]
    encoded = [base.chat.encode_pair(prompt, response) for prompt, response in sides]
    vectors, prompts = vectors_and_prompts(base, encoded)
    return posterior(votes_from(vectors, some), prompts[::2])


def posterior(votes: JudgedPairs, prompts: Tensor, *, ridge: float | None = None) -> Uncertainty:
    """The posterior from what is fitted.

    Args:
        votes: As numbers.
        prompts: Mean state of each vote's prompt. (N, d / 2)
        ridge: Precision of the prior; None takes the one that foretells votes best.

    Source:
        Bishop 2006, Pattern Recognition and Machine Learning, 4.5.1: the Laplace approximation.
    """
    ridge = ridge or best_ridge(votes)[0]
    head = fit_head(votes, torch.ones(len(votes.weights), dtype=torch.bool), ridge)  # (r,)
    chance = (votes.pairs @ head).sigmoid()
    said = (votes.pairs * (votes.weights * chance * (1 - chance))[:, None]).T @ votes.pairs
    size, turn = torch.linalg.eigh(said)  # ascending
    size, turn = size[-MOST_DIRECTIONS:].clamp(min=0), turn[:, -MOST_DIRECTIONS:]
    centre, planes = prompts.mean(0), _planes(prompts.shape[1])
    return Uncertainty(
        head=(head @ votes.directions).float(),
        directions=(turn.T @ votes.directions * votes.scale).float(),
        known=((1 / ridge - 1 / (ridge + size)) / votes.scale**2).float(),
        prior=torch.tensor([1 / (ridge * votes.scale**2)]),
        usual=torch.tensor([votes.scale]),
        centre=centre.float(),
        planes=planes,
        sketches=_signs(prompts, centre, planes).to(torch.float16),
    )


def chance_variance(mean: Tensor, variance: Tensor) -> Tensor:
    """The variance of sigmoid(x) where x is normal, by Gauss and Hermite's quadrature; (M,)."""
    weights = WEIGHTS / WEIGHTS.sum()
    chances = (mean[:, None] + variance.sqrt()[:, None] * NODES).sigmoid()  # (M, nodes)
    middle = chances @ weights
    return ((chances - middle[:, None]).square() @ weights).clamp(min=0)


def _planes(size: int) -> Tensor:
    return torch.randn(size, SIGNS, generator=torch.Generator().manual_seed(0))


def _signs(prompts: Tensor, centre: Tensor, planes: Tensor) -> Tensor:
    return torch.where((prompts.double() - centre.double()) @ planes.double() >= 0, 1.0, -1.0)
