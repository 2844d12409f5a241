"""Caps: how much of the whole weight one rater, or all new accounts together, may have.

Pure functions. Invariants: a factor is in [0, 1]; the order of the raters changes nothing; capping
capped weights changes nothing; fewer than `CapSettings.fewest_raters` raters are never capped,
because a service for few people must learn from all of them.

New accounts of one origin are one rater in every rule below: they have the weight that a single
account would have that had said all of it, each in proportion to what it said. So it makes no
difference to anybody's weight among how many accounts something is divided. Whoever has agreed with
others comes here without an origin (`proof`).

Model judges are not among these raters, and no program counts for more than the operator allows
beside people: that cap is the last (`program_factor`).

1. Nobody counts as more than `most` comparisons.
2. Nobody counts as more than a share of the whole. The whole is what is left after capping, so
   water-filling finds the level at which weights are cut.
3. New accounts together count as at most a share of the whole, if there is a base of older accounts
   (on a fresh service everybody is new). Rule 2 then takes its share of the base alone, so more
   accounts move neither cap.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from feedback_store.sqlite.ids import iso_utc

One = tuple[str, str]  # what the caps take as one: ("rater", id), or new ones by ("origin", origin)


@dataclass(frozen=True, slots=True)
class CapSettings:
    """The caps.

    Source:
        InstructGPT (arXiv 2203.02155) took at most 200 prompts of one user. The other limits keep
        one rater, or a crowd of new accounts, from reversing what is learnt:
        `benchmarks/poison.py`.
    """

    fewest_raters: int = 10  # raters whose judgements are usable; fewer are not capped
    most: float = 200.0  # comparisons that one rater counts as
    share: float = 0.05  # of the whole for one rater ...
    times_equal: float = 2.0  # ... or so many equal shares, if that is more
    new_days: float = 7.0  # how long an account is new
    new_share: float = 0.2  # of the whole for all new accounts together
    base_raters: int = 10  # a base has so many older accounts ...
    base_weight: float = 200.0  # ... that count as so many comparisons after their caps


class RaterFacts(NamedTuple):
    """What the caps depend on."""

    rater_id: str
    weight: float  # the sum of their comparisons, 0 or more
    since: str  # when the account was made, UTC ISO 8601
    origin: str | None = None  # None if the rater counts alone, however new


def cap_factors(
    facts: Sequence[RaterFacts], *, now: datetime, settings: CapSettings | None = None
) -> dict[str, float]:
    """The factor on the weight of all that a rater said; a rater who is not in it has factor 1.

    Args:
        facts: Each rater once, in any order.
        now: Decides which accounts are new.
        settings: The defaults if None.
    """
    settings = settings or CapSettings()
    groups = counted_as_one(facts, now=now, settings=settings)
    raw = {one: math.fsum(fact.weight for fact in group) for one, group in groups.items()}
    if len(raw) < settings.fewest_raters:
        return {}
    recent = new_after(now, settings)
    new = {one for one, group in groups.items() if group[0].since > recent}
    most = {one: min(weight, settings.most) for one, weight in raw.items()}
    base = _levelled({one: w for one, w in most.items() if one not in new}, settings)
    total = math.fsum(base.values())
    if len(base) >= settings.base_raters and total >= settings.base_weight:
        late = {one: min(most[one], _share(len(base), settings) * total) for one in new}
        room = total * settings.new_share / (1 - settings.new_share)
        squeeze = room / max(room, math.fsum(late.values()))
        capped = base | {one: weight * squeeze for one, weight in late.items()}
    else:
        capped = _levelled(most, settings)
    cut = {one: capped[one] / raw[one] for one in raw if capped[one] < raw[one]}
    return {fact.rater_id: factor for one, factor in cut.items() for fact in groups[one]}


def program_factor(people: float, programs: float, *, share: float) -> float:
    """The factor on the weight of all that programs said, so that it is a share of the whole.

    Args:
        people: The weight of what people said that trains, after their caps; where no person
            spoke, of what simulated visitors said that stand in for them.
        programs: That of what the other programs said.
        share: At most so much of the whole is the programs'; all of it where nobody else spoke.
    """
    if not people or programs * (1 - share) <= share * people:
        return 1.0
    return share * people / ((1 - share) * programs)


def counted_as_one(
    facts: Iterable[RaterFacts], *, now: datetime, settings: CapSettings | None = None
) -> dict[One, list[RaterFacts]]:
    """The raters who have a weight, in groups that the caps take as one rater; most are alone."""
    groups, recent = defaultdict[One, list[RaterFacts]](list), new_after(now, settings)
    for fact in facts:
        if fact.weight > 0:
            alone = fact.origin is None or fact.since <= recent
            one = ("rater", fact.rater_id) if alone else ("origin", str(fact.origin))
            groups[one].append(fact)
    return groups


def new_after(now: datetime, settings: CapSettings | None = None) -> str:
    """The time after which accounts were made that are new."""
    days = (settings or CapSettings()).new_days
    return iso_utc((now - timedelta(days=days)).astimezone(UTC))


def _levelled(weights: dict[One, float], settings: CapSettings) -> dict[One, float]:
    """The weights, cut so that none is above its share of the sum of what is returned."""
    level = _level(weights.values(), settings)
    return {one: min(weight, level) for one, weight in weights.items()}


def _level(weights: Iterable[float], settings: CapSettings) -> float:
    """The largest weight allowed, L = share * sum(min(w, L)); infinite if no weight is above it.

    If the k heaviest weights are cut to L, then L = share * (k L + rest), so
    L = share * rest / (1 - k share). The smallest k that leaves no other weight above L is right.
    """
    falling = sorted(weights, reverse=True)
    if not falling:
        return math.inf
    share = _share(len(falling), settings)
    for k, heaviest in enumerate(falling):
        if k * share >= 1:
            break  # k equal weights are never above their shares
        level = share * math.fsum(falling[k:]) / (1 - k * share)
        if heaviest <= level:
            return level if k else math.inf
    return math.inf


def _share(raters: int, settings: CapSettings) -> float:
    return max(settings.share, settings.times_equal / raters)
