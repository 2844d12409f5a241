"""Losses that TRL does not bring: preferences with ties, and the clipped value loss.

Shapes: B responses (or comparisons) in the batch, T response tokens.
"""

from torch import Tensor
from torch.nn.functional import logsigmoid


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean over the real tokens of the whole batch; a scalar from (B, T)."""
    return values.masked_fill(~mask, 0.0).sum() / mask.sum().clamp(min=1)


def preference_loss(margins: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Bradley-Terry cross-entropy with soft targets.

    Args:
        margins: Score of the first response minus that of the second. (B,)
        targets: Probability that the first is the better one: 1 or 0 for a plain vote, less
            extreme with label smoothing, 0.5 for a tie. (B,)
        weights: Weight of each comparison; their mean should be 1. (B,)

    Source:
        Ouyang et al. 2022, arXiv:2203.02155, eq. 1; smoothing as in Christiano et al. 2017,
        arXiv:1706.03741, section 2.2.3.
    """
    losses = -(targets * logsigmoid(margins) + (1 - targets) * logsigmoid(-margins))
    return (weights * losses).mean()


def clipped_value_loss(
    values: Tensor, old_values: Tensor, returns: Tensor, mask: Tensor, *, cliprange: float
) -> Tensor:
    """Half the squared error of the value head, which may move ``cliprange`` from its old output.

    Args:
        values: Value-head output now. (B, T)
        old_values: Its output at the time of the rollout. (B, T)
        returns: What it should have said. (B, T)
        mask: True on response tokens. (B, T)
        cliprange: Largest rewarded change.

    Source:
        Huang et al. 2022, "The 37 implementation details of PPO", detail 9.
    """
    clipped = old_values + (values - old_values).clamp(-cliprange, cliprange)
    worst = ((values - returns) ** 2).max((clipped - returns) ** 2)
    return 0.5 * masked_mean(worst, mask)
