"""How reliable each rater is, and who is to be quarantined: pure functions.

A rater is right with some probability: 1/2 for a coin, less for a rater who says the opposite of
what they find. It is estimated from counts of right and wrong: a prior, gold questions, and
judgements that are shared with other raters (`dawid_skene`). Invariants: a rater without shared
judgements and gold questions is not doubted; a few judgements change little; the order of raters
and judgements changes nothing.
"""

import math
import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from feedback_store.raters.agreement import (
    Array,
    PairVote,
    shares_agreeing,
    vote_arrays,
)
from feedback_store.raters.behaviour import MOST_VOTES, WITHIN_S, Behaviour
from feedback_store.raters.dawid_skene import right_and_wrong


@dataclass(frozen=True, slots=True)
class QualitySettings:
    """What is expected of a rater, and when a rater is quarantined.

    Source:
        The labelers of InstructGPT (arXiv 2203.02155, section 3.4) agreed with each other in 73% of
        cases, so each was right in about 84%. Visitors are not trained, hence 70%.
    """

    prior_right: float = 7.0  # the prior is Beta(right, wrong): pseudo-counts
    prior_wrong: float = 3.0
    fewest_shared: int = 10  # shared judgements (a ranking is one) before they can quarantine
    contrary: float = 0.95  # quarantine if p < 1/2 is more probable than this
    fewest_gold: int = 10  # answers to gold questions before they can
    gold_share: float = 0.6  # quarantine below this share of right answers
    one_side: float = 0.9  # quarantine from this share of one side on, if it is not chance ...
    false_alarms: float = 0.01  # ... by a test that flags any honest rater with this probability
    fewest_bursts: int = 2  # quarantine from so many bursts of votes on; a note for fewer
    fewest_copies: int = 10  # prompts answered with the same text before that counts
    copied_share: float = 0.9  # quarantine from this share of prompts on; to fewer, one text ...
    noted_copied_share: float = 0.5  # ... may be an honest answer: a note above this share
    position_bias: float = 0.2  # log-odds; a note above it


@dataclass(frozen=True, slots=True)
class RaterReport:
    """What an assessment found of one rater; an unknown share is None.

    `quarantine` is the reason for a quarantine, if there is one; `notes` are for the operator.
    """

    rater_id: str
    votes: int
    shared: int
    agreement: float | None
    gold_right: int
    gold_total: int
    left_share: float | None
    fast_share: float | None
    reliability: float
    quarantine: str | None
    notes: tuple[str, ...] = ()


def assess(
    behaviours: Sequence[Behaviour],
    judgements: Iterable[PairVote],
    settings: QualitySettings | None = None,
) -> list[RaterReport]:
    """Assess every rater, sorted by id.

    Args:
        behaviours: Each rater once.
        judgements: By these raters, at most one each of a subject. Ties say nothing of skill.
        settings: The defaults if None.
    """
    if not behaviours:
        return []
    s, raters = settings or QualitySettings(), sorted(behaviours)
    # First what each rater did alone. The more raters, the rarer an accident has to be.
    usual, alarm = _usual_left(raters), s.false_alarms / len(raters)  # Bonferroni's correction
    found = [list(_findings(e, usual, alarm, s)) for e in raters]
    reasons = [next((words for held, words in each if held), None) for each in found]
    # Then what others say. A rater to be quarantined is measured, but measures nobody.
    heard = np.array([not (e.quarantined or why) for e, why in zip(raters, reasons, strict=True)])
    right = [s.prior_right + e.gold_right for e in raters]
    wrong = [s.prior_wrong + e.gold_total - e.gold_right for e in raters]
    decided = [vote for vote in judgements if vote.verdict]
    votes = vote_arrays(decided, [e.rater_id for e in raters])
    agreeing = shares_agreeing(votes.shared(np.ones(len(raters))), len(raters))
    votes = votes.shared(heard)
    shared = np.bincount(votes.who, votes.weight, len(raters)).tolist()
    counts = right_and_wrong(votes, np.column_stack([right, wrong]), heard)
    return [
        RaterReport(
            rater_id=e.rater_id,
            votes=e.votes,
            shared=round(shared[i]),
            agreement=agreeing[i],
            gold_right=e.gold_right,
            gold_total=e.gold_total,
            left_share=e.left / e.sided if e.sided else None,
            fast_share=e.fast / e.timed if e.timed else None,
            reliability=_reliability(counts[i], shared[i], e, s),
            quarantine=reasons[i] or _contrariness(counts[i], shared[i], s),
            notes=tuple(words for held, words in found[i] if not held),
        )
        for i, e in enumerate(raters)
    ]


def _reliability(counts: Array, shared: float, e: Behaviour, s: QualitySettings) -> float:
    """1 if right as often as expected, 0 for a coin or worse; a choice made too fast counts 0.

    Others may be wrong, too, and few shared judgements are mostly of pairs that hardly differ. So
    what they say takes weight in proportion to their number, until there are enough of them for a
    quarantine. The right answers of gold questions are known, so these count at once.
    """
    right = s.prior_right + e.gold_right
    by_gold = _skill(right, s.prior_right + s.prior_wrong + e.gold_total, s)
    by_all = _skill(float(counts[0]), float(counts.sum()), s)
    skill = by_gold + (by_all - by_gold) * min(1.0, shared / s.fewest_shared)
    read = 1 - e.fast / (e.timed + s.prior_wrong)
    return round(skill * read, 4)


def _skill(right: float, total: float, s: QualitySettings) -> float:
    """Where a share lies between a coin's and the expected one, in [0, 1]."""
    expected = s.prior_right / (s.prior_right + s.prior_wrong)
    return min(1.0, max(0.0, (right / total - 0.5) / (expected - 0.5)))


def _contrariness(counts: Array, shared: float, s: QualitySettings) -> str | None:
    """Why a rater is quarantined for what others say: Beta(right, wrong) is mostly below 1/2."""
    # P(Beta(a, b) < 1/2) is the probability of a or more heads in a + b - 1 coin tosses.
    contrary = at_least(round(counts[0]), round(counts.sum()) - 1, 0.5)
    if round(shared, 6) < s.fewest_shared or contrary <= s.contrary:
        return None
    return (
        f"contradicts the others on {shared:.0f} shared judgements "
        f"(probability of being contrary {contrary:.3f})"
    )


def _findings(
    e: Behaviour, usual: float, alarm: float, s: QualitySettings
) -> Iterator[tuple[bool, str]]:
    """What a rater did alone: whether they are quarantined for it, and what it was, in words.

    What only becomes a note may be honest, such as a habit or an upload.

    Args:
        e: What the rater did.
        usual: The left side's share of all choices.
        alarm: A finding must be less probable than this for an honest rater.
        s: The limits.
    """
    if e.gold_total >= s.fewest_gold and e.gold_right / e.gold_total < s.gold_share:
        yield (
            True,
            f"right in only {e.gold_right} of {e.gold_total} questions whose answers are known",
        )
    left = e.left > usual * e.sided
    side, often = ("left", e.left) if left else ("right", e.sided - e.left)
    if 2 * at_least(often, e.sided, usual if left else 1 - usual) < alarm:
        if often / e.sided >= s.one_side:
            yield True, f"chose the {side} side in {often} of {e.sided} choices"
        bias = _log_odds((e.left + 0.5) / (e.sided + 1)) - _log_odds(usual)
        if abs(bias) > s.position_bias:
            yield False, f"prefers the {side} side: position bias {bias:+.2f} in log-odds"
    if e.timed and at_least(e.fast, e.timed, 0.5) < alarm:
        yield True, f"made {e.fast} of {e.timed} choices too fast to have read the replies"
    share = e.copies / e.written if e.copies >= s.fewest_copies else 0.0
    if share > s.noted_copied_share:
        words = f"wrote the same answer to {e.copies} of {e.written} different prompts"
        yield share >= s.copied_share, words
    if e.bursts:
        times = f" on {e.bursts} occasions" if e.bursts > 1 else ""
        words = f"gave more than {MOST_VOTES} votes within {WITHIN_S:g} seconds{times}"
        yield e.bursts >= s.fewest_bursts, words


def _usual_left(raters: Sequence[Behaviour]) -> float:
    """The left side's usual share of choices: 1/2, unless sides were not drawn by lot."""
    shares = [e.left / e.sided for e in raters if e.sided >= 10]
    return min(0.8, max(0.2, statistics.median(shares))) if len(shares) >= 3 else 0.5


def _log_odds(share: float) -> float:
    return math.log(share / (1 - share))


def at_least(k: int, n: int, p: float) -> float:
    """The binomial probability of `k` or more of `n`, each of probability `p`."""

    def probability(i: int) -> float:
        ways = math.lgamma(n + 1) - math.lgamma(i + 1) - math.lgamma(n - i + 1)
        return math.exp(ways + i * math.log(p) + (n - i) * math.log(1 - p))

    return math.fsum(map(probability, range(k, n + 1)))
