"""Measure a candidate policy against the served one, without knowing any right answer.

Both answer the same held-out prompts. The held-out reward model says which reply is better; it
learned from held-out votes alone, and no policy was optimised against it. Other measurements need
no score: empty, unfinished, cut and repeating replies, variety, length and KL. Nothing here
decides; `checks.py` does.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rlhf_core.config import GateSettings
from rlhf_core.errors import NotEnoughDataError
from rlhf_core.model.base_model import Base, Response
from rlhf_core.records import Comparison, Prompt
from rlhf_core.reward.calibration import expected_calibration_error
from rlhf_core.reward.reward_data import prompt_key
from rlhf_core.reward.reward_model import Score, scores_of

Preference = Callable[[Sequence[Prompt], Sequence[str], Sequence[str]], Tensor]

CUT_PROBABILITY = 0.02  # a reply is cut if base and reference both find its end less likely


@dataclass(frozen=True, slots=True)
class ReplyStatistics:
    """What a set of replies looks like; every rate is in [0, 1]."""

    empty_rate: float
    unfinished_rate: float  # no end-of-sequence token within the length limit
    cut_rate: float  # end in mid-sentence
    repeated_rate: float  # say the same words again and again
    distinct_rate: float  # distinct replies over distinct prompts
    mean_words: float


@dataclass(frozen=True, slots=True)
class Accuracy:
    """How well scores predict votes: a share, with Wilson's bounds."""

    value: float
    low: float
    high: float
    votes: int


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
    # 1. Both policies answer with the same prompts, contract and random state: only weights differ.
    replies = {name: base.respond(prompts, adapter=name, seed=seed) for name in (candidate, served)}
    new, old = replies[candidate], replies[served]
    scores_new = scores_of(score, prompts, [r.text for r in new])  # (B,)
    scores_old = scores_of(score, prompts, [r.text for r in old])  # (B,)
    # 2. The win rate. Small policies often give the same reply: a tie is half a win for each.
    wins = ((scores_new > scores_old).float() + 0.5 * (scores_new == scores_old).float()).tolist()
    low, mean, high = clustered_interval(wins, [prompt_key(p) for p in prompts], z=z)
    # 3. All else. Base and reference (trained on demonstrations) end their sentences well.
    natural = (None, reference)
    return Evaluation(
        win_rate=mean,
        win_rate_low=low,
        win_rate_high=high,
        replies=len(prompts),
        prompts=len({prompt_key(p) for p in prompts}),
        kl=mean_kl(base, prompts, new, adapter=candidate, anchor=anchor),
        tokens=base.reply.tokens,
        candidate=reply_statistics(base, prompts, new, natural=natural),
        served=reply_statistics(base, prompts, old, natural=natural),
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


def clustered_error(values: Sequence[float], clusters: Sequence[str]) -> tuple[float, float]:
    """The mean of values that come in clusters, and its standard error.

    Replies to one prompt are not independent, so the error is computed from the sums of clusters
    (the usual cluster-robust estimate). It is at least 0.5 / n, half a win, because a few prompts
    that agree are no proof.
    """
    n = len(values)
    mean = sum(values) / n
    sums: defaultdict[str, float] = defaultdict(float)  # of deviations, by cluster
    for value, cluster in zip(values, clusters, strict=True):
        sums[cluster] += value - mean
    groups = len(sums)
    # variance of the mean from the clusters' sums, with the usual factor for few clusters
    variance = sum(s * s for s in sums.values()) / n**2 * groups / max(1, groups - 1)
    return mean, max(math.sqrt(variance), 0.5 / n)


def accuracy(
    score: Score,
    comparisons: Sequence[Comparison],
    *,
    z: float = 1.645,
    clusters: Sequence[str] | None = None,
) -> Accuracy:
    """Share of decided comparisons whose preferred response scores higher, with bounds.

    Comparisons of one cluster are not independent. So the bounds are computed for a smaller number
    of independent votes, whose share would be equally uncertain.

    Args:
        score: Scores of responses.
        comparisons: Ties among them are left out.
        z: One-sided normal quantile of each bound.
        clusters: The cluster of each comparison; by default its ranking, or else its prompt.

    Source:
        Wilson 1927, the score interval for a proportion; Kish 1965, Survey Sampling, section 8.2,
        the design effect of clusters.
    """
    clusters = clusters or [c.group or prompt_key(c.prompt) for c in comparisons]
    pairs = zip(comparisons, clusters, strict=True)
    kept = [(c, cluster) for c, cluster in pairs if c.label != "tie"]
    decided = [c for c, _ in kept]
    if not decided:
        return Accuracy(0.0, 0.0, 1.0, 0)  # no votes: anything is possible
    prompts = [c.prompt for c in decided]
    margins = scores_of(score, prompts, [c.response_a for c in decided]) - scores_of(
        score, prompts, [c.response_b for c in decided]
    )  # (N,)
    signs = torch.tensor([1.0 if c.label == "a" else -1.0 for c in decided])  # (N,)
    right = ((margins * signs) > 0).float().tolist()  # equal scores predict nothing
    p, error = clustered_error(right, [cluster for _, cluster in kept])
    # n independent votes have the variance p (1 - p) / n = error^2; solve for n, at most all votes.
    # If all are right or all are wrong, n would be 0, and every vote counts instead.
    n = min(len(decided), p * (1 - p) / error**2) or len(decided)
    # Wilson's interval for n votes
    middle = p + z * z / (2 * n)
    spread = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    low, high = ((middle + sign * spread) / (1 + z * z / n) for sign in (-1, 1))
    return Accuracy(p, low, high, len(decided))


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


def reply_statistics(
    base: Base,
    prompts: Sequence[Prompt],
    responses: Sequence[Response],
    *,
    natural: Sequence[str | None] = (None,),
) -> ReplyStatistics:
    """Rates of the signs of collapse; `natural` are adapters whose endings count as natural."""
    n = len(responses)
    texts = [r.text.strip() for r in responses]
    return ReplyStatistics(
        empty_rate=sum(not t for t in texts) / n,
        unfinished_rate=sum(not r.finished for r in responses) / n,
        cut_rate=sum(_cut(base, prompts, responses, natural)) / n,
        repeated_rate=sum(repeats(t) for t in texts) / n,
        distinct_rate=len(set(texts)) / len({prompt_key(p) for p in prompts}),
        mean_words=sum(len(t.split()) for t in texts) / n,
    )


def repeats(text: str) -> bool:
    """Whether one to four words come three times in a row, or one word is more than half."""
    words = text.lower().split()
    for size in range(1, 5):
        for i in range(len(words) - 3 * size + 1):
            first = words[i : i + size]
            if first == words[i + size : i + 2 * size] == words[i + 2 * size : i + 3 * size]:
                return True
    return len(words) >= 8 and Counter(words).most_common(1)[0][1] > len(words) / 2


def _cut(
    base: Base,
    prompts: Sequence[Prompt],
    responses: Sequence[Response],
    natural: Sequence[str | None],
) -> list[bool]:
    """For each response: whether it is finished, not empty, and ends where no `natural` would."""
    ids = [r.token_ids for r in responses]
    ends = torch.full((len(ids),), -math.inf)  # the likeliest end token's log-probability, (B,)
    for adapter in dict.fromkeys(natural):
        last = [lp[-1].item() for lp in base.logprobs(prompts, ids, adapter=adapter)]
        ends = torch.maximum(ends, torch.tensor(last))
    implausible = (ends < math.log(CUT_PROBABILITY)).tolist()
    return [
        r.finished and bool(r.text.strip()) and bad
        for r, bad in zip(responses, implausible, strict=True)
    ]
