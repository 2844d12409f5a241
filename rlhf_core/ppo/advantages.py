"""From scores, log-probabilities and values to rewards, advantages and returns.

Pure functions. Shapes: B responses in the batch, T response tokens. Responses are padded on the
right, and ``mask`` is True on real tokens. Whatever stands on padding never changes a result.
"""

from collections.abc import Callable

import torch
from torch import Tensor


def token_rewards(
    scores: Tensor, logprobs: Tensor, ref_logprobs: Tensor, mask: Tensor, *, kl_coef: float
) -> Tensor:
    """Reward of each token: the KL penalty everywhere, plus the score at the last real token.

    Args:
        scores: Score of each whole response. (B,)
        logprobs: Log-probability of each token under the policy that sampled it. (B, T)
        ref_logprobs: The same under the frozen reference. (B, T)
        mask: True on response tokens. (B, T)
        kl_coef: Weight of ``k1 = logprobs - ref_logprobs``, whose mean is the KL in nats.

    Returns:
        Rewards, zero on padding. (B, T)

    Source:
        Ziegler et al. 2019, arXiv:1909.08593, section 2.1; Ouyang et al. 2022,
        arXiv:2203.02155, eq. 2.
    """
    kl = (logprobs - ref_logprobs).masked_fill(~mask, 0.0)  # (B, T)
    rewards = -kl_coef * kl
    # a score is about the whole response, and only the last token knows the whole of it
    last = mask.sum(1).sub(1).clamp(min=0)  # (B,)
    rewards[torch.arange(len(rewards), device=rewards.device), last] += scores.to(rewards)
    return rewards


def generalized_advantages(
    rewards: Tensor, values: Tensor, mask: Tensor, *, gamma: float, lam: float
) -> tuple[Tensor, Tensor]:
    """Generalised advantage estimates, by one backward pass over time.

    Args:
        rewards: Reward of each token. (B, T)
        values: The critic's value of the state before each token. (B, T)
        mask: True on response tokens. (B, T)
        gamma: Discount per token, in [0, 1].
        lam: Less makes the estimate less noisy but trusts the critic more; in [0, 1].

    Returns:
        ``(advantages, returns)``, each (B, T) and zero on padding;
        ``returns = advantages + values``.

    Source:
        Schulman et al. 2016, arXiv:1506.02438, eq. 16. The state after the last token is worth 0.
    """
    # zeros on padding make the state after the last real token worth 0, at any length
    values, rewards = values.masked_fill(~mask, 0.0), rewards.masked_fill(~mask, 0.0)
    advantages = torch.zeros_like(rewards)
    following = running = torch.zeros_like(rewards[:, 0])  # (B,)
    for t in reversed(range(rewards.shape[1])):
        # how much better this token was than the critic expected
        delta = rewards[:, t] + gamma * following - values[:, t]
        # the surprises that come later count less, by lam for each token
        running = delta + gamma * lam * running
        advantages[:, t] = running
        following = values[:, t]
    advantages = advantages.masked_fill(~mask, 0.0)
    return advantages, advantages + values


def leave_one_out(totals: Tensor, mask: Tensor, *, group: int) -> Tensor:
    """How much better a response is than the mean of the others to its prompt, at every token.

    Args:
        totals: Sum of the rewards of each response; responses to one prompt are neighbours. (B,)
        mask: True on response tokens. (B, T)
        group: Responses per prompt, at least 2.

    Returns:
        Advantages, zero on padding. (B, T)

    Source:
        Ahmadian et al. 2024, arXiv:2402.14740, eq. 5 (RLOO).
    """
    grouped = totals.view(-1, group)  # (B / group, group)
    # a response's own reward stays out of its baseline, which would else be biased
    others = (grouped.sum(1, keepdim=True) - grouped) / (group - 1)
    return (grouped - others).view(-1, 1) * mask  # (B, T)


def whiten(
    values: Tensor, mask: Tensor, *, total: Callable[[Tensor], Tensor] = lambda local: local
) -> Tensor:
    """Shift to mean 0 and scale to variance 1 over real tokens; zero on padding.

    Args:
        values: What to whiten. (B, T)
        mask: True on real tokens. (B, T)
        total: Sum over all processes that share the batch.

    Source:
        Huang et al. 2024, arXiv:2403.17031, advantage whitening; the variance is the biased one.
    """
    count = total(mask.sum()).clamp(min=1)
    mean = total(values.masked_fill(~mask, 0.0).sum()) / count
    centred = (values - mean).masked_fill(~mask, 0.0)
    variance = total(centred.square().sum()) / count
    return centred * torch.rsqrt(variance + 1e-8)  # equal values give 0, not NaN
