"""Does the gate's interval have the true win rate? On the starter, by the exact judge.

    python -m benchmarks.coverage --json       # 20 seeds of 300 choices, 7 candidates each
    python -m benchmarks.coverage --topic sum --only one-reply --seeds 1 2 3 4 5    # a narrow topic

Candidates are made once: they imitate right answers, wrong ones, politely wrong ones, or the base's
own replies, the longest, the shortest or any, or say the same to everything. So some are better
than the base, some worse, and some differ in style alone. For every seed visitors of a
real service vote on the base's replies. Then the gate's own code compares each candidate with the
base: heads are fitted to the held-out votes, both policies answer the held-out questions, and the
interval is compared with the judge's win rate on many requests of the same kind.
"""

import argparse
import json
import os
import random
import tempfile
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.live import WRITERS
from benchmarks.loop import service
from chat_app.simulate import Plan, run_simulation
from feedback_store import FeedbackStore
from rlhf_core.config import CycleSettings, LoraSettings, SFTSettings
from rlhf_core.cycle.snapshot import Snapshot, take_snapshot
from rlhf_core.gate.checks import check_policy, decide
from rlhf_core.gate.evaluation import evaluate
from rlhf_core.model.base_model import Base
from rlhf_core.model.loading import load_base
from rlhf_core.records import Demonstration, Prompt
from rlhf_core.reward.heads import fit_heads
from rlhf_core.train_sft import train_sft
from rlhf_core.worlds.starter.facts import facts
from rlhf_core.worlds.starter.judge import judge
from rlhf_core.worlds.starter.narrow import NarrowTopic
from rlhf_core.worlds.starter.world import Request, sample_request

ANSWERS, JUDGED, REPLIES = 400, 1500, 200
LEVEL = 0.025  # of each bound; a first cycle has .019
STYLES: dict[str, Callable[[Sequence[str]], str]] = {
    "longest": lambda texts: max(texts, key=len),
    "shortest": lambda texts: min(texts, key=len),
    "any": lambda texts: texts[0],
}
ONE_REPLY = "one-reply"
BARS = {"covered": 0.93}


@dataclass(frozen=True, slots=True)
class Found:
    """What the gate said of one candidate with one seed's votes."""

    seed: int
    candidate: str
    true: float
    value: float
    low: float  # bounds of an interval of 95%
    high: float
    promoted: bool  # by all checks of a policy
    questions: int


def prompt_of(request: Request) -> Prompt:
    """A request as a prompt."""
    return ({"role": "user", "content": request.text},)


def asked(n: int, seed: int) -> list[Request]:
    """Requests as visitors make them."""
    rng = random.Random(seed)
    return [sample_request(rng, facts("train")) for _ in range(n)]


def candidates(base: Base, only: Sequence[str]) -> list[str]:
    """Attach the candidates to the base, all or only some; their names."""
    requests = asked(ANSWERS, seed=1)
    rng = random.Random(2)
    written = {
        name.replace(" ", "-"): [writer(request, rng) for request in requests]
        for name, writer in WRITERS.items()
    }
    several = [
        base.respond([prompt_of(r) for r in requests], adapter=None, seed=n) for n in range(4)
    ]
    for name, choose in STYLES.items():
        replies = zip(*([reply.text for reply in own] for own in several), strict=True)
        written[name] = [choose(texts) for texts in replies]
    written[ONE_REPLY] = ["That is a good question, my friend."] * len(requests)
    written = {name: texts for name, texts in written.items() if not only or name in only}
    for name, texts in written.items():
        shown = [
            Demonstration(prompt=prompt_of(r), response=t)
            for r, t in zip(requests, texts, strict=True)
            if t.strip()
        ]
        base.attach(name, lora=LoraSettings(), trainable=True)
        train_sft(base, shown, adapter=name, settings=SFTSettings(epochs=2), seed=3)
    return [*written]


def gold(base: Base, requests: Sequence[Request], adapter: str | None, seed: int) -> list[float]:
    """The judge's figures of a policy's replies."""
    replies = base.respond([prompt_of(r) for r in requests], adapter=adapter, seed=seed)
    return [
        judge(request, reply.text, finished=reply.finished).gold
        for request, reply in zip(requests, replies, strict=True)
    ]


def true_rate(new: Sequence[float], old: Sequence[float]) -> float:
    """How often the judge prefers the new reply; a tie is half of one."""
    wins = [0.5 if abs(a - b) <= 1e-9 else float(a > b) for a, b in zip(new, old, strict=True)]
    return sum(wins) / len(wins)


def votes(seed: int, options: argparse.Namespace) -> Snapshot:
    """What a cycle would learn from the choices of one seed's visitors."""
    plan = Plan(events=options.events, seed=seed, kinds=("choices",))
    if options.topic:
        world = NarrowTopic(options.topic, 20, 4).visitors
        plan = replace(plan, visitors=10, world=world)
    with tempfile.TemporaryDirectory() as scratch:
        data = Path(scratch) / "data"
        with service(data) as url:
            run_simulation(replace(plan, url=url), show=False)
        with FeedbackStore(data / "feedback.db") as store:
            return take_snapshot(store, CycleSettings())


def compare(base: Base, snapshot: Snapshot, known: dict[str, float], seed: int) -> list[Found]:
    """The gate's interval and verdict for each candidate."""
    settings = CycleSettings().gate
    heads = fit_heads(base, snapshot.held_out, members=settings.members)
    questions = snapshot.held_out_prompts
    found = []
    for name, true in known.items():
        evaluation = evaluate(
            base,
            ([*questions] * REPLIES)[: max(REPLIES, len(questions))],
            heads,
            candidate=name,
            served=None,
            level=LEVEL,
            votes=(*snapshot.train_votes, *snapshot.held_out_votes),
            seed=seed,
        )
        rate = evaluation.win_rate, evaluation.win_rate_low, evaluation.win_rate_high
        true, value, low, high = (round(x, 3) for x in (true, *rate))
        promoted = decide(check_policy(evaluation, settings)).promote
        found.append(Found(seed, name, true, value, low, high, promoted, evaluation.prompts))
    return found


def summary(found: Sequence[Found]) -> dict[str, Any]:
    """Coverage over all, and by candidate."""
    by_name = defaultdict(list)
    for one in found:
        by_name[one.candidate].append(one)
    covered = [one.low <= one.true <= one.high for one in found]
    return {
        "name": "coverage",
        "covered": round(sum(covered) / len(covered), 3),
        "candidates": {
            name: {
                "true": own[0].true,
                "mean": round(sum(o.value for o in own) / len(own), 3),
                "width": round(sum(o.high - o.low for o in own) / len(own), 3),
                "covered": sum(o.low <= o.true <= o.high for o in own) / len(own),
                "promoted": sum(o.promoted for o in own) / len(own),
            }
            for name, own in by_name.items()
        },
        "bars": BARS,
        "load": os.getloadavg()[0],
    }


def main() -> None:
    """Print each seed's intervals, and the summary."""
    cli = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    cli.add_argument("--seeds", type=int, nargs="+", default=[*range(1, 21)])
    cli.add_argument("--events", type=int, default=300)
    cli.add_argument("--topic", help="one topic of few questions, as in benchmarks.narrow")
    cli.add_argument("--only", nargs="+", default=(), help="of the candidates")
    cli.add_argument("--json", action="store_true", help="end with one line of JSON")
    options = cli.parse_args()
    torch.set_num_threads(1)
    base = load_base("starter")
    names, requests = candidates(base, options.only), asked(JUDGED, seed=4)
    old = gold(base, requests, None, seed=5)
    known = {name: true_rate(gold(base, requests, name, seed=6), old) for name in names}
    print(json.dumps(known), flush=True)
    found: list[Found] = []
    for seed in options.seeds:
        found += compare(base, votes(seed, options), known, seed)
        for one in found[-len(known) :]:
            print(one, flush=True)
    print(json.dumps(summary(found)))


if __name__ == "__main__":
    main()
