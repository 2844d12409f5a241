"""The same rollout through TRL 1.12's arithmetic and ours: how far apart are they?

TRL 1.12 notes down a rollout of its own and everything it derived from it (`notes.py`). Ours is
fed the same token ids, scores, log-probabilities and values, through the trainer's own methods.

Two conventions differ on purpose, so they are bridged here and nothing else is:

- An episode that ends by itself: TRL pays the score one token *after* the end-of-sequence token,
  where it still asks for a value; ours pays it at that token, where the episode is over. Rollouts
  whose responses all run to the last token have no such difference and must agree as they are; on
  others our functions must agree when they are given TRL's mask, which is one token longer.
- Whitening: TRL divides by the unbiased standard deviation of n tokens, ours by the biased one, so
  ours is larger by `sqrt(n / (n - 1))`.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor
from trl.trainer.utils import FusedCausalLMOutput

from benchmarks.trl112.turns import Side
from rlhf_core.config import PolicySettings, ReplySettings
from rlhf_core.model.loading import load_base
from rlhf_core.ppo.advantages import generalized_advantages, token_rewards
from rlhf_core.ppo.critic import attached_critic
from rlhf_core.ppo.losses import clipped_value_loss
from rlhf_core.train_policy import PPOTrainer, _config, _dataset
from rlhf_core.training.stage import prepared

BAR = 1e-5
FORWARD_BAR = 1e-4  # two ways through the network, rounded differently


class Replayed(PPOTrainer):
    """Our trainer with log-probabilities and values given instead of computed."""

    given: tuple[Tensor, Tensor] | None = None

    def _read(self, *args: Any, **more: Any) -> Any:
        if self.given is None:
            return super()._read(*args, **more)
        self._passes.append(self.given)
        logprobs = self.given[0]
        return FusedCausalLMOutput(log_probs=logprobs, entropy=torch.zeros_like(logprobs))


def parity_bar(name: str) -> float:
    """How far apart this quantity may be."""
    return FORWARD_BAR if name.endswith("ref_logprobs") else BAR


def compare_rollouts(python: str, job: dict[str, Any]) -> dict[str, float]:
    """Largest absolute difference of each quantity; the names say which rollout and method."""
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "notes.safetensors"
        with Side(python, "benchmarks.trl112.notes", job | {"notes": str(path)}) as side:
            side.answer()
        notes = load_file(path)
    settings = PolicySettings(**job["policy"])
    real = ~notes["padding_mask"]
    ended = (real.sum(1) < real.shape[1]).float().mean().item()
    found = _by_functions(notes, settings)
    if job["fixed_length"]:
        assert not ended, "every response was to run to the last token"
        with _trainer(job, settings) as trainer:
            found |= _by_trainer(trainer, notes, settings)
            found |= _reference(trainer, notes)
        return {f"full/{name}": difference for name, difference in found.items()}
    assert ended > 0.2, "some responses were to end by themselves"
    return {f"ended/{name}": difference for name, difference in found.items()}


def _by_functions(notes: dict[str, Tensor], s: PolicySettings) -> dict[str, float]:
    """Our functions with TRL's mask, one token longer where a response ends by itself."""
    mask = ~notes["padding_mask_p1"]  # (B, T)
    rewards = token_rewards(
        notes["scores"], notes["logprobs"], notes["ref_logprobs"], mask, kl_coef=s.kl_coef
    )
    advantages, returns = generalized_advantages(
        rewards, notes["values"], mask, gamma=s.gamma, lam=s.lam
    )
    rows = notes["micro_batch_inds"]
    value_loss = clipped_value_loss(
        notes["vpred"],
        notes["values"][rows],
        returns[rows],
        mask[rows],
        cliprange=s.value_cliprange,
    )
    return {
        "rewards": _apart(rewards, notes["rewards"]),
        "advantages": _apart(advantages, notes["advantages"] * mask),
        "returns": _apart(returns, notes["returns"] * mask),
        "value_loss": _apart(value_loss, notes["vf_loss"]),
    }


def _by_trainer(trainer: Replayed, notes: dict[str, Tensor], s: PolicySettings) -> dict[str, float]:
    """The trainer's own two methods, whose mask is the responses' tokens."""
    mask = ~notes["padding_mask"]
    rollout = {
        "prompt_ids": notes["queries"],
        "prompt_mask": (notes["queries"] != trainer._base.tokenizer.pad_token_id).long(),
        "completion_ids": notes["responses"],
        "completion_mask": mask.long(),
        "old_per_token_logps": notes["logprobs"],
        "ref_per_token_logps": notes["ref_logprobs"],
    }
    unpunished = notes["scores"] + s.missing_eos_penalty * ~notes["contain_eos_token"]
    trainer._scores = unpunished
    shaped = trainer._shape(rollout, notes["values"])
    count = mask.sum()
    unbiased = ((count - 1) / count).sqrt()
    rows = notes["micro_batch_inds"]
    batch = rollout | shaped | {"values": notes["values"]}
    batch = {name: tensor[rows] for name, tensor in batch.items()}
    trainer.given = notes["new_logprobs"], notes["vpred"]
    trainer._noted.clear()
    total = trainer._compute_loss(trainer.model, batch)
    policy_loss = torch.tensor(trainer._noted["loss/policy_avg"][0]) * unbiased
    value_loss = torch.tensor(trainer._noted["loss/value_avg"][0])
    return {
        "trainer_whitened": _apart(shaped["advantages"] * unbiased, notes["whitened"]),
        "trainer_returns": _apart(shaped["returns"], notes["returns"]),
        "trainer_policy_loss": _apart(policy_loss, notes["pg_loss"]),
        "trainer_value_loss": _apart(value_loss, notes["vf_loss"]),
        "trainer_total": _apart(total, notes["pg_loss"] / unbiased + s.vf_coef * notes["vf_loss"]),
    }


def _reference(trainer: Replayed, notes: dict[str, Tensor]) -> dict[str, float]:
    """The bare base's log-probabilities of the same tokens, by our pass."""
    pad, trainer.given = trainer._base.tokenizer.pad_token_id, None
    rollout = {
        "prompt_ids": notes["queries"],
        "prompt_mask": (notes["queries"] != pad).long(),
        "completion_ids": notes["responses"],
        "completion_mask": (notes["responses"] != pad).long(),
    }
    with trainer._base.using(None):
        found = trainer._logprobs(rollout)
    return {"trainer_ref_logprobs": _apart(found, notes["ref_logprobs"])}


@contextmanager
def _trainer(job: dict[str, Any], settings: PolicySettings) -> Iterator[Replayed]:
    reply = ReplySettings(**job["reply"])
    base = load_base(job["model"], quantization="none", device="cpu", reply=reply)
    base.attach("policy", trainable=True)
    with prepared(base, "policy") as scratch, attached_critic(base) as critic:
        trainer = Replayed(
            base,
            lambda prompts, responses: torch.zeros(len(responses)),
            critic=critic,
            settings=settings,
            demonstrations=[],
            args=_config(base, settings, output_dir=scratch, seed=job["seed"]),
            train_dataset=_dataset(job["prompts"], settings),
        )
        trainer.current_gradient_accumulation_steps = 1
        trainer.state.global_step = 1  # the values are given, so no critic is to be fitted
        yield trainer


def _apart(ours: Tensor, theirs: Tensor) -> float:
    return (ours - theirs).abs().max().item()
