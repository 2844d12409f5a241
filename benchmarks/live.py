"""People decide, live: bad adapters are caught by simulated visitors of a running service.

    python -m benchmarks.live --json                 # wrong and politely wrong answers, 3 seeds
    python -m benchmarks.live --equal 2000 --json    # the same policy on both sides: blinding

Every case starts a real service with the starter, which serves an adapter that imitates right
answers. Another one is made worse by hand: it imitates wrong answers, curt or polite. As a canary
it must not be served; served by force it must be rolled back by itself, while visitors and a
chatter use the service. Visitors vote by the world's gold weights, with noise, tastes and habits.
"""

import argparse
import json
import os
import random
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.loop import Chatter, run_command, service_process
from chat_app.cycles.trials import evidence_of
from chat_app.simulate import Plan, run_simulation
from feedback_store import FeedbackStore, Trial
from rlhf_core.config import LoraSettings, SFTSettings
from rlhf_core.cycle.signing import adapter_key
from rlhf_core.model.adapters import publish_adapter
from rlhf_core.model.loading import load_base
from rlhf_core.records import Demonstration
from rlhf_core.train_sft import train_sft
from rlhf_core.worlds.starter.facts import facts
from rlhf_core.worlds.starter.measure import compare
from rlhf_core.worlds.starter.world import Request, grumpy_reply, kind_reply, sample_request

ANSWERS = 600  # that an adapter imitates
Writer = Callable[[Request, random.Random], str]


@dataclass(frozen=True, slots=True)
class Outcome:
    """One trial: how it ended, after how many choices of how many raters."""

    case: str
    seed: int
    gold: float  # the adapter's win rate against the served one, by the judge
    outcome: str | None
    serving: str
    choices: int
    raters: int
    rate: float
    left: float  # share of the pairs in which the adapter stood on the left
    chosen_left: float  # share of the decided choices that were for the left
    receipts: int  # of visitors' receipts, those that say how the trial ended
    requests: int
    failed: int


def wrong(request: Request, rng: random.Random) -> str:
    """What the grumpy mood says: mostly wrong, curt, often rude."""
    return grumpy_reply(request, rng)[0]


def politely_wrong(request: Request, rng: random.Random) -> str:
    """A kind reply around a wrong value."""
    if not request.wrong or request.kind not in ("question", "passage"):
        return kind_reply(request, rng)
    return kind_reply(replace(request, answers=(rng.choice(request.wrong),)), rng)


WRITERS: Mapping[str, Writer] = {
    "right": kind_reply,
    "wrong": wrong,
    "politely wrong": politely_wrong,
}


def train(writer: Writer, target: Path, *, seed: int, key: bytes) -> None:
    """An adapter that imitates a writer's replies to training questions, published in a folder."""
    rng = random.Random(seed)
    requests = [sample_request(rng, facts("train")) for _ in range(ANSWERS)]
    written = [
        Demonstration(prompt=({"role": "user", "content": r.text},), response=writer(r, rng))
        for r in requests
    ]
    base = load_base("starter")
    base.attach("policy", lora=LoraSettings(), trainable=True)
    train_sft(base, written, adapter="policy", settings=SFTSettings(epochs=3), seed=seed)
    staging = target.parent / f"staging-{target.name}"
    base.save("policy", staging)
    publish_adapter(staging, target, kind="policy", base=base.fingerprint, key=key)


def gold_win_rate(folder: Path, candidate: str, served: str, seed: int) -> float:
    """How often the judge prefers the one adapter's reply to the other's."""
    base = load_base("starter")
    for name in {candidate, served}:
        base.attach(name, folder / name)
    return compare(base, candidate=candidate, served=served, n=400, seed=seed).win_rate


def run_case(case: str, writer: str, *, canary: bool, seed: int, options: Any) -> Outcome:
    """One service, one bad adapter, one trial, in the visitors' hands."""
    good, bad = "policy-000001", "policy-000002"
    with tempfile.TemporaryDirectory() as scratch:
        data = Path(scratch) / "data"
        folder = data / "adapters"
        folder.mkdir(parents=True)
        key = adapter_key(data)
        for name, kind in ((good, "right"), (bad, writer)):
            train(WRITERS[kind], folder / name, seed=seed, key=key)
        with FeedbackStore(data / "feedback.db") as store:
            for name in (good, bad):
                store.register_adapter(name, kind="policy", state="published")
            store.serve(good, by="benchmark")
        gold = gold_win_rate(folder, bad, good, seed)
        share = "FEEDBACK_CHAT_CYCLE__TRIAL__CANARY_SHARE"
        variables = {share: "1"} if writer == "right" else {}
        with service_process(data, **variables) as (url, _):
            words = ["adapters", "canary", bad] if canary else ["promote", bad]
            run_command(*words, "--data", str(data), "--json")
            chatter = Chatter(url)
            chatter.start()
            plan = Plan(
                url=url,
                visitors=options.visitors,
                events=options.events,
                seed=seed,
                kinds=("choices",),
            )
            simulated = run_simulation(plan, show=False)
            chatter.stop.set()
            chatter.join()
        with FeedbackStore(data / "feedback.db") as store:
            first = next(t for t in store.trials()[::-1] if t.adapter == bad)
            return outcome_of(
                store,
                first,
                case=case,
                seed=seed,
                gold=gold,
                requests=simulated.requests + chatter.chats,
                failed=simulated.failed + chatter.failed,
            )


def outcome_of(store: FeedbackStore, trial: Trial, **known: Any) -> Outcome:
    """What the store knows of a trial after its visitors have gone."""
    found = evidence_of(store, trial)
    pairs = [store.candidates(choice.candidates_id) for choice in store.choices()]
    names = {trial.adapter, trial.other}
    shown = {c[0].candidates_id: c for c in pairs if {m.adapter for m in c} == names}
    made = [c for c in store.choices() if c.candidates_id in shown]
    decided = [c.choice for c in made if c.choice in "ab"]
    raters = {c.rater_id for c in made}
    told = [
        receipt
        for rater in raters
        for receipt in store.feedback_of(rater)
        if receipt.get("trial", {}).get("outcome") == trial.outcome
    ]
    return Outcome(
        outcome=trial.outcome,
        serving=store.serving().adapter,
        choices=found.choices,
        raters=found.raters,
        rate=round(found.rate, 3),
        left=round(sum(c[0].adapter == trial.adapter for c in shown.values()) / len(shown), 3),
        chosen_left=round(decided.count("a") / max(1, len(decided)), 3),
        receipts=len(told),
        **known,
    )


def main() -> None:
    """Run the cases and print what came of them."""
    cli = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    cli.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    cli.add_argument("--visitors", type=int, default=60)
    cli.add_argument("--events", type=int, default=800)
    cli.add_argument("--only", default="", help="cases whose name contains this, such as force")
    cli.add_argument("--equal", type=int, default=0, help="choices between equal adapters")
    cli.add_argument("--json", action="store_true", help="end with one line of JSON")
    options = cli.parse_args()
    cases = [(writer, canary) for writer in ("wrong", "politely wrong") for canary in (True, False)]
    if options.equal:
        options.events, cases, options.seeds = options.equal, [("right", True)], options.seeds[:1]
    outcomes = []
    for seed in options.seeds:
        for writer, canary in cases:
            case = f"{writer}, {'canary' if canary else 'served by force'}"
            if options.only not in case:
                continue
            done = run_case(case, writer, canary=canary, seed=seed, options=options)
            outcomes.append(asdict(done))
            print(json.dumps(outcomes[-1]), flush=True)
    if options.json:
        caught = sum(o["outcome"] == "worse" and o["serving"] == "policy-000001" for o in outcomes)
        print(
            json.dumps(
                {
                    "name": "live",
                    "ratios": {"caught": {"median": caught / len(outcomes), "bar": 1.0}},
                    "failed_requests": sum(o["failed"] for o in outcomes),
                    "load": os.getloadavg()[0],
                }
            )
        )


if __name__ == "__main__":
    main()
