"""Does the start of a cycle cost the same with a million votes as with a hundred thousand?

    python -m benchmarks.cycle_data --json                         # 1k, 10k, 100k and 1M votes
    python -m benchmarks.cycle_data --votes 1000 10000 100000 --json

Each store is filled straight into the tables: 7 choices : 3 thumbs, a demonstration for every 50
votes and a prompt without a vote for every 10, over a year and twelve policies. The last tenth of
the votes is new, but at most ten thousand: what comes between two cycles does not grow with the
store. Several times a process of its own then does what a cycle does before it trains: choose the
evidence, read the snapshot, write `evidence.json`, note what is used, cut the prompts and prepare
the rows of both reward models. It measures the processor's seconds and the memory that this takes,
the assessment of raters apart from it, and how long each write transaction lasts.
"""

import argparse
import hashlib
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks.store_scale import insert
from feedback_store import FeedbackStore
from feedback_store.splits import is_held_out_question, split, text_hash
from feedback_store.sqlite.ids import iso_utc
from feedback_store.sqlite.numbers import take_numbers
from rlhf_core.config import CycleSettings

VOTES = (1_000, 10_000, 100_000, 1_000_000)
NEW = 10_000  # votes at most; what comes between two cycles does not grow with the store
VOTES_EACH = 500  # of a rater, on average
YEAR = timedelta(days=365)
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
POLICIES = 12
WORDS = " ".join(["word"] * 12)
BATCH = 20_000
BARS = {"seconds_1M_over_100k": 1.2, "memory_1M_over_100k": 1.2, "longest_lock_ms": 100.0}
Row = dict[str, Any]


def main() -> None:
    """Fill, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--votes", type=int, nargs="+", default=VOTES)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    parser.add_argument("--stores", type=Path, help="keep the stores in this folder")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        print(json.dumps(measure(args.measure)))
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.stores or Path(temporary)
        for votes in args.votes:
            if (folder / str(votes)).exists():
                continue
            started = time.perf_counter()
            fill(folder / str(votes) / "feedback.db", votes)
            print(f"{votes} votes written in {time.perf_counter() - started:.0f} s", flush=True)
        rounds = [
            {votes: in_a_child(folder / str(votes)) for votes in args.votes}
            for _ in range(args.rounds)  # in turn, so that other work on the machine hits all alike
        ]
    found = {votes: medians([one[votes] for one in rounds]) for votes in args.votes}
    for votes, figures in found.items():
        print(f"{votes:>9} votes: " + ", ".join(f"{k} {v:.4g}" for k, v in figures.items()))
    if args.json:
        load = os.getloadavg()[0]
        ratios = compared(found)
        print(json.dumps({"name": "cycle_data", "figures": found, "ratios": ratios, "load": load}))


def compared(found: dict[int, dict[str, float]]) -> dict[str, Any]:
    """Each size over the one before, and the longest lock."""
    sizes = sorted(found)
    ratios: dict[str, Any] = {
        f"{name}_{short(large)}_over_{short(small)}": found[large][name] / found[small][name]
        for name in ("seconds", "memory")
        for small, large in pairwise(sizes)
    }
    ratios["longest_lock_ms"] = max(figures["longest_lock_ms"] for figures in found.values())
    return {k: {"value": round(v, 3), "bar": BARS.get(k)} for k, v in ratios.items()}


def short(votes: int) -> str:
    """1k, 10k, 1M."""
    return f"{votes // 10**6}M" if votes >= 10**6 else f"{votes // 1000}k"


def fill(path: Path, votes: int) -> None:
    """A store with so many votes."""
    path.parent.mkdir(parents=True)
    raters = max(20, votes // VOTES_EACH)
    with FeedbackStore(path) as store:
        with store._file.write() as db:
            for number in range(1, POLICIES):
                at, name = moment(number / POLICIES), f"policy-{number:06d}"
                kind = {"kind": "policy", "state": "published", "metrics": "{}", "created_at": at}
                insert(db, "adapters", iter([{"name": name, **kind}]))
                insert(db, "serving", iter([{"adapter": name, "since": at, "by": "benchmark"}]))
            for i in range(raters):
                who = {"kind": "person", "consent": "1", "held_out": i % 10 == 0}
                insert(db, "raters", iter([{"id": f"r{i}", **who, "created_at": moment(0)}]))
                chat = {"rater_id": f"r{i}", "title": "", "created_at": moment(0)}
                insert(db, "conversations", iter([{"id": f"c{i}", **chat}]))
        with store._file.maintenance() as db:
            db.conn.execute("PRAGMA cache_size = -1000000")
        with store._file.write() as db:
            # Indexing three million texts for search takes longer than all else, and is not used.
            trigger = db.conn.execute(
                "SELECT sql FROM sqlite_master WHERE name = 'message_is_searchable'"
            ).fetchone()[0]
            db.conn.execute("DROP TRIGGER message_is_searchable")
        for start in range(0, votes, BATCH):
            write_votes(store, range(start, min(start + BATCH, votes)), votes, raters)
        with store._file.write() as db:
            db.conn.execute(
                "INSERT INTO searchable (message_id) SELECT id FROM messages ORDER BY rowid"
            )
            db.conn.execute(trigger)
            db.conn.execute("INSERT OR REPLACE INTO bookkeeping VALUES ('derivation', 3)")
        note_a_cycle(store, votes)


def note_a_cycle(store: FeedbackStore, votes: int) -> None:
    """A cycle that has seen nine tenths, or all but what `NEW` votes became."""
    cycle = store.start_cycle({}, pid=os.getpid())
    share = min(0.1, NEW / votes)
    seen = {t: number - round(number * share) for t, number in store.last_numbers().items()}
    store.use_comparisons(cycle.id, (), seen=seen)
    store.finish_cycle(cycle.id, state="promoted", metrics={"sft": 1.0}, adapter="policy-000011")


def write_votes(store: FeedbackStore, numbers: range, votes: int, raters: int) -> None:
    """Events and what is derived from them."""
    rows: dict[str, list[Row]] = {name: [] for name in TABLES}
    for n in numbers:
        add_vote(rows, n, n * 7919 % raters, moment(n / votes))
    with store._file.write() as db:
        for table in ("comparisons", "unpaired", "demonstrations"):
            given = take_numbers(db, table, len(rows[table]))
            for row, number in zip(rows[table], given, strict=True):
                row["number"] = number
        db.conn.execute("PRAGMA defer_foreign_keys = ON")
        for table in TABLES:
            insert(db, table, iter(rows[table]))


TABLES = (
    "candidates",
    "messages",
    "choices",
    "thumbs",
    "comparisons",
    "unpaired",
    "demonstrations",
)


def add_vote(rows: dict[str, list[Row]], n: int, rater: int, at: str) -> None:
    """The rows of vote `n`, and at times of a demonstration and a prompt without a vote."""
    chat: Row = {"conversation_id": f"c{rater}", "created_at": at}
    question = f"question {n}?"
    chat["held_out"] = is_held_out_question(question)
    prompt = digest(f"prompt {n}")
    shown = f"s{n}" if n % 10 < 7 else None
    add_message(rows, f"q{n}", f"{question} {WORDS}", **chat, path_hash=prompt)
    for side in "ab" if shown else "a":
        label = {"candidates_id": shown, "label": side if shown else None}
        reply = {"role": "assistant", "adapter": f"policy-{policy_at(at):06d}", **label, **chat}
        add_message(rows, f"{side}{n}", f"{side} {n} {WORDS}", parent_id=f"q{n}", **reply)
    said = {"rater_id": f"r{rater}", "prompt_hash": prompt, "created_at": at}
    # A minute later: else the raters would be found to vote without reading.
    event = {"id": f"e{n}", "idempotency_key": f"k{n}", **said, "created_at": later(at)}
    became = {"id": digest(f"vote {n}"), "prompt_id": f"q{n}", "weight": 1.0, **said}
    became["split"] = split(bool(chat["held_out"]), rater % 10 == 0)
    if shown:
        picked, about = "ab"[n // 3 % 2], {"prompt_message_id": f"q{n}", "rater_id": f"r{rater}"}
        rows["candidates"].append({"id": shown, **about, "created_at": at})
        rows["choices"].append({"candidates_id": shown, "choice": picked, **event})
        pair = {"a": f"a{n}", "b": f"b{n}", "label": picked, "event_ids": f'["e{n}"]'}
        rows["comparisons"].append({**pair, "source": "choice", **became})
    else:
        good, about = n // 10 % 3 > 0, {"message_id": f"a{n}"}
        thumb = {"value": 1 if good else -1, "tags": "[]", "comment": ""}
        rows["thumbs"].append({**about, **thumb, **event})
        alone = {"good": good, "source": "thumb", "event_id": f"e{n}"}
        rows["unpaired"].append({**about, **alone, **became})
    if n % 50 == 0:
        add_demonstration(rows, n, {"rater_id": f"r{rater}", "created_at": at})
    if n % 10 == 0:
        chat["held_out"] = False
        add_message(rows, f"u{n}", f"unvoted {n} {WORDS}", **chat)


def add_message(rows: dict[str, list[Row]], name: str, content: str, **values: Any) -> None:
    """A message; of a user, unless `values` name the role."""
    row = dict.fromkeys(("parent_id", "adapter", "candidates_id", "label")) | {"role": "user"}
    row |= {"id": name, "content": content, "text_hash": text_hash(content)}
    rows["messages"].append(row | {"path_hash": digest(f"path {name}")} | values)


def add_demonstration(rows: dict[str, list[Row]], n: int, by: Row) -> None:
    """An answer to a prompt of its own."""
    asked, answer = f"write {n} {WORDS}", f"line {n} {WORDS}"
    rows["demonstrations"].append(
        {
            "id": f"d{n}",
            "prompt": json.dumps([{"role": "user", "content": asked}]),
            "content": answer,
            "idempotency_key": f"d{n}",
            "prompt_hash": digest(asked),
            "text_hash": text_hash(answer),
            "held_out": is_held_out_question(asked),
            **by,
        }
    )


def moment(share: float) -> str:
    """A time in the year, as the store writes it."""
    return iso_utc(BEGIN + YEAR * share)


def later(at: str) -> str:
    """A minute after a time."""
    return iso_utc(datetime.fromisoformat(at) + timedelta(minutes=1))


def policy_at(at: str) -> int:
    """Which policy was served."""
    return int((datetime.fromisoformat(at) - BEGIN) / YEAR * POLICIES)


def digest(text: str) -> str:
    """A hash as the store's."""
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def in_a_child(data: Path) -> dict[str, float]:
    """The figures of a process of its own."""
    command = [sys.executable, "-m", "benchmarks.cycle_data", "--measure", str(data)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def medians(rounds: list[dict[str, float]]) -> dict[str, float]:
    """The median of each figure."""
    return {name: statistics.median(one[name] for one in rounds) for name in rounds[0]}


def measure(data: Path) -> dict[str, float]:
    """What a cycle does before it trains, and its end: processor's seconds of each part, and MB."""
    from rlhf_core.cycle.evidence import choose_evidence
    from rlhf_core.cycle.fitting import fit_snapshot
    from rlhf_core.cycle.resume import save_evidence
    from rlhf_core.cycle.snapshot import read_snapshot
    from rlhf_core.model.loading import load_base
    from rlhf_core.reward.reward_data import RewardData

    settings = CycleSettings()
    base = load_base("starter", quantization="none", device="cpu")
    seconds: dict[str, float] = {}  # of the processor: others may use it, too

    def timed(name: str, act: Callable[[], Any]) -> Any:
        started = time.process_time()
        result = act()
        seconds[name] = time.process_time() - started
        return result

    with FeedbackStore(data / "feedback.db") as store, watched_locks(store) as locks:
        cycle = store.start_cycle({}, pid=os.getpid())
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
        before, started = memory("VmRSS"), time.perf_counter()
        evidence = timed("choose", lambda: choose_evidence(store, settings))
        snapshot = timed("read", lambda: read_snapshot(store, evidence, settings))
        folder = data / "checkpoints"
        timed(
            "save", lambda: save_evidence(folder, evidence, snapshot, config={}, seed=0, served="")
        )
        ids, prompts = snapshot.ids, evidence.unvoted
        timed("note", lambda: store.use_comparisons(cycle.id, ids, prompts=prompts, seen={}))
        fitted, _ = timed("fit", lambda: fit_snapshot(snapshot, base.chat))
        sides = (fitted.train, fitted.train_thumbs), (fitted.held_out, fitted.held_out_thumbs)
        timed("prepare", lambda: [RewardData(base, *side, settings.reward) for side in sides])
        total, elapsed = sum(seconds.values()), time.perf_counter() - started
        grown = memory("VmHWM") - before
        new = timed("count_new", store.new_comparisons)
        timed("assess", lambda: store.assess_raters(by="benchmark"))
        store.finish_cycle(cycle.id, state="failed")  # so that the next round finds the same
    return {
        "seconds": total,
        "wall_seconds": elapsed,
        "memory": grown,
        "longest_lock_ms": 1000 * max(wall for wall, _ in locks),
        "longest_lock_cpu_ms": 1000 * max(cpu for _, cpu in locks),
        **seconds,
        "opinions": len(snapshot.ids),
        "new": new,
    }


@contextmanager
def watched_locks(store: FeedbackStore) -> Iterator[list[tuple[float, float]]]:
    """How long each write transaction took: (wall, processor) seconds.

    On a machine with other work a process waits for its turn in the midst of a transaction.
    """
    held: list[tuple[float, float]] = []
    original = store._file.write

    @contextmanager
    def write() -> Iterator[Any]:
        wall, cpu = time.perf_counter(), time.process_time()
        with original() as db:
            yield db
        held.append((time.perf_counter() - wall, time.process_time() - cpu))

    store._file.write = write  # type: ignore[method-assign]
    yield held


def memory(name: str) -> float:
    """The peak (VmHWM) or the present (VmRSS) of this process, in MB; getrusage knows no reset."""
    status = Path("/proc/self/status").read_text()
    found = re.search(rf"{name}:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) / 1024


if __name__ == "__main__":
    main()
