"""How many durable votes a second the store takes, and how long one waits.

    python -m benchmarks.store_writes --json                # the disk as it is
    python -m benchmarks.store_writes --flush-ms 4 --json   # each flush made to take 4 ms longer

Three questions, A and B by turns in one process: 64 threads that share commits against the same
threads with a commit for each vote; the wait of one vote at moderate load (8 people who vote every
100 ms or so, 80 votes a second) against a bare flush of 4 kB at the same moment; and votes in one
transaction, checked and hashed, against rows put in raw by `executemany` in batches of 1,000.

What sharing gains depends on the disk: a vote costs the processor a fraction of a millisecond, so a
disk that flushes faster than that leaves little to share. `--flush-ms` shows a slower one, by
strace, which delays the flushes of this process and of nothing else.
"""

import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from feedback_store import FeedbackStore
from feedback_store.sqlite import group_commit

WRITERS = 64
PEOPLE, PAUSE_S = 8, 0.1
BATCH = 1_000
BARS = {"shared_over_single": 10.0, "p95_over_flush": 3.0, "raw_over_checked": None}


class Votes:
    """A store with replies to vote on, each vote on a reply of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = FeedbackStore(folder / "feedback.db")
        self.rater = self.store.add_rater("ann", consent="1").id
        self._conversation = self.store.add_conversation(self.rater).id
        self._question = self.store.add_message(self._conversation, "user", "hello").id
        self._replies: list[str] = []

    def prepare(self, count: int) -> None:
        """Have replies for so many votes."""
        with self.store._file.write():
            self._replies = [
                self.store.add_message(
                    self._conversation, "assistant", "hi", parent_id=self._question
                ).id
                for _ in range(count)
            ]

    def vote(self) -> None:
        """One durable vote."""
        reply = self._replies.pop()
        self.store.add_thumb(reply, self.rater, 1, idempotency_key=reply)


def together(count: int, work: Callable[[], None]) -> float:
    """Seconds until so many threads have done the work."""
    threads = [threading.Thread(target=work) for _ in range(count)]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.perf_counter() - started


def votes_per_second(votes: Votes, each: int, *, most_in_a_commit: int) -> float:
    """What 64 threads get done that vote without a pause."""
    votes.prepare(WRITERS * each)
    before, group_commit.MAX_WRITERS = group_commit.MAX_WRITERS, most_in_a_commit

    def vote() -> None:
        for _ in range(each):
            votes.vote()

    try:
        seconds = together(WRITERS, vote)
    finally:
        group_commit.MAX_WRITERS = before
    return WRITERS * each / seconds


def flush_waits(folder: Path, count: int = 150) -> list[float]:
    """Seconds of a bare write of 4 kB with its flush, as the first half of every commit is."""
    waits = []
    with (folder / "bare").open("r+b" if (folder / "bare").exists() else "w+b") as file:
        for _ in range(count):
            block = os.urandom(4096)
            started = time.perf_counter()
            os.pwrite(file.fileno(), block, 4096 * random.randrange(64))
            os.fsync(file.fileno())
            waits.append(time.perf_counter() - started)
            time.sleep(PAUSE_S / PEOPLE)
    return waits


def vote_waits(votes: Votes, each: int) -> list[float]:
    """Seconds that each of the votes took, of a few people who look before they vote."""
    votes.prepare(PEOPLE * each)
    waits: list[float] = []

    def person() -> None:
        for _ in range(each):
            time.sleep(random.uniform(0.5, 1.5) * PAUSE_S)
            started = time.perf_counter()
            votes.vote()
            waits.append(time.perf_counter() - started)

    together(PEOPLE, person)
    return waits


def p95(waits: list[float]) -> float:
    """The wait that one in twenty exceeds."""
    return statistics.quantiles(waits, n=20)[-1]


def raw_over_checked(votes: Votes) -> float:
    """How many times faster the same rows go in without any check, hash or idempotency."""
    votes.prepare(BATCH)
    rows = [(f"raw-{reply}", reply, "raw", reply) for reply in votes._replies]
    votes.store.add_rater("raw")
    started = time.perf_counter()
    with votes.store._file.write():
        for _ in range(BATCH):
            votes.vote()
    checked = time.perf_counter() - started
    started = time.perf_counter()
    with votes.store._file.write() as db:
        db.conn.executemany(
            "INSERT INTO thumbs (id, message_id, rater_id, value, tags, comment, idempotency_key,"
            " created_at, prompt_hash) VALUES (?, ?, ?, 1, '[]', '', ?, '2026-01-01', 'x')",
            rows,
        )
    return checked / (time.perf_counter() - started)


def measure(rounds: int, each: int) -> dict[str, Any]:
    """Run all of it, by turns."""
    found: dict[str, list[float]] = {name: [] for name in BARS}
    figures: dict[str, list[float]] = {
        name: [] for name in ("single_per_s", "shared_per_s", "flush_p95_ms", "vote_p95_ms")
    }
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCHMARK_DIR")) as scratch:
        votes = Votes(Path(scratch))
        for _ in range(rounds):
            single = votes_per_second(votes, max(each // 8, 1), most_in_a_commit=0)
            shared = votes_per_second(votes, each, most_in_a_commit=group_commit.MAX_WRITERS)
            flush, vote = p95(flush_waits(votes.folder)), p95(vote_waits(votes, 40))
            found["shared_over_single"].append(shared / single)
            found["p95_over_flush"].append(vote / flush)
            found["raw_over_checked"].append(raw_over_checked(votes))
            now = (single, shared, flush * 1e3, vote * 1e3)
            for name, value in zip(figures, now, strict=True):
                figures[name].append(value)
            print({name: round(values[-1], 2) for name, values in (found | figures).items()})
        votes.store.close()
    return {"ratios": {n: spread(v) | {"bar": BARS[n]} for n, v in found.items()}} | {
        "figures": {name: spread(values) for name, values in figures.items()}
    }


def spread(values: list[float]) -> dict[str, float | None]:
    """Median, smallest and largest."""
    return {
        "median": round(statistics.median(values), 3),
        "min": round(min(values), 3),
        "max": round(max(values), 3),
    }


def slowed(flush_ms: float) -> None:
    """Begin again under strace, which makes every flush take longer."""
    if shutil.which("strace") is None:
        raise SystemExit("--flush-ms needs strace, which is not there")
    calls = "fsync,fdatasync"
    delay = f"inject={calls}:delay_exit={round(flush_ms * 1000)}"
    words = ["strace", "-f", "--seccomp-bpf", "-qq", "-o", os.devnull, "-e", f"trace={calls}"]
    command = [*words, "-e", delay, sys.executable, "-m", "benchmarks.store_writes", *sys.argv[1:]]
    raise SystemExit(
        subprocess.run(command, env=os.environ | {SLOWED: "1"}, check=False).returncode
    )


SLOWED = "STORE_WRITES_SLOWED"


def main() -> None:
    """Measure and print."""
    cli = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    cli.add_argument("--rounds", type=int, default=5)
    cli.add_argument("--each", type=int, default=60, help="votes of each of the 64 writers")
    cli.add_argument("--flush-ms", type=float, default=0, help="added to every flush to disk")
    cli.add_argument("--json", action="store_true", help="end with one line of JSON")
    options = cli.parse_args()
    if options.flush_ms and SLOWED not in os.environ:
        slowed(options.flush_ms)
    result = measure(options.rounds, options.each)
    if options.json:
        facts = {"added_flush_ms": options.flush_ms, "load": os.getloadavg()[0]}
        print(json.dumps({"name": "store_writes"} | result | facts))


if __name__ == "__main__":
    main()
