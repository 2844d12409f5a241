"""Claim 10: what the exact judge says while a policy is optimised against a reward model.

Distance is the square root of the KL from SFT, as in Gao et al. 2022, arXiv:2210.10760: gold
reward gains d (a - b d) by best-of-n and d (a - b log d) by RL. The best of several noisy points is
always above the last, so a run's peak is found on half of the subjects, and its fall measured on
the others. Two runs are compared as far as the one goes that went less far.
"""

import itertools
import math
import zlib
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from rlhf_core.reproduction.claims import Figure, Found
from rlhf_core.reproduction.measures.judged import JudgedPolicies, replies_of
from rlhf_core.reproduction.measures.statistics import Table, bootstrap
from rlhf_core.reproduction.profiles import ReproductionProfile

PENALTIES = {"kl-0_02": 0.02, "kl-0_05": 0.05, "kl-0_2": 0.2}  # beside none
Points = list[tuple[float, float]]


def stages(profile: ReproductionProfile) -> tuple[str, ...]:
    """The stages that the claim is computed from."""
    parts = [f"{run}-{k}" for run in ("over-one", "over") for k in range(profile.segments)]
    return (*parts, *(f"over-one-{name}" for name in PENALTIES))


def too_far(judged: JudgedPolicies) -> Found:
    """Claim 10."""
    parts = range(judged.seeds[0].kept.profile.segments)
    start = _gold(judged, "answers-sft")
    runs = {name: [f"{name}-{k}" for k in parts] for name in ("over-one", "over")}
    one, several = ([start, *(_gold(judged, part) for part in run)] for run in runs.values())
    zero = start.mean
    rl, of_several = (
        _points(judged, run, path[1:])
        for run, path in zip(runs.values(), (one, several), strict=True)
    )
    as_far = min(rl[-1][0], of_several[-1][0])
    short_one, short_several = (
        _until(as_far, [0.0, *(d for d, _ in points)], path)
        for points, path in ((rl, one), (of_several, several))
    )
    penalised = _points(
        judged,
        [f"over-one-{name}" for name in PENALTIES],
        [_gold(judged, f"over-one-{name}") for name in PENALTIES],
    )
    best_of = _best_of(judged)
    figures = {
        "fall after the peak, one model": _fall(one),
        "fall after the peak, ensemble": _fall(several),
        "less fall with the ensemble": _less_fall(
            short_one, short_several, f"up to a distance of {as_far:.2f}"
        ),
    }
    figures["fit of best-of-n"] = Figure(
        _fit([(d, g - best_of[0][1]) for d, g in best_of], lambda d: d * d), about="R squared"
    )
    figures["fit of PPO"] = Figure(
        _fit([(d, g - zero) for d, g in [*rl, *penalised]], lambda d: d * math.log(d)),
        about="R squared",
    )
    curves = {
        "gold, PPO, one model": [(0.0, zero), *rl],
        "gold, PPO, ensemble": [(0.0, zero), *of_several],
        "gold, best-of-n, one model": best_of,
        "score, PPO, one model": _scores(judged, runs["over-one"]),
        "gold, PPO with a penalty": sorted(penalised),
    }
    return Found(figures, curves=curves, axes=("square root of KL, nats", "reward"))


def _gold(judged: JudgedPolicies, stage: str) -> Table:
    """The gold reward of a stage's replies to the mixed set; (S, N)."""
    replies = [replies_of(facts) for facts in judged.facts(stage)]
    return judged.judged(replies, "mixed", lambda _, v: v.gold)


def _fall(path: Sequence[Table]) -> Figure:
    """How much lower the end of a run is than its best point."""
    best, peak_and_end = _peak_and_end(path)
    about = f"peak at part {best}"
    return bootstrap(peak_and_end, lambda m: (m[0] - m[1]) / m[2], about=about)


def _less_fall(one: Sequence[Table], several: Sequence[Table], about: str) -> Figure:
    """How much more the first run falls than the second, on the same prompts."""
    (_, first), (_, second) = _peak_and_end(one), _peak_and_end(several)
    return bootstrap(
        [*first, *second], lambda m: (m[0] - m[1]) / m[2] - (m[3] - m[4]) / m[5], about=about
    )


def _peak_and_end(path: Sequence[Table]) -> tuple[int, tuple[Table, Table, Table]]:
    """A run's best point by half of the subjects; that point, and its end, on the other half.

    Both are 0 where a prompt is of the half that chose; last comes where it is not.
    """
    chooses = _halves(path[0])
    best = max(range(len(path)), key=lambda k: float(path[k].values[chooses].mean()))
    others = path[0].like(~chooses)
    peak, end = (others.like(path[k].values * others.values) for k in (best, -1))
    return best, (peak, end, others)


def _halves(table: Table) -> NDArray[np.bool_]:
    """Which prompts choose, (S, N): a hash puts all of a subject on one side."""
    sides = {name: zlib.crc32(str(name).encode()) % 2 == 0 for name in np.unique(table.clusters)}
    chooses: NDArray[np.bool_] = np.vectorize(sides.__getitem__, otypes=[np.bool_])(table.clusters)
    return chooses


def _until(distance: float, distances: Sequence[float], path: Sequence[Table]) -> list[Table]:
    """A run up to where it passes a distance; there, each prompt's value in proportion."""
    kept = [path[0]]
    for (d, table), (e, further) in itertools.pairwise(zip(distances, path, strict=True)):
        if e > distance:
            part = (distance - d) / (e - d)
            return [*kept, table.like((1 - part) * table.values + part * further.values)]
        kept.append(further)
    return kept


def _points(judged: JudgedPolicies, names: Sequence[str], gold: Sequence[Table]) -> Points:
    """Distance and mean gold reward where these stages end."""
    return [(_distance(judged, n), table.mean) for n, table in zip(names, gold, strict=True)]


def _scores(judged: JudgedPolicies, names: Sequence[str]) -> Points:
    """Distance and what the reward model says of the last rollouts."""
    return [
        (
            _distance(judged, name),
            float(np.mean([facts["objective/scores"] for facts in judged.facts(name)])),
        )
        for name in names
    ]


def _distance(judged: JudgedPolicies, stage: str) -> float:
    return math.sqrt(max(0.0, np.mean([f["objective/kl"] for f in judged.facts(stage)])))


def _best_of(judged: JudgedPolicies) -> Points:
    """Distance and mean gold reward of best-of-n; the KL is at most log n - (n - 1) / n.

    Source:
        Stiennon et al. 2020, arXiv:2009.01325, appendix G.3.
    """
    steps = judged.facts("best-of-reward-one")
    found = []
    for place, row in enumerate(steps[0]["best of"]):
        n = row["n"]
        replies = [facts["best of"][place]["replies"] for facts in steps]
        gold = judged.judged(replies, "mixed", lambda _, v: v.gold)
        found.append((math.sqrt(math.log(n) - (n - 1) / n), gold.mean))
    return found


def _fit(points: Points, bend: Callable[[float], float]) -> float:
    """R squared of a d - b bend(d) through the start, by least squares; NaN with too few points."""
    inside = [(d, gain) for d, gain in points if d > 0]
    if len(inside) < 3:
        return float("nan")
    rows = np.array([[d, -bend(d)] for d, _ in inside])
    gains = np.array([gain for _, gain in inside])
    solved, *_ = np.linalg.lstsq(rows, gains, rcond=None)
    spread = float(((gains - gains.mean()) ** 2).sum())
    return 1 - float(((gains - rows @ solved) ** 2).sum()) / spread if spread else float("nan")
