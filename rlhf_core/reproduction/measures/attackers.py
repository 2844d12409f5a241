"""Claim 12: reward models from votes of which some are hostile, with two ways to weigh raters.

The same rankings teach both models of a share; only their weights differ. Test pairs are those of
claims 9 and 13: two replies by SFT about subjects that teach no reward model.
"""

from rlhf_core.reproduction.claims import Figure, Found
from rlhf_core.reproduction.labelling import HOSTILE, WEIGHTINGS
from rlhf_core.reproduction.measures.judged import JudgedPolicies
from rlhf_core.reproduction.measures.prediction import right_by_gold
from rlhf_core.reproduction.measures.statistics import bootstrap, share_within


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
    people = judged.seeds[0].kept.profile.labelers
    hostile = ", ".join(str(round(percent * people / 100)) for percent in HOSTILE)
    return Found(
        figures,
        [f"{rankings} rankings, two of each prompt's replies; hostile: {hostile} of {people}"],
    )


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
