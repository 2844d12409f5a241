"""PPO settings against the default: gold reward after a stage, and how well the critic predicts.

    python -m benchmarks.ppo_settings --json    # critic's start and weight average, 3 seeds
    python -m benchmarks.ppo_settings --variant '{"epochs": 4}' --json

For each seed one reward model is trained on visitors' votes; every variant trains a policy of its
own from the bare base against it. Gold reward is the exact judge's, on held-out requests.
"""

import argparse
import json
import os
import statistics
from typing import Any

import torch

from benchmarks.ptx import REQUESTS, interval, voted_reward_model
from rlhf_core.config import PolicySettings
from rlhf_core.model.base_model import Base, load_base
from rlhf_core.ppo.critic import reward_head
from rlhf_core.records import Prompt
from rlhf_core.reward.reward_model import RewardModel
from rlhf_core.starter.measure import answers, held_out_requests, summarise
from rlhf_core.train_policy import train_policy

VARIANTS = ["{}", '{"critic_start": "reward"}', '{"ema_decay": 0.8}']


def run(
    base: Base, prompts: list[Prompt], reward: RewardModel, changes: dict[str, Any], seed: int
) -> dict[str, float]:
    """Train one policy and measure it."""
    losses: list[float] = []
    base.attach("policy", trainable=True, seed=seed)
    done = train_policy(
        base,
        prompts,
        reward.score,
        adapter="policy",
        reference=None,
        settings=PolicySettings(**changes),
        value_head=reward_head(reward),
        progress=lambda _, latest: losses.append(latest.get("loss/value_avg", 0.0)),
        seed=seed,
    )
    requests = held_out_requests(REQUESTS, seed)
    verdicts = answers(base, requests, "policy", max_new_tokens=48, seed=seed)
    base.drop("policy")
    gold = summarise(requests, verdicts)
    return {
        "gold": gold.gold,
        "truth": gold.truth,
        "rude": gold.rude,
        "kl": done["objective/kl"],
        "value_loss": statistics.fmean(losses),
    }


def main() -> None:
    """Measure and print."""
    cli = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    cli.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    cli.add_argument("--variant", action="append", help="changes of the settings as JSON")
    cli.add_argument("--json", action="store_true", help="end with one line of JSON")
    options = cli.parse_args()
    torch.set_num_threads(1)
    variants = options.variant or VARIANTS
    found: dict[str, list[dict[str, float]]] = {variant: [] for variant in variants}
    for seed in options.seeds:
        base = load_base("starter", quantization="none", device="cpu", training=True)
        prompts, reward = voted_reward_model(base, seed)
        for variant in variants:
            found[variant].append(run(base, prompts, reward, json.loads(variant), seed))
            print(json.dumps({"seed": seed, "variant": variant} | found[variant][-1]), flush=True)
    table = {v: {k: interval([r[k] for r in rows]) for k in rows[0]} for v, rows in found.items()}
    for variant, figures in table.items():
        print(variant, json.dumps(figures))
    if options.json:
        print(json.dumps({"name": "ppo_settings", "by_variant": table, "load": os.getloadavg()[0]}))


if __name__ == "__main__":
    main()
