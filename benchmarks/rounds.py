"""Many rounds of the loop on the starter, by the exact judge: does it go on getting better?

    python -m benchmarks.rounds --json                          # 6 cycles of 300 choices, 1 seed
    python -m benchmarks.rounds --rounds 4 --events 50          # four small ones ...
    python -m benchmarks.rounds --rounds 1 --events 200         # ... beside a large one
    python -m benchmarks.rounds --turn 4                        # from round 4 on, manners annoy
    python -m benchmarks.rounds --ceiling 3                     # what is there to gain at all?
    FEEDBACK_CHAT_CYCLE__POLICY__START=anchor python -m benchmarks.rounds   # any setting

One service runs through all rounds. In each, new visitors choose between replies of whatever is
served by then, and a cycle trains; the guard goes on watching. After each round the judge compares
the served policy with the one before and with the base, on requests that no visitor makes. The base
is right now and then, too, and a tie counts half, so no policy's rate comes near 1: the ceiling is
where PPO ends whose score is the judge itself.
"""

import argparse
import json
import os
import random
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.loop import run_command, service
from chat_app.simulate import Plan, run_simulation
from feedback_store import BASE_ADAPTER, FeedbackStore
from rlhf_core.config import LoraSettings, PolicySettings
from rlhf_core.gate.evaluation import mean_kl
from rlhf_core.model.base_model import Base
from rlhf_core.model.loading import load_base
from rlhf_core.records import Prompt
from rlhf_core.train_policy import train_policy
from rlhf_core.worlds.starter.facts import facts
from rlhf_core.worlds.starter.judge import judge
from rlhf_core.worlds.starter.measure import compare, held_out_requests
from rlhf_core.worlds.starter.raters import Visitor, visitors
from rlhf_core.worlds.starter.world import sample_request

JUDGED, REPLIES = 600, 200
REQUESTS, GOLD_SD = 1200, 2.0  # that PPO trains on by the judge; spread of the gold reward
ANNOYANCE = 1.5  # politeness is worth .4 to the judge, and .1 more to the mean visitor
BARS = {"over_base_low": 0.80, "distinct_ratio": 0.60}


@dataclass(frozen=True, slots=True)
class Round:
    """One round, and the judge's comparisons of what is served after it."""

    number: int
    state: str
    serving: str
    over_last: float | None  # the candidate's over what was served, be it promoted or not
    over_base: float
    over_base_low: float  # lower bound of 95%
    truth: float
    rude: float
    polite: float  # what visitors like until tastes turn
    kl: float  # to the base, nats a reply
    distinct: float  # different replies, as a share of the different requests
    reward_accuracy: float | None  # on votes that the reward model has not seen
    cycle_s: float
    failed: int
    reasons: Sequence[str]


def measure(
    base: Base, folder: Path, before: str, candidate: str | None, now: str, seed: int
) -> dict[str, Any]:
    """What the judge says of the candidate and of what is served, and how far that is from base."""
    names = {name: None if name == BASE_ADAPTER else name for name in (before, candidate, now)}
    for name in {name for name in names.values() if name is not None} - set(base.adapters):
        base.attach(name, folder / name)
    over_base = compare(base, candidate=names[now], served=None, n=JUDGED, seed=seed)
    over_last = None
    if candidate is not None:
        sides = {"candidate": names[candidate], "served": names[before]}
        over_last = round(compare(base, **sides, n=JUDGED, seed=seed).win_rate, 3)
    requests = held_out_requests(REPLIES, 7)
    prompts: list[Prompt] = [({"role": "user", "content": r.text},) for r in requests]
    replies = base.respond(prompts, adapter=names[now], seed=seed)
    polite = [judge(*pair).polite for pair in zip(requests, (r.text for r in replies), strict=True)]
    asked = len({prompt[0]["content"] for prompt in prompts})
    return {
        "over_last": over_last,
        "over_base": round(over_base.win_rate, 3),
        "over_base_low": round(over_base.low, 3),
        "truth": round(over_base.candidate.truth, 3),
        "rude": round(over_base.candidate.rude, 3),
        "polite": round(sum(polite) / REPLIES, 3),
        "kl": round(mean_kl(base, prompts, replies, adapter=names[now]), 2),
        "distinct": round(len({reply.text for reply in replies}) / asked, 3),
    }


def run_rounds(seed: int, data: Path, options: argparse.Namespace) -> list[Round]:
    """All rounds of one service on a fresh data directory."""
    base, found = load_base("starter"), list[Round]()
    with service(data) as url:
        plan = Plan(url=url, events=options.events, kinds=tuple(options.kinds))
        for number in range(1, options.rounds + 1):
            before = serving(data)
            world = annoyed if options.turn and number >= options.turn else visitors
            asked = replace(plan, seed=100 * seed + number, world=world)
            simulated = run_simulation(asked, show=False)
            facts, seconds = run_command("cycle", "--data", str(data), "--json")
            measured = measure(
                base, data / "adapters", before, facts["adapter"], serving(data), seed
            )
            found.append(
                Round(
                    number=number,
                    state=facts["state"],
                    serving=serving(data),
                    **measured,
                    reward_accuracy=facts["metrics"].get("reward_accuracy"),
                    cycle_s=round(seconds, 1),
                    failed=simulated.failed,
                    reasons=facts["reasons"],
                )
            )
            print(json.dumps({"seed": seed, **asdict(found[-1])}), flush=True)
    return found


def annoyed(n: int, seed: int) -> list[Visitor]:
    """The usual visitors after their tastes have turned: polite words cost what a wrong form costs.

    Everything else is as before, so that what is right stays right.
    """
    return [
        replace(one, taste={**one.taste, "polite": one.taste["polite"] - ANNOYANCE})
        for one in visitors(n, seed)
    ]


def ceiling(seed: int, times: int) -> None:
    """Print where PPO by the exact judge stands after each `times` its usual iterations."""
    base, pool, rng = load_base("starter"), facts("train"), random.Random(seed)
    asked = {r.text: r for r in (sample_request(rng, pool) for _ in range(REQUESTS))}

    def score(prompts: Sequence[Prompt], replies: Sequence[str]) -> list[float]:
        pairs = zip(prompts, replies, strict=True)
        return [
            judge(asked[prompt[-1]["content"]], reply).gold / GOLD_SD for prompt, reply in pairs
        ]

    base.attach("policy", lora=LoraSettings(), trainable=True, seed=seed)
    prompts: list[Prompt] = [({"role": "user", "content": text},) for text in asked]
    settings = PolicySettings(kl_budget=1000.0)
    for number in range(1, times + 1):
        train_policy(
            base,
            prompts,
            score,
            adapter="policy",
            reference=None,
            settings=settings,
            seed=seed + number,
        )
        found = asdict(compare(base, candidate="policy", served=None, n=JUDGED, seed=seed))
        print(json.dumps({"iterations": number * settings.iterations, **found}), flush=True)


def serving(data: Path) -> str:
    """The adapter that is served now."""
    with FeedbackStore(data / "feedback.db") as store:
        return store.serving().adapter


def summary(seeds: Sequence[Sequence[Round]]) -> dict[str, Any]:
    """What stands at the end of all seeds, beside its bars."""
    last = [rounds[-1] for rounds in seeds]
    promoted = [r for rounds in seeds for r in rounds if r.state == "promoted"]
    return {
        "name": "rounds",
        "over_base_low": [r.over_base_low for r in last],
        "over_last": [r.over_last for r in promoted],
        "distinct_ratio": [round(rounds[-1].distinct / rounds[0].distinct, 3) for rounds in seeds],
        "promoted": len(promoted),
        "failed_requests": sum(r.failed for rounds in seeds for r in rounds),
        "bars": BARS,
        "load": os.getloadavg()[0],
    }


def main() -> None:
    """Run the rounds of every seed and print what came of them."""
    cli = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    cli.add_argument("--seeds", type=int, nargs="+", default=[1])
    cli.add_argument("--rounds", type=int, default=6)
    cli.add_argument("--events", type=int, default=300)
    cli.add_argument("--turn", type=int, default=0, help="round from which politeness annoys")
    cli.add_argument("--ceiling", type=int, default=0, help="times PPO's iterations by the judge")
    cli.add_argument("--kinds", nargs="+", default=["choices"])
    cli.add_argument("--json", action="store_true", help="end with one line of JSON")
    options = cli.parse_args()
    if options.ceiling:
        for seed in options.seeds:
            ceiling(seed, options.ceiling)
        return
    with tempfile.TemporaryDirectory() as scratch:
        seeds = [run_rounds(seed, Path(scratch) / str(seed), options) for seed in options.seeds]
    if options.json:
        print(json.dumps(summary(seeds)))


if __name__ == "__main__":
    main()
