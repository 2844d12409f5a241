"""Imitates in the processes that a configuration of accelerate started; run by a test.

accelerate shards on GPUs alone: with CPUs it takes FSDP's settings and trains without. So for FSDP
it is told here that its device is a GPU; the device stays the CPU, and the group gloo.
"""

import json
import os
import sys
from pathlib import Path

import torch
from accelerate import PartialState
from accelerate.utils import DistributedType
from torch.distributed.tensor import DTensor
from transformers import TrainerCallback

from rlhf_core.config import ReplySettings, SFTSettings
from rlhf_core.model.loading import load_base
from rlhf_core.records import Demonstration
from rlhf_core.train_sft import SFTTrainer, train_sft
from rlhf_core.training.distributed import first_process


def shard_on_cpus() -> None:
    PartialState(cpu=True)
    gloo = ("gloo", DistributedType.MULTI_GPU)
    PartialState._prepare_backend = lambda *_: gloo
    PartialState.set_device = lambda state: setattr(state, "device", torch.device("cpu"))


class CountShards(TrainerCallback):
    """Counts how many weights are shards while it trains."""

    shards = 0

    def on_step_end(self, args, state, control, model=None, **_):
        self.shards = sum(isinstance(weight, DTensor) for weight in model.parameters())


def main(out: str) -> None:
    if os.environ.get("ACCELERATE_USE_FSDP") == "true":
        shard_on_cpus()
    counted = CountShards()
    start = SFTTrainer.__init__

    def watched(self, **given) -> None:
        start(self, **given)
        self.add_callback(counted)

    SFTTrainer.__init__ = watched
    base = load_base("starter", quantization="none", device="cpu", reply=ReplySettings(tokens=12))
    base.attach("imitated")
    losses: list[float] = []
    train_sft(
        base,
        [
            Demonstration(
                [{"role": "user", "content": f"What is {n}?"}], "It is one. " * (n % 3 + 1)
            )
            for n in range(16)
        ],
        adapter="imitated",
        settings=SFTSettings(epochs=3, min_steps=1, batch_size=8, learning_rate=1e-3),
        progress=lambda _, metrics: losses.append(metrics["loss/sft"]),
    )
    rank = os.environ.get("RANK", "0")
    found = {"losses": losses, "shards": counted.shards, "first": first_process()}
    Path(out, f"rank-{rank}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1])
