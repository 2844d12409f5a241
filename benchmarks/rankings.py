"""What a ranking teaches the reward model: rankings of six beside choices of the same visitors.

    python -m benchmarks.rankings --json               # 60 rankings; 60, 150, 300, 900 choices
    python -m benchmarks.rankings --members 1 --json   # one reward model in place of the ensemble

For each seed the visitors of `benchmarks.reward` judge replies of the starter: in one arm each
ranks K replies to a question, in the others each chooses between two, one question a choice. All
arms train the product's reward model with its own settings; it is asked which of two replies to
held-out questions the exact judge prefers. A seed's arms share the visitors and the test. The arms
of choices share their questions, as far as they go; the rankings are of questions of their own, of
the same visitors. `worth` is how many choices would have taught as much as the rankings, by
straight lines between the arms of choices, on the logarithm of their number; of the means, and
beside it of each seed. An arm with fewer choices than it is named for is refused.
"""

import argparse
import json
import math
import os
import time
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch

from benchmarks.ptx import interval
from benchmarks.reward import TestPair, World, choose, gold_accuracy, rank
from rlhf_core.config import RewardSettings
from rlhf_core.model.base_model import Base
from rlhf_core.model.loading import load_base
from rlhf_core.records import Comparison
from rlhf_core.train_reward import train_reward

RANKINGS, RANKED, CHOICES = 60, 6, (60, 150, 300, 900)
SPARE = 1.5  # questions asked for each choice that is wanted: some get the same reply twice


def run_seed(base: Base, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """The held-out gold accuracy of each arm's reward model."""
    world = World(base, seed)
    asked = world.ask(round(max(options.choices) * SPARE), 2)
    more = world.ask(options.rankings, options.ranked)
    tests = world.test_pairs()
    ranked = [c for number, one in enumerate(more) for c in rank(one, str(number))]
    chosen = [c for one in asked if (c := choose(one)) is not None]
    if len(chosen) < max(options.choices):
        raise SystemExit(
            f"seed {seed}: only {len(chosen)} of {len(asked)} questions got two different replies, "
            f"fewer than {max(options.choices)}; ask for fewer --choices"
        )
    settings = RewardSettings(members=options.members)
    arms = {f"{options.rankings} rankings of {options.ranked}": ranked}
    arms |= {f"{n} choices": chosen[:n] for n in options.choices}
    found: dict[str, Any] = {"seed": seed, "pairs": len(ranked), "test_pairs": len(tests)}
    for name, comparisons in arms.items():
        found[name] = measured(base, comparisons, tests, settings, seed)
        print(json.dumps({"seed": seed, name: found[name]}), flush=True)
    return found


def measured(
    base: Base,
    comparisons: Sequence[Comparison],
    tests: Sequence[TestPair],
    settings: RewardSettings,
    seed: int,
) -> dict[str, float]:
    """Train on an arm's comparisons, and ask about the test's pairs."""
    started = time.process_time()
    model = train_reward(base, comparisons, settings=settings, name="reward", seed=seed)
    _, gold, _ = gold_accuracy(model, tests)
    model.drop()
    cost = time.process_time() - started
    return {"gold": round(gold, 4), "comparisons": len(comparisons), "cpu_s": round(cost, 1)}


def worth(gold: float, by_choices: dict[int, float]) -> float:
    """How many choices teach as much; beyond the arms it is the nearest of them."""
    for (n, low), (m, high) in pairwise(sorted(by_choices.items())):
        if low <= gold <= high:
            share = (gold - low) / (high - low) if high > low else 0.0
            return math.exp(math.log(n) + share * (math.log(m) - math.log(n)))
    return float(max(by_choices) if gold > max(by_choices.values()) else min(by_choices))


def main() -> None:
    """Measure and print."""
    cli = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    cli.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    cli.add_argument("--rankings", type=int, default=RANKINGS)
    cli.add_argument("--ranked", type=int, default=RANKED, help="replies of a ranking")
    cli.add_argument("--choices", type=int, nargs="+", default=list(CHOICES))
    cli.add_argument("--members", type=int, default=RewardSettings().members, help="reward models")
    cli.add_argument("--json", action="store_true", help="end with one line of JSON")
    options = cli.parse_args()
    torch.set_num_threads(1)
    base = load_base("starter", quantization="none", device="cpu")
    runs = [run_seed(base, seed, options) for seed in options.seeds]
    arms = [name for name, value in runs[0].items() if isinstance(value, dict)]
    table = {name: interval([run[name]["gold"] for run in runs]) for name in arms}
    for name, row in table.items():
        print(f"{name:24} {json.dumps(row)}", flush=True)
    means = {n: table[f"{n} choices"]["mean"] for n in options.choices}
    found = worth(table[arms[0]]["mean"], means)
    each = [
        round(
            worth(run[arms[0]]["gold"], {n: run[f"{n} choices"]["gold"] for n in options.choices})
        )
        for run in runs
    ]
    print(f"{arms[0]} taught as much as {found:.0f} choices (by seed: {each})", flush=True)
    if options.json:
        about = {
            "worth": round(found),
            "worth_by_seed": each,
            "load": os.getloadavg()[0],
            "runs": runs,
        }
        print(json.dumps({"name": "rankings", "gold": table} | about))


if __name__ == "__main__":
    main()
