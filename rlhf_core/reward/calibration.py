"""How far the probabilities that follow from scores can be believed: temperature and ECE.

A margin of scores becomes a probability, ``sigmoid(margin / temperature)``. The temperature is
fitted on votes that the scores were not trained on, and the expected calibration error is measured
on others still. Pure functions; which votes they are is the caller's care.
"""

from torch import Tensor, finfo

FEWEST_VOTES = 30  # to fit one number; with fewer the temperature stays 1
VOTES_PER_BIN = 20
MOST_BINS = 10
_COLDEST, _HOTTEST = 1 / 50, 50.0


def fit_temperature(margins: Tensor, weights: Tensor) -> float:
    """The temperature under which votes are likeliest; 1 if there are too few of them.

    Args:
        margins: Score of the preferred response minus that of the other. (N,)
        weights: How much each vote counts. (N,)

    Source:
        Guo et al. 2017, arXiv:1706.04599, section 4.2. The likelihood is concave in 1/T, so
        halving the interval in which its slope changes sign finds the one best.
    """
    if len(margins) < FEWEST_VOTES:
        return 1.0
    margins, weights = margins.double(), weights.double()  # tails of the sigmoid must not vanish
    low, high = 1 / _HOTTEST, 1 / _COLDEST
    for _ in range(60):
        middle = (low * high) ** 0.5
        slope = (weights * margins * (-middle * margins).sigmoid()).sum()
        low, high = (middle, high) if slope > 0 else (low, middle)
    return float(1 / (low * high) ** 0.5)


def left_out_margins(margins: Tensor, unseen: Tensor) -> Tensor:
    """The whole ensemble's margin of each vote, as far as the members that left it out can tell.

    A mean over few members is noisier than one over all, and the temperature of a noisier margin is
    higher. So each is shrunk by how reliable it is beside the whole ensemble's.

    Args:
        margins: Each member's, of scores. (members, N)
        unseen: Whether a member learnt nothing of the vote's prompt. (members, N)

    Returns:
        (N,); 0 where no member left the vote out.

    Source:
        Regression calibration: Carroll et al. 2006, Measurement Error in Nonlinear Models, ch. 4.
    """
    count = unseen.sum(0)  # (N,)
    members = count.clamp(min=1)
    mean = (margins * unseen).sum(0) / members
    if not unseen.any():
        return mean
    noise = ((margins - mean).square() * unseen).sum() / (members - 1).sum().clamp(min=1)
    found = count > 0
    signal = (mean.square() - noise / members)[found].mean().clamp(min=finfo(mean.dtype).tiny)
    return mean * (signal + noise / len(margins)) / (signal + noise / members)


def expected_calibration_error(probabilities: Tensor, outcomes: Tensor) -> float:
    """Mean distance between how sure and how often right, over bins of equally many votes.

    Args:
        probabilities: Of the first response being preferred. (N,)
        outcomes: 1.0 where it was, 0.0 where the other was. (N,)
    """
    if not len(probabilities):
        return 0.0
    sure = probabilities.maximum(1 - probabilities)
    right = ((probabilities > 0.5).float() == outcomes).float()
    bins = max(1, min(MOST_BINS, len(sure) // VOTES_PER_BIN))
    order = sure.argsort(stable=True)
    gaps = [
        (sure[part].mean() - right[part].mean()).abs() * len(part)
        for part in order.tensor_split(bins)
    ]
    return float(sum(gaps) / len(sure))
