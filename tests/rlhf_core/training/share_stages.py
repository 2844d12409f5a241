"""Trains each stage in as many processes as started it; run by ``test_distributed.py``.

Every process writes what it trained, so that the processes can be compared, too. Processes draw
different random numbers, as they should; here every draw is the same quantile instead, so that a
response does not depend on which process makes it.
"""

import os
import sys
from pathlib import Path

import torch
from accelerate import PartialState
from safetensors.torch import save_file
from torch.nn.parallel import DistributedDataParallel

from rlhf_core.config import PolicySettings, ReplySettings, RewardSettings, SFTSettings
from rlhf_core.model.base_model import Base
from rlhf_core.model.decoding import Row
from rlhf_core.model.loading import load_base
from rlhf_core.records import Comparison, Demonstration, Prompt
from rlhf_core.train_policy import train_policy
from rlhf_core.train_reward import train_reward
from rlhf_core.train_sft import train_sft

sent: set[str] = set()  # names of the weights whose gradients went between processes


def said(text: str) -> Prompt:
    return [{"role": "user", "content": text}]


def variety(prompts: list[Prompt], responses: list[str]) -> torch.Tensor:
    return torch.tensor([len(set(response)) / 3 for response in responses])


def train(base: Base, checkpoints: Path, stop: int) -> None:
    texts = (
        "hello",
        "what is the colour of grass",
        "yes please",
        "no",
        "blue",
        "kind red",
        "a",
        "b",
    )
    prompts = [said(text) for text in texts]
    torch.manual_seed(7)
    base.attach("imitated")
    train_sft(
        base,
        [
            Demonstration(prompt, "yes please " * (n % 3 + 1))
            for n, prompt in enumerate(prompts * 2)
        ],
        adapter="imitated",
        settings=SFTSettings(
            epochs=3, min_steps=1, batch_size=8, learning_rate=1e-3, checkpoint_seconds=0
        ),
        score=variety,
        prompts=prompts[:3],
        checkpoints=checkpoints,
    )
    train_reward(
        base,
        [Comparison(p, "kind " * (n % 3 + 1), "rude", "a") for n, p in enumerate(prompts * 2)],
        settings=RewardSettings(
            members=2,
            epochs=3,
            min_steps=1,
            batch_size=8,
            learning_rate=1e-3,
            corrupted_share=0,
            checkpoint_seconds=0,
        ),
        name="reward",
        checkpoints=checkpoints,
    )
    base.attach("policy")
    train_policy(
        base,
        prompts,
        variety,
        adapter="policy",
        reference="imitated",
        settings=PolicySettings(
            iterations=3,
            batch_size=16,
            minibatch_size=16,
            epochs=2,
            warmup_iterations=0,
            learning_rate=1e-4,
            kl_budget=1e9,
            checkpoint_seconds=0,
        ),
        progress=lambda _, metrics: sys.exit("stopped") if metrics["iterations"] == stop else None,
        checkpoints=checkpoints,
    )


def same_uniforms(row: Row) -> torch.Tensor:
    """In place of `Row.uniforms`."""
    return torch.full((row.sampling.max_new_tokens,), 0.37, dtype=torch.float64)


def watch(module: DistributedDataParallel, given: tuple[torch.Tensor, ...]) -> None:
    if isinstance(module, DistributedDataParallel):
        together = {id(p) for p in module._module_parameters}
        sent.update(name for name, p in module.module.named_parameters() if id(p) in together)
        assert not [b for b in getattr(module, "modules_buffers", []) if b.numel()]


def main(model: str, out: str, stop: str) -> None:
    rank = int(os.environ.get("RANK", "0"))
    PartialState(cpu=True)
    Row.uniforms = same_uniforms
    torch.nn.modules.module.register_module_forward_pre_hook(watch)
    short = ReplySettings(prompt_tokens=128, tokens=8)
    base = load_base(model, quantization="none", device="cpu", reply=short)
    train(base, Path(out) / "checkpoints", int(stop))
    names = ("imitated", "reward-m0", "reward-m1", "policy")
    found = {
        n: p.detach().contiguous().clone()
        for n, p in base.model.named_parameters()
        if any(f".{name}." in n for name in names)
    }
    save_file(
        found, Path(out) / f"rank-{rank}.safetensors", metadata={"sent": ",".join(sorted(sent))}
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
