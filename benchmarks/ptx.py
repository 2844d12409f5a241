"""What PPO makes the starter forget, and what the ptx term saves of it.

    python -m benchmarks.ptx --json                    # PPO as set by default
    python -m benchmarks.ptx --strong --json           # learning rate x 2, no KL penalty

For each seed visitors vote on replies of the base, a reward model is trained on their votes, and
PPO trains one policy without the ptx term and one for each coefficient, on the same prompts and
seed. The skills are the base's own, on subjects that neither visitors nor the ptx text are about:
ending the almanac's sentences in its three forms, and predicting its documents. Gold reward is the
exact judge's, on held-out requests. Recovered is what ptx saves of the summed fall over all skills
that fall without it; the cost is the part of the gain in gold reward that it takes away.
"""

import argparse
import json
import os
import random
import statistics
from typing import Any

import torch

from rlhf_core.config import PolicySettings, RewardSettings
from rlhf_core.model.base_model import Base
from rlhf_core.model.loading import load_base
from rlhf_core.records import Comparison, Prompt
from rlhf_core.reward.reward_model import RewardModel
from rlhf_core.train_policy import train_policy
from rlhf_core.train_reward import train_reward
from rlhf_core.worlds.starter.corpus import skill_texts
from rlhf_core.worlds.starter.measure import answers, held_out_requests, skills, summarise
from rlhf_core.worlds.starter.raters import visitors

VOTES, REQUESTS, TEXTS, VISITORS = 400, 600, 2000, 30
RECOVERED_BAR, COST_BAR = 0.7, 0.1
FALL = 0.01  # smaller changes of a skill are none
STRONG = {"learning_rate": 1.4e-3, "kl_coef": 0.0, "kl_budget": 1e3}
T_95 = {2: 12.71, 3: 4.303, 4: 3.182, 5: 2.776}  # Student's t, by the number of seeds


def run_seed(seed: int, coefficients: list[float], changes: dict[str, float]) -> dict[str, Any]:
    """Train without and with each coefficient; all skills and gold rewards."""
    base = load_base("starter", quantization="none", device="cpu")
    prompts, reward = voted_reward_model(base, seed)
    found = {"base": measure(base, None, seed)}
    for coefficient in [0.0, *coefficients]:
        base.attach("policy", trainable=True, seed=seed)
        metrics = train_policy(
            base,
            prompts,
            reward.score,
            adapter="policy",
            reference=None,
            settings=PolicySettings(**{**changes, "ptx_coef": coefficient}),
            texts=skill_texts(TEXTS, seed),
            seed=seed,
        )
        kl = {"kl": metrics["objective/kl"], "iterations": metrics["iterations"]}
        found[f"{coefficient:g}"] = measure(base, "policy", seed) | kl
        base.drop("policy")
        print(json.dumps({"seed": seed, f"{coefficient:g}": found[f"{coefficient:g}"]}), flush=True)
    return found


def measure(base: Base, adapter: str | None, seed: int) -> dict[str, float]:
    """Every skill, and the mean gold reward."""
    requests = held_out_requests(REQUESTS, seed)
    verdicts = answers(base, requests, adapter, seed=seed)
    return skills(base, adapter) | {"gold": summarise(requests, verdicts).gold}


def voted_reward_model(base: Base, seed: int) -> tuple[list[Prompt], RewardModel]:
    """Visitors compare two replies of the base each; one reward model learns from them."""
    people, rng = visitors(VISITORS, seed), random.Random(f"ptx/{seed}")
    asked = [(who := rng.choice(people), who.ask()) for _ in range(VOTES)]
    prompts: list[Prompt] = [[{"role": "user", "content": text}] for _, text in asked]
    first, second = (base.respond(prompts, adapter=None, seed=2 * seed + k) for k in (0, 1))
    comparisons = []
    for (who, text), prompt, a, b in zip(asked, prompts, first, second, strict=True):
        choice = who.choose(text, a.text, b.text)
        if a.text != b.text:
            label = choice if choice in ("a", "b") else "tie"
            comparisons.append(Comparison(prompt, a.text, b.text, label))
    reward = train_reward(base, comparisons, settings=RewardSettings(), name="reward", seed=seed)
    return prompts, reward


def outcome(found: dict[str, Any], coefficient: str) -> dict[str, float]:
    """How far skills fell without ptx, what a coefficient recovered, and what it cost."""
    base, without, mixed = found["base"], found["0"], found[coefficient]
    names = [n for n in base if n != "gold"]
    fallen = [n for n in names if base[n] - without[n] > FALL]
    fall = sum(base[n] - without[n] for n in fallen)
    saved = sum(min(mixed[n], base[n]) - without[n] for n in fallen)
    gained = without["gold"] - base["gold"]
    return {
        "fallen": len(fallen),
        "fall": fall,
        "recovered": saved / fall if fall else float("nan"),
        "cost": (without["gold"] - mixed["gold"]) / gained,
    }


def interval(values: list[float]) -> dict[str, float]:
    """Mean and, of several seeds, its 95% interval."""
    n, mean = len(values), statistics.fmean(values)
    found = {"mean": mean}
    if n in T_95:
        half = T_95[n] * statistics.stdev(values) / n**0.5
        found |= {"low": mean - half, "high": mean + half}
    return {name: round(value, 3) for name, value in found.items()}


def main() -> None:
    """Measure and print."""
    cli = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    cli.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    cli.add_argument("--coefficients", type=float, nargs="+", default=[0.1, 0.3, 1.0])
    cli.add_argument("--strong", action="store_true", help="PPO that forgets more")
    cli.add_argument("--json", action="store_true", help="end with one line of JSON")
    options = cli.parse_args()
    torch.set_num_threads(1)
    changes = STRONG if options.strong else {}
    runs = [run_seed(seed, options.coefficients, changes) for seed in options.seeds]
    table = {}
    for coefficient in (f"{c:g}" for c in options.coefficients):
        outcomes = [outcome(found, coefficient) for found in runs]
        table[coefficient] = {k: interval([o[k] for o in outcomes]) for k in outcomes[0]}
        print(coefficient, json.dumps(table[coefficient]), flush=True)
    if options.json:
        bars = {"recovered": RECOVERED_BAR, "cost": COST_BAR}
        about = {"strong": options.strong, "bars": bars, "load": os.getloadavg()[0]}
        print(json.dumps({"name": "ptx", "by_coefficient": table, "runs": runs} | about))


if __name__ == "__main__":
    main()
