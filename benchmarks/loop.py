"""The whole loop on the starter, by the exact judge: visitors vote, a cycle trains, gold decides.

    python -m benchmarks.loop --json                        # 800 events of all kinds, 5 seeds
    python -m benchmarks.loop --votes-only --json           # 300 choices, SFT left out
    python -m benchmarks.loop --votes-only --shuffled       # meaningless votes: must be rejected

Every seed starts a real service on a fresh data directory; visitors and a chatter use it over HTTP
while the cycle runs in its own process. The gold judge measures afterwards, on requests that no
visitor makes; nothing that trains or promotes can reach it. It also asks the service itself, which
swapped the adapter in while it ran: what is served must be as good as what was published.
"""

import argparse
import json
import os
import random
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx

from chat_app.simulate import Plan, Result, run_simulation
from feedback_store import FeedbackStore
from rlhf_core.model.loading import load_base
from rlhf_core.worlds.starter.judge import GoldVerdict, judge
from rlhf_core.worlds.starter.measure import (
    GoldComparison,
    Measurement,
    compare,
    held_out_requests,
    summarise,
)
from rlhf_core.worlds.starter.world import Request

ENVIRONMENT = os.environ | {
    "HF_HUB_OFFLINE": "1",
    "OMP_NUM_THREADS": "1",
    "OMP_WAIT_POLICY": "passive",
    "FEEDBACK_CHAT_SCHEDULE__ENABLED": "false",
}
SIMULATED = {"Authorization": "Bearer judge", "X-Feedback-Chat-Simulated": "1"}  # no limits
ALL_KINDS = ("choices", "thumbs", "demonstrations")
BARS = {"win_rate": 0.75, "truth_ratio": 1.5, "rude_ratio": 0.5, "live_ratio": 0.9}
VOTES_ONLY_BARS = {"win_rate": 0.70, "truth_ratio": 1.5, "rude_ratio": 0.4, "live_ratio": 0.9}


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
    chats: int
    failed: int
    gold: dict[str, Any] | None  # of the published adapter, loaded afresh
    live: dict[str, Any] | None  # of the service after the swap

    @property
    def ratios(self) -> dict[str, float]:
        """The figures that have bars; a seed without a promotion changed nothing."""
        if self.gold is None:
            return {"win_rate": 0.5, "truth_ratio": 1.0, "rude_ratio": 1.0, "live_ratio": 1.0}
        new, old = self.gold["candidate"], self.gold["served"]
        return {
            "win_rate": self.gold["win_rate"],
            "truth_ratio": new["truth"] / old["truth"],
            "rude_ratio": new["rude"] / old["rude"],
            "live_ratio": self.live["truth"] / new["truth"] if self.live else 0.0,
        }


class Chatter(threading.Thread):
    """Chats without a pause and notes which adapter answered, and when a new one first did."""

    def __init__(self, url: str) -> None:
        super().__init__(daemon=True)
        self.url, self.chats, self.failed = url, 0, 0
        self.first_seen: dict[str, float] = {}
        self.stop = threading.Event()

    def run(self) -> None:
        """One request after another."""
        body = {"model": "policy", "messages": [{"role": "user", "content": "How are you?"}]}
        with httpx.Client(base_url=self.url, timeout=60, trust_env=False) as client:
            while not self.stop.wait(0.2):
                self.chats += 1
                try:
                    answer = client.post("/v1/chat/completions", json=body).raise_for_status()
                except httpx.HTTPError:
                    self.failed += 1
                else:
                    self.first_seen.setdefault(answer.json()["model"], time.time())


@dataclass(frozen=True, slots=True)
class Loop:
    """One fresh service after its visitors and its cycle."""

    simulated: Result
    cycle: dict[str, Any]  # the facts of `cycle --json`
    cycle_s: float
    stages_s: dict[str, float]
    swap_s: float | None  # from the row that serves it to the first reply; None: never seen
    chats: int
    failed: int

    @property
    def promoted(self) -> str | None:
        """The adapter that is served now, if the gate let it through."""
        return self.cycle["adapter"] if self.cycle["state"] == "promoted" else None


def vote_and_train(
    data: Path,
    plan: Plan,
    *,
    options: Sequence[str] = (),
    env: Mapping[str, str] | None = None,
    before_cycle: Callable[[], None] = lambda: None,
    after_swap: Callable[[str], None] = lambda url: None,
) -> Loop:
    """Serve, let visitors vote, run a cycle while somebody chats, and wait for the swap.

    Args:
        data: A fresh data directory.
        plan: Who votes; its address is replaced by the service's.
        options: Of both commands, such as `--model`.
        env: Settings of the cycle.
        before_cycle: Called between the votes and the cycle.
        after_swap: Called with the service's address once it serves a new adapter.
    """
    with service(data, options) as url:
        simulated = run_simulation(replace(plan, url=url), show=False)
        before_cycle()
        chatter = Chatter(url)
        chatter.start()
        facts, cycle_s = run_command("cycle", "--data", str(data), "--json", *options, env=env)
        adapter = facts["adapter"] if facts["state"] == "promoted" else None
        patience = time.time() + 30
        while adapter and adapter not in chatter.first_seen and time.time() < patience:
            time.sleep(0.05)
        chatter.stop.set()
        chatter.join()
        swap_s = _swap_seconds(data, chatter.first_seen.get(adapter or ""))
        if swap_s is not None:
            after_swap(url)
    return Loop(
        simulated=simulated,
        cycle=facts,
        cycle_s=round(cycle_s, 1),
        stages_s=_stage_seconds(data),
        swap_s=swap_s,
        chats=chatter.chats + simulated.requests,
        failed=chatter.failed + simulated.failed,
    )


@contextmanager
def service(data: Path, options: Sequence[str] = ()) -> Iterator[str]:
    """The service in a process of its own; yields its address."""
    with service_process(data, options) as (address, _):
        yield address


@contextmanager
def service_process(
    data: Path, options: Sequence[str] = (), **variables: str
) -> Iterator[tuple[str, int]]:
    """The same; yields the id of the process, too."""
    words = ["serve", "--data", str(data), "--port", "0", *options]
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "chat_app", *words],
        env={**ENVIRONMENT, **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    try:
        found = next(filter(None, (re.search(r"Chat:\s+(\S+)", ln) for ln in process.stdout)))
        yield found.group(1), process.pid
    finally:
        process.terminate()
        process.wait(timeout=30)


def shuffle_votes(data: Path, seed: int) -> None:
    """Give every choice a random side, so that votes mean nothing any more."""
    rng = random.Random(seed)
    with FeedbackStore(data / "feedback.db") as store:
        for number, choice in enumerate(store.choices()):
            store.add_choice(
                choice.candidates_id,
                choice.rater_id,
                rng.choice(("a", "b")),
                idempotency_key=f"shuffled-{number}",
            )


def run_seed(seed: int, options: argparse.Namespace) -> Outcome:
    """One fresh service, its visitors, its cycle, and the gold judge's verdict."""
    kinds = ("choices",) if options.votes_only else ALL_KINDS
    sft = "false" if options.votes_only else "true"
    live: list[Measurement] = []
    with tempfile.TemporaryDirectory() as scratch:
        data = Path(scratch) / "data"
        done = vote_and_train(
            data,
            Plan(events=options.events, seed=seed, kinds=kinds),
            env={"FEEDBACK_CHAT_CYCLE__SFT__ENABLED": sft, "FEEDBACK_CHAT_CYCLE__SEED": str(seed)},
            before_cycle=lambda: shuffle_votes(data, seed) if options.shuffled else None,
            after_swap=lambda url: live.append(_live(url, seed)),
        )
        gold = _gold(data / "adapters" / done.promoted, seed) if done.promoted else None
    return Outcome(
        seed=seed,
        state=done.cycle["state"],
        reasons=done.cycle["reasons"],
        simulate_s=round(done.simulated.seconds, 1),
        cycle_s=done.cycle_s,
        stages_s=done.stages_s,
        swap_s=done.swap_s,
        chats=done.chats,
        failed=done.failed,
        gold=asdict(gold) if gold else None,
        live=asdict(live[0]) if live else None,
    )


def _stage_seconds(data: Path) -> dict[str, float]:
    with FeedbackStore(data / "feedback.db") as store:
        cycle = store.last_cycle()
    found = cycle.metrics.items() if cycle else ()
    return {k.removeprefix("seconds/"): s for k, s in found if k.startswith("seconds/")}


def _swap_seconds(data: Path, first_reply: float | None) -> float | None:
    """Seconds from the moment the store named the adapter to the first whole reply by it."""
    if first_reply is None:
        return None
    with FeedbackStore(data / "feedback.db") as store:
        since = datetime.fromisoformat(store.serving().since).timestamp()
    return round(first_reply - since, 2)


def run_command(*words: str, env: Mapping[str, str] | None = None) -> tuple[dict[str, Any], float]:
    """Run one of the product's commands; its JSON and its seconds."""
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "chat_app", *words],
        env={**ENVIRONMENT, **(env or {})},
        capture_output=True,
        text=True,
        check=False,
    )
    seconds = time.monotonic() - started
    if not done.stdout:
        raise SystemExit(f"`{' '.join(words)}` said nothing: {done.stderr}")
    return json.loads(done.stdout), seconds


def _gold(adapter: Path, seed: int) -> GoldComparison:
    base = load_base("starter")
    base.attach("candidate", adapter)
    return compare(base, candidate="candidate", served=None, n=600, seed=seed)


def _live(url: str, seed: int) -> Measurement:
    """What the running service answers, by the judge, on the requests that `_gold` makes."""
    requests = held_out_requests(600, seed)

    def ask(request: Request) -> GoldVerdict:
        body = {"model": "policy", "messages": [{"role": "user", "content": request.text}]}
        answer = client.post("/v1/chat/completions", json=body).raise_for_status().json()
        choice = answer["choices"][0]
        finished = choice["finish_reason"] == "stop"
        return judge(request, choice["message"]["content"], finished=finished)

    with (
        httpx.Client(base_url=url, timeout=60, trust_env=False, headers=SIMULATED) as client,
        ThreadPoolExecutor(16) as pool,
    ):
        return summarise(requests, list(pool.map(ask, requests)))


def main() -> None:
    """Run the seeds and print what came of them."""
    cli = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    cli.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    cli.add_argument("--votes-only", action="store_true", help="choices only, without SFT")
    cli.add_argument("--shuffled", action="store_true", help="make the votes meaningless")
    cli.add_argument("--events", type=int, default=None, help="default 800; 300 with --votes-only")
    cli.add_argument("--json", action="store_true", help="end with one line of JSON")
    options = cli.parse_args()
    options.events = options.events or (300 if options.votes_only else 800)
    outcomes = []
    for seed in options.seeds:
        outcomes.append(run_seed(seed, options))
        print(json.dumps(asdict(outcomes[-1])), flush=True)
    if options.json:
        bars = VOTES_ONLY_BARS if options.votes_only else BARS
        print(json.dumps(summary(outcomes, bars)))


def summary(outcomes: list[Outcome], bars: dict[str, float]) -> dict[str, Any]:
    """Median, smallest and largest of every figure, beside its bar."""
    ratios = {}
    for name, bar in bars.items():
        values = [o.ratios[name] for o in outcomes]
        ratios[name] = {
            "median": round(statistics.median(values), 3),
            "min": round(min(values), 3),
            "max": round(max(values), 3),
            "bar": bar,
        }
    return {
        "name": "loop",
        "ratios": ratios,
        "states": [o.state for o in outcomes],
        "failed_requests": sum(o.failed for o in outcomes),
        "load": os.getloadavg()[0],
    }


if __name__ == "__main__":
    main()
