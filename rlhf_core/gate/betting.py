"""What people's own choices say about two policies, however often one looks: a betting test.

People choose, blind, between a reply of one policy and of another. A gambler who starts with 1 bets
on each choice that the first policy is preferred. If it is not, no way of betting makes money: the
stake is 20 or more with a probability of at most 1/20, at whatever time one looks and stops. So the
stake is the evidence, and 20 is enough. Another gambler bets on the second policy.

Choices of one rater go together, because of the rater's taste. So they are one bet: their sum
counts, and only the first `MOST` of each rater. Whoever calls it a tie, or both bad, says that
neither is better, and moves nothing.

Source:
    Waudby-Smith and Ramdas 2024, JRSS B 86:1, section 4 (the bets); Ville 1939 (the bound). With
    raters in place of choices, a stake is the product of `1 + BET * sum`, whose mean is at most 1
    even if a rater's choices are all alike.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

# The best constant bet for a true rate of .56; .60 needs about 140 choices with it, .75 about 50.
BET = 0.25
MOST = 7  # choices of one rater; BET * MOST / 2 must stay below 1, or a stake could be negative
ENOUGH = 20.0

Preferred = Literal["first", "second", "neither"]
VALUES = {"first": 0.5, "second": -0.5, "neither": 0.0}


@dataclass(frozen=True, slots=True)
class LiveEvidence:
    """What choices between two policies show.

    Attributes:
        better: The highest stake so far of who bets on the first policy.
        worse: The same of who bets on the second one.
        choices: Those that counted.
        left_out: Those beyond the most of their raters.
        raters: Who made the choices that counted.
        rate: Share of the choices that prefer the first policy; neither is half of one.
    """

    better: float
    worse: float
    choices: int
    left_out: int
    raters: int
    rate: float

    @property
    def verdict(self) -> Literal["better", "worse", "not shown"]:
        """What is shown about the first policy: of both, what has the higher stake."""
        if max(self.better, self.worse) < ENOUGH:
            return "not shown"
        return "better" if self.better >= self.worse else "worse"


def falls_short(choices: Iterable[tuple[str, Preferred]], rate: float) -> float:
    """The highest stake so far of who bets that the first policy is preferred less than so often.

    Args:
        choices: As for `live_evidence`.
        rate: The rate that is doubted, in (0, 1).
    """
    bet = min(BET, 0.9 / (MOST * (1 - rate)))  # a stake is never negative
    sums: defaultdict[str, float] = defaultdict(float)
    counted: Counter[str] = Counter()
    stake = highest = 1.0
    for rater, choice in choices:
        counted[rater] += 1
        if counted[rater] > MOST:
            continue
        before = sums[rater]
        sums[rater] += rate - 0.5 - VALUES[choice]
        stake *= (1 + bet * sums[rater]) / (1 + bet * before)
        highest = max(highest, stake)
    return highest


def stakes(choices: Iterable[tuple[str, Preferred]]) -> Iterator[tuple[float, float] | None]:
    """After each choice the stakes on the first and on the second policy: the evidence's path.

    None in place of a choice that is left out, beyond the most of its rater.
    """
    sums: defaultdict[str, float] = defaultdict(float)
    counted: Counter[str] = Counter()
    first = second = 1.0
    for rater, choice in choices:
        if counted[rater] == MOST:
            yield None
            continue
        counted[rater] += 1
        before = sums[rater]
        sums[rater] += VALUES[choice]
        first *= (1 + BET * sums[rater]) / (1 + BET * before)
        second *= (1 - BET * sums[rater]) / (1 - BET * before)
        yield first, second


def live_evidence(choices: Iterable[tuple[str, Preferred]]) -> LiveEvidence:
    """The evidence of choices, as (rater, preferred policy), in the order in which they came."""
    made = list(choices)
    path = list(stakes(made))
    counted = [choice for choice, stake in zip(made, path, strict=True) if stake is not None]
    reached = [(1.0, 1.0), *(stake for stake in path if stake is not None)]
    n, preferred = len(counted), sum(VALUES[choice] + 0.5 for _, choice in counted)
    return LiveEvidence(
        better=max(first for first, _ in reached),
        worse=max(second for _, second in reached),
        choices=n,
        left_out=len(made) - n,
        raters=len({rater for rater, _ in counted}),
        rate=preferred / n if n else 0.5,
    )
