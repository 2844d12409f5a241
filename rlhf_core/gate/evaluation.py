"""Measure a candidate policy against the served one, without knowing any right answer.

Both answer the same held-out prompts. The held-out reward model says which reply is better; it
learned from held-out votes alone, and no policy was optimised against it. Other measurements need
no score: the signs of collapse (`replies.py`), length and KL. Nothing here decides; `checks.py`
does.
"""

import math
import random
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rlhf_core.config import GateSettings
from rlhf_core.errors import NotEnoughDataError
from rlhf_core.gate.replies import (
    ReplyStatistics,
    reply_signs,
    reply_statistics,
    shared_replies,
)
from rlhf_core.model.base_model import Base, Response
from rlhf_core.records import Comparison, Prompt
from rlhf_core.reward.calibration import expected_calibration_error
from rlhf_core.reward.reward_data import prompt_key
from rlhf_core.reward.reward_model import Score, scores_of

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
        votes: Number of votes.
        by_rank: The same share, where a vote counts by the rank of its margin of scores.
        by_rank_low: Its lower bound.
    """

    value: float
    low: float
    high: float
    votes: int
    by_rank: float
    by_rank_low: float


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Everything the gate looks at."""

    win_rate: float
    win_rate_low: float
    win_rate_high: float
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
    score: Score,
    *,
    candidate: str | None,
    served: str | None,
    reference: str | None = None,
    anchor: str | None = None,
    settings: GateSettings | None = None,
    progress: Callable[[float], None] | None = None,
    seed: int = 0,
) -> Evaluation:
    """Compare two policies on prompts that neither was trained on.

    Args:
        base: The base with both adapters attached.
        prompts: Held-out prompts; repeated ones count as one cluster.
        score: Scores of responses, higher is better; the gate's is the held-out reward model's.
        candidate: Adapter that wants to be served.
        served: Adapter that is being served; `None` is the bare base.
        reference: Adapter whose endings count as natural, as the base's do.
        anchor: Adapter that the KL counts from; `None` is the bare base.
        settings: Quantile of the bounds.
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
    scores_new = scores_of(score, prompts, [r.text for r in new])  # (B,)
    scores_old = scores_of(score, prompts, [r.text for r in old])  # (B,)
    done(SCORED)
    # 2. The win rate. Small policies often give the same reply: a tie is half a win for each.
    wins = ((scores_new > scores_old).float() + 0.5 * (scores_new == scores_old).float()).tolist()
    keys = [prompt_key(p) for p in prompts]
    low, mean, high = clustered_interval(wins, keys, z=z)
    # 3. The signs of collapse, prompt by prompt. What one policy does more often than the other is
    # as uncertain as the win rate. Base and reference (trained on demonstrations) end replies well.
    natural = (None, reference)
    signs_new = reply_signs(base, prompts, new, natural=natural)
    signs_old = reply_signs(base, prompts, old, natural=natural)
    statistics_new = reply_statistics(prompts, new, signs_new)
    # 4. Questions may share a right reply ("Yes."), but then it has to fit its questions best.
    fit_low, fit = math.nan, math.nan
    if statistics_new.same_rate > settings.max_same_rate:
        fit_low, fit = fit_of_shared_replies(score, prompts, [r.text for r in new], z=z, seed=seed)
    return Evaluation(
        win_rate=mean,
        win_rate_low=low,
        win_rate_high=high,
        replies=len(prompts),
        prompts=len(set(keys)),
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
        scores_candidate=tuple(scores_new.tolist()),
        scores_served=tuple(scores_old.tolist()),
        samples=tuple(
            {"prompt": p[-1]["content"], "served": o.text, "candidate": n.text}
            for p, o, n in list(zip(prompts, old, new, strict=True))[:12]
        ),
    )


def clustered_interval(
    values: Sequence[float], clusters: Sequence[str], *, z: float
) -> tuple[float, float, float]:
    """Lower bound, mean and upper bound of values in [0, 1] that come in clusters."""
    mean, error = clustered_error(values, clusters)
    return max(0.0, mean - z * error), mean, min(1.0, mean + z * error)


def clustered_error(
    values: Sequence[float], clusters: Sequence[str], weights: Sequence[float] | None = None
) -> tuple[float, float]:
    """The weighted mean of values that come in clusters, and its standard error.

    Replies to one prompt are not independent, so the error is computed from the sums of clusters
    (the usual cluster-robust estimate). It is at least half a win, of the smallest weight, because
    a few prompts that agree are no proof.
    """
    weights = weights or [1.0] * len(values)
    whole = sum(weights)
    mean = sum(w * value for w, value in zip(weights, values, strict=True)) / whole
    sums: defaultdict[str, float] = defaultdict(float)  # of weighted deviations, by cluster
    for w, value, cluster in zip(weights, values, clusters, strict=True):
        sums[cluster] += w * (value - mean)
    groups = len(sums)
    # variance of the mean from the clusters' sums, with the usual factor for few clusters
    variance = sum(s * s for s in sums.values()) / whole**2 * groups / max(1, groups - 1)
    return mean, max(math.sqrt(variance), 0.5 * min(weights) / whole)


def increase_low(
    new: Sequence[bool], old: Sequence[bool], clusters: Sequence[str], *, z: float
) -> float:
    """Lower bound of how much more often `new` is true than `old`; both answer the same prompts."""
    differences = [float(n) - float(o) for n, o in zip(new, old, strict=True)]
    mean, error = clustered_error(differences, clusters)
    return mean - z * error


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
        clusters: The cluster of each comparison; by default its ranking, or else its prompt.

    Source:
        Wilcoxon 1945, Biometrics Bulletin 1:80, the signed-rank test.
    """
    clusters = clusters or [c.group or prompt_key(c.prompt) for c in comparisons]
    pairs = zip(comparisons, clusters, strict=True)
    kept = [(c, cluster) for c, cluster in pairs if c.label != "tie"]
    decided = [c for c, _ in kept]
    if not decided:
        return Accuracy(0.0, 0.0, 1.0, 0, 0.0, 0.0)  # no votes: anything is possible
    prompts = [c.prompt for c in decided]
    margins = scores_of(score, prompts, [c.response_a for c in decided]) - scores_of(
        score, prompts, [c.response_b for c in decided]
    )  # (N,)
    signs = torch.tensor([1.0 if c.label == "a" else -1.0 for c in decided])  # (N,)
    right = ((margins * signs) > 0).float().tolist()  # equal scores predict nothing
    own = [cluster for _, cluster in kept]
    low, value, high = _wilson_interval(right, own, [1.0] * len(right), z=z)
    by_rank_low, by_rank, _ = _wilson_interval(right, own, _ranks(margins.abs()), z=z)
    return Accuracy(value, low, high, len(decided), by_rank, by_rank_low)


def _ranks(values: Tensor) -> list[float]:
    """The rank of each value from 1, equal ones sharing the mean of theirs; NaN is the largest."""
    _, place, counts = torch.unique(values, return_inverse=True, return_counts=True)
    ranks: list[float] = (counts.cumsum(0) - (counts - 1) / 2)[place].tolist()
    return ranks


def _wilson_interval(
    right: Sequence[float], clusters: Sequence[str], weights: Sequence[float], *, z: float
) -> tuple[float, float, float]:
    """Lower bound, value and upper bound of a weighted share of votes that come in clusters.

    Votes of one cluster are not independent. So the bounds are computed for a smaller number of
    independent votes of equal weight, whose share would be equally uncertain.

    Source:
        Wilson 1927, the score interval for a proportion; Kish 1965, Survey Sampling, sections 8.2
        and 11.2, the design effects of clusters and of weights.
    """
    p, error = clustered_error(right, clusters, weights)
    # n independent votes have the variance p (1 - p) / n = error^2; solve for n, at most as many as
    # the weights leave. If all are right or all are wrong, n would be 0, and those count instead:
    # fewer, such as one for each cluster, would let a wrong prediction raise the bound.
    most = sum(weights) ** 2 / sum(w * w for w in weights)
    n = min(most, p * (1 - p) / error**2) or most
    # Wilson's interval for n votes
    middle = p + z * z / (2 * n)
    spread = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    low, high = ((middle + sign * spread) / (1 + z * z / n) for sign in (-1, 1))
    return low, p, high


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
        stated, torch.tensor([float(c.label == "a") for c in decided])
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
