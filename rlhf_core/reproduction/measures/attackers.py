"""Claim 12: reward models from votes of which some are hostile, with two ways to weigh raters.

The same rankings teach both models of a share; only their weights differ. Test pairs are those of
claims 9 and 13: two replies by SFT about subjects that teach no reward model.
"""

from collections import Counter
from typing import get_args

from rlhf_core.reproduction.claims import Figure, Found
from rlhf_core.reproduction.labelling import HOSTILE, WEIGHTINGS
from rlhf_core.reproduction.measures.judged import JudgedPolicies
from rlhf_core.reproduction.measures.prediction import right_by_gold
from rlhf_core.reproduction.measures.statistics import bootstrap, share_within
from rlhf_core.worlds.miniature.labelers import Attack, labelers, with_adversaries


def weighing_raters(judged: JudgedPolicies) -> Found:
    """Claim 12: gold accuracy at each share of hostile labelers, and one share against another."""
    stages = {
        (percent, weights): f"hostile-{percent}-{weights}-reward"
        for percent in HOSTILE
        for weights in WEIGHTINGS
    }
    right, decided = right_by_gold(judged, list(stages.values()))

    def gain(new: tuple[int, str], old: tuple[int, str]) -> Figure:
        """How much more often the one is right than the other, on the same pairs."""
        inside = [decided.like(right[stages[k]].values * decided.values) for k in (new, old)]
        return bootstrap([*inside, decided], lambda means: (means[0] - means[1]) / means[2])

    figures = {"by agreement at 15% less equal at 5%": gain((15, "agreement"), (5, "equal"))}
    for percent in HOSTILE:
        figures[f"by agreement less equal, {percent}% hostile"] = gain(
            (percent, "agreement"), (percent, "equal")
        )
    for (percent, weights), stage in stages.items():
        named = "weights by agreement" if weights == "agreement" else "equal weights"
        figures[f"right by gold, {percent}% hostile, {named}"] = share_within(right[stage], decided)
    for percent in HOSTILE:
        figures |= _mean_weights(judged, percent)
    rankings = judged.facts(f"hostile-0-{WEIGHTINGS[0]}-votes")[0]["rankings"]
    drawn = "test pairs and seeds" if len(judged.seeds) > 1 else "test pairs"
    remarks = [
        f"{rankings} rankings, two of each prompt's replies",
        f"hostile: {'; '.join(_attacks(judged, percent) for percent in HOSTILE)}",
        f"one training each{' in each seed' * (len(judged.seeds) > 1)}; intervals are over {drawn}",
    ]
    return Found(figures, remarks)


def _attacks(judged: JudgedPolicies, percent: int) -> str:
    """How many labelers are hostile, and by which attack; it is the same in every seed."""
    one = judged.seeds[0].kept
    people = with_adversaries(
        labelers(one.profile.labelers, seed=one.seed, group="train"),
        share=percent / 100,
        seed=one.seed,
    )
    counted = Counter(who.attack for who in people if who.attack)
    said = ", ".join(f"{attack} {counted[attack]}" for attack in get_args(Attack))
    return f"{percent}%, {counted.total()} of {len(people)} labelers ({said})"


def _mean_weights(judged: JudgedPolicies, percent: int) -> dict[str, Figure]:
    """What the votes of honest and of hostile labelers count by agreement, on average."""
    every = [facts["mean weight"] for facts in judged.facts(f"hostile-{percent}-agreement-votes")]
    return {
        f"mean weight of {people} labelers, {percent}% hostile": Figure(
            sum(one[people] for one in every) / len(every)
        )
        for people in every[0]
        if every[0][people] is not None
    }
