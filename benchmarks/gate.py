"""How often the gate's statistics err, with the gate's own code and models that learn.

    python -m benchmarks.gate --json

No network is trained: a reply is a vector of features, raters weigh them, and a reward model is a
logistic regression with a ridge, which learns the weights from a few noisy votes, in folds as the
members of the held-out reward model do. A candidate that is no better differs from the served
policy in features that raters do not care about, and the model likes or dislikes these by chance.

- null: sequences of 30 cycles whose candidates are no better; how many sequences promote one.
- one cycle: how often a level of 5% promotes such a candidate, and how often the interval of 90%
  has the true rate, by how far candidates differ, and by the number of questions; beside it the
  former test, the share of signs by one model with the error between questions alone.
- better: how often a first cycle promotes candidates that are better, by their true win rate.
- live: how often people's choices call a policy better or worse, by its true rate (`betting.py`).
"""

import argparse
import json
import math
import os
import sys
from collections import Counter
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from rlhf_core.config import GateSettings
from rlhf_core.gate.betting import Preferred, live_evidence
from rlhf_core.gate.intervals import clustered_interval
from rlhf_core.gate.win_rate import WinRate, level_of, win_rate

FEATURES = 20
SETTINGS = GateSettings()
CYCLES, REPLIES = 30, 200
FEW = ((2, 3), (4, 3), (6, 3), (6, 1), (12, 1))  # questions, and votes on each
BARS = {"null_sequences": 0.05, "coverage": 0.90}
Vector = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Case:
    """One kind of cycle.

    Attributes:
        shift: How far candidates differ in what raters do not care about, in standard deviations
            of a pair's difference.
        better: How far they differ in what raters care about.
        questions: Held-out questions with votes.
        votes: On each of them.
        taste: Size of the raters' weights; with 1.5 two raters agree on about 68% of pairs.
    """

    shift: float = 1.0
    better: float = 0.0
    questions: int = 40
    votes: int = 3
    taste: float = 1.5


def one_cycle(rng: np.random.Generator, case: Case, level: float) -> tuple[WinRate, WinRate, float]:
    """What the gate finds at a level, what the former test finds, and the true win rate."""
    weights = rng.normal(size=FEATURES)
    weights *= case.taste / np.linalg.norm(weights)
    # votes on pairs of the served policy's replies
    asked = np.repeat(np.arange(case.questions), case.votes)
    pairs = rng.normal(size=(len(asked), FEATURES)) * 0.7
    votes = rng.random(len(asked)) < 1 / (1 + np.exp(-pairs @ weights))
    # the candidate's replies, less the served policy's
    shift = rng.normal(size=FEATURES)
    shift -= weights * (shift @ weights) / (weights @ weights)
    shift *= case.shift / np.linalg.norm(shift)
    shift += case.better * weights / np.linalg.norm(weights)
    question = np.arange(REPLIES) % case.questions
    own = rng.normal(size=(case.questions, FEATURES)) * 0.5
    replies = shift + own[question] + rng.normal(size=(REPLIES, FEATURES)) * 0.7
    # members, one for each fold, and the former model, which learns from all
    folds = min(SETTINGS.members, case.questions)
    fold = asked % folds
    members = [learn(pairs[fold != k], votes[fold != k]) for k in range(folds)]
    margins = torch.tensor(np.array([replies @ member for member in members]))
    known = torch.tensor(np.arange(folds)[:, None] != question % folds)
    names = [str(number) for number in question]
    found = win_rate(margins, known, names, level=level)
    signs = (replies @ learn(pairs, votes) > 0).astype(float).tolist()
    low, value, high = clustered_interval(signs, names, z=1.645)
    former = WinRate(value, low, high, case.questions, 0.0, 0.0)
    spread = math.sqrt(0.5**2 + 0.7**2)  # of a reply in the direction of the weights
    return found, former, 0.5 * (1 + math.erf(case.better / spread / math.sqrt(2)))


def learn(pairs: Vector, votes: Vector | NDArray[np.bool_], ridge: float = 1.0) -> Vector:
    """The weights of a logistic regression, by Newton's method."""
    weights = np.zeros(pairs.shape[1])
    for _ in range(10):
        sure = 1 / (1 + np.exp(-pairs @ weights))
        slope = pairs.T @ (sure - votes) + ridge * weights
        curve = (pairs * (sure * (1 - sure))[:, None]).T @ pairs + ridge * np.eye(len(weights))
        weights = weights - np.linalg.solve(curve, slope)
    return weights


def null_sequences(sequences: int, case: Case) -> float:
    """Share of the sequences of cycles without a better candidate in which one is promoted."""
    promoted = 0
    for number in range(sequences):
        rng = np.random.default_rng([1, number])
        levels = (level_of(test + 1, SETTINGS.error_rate) for test in range(CYCLES))
        promoted += any(one_cycle(rng, case, level)[0].low > 0.5 for level in levels)
    return promoted / sequences


def single(cycles: int, case: Case, level: float) -> dict[str, float]:
    """Shares of single cycles that promote and whose interval has the true rate; both tests."""
    rng = np.random.default_rng([2, case.questions, int(100 * case.shift), int(100 * case.better)])
    counts = np.zeros(4)
    for _ in range(cycles):
        found, former, true = one_cycle(rng, case, level)
        counts += [
            found.low > 0.5,
            found.low <= true <= found.high,
            former.low > 0.5,
            former.low <= true <= former.high,
        ]
    names = ("promoted", "covered", "former_promoted", "former_covered")
    shares = {name: round(float(n) / cycles, 3) for name, n in zip(names, counts, strict=True)}
    return {**vars_of(case), "true": round(true, 3), **shares}


def live(rate: float, choices: int, runs: int, *, raters: int) -> dict[str, float]:
    """Shares of runs in which so many choices call the first policy better, and worse."""
    rng = np.random.default_rng([3, int(100 * rate), choices])
    verdicts: Counter[str] = Counter()
    for _ in range(runs):
        own = np.clip(rng.normal(rate, 0.1, raters), 0, 1)
        who = rng.integers(raters, size=choices)
        sides: list[Preferred] = ["first" if rng.random() < own[r] else "second" for r in who]
        verdicts[live_evidence(zip(map(str, who), sides, strict=True)).verdict] += 1
    shares = {name: round(verdicts[name] / runs, 3) for name in ("better", "worse")}
    return {"rate": rate, "choices": choices, "raters": raters, **shares}


def vars_of(case: Case) -> dict[str, float]:
    """The attributes of a case, by name."""
    return {name: getattr(case, name) for name in Case.__slots__}


def main() -> None:
    """Print all shares."""
    cli = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    cli.add_argument("--sequences", type=int, default=200)
    cli.add_argument("--cycles", type=int, default=400, help="of each kind")
    cli.add_argument("--json", action="store_true", help="end with one line of JSON")
    options = cli.parse_args()
    torch.set_num_threads(1)
    found = []
    few = [Case(shift, questions=q, votes=v) for q, v in FEW for shift in (1.0, 2.0, 3.0)]
    for case in (Case(), Case(shift=2.0), Case(questions=12), Case(questions=12, shift=2.0), *few):
        found.append(single(options.cycles, case, 0.05))
        print("no better:", found[-1], file=sys.stderr, flush=True)
    better = []
    first = level_of(1, SETTINGS.error_rate)
    for case in (Case(better=b, questions=q) for q in (40, 12, 6) for b in (0.5, 1.0, 2.0)):
        better.append(single(options.cycles, case, first))
        print("better:", better[-1], file=sys.stderr, flush=True)
    null = {
        str(case.shift): null_sequences(options.sequences, case)
        for case in (Case(), Case(shift=2.0))
    }
    kinds = ((0.5, 300), (0.5, 600), (0.6, 300), (0.4, 400), (0.75, 100))
    people = [live(*kind, 5 * options.cycles, raters=n) for kind in kinds for n in (60, 200)]
    for one in people:
        print("live:", one)
    print(f"sequences of {CYCLES} cycles without a better candidate that promote one: {null}")
    summary = {
        "null_sequences": null,
        "no_better": found,
        "better": better,
        "live": people,
        "bars": BARS,
    }
    print(json.dumps({**summary, "load": os.getloadavg()[0]}))


if __name__ == "__main__":
    main()
