"""PPO's metrics, under the names that TRL 1.12's ``PPOTrainer`` gave them; pure functions.

Means are over responses (nats per response) or over real tokens. ``objective/scores`` is without
the penalty for unfinished responses, ``objective/rlhf_reward`` with it.
"""

import statistics
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from rlhf_core.ppo.losses import masked_mean
from rlhf_core.training.stage import Stopwatch


def rollout_metrics(
    scores: Tensor, rewards: Tensor, logprobs: Tensor, kl: Tensor, mask: Tensor, *, kl_coef: float
) -> dict[str, Tensor]:
    """What a rollout is like.

    Args:
        scores: Score of each response. (B,)
        rewards: Reward per token before whitening, with penalties. (B, T)
        logprobs: Under the policy. (B, T)
        kl: k1 per token, zero on padding. (B, T)
        mask: True on real tokens. (B, T)
        kl_coef: Weight of the KL penalty.
    """
    return {
        "objective/kl": kl.sum(1).mean(),
        "objective/entropy": -logprobs.masked_fill(~mask, 0.0).sum(1).mean(),
        "objective/non_score_reward": -kl_coef * kl.sum(1).mean(),
        "objective/rlhf_reward": rewards.sum(1).mean(),
        "objective/scores": scores.mean(),
        "objective/kl_coef": torch.tensor(kl_coef),
        "val/length": mask.sum(1).float().mean(),
    }


def update_metrics(log_ratio: Tensor, mask: Tensor, *, cliprange: float) -> dict[str, Tensor]:
    """How far the policy is from the one that made the rollout; ``log_ratio`` is (B, T)."""
    ratio = log_ratio.exp()
    return {
        "policy/approxkl_avg": 0.5 * masked_mean(log_ratio**2, mask),
        "policy/clipfrac_avg": masked_mean(((ratio - 1).abs() > cliprange).float(), mask),
        "val/ratio": masked_mean(ratio, mask),
    }


def value_clip_share(values: Tensor, old_values: Tensor, mask: Tensor, cliprange: float) -> Tensor:
    """Share of tokens whose value moved beyond the clip; from (B, T)."""
    return masked_mean(((values - old_values).abs() > cliprange).float(), mask)


def finished(ids: Tensor, mask: Tensor, eos_ids: list[int]) -> Tensor:
    """Whether the last real token of each response is an end-of-sequence token; (B,)."""
    last = mask.sum(1, keepdim=True).sub(1).clamp(min=0)  # (B, 1)
    return torch.isin(ids.gather(1, last).squeeze(1), torch.tensor(eos_ids, device=ids.device))


def iteration_metrics(noted: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """The mean of everything that was noted in an iteration, and how much the ratio varied."""
    found = {name: statistics.fmean(values) for name, values in noted.items() if values}
    return found | {"val/ratio_var": statistics.pvariance(noted.get("val/ratio") or [1.0])}


def time_metrics(clock: Stopwatch, *, episodes: int) -> dict[str, float]:
    """Where an iteration's time went, as shares of it, and episodes per second.

    The rollout is generating, the passes for log-probabilities, and scoring; the rest is updates.
    """
    whole, spent = clock.elapsed(), clock.seconds
    parts = {
        "generate": spent["rollout"] - spent["logprobs"] - spent["score"],
        "score": spent["score"],
        "logprobs": spent["logprobs"],
        "update": whole - spent["rollout"],
    }
    shares = {f"time/{name}": seconds / whole for name, seconds in parts.items()}
    return shares | {"time/iteration_s": whole, "eps": episodes / whole}
