"""Claim 7: skills that PPO loses, and what wins them back: the ptx term, or a larger KL penalty."""

import numpy as np

from rlhf_core.reproduction.claims import Figure, Found
from rlhf_core.reproduction.measures.judged import JudgedPolicies
from rlhf_core.reproduction.measures.statistics import Array, Table, bootstrap, difference, share
from rlhf_core.worlds.miniature.skills import SKILLS, Skill, questions


def skills_lost_and_won_back(judged: JudgedPolicies) -> Found:
    """The claim's figures; `kl-X` are PPO runs with the penalty X instead of ptx."""
    policies, names = ["base", "sft", "ppo", "ptx"], SKILLS
    table = {p: {skill: _items(judged, p, skill) for skill in names} for p in policies}
    falls = {s: difference(table["base"][s], table["ppo"][s], "base less PPO") for s in names}
    fallen = [s for s in names if (falls[s].low or 0) > 0]
    figures = {"skills that fall": Figure(len(fallen), about=", ".join(fallen))}
    figures["won back"] = _won_back(table, fallen)
    penalties = list(judged.seeds[0].kept.profile.penalties)
    mean = {p: mean_skill(judged, p) for p in [*policies, *penalties]}
    score = {p: _mean_score(judged, p) for p in [*policies, *penalties]}
    as_good = [p for p in penalties if mean[p] >= mean["ptx"] and score[p] >= score["ptx"]]
    figures["KL penalties that do as well"] = Figure(
        len(as_good), about="as many skills and as high a score as with ptx"
    )
    figures |= {f"fall of {skill}": figure for skill, figure in falls.items()}
    for policy in policies:
        figures |= {f"{s}, {policy}": share(table[policy][s]) for s in names}
    for policy in [*policies, *penalties]:
        figures[f"mean skill, {policy}"] = Figure(mean[policy])
        figures[f"score, {policy}"] = Figure(score[policy])
    frontier = sorted((mean[p], score[p]) for p in ["ppo", *penalties])
    curves = {"PPO by KL penalty": frontier, "PPO-ptx": [(mean["ptx"], score["ptx"])]}
    return Found(figures, curves=curves, axes=("mean skill", "score by the reward model"))


def _won_back(table: dict[str, dict[Skill, Table]], fallen: list[Skill]) -> Figure:
    """The share of the summed fall that PPO-ptx does not have; more than the base counts as it."""
    if not fallen:
        return Figure(float("nan"), about="no skill falls surely")
    rows = [table[p][s] for p in ("base", "ppo", "ptx") for s in fallen]
    n = len(fallen)

    def recovered(means: Array) -> Array:
        base, ppo, ptx = means[:n], means[n : 2 * n], means[2 * n :]
        with np.errstate(divide="ignore", invalid="ignore"):  # a draw in which nothing falls
            back: Array = (ptx.clip(max=base) - ppo).sum(0) / (base - ppo).sum(0)
        return back

    return bootstrap(rows, recovered, about="of the summed fall")


def _items(judged: JudgedPolicies, policy: str, skill: Skill) -> Table:
    """Which items were right, (S, N); those with the same last line are one cluster."""
    rows = [facts["skills"][skill] for facts in judged.facts(f"skills-{policy}")]
    asked = [
        [item.given.split("\n")[-1] for item in questions(skill, len(row), one.kept.seed)]
        for one, row in zip(judged.seeds, rows, strict=True)
    ]
    return Table(np.array(rows, dtype=np.float64), np.array(asked))


def mean_skill(judged: JudgedPolicies, policy: str) -> float:
    """The share of right items, the mean over skills, prompts and seeds."""
    return sum(_items(judged, policy, skill).mean for skill in SKILLS) / len(SKILLS)


def _mean_score(judged: JudgedPolicies, policy: str) -> float:
    scores = [float(facts["score"]) for facts in judged.facts(f"skills-{policy}")]
    return sum(scores) / len(scores)
