"""PPO's metrics, under the names that TRL 1.12's ``PPOTrainer`` gave them; pure functions.

Metrics of a rollout are means over responses (entropy, and the KL k1 to the stage's reference, in
nats per response); metrics of an update are means over real tokens. ``objective/scores`` is without
the penalty for responses that do not end, ``objective/rlhf_reward`` is with it. Shapes: B responses
in the batch, T response tokens.
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
    """Means over the responses of a rollout.

    Args:
        scores: Score of each response. (B,)
        rewards: Reward of each token, with all penalties. (B, T)
        logprobs: Log-probability of each token under the policy. (B, T)
        kl: ``k1`` of each token, zero on padding. (B, T)
        mask: True on real tokens. (B, T)
        kl_coef: Weight of the KL penalty.
    """
    return {
        "objective/kl": kl.sum(1).mean(),
        # the policy sampled the tokens itself, so minus their log-probability estimates its entropy
        "objective/entropy": -logprobs.masked_fill(~mask, 0.0).sum(1).mean(),
        "objective/non_score_reward": -kl_coef * kl.sum(1).mean(),
        "objective/rlhf_reward": rewards.sum(1).mean(),
        "objective/scores": scores.mean(),
        "objective/kl_coef": torch.tensor(kl_coef),
        "val/length": mask.sum(1).float().mean(),
    }


def mismatch_metrics(told: Tensor, logprobs: Tensor, mask: Tensor) -> dict[str, Tensor]:
    """How far the program that sampled a rollout is from the network that trains.

    Both have the same weights, but round, and perhaps quantize, in different ways. The field calls
    this the train-inference mismatch. The KL is the estimator ``k3``, per token, which is never
    negative and small noise does not drown it.

    Args:
        told: Log-probability of each token as the program that sampled it says; NaN if unknown.
            (B, T)
        logprobs: The same, as the network computes them. (B, T)
        mask: True on real tokens. (B, T)

    Source:
        http://joschu.net/blog/kl-approx.html for ``k3``; Yao et al. 2025, "Your efficient RL
        framework secretly brings you off-policy RL training", for the mismatch.
    """
    known = mask & torch.isfinite(told)
    log_ratio = (logprobs - told).masked_fill(~known, 0.0)  # (B, T)
    return {
        "sampling/mismatch_kl": masked_mean(log_ratio.exp() - 1 - log_ratio, known),
        "sampling/logp_difference": masked_mean(log_ratio.abs(), known),
        "sampling/logp_difference_max": log_ratio.abs().max(),
    }


def update_metrics(log_ratio: Tensor, mask: Tensor, *, cliprange: float) -> dict[str, Tensor]:
    """How far the policy is from the one that made the rollout.

    Args:
        log_ratio: Log-probability of each token now, minus that in the rollout. (B, T)
        mask: True on real tokens. (B, T)
        cliprange: Where TRL's policy loss clips the ratio.
    """
    ratio = log_ratio.exp()  # (B, T)
    return {
        "policy/approxkl_avg": 0.5 * masked_mean(log_ratio**2, mask),
        "policy/clipfrac_avg": masked_mean(((ratio - 1).abs() > cliprange).float(), mask),
        "val/ratio": masked_mean(ratio, mask),
    }


def value_clip_share(values: Tensor, old_values: Tensor, mask: Tensor, cliprange: float) -> Tensor:
    """Share of tokens whose value has moved beyond the clip; a scalar from (B, T)."""
    return masked_mean(((values - old_values).abs() > cliprange).float(), mask)


def finished(ids: Tensor, mask: Tensor, eos_ids: list[int]) -> Tensor:
    """Whether each response ends by itself, with an end token; (B,) from (B, T)."""
    last = mask.sum(1, keepdim=True).sub(1).clamp(min=0)  # (B, 1)
    return torch.isin(ids.gather(1, last).squeeze(1), torch.tensor(eos_ids, device=ids.device))


def iteration_metrics(noted: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Means of what was noted in one iteration, and the variance of the ratio over its steps."""
    found = {name: statistics.fmean(values) for name, values in noted.items() if values}
    return found | {"val/ratio_var": statistics.pvariance(noted.get("val/ratio") or [1.0])}


def time_metrics(clock: Stopwatch, *, episodes: int) -> dict[str, float]:
    """Seconds of an iteration, its parts as shares of it, and episodes per second.

    A rollout consists of generating, passes for log-probabilities, and scoring. The rest of an
    iteration is updates.
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
