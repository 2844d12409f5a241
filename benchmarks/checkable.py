"""Do votes move *this* model, on prompts that nobody voted on? Any model, by an exact judge.

    python -m benchmarks.checkable --json                                   # the starter, 2 seeds
    python -m benchmarks.checkable --model DIR --config FILE --json         # any model
    python -m benchmarks.checkable --model DIR --prompts ifeval.jsonl       # instructions of IFEval
    python -m benchmarks.checkable --taste at-most-words:20 --taste contains:please

Every seed starts a real service on a fresh data directory. Visitors who share tastes that a program
checks vote over HTTP; the command runs a cycle while somebody goes on chatting. Then base and
candidate answer the prompts that were kept. Beside the share of replies that meet the tastes stand
their length, repetition and endings: a gain that comes with any of these going wrong is none. A
candidate that the gate rejected is measured, too; its state says that nobody was served it.
"""

import argparse
import json
import os
import statistics
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.loop import Loop, vote_and_train
from chat_app.profile import with_profile
from chat_app.settings import Settings, load_settings
from chat_app.simulate import Plan
from rlhf_core.model.loading import load_base
from rlhf_core.worlds.checkable.measure import SatisfactionComparison, compare_satisfaction
from rlhf_core.worlds.checkable.world import CheckableWorld


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one seed gave."""

    seed: int
    state: str
    reasons: list[str]
    simulate_s: float
    cycle_s: float
    stages_s: dict[str, float]
    swap_s: float | None  # from the row that serves it to the first reply; None: never seen
    events: dict[str, int]
    chats: int
    failed: int
    kl: float | None  # nats per response, of the candidate from the base
    found: SatisfactionComparison | None  # None: the cycle left no candidate


def run_seed(seed: int, world: CheckableWorld, options: argparse.Namespace) -> Outcome:
    """One fresh service, its visitors and its cycle, and the judge's verdict on kept prompts."""
    plan = Plan(
        visitors=options.visitors,
        events=options.events,
        seed=seed,
        kinds=tuple(options.kinds.split(",")),
        at_once=options.at_once,
        world=world.visitors,
    )
    with tempfile.TemporaryDirectory() as scratch:
        data = Path(scratch) / "data"
        done = vote_and_train(
            data,
            plan,
            options=service_options(options),
            env={"FEEDBACK_CHAT_CYCLE__SEED": str(seed)},
        )
        # The service has ended, so that its copy of the model is gone before this one comes.
        found = _measured(done, data, world, options, seed)
    return Outcome(
        seed=seed,
        state=done.cycle["state"],
        reasons=done.cycle["reasons"],
        simulate_s=round(done.simulated.seconds, 1),
        cycle_s=done.cycle_s,
        stages_s=done.stages_s,
        swap_s=done.swap_s,
        events=dict(done.simulated.stored),
        chats=done.chats,
        failed=done.failed,
        kl=done.cycle["metrics"].get("kl"),
        found=found,
    )


def service_options(options: argparse.Namespace) -> list[str]:
    """The options that the commands of this project take, too."""
    given = {name: getattr(options, name) for name in ("model", "quantization", "config")}
    return [word for name, value in given.items() if value for word in (f"--{name}", str(value))]


def _measured(
    done: Loop, data: Path, world: CheckableWorld, options: argparse.Namespace, seed: int
) -> SatisfactionComparison | None:
    adapter = data / "adapters" / str(done.cycle["adapter"])
    if done.cycle["adapter"] is None or not adapter.is_dir():
        return None
    settings = settings_of(options, data)
    base = load_base(
        settings.model,
        quantization=settings.packing,
        reply=settings.reply,
        cache=settings.models,
    )
    base.attach("candidate", adapter)
    return compare_satisfaction(
        base,
        world,
        candidate="candidate",
        served=None,
        n=options.replies,
        seed=seed,
    )


def settings_of(options: argparse.Namespace, data: Path) -> Settings:
    """The settings of the service, which say how replies are sampled."""
    given = {"model": options.model, "quantization": options.quantization, "data": data}
    return with_profile(load_settings(options.config, **given))


def main() -> None:
    """Run the seeds and print what came of them."""
    cli = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    cli.add_argument("--model", help="a directory or a GGUF file; default: the starter")
    cli.add_argument("--quantization", choices=["nf4", "int8", "none"])
    cli.add_argument("--config", type=Path, help="settings of the service and the cycle (TOML)")
    cli.add_argument("--seeds", type=int, nargs="+", default=[1, 2])
    cli.add_argument("--taste", action="append", default=[], help="such as at-most-words:20")
    cli.add_argument("--prompts", type=Path, help="IFEval, MT-bench, JSON, or one prompt a line")
    cli.add_argument("--events", type=int, default=240)
    cli.add_argument("--visitors", type=int, default=20)
    cli.add_argument("--kinds", default="choices", help="choices,thumbs,demonstrations")
    cli.add_argument("--at-once", type=int, default=8, help="visitors busy at the same time")
    cli.add_argument("--replies", type=int, default=300, help="measured replies of each policy")
    cli.add_argument("--json", action="store_true", help="end with one line of JSON")
    options = cli.parse_args()
    world = CheckableWorld.of(options.taste, options.prompts)
    outcomes = []
    for seed in options.seeds:
        outcomes.append(run_seed(seed, world, options))
        print(json.dumps(asdict(outcomes[-1])), flush=True)
    if options.json:
        print(json.dumps(summary(outcomes, world, options.model or "starter")))


def summary(outcomes: list[Outcome], world: CheckableWorld, model: str) -> dict[str, Any]:
    """Each figure of every seed, before and after, and the median gain."""
    found = [outcome.found for outcome in outcomes if outcome.found is not None]
    gains = [one.gain["joint"] for one in found]
    beside = ("mean_words", "repeated", "ended")
    return {
        "name": "checkable",
        "model": model,
        **world.facts(),
        "states": [outcome.state for outcome in outcomes],
        "satisfied": [[one.served.joint.value, one.candidate.joint.value] for one in found],
        "gain": [asdict(gain) for gain in gains],
        "median_gain": statistics.median([gain.value for gain in gains]) if gains else None,
        **{
            name: [[getattr(one.served, name), getattr(one.candidate, name)] for one in found]
            for name in beside
        },
        "failed_requests": sum(outcome.failed for outcome in outcomes),
        "load": os.getloadavg()[0],
    }


if __name__ == "__main__":
    main()
