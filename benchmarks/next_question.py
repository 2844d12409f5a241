"""The question that Compare prepares: how soon it is there, and how much doubt there is of it.

    python -m benchmarks.next_question --json                # both, on the starter
    python -m benchmarks.next_question --only waits --json   # one of them

Waits: one person judges again and again, and reads for a second before. In turns they go on to the
question that was prepared, and to another suggestion, whose replies are written when it is asked,
as all were before. Seconds are from the call that stores the judgement until the next replies are
there. With `choices = "active"` the posterior comes from votes without a meaning, which take as
long as any other.

Doubts: a posterior from the votes of simulated visitors on pairs by lot; then new questions with
four replies each. The doubt of the pair that is shown, by lot, by the chat's rule (of one question)
and by Compare's (of two), each half by lot; ratios to lots, with 95% by drawing questions again.
"""

import argparse
import asyncio
import itertools
import json
import os
import random
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.active import LABELS, QUESTIONS_PER_VOTE
from benchmarks.reward import Asked, World
from chat_app.cycles.scheduler import CycleProcess
from chat_app.engine.local import LocalEngine
from chat_app.handlers.compare import Compare
from chat_app.handlers.compare_views import BlindReplies
from chat_app.service.chat import ChatService
from chat_app.service.choosing import DoubtedReplies, choose_of_all
from chat_app.settings import Settings
from feedback_store.splits import is_held_out_rater
from feedback_store.store import FeedbackStore
from rlhf_core.model.adapters import publish_adapter
from rlhf_core.model.base_model import Base
from rlhf_core.model.loading import load_base
from rlhf_core.records import Comparison, Label
from rlhf_core.reward.acquisition import Uncertainty, chance_variance, fit_uncertainty, posterior
from rlhf_core.reward.heads import vectors_and_prompts, votes_from

RATER = next(name for n in itertools.count() if not is_held_out_rater(name := f"person-{n}"))
READS_S = 1.0
VOTES, QUESTIONS, REPLIES = 100, 80, 4  # of a seed: votes first, then pairs of questions
RULES = {"chat": 1, "compare": 2}  # by how many questions the pair is chosen from
SHARE, DRAWS, AGAIN = 0.5, 2000, 20


# Waits


async def waits(service: ChatService, rounds: int) -> dict[str, float]:
    """Median seconds, by whether the next question was prepared."""
    compare, seconds = Compare(service), defaultdict[str, list[float]](list)
    shown = await asked(compare, compare.suggestions(RATER)[0])
    for turn in range(2 * rounds + 1):  # the first is no figure
        await asyncio.sleep(READS_S)
        began = time.monotonic()
        told = await asyncio.to_thread(compare.choose, RATER, shown.id, "ab"[turn % 2], agree=True)
        way = ("prepared", "written")[turn % 2]
        shown = await asked(compare, told.suggestions[turn % 2])
        if turn:
            seconds[way].append(time.monotonic() - began)
    await compare.close()
    return {way: round(statistics.median(times), 3) for way, times in seconds.items()}


async def asked(compare: Compare, text: str) -> BlindReplies:
    """Ask a question and follow it until there are replies to judge, as the page does."""
    found, done = await compare.ask(RATER, text, 2, None), 0
    while found.writing is not None:
        found = await compare.follow(RATER, done)
        done = found.writing.done if found.writing else done
    if found.shown is None:  # all said the same
        return await asked(compare, compare.others(RATER)[0])
    return found.shown


def measured_waits(base: Base, rounds: int) -> dict[str, Any]:
    """Both kinds of choices, on one engine."""
    found = dict[str, Any]()
    for choices in ("random", "active"):
        with tempfile.TemporaryDirectory() as folder:
            data = Path(folder)
            settings = Settings.model_validate({"data": data, "choices": choices})
            engine = LocalEngine(lambda: base, settings.engine, key=None)
            with FeedbackStore(settings.database) as store:
                service = ChatService(store, engine, settings, cycles=CycleProcess(store, settings))
                service.rates.exempt(RATER)
                try:
                    found[choices] = asyncio.run(ready(service, base, data, rounds))
                finally:
                    engine.close()
    return found


async def ready(service: ChatService, base: Base, data: Path, rounds: int) -> dict[str, float]:
    """Wait for the engine, give it a posterior if it is to choose, and measure."""
    while not service.engine.health()["ready"]:
        await asyncio.sleep(0.05)
    if service.settings.choices == "active":
        labels: tuple[Label, ...] = ("a", "b")
        votes = [
            Comparison(
                [{"role": "user", "content": f"number {n}?"}], f"one {n}", f"no {n}", labels[n % 2]
            )
            for n in range(20)
        ]
        (data / "staging").mkdir()
        fit_uncertainty(base, votes).save(data / "staging")
        path = data / "adapters" / "reward-000001"
        publish_adapter(data / "staging", path, kind="reward", base=base.fingerprint, parent=None)
        await service.engine.load_doubts(path)
    service.ready = True
    return await waits(service, rounds)


# Doubts


class Replies:
    """Different replies to one question, with their vectors."""

    def __init__(self, asked: Asked, vectors: Tensor, prompt: Tensor) -> None:
        self.texts = list(dict.fromkeys(asked.replies))
        self.asked, self.prompt = asked, prompt
        self.vectors = vectors[[asked.replies.index(text) for text in self.texts]]  # (N, d)
        self.pairs = [*itertools.combinations(range(len(self.texts)), 2)]

    def doubts(self, model: Uncertainty) -> np.ndarray:
        """The doubt of each pair, whether the service would ask for it or not."""
        apart = torch.stack([self.vectors[a] - self.vectors[b] for a, b in self.pairs]).double()
        return chance_variance(*model.difference(apart)).numpy()

    def told(self, model: Uncertainty) -> DoubtedReplies:
        """What the engine would say."""
        known = model.knows(self.prompt)
        return DoubtedReplies(len(self.texts), {} if known else model.of_pairs(self.vectors))


def replies_of(base: Base, seed: int) -> list[Replies]:
    """Questions of one world whose replies differ."""
    asked = World(base, seed).ask(int(QUESTIONS_PER_VOTE * (VOTES + 2 * QUESTIONS)), REPLIES)
    sides = [base.chat.encode_pair(one.prompt, text) for one in asked for text in one.replies]
    vectors, prompts = vectors_and_prompts(base, sides)
    every = [
        Replies(one, vectors[at : at + REPLIES], prompts[at])
        for at, one in zip(range(0, len(sides), REPLIES), asked, strict=True)
    ]
    return [one for one in every if one.pairs]


def taught(found: Sequence[Replies], rng: random.Random) -> Uncertainty:
    """A posterior from visitors' votes on pairs by lot."""
    sides, comparisons = list[Tensor](), list[Comparison]()
    prompts = list[Tensor]()
    for one in found:
        a, b = rng.sample(rng.choice(one.pairs), 2)
        said = one.asked.visitor.choose(one.asked.text, one.texts[a], one.texts[b])
        if said in LABELS:
            pair = (one.texts[a], one.texts[b])
            vote = Comparison(one.asked.prompt, *pair, LABELS[said], could_tie=True)
            comparisons.append(vote)
            sides += [one.vectors[a], one.vectors[b]]
            prompts.append(one.prompt)
    return posterior(votes_from(torch.stack(sides), comparisons), torch.stack(prompts))


def shown_doubts(base: Base, seed: int) -> list[tuple[float, ...]]:
    """For each next question the mean doubt by lot, then by each rule."""
    every = replies_of(base, seed)
    model, rows = taught(every[:VOTES], random.Random(seed)), []
    rest = every[VOTES : VOTES + 2 * QUESTIONS]
    for two in zip(rest[::2], rest[1::2], strict=False):
        told, doubts = [one.told(model) for one in two], [one.doubts(model) for one in two]
        row = [float(doubts[0].mean())]
        for most in RULES.values():
            drawn = []
            for _ in range(AGAIN):
                at, shown = choose_of_all(told[:most], share=SHARE)
                pair = (min(shown.places), max(shown.places))
                drawn.append(doubts[at][two[at].pairs.index(pair)])
            row.append(float(np.mean(drawn)))
        rows.append(tuple(row))
    return rows


def measured_doubts(base: Base, seeds: int) -> dict[str, Any]:
    """Mean doubts and their ratios to lots."""
    table = np.array([row for seed in range(seeds) for row in shown_doubts(base, seed)])
    drawn = np.random.default_rng(0).integers(0, len(table), (DRAWS, len(table)))
    means = table[drawn].mean(1)  # (DRAWS, 1 + rules)
    found: dict[str, Any] = {"questions": len(table), "lots": round(float(table[:, 0].mean()), 5)}
    for at, name in enumerate(RULES, start=1):
        low, high = np.quantile(means[:, at] / means[:, 0], [0.025, 0.975])
        ratio = table[:, at].mean() / table[:, 0].mean()
        found[name] = {
            "ratio": round(float(ratio), 2),
            "low": round(low, 2),
            "high": round(high, 2),
        }
    return found


def main() -> None:
    """Print what was measured."""
    cli = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    cli.add_argument("--only", choices=("waits", "doubts"))
    cli.add_argument("--rounds", type=int, default=20)
    cli.add_argument("--seeds", type=int, default=5)
    cli.add_argument("--json", action="store_true", help="end with one line of JSON")
    given = cli.parse_args()
    base, found = load_base("starter"), dict[str, Any]()
    if given.only != "doubts":
        found["waits"] = measured_waits(base, given.rounds)
    if given.only != "waits":
        found["doubts"] = measured_doubts(base, given.seeds)
    found["load"] = round(os.getloadavg()[0], 1)
    print(json.dumps(found, indent=None if given.json else 1))


if __name__ == "__main__":
    main()
