"""Whose values: how many people's votes train the model, and how much of it is the most active's.

Nothing is said below five raters: of three, each could tell who the others are.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from feedback_store.raters.standing import RaterStanding
from feedback_store.records import PROGRAMS

FEWEST = 5  # raters of whom something is said


@dataclass(frozen=True, slots=True)
class Values:
    """How the weight of all votes is spread over raters.

    Attributes:
        raters: Whose votes count; None if they are fewer than five, and then the rest is, too.
        most_active: Share of the weight that the rater with the most of it has.
        effective: How many raters of equal weight would be as concentrated (the inverse of
            Simpson's index).
        simulated: Whether some or all of them are programs: simulated visitors, model judges.
    """

    raters: int | None = None
    most_active: float | None = None
    effective: float | None = None
    simulated: Literal["none", "some", "all"] = "none"


def values_of(standings: Iterable[RaterStanding]) -> Values:
    """How concentrated the votes are that count now."""
    heard = [one for one in standings if one.said * one.weight > 0]
    if len(heard) < FEWEST:
        return Values()
    weights = [one.said * one.weight for one in heard]
    whole = sum(weights)
    programs = sum(one.kind in PROGRAMS for one in heard)
    shares = [weight / whole for weight in weights]
    return Values(
        raters=len(heard),
        most_active=round(max(shares), 3),
        effective=round(1 / sum(share**2 for share in shares), 1),
        simulated="all" if programs == len(heard) else "some" if programs else "none",
    )
