"""How far raters agree who judged the same two texts: pure functions.

A judgement has no sides: its two texts are in the order of their hashes, wherever they were shown.
Results do not depend on the order of the judgements. A judgement has the weight of its comparison,
so all pairs of one ranking are one judgement together, and not 36. Of those pairs only some are
shared with others, and these have all of its weight: else it would say less than a choice does.

Shapes: V judgements, S subjects, R raters. Rater `who[v]` judged subject `what[v]`, as a part of
opinion `opinion[v]`.
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
    weight: float = 1.0  # what part of an opinion it is
    opinion: int = 0  # the same for all pairs of a rater's ranking; 0: it is one alone


def judgement(
    rater_id: str,
    prompt: str,
    texts: tuple[str, str],
    label: str,
    *,
    weight: float = 1.0,
    opinion: int = 0,
) -> PairVote:
    """A comparison as a judgement; `texts` are the hashes of A and B, `label` is a, b or tie."""
    verdict = {"a": 1, "b": -1, "tie": 0}[label]
    if texts[0] > texts[1]:
        texts, verdict = (texts[1], texts[0]), -verdict
    return PairVote((prompt, *texts), rater_id, verdict, weight, opinion)


class VoteArrays(NamedTuple):
    """Judgements as arrays of integers, and their weights; each (V,)."""

    who: Array
    what: Array
    verdict: Array
    weight: Array
    opinion: Array

    def others(self, values: Array) -> Array:
        """For each judgement the sum of the other judgements' values on its subject, (V,)."""
        return np.asarray(np.bincount(self.what, values)[self.what] - values)

    def met(self, heard: Array) -> Array:
        """For each judgement whether another rater who is `heard` judged its subject, (V,)."""
        return self.others(heard[self.who]) > 0

    def shared(self, heard: Array) -> "VoteArrays":
        """The same with the weight of each opinion divided among what `met` of it, the rest 0."""
        met = self.weight * self.met(heard)  # (V,)
        whole, left = np.bincount(self.opinion, self.weight), np.bincount(self.opinion, met)
        return self._replace(weight=met * (whole / np.where(left > 0, left, 1.0))[self.opinion])


def vote_arrays(judgements: Iterable[PairVote], raters: Sequence[str]) -> VoteArrays:
    """The judgements of these raters; rater i is `raters[i]`."""
    number, subjects = {rater: i for i, rater in enumerate(raters)}, dict[Any, int]()
    ordered = sorted(judgements)
    votes = [
        (number[rater], subjects.setdefault(subject, len(subjects)), verdict)
        for subject, rater, verdict, *_ in ordered
    ]
    weights = np.array([vote.weight for vote in ordered], dtype=float)
    who, what, verdict = np.array(votes, dtype=np.intp).reshape(-1, 3).T
    known = dict[tuple[str, int], int]()
    keys = [(vote.rater_id, vote.opinion or -place) for place, vote in enumerate(ordered, 1)]
    opinions = np.array([known.setdefault(key, len(known)) for key in keys], dtype=np.intp)
    return VoteArrays(who, what, verdict, weights, opinions)


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

    A subject counts as the mean of its judgements' weights.

    Source:
        Krippendorff, Content Analysis (2018), chapter 12, nominal data: alpha = 1 - observed /
        expected disagreement. The interval is the normal one of a sum over subjects; those of one
        prompt are not independent, so each prompt is a cluster. As in the book, the expected
        disagreement counts as known.
    """
    prompts = _prompts_of(judgements)
    raters = sorted({vote.rater_id for vote in judgements})
    votes = vote_arrays(judgements, raters).shared(np.ones(len(raters)))
    votes = VoteArrays(*(array[votes.met(np.ones(len(raters)))] for array in votes))
    said = np.stack([np.bincount(votes.what, votes.verdict == v) for v in (-1, 0, 1)])  # (3, S)
    weights, asked = np.bincount(votes.what, votes.weight), np.flatnonzero(said.any(axis=0))
    said, weights, prompts = said[:, asked], weights[asked], prompts[asked]
    subjects, met = said.shape[1], len(np.unique(votes.who))
    if not subjects:
        return Agreement(None, None, None, 0, 0, "no two raters judged the same two responses")
    times = said.sum(axis=0)  # judgements of each subject (S,)
    share = weights / times  # (S,)
    n, least = (times * share).sum(), times.sum()  # of all: as opinions, and how many pairs
    expected = (n - ((said * share).sum(axis=1) ** 2).sum() / n) * least / (least - 1)
    if expected < 1e-9:
        reason = "all judgements are the same, so agreement cannot be told from a habit"
        if subjects < _FEWEST_SUBJECTS:
            reason = (
                f"two raters or more judged only {subjects} of the pairs of replies, "
                "too few to tell agreement from chance"
            )
        return Agreement(None, None, None, subjects, met, reason)
    differing = share * (times**2 - (said**2).sum(axis=0)) / (times - 1)  # (S,)
    alpha = 1 - differing.sum() / expected
    apart = differing - times * share * differing.sum() / n  # (S,)
    groups = len(np.unique(prompts))  # of one alone nothing says how prompts differ
    few = groups / (groups - 1) if groups > 1 else np.inf
    error = max(np.linalg.norm(np.bincount(prompts, apart)), 1e-12) * few**0.5 / expected
    low, high = max(-1.0, alpha - 1.96 * error), min(1.0, alpha + 1.96 * error)
    return Agreement(float(alpha), float(low), float(high), subjects, met)


def _prompts_of(judgements: Iterable[PairVote]) -> Array:
    """The number of each subject's prompt, subjects in the order of `vote_arrays`; (S,)."""
    subjects = sorted({vote.subject for vote in judgements})
    numbers = {prompt: i for i, prompt in enumerate(dict.fromkeys(s[0] for s in subjects))}
    return np.array([numbers[subject[0]] for subject in subjects], dtype=np.intp)


def shares_agreeing(votes: VoteArrays, raters: int) -> list[float | None]:
    """How often each rater agrees with another rater on a subject; a tie on one side is half."""
    met_by = votes.weight * votes.others(np.ones(len(votes.who)))  # (V,)
    meetings = np.bincount(votes.who, met_by, raters)
    # The product of two verdicts is 1 where they agree, -1 where they do not, 0 with a tie.
    agreeing = votes.weight * votes.verdict * votes.others(votes.verdict)  # (V,)
    balance = np.bincount(votes.who, agreeing, raters)
    return [
        float(1 + agreed / met) / 2 if met else None
        for agreed, met in zip(balance, meetings, strict=True)
    ]
