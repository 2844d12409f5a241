"""Whose values in three numbers, for a card of the page; `/values` has all of them."""

from collections.abc import Sequence
from dataclasses import dataclass

from feedback_store.raters.whose import VoteFact
from rlhf_core.cycle.whose.facts import FEWEST, portrait

__all__ = ["FEWEST", "Values", "values_of"]


@dataclass(frozen=True, slots=True)
class Values:
    """How the weight of what counts, the newest 10,000 of each kind, is spread over raters.

    Attributes:
        people: Whose votes count; None if they are too few, and then the weights are, too.
        programs: Programs whose votes count: simulated visitors, model judges.
        most_active: Share of the weight that the rater with the most of it has.
        effective: How many raters of equal weight would be as concentrated (the inverse of
            Simpson's index).
    """

    people: int | None = None
    programs: int = 0
    most_active: float | None = None
    effective: float | None = None


def values_of(facts: Sequence[VoteFact], *, fewest: int = FEWEST) -> Values:
    """How concentrated the votes are that count now, from so many people on."""
    found = portrait(facts, fewest=fewest)
    if found.raters is None:
        return Values(programs=found.programs)
    return Values(
        people=found.raters,
        programs=found.programs,
        most_active=found.tops[0].share if found.tops else 1.0,
        effective=found.effective,
    )
