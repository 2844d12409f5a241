"""Losses that TRL does not bring: preferences with ties, and the clipped value loss.

Shapes: B responses (or comparisons) in the batch, T response tokens.
"""

from torch import Tensor
from torch.nn.functional import logsigmoid


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean over the real tokens of the whole batch; a scalar from (B, T)."""
    return values.masked_fill(~mask, 0.0).sum() / mask.sum().clamp(min=1)


def preference_losses(
    margins: Tensor, tied: Tensor, *, tie_width: Tensor, smoothing: Tensor
) -> Tensor:
    """Negative log-likelihood of comparisons, whose first response was preferred or tied; (B,).

    P(first) = sigmoid(m - w), P(second) = sigmoid(-m - w), and the rest is a tie. Without ties
    (w = 0) that is Bradley-Terry.

    Args:
        margins: Score of the first response minus that of the second. (B,)
        tied: True where the rater called it a tie. (B,)
        tie_width: The w of each comparison, 0 or more; above 0 where `tied`. (B,)
        smoothing: Assumed share of votes for the wrong side. (B,)

    Source:
        Ouyang et al. 2022, arXiv:2203.02155, eq. 1; ties of Rao and Kupper 1967; smoothing as in
        Christiano et al. 2017, arXiv:1706.03741, section 2.2.3.
    """
    first, second = logsigmoid(margins - tie_width), logsigmoid(-margins - tie_width)
    decided = (1 - smoothing) * first + smoothing * second
    # sigmoid(m + w) - sigmoid(m - w), as a product: the difference cancels to nothing in float32
    width = tie_width.where(tied, 1.0)
    tie = logsigmoid(margins + width) + logsigmoid(width - margins) + (-(-2 * width).expm1()).log()
    return -tie.where(tied, decided)


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
