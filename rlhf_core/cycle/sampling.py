"""Which opinions a cycle learns from, when there are more than it takes: pure functions.

Invariants: never more than the cap; below the cap, all; the same store and seed, the same sample;
every opinion that may be learnt from has a chance, however old it is.
"""

import hashlib
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from feedback_store import OpinionRow
from rlhf_core.config import DataSettings

Opinions = list[list[OpinionRow]]  # each opinion with all its rows


@dataclass(frozen=True, slots=True)
class Chances:
    """How likely an opinion is to be drawn, beside another one.

    `versions` has the published policies, oldest first, up to the one that is served. Replies of
    none of them count as older than all.
    """

    settings: DataSettings
    versions: Sequence[str]
    seed: str


def draw(
    new: Sequence[OpinionRow], old: Sequence[OpinionRow], most: int, chances: Chances
) -> tuple[Opinions, Opinions]:
    """At most ``most`` opinions, the new and the old ones apart.

    New ones come first: old ones fill what is left, and push new ones out only up to ``old_share``.
    """
    known = [*new, *old]
    latest = max((_time(row) for row in known), default=0.0)
    doubts = _doubts(known)
    fresh, aged = (_ranked(pool, chances, latest, doubts) for pool in (new, old))
    kept = min(len(aged), int(most * chances.settings.old_share))
    fresh = fresh[: most - kept]
    return fresh, aged[: most - len(fresh)]


def _ranked(
    pool: Sequence[OpinionRow], chances: Chances, latest: float, doubts: Mapping[str, float]
) -> Opinions:
    """The opinions of a pool in the order in which a weighted draw takes them.

    Each gets the key log(u) / w, where u is uniform in (0, 1) and w its weight; the largest keys
    are a weighted sample without replacement, of any size.

        w = max(floor, 0.5 ** (age / half-life + lag / half-life in versions)) * doubt

    Source:
        Efraimidis and Spirakis 2006, Information Processing Letters 97:181, algorithm A (its keys
        u ** (1 / w) are in the same order). AReaL (arXiv 2505.24298) bounds the lag of versions.
    """
    settings, lags = chances.settings, _lags(chances.versions)
    opinions: defaultdict[int, list[OpinionRow]] = defaultdict(list)
    for row in pool:
        opinions[row.number].append(row)

    def key(number: int) -> float:
        rows = opinions[number]
        days = (latest - max(map(_time, rows))) / 86_400
        lag = min((lags[a] for row in rows for a in row.adapters if a in lags), default=len(lags))
        halvings = days / settings.half_life_days + lag / settings.half_life_versions
        weight = max(settings.floor, math.pow(0.5, halvings))
        weight *= sum(doubts[row.subject] for row in rows) / len(rows)
        return math.log(_uniform(f"{chances.seed}\n{number}")) / weight

    return [opinions[number] for number in sorted(opinions, key=key, reverse=True)]


def _lags(versions: Sequence[str]) -> dict[str, int]:
    return {name: lag for lag, name in enumerate(reversed(versions))}


def _doubts(rows: Iterable[OpinionRow]) -> dict[str, float]:
    """For each subject 4 p (1 - p), where p is the chance that the next rater prefers one side.

    By Laplace's rule p = (wins + 1) / (votes + 2): 1 if raters disagree evenly, 8/9 after one vote,
    and less the more of them agree.
    """
    tallies: defaultdict[str, list[int]] = defaultdict(lambda: [0, 0])
    for row in rows:
        tally = tallies[row.subject]
        tally[0] += row.verdict
        tally[1] += 1
    shares = {s: ((n + balance) / 2 + 1) / (n + 2) for s, (balance, n) in tallies.items()}
    return {subject: 4 * p * (1 - p) for subject, p in shares.items()}


def _time(row: OpinionRow) -> float:
    """Seconds since 1970; a time that nobody can read is as old as can be."""
    try:
        moment = datetime.fromisoformat(row.created_at)
    except ValueError:
        return 0.0
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _uniform(seed: str) -> float:
    """A number in (0, 1) that the text alone decides."""
    return (int.from_bytes(hashlib.sha256(seed.encode()).digest()[:6]) + 0.5) / 2**48
