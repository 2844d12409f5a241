"""Whose values in three numbers, for a card of the page; `/values` has all of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from feedback_store.raters.whose import VoteFact
from rlhf_core.cycle.whose.facts import FEWEST, portrait

__all__ = ["FEWEST", "Values", "values_of"]


@dataclass(frozen=True, slots=True)
class Values:
    """How the weight of what counts, the newest 10,000 of each kind, is spread over raters.

    Attributes:
        raters: Whose votes count, programs among them; None if they are fewer than five people,
            and then the rest is, too.
        most_active: Share of the weight that the rater with the most of it has.
        effective: How many raters of equal weight would be as concentrated (the inverse of
            Simpson's index).
        simulated: Whether some or all of them are programs: simulated visitors, model judges.
    """

    raters: int | None = None
    most_active: float | None = None
    effective: float | None = None
    simulated: Literal["none", "some", "all"] = "none"


def values_of(facts: Sequence[VoteFact]) -> Values:
    """How concentrated the votes are that count now."""
    found = portrait(facts)
    if found.raters is None:
        return Values()
    return Values(
        raters=found.raters + found.programs,
        most_active=found.tops[0].share if found.tops else 1.0,
        effective=found.effective,
        simulated="all" if not found.raters else "some" if found.programs else "none",
    )
