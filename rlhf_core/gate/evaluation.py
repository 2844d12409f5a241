"""Measure a candidate policy against the served one, without knowing any right answer.

Both answer the same held-out prompts. The held-out reward model says which reply is better; it
learned from held-out votes alone, and no policy was optimised against it. Other measurements need
no score: the signs of collapse (`replies.py`), length and KL. Nothing here decides; `checks.py`
does.
"""

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rlhf_core.config import GateSettings
from rlhf_core.errors import NotEnoughDataError
from rlhf_core.gate.intervals import (
    clustered_interval,
    increase_low,
    sign_flip_test,
    wilson_interval,
)
from rlhf_core.gate.replies import (
    ReplyStatistics,
    reply_signs,
    reply_statistics,
    shared_replies,
)
from rlhf_core.gate.win_rate import WinRate, win_rate
from rlhf_core.model.base_model import Base, Response
from rlhf_core.records import Comparison, Prompt
from rlhf_core.reward.calibration import expected_calibration_error
from rlhf_core.reward.reward_data import opinion_keys, opinion_shares, prompt_key
from rlhf_core.reward.reward_model import Ensemble, Score, scores_of

Preference = Callable[[Sequence[Prompt], Sequence[str], Sequence[str]], Tensor]

REPLIED, SCORED = 0.6, 0.8  # of the work: both policies' replies, then their scores; SmolLM2's
DEALS = 4  # how often shared replies are dealt anew among their questions


@dataclass(frozen=True, slots=True)
class Accuracy:
    """How well scores predict votes: shares of right predictions, with Wilson's bounds.

    Attributes:
        value: Share of the votes that are predicted.
        low: Its lower bound.
        high: Its upper bound.
        votes: Number of votes; a ranking is one, and its pairs share its weight.
        by_rank: The same share, where a vote counts by the rank of its margin of scores.
        by_rank_low: Its lower bound.
        chance: Probability of so large a share by rank, or a larger one, if votes were coin flips.
    """

    value: float
    low: float
    high: float
    votes: int
    by_rank: float
    by_rank_low: float
    chance: float


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Everything the gate looks at."""

    win_rate: float
    win_rate_low: float
    win_rate_high: float
    same_length: WinRate | None  # the win rate if all replies were as long; None without votes
    question_error: float  # the win rate's standard error because of the questions
    member_error: float  # ... and because of what the held-out reward model learnt
    replies: int  # of each policy
    prompts: int  # different prompts among them
    kl: float  # mean KL(candidate || anchor) per response, nats
    tokens: int  # of the longest reply that the contract allows
    candidate: ReplyStatistics
    served: ReplyStatistics
    # by sign: the lower bound of the candidate's rate, less that of the served policy
    increases: Mapping[str, float]
    fit: float  # how often shared replies fit their own questions best; NaN: few are shared
    fit_low: float  # its lower bound
    scores_candidate: tuple[float, ...]
    scores_served: tuple[float, ...]
    samples: tuple[dict[str, str], ...]


def evaluate(  # noqa: PLR0913 - everything by name
    base: Base,
    prompts: Sequence[Prompt],
    score: Score | Ensemble,
    *,
    candidate: str | None,
    served: str | None,
    reference: str | None = None,
    anchor: str | None = None,
    settings: GateSettings | None = None,
    level: float = 0.05,
    votes: Sequence[Comparison] = (),
    progress: Callable[[float], None] | None = None,
    seed: int = 0,
) -> Evaluation:
    """Compare two policies on prompts that neither was trained on.

    Args:
        base: The base with both adapters attached.
        prompts: Held-out prompts; repeated ones count as one cluster.
        score: Scores of responses, higher is better; the gate's is the held-out reward model, whose
            members are asked one by one (`win_rate.py`). A function counts as one that is sure.
        candidate: Adapter that wants to be served.
        served: Adapter that is being served; `None` is the bare base.
        reference: Adapter whose endings count as natural, as the base's do.
        anchor: Adapter that the KL counts from; `None` is the bare base.
        settings: Quantile of the other bounds.
        level: Probability that the true win rate is below its lower bound.
        votes: Pairs of replies, which show how much the score likes length.
        progress: Called with the share of the work that is done.
        seed: Seed of the sampling, the same for both policies.

    Raises:
        NotEnoughDataError: There is no prompt.
        InvalidInputError: A prompt is not a conversation, or `score` does not give one number for
            each response.
    """
    if not prompts:
        raise NotEnoughDataError("there are 0 prompts to compare policies on; collect some")
    settings = settings or GateSettings()
    z = settings.confidence_z
    done = progress or (lambda share: None)
    # 1. Both policies answer with the same prompts, contract and random state: only weights differ.
    new = base.respond(prompts, adapter=candidate, seed=seed)
    done(REPLIED / 2)
    old = base.respond(prompts, adapter=served, seed=seed)
    done(REPLIED)
    scores_new = member_scores(score, prompts, [r.text for r in new])  # (K, B)
    scores_old = member_scores(score, prompts, [r.text for r in old])  # (K, B)
    done(SCORED)
    # 2. The win rate. Small policies often give the same reply: a tie is half a win for each.
    keys = [prompt_key(p) for p in prompts]
    known = torch.zeros_like(scores_new, dtype=torch.bool)
    if isinstance(score, Ensemble) and score.learnt_from is not None:
        known = ~score.unseen(prompts)
    margins = scores_new - scores_old
    found = win_rate(margins, known, keys, level=level)
    same_length = None
    if votes:
        longer = _longer(base, [r.text for r in new], [r.text for r in old])
        equal = margins - length_slopes(base, score, votes)[:, None] * longer
        same_length = win_rate(equal, known, keys, level=level)
    # 3. The signs of collapse, prompt by prompt. What one policy does more often than the other is
    # as uncertain as the win rate. Base and reference (trained on demonstrations) end replies well.
    natural = (None, reference)
    signs_new = reply_signs(base, prompts, new, natural=natural)
    signs_old = reply_signs(base, prompts, old, natural=natural)
    statistics_new = reply_statistics(prompts, new, signs_new)
    # 4. Questions may share a right reply ("Yes."), but then it has to fit its questions best.
    fit_low, fit = math.nan, math.nan
    if statistics_new.same_rate > settings.max_same_rate:
        one = score.score if isinstance(score, Ensemble) else score
        fit_low, fit = fit_of_shared_replies(one, prompts, [r.text for r in new], z=z, seed=seed)
    return Evaluation(
        win_rate=found.value,
        win_rate_low=found.low,
        win_rate_high=found.high,
        same_length=same_length,
        question_error=found.question_error,
        member_error=found.member_error,
        replies=len(prompts),
        prompts=found.questions,
        kl=mean_kl(base, prompts, new, adapter=candidate, anchor=anchor),
        tokens=base.reply.tokens,
        candidate=statistics_new,
        served=reply_statistics(prompts, old, signs_old),
        increases={
            sign: increase_low(shown, signs_old[sign], keys, z=z)
            for sign, shown in signs_new.items()
        },
        fit=fit,
        fit_low=fit_low,
        scores_candidate=tuple(scores_new.mean(0).tolist()),
        scores_served=tuple(scores_old.mean(0).tolist()),
        samples=tuple(
            {"prompt": p[-1]["content"], "served": o.text, "candidate": n.text}
            for p, o, n in list(zip(prompts, old, new, strict=True))[:12]
        ),
    )


def member_scores(
    score: Score | Ensemble, prompts: Sequence[Prompt], responses: Sequence[str]
) -> Tensor:
    """The scores by each member of a reward model, or by a function, which is one; (K, B)."""
    if isinstance(score, Ensemble):
        return score.member_scores(prompts, responses)
    return scores_of(score, prompts, responses)[None]


def length_slopes(base: Base, score: Score | Ensemble, votes: Sequence[Comparison]) -> Tensor:
    """How much each member's score rises with a reply's length, at the same prompt; (K,).

    Least squares over the pairs of replies that people compared, per unit of the logarithm of the
    number of tokens. Whichever reply was preferred does not matter.

    Source:
        Dubois et al. 2024, arXiv:2404.04475, section 3, which asks for the preference at the same
        length, too; there the slope comes from the compared policies themselves.
    """
    prompts = [c.prompt for c in votes]
    first, second = [c.response_a for c in votes], [c.response_b for c in votes]
    margins = member_scores(score, prompts, first) - member_scores(score, prompts, second)  # (K, N)
    longer = _longer(base, first, second)  # (N,)
    return (margins * longer).sum(1) / longer.square().sum().clamp(min=1e-9)


def _longer(base: Base, first: Sequence[str], second: Sequence[str]) -> Tensor:
    """How much longer each first text is than the second, in logarithms of tokens; (N,)."""
    tokens = [[len(base.chat.cut_reply(text)) for text in texts] for texts in (first, second)]
    logs = torch.tensor(tokens, dtype=torch.float32).log1p()  # (2, N)
    return logs[0] - logs[1]


def fit_of_shared_replies(
    score: Score, prompts: Sequence[Prompt], texts: Sequence[str], *, z: float, seed: int
) -> tuple[float, float]:
    """How often replies that questions share fit their own question: a lower bound and the mean.

    The shared replies are dealt anew among the questions that got them, and each question's own
    reply is compared with the one dealt to it; equal scores are half a win. As every reply is dealt
    as often as it was given, one that pleases everywhere wins as often as it loses. So policies
    that do not heed the question come to 1/2: one reply to all, or three stock replies. "Yes" and
    "No" in their right places come to more.
    """
    keys = [prompt_key(p) for p in prompts]
    shared, rng = shared_replies(keys, texts), random.Random(seed)
    own, dealt = shared * DEALS, [j for _ in range(DEALS) for j in rng.sample(shared, len(shared))]
    mine = scores_of(score, [prompts[i] for i in own], [texts[i] for i in own])  # (N,)
    other = scores_of(score, [prompts[i] for i in own], [texts[j] for j in dealt])  # (N,)
    wins = ((mine > other).float() + 0.5 * (mine == other).float()).tolist()
    low, mean, _ = clustered_interval(wins, [keys[i] for i in own], z=z)
    return low, mean


def accuracy(
    score: Score,
    comparisons: Sequence[Comparison],
    *,
    z: float = 1.645,
    clusters: Sequence[str] | None = None,
) -> Accuracy:
    """Share of decided comparisons whose preferred response scores higher, with bounds.

    Many pairs hardly differ in what raters care about, and their votes are coin flips whatever the
    scores. Counted by the rank of the margin, the votes that the scores are sure of say more.

    Args:
        score: Scores of responses.
        comparisons: Ties among them are left out.
        z: One-sided normal quantile of each bound.
        clusters: The cluster of each comparison; by default its prompt, so that the pairs of a
            ranking are in one.

    Source:
        Wilcoxon 1945, Biometrics Bulletin 1:80, the signed-rank test.
    """
    clusters = clusters or [prompt_key(c.prompt) for c in comparisons]
    pairs = zip(comparisons, clusters, strict=True)
    kept = [(c, cluster) for c, cluster in pairs if c.label != "tie"]
    decided = [c for c, _ in kept]
    if not decided:
        return Accuracy(0.0, 0.0, 1.0, 0, 0.0, 0.0, 1.0)  # no votes: anything is possible
    prompts = [c.prompt for c in decided]
    margins = scores_of(score, prompts, [c.response_a for c in decided]) - scores_of(
        score, prompts, [c.response_b for c in decided]
    )  # (N,)
    signs = torch.tensor([1.0 if c.label == "a" else -1.0 for c in decided])  # (N,)
    right = ((margins * signs) > 0).float().tolist()  # equal scores predict nothing
    own = [cluster for _, cluster in kept]
    votes, shares = opinion_keys(decided), opinion_shares(decided)
    low, value, high = wilson_interval(right, own, shares, z=z, votes=votes)
    ranks = [rank * s for rank, s in zip(_ranks(margins.abs()), shares, strict=True)]
    by_rank_low, by_rank, _ = wilson_interval(right, own, ranks, z=z, votes=votes)
    chance = sign_flip_test([w * (r - 0.5) for w, r in zip(ranks, right, strict=True)], own)
    return Accuracy(value, low, high, len(set(votes)), by_rank, by_rank_low, chance)


def disagreement(score: Ensemble, comparisons: Sequence[Comparison]) -> float | None:
    """How often members do not all prefer the same response, as a share of how often guesses would.

    On questions that no member learnt from it says how much new votes could tell; see `readiness`
    in the app.

    Args:
        score: Several reward models.
        comparisons: Pairs of responses; what raters said of them does not matter.

    Returns:
        0 if all members agree on every pair; None with one member, or without pairs.
    """
    if not comparisons:
        return None
    prompts = [c.prompt for c in comparisons]
    first, second = [c.response_a for c in comparisons], [c.response_b for c in comparisons]
    margins = score.member_scores(prompts, first) - score.member_scores(prompts, second)  # (K, N)
    if len(margins) < 2:
        return None
    differ = ((margins > 0) != (margins > 0)[0]).any(0).float().mean().item()
    return differ / (1 - 2.0 ** (1 - len(margins)))


def _ranks(values: Tensor) -> list[float]:
    """The rank of each value from 1, equal ones sharing the mean of theirs; NaN is the largest."""
    _, place, counts = torch.unique(values, return_inverse=True, return_counts=True)
    ranks: list[float] = (counts.cumsum(0) - (counts - 1) / 2)[place].tolist()
    return ranks


def calibration_error(preference: Preference, comparisons: Sequence[Comparison]) -> float:
    """Expected calibration error of the stated preferences on decided comparisons, in [0, 1]."""
    decided = [c for c in comparisons if c.label != "tie"]
    if not decided:
        return 0.0
    stated = preference(
        [c.prompt for c in decided],
        [c.response_a for c in decided],
        [c.response_b for c in decided],
    )
    return expected_calibration_error(
        stated,
        torch.tensor([float(c.label == "a") for c in decided]),
        torch.tensor(opinion_shares(decided)),
    )


def mean_kl(
    base: Base,
    prompts: Sequence[Prompt],
    responses: Sequence[Response],
    *,
    adapter: str | None,
    anchor: str | None = None,
) -> float:
    """KL(adapter || anchor) in nats: k1 summed over a response's tokens, mean over responses."""
    ids = [r.token_ids for r in responses]
    own = base.logprobs(prompts, ids, adapter=adapter)  # (T,) for each response
    theirs = base.logprobs(prompts, ids, adapter=anchor)
    return sum((a - b).sum().item() for a, b in zip(own, theirs, strict=True)) / len(ids)
