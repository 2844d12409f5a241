"""Note down one rollout of TRL 1.12's trainer: `python -m benchmarks.trl112.notes JOB`.

Its `train` is one function, so the tensors are read from its frame at the moments when it calls its
own `masked_whiten` (all is there but the losses) and `masked_mean` (each loss). The last iteration
counts, whose policy differs from the reference, and of it the last epoch, whose policy differs
from the one that made the rollout. Runs in the baseline's environment.
"""

import json
import sys
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from safetensors.torch import save_file
from trl.experimental.ppo import ppo_trainer

from benchmarks.trl112.baseline import make_trainer
from benchmarks.trl112.turns import Turns

ROLLOUT = (
    "queries",
    "responses",
    "scores",  # the penalty for a missing end is in them
    "contain_eos_token",
    "logprobs",
    "ref_logprobs",
    "values",
    "padding_mask",
    "padding_mask_p1",
    "rewards",
    "advantages",  # before whitening
    "returns",
)
MINIBATCH = ("micro_batch_inds", "mb_advantage", "new_logprobs", "vpred")


def listen(notes: dict[str, torch.Tensor]) -> None:
    """Have TRL's helpers note what their caller holds."""
    whiten, mean = ppo_trainer.masked_whiten, ppo_trainer.masked_mean

    def masked_whiten(values: torch.Tensor, mask: torch.Tensor, **more: Any) -> torch.Tensor:
        _note(notes, sys._getframe(1), ROLLOUT)
        notes["whitened"] = whiten(values, mask, **more)
        return notes["whitened"]

    def masked_mean(values: torch.Tensor, mask: torch.Tensor, axis: Any = None) -> torch.Tensor:
        result: torch.Tensor = mean(values, mask, axis)
        caller = sys._getframe(1)
        for name, factor in (("vf_loss", 0.5), ("pg_loss", 1.0)):  # TRL halves it after the mean
            if caller.f_code.co_name == "train" and values is caller.f_locals.get(f"{name}_max"):
                notes[name] = factor * result
                _note(notes, caller, MINIBATCH)
        return result

    ppo_trainer.masked_whiten, ppo_trainer.masked_mean = masked_whiten, masked_mean


def _note(notes: dict[str, torch.Tensor], frame: FrameType, names: tuple[str, ...]) -> None:
    notes.update({name: torch.as_tensor(frame.f_locals[name]) for name in names})


def main(job: dict[str, Any]) -> None:
    """Train as the job says; afterwards the notes lie where it says."""
    torch.set_num_threads(1)
    turns, notes = Turns(), dict[str, torch.Tensor]()
    trainer = make_trainer(job)
    listen(notes)
    trainer.train()
    plain = {name: value.detach().clone().contiguous() for name, value in notes.items()}
    save_file(plain, job["notes"])
    turns.take()


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text()))
