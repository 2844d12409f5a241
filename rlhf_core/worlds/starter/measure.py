"""Measure a policy with the exact judge on requests that no visitor ever makes.

The requests are about test subjects, in common and rare wordings. Only published figures and
`starter check` use this module; training and the gate never do.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rlhf_core.gate.intervals import clustered_interval
from rlhf_core.model.base_model import Base
from rlhf_core.records import Prompt
from rlhf_core.worlds.starter.corpus import almanac_document, endings
from rlhf_core.worlds.starter.facts import facts
from rlhf_core.worlds.starter.judge import GoldVerdict, judge
from rlhf_core.worlds.starter.world import Request, sample_request

Z95 = 1.96


@dataclass(frozen=True, slots=True)
class Measurement:
    """Rates over held-out requests, each in [0, 1], and the mean gold reward."""

    truth: float  # share of questions about facts that got the right value and no wrong one
    rude: float
    ignored: float
    unfinished: float
    gold: float


@dataclass(frozen=True, slots=True)
class GoldComparison:
    """Two policies on the same requests; the bounds are 95%, clustered by request."""

    win_rate: float
    low: float
    high: float
    candidate: Measurement
    served: Measurement


def held_out_requests(n: int, seed: int) -> list[Request]:
    """The usual mixture of requests about test subjects, a third of them in rare wordings."""
    rng, pool = random.Random(f"held out/{seed}"), facts("test")
    return [sample_request(rng, pool, rare=0.33) for _ in range(n)]


def answers(
    base: Base, requests: Sequence[Request], adapter: str | None, *, seed: int
) -> list[GoldVerdict]:
    """The judge's verdict on one sampled reply to each request."""
    prompts: list[Prompt] = [[{"role": "user", "content": r.text}] for r in requests]
    replies = base.respond(prompts, adapter=adapter, seed=seed)
    return [
        judge(request, reply.text, finished=reply.finished)
        for request, reply in zip(requests, replies, strict=True)
    ]


def summarise(requests: Sequence[Request], verdicts: Sequence[GoldVerdict]) -> Measurement:
    """Rates over all requests; truth over the questions about facts."""
    n = len(verdicts)
    asked = [v for r, v in zip(requests, verdicts, strict=True) if r.kind == "question"]
    return Measurement(
        truth=sum(v.correct for v in asked) / max(1, len(asked)),
        rude=sum(v.rude for v in verdicts) / n,
        ignored=sum(v.ignored for v in verdicts) / n,
        unfinished=sum(not v.finished for v in verdicts) / n,
        gold=sum(v.gold for v in verdicts) / n,
    )


@torch.no_grad()
def skills(base: Base, adapter: str | None) -> dict[str, float]:
    """How well the policy keeps the pretrained skills: completing almanac text on test subjects.

    Returns:
        For each of the almanac's three forms, the mean probability of its last word: the value
        after the subject (``completes``, ``restates``), or the subject after the value
        (``reverses``). And ``predicts``, the geometric mean of the probability of each token of
        whole documents. Each is in [0, 1].
    """
    found: dict[str, list[float]] = {"completes": [], "restates": [], "reverses": []}
    with base.using(adapter):
        for fact in facts("test"):
            for name, stem, ending in endings(fact):
                found[name].append(_ending_logprob(base, stem, ending).sum().exp().item())
        rng = random.Random("skills")
        pool = facts("test")
        texts = [almanac_document(rng, pool) for _ in range(100)]
        nats = torch.cat([_ending_logprob(base, "", text) for text in texts])
    return {name: sum(v) / len(v) for name, v in found.items()} | {
        "predicts": nats.mean().exp().item()
    }


def _ending_logprob(base: Base, stem: str, ending: str) -> Tensor:
    """Log-probability of each token of the ending, (T,); (T - 1,) if the stem is empty."""
    head, tail = (list(base.tokenizer(text).input_ids) for text in (stem, ending))
    ids = torch.tensor([head + tail], device=base.device)
    scores = base.model(input_ids=ids).logits[0, :-1].float().log_softmax(-1)
    found: Tensor = scores.gather(1, ids[0, 1:, None])[max(0, len(head) - 1) :, 0]
    return found.cpu()


def compare(
    base: Base,
    *,
    candidate: str | None,
    served: str | None,
    n: int = 600,
    seed: int = 0,
) -> GoldComparison:
    """Gold win rate of `candidate` over `served`; ties count half."""
    requests = held_out_requests(n, seed)
    new = answers(base, requests, candidate, seed=seed)
    old = answers(base, requests, served, seed=seed + 1)
    wins = [
        1.0 if a.gold > b.gold + 1e-9 else 0.5 if abs(a.gold - b.gold) <= 1e-9 else 0.0
        for a, b in zip(new, old, strict=True)
    ]
    low, mean, high = clustered_interval(wins, [r.text for r in requests], z=Z95)
    return GoldComparison(mean, low, high, summarise(requests, new), summarise(requests, old))
