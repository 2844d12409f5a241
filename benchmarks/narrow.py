"""Few votes on a narrow topic: do they hold for what nobody asked about? By the exact judge.

    python -m benchmarks.narrow --json    # 320 choices by 10 visitors, 20 capitals, 4 wordings

Every seed starts a real service with the starter on a fresh data directory. Simulated visitors,
marked as such, choose between replies to the same 80 questions; then a cycle runs. Measured are
the right answers, before and after, about the capitals that nobody voted on.
"""

import argparse
import json
import os
import statistics
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.loop import vote_and_train
from chat_app.simulate import Plan
from rlhf_core.gate.intervals import clustered_interval
from rlhf_core.model.base_model import Base
from rlhf_core.model.loading import load_base
from rlhf_core.worlds.starter.measure import Z95, answers
from rlhf_core.worlds.starter.narrow import NarrowTopic
from rlhf_core.worlds.starter.world import Request

REPLIES = 4  # to each question


@dataclass(frozen=True, slots=True)
class Rates:
    """What the judge says of one policy's replies; the bounds are 95%, clustered by subject."""

    right: float
    low: float
    high: float
    rude: float
    ignored: float
    mean_words: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one seed gave; `before` is the base, `after` the candidate, served or not."""

    seed: int
    state: str
    reasons: list[str]
    simulate_s: float
    cycle_s: float
    failed: int
    before: Rates
    after: Rates | None  # None: the cycle left no candidate


def run_seed(seed: int, topic: NarrowTopic, options: argparse.Namespace) -> Outcome:
    """One fresh service, its visitors and its cycle, and the judge's verdict on other subjects."""
    plan = Plan(
        visitors=options.visitors,
        events=options.events,
        seed=seed,
        kinds=("choices",),
        world=topic.visitors,
    )
    with tempfile.TemporaryDirectory() as scratch:
        data = Path(scratch) / "data"
        done = vote_and_train(data, plan, env={"FEEDBACK_CHAT_CYCLE__SEED": str(seed)})
        base = load_base("starter")
        before, after = rates(base, topic.kept, None, seed), None
        adapter = done.cycle["adapter"]
        if adapter is not None and (data / "adapters" / adapter).is_dir():
            base.attach("candidate", data / "adapters" / adapter)
            after = rates(base, topic.kept, "candidate", seed)
    return Outcome(
        seed=seed,
        state=done.cycle["state"],
        reasons=done.cycle["reasons"],
        simulate_s=round(done.simulated.seconds, 1),
        cycle_s=done.cycle_s,
        failed=done.failed,
        before=before,
        after=after,
    )


def rates(base: Base, requests: list[Request], adapter: str | None, seed: int) -> Rates:
    """Judge `REPLIES` replies to each request."""
    asked = requests * REPLIES
    verdicts = answers(base, asked, adapter, seed=seed)
    right = [float(verdict.correct) for verdict in verdicts]
    low, share, high = clustered_interval(right, [r.answers[0] for r in asked], z=Z95)
    n = len(verdicts)
    return Rates(
        right=share,
        low=low,
        high=high,
        rude=sum(verdict.rude for verdict in verdicts) / n,
        ignored=sum(verdict.ignored for verdict in verdicts) / n,
        mean_words=sum(verdict.words for verdict in verdicts) / n,
    )


def main() -> None:
    """Run the seeds and print what came of them."""
    cli = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    cli.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    cli.add_argument("--events", type=int, default=320)
    cli.add_argument("--visitors", type=int, default=10)
    cli.add_argument("--topic", default="capital")
    cli.add_argument("--subjects", type=int, default=20)
    cli.add_argument("--wordings", type=int, default=4)
    cli.add_argument("--strict", action="store_true", help="visitors who often call it a tie")
    cli.add_argument("--json", action="store_true", help="end with one line of JSON")
    options = cli.parse_args()
    topic = NarrowTopic(options.topic, options.subjects, options.wordings, options.strict)
    outcomes = []
    for seed in options.seeds:
        outcomes.append(run_seed(seed, topic, options))
        print(json.dumps(asdict(outcomes[-1])), flush=True)
    if options.json:
        print(json.dumps(summary(outcomes)))


def summary(outcomes: list[Outcome]) -> dict[str, Any]:
    """Right answers of every seed, before and after, and the medians."""
    pairs = [(one.before.right, one.after.right) for one in outcomes if one.after is not None]
    return {
        "name": "narrow",
        "states": [outcome.state for outcome in outcomes],
        "right": pairs,
        "median_right": [statistics.median(side) for side in zip(*pairs, strict=True)],
        "failed_requests": sum(outcome.failed for outcome in outcomes),
        "load": os.getloadavg()[0],
    }


if __name__ == "__main__":
    main()
