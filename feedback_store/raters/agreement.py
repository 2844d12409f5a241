"""Who agrees with whom, and who is right: statistics over raters who judged the same two texts.

Pure functions. A judgement has no sides: its two texts are put in the order of their hashes, so it
does not matter where they were shown. Results do not depend on the order of the judgements.

Arrays: V judgements, S subjects, R raters; judgement v is of rater `who[v]` on subject `what[v]`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

FEWEST_SUBJECTS = 10  # of fewer, the same verdict on all is no sign of anything
AT_BEST = 3.0  # log-odds, 95%: no verdict is believed more, however many say so
CAMP_ROUNDS = 50  # enough to show a camp; in more, rounding would decide between equal ones
ROUNDS = 100

Array = np.ndarray[Any, Any]


class PairVote(NamedTuple):
    """One rater's opinion of two texts on one prompt, which together are its subject."""

    subject: tuple[str, str, str]  # hashes: of the prompt, of the two texts in order
    rater_id: str
    verdict: int  # 1: the first text is better; -1: the second; 0: a tie


def judgement(rater_id: str, prompt: str, texts: tuple[str, str], label: str) -> PairVote:
    """The judgement that a comparison is; `texts` are hashes as shown, `label` is a, b or tie."""
    verdict = {"a": 1, "b": -1, "tie": 0}[label]
    if texts[0] > texts[1]:
        texts, verdict = (texts[1], texts[0]), -verdict
    return PairVote((prompt, *texts), rater_id, verdict)


class VoteArrays(NamedTuple):
    """Judgements as arrays, each (V,)."""

    who: Array
    what: Array
    verdict: Array

    def others(self, values: Array) -> Array:
        """The sum of the other raters' values on the same subject, for each judgement."""
        return np.asarray(np.bincount(self.what, values)[self.what] - values)

    def met(self, heard: Array) -> Array:
        """Whether another rater judged the same subject who is `heard`, for each judgement."""
        return self.others(heard[self.who]) > 0


def vote_arrays(judgements: Iterable[PairVote], raters: Sequence[str]) -> VoteArrays:
    """The judgements of these raters, who are numbered as they are listed."""
    number, subjects = {rater: i for i, rater in enumerate(raters)}, dict[Any, int]()
    votes = [
        (number[rater], subjects.setdefault(subject, len(subjects)), verdict)
        for subject, rater, verdict in sorted(judgements)
    ]
    return VoteArrays(*np.array(votes, dtype=np.intp).reshape(-1, 3).T)


@dataclass(frozen=True, slots=True)
class Agreement:
    """Krippendorff's alpha with its 95% interval: 1 is perfect, 0 is chance, below is contrary.

    `subjects` (two texts on a prompt) were judged by several of the `raters`. Where alpha cannot be
    told it is None, and `reason` says why.
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
        Krippendorff, Content Analysis (2018), chapter 12, for nominal data. The interval is that
        of a ratio of sums over subjects, with the expected disagreement held fixed, as he does.
    """
    raters = sorted({vote.rater_id for vote in judgements})
    votes = vote_arrays(judgements, raters)
    votes = VoteArrays(*(array[votes.met(np.ones(len(raters)))] for array in votes))
    said = np.stack([np.bincount(votes.what, votes.verdict == v) for v in (-1, 0, 1)])  # (3, S)
    said = said[:, said.any(axis=0)]
    subjects, met = said.shape[1], len(np.unique(votes.who))
    if not subjects:
        return Agreement(None, None, None, 0, 0, "no two raters judged the same two responses")
    times, n = said.sum(axis=0), said.sum()
    expected = (n**2 - (said.sum(axis=1) ** 2).sum()) / (n - 1)
    if not expected:
        return Agreement(None, None, None, subjects, met, _why_unknown(subjects))
    differing = (times**2 - (said**2).sum(axis=0)) / (times - 1)  # (S,)
    alpha = 1 - differing.sum() / expected
    error = np.linalg.norm(differing - times * differing.sum() / n) / expected
    low, high = max(-1.0, alpha - 1.96 * error), min(1.0, alpha + 1.96 * error)
    return Agreement(float(alpha), float(low), float(high), subjects, met)


def _why_unknown(subjects: int) -> str:
    """Why nothing can be said where all verdicts are one."""
    if subjects < FEWEST_SUBJECTS:
        return (
            f"two raters or more judged only {subjects} of the pairs of replies, "
            "too few to tell agreement from chance"
        )
    return "all judgements are the same, so agreement cannot be told from a habit"


def shares_agreeing(votes: VoteArrays, raters: int) -> list[float | None]:
    """Of each rater's meetings with another on the same subject, the share that agrees."""
    meetings = np.bincount(votes.who, votes.others(np.ones(len(votes.who))), raters)
    balance = np.bincount(votes.who, votes.verdict * votes.others(votes.verdict), raters)
    return [
        float(1 + agreed / met) / 2 if met else None
        for agreed, met in zip(balance, meetings, strict=True)
    ]


def right_and_wrong(votes: VoteArrays, known: Array, heard: Array) -> Array:
    """How many judgements each rater had right and wrong, the `known` ones included, (R, 2).

    One-coin Dawid-Skene by expectation-maximization: each rater is right with a probability of
    their own. By turns these say which text is probably better, and that says how often each rater
    was right. Who judged alone would be right by definition, so such judgements are left out.

    Args:
        votes: Decided judgements, without ties.
        known: Judgements right and wrong to begin with: the prior and the gold questions. (R, 2)
        heard: Who measures others; everybody is measured. (R,)

    Source:
        Dawid and Skene 1979, https://doi.org/10.2307/2346806, with a Beta prior for each rater.
    """
    met = votes.met(heard)
    doubted = _smaller_camp(votes, known, heard)
    counts = np.where(doubted[:, None], known[:, ::-1], known)  # to begin with
    for _ in range(ROUNDS):
        skill = np.log(counts[:, 0] / counts[:, 1])  # log-odds of being right
        # Whoever is mostly wrong is not believed the other way round.
        trust = heard * np.maximum(0, skill)
        by_others = votes.verdict * votes.others(votes.verdict * trust[votes.who])  # log-odds (V,)
        right = 1 / (1 + np.exp(-np.clip(by_others, -AT_BEST, AT_BEST) - skill[votes.who]))
        found = [np.bincount(votes.who, met * chance, len(known)) for chance in (right, 1 - right)]
        counts = known + np.stack(found, axis=1)
    return counts


def _smaller_camp(votes: VoteArrays, known: Array, heard: Array) -> Array:
    """Whether each rater is on the smaller of two sides that contradict each other. (R,) of bool.

    Accounts under one hand that repeat each other outvote everybody else on their subjects, so
    counting votes would begin by believing them. The leading eigenvector of who agrees with whom
    tells such sides apart. A second pass gives each side's members equal voices, so that whoever
    agrees with the accounts on their few subjects stays with those whom they mostly agree with.

    Source:
        Ghosh, Kale and McAfee 2011, https://doi.org/10.1145/1993574.1993599; they ask one good
        rater which side is right, where numbers and gold questions decide here.
    """
    others = np.maximum(1, votes.others(heard[votes.who]))  # (V,)
    judged = np.maximum(1, np.bincount(votes.who, votes.met(heard), len(heard)))  # (R,)

    def agreeing(leaning: Array) -> Array:
        mean = votes.others(votes.verdict * leaning[votes.who]) / others
        return heard * np.bincount(votes.who, votes.verdict * mean, len(heard)) / judged

    leaning = heard.astype(float)
    for _ in range(CAMP_ROUNDS):
        leaning = 2 * leaning + agreeing(leaning)
    leaning = np.sign(leaning)
    for _ in range(CAMP_ROUNDS):
        leaning = np.sign(leaning / 100 + agreeing(leaning))  # who agrees with both evenly stays
    larger = np.sign(round(float(leaning @ np.log(known[:, 0] / known[:, 1])), 6))
    return np.asarray(leaning * larger < 0)
