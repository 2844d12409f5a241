"""What votes are worth to a reward model: ties beside decided votes, and votes after disagreement.

    python -m benchmarks.evidence --json

No network is trained: a pair of replies is a vector of features, raters weigh them and call small
differences a tie, and a reward model is a logistic regression with a ridge, as `benchmarks.gate`
has it. Measured is how often it prefers the reply of new pairs that raters truly prefer.

- ties: what 40 ties beside 40 decided votes add, as a number of further decided votes.
- disagreement: three models are fitted to halves of some votes; how often they disagree on new
  pairs, beside what half as many votes again add to the share of right predictions.
"""

import argparse
import json
import os
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from benchmarks.gate import FEATURES, Vector, learn

DECIDED, TIES = 40, 40
FURTHER = (40, 45, 50, 60, 80, 120)  # decided votes alone, to compare with
MEMBERS, TESTS = 3, 2000
WORLDS = ((1.5, 0.5), (1.5, 1.2), (4.0, 1.2))  # size of the raters' weights; half width of a tie


def votes(rng: np.random.Generator, weights: Vector, ties: float, n: int) -> tuple[Vector, Vector]:
    """Pairs, and what raters said of them: 1, 0, or 0.5 for a tie."""
    pairs = rng.normal(size=(n, FEATURES))
    liked = pairs @ weights + rng.logistic(size=n)
    return pairs, np.where(np.abs(liked) < ties, 0.5, (liked > 0).astype(float))


def right(model: Vector, pairs: Vector, weights: Vector) -> float:
    """Share of the pairs on which a model prefers what raters truly prefer."""
    return float(((pairs @ model > 0) == (pairs @ weights > 0)).mean())


def taste(rng: np.random.Generator, size: float) -> Vector:
    """What raters like."""
    weights = rng.normal(size=FEATURES)
    return np.asarray(weights * size / np.linalg.norm(weights))


def ties_are_worth(runs: int, size: float, width: float) -> dict[str, float]:
    """How many decided votes the ties stand for, by the mean share of right predictions."""
    rng, with_ties, alone = np.random.default_rng([1, int(10 * width)]), 0.0, np.zeros(len(FURTHER))
    for _ in range(runs):
        weights = taste(rng, size)
        pairs, said = votes(rng, weights, width, 1000)
        tests = rng.normal(size=(TESTS, FEATURES))
        decided, ties = np.flatnonzero(said != 0.5), np.flatnonzero(said == 0.5)

        def found(
            rows: NDArray[np.intp],
            pairs: Vector = pairs,
            said: Vector = said,
            tests: Vector = tests,
            weights: Vector = weights,
        ) -> float:
            return right(learn(pairs[rows], said[rows]), tests, weights)

        with_ties += found(np.r_[decided[:DECIDED], ties[:TIES]])
        alone += [found(decided[:n]) for n in FURTHER]
    worth = float(np.interp(with_ties, alone, FURTHER)) - DECIDED
    return {"taste": size, "width": width, "ties_are_worth": round(worth, 1)}


def disagreement_foretells(runs: int) -> list[dict[str, float]]:
    """By how often members disagree: what more votes add, on average."""
    rng, found = np.random.default_rng(2), []
    for _ in range(runs):
        weights = taste(rng, float(rng.uniform(0.5, 4)))
        n = int(rng.choice([30, 60, 120, 240]))
        pairs, said = votes(rng, weights, 0.0, 3 * n // 2)
        tests = rng.normal(size=(TESTS, FEATURES))
        halves = [rng.choice(n, n // 2, replace=False) for _ in range(MEMBERS)]
        margins = np.array([tests @ learn(pairs[half], said[half]) for half in halves])
        differ = ((margins > 0) != (margins > 0)[0]).any(0).mean() / (1 - 2.0 ** (1 - MEMBERS))
        before, after = (right(learn(pairs[:m], said[:m]), tests, weights) for m in (n, 3 * n // 2))
        found.append((float(differ), after - before))
    return thirds(found)


def thirds(found: Sequence[tuple[float, float]]) -> list[dict[str, float]]:
    """The mean disagreement and gain of each third of the runs, the least disagreement first."""
    parts = np.array_split(np.array(sorted(found)), 3)
    names = ("disagreement", "gain")
    return [dict(zip(names, np.round(part.mean(0), 4).tolist(), strict=True)) for part in parts]


def main() -> None:
    """Print both."""
    cli = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    cli.add_argument("--runs", type=int, default=400)
    cli.add_argument("--json", action="store_true", help="end with one line of JSON")
    options = cli.parse_args()
    summary = {
        "ties": [ties_are_worth(options.runs, *world) for world in WORLDS],
        "disagreement": disagreement_foretells(2 * options.runs),
        "load": os.getloadavg()[0],
    }
    print(json.dumps(summary, indent=None if options.json else 2))


if __name__ == "__main__":
    main()
