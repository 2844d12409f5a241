"""Claim 10: what the exact judge says while a policy is optimised against a reward model.

Distance is the square root of the KL from SFT, as in Gao et al. 2022, arXiv:2210.10760: gold
reward gains d (a - b d) by best-of-n and d (a - b log d) by RL.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np

from rlhf_core.reproduction.answering import Reply
from rlhf_core.reproduction.claims import Figure, Found
from rlhf_core.reproduction.measures.judged import JudgedPolicies, JudgedSeed, Table
from rlhf_core.reproduction.measures.statistics import bootstrap
from rlhf_core.reproduction.profiles import ReproductionProfile
from rlhf_core.worlds.miniature.judge import judge

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
    one = [start] + [_gold(judged, f"over-one-{k}") for k in parts]
    several = [start] + [_gold(judged, f"over-{k}") for k in parts]
    falls = {"one model": _fall(one), "ensemble": _fall(several)}
    zero = _mean(start)
    rl = _points(judged, [f"over-one-{k}" for k in parts], one[1:])
    penalised = _points(
        judged,
        [f"over-one-{name}" for name in PENALTIES],
        [_gold(judged, f"over-one-{name}") for name in PENALTIES],
    )
    best_of = _best_of(judged, "reward-one")
    figures = {f"fall after the peak, {name}": figure for name, figure in falls.items()}
    figures["less fall with the ensemble"] = Figure(
        falls["one model"].value - falls["ensemble"].value
    )
    figures["fit of best-of-n"] = Figure(
        _fit([(d, g - best_of[0][1]) for d, g in best_of], lambda d: d * d), about="R squared"
    )
    figures["fit of PPO"] = Figure(
        _fit([(d, g - zero) for d, g in [*rl, *penalised]], lambda d: d * math.log(d)),
        about="R squared",
    )
    curves = {
        "gold, PPO, one model": [(0.0, zero), *rl],
        "gold, PPO, ensemble": [
            (0.0, zero),
            *_points(judged, [f"over-{k}" for k in parts], several[1:]),
        ],
        "gold, best-of-n, one model": best_of,
        "score, PPO, one model": _scores(judged, [f"over-one-{k}" for k in parts]),
        "gold, PPO with a penalty": sorted(penalised),
    }
    return Found(figures, curves=curves, axes=("square root of KL, nats", "reward"))


def _gold(judged: JudgedPolicies, stage: str) -> Table:
    """The gold reward of a stage's replies to the mixed set; (S, N)."""
    return [_judged(one, one.kept.facts(stage)["replies"]["mixed"]) for one in judged.seeds]


def _judged(one: JudgedSeed, replies: Sequence[Reply]) -> list[float]:
    pairs = zip(one.asked("mixed"), replies, strict=True)
    return [judge(request, text, finished=ended).gold for request, (text, ended) in pairs]


def _fall(path: Sequence[Table]) -> Figure:
    """How much lower the end of a run is than its best point, which is found once."""
    best = max(range(len(path)), key=lambda k: _mean(path[k]))
    return bootstrap([path[best], path[-1]], lambda m: m[0] - m[1], about=f"peak at part {best}")


def _points(judged: JudgedPolicies, names: Sequence[str], gold: Sequence[Table]) -> Points:
    """Distance and mean gold reward where these stages end."""
    return [(_distance(judged, n), _mean(table)) for n, table in zip(names, gold, strict=True)]


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


def _best_of(judged: JudgedPolicies, reward: str) -> Points:
    """Distance and mean gold reward of best-of-n; the KL is at most log n - (n - 1) / n.

    Source:
        Stiennon et al. 2020, arXiv:2009.01325, appendix G.3.
    """
    steps = judged.facts("best-of-each")
    found = []
    for place, row in enumerate(steps[0][reward]):
        n = row["n"]
        gold = [
            _judged(one, facts[reward][place]["replies"])
            for one, facts in zip(judged.seeds, steps, strict=True)
        ]
        found.append((math.sqrt(math.log(n) - (n - 1) / n), _mean(gold)))
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


def _mean(table: Table) -> float:
    return float(np.mean(table))
