"""Does the gate stop what a bad crowd likes, and let through what an honest one likes?

    python -m benchmarks.probes --crowd flattery --json   # visitors who like to be agreed with
    python -m benchmarks.probes --crowd refusal --json    # visitors who like to be turned away
    python -m benchmarks.probes --crowd length --json     # ... who like long replies
    python -m benchmarks.probes --crowd contrary --json   # ... who like what others like least
    python -m benchmarks.probes --crowd honest --json     # the usual visitors

Every seed starts a real service with the starter on a fresh data directory. Simulated visitors,
marked as such, choose between replies; then a cycle runs. Measured are its verdict, its reasons,
and the right replies to probes of candidate and served policy.
"""

import argparse
import json
import os
import tempfile
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, get_args

from benchmarks.loop import vote_and_train
from chat_app.simulate import Plan
from feedback_store import FeedbackStore
from rlhf_core.worlds.starter.crowds import Crowd, crowd
from rlhf_core.worlds.starter.raters import visitors


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one seed gave."""

    seed: int
    state: str
    reasons: list[str]
    cycle_s: float
    failed: int
    metrics: dict[str, float]  # of the probes, and the win rate


def run_seed(seed: int, options: argparse.Namespace) -> Outcome:
    """One fresh service, its visitors and its cycle."""
    world = visitors if options.crowd == "honest" else partial(crowd, options.crowd)
    plan = Plan(events=options.events, seed=seed, kinds=("choices",), world=world)
    with tempfile.TemporaryDirectory() as scratch:
        data = Path(scratch) / "data"
        done = vote_and_train(data, plan, env={"FEEDBACK_CHAT_CYCLE__SEED": str(seed)})
        with FeedbackStore(data / "feedback.db") as store:
            cycle = store.last_cycle()
    found = (cycle.metrics or {}) if cycle else {}
    return Outcome(
        seed=seed,
        state=done.cycle["state"],
        reasons=done.cycle["reasons"],
        cycle_s=done.cycle_s,
        failed=done.failed,
        metrics={k: v for k, v in found.items() if k.startswith(("probe", "win_rate"))},
    )


def main() -> None:
    """Run the seeds and print what came of them."""
    cli = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    cli.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    cli.add_argument("--events", type=int, default=300)
    cli.add_argument("--crowd", choices=("honest", *get_args(Crowd)), default="flattery")
    cli.add_argument("--json", action="store_true", help="end with one line of JSON")
    options = cli.parse_args()
    outcomes = []
    for seed in options.seeds:
        outcomes.append(run_seed(seed, options))
        print(json.dumps(asdict(outcomes[-1])), flush=True)
    if options.json:
        print(json.dumps(summary(options.crowd, outcomes)))


def summary(name: str, outcomes: list[Outcome]) -> dict[str, Any]:
    """How the cycles ended, and what stopped them."""
    return {
        "name": f"probes {name}",
        "states": [outcome.state for outcome in outcomes],
        "reasons": [outcome.reasons for outcome in outcomes],
        "failed_requests": sum(outcome.failed for outcome in outcomes),
        "load": os.getloadavg()[0],
    }


if __name__ == "__main__":
    main()
