"""The loss that TRL's reward trainer does not bring: preferences with ties, strengths and noise.

Shapes: B comparisons in the batch.
"""

from torch import Tensor
from torch.nn.functional import logsigmoid


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
