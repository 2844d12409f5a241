"""Poisoned votes: how much a loud rater and a crowd of made-up accounts cost, with real defences.

    python -m benchmarks.poison --json              # 20 seeds
    python -m benchmarks.poison --seeds 1 2 3

The world is a linear Bradley-Terry one: a response is a point, what everybody truly prefers is a
direction, and raters choose by it with noise of their own, often between the same two responses as
others. All is written to a real store and derived, assessed and weighed by it; a logistic
regression on `comparisons(split="train")` stands for the reward model and is measured on clean
preferences that nobody voted on. Every attack is added to a copy of the same clean store.

- loud: one account casts half of all raw votes, always for the worse response.
- sybils: 20 accounts do so with 17% of what counts after the caps, on pairs that others see too.
- sybils_same: all 20 on the same few pairs, where they outnumber everybody else.
- sybils_apart: on pairs that nobody else sees. Agreement shows nothing there, so this is the limit
  of the defences and has no bar: only gold questions, and the gate on trusted votes, are left.
- sybils_one_origin: the same votes, but the accounts were made from one address, which the others
  were not.
"""

import argparse
import json
import os
import shutil
import statistics
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from feedback_store import CandidateReply, FeedbackStore, StoredComparison

SIZE = 16  # dimensions of a response
HONEST, VOTES_EACH = 40, 50
SHARED_PAIRS = 700  # so that about three honest raters judge each
SYBILS, SYBIL_SHARE = 20, 0.17
TESTS = 4_000  # clean preferences to measure on: a standard error of about 0.3 points
BARS = {"loud": 1.0, "sybils": 3.0, "sybils_same": 3.0}  # points
WRONGLY_QUARANTINED = 0.05

Array = np.ndarray[Any, Any]
VoteArrays = list[tuple[str, int, bool]]  # (rater, pair, for the better one by the rater's lights)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one attack on one seed did; accuracies on clean preferences."""

    accuracy: float
    undefended: float  # every vote counting 1, nobody quarantined
    raw_share: float  # of the attackers among all votes
    capped_share: float  # of the attackers in the weight after caps, before reliability
    learnt_share: float  # of the attackers in the weight that is learnt from
    held: int  # attackers quarantined
    wrongly_held: int  # honest raters quarantined


class World:
    """Pairs of responses, what is truly better, and the raters; all from one seed."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        truth = self.rng.normal(size=SIZE)
        self.truth = truth / np.linalg.norm(truth)
        self.responses: list[Array] = []  # two in a row are a pair
        tests = self.rng.normal(size=(TESTS, SIZE))  # differences
        self.tests = tests * np.sign(tests @ self.truth)[:, None]

    def pair(self) -> int:
        """A new pair of responses to a new prompt."""
        self.responses += [self.rng.normal(size=SIZE) for _ in range(2)]
        return len(self.responses) // 2 - 1

    def margin(self, pair: int) -> float:
        """How much better the first response of a pair is."""
        return float((self.responses[2 * pair] - self.responses[2 * pair + 1]) @ self.truth)

    def honest_votes(self, pairs: Sequence[int]) -> VoteArrays:
        """Each honest rater's votes: more often wrong where the margin is small."""
        votes: VoteArrays = []
        for number in range(HONEST):
            sharpness = self.rng.uniform(1.0, 3.0)
            for pair in self.rng.choice(pairs, VOTES_EACH, replace=False):
                first = self.rng.random() < sigmoid(sharpness * self.margin(pair))
                votes.append((f"honest-{number:02}", int(pair), bool(first)))
        return votes

    def flipped(self, rater: str, pairs: Iterable[int]) -> VoteArrays:
        """VoteArrays for the worse response, without a slip."""
        return [(rater, int(pair), self.margin(pair) < 0) for pair in pairs]

    def accuracy(self, learnt: Array) -> float:
        """Share of the clean preferences that a direction has right."""
        return float(np.mean(self.tests @ learnt > 0))


def cast(
    store: FeedbackStore, world: World, votes: VoteArrays, *, origin: str | None = None
) -> None:
    """Write votes as the service would: a conversation, a prompt, two replies, a choice."""
    rng = world.rng
    with store._file.write():  # one transaction, to be quick about it
        conversations: dict[str, str] = {}
        for number, (rater, pair, first) in enumerate(votes):
            if rater not in conversations:
                # simulated, because all vote at one moment
                store.add_rater(rater, kind="simulated", consent="1", origin=origin)
                conversations[rater] = store.add_conversation(rater).id
            asked = store.add_message(conversations[rater], "user", f"question {pair}")
            texts = [f"response {2 * pair}", f"response {2 * pair + 1}"]
            swapped = bool(rng.random() < 0.5)
            replies = [CandidateReply(text) for text in (reversed(texts) if swapped else texts)]
            shown, _ = store.add_candidates(asked.id, replies, rater_id=rater)
            store.add_choice(
                shown,
                rater,
                "a" if first != swapped else "b",
                seconds=float(rng.lognormal(2.0, 0.5)),
                idempotency_key=f"{number}-{pair}",
            )


def learn(world: World, comparisons: Sequence[StoredComparison], weights: Array) -> Array:
    """The direction that logistic regression finds, (SIZE,)."""

    def point(text: str) -> Array:
        return world.responses[int(text.split()[1])]

    differences = np.array(
        [
            (point(c.response_a) - point(c.response_b)) * (1 if c.label == "a" else -1)
            for c in comparisons
        ]
    )

    direction = np.zeros(SIZE)  # the minimum of a ridge penalty and the loss, by Newton's steps
    for _ in range(20):
        wrong = sigmoid(-differences @ direction)
        slope = direction - differences.T @ (weights * wrong)
        curvature = differences.T * (weights * wrong * (1 - wrong)) @ differences
        direction -= np.linalg.solve(np.eye(SIZE) + curvature, slope)
    return direction


def sigmoid(values: Any) -> Any:
    """The logistic function."""
    return 1 / (1 + np.exp(-values))


def measure(world: World, path: Path, attack: VoteArrays, *, origin: str | None = None) -> Outcome:
    """Add an attack to a store, let it defend itself, and learn from what it gives."""
    attackers = {rater for rater, _, _ in attack}
    with FeedbackStore(path) as store:
        cast(store, world, attack, origin=origin)
        store.refresh_comparisons()
        before = store.comparisons(split="train")
        capped = share_of(attackers, store.comparisons())
        everything = learn(world, before, np.ones(len(before)))
        reports = store.assess_raters(by="benchmark")
        usable = store.comparisons(split="train")
    held = {report.rater_id for report in reports if report.quarantine}
    learnt = learn(world, usable, np.array([c.weight for c in usable]))
    return Outcome(
        accuracy=world.accuracy(learnt),
        undefended=world.accuracy(everything),
        raw_share=sum(c.rater_id in attackers for c in before) / len(before),
        capped_share=capped,
        learnt_share=share_of(attackers, usable),
        held=len(held & attackers),
        wrongly_held=len(held - attackers),
    )


def share_of(raters: set[str], comparisons: Sequence[StoredComparison]) -> float:
    """The share of the weight that is these raters'."""
    total = sum(c.weight for c in comparisons)
    return sum(c.weight for c in comparisons if c.rater_id in raters) / total


def attacks_on(world: World, pairs: Sequence[int]) -> dict[str, VoteArrays]:
    """Every attack, by name; `clean` is none."""
    honest = HONEST * VOTES_EACH
    each = round(SYBIL_SHARE / (1 - SYBIL_SHARE) * honest / SYBILS)
    names = [f"sybil-{number:02}" for number in range(SYBILS)]
    same = world.rng.choice(pairs, each, replace=False)

    def crowd(seen: Callable[[], Iterable[int]]) -> VoteArrays:
        return list(chain.from_iterable(world.flipped(name, seen()) for name in names))

    loud = [*pairs, *(world.pair() for _ in range(honest - len(pairs)))]
    attacks = {
        "clean": [],
        "loud": world.flipped("loud", loud),
        "sybils": crowd(lambda: world.rng.choice(pairs, each, replace=False)),
        "sybils_same": crowd(lambda: same),
        "sybils_apart": crowd(lambda: [world.pair() for _ in range(each)]),
    }
    return attacks | {"sybils_one_origin": attacks["sybils_apart"]}


def run_seed(seed: int) -> dict[str, Outcome]:
    """One world, unharmed and under each attack."""
    world = World(seed)
    pairs = [world.pair() for _ in range(SHARED_PAIRS)]
    votes = world.honest_votes(pairs)
    outcomes = {}
    with tempfile.TemporaryDirectory() as scratch:
        honest = Path(scratch) / "honest.db"
        with FeedbackStore(honest) as store:
            cast(store, world, votes)
        for name, attack in attacks_on(world, pairs).items():
            copy = Path(scratch) / f"{name}.db"
            shutil.copy(honest, copy)
            origin = "one" if name == "sybils_one_origin" else None
            outcomes[name] = measure(world, copy, attack, origin=origin)
    return outcomes


def summary(outcomes: list[dict[str, Outcome]]) -> dict[str, Any]:
    """The points of accuracy that each attack costs, defended and not, beside the bars."""
    points: dict[str, list[float]] = defaultdict(list)
    passed = dict.fromkeys(BARS, 0)
    for of_seed in outcomes:
        clean = of_seed["clean"]
        for name, one in of_seed.items():
            points[name].append(100 * (clean.accuracy - one.accuracy))
            points[f"{name}_undefended"].append(100 * (clean.accuracy - one.undefended))
            if name in BARS:
                held = name != "loud" and one.held == SYBILS
                passed[name] += points[name][-1] <= BARS[name] or held
    ratios = {name: _spread(values, BARS.get(name)) for name, values in points.items()}
    wrongly = [one.wrongly_held / HONEST for of_seed in outcomes for one in of_seed.values()]
    ratios["honest_quarantined"] = _spread(wrongly, WRONGLY_QUARANTINED)
    return {
        "name": "poison",
        "ratios": ratios,
        "passed": {name: f"{count} of {len(outcomes)}" for name, count in passed.items()},
        "honest_quarantined_over_all": round(statistics.fmean(wrongly), 4),
        "load": os.getloadavg()[0],
    }


def _spread(values: list[float], bar: float | None) -> dict[str, float | None]:
    return {
        "median": round(statistics.median(values), 4),
        "min": round(min(values), 4),
        "max": round(max(values), 4),
        "bar": bar,
    }


def main() -> None:
    """Run the seeds and print what came of them."""
    cli = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    cli.add_argument("--seeds", type=int, nargs="+", default=list(range(1, 21)))
    cli.add_argument("--json", action="store_true", help="end with one line of JSON")
    options = cli.parse_args()
    outcomes = []
    for seed in options.seeds:
        outcomes.append(run_seed(seed))
        for name, one in outcomes[-1].items():
            print(
                f"seed {seed:>2}  {name:<17}  accuracy {one.accuracy:.4f}  "
                f"undefended {one.undefended:.4f}  attackers: {one.raw_share:.2f} of the votes, "
                f"{one.capped_share:.2f} capped, {one.learnt_share:.2f} learnt, {one.held} held; "
                f"{one.wrongly_held} honest held",
                flush=True,
            )
    if options.json:
        print(json.dumps(summary(outcomes)))


if __name__ == "__main__":
    main()
