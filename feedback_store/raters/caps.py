"""Caps: how much of all that is said one rater, or the new accounts together, may be.

Pure functions over one light fact about each rater. Invariants: a factor is in [0, 1]; the result
depends on who said how much, not on the order of the raters; applying the caps to capped weights
changes nothing; fewer than `CapSettings.fewest_raters` raters are never capped, because a service
for few must learn from them all.

1. Nobody counts as more than `most` comparisons.
2. Nobody counts as more than a share of the whole, the whole being what is left after capping. So
   the level at which weights are cut is found by water-filling.
3. New accounts together count as at most a share of the whole, but only beside a real base of older
   accounts: on a fresh service everybody is new. The share of rule 2 is then one of the base, so
   that making more accounts moves neither cap.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import NamedTuple


@dataclass(frozen=True, slots=True)
class CapSettings:
    """Where the caps lie.

    Source:
        InstructGPT (arXiv 2203.02155) took at most 200 prompts of one user; the other limits are
        set so that one rater, or a crowd made overnight, cannot turn what is learnt: see
        `benchmarks/poison.py`.
    """

    fewest_raters: int = 10  # with usable judgements; below, there are no caps
    most: float = 200.0  # comparisons that one rater counts as
    share: float = 0.05  # of the whole for one rater ...
    times_equal: float = 2.0  # ... or this many times an equal share, if that is more
    new_days: float = 7.0  # an account is new for so long
    new_share: float = 0.2  # of the whole for all new accounts together
    base_raters: int = 10  # older accounts that make a base ...
    base_weight: float = 200.0  # ... and the comparisons that they count as, after their caps


class RaterFacts(NamedTuple):
    """What the caps need to know of a rater."""

    rater_id: str
    weight: float  # sum over all that they said, in comparisons; 0 or more
    since: str  # when the account was made, UTC ISO 8601


def cap_factors(
    facts: Sequence[RaterFacts], *, now: datetime, settings: CapSettings | None = None
) -> dict[str, float]:
    """The factor on the weight of all that a rater said; one who is not named has 1.

    Args:
        facts: Each rater once, in any order.
        now: Decides which accounts are new.
        settings: Where the caps lie; the defaults if None.
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
    """Nobody above their share of the whole, the whole being the sum of what is returned."""
    level = _level(weights.values(), settings)
    return {rater: min(weight, level) for rater, weight in weights.items()}


def _level(weights: Iterable[float], settings: CapSettings) -> float:
    """The largest weight allowed: the level L with L = share * sum(min(w, L)), if anyone is above.

    With the k heaviest at the level and the rest untouched, L = share * (k L + rest), so
    L = share * rest / (1 - k share). The smallest k for which nobody else is above L is the one.
    """
    falling = sorted(weights, reverse=True)
    if not falling:
        return math.inf
    share = _share(len(falling), settings)
    for k, heaviest in enumerate(falling):
        if k * share >= 1:
            break  # so many at one level are never above their shares
        level = share * math.fsum(falling[k:]) / (1 - k * share)
        if heaviest <= level:
            return level if k else math.inf
    return math.inf


def _share(raters: int, settings: CapSettings) -> float:
    return max(settings.share, settings.times_equal / raters)


def _iso(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
