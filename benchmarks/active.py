"""Active choices against random ones: votes needed for the same reward model.

    python -m benchmarks.active --json                        # linear heads, 5 seeds
    python -m benchmarks.active --seeds 20 --json             # the same with narrower intervals
    python -m benchmarks.active --model trained --seeds 5 --json

Visitors of the starter's world ask, the base answers each question four times, and one pair of its
replies is shown: by lot (`random`), by the service's rule, half by lot and half the most uncertain
pair (`active`), or always the most uncertain (`greedy`). All arms ask the same questions in the
same order, and the same visitors vote. The posterior is fitted again after every 20 votes; in the
service, only a cycle does that. Accuracy: how many of all different pairs of replies to held-out
questions a model orders like the gold reward. A visitor's tie, or "both bad", is a vote, too.

Votes needed: at how many votes the other arm's mean accuracy first reaches random's at 40, 80 and
150; a ratio below 1 saves votes. Curves are means over seeds, made monotone; the interval is 95%,
by drawing seeds again. A ratio of `most` says that it was not reached with twice as many votes.
"""

import argparse
import itertools
import json
import os
import random
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.reward import Asked, World
from chat_app.service.choosing import propensities
from rlhf_core.config import RewardSettings
from rlhf_core.model.base_model import Base
from rlhf_core.model.loading import load_base
from rlhf_core.records import Comparison, Label
from rlhf_core.reward.acquisition import Uncertainty, posterior
from rlhf_core.reward.heads import best_ridge, fit_head, vectors_and_prompts, votes_from
from rlhf_core.train_reward import train_reward

SHARES = {"random": 0.0, "active": 0.5, "greedy": 1.0}  # of the most uncertain pair
AT = (40, 80, 150)
QUESTIONS_PER_VOTE = 1.6  # the replies to some are all the same
MOST = 2  # times as many votes as random had
POINTS = (*range(10, 160, 10), *range(180, MOST * AT[-1] + 1, 30))  # of a curve
REFIT = 20  # votes after which the posterior is fitted again
REPLIES = 4
DRAWS = 2000  # of seeds, for an interval
LABELS: Mapping[str, Label] = {"a": "a", "b": "b", "tie": "tie"}


class Pool:
    """The questions of one seed with their replies, and the vectors of these."""

    def __init__(self, base: Base, seed: int, *, questions: int) -> None:
        self.base, world = base, World(base, seed)
        self.asked = world.ask(questions, REPLIES)
        self.vectors, self.prompts = self._vectors([(a, r) for a in self.asked for r in a.replies])
        self.tests = [pair for pair in world.test_pairs() if pair.gold]
        sides = [(pair.asked, text) for pair in self.tests for text in (pair.a, pair.b)]
        both = self._vectors(sides)[0]
        self.test_vectors = both[::2] - both[1::2]  # (M, d)
        self.gold = torch.tensor([pair.gold > 0 for pair in self.tests])  # (M,)

    def _vectors(self, sides: Sequence[tuple[Asked, str]]) -> tuple[Tensor, Tensor]:
        encoded = [self.base.chat.encode_pair(asked.prompt, text) for asked, text in sides]
        return vectors_and_prompts(self.base, encoded)


class Arm:
    """One way to choose pairs, on the questions of a pool.

    Attributes:
        votes: Pairs that were shown so far.
        comparisons: What training learns from them.
        places: Of the vectors of both sides of each comparison.
        known: Questions that were like one judged before, so that lots chose.
    """

    def __init__(self, pool: Pool, name: str, *, seed: int) -> None:
        self.pool, self.share, self.seed = pool, SHARES[name], seed
        self.lots = random.Random(f"lots/{seed}")
        self.comparisons: list[Comparison] = []
        self.places: list[int] = []
        self.votes = self.known = 0

    def run(self, measure: Callable[["Arm"], float], points: Sequence[int]) -> dict[int, float]:
        """Ask question after question, and measure after so many votes."""
        found, model, fitted = dict[int, float](), None, 0
        for number in range(len(self.pool.asked)):
            if self.share and self.votes >= fitted + REFIT:
                model, fitted = self._posterior(), self.votes
            before = self.votes
            self._vote(number, model)
            if self.votes > before and self.votes in points:
                found[self.votes] = measure(self)
        return found

    def _posterior(self) -> Uncertainty:
        votes = votes_from(self.pool.vectors[self.places], self.comparisons)
        return posterior(votes, self.pool.prompts[self.places[::2]])

    def _vote(self, number: int, model: Uncertainty | None) -> None:
        asked, first = self.pool.asked[number], number * REPLIES
        texts = list(dict.fromkeys(asked.replies))
        if len(texts) < 2:
            return  # one reply, which nobody has to choose
        places = [first + asked.replies.index(text) for text in texts]
        pairs = [*itertools.combinations(range(len(texts)), 2)]
        chances = dict.fromkeys(pairs, 1 / len(pairs))
        if model is not None:
            known = model.knows(self.pool.prompts[first])
            self.known += known
            unsure = model.of_pairs(self.pool.vectors[places])
            if unsure and not known:
                chances = propensities(unsure, self.share)
        [pair] = self.lots.choices([*chances], [*chances.values()])
        a, b = self.lots.sample(pair, 2)
        asked.visitor.rng = random.Random(f"{self.seed}/{number}")  # the same mood in every arm
        said = asked.visitor.choose(asked.text, texts[a], texts[b])
        self.votes += 1
        if said in LABELS:  # "both bad" trains no comparison
            self.comparisons.append(
                Comparison(asked.prompt, texts[a], texts[b], LABELS[said], could_tie=True)
            )
            self.places += [places[a], places[b]]


def by_heads(arm: Arm) -> float:
    """Accuracy of one head on all votes so far."""
    votes = votes_from(arm.pool.vectors[arm.places], arm.comparisons)
    every = torch.ones(len(votes.weights), dtype=torch.bool)
    head = fit_head(votes, every, best_ridge(votes)[0]) @ votes.directions  # (d,)
    return right(arm.pool.test_vectors @ head, arm.pool.gold)


def by_training(arm: Arm) -> float:
    """Accuracy of a reward model that is trained as in a cycle."""
    model = train_reward(
        arm.pool.base, arm.comparisons, settings=RewardSettings(), name="reward", seed=arm.seed
    )
    sides = [(pair.asked.prompt, text) for pair in arm.pool.tests for text in (pair.a, pair.b)]
    scores = model.score(*zip(*sides, strict=True))
    model.drop()
    return right(scores[::2] - scores[1::2], arm.pool.gold)


MODELS = {"heads": by_heads, "trained": by_training}


def right(margins: Tensor, gold: Tensor) -> float:
    """The share of pairs whose better reply has the higher score."""
    return ((margins > 0) == gold).double().mean().item()


def votes_needed(curve: np.ndarray, points: Sequence[int], wanted: float) -> float:
    """At how many votes a curve first reaches an accuracy, between two points by a line."""
    best = np.maximum.accumulate(curve)  # one lucky point is not lost again
    if best[-1] < wanted:
        return float("inf")
    return float(np.interp(wanted, best, points)) if best[0] < wanted else float(points[0])


def ratios(random_: np.ndarray, other: np.ndarray, points: Sequence[int], at: int) -> np.ndarray:
    """Votes needed by the other arm, by random's: of the mean curves, then of drawn seeds."""
    rng, n = np.random.default_rng(0), len(random_)
    seeds = [np.arange(n), *rng.integers(0, n, (DRAWS, n))]
    place = points.index(at)
    found = []
    for drawn in seeds:
        reached = np.maximum.accumulate(random_[drawn].mean(0))
        needed = votes_needed(other[drawn].mean(0), points, reached[place])
        found.append(min(MOST, needed / np.interp(reached[place], reached, points)))
    return np.array(found)


def report(curves: Mapping[str, Sequence[Mapping[int, float]]]) -> dict[str, Any]:
    """By arm and number of votes: accuracy, what it gains, and the ratio of votes."""
    points = sorted(set.intersection(*(set(c) for arm in curves.values() for c in arm)))
    tables = {name: np.array([[c[p] for p in points] for c in arm]) for name, arm in curves.items()}
    found: dict[str, Any] = {}
    for name, table in tables.items():
        for at in AT:
            place = points.index(at)
            accuracy = table[:, place]
            row = {"accuracy": round(float(accuracy.mean()), 4)}
            if name != "random":
                gain = accuracy - tables["random"][:, place]
                error = statistics.stdev(gain) / len(gain) ** 0.5 if len(gain) > 1 else 0.0
                row |= {"gain": round(float(gain.mean()), 4), "gain_error": round(error, 4)}
                if len(points) > len(AT):
                    drawn = ratios(tables["random"], table, points, at)
                    low, high = np.quantile(drawn[1:], [0.025, 0.975])
                    row |= {"ratio": round(float(drawn[0]), 2)}
                    row |= {"low": round(float(low), 2), "high": round(float(high), 2)}
            found[f"{name}/{at}"] = row
    return found


def main() -> None:
    """Run the seeds and print accuracies and ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--model", choices=MODELS, default="heads", help="whose accuracy")
    parser.add_argument("--json", action="store_true", help="print one line of JSON at the end")
    given = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    started, base = time.monotonic(), load_base("starter")
    points = POINTS if given.model == "heads" else AT
    curves: dict[str, list[dict[int, float]]] = {name: [] for name in SHARES}
    known = dict.fromkeys(SHARES, 0)
    for seed in range(given.seeds):
        pool = Pool(base, seed, questions=int(QUESTIONS_PER_VOTE * points[-1]))
        for name in SHARES:
            arm = Arm(pool, name, seed=seed)
            curves[name].append(arm.run(MODELS[given.model], points))
            known[name] += arm.known
            last = curves[name][-1]
            print(f"seed {seed} {name:7}", {at: round(last[at], 3) for at in AT}, flush=True)
    facts = {"seconds": round(time.monotonic() - started), "questions_known": known}
    result = {"model": given.model, "seeds": given.seeds, **report(curves), **facts}
    print(json.dumps(result) if given.json else json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
