"""Kills training stages with SIGKILL at random moments; run by ``test_kills.py`` as a process.

Libraries and the base are loaded once. Each run is a forked process of its own, so that a kill is
the kernel's and nothing of the run survives it but its files. Prints one JSON line per killed run.
"""

import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from rlhf_core.config import PolicySettings, ReplySettings, RewardSettings, SFTSettings
from rlhf_core.model.base_model import Base
from rlhf_core.model.loading import load_base
from rlhf_core.records import Comparison, Demonstration, Prompt
from rlhf_core.train_policy import train_policy
from rlhf_core.train_reward import train_reward
from rlhf_core.train_sft import train_sft
from rlhf_core.training.checkpoints import read_checkpoint

Stage = Callable[[Base, Path | None], None]


def said(text: str) -> Prompt:
    return [{"role": "user", "content": text}]


PROMPTS = [said(text) for text in ("hello", "what is the colour of grass", "yes please", "no")]
DEMONSTRATIONS = [Demonstration(said(f"what is {n}"), f"yes please {n % 3}") for n in range(22)]


def letters(prompts: Sequence[Prompt], responses: Sequence[str]) -> torch.Tensor:
    return torch.tensor([sum(c in "aeiou" for c in r) / 3 for r in responses])


def sft(base: Base, checkpoints: Path | None) -> None:
    base.attach("policy")
    train_sft(
        base,
        DEMONSTRATIONS,
        adapter="policy",
        settings=SFTSettings(
            epochs=5, min_steps=1, batch_size=4, learning_rate=1e-2, checkpoint_seconds=0
        ),
        score=letters,
        prompts=PROMPTS,
        checkpoints=checkpoints,
    )


def reward(base: Base, checkpoints: Path | None) -> None:
    comparisons = [
        Comparison(said(f"what is {n}"), "kind " * (n % 3 + 1), "rude", "a" if n % 4 else "tie")
        for n in range(18)
    ]
    train_reward(
        base,
        comparisons,
        settings=RewardSettings(
            members=2, epochs=2, min_steps=1, batch_size=4, learning_rate=1e-2, checkpoint_seconds=0
        ),
        name="reward",
        checkpoints=checkpoints,
    )


def policy(base: Base, checkpoints: Path | None) -> None:
    base.attach("policy")
    train_policy(
        base,
        PROMPTS,
        letters,
        adapter="policy",
        reference=None,
        settings=PolicySettings(
            iterations=6,
            batch_size=8,
            minibatch_size=4,
            epochs=1,
            warmup_iterations=2,
            learning_rate=1e-2,
            kl_budget=1e9,
            ptx_coef=0.1,
            checkpoint_seconds=0,
        ),
        demonstrations=DEMONSTRATIONS,
        checkpoints=checkpoints,
    )


STAGES: dict[str, Stage] = {"sft": sft, "reward": reward, "policy": policy}


def start(base: Base, stage: Stage, checkpoints: Path | None, weights: Path) -> int:
    """Run a stage in a process of its own, which writes what was trained; returns its id."""
    child = os.fork()
    if child:
        return child
    try:
        stage(base, checkpoints)
        kept = ("policy.", "reward-m0.", "reward-m1.")
        found = {
            n: p.detach() for n, p in base.model.named_parameters() if any(k in n for k in kept)
        }
        save_file({n: p.contiguous().clone() for n, p in found.items()}, weights)
        os._exit(0)
    except BaseException as exc:
        sys.stderr.write(f"{stage.__name__}: {type(exc).__name__}: {exc}\n")
        os._exit(1)


def finish(child: int) -> bool:
    """Wait for a process; whether it was killed rather than done."""
    _, status = os.waitpid(child, 0)
    if not os.WIFSIGNALED(status) and os.waitstatus_to_exitcode(status) != 0:
        sys.exit("a run failed by itself")
    return os.WIFSIGNALED(status)


def wait_for_file(folder: Path) -> float:
    """Wait until a stage begins its first checkpoint; returns when that was."""
    while not folder.is_dir():
        time.sleep(0.002)
    return time.monotonic()


def difference(one: Path, other: Path) -> float:
    """The largest between any two weights."""
    a, b = load_file(one), load_file(other)
    assert a.keys() == b.keys() and a
    return max((a[name] - b[name]).abs().max().item() for name in a)


def trials(base: Base, name: str, out: Path, kills: int) -> Iterator[dict[str, object]]:
    """Runs of one stage that were killed once and started again."""
    stage, whole, rng = STAGES[name], out / f"{name}.safetensors", random.Random(name)
    finish(start(base, stage, None, whole))
    began, folder = time.monotonic(), out / f"{name}-watched"
    child = start(base, stage, folder, out / "watched.safetensors")
    training = wait_for_file(folder) - began
    finish(child)
    rest, done = time.monotonic() - began - training, 0
    while done < kills:
        folder, weights = out / f"{name}-{time.monotonic_ns()}", out / "resumed.safetensors"
        child = start(base, stage, folder, weights)
        if rng.random() < 0.2:
            time.sleep(rng.uniform(0, training))  # mostly before the first checkpoint
        else:
            wait_for_file(folder)
            time.sleep(rng.uniform(0, rest))
        os.kill(child, signal.SIGKILL)
        if not finish(child):
            rest *= 0.9  # it was done before
            continue
        left = [read_checkpoint(file) for file in folder.glob("*.safetensors")]
        finish(start(base, stage, folder, weights))
        done += 1
        yield {
            "stage": name,
            "checkpoints": len([one for one in left if one is not None]),
            "difference": difference(whole, weights),
        }


def main(model: str, out: str, kills: str) -> None:
    short = ReplySettings(prompt_tokens=128, tokens=8)
    base = load_base(model, quantization="none", device="cpu", reply=short)
    for name in STAGES:
        for trial in trials(base, name, Path(out), int(kills)):
            sys.stdout.write(json.dumps(trial) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
