"""How often each rater is right, without knowing which text is better: one-coin Dawid-Skene.

Pure functions. Shapes: V judgements, R raters.

Source:
    Dawid and Skene 1979, https://doi.org/10.2307/2346806, with one probability for each rater in
    place of a confusion matrix, and a Beta prior for it.
"""

import numpy as np

from feedback_store.raters.agreement import Array, VoteArrays

_MOST_SURE = 3.0  # log-odds, 95%: the others are never believed more, however many they are
_ROUNDS = 100
_CAMP_ROUNDS = 50  # enough to show a camp; with more, rounding would decide between equal ones


def right_and_wrong(votes: VoteArrays, prior: Array, heard: Array) -> Array:
    """Expected counts of right and wrong judgements of each rater, `prior` included, (R, 2).

    Rater r is right with probability p_r, whichever text is better. Expectation-maximization: the
    p_r say how probably each judgement is right, and these probabilities, counted, give p_r.

    It differs from the paper where raters may be hostile. A rater who is mostly wrong has no say,
    and is not believed the other way round. The others on a subject are never believed beyond 95%.
    A judgement that no other rater shares is left out, as the model would always call it right.

    Args:
        votes: Judgements without ties.
        prior: Pseudo-counts of Beta(right, wrong), and the gold questions. (R, 2)
        heard: Whether a rater's judgements measure others; everybody is measured. (R,)
    """
    met = votes.met(heard)  # (V,)
    # The start decides which side wins where two contradict each other.
    counts = np.where(_smaller_camp(votes, prior, heard)[:, None], prior[:, ::-1], prior)  # (R, 2)
    for _ in range(_ROUNDS):
        skill = np.log(counts[:, 0] / counts[:, 1])  # log(p / (1 - p)) (R,)
        trust = heard * np.maximum(0, skill)
        # E step: the log-odds that a judgement is right are the rater's own, plus those of the
        # others who say the same, minus those of the others who say the opposite.
        others = votes.verdict * votes.others(votes.verdict * trust[votes.who])  # (V,)
        right = 1 / (1 + np.exp(-np.clip(others, -_MOST_SURE, _MOST_SURE) - skill[votes.who]))
        # M step: p = counts[0] / (counts[0] + counts[1]), the mean of the Beta distribution.
        # All pairs of a ranking are one judgement together.
        known = met * votes.weight
        found = [np.bincount(votes.who, known * p, len(prior)) for p in (right, 1 - right)]
        counts = prior + np.stack(found, axis=1)
    return counts


def _smaller_camp(votes: VoteArrays, prior: Array, heard: Array) -> Array:
    """Whether each rater is on the smaller of two sides that contradict each other. (R,) of bool.

    Accounts under one hand repeat each other and outvote everybody else on their subjects, so a
    majority vote would begin by believing them. The leading eigenvector of the agreement between
    raters tells the sides apart.

    Source:
        Ghosh, Kale and McAfee 2011, https://doi.org/10.1145/1993574.1993599. They ask one good
        rater which side is right; here the sum of the prior log-odds decides: numbers and gold.
    """
    others = np.maximum(1, votes.others(heard[votes.who]))  # (V,)
    known = votes.weight * votes.met(heard)  # (V,)
    judged = np.bincount(votes.who, known, len(heard))  # (R,)
    judged = np.where(judged > 0, judged, 1.0)

    def agreeing(leaning: Array) -> Array:
        """How far each rater agrees with the others, who count as they lean, (R,)."""
        mean = votes.others(votes.verdict * leaning[votes.who]) / others
        return heard * np.bincount(votes.who, known * votes.verdict * mean, len(heard)) / judged

    # Power iteration; the term 2 makes all eigenvalues positive, so the largest one wins.
    leaning = heard.astype(float)
    for _ in range(_CAMP_ROUNDS):
        leaning = 2 * leaning + agreeing(leaning)
    # Then all members of a side count the same. So a rater who agrees with the accounts on their
    # few subjects stays with those whom they mostly agree with. A rater between the sides stays.
    leaning = np.sign(leaning)
    for _ in range(_CAMP_ROUNDS):
        leaning = np.sign(leaning / 100 + agreeing(leaning))
    larger = np.sign(round(float(leaning @ np.log(prior[:, 0] / prior[:, 1])), 6))
    # Only raters whom someone of the other side contradicts are a camp. Otherwise raters who all
    # failed gold and agree with each other would have a negative sum, and would begin as believed.
    against = [votes.others((heard * (leaning * side < 0))[votes.who]) for side in (1, -1)]  # (V,)
    met = np.where(leaning[votes.who] > 0, *against) > 0
    contradicted = np.bincount(votes.who, met, len(heard)) > 0  # (R,)
    return np.asarray((leaning * larger < 0) & contradicted)
