"""What held-out raters say about a cycle: two figures in its report, which decide nothing.

Votes in the split `held_out_raters` train nothing, so the reward model cannot have learnt these
raters' tastes. The figures are how well it predicts their votes, and how often the candidate wins
on their prompts, each with bounds. With too few votes or prompts there is no figure; the metrics
then say how many are needed.

InstructGPT's held-out labelers compared the policies themselves. Here no rater has seen a reply of
the candidate yet, so the held-out reward model compares the policies for them.

Source:
    Ouyang et al. 2022, arXiv:2203.02155, sections 3.4 and 4.1.
"""

import math
from collections.abc import Callable, Sequence

from scipy.stats import norm, t

from rlhf_core.gate.evaluation import Accuracy, Evaluation, accuracy
from rlhf_core.records import Comparison, Prompt
from rlhf_core.reward.reward_data import opinion_keys
from rlhf_core.reward.reward_model import Score

FEWEST_VOTES = 20  # with fewer, the interval is wider than 40 points
FEWEST_RATERS = 5  # with fewer, chance decides the figure: it decides who is held out
Interval = tuple[float, float, float]  # lower bound, value, upper bound


def are_enough(raters: Sequence[str]) -> bool:
    """Whether there are enough votes for a figure.

    ``raters`` has the rater of each vote; a ranking is one, however many pairs it has.
    """
    return len(raters) >= FEWEST_VOTES and len(set(raters)) >= FEWEST_RATERS


def measure_votes(
    score: Score,
    votes: Sequence[Comparison],
    raters: Sequence[str],
    *,
    on_questions: Accuracy,
    z: float,
) -> dict[str, float]:
    """How well the reward model predicts held-out raters, and how much worse than other raters.

    Args:
        score: The reward model that PPO optimises.
        votes: Decided comparisons of held-out raters; empty if they are too few.
        raters: The rater of each comparison; if there are none, of each vote that was too few.
        on_questions: The same reward model's accuracy on votes on held-out questions.
        z: One-sided normal quantile of the bounds.

    Returns:
        `held_out_raters/votes` and `.../raters`, then either `.../reward_accuracy` and
        `.../reward_accuracy_drop`, each with `_low` and `_high`, or how many votes and raters are
        needed (`.../votes_needed`, `.../raters_needed`).

    Source:
        Newcombe 1998, Statistics in Medicine 17:873, method 10: the interval of a difference of
        two proportions from the Wilson interval of each.
    """
    n = len(set(raters))
    cast_by = [*dict(zip(opinion_keys(votes), raters, strict=True)).values()] if votes else raters
    counts: dict[str, float] = {"votes": len(cast_by), "raters": n}
    if not are_enough(cast_by):
        return _metrics(counts | {"votes_needed": FEWEST_VOTES, "raters_needed": FEWEST_RATERS})
    # The figure is about raters who have not voted yet. So raters are the sample: the votes of one
    # are one cluster, and because clusters are few the quantile is Student's.
    theirs = accuracy(score, votes, z=float(t.isf(norm.sf(z), n - 1)), clusters=raters)
    drop = on_questions.value - theirs.value
    down = math.hypot(on_questions.value - on_questions.low, theirs.high - theirs.value)
    up = math.hypot(on_questions.high - on_questions.value, theirs.value - theirs.low)
    figures = {"reward_accuracy": (theirs.low, theirs.value, theirs.high)}
    if on_questions.votes:  # without a vote on a held-out question there is nothing to drop from
        figures["reward_accuracy_drop"] = (drop - down, drop, drop + up)
    return _metrics(counts, **figures)


def measure_prompts(
    prompts: Sequence[Prompt],
    compare: Callable[[Sequence[Prompt]], Evaluation],
    *,
    needed: int,
) -> dict[str, float]:
    """How often the candidate beats the served policy on prompts of held-out raters.

    Args:
        prompts: Their prompts that trained neither policy in this cycle, each once.
        compare: Compares the policies on prompts, as the gate does: one prompt is one cluster.
        needed: The smallest number of prompts for a figure.

    Returns:
        `held_out_raters/prompts`, then either `.../win_rate` with `_low` and `_high`, or
        `.../prompts_needed`.
    """
    counts: dict[str, float] = {"prompts": len(prompts)}
    if len(prompts) < needed:
        return _metrics(counts | {"prompts_needed": needed})
    e = compare(prompts)
    return _metrics(counts, win_rate=(e.win_rate_low, e.win_rate, e.win_rate_high))


def _metrics(counts: dict[str, float], **intervals: Interval) -> dict[str, float]:
    """Metrics by their full names, as floats of four digits."""
    found = dict(counts)
    for name, (low, value, high) in intervals.items():
        found |= {name: value, f"{name}_low": low, f"{name}_high": high}
    return {f"held_out_raters/{name}": round(float(value), 4) for name, value in found.items()}
