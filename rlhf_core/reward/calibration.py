"""Whether the probabilities that follow from scores can be believed: temperature and ECE.

The difference of two scores, a margin, becomes a probability: ``sigmoid(margin / temperature)``.
The temperature must be fitted on votes that the scores were not trained on, and the expected
calibration error (ECE) measured on votes that neither was. These are pure functions: the caller
chooses the votes. N counts pairs: a choice is one, and a ranking is several that share its weight.
"""

import torch
from torch import Tensor, finfo

FEWEST_VOTES = 30  # to fit one number; with fewer the temperature stays 1
VOTES_PER_BIN = 20  # with fewer in a bin, chance alone would look like a calibration error
MOST_BINS = 10
_COLDEST, _HOTTEST = 1 / 50, 50.0  # votes that all agree would else have no best temperature


def fit_temperature(margins: Tensor, weights: Tensor, *, votes: float | None = None) -> float:
    """The temperature that makes the votes most likely; 1 if there are too few of them.

    Args:
        margins: Score of the preferred response minus that of the other. (N,)
        weights: How much each pair counts. (N,)
        votes: How many votes they are; N if None.

    Source:
        Guo et al. 2017, arXiv:1706.04599, section 4.2. The log-likelihood is concave in 1/T, so it
        has one best 1/T, where its slope is 0; halving an interval around that finds it.
    """
    if (len(margins) if votes is None else round(votes, 6)) < FEWEST_VOTES:
        return 1.0
    margins, weights = margins.double(), weights.double()  # in float32 the sigmoid's tails are 0
    low, high = 1 / _HOTTEST, 1 / _COLDEST  # of 1/T
    for _ in range(60):
        middle = (low * high) ** 0.5  # the geometric mean: 1/T is a scale
        slope = (weights * margins * (-middle * margins).sigmoid()).sum()
        low, high = (middle, high) if slope > 0 else (low, middle)
    return float(1 / (low * high) ** 0.5)


def left_out_margins(margins: Tensor, unseen: Tensor) -> Tensor:
    """Estimate the ensemble's margin of each vote from the members that were not trained on it.

    The mean over few members is noisier than the mean over all, and noisier margins lead to a
    higher temperature. So each mean is shrunk to the size that the whole ensemble's would have.

    Args:
        margins: Margin of each vote by each member's scores. (members, N)
        unseen: Whether a member was trained on nothing about the vote's prompt. (members, N)

    Returns:
        The margins, 0 where every member was trained on the prompt. (N,)

    Source:
        Regression calibration: Carroll et al. 2006, Measurement Error in Nonlinear Models, ch. 4.
    """
    count = unseen.sum(0)  # (N,)
    members = count.clamp(min=1)  # no division by 0
    mean = (margins * unseen).sum(0) / members  # (N,)
    if not unseen.any():
        return mean
    # the variance between members of one vote, over all votes that several members left out
    noise = ((margins - mean).square() * unseen).sum() / (members - 1).sum().clamp(min=1)
    found = count > 0
    # the mean square of margins without noise: that of the means, less the noise in them
    signal = (mean.square() - noise / members)[found].mean().clamp(min=finfo(mean.dtype).tiny)
    return mean * (signal + noise / len(margins)) / (signal + noise / members)


def expected_calibration_error(
    probabilities: Tensor, outcomes: Tensor, weights: Tensor | None = None
) -> float:
    """Mean difference between how sure the probabilities are and how often they are right.

    Pairs are sorted by how sure the probabilities are, and put into bins of equally many pairs.

    Args:
        probabilities: Probability that the first response is preferred. (N,)
        outcomes: 1.0 where it was preferred, 0.0 where the other was. (N,)
        weights: What part of a vote each pair is; by default all of one. (N,)

    Source:
        Guo et al. 2017, arXiv:1706.04599, eq. 3, with bins of equal counts instead of equal widths.
    """
    if not len(probabilities):
        return 0.0
    sure = probabilities.maximum(1 - probabilities)  # (N,)
    right = ((probabilities > 0.5).float() == outcomes).float()  # (N,)
    own = torch.ones_like(sure) if weights is None else weights  # (N,)
    bins = max(1, min(MOST_BINS, round(own.sum().item()) // VOTES_PER_BIN))
    order = sure.argsort(stable=True)
    gaps = [(own * (sure - right))[part].sum().abs() for part in order.tensor_split(bins)]
    return float(sum(gaps) / own.sum())
