"""How often a candidate's replies are better, how sure that is, and the level of each cycle's test.

Two things are uncertain. Other questions would get other replies: the error between questions. And
a reward model that learnt from other votes would score otherwise: one that likes short replies by
chance finds every short reply better, on however many questions. So the held-out reward model has
several members, each of which learnt without a part of the questions (a fold). A reply is scored by
the members that know no vote on its question, and how far the win rates by single members differ
says how uncertain the scores are. With one member, such as a rule, only the first error is counted.

Shapes: K members, N pairs of replies.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from scipy import stats
from torch import Tensor

from rlhf_core.gate.intervals import clustered_error

SPENT = 1.5  # the level of the n-th test is in proportion to n to the power of minus this
_ALL = 2.612375348685488  # the sum of all these, zeta(1.5)


@dataclass(frozen=True, slots=True)
class WinRate:
    """A win rate, with one-sided bounds at a level.

    Attributes:
        value: The estimate.
        low: Lower bound.
        high: Upper bound.
        questions: Different questions, which are the clusters.
        question_error: Its standard error because of the questions.
        member_error: Its standard error because of what the members learnt.
    """

    value: float
    low: float
    high: float
    questions: int
    question_error: float
    member_error: float


def win_rate(margins: Tensor, known: Tensor, questions: Sequence[str], *, level: float) -> WinRate:
    """How often the first reply of a pair is better than the second.

    Args:
        margins: By member, how much more the first reply scores. (K, N)
        known: Whether a member learnt from votes on the question. (K, N)
        questions: The question of each pair; pairs of one question are a cluster. (N,)
        level: Probability that the true rate is below the lower bound; the same above the upper.

    Source:
        Between members: the delete-a-group jackknife (Kott 2001, Journal of Official Statistics
        17:521). Degrees of freedom: Satterthwaite 1946, Biometrics Bulletin 2:110.
    """
    wins = probabilities(margins)  # (K, N)
    mean, of_questions = clustered_error(_by_strangers(wins, known).tolist(), questions)
    rates, members = wins.double().mean(1), len(wins)  # (K,)
    of_members = math.sqrt((members - 1) / members * float((rates - rates.mean()).square().sum()))
    error, clusters = math.hypot(of_questions, of_members), len(set(questions))
    freedom = error**4 / (
        of_questions**4 / max(1, clusters - 1) + of_members**4 / max(1, members - 1)
    )
    quantile = float(stats.t.isf(level, freedom))
    # Near 1 an error is small because a rate ends there, however wrong the scores may be. So the
    # lower bound is reached on the probit scale, on which rates do not end.
    inside = min(max(mean, 0.5 / clusters), 1 - 0.5 / clusters)
    probit = float(stats.norm.ppf(inside))
    reach = quantile * error / float(stats.norm.pdf(probit))
    low = min(mean, float(stats.norm.cdf(probit - reach)))
    high = max(mean + quantile * error, float(stats.norm.cdf(probit + reach)))
    return WinRate(mean, low, min(1.0, high), clusters, of_questions, of_members)


def probabilities(margins: Tensor) -> Tensor:
    """How probable each member finds it that the first reply is better; (K, N).

    A margin is measured by how far the margins of members differ from each other: much less is no
    preference, or a shift of .01 on every reply would be a win everywhere. A single member, such as
    a rule, has no such measure; it is sure, or undecided.

    Folds differ less than models from other votes would, by (K - 1) / sqrt(K). Measured by that, a
    win rate of .88 came out too near to 1/2 to be in its own interval (docs/results.md, "Heads").
    """
    wins = (margins > 0).float() + 0.5 * (margins == 0).float()
    if len(margins) < 2:
        return wins
    spread = float(margins.double().var(0).mean().sqrt())  # over members, of a pair
    if spread == 0:
        return wins
    surely: Tensor = torch.special.ndtr(margins / spread)
    return surely


def level_of(test: int, error_rate: float) -> float:
    """The level of the n-th test since the last policy was promoted.

    The levels of all tests together are the error rate, so that trying again and again until chance
    helps does not help. A promotion begins anew.

    Args:
        test: Its number, from 1.
        error_rate: Of all tests together.

    Source:
        Foster and Stine 2008, JRSS B 70:429: a test may spend what earlier ones left, and a
        discovery earns it back. The expected number of wrong promotions is at most the error rate
        times one more than the expected number of all promotions.
    """
    return float(error_rate * test**-SPENT / _ALL)


def _by_strangers(wins: Tensor, known: Tensor) -> Tensor:
    """Mean over the members that learnt from no vote on the question; of all, if there is none."""
    asked = (~known | known.all(0)).double()  # (K, N)
    return (wins * asked).sum(0) / asked.sum(0)
