"""What held-out raters say of a cycle: reported beside the gate's checks, and deciding nothing.

No vote in the split `held_out_raters` trains anything, so the reward model cannot have learnt the
tastes of those raters. Two figures follow, each with bounds: how well the reward model predicts
their votes, and how often the candidate wins on their prompts. Where there is too little to tell,
the metrics say how much is needed, and there is no figure.

InstructGPT's held-out labelers compared the policies themselves. Nobody here has seen a reply of
the candidate yet, so the held-out reward model compares the policies for them.

Source:
    Ouyang et al. 2022, arXiv:2203.02155, sections 3.4 and 4.1.
"""

import math
from collections.abc import Callable, Sequence

from rlhf_core.gate.evaluation import Accuracy, Evaluation, accuracy
from rlhf_core.records import Comparison, Prompt
from rlhf_core.scores import Score

FEWEST_VOTES = 20  # fewer leave an interval of more than 40 points
FEWEST_RATERS = 5  # fewer, and the figure is about which raters chance held out


def are_enough(raters: Sequence[str]) -> bool:
    """Whether the votes that these raters cast, one entry a vote, suffice for a figure."""
    return len(raters) >= FEWEST_VOTES and len(set(raters)) >= FEWEST_RATERS


def measure_votes(
    score: Score,
    votes: Sequence[Comparison],
    raters: Sequence[str],
    *,
    on_questions: Accuracy,
    z: float,
) -> dict[str, float]:
    """How well the reward model predicts held-out raters, and how much worse than other votes.

    Args:
        score: The reward model that PPO climbs.
        votes: Their decided votes; empty if they are not enough.
        raters: Who cast each of their decided votes.
        on_questions: How well the same reward model predicts the votes on held-out questions.
        z: One-sided normal quantile of the bounds.

    Returns:
        `held_out_raters/votes` and `.../raters`, then either `.../reward_accuracy` and
        `.../reward_accuracy_drop`, each with `_low` and `_high`, or how many votes and raters are
        needed (`.../votes_needed`, `.../raters_needed`).

    Source:
        Newcombe 1998, Statistics in Medicine 17:873, method 10: the interval of a difference of
        two proportions from the Wilson interval of each.
    """
    found = {"votes": float(len(raters)), "raters": float(len(set(raters)))}
    if not are_enough(raters):
        return _named(found | {"votes_needed": FEWEST_VOTES, "raters_needed": FEWEST_RATERS})
    # The claim is about raters whom nobody has heard yet, so the rater is what was drawn: votes of
    # one rater are one cluster. Clusters are few, so the quantile is Student's.
    theirs = accuracy(score, votes, z=student_quantile(z, len(set(raters)) - 1), clusters=raters)
    drop = on_questions.value - theirs.value
    down = math.hypot(on_questions.value - on_questions.low, theirs.high - theirs.value)
    up = math.hypot(on_questions.high - on_questions.value, theirs.value - theirs.low)
    found |= _interval("reward_accuracy", theirs.low, theirs.value, theirs.high)
    return _named(found | _interval("reward_accuracy_drop", drop - down, drop, drop + up))


def measure_prompts(
    prompts: Sequence[Prompt],
    compare: Callable[[Sequence[Prompt]], Evaluation],
    *,
    needed: int,
) -> dict[str, float]:
    """How often the candidate beats the served policy on what held-out raters asked.

    Args:
        prompts: Their prompts that neither policy was trained on in this cycle, each once.
        compare: Compares the policies on prompts, as for the gate: one prompt is one cluster.
        needed: The fewest prompts that say something about others.

    Returns:
        `held_out_raters/prompts`, then either `.../win_rate` with `_low` and `_high`, or
        `.../prompts_needed`.
    """
    found = {"prompts": float(len(prompts))}
    if len(prompts) < needed:
        return _named(found | {"prompts_needed": float(needed)})
    e = compare(prompts)
    return _named(found | _interval("win_rate", e.win_rate_low, e.win_rate, e.win_rate_high))


def student_quantile(z: float, freedom: int) -> float:
    """The quantile of Student's t at the level at which the normal quantile is `z`.

    Source:
        Abramowitz and Stegun 1964, 26.7.5, to the second order: within 2% from 4 degrees on.
    """
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    return z + first / freedom + second / freedom**2


def _interval(name: str, low: float, value: float, high: float) -> dict[str, float]:
    return {name: value, f"{name}_low": low, f"{name}_high": high}


def _named(found: dict[str, float]) -> dict[str, float]:
    return {f"held_out_raters/{name}": round(value, 4) for name, value in found.items()}
