"""The loss that TRL's reward trainer does not have: comparisons with ties and wrong votes.

Shapes: P pairs of responses in the batch.
"""

from torch import Tensor
from torch.nn.functional import logsigmoid


def preference_losses(
    margins: Tensor, tied: Tensor, *, tie_width: Tensor, smoothing: Tensor
) -> Tensor:
    """Negative log-likelihood of pairs whose first response was preferred, or that were tied.

    With margin m and width w: P(first) = sigmoid(m - w), P(second) = sigmoid(-m - w), and what is
    left is the probability of a tie. Where nothing can tie, w = 0, and this is Bradley-Terry.

    Args:
        margins: Score of the first response minus that of the second. (P,)
        tied: True where the rater called it a tie. (P,)
        tie_width: The w of each pair, 0 or more; above 0 where `tied`. (P,)
        smoothing: Share of votes that are assumed to be for the wrong side. (P,)

    Returns:
        The losses, in nats. (P,)

    Source:
        Ouyang et al. 2022, arXiv:2203.02155, eq. 1; ties of Rao and Kupper 1967; smoothing as in
        Christiano et al. 2017, arXiv:1706.03741, section 2.2.3.
    """
    first, second = logsigmoid(margins - tie_width), logsigmoid(-margins - tie_width)  # (P,)
    decided = (1 - smoothing) * first + smoothing * second  # (P,)
    # P(tie) = sigmoid(m + w) - sigmoid(m - w). As a product, because in float32 the difference of
    # two numbers near 1 is 0. Where nothing was tied any width will do, if it is not 0: the
    # logarithm of 0 would make the gradient NaN.
    width = tie_width.where(tied, 1.0)
    tie = logsigmoid(margins + width) + logsigmoid(width - margins) + (-(-2 * width).expm1()).log()
    return -tie.where(tied, decided)
