"""Our trainer as a worker: `python -m benchmarks.trl112.ours JOB`; see `turns.py`."""

import json
import sys
from pathlib import Path
from typing import Any

import torch
from transformers.models.llama import modeling_llama  # noqa: F401 - loading it late is no training

from benchmarks.trl112.turns import Turns
from rlhf_core.config import LoraSettings, PolicySettings, ReplySettings
from rlhf_core.model.base_model import Base
from rlhf_core.model.loading import load_base
from rlhf_core.reward.reward_model import RewardModel, ScoreModel
from rlhf_core.train_policy import train_policy


def main(job: dict[str, Any]) -> None:
    """Train as the job says, an iteration a turn."""
    torch.set_num_threads(1)
    turns = Turns()
    torch.manual_seed(job["seed"])
    settings = PolicySettings(**job["policy"])
    base = load_base(
        job["model"],
        quantization=job["quantization"],
        device=job["device"],
        reply=ReplySettings(**job["reply"]),
    )
    if job["fixed_length"]:
        base.ends = frozenset()  # no token ends a response
    lora = LoraSettings(**job["lora"])
    base.attach("policy", lora=lora, trainable=True, seed=job["seed"])
    reward = _reward(base, job, lora)
    done = 0

    def after_iteration(_share: float, metrics: dict[str, float]) -> None:
        nonlocal done
        done += 1
        if job["save"] and done % job["save_every"] == 0:
            base.save("policy", Path(job["save"]) / f"{done:03}")
        whole = metrics["time/iteration_s"]  # with the wait for the turn, which is no update
        parts = {k: metrics[f"time/{k}"] * whole for k in ("generate", "score", "logprobs")}
        turns.take(**metrics, **{f"{k}_s": v for k, v in parts.items()})

    turns.take()
    train_policy(
        base,
        job["prompts"],
        reward.score,
        adapter="policy",
        reference=None,
        settings=settings,
        progress=after_iteration,
        seed=job["seed"],
    )


def _reward(base: Base, job: dict[str, Any], lora: LoraSettings) -> RewardModel:
    """One member, as the baseline has; an untrained one will do where only time counts."""
    if job["reward"]:
        return RewardModel.load(base, Path(job["reward"]))
    base.attach("reward", lora=lora)
    return RewardModel(base, [ScoreModel(base, "reward")], spread_penalty=0.0)


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text()))
