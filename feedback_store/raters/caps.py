"""Caps: how much of the whole weight one rater, or all new accounts together, may have.

Pure functions. Invariants: a factor is in [0, 1]; the order of the raters changes nothing; capping
capped weights changes nothing; fewer than `CapSettings.fewest_raters` raters are never capped,
because a service for few people must learn from all of them.

1. Nobody counts as more than `most` comparisons.
2. Nobody counts as more than a share of the whole. The whole is what is left after capping, so
   water-filling finds the level at which weights are cut.
3. New accounts together count as at most a share of the whole, if there is a base of older accounts
   (on a fresh service everybody is new). Rule 2 then takes its share of the base alone, so more
   accounts move neither cap.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import NamedTuple


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
    raw = {fact.rater_id: fact.weight for fact in facts if fact.weight > 0}
    if len(raw) < settings.fewest_raters:
        return {}
    recent = _iso(now - timedelta(days=settings.new_days))
    new = {fact.rater_id for fact in facts if fact.since > recent} & raw.keys()
    most = {rater: min(weight, settings.most) for rater, weight in raw.items()}
    base = _levelled({r: w for r, w in most.items() if r not in new}, settings)
    total = math.fsum(base.values())
    if len(base) >= settings.base_raters and total >= settings.base_weight:
        late = {rater: min(most[rater], _share(len(base), settings) * total) for rater in new}
        room = total * settings.new_share / (1 - settings.new_share)
        squeeze = room / max(room, math.fsum(late.values()))
        capped = base | {rater: weight * squeeze for rater, weight in late.items()}
    else:
        capped = _levelled(most, settings)
    return {rater: capped[rater] / raw[rater] for rater in raw if capped[rater] < raw[rater]}


def _levelled(weights: dict[str, float], settings: CapSettings) -> dict[str, float]:
    """The weights, cut so that none is above its share of the sum of what is returned."""
    level = _level(weights.values(), settings)
    return {rater: min(weight, level) for rater, weight in weights.items()}


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


def _iso(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
