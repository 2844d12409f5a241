"""How far a rater's word can be relied on, and who is to be quarantined: pure functions.

A rater says what is right with some probability: 1/2 for a coin, less for someone who says the
opposite of what they find. What is known of it is counted as judgements right and wrong: a prior,
gold questions, and judgements of what others judged, too, by `right_and_wrong`. Invariants: nobody
who shares nothing with others and took no test is doubted; a few judgements move a rater little;
results do not depend on the order of raters or judgements.
"""

import math
import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from feedback_store.raters.agreement import (
    Array,
    PairVote,
    right_and_wrong,
    shares_agreeing,
    vote_arrays,
)
from feedback_store.raters.behaviour import MOST_VOTES, WITHIN_S, Behaviour


@dataclass(frozen=True, slots=True)
class QualitySettings:
    """What is expected of a rater, and when one is quarantined.

    Source:
        The labelers of InstructGPT (arXiv 2203.02155, section 3.4) agreed with each other in 73% of
        cases, so each was right in about 84%; visitors are no trained labelers, hence 70%.
    """

    prior_right: float = 7.0  # the prior is Beta(right, wrong): as if so many were seen
    prior_wrong: float = 3.0
    fewest_shared: int = 10  # judgements shared with others, before they can speak against one
    contrary: float = 0.95  # quarantine if it is so probable that one is right less than half
    fewest_gold: int = 10
    gold_share: float = 0.6  # quarantine below it
    one_side: float = 0.9  # quarantine at or above it on one side, if that is no accident ...
    false_alarms: float = 0.01  # ... the chance that any of all honest raters is so flagged
    fewest_bursts: int = 2  # occasions of too many votes a minute; of fewer there is a note
    fewest_copies: int = 10  # prompts answered with one text, before that speaks against one
    copied_share: float = 0.9  # quarantine at or above it; one text may be the honest answer ...
    noted_copied_share: float = 0.5  # ... to half of the prompts and more; above it there is a note
    position_bias: float = 0.2  # in log-odds; above it there is a note


@dataclass(frozen=True, slots=True)
class RaterReport:
    """What an assessment found of one rater; shares are None where nothing is known.

    `quarantine` is the reason for one, if there is; `notes` are for a person to look at.
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
    evidence: Sequence[Behaviour],
    judgements: Iterable[PairVote],
    settings: QualitySettings | None = None,
) -> list[RaterReport]:
    """Assess every rater, sorted by id.

    Args:
        evidence: Each rater once.
        judgements: Of these raters, at most one each of a subject; ties say nothing of skill.
        settings: The defaults if None.
    """
    if not evidence:
        return []
    s, evidence = settings or QualitySettings(), sorted(evidence)
    usual, alarm = usual_left(evidence), s.false_alarms / len(evidence)
    found = [list(_findings(e, usual, alarm, s)) for e in evidence]
    reasons = [next((words for held, words in each if held), None) for each in found]
    # Whoever is out for what they did by themselves is measured, but measures nobody.
    heard = np.array([not (e.quarantined or why) for e, why in zip(evidence, reasons, strict=True)])
    right = [s.prior_right + e.gold_right for e in evidence]
    wrong = [s.prior_wrong + e.gold_total - e.gold_right for e in evidence]
    decided = [vote for vote in judgements if vote.verdict]
    votes = vote_arrays(decided, [e.rater_id for e in evidence])
    agreeing = shares_agreeing(votes, len(evidence))
    shared = np.bincount(votes.who, votes.met(heard), len(evidence)).astype(int).tolist()
    counts = right_and_wrong(votes, np.column_stack([right, wrong]), heard)
    return [
        RaterReport(
            rater_id=e.rater_id,
            votes=e.votes,
            shared=shared[i],
            agreement=agreeing[i],
            gold_right=e.gold_right,
            gold_total=e.gold_total,
            left_share=e.left / e.sided if e.sided else None,
            fast_share=e.fast / e.timed if e.timed else None,
            reliability=_reliability(counts[i], e, s),
            quarantine=reasons[i] or _contrariness(counts[i], shared[i], s),
            notes=tuple(words for held, words in found[i] if not held),
        )
        for i, e in enumerate(evidence)
    ]


def _reliability(counts: Array, e: Behaviour, s: QualitySettings) -> float:
    """1 for whoever is right as often as expected, 0 for a coin or worse; fast choices count 0."""
    expected = s.prior_right / (s.prior_right + s.prior_wrong)
    skill = (float(counts[0] / counts.sum()) - 0.5) / (expected - 0.5)
    read = 1 - e.fast / (e.timed + s.prior_wrong)
    return round(min(1.0, max(0.0, skill)) * read, 4)


def _contrariness(counts: Array, shared: int, s: QualitySettings) -> str | None:
    """Why a rater is quarantined for what the others say, if Beta(right, wrong) is below 1/2."""
    # P(Beta(a, b) < 1/2) is the chance of a heads or more when a + b - 1 coins are tossed.
    contrary = _at_least(round(counts[0]), round(counts.sum()) - 1, 0.5)
    if shared < s.fewest_shared or contrary <= s.contrary:
        return None
    return (
        f"contradicts the others on {shared} shared judgements "
        f"(probability of being contrary {contrary:.3f})"
    )


def _findings(
    e: Behaviour, usual: float, alarm: float, s: QualitySettings
) -> Iterator[tuple[bool, str]]:
    """What a rater did by themselves: whether they are to be quarantined for it, and in words.

    The rest is no accident either, but may be honest, a habit or an upload: the comparisons stay.

    Args:
        e: What the rater did.
        usual: The left side's share of everybody's choices.
        alarm: Only what chance does more rarely counts.
        s: Where the limits are.
    """
    if e.gold_total >= s.fewest_gold and e.gold_right / e.gold_total < s.gold_share:
        yield True, f"right in only {e.gold_right} of {e.gold_total} gold questions"
    left = e.left > usual * e.sided
    side, often = ("left", e.left) if left else ("right", e.sided - e.left)
    if 2 * _at_least(often, e.sided, usual if left else 1 - usual) < alarm:
        if often / e.sided >= s.one_side:
            yield True, f"chose the {side} side in {often} of {e.sided} choices"
        bias = _log_odds((e.left + 0.5) / (e.sided + 1)) - _log_odds(usual)
        if abs(bias) > s.position_bias:
            yield False, f"prefers the {side} side: position bias {bias:+.2f} in log-odds"
    if e.timed and _at_least(e.fast, e.timed, 0.5) < alarm:
        yield True, f"made {e.fast} of {e.timed} choices too fast to have read the replies"
    share = e.copies / e.written if e.copies >= s.fewest_copies else 0.0
    if share > s.noted_copied_share:
        words = f"wrote the same answer to {e.copies} of {e.written} different prompts"
        yield share >= s.copied_share, words
    if e.bursts:
        times = f" on {e.bursts} occasions" if e.bursts > 1 else ""
        words = f"gave more than {MOST_VOTES} votes within {WITHIN_S:g} seconds{times}"
        yield e.bursts >= s.fewest_bursts, words


def usual_left(all_of: Sequence[Behaviour]) -> float:
    """The left side's usual share: 1/2 where sides are drawn by lot, but they may not have been."""
    shares = [e.left / e.sided for e in all_of if e.sided >= 10]
    return min(0.8, max(0.2, statistics.median(shares))) if len(shares) >= 3 else 0.5


def _log_odds(share: float) -> float:
    return math.log(share / (1 - share))


def _at_least(k: int, n: int, p: float) -> float:
    """The chance of `k` or more of `n`, each of chance `p`."""

    def chance(i: int) -> float:
        ways = math.lgamma(n + 1) - math.lgamma(i + 1) - math.lgamma(n - i + 1)
        return math.exp(ways + i * math.log(p) + (n - i) * math.log(1 - p))

    return math.fsum(map(chance, range(k, n + 1)))
