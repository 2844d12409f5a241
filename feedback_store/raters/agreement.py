"""How far raters agree who judged the same two texts: pure functions.

A judgement has no sides: its two texts are in the order of their hashes, wherever they were shown.
Results do not depend on the order of the judgements.

Shapes: V judgements, S subjects, R raters. Rater `who[v]` judged subject `what[v]`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

_FEWEST_SUBJECTS = 10  # on fewer, equal verdicts may be chance

Array = np.ndarray[Any, Any]


class PairVote(NamedTuple):
    """One rater's verdict on a subject: two texts on one prompt."""

    subject: tuple[str, str, str]  # hashes of the prompt and of the two texts, these in order
    rater_id: str
    verdict: int  # 1: the first text is better; -1: the second; 0: a tie


def judgement(rater_id: str, prompt: str, texts: tuple[str, str], label: str) -> PairVote:
    """A comparison as a judgement; `texts` are the hashes of A and B, `label` is a, b or tie."""
    verdict = {"a": 1, "b": -1, "tie": 0}[label]
    if texts[0] > texts[1]:
        texts, verdict = (texts[1], texts[0]), -verdict
    return PairVote((prompt, *texts), rater_id, verdict)


class VoteArrays(NamedTuple):
    """Judgements as arrays of integers, each (V,)."""

    who: Array
    what: Array
    verdict: Array

    def others(self, values: Array) -> Array:
        """For each judgement the sum of the other judgements' values on its subject, (V,)."""
        return np.asarray(np.bincount(self.what, values)[self.what] - values)

    def met(self, heard: Array) -> Array:
        """For each judgement whether another rater who is `heard` judged its subject, (V,)."""
        return self.others(heard[self.who]) > 0


def vote_arrays(judgements: Iterable[PairVote], raters: Sequence[str]) -> VoteArrays:
    """The judgements of these raters; rater i is `raters[i]`."""
    number, subjects = {rater: i for i, rater in enumerate(raters)}, dict[Any, int]()
    votes = [
        (number[rater], subjects.setdefault(subject, len(subjects)), verdict)
        for subject, rater, verdict in sorted(judgements)
    ]
    return VoteArrays(*np.array(votes, dtype=np.intp).reshape(-1, 3).T)


@dataclass(frozen=True, slots=True)
class Agreement:
    """Krippendorff's alpha with its 95% interval: 1 is perfect, 0 is chance, below 0 is worse.

    `subjects` is how many subjects two or more of the `raters` judged. An alpha that is unknown is
    None, and `reason` says why.
    """

    alpha: float | None
    low: float | None
    high: float | None
    subjects: int
    raters: int
    reason: str | None = None


def agreement(judgements: Sequence[PairVote]) -> Agreement:
    """How far raters agree on the labels a, b and tie.

    Source:
        Krippendorff, Content Analysis (2018), chapter 12, nominal data: alpha = 1 - observed /
        expected disagreement. The interval is the normal one of a sum over subjects. As in the
        book, the expected disagreement counts as known.
    """
    raters = sorted({vote.rater_id for vote in judgements})
    votes = vote_arrays(judgements, raters)
    votes = VoteArrays(*(array[votes.met(np.ones(len(raters)))] for array in votes))
    said = np.stack([np.bincount(votes.what, votes.verdict == v) for v in (-1, 0, 1)])  # (3, S)
    said = said[:, said.any(axis=0)]
    subjects, met = said.shape[1], len(np.unique(votes.who))
    if not subjects:
        return Agreement(None, None, None, 0, 0, "no two raters judged the same two responses")
    times, n = said.sum(axis=0), said.sum()  # judgements of each subject (S,), and of all
    expected = (n**2 - (said.sum(axis=1) ** 2).sum()) / (n - 1)
    if not expected:
        reason = "all judgements are the same, so agreement cannot be told from a habit"
        if subjects < _FEWEST_SUBJECTS:
            reason = (
                f"two raters or more judged only {subjects} of the pairs of replies, "
                "too few to tell agreement from chance"
            )
        return Agreement(None, None, None, subjects, met, reason)
    differing = (times**2 - (said**2).sum(axis=0)) / (times - 1)  # (S,)
    alpha = 1 - differing.sum() / expected
    error = np.linalg.norm(differing - times * differing.sum() / n) / expected
    low, high = max(-1.0, alpha - 1.96 * error), min(1.0, alpha + 1.96 * error)
    return Agreement(float(alpha), float(low), float(high), subjects, met)


def shares_agreeing(votes: VoteArrays, raters: int) -> list[float | None]:
    """How often each rater agrees with another rater on a subject; a tie on one side is half."""
    meetings = np.bincount(votes.who, votes.others(np.ones(len(votes.who))), raters)
    # The product of two verdicts is 1 where they agree, -1 where they do not, 0 with a tie.
    balance = np.bincount(votes.who, votes.verdict * votes.others(votes.verdict), raters)
    return [
        float(1 + agreed / met) / 2 if met else None
        for agreed, met in zip(balance, meetings, strict=True)
    ]
