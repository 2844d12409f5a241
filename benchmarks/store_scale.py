"""Deriving comparisons from a million events: how long, how much memory, and is it the same?

    python -m benchmarks.store_scale --json                    # a million events
    python -m benchmarks.store_scale --events 100000 --json

The events are written with bare SQL, in the proportions 4 choices : 4 thumbs : 1 edit : 1 ranking.
Measured in turn, several times: a bare scan (every row of events and messages fetched into Python),
a full rebuild of all comparisons, and, after 10,000 more events, what is new alone. At the end the
tables must be equal to those of a store that derived everything at once.
"""

import argparse
import hashlib
import json
import os
import resource
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sqlite_utils import Database

from feedback_store import FeedbackStore
from feedback_store.feedback.events import EVENT_TABLES
from feedback_store.splits import is_held_out_question, path_hash, text_hash

RATERS = 500
MORE = 10_000
BARS = {"incremental_over_full": 0.05, "full_over_scan": 5.0, "memory_mb": 200.0}
SCANNED = (*EVENT_TABLES.values(), "messages", "candidates")
TIME = "2026-01-01T00:00:00.000Z"
FILLER = "and so on " * 40  # a row of events is about half a kilobyte, a reply's


def main() -> None:
    """Build, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        measured = run(Path(folder) / "feedback.db", args.events, args.rounds)
    ratios = {name: summary(values, BARS[name]) for name, values in measured.items()}
    for name, ratio in ratios.items():
        print(f"{name}: {ratio}")
    if args.json:
        load = os.getloadavg()[0]
        print(json.dumps({"name": "store_scale", "ratios": ratios, "load": load}))


def run(path: Path, events: int, rounds: int) -> dict[str, list[float]]:
    """The ratios of each round."""
    measured: dict[str, list[float]] = {name: [] for name in BARS}
    at_start = peak_mb()
    with FeedbackStore(path) as store:
        started = time.perf_counter()
        write_events(store, 0, events)
        store.refresh_comparisons()
        print(f"{events} events written and derived in {time.perf_counter() - started:.0f} s")
        for round_ in range(rounds):
            scan = timed(lambda: bare_scan(store))
            full = timed(store.rebuild_comparisons)
            measured["memory_mb"].append(peak_mb() - at_start)
            write_events(store, events + round_ * MORE, MORE)
            new = timed(store.refresh_comparisons)
            measured["incremental_over_full"].append(new / full)
            measured["full_over_scan"].append(full / scan)
            print(f"scan {scan:.2f} s, full {full:.2f} s, {MORE} more {new:.3f} s", flush=True)
        incremental = checksum(store)
        with store._file.write() as db:
            db.conn.execute("DELETE FROM comparisons")
            db.conn.execute("DELETE FROM unpaired")
        store.rebuild_comparisons()
        assert checksum(store) == incremental, "the incremental result differs from a full one"
        print("incremental and full results are identical:", incremental)
    return measured


def write_events(store: FeedbackStore, first: int, count: int) -> None:
    """Events `first` to `first + count`, one conversation each, in one transaction."""
    with store._file.write() as db:
        if first == 0:
            insert(
                db,
                "raters",
                ({"id": f"r{i}", "kind": "simulated", "created_at": TIME} for i in range(RATERS)),
            )
        numbers = range(first, first + count)
        insert(
            db,
            "conversations",
            (
                {"id": f"c{n}", "rater_id": rater(n), "title": "", "created_at": TIME}
                for n in numbers
            ),
        )
        insert(db, "messages", (question(n) for n in numbers))
        insert(
            db,
            "candidates",
            (
                {
                    "id": f"s{n}",
                    "prompt_message_id": f"q{n}",
                    "rater_id": rater(n),
                    "created_at": TIME,
                }
                for n in numbers
                if kind(n) in ("choices", "rankings")
            ),
        )
        insert(db, "messages", (reply for n in numbers for reply in replies(n)))
        for table in ("choices", "thumbs", "demonstrations", "rankings"):
            insert(db, table, (event(n) for n in numbers if kind(n) == table))
        db.conn.executemany(
            "INSERT OR IGNORE INTO stale_prompts VALUES (?, ?)",
            ((rater(n), prompt(n)) for n in numbers),
        )


def kind(n: int) -> str:
    """The table of event `n`."""
    return (
        "choices",
        "thumbs",
        "choices",
        "thumbs",
        "demonstrations",
        "choices",
        "thumbs",
        "rankings",
        "choices",
        "thumbs",
    )[n % 10]


def rater(n: int) -> str:
    """Whose event it is; ten events in a row are of one rater."""
    return f"r{n // 10 % RATERS}"


def text(n: int) -> str:
    """A question; thumbs of one rater meet on the same one."""
    return f"question {n // 10 if kind(n) == 'thumbs' else n}"


def prompt(n: int) -> str:
    """The hash of the question's path."""
    return path_hash(None, "user", text(n))


def question(n: int) -> dict[str, Any]:
    """The user message of event `n`."""
    return message(n, f"q{n}", "user", text(n), None, prompt(n))


def replies(n: int) -> Iterator[dict[str, Any]]:
    """What was judged: three replies of a ranking, two of a choice, else one."""
    shown = {"rankings": "abc", "choices": "ab"}.get(kind(n), "")
    for label in shown or "-":
        content = f"reply {label} {n} {FILLER}"
        path = path_hash(prompt(n), "assistant", content)
        row = message(n, f"m{n}{label}", "assistant", content, f"q{n}", path)
        yield row | {"candidates_id": f"s{n}" if shown else None, "label": label if shown else None}


def message(
    n: int, name: str, role: str, content: str, parent: str | None, path: str
) -> dict[str, Any]:
    """A row of messages."""
    return {
        "id": name,
        "conversation_id": f"c{n}",
        "parent_id": parent,
        "role": role,
        "content": content,
        "candidates_id": None,
        "label": None,
        "created_at": TIME,
        "path_hash": path,
        "text_hash": text_hash(content),
        "held_out": is_held_out_question(text(n)),
    }


def event(n: int) -> dict[str, Any]:
    """A row of an event table."""
    row = {
        "id": f"e{n}",
        "rater_id": rater(n),
        "idempotency_key": f"k{n}",
        "created_at": TIME,
        "prompt_hash": prompt(n),
    }
    if kind(n) == "choices":
        return row | {"candidates_id": f"s{n}", "choice": ("a", "b", "tie", "both_bad")[n // 2 % 4]}
    if kind(n) == "rankings":
        return row | {"candidates_id": f"s{n}", "order": '[["b"], ["a", "c"]]'}
    if kind(n) == "thumbs":
        return row | {
            "message_id": f"m{n}-",
            "value": 1 if n % 3 else -1,
            "tags": "[]",
            "comment": "",
        }
    return row | {
        "message_id": f"m{n}-",
        "prompt": "[]",
        "content": f"better {n}",
        "text_hash": text_hash(f"better {n}"),
    }


def insert(db: Database, table: str, rows: Iterator[dict[str, Any]]) -> None:
    """Bare `executemany`, a row at a time."""
    first = next(rows, None)
    if first is None:
        return
    columns = ", ".join(f'"{name}"' for name in first)
    sql = f'INSERT INTO "{table}" ({columns}) VALUES ({", ".join("?" * len(first))})'
    db.conn.execute(sql, list(first.values()))
    db.conn.executemany(sql, (list(row.values()) for row in rows))


def bare_scan(store: FeedbackStore) -> None:
    """Fetch every row that derivation could have a use for, and do nothing with it."""
    with store._file.long_read() as db:
        for table in SCANNED:
            for _ in db.conn.execute(f"SELECT * FROM {table}"):
                pass


def checksum(store: FeedbackStore) -> str:
    """Of all that was derived."""
    digest = hashlib.sha256()
    with store._file.long_read() as db:
        for table in ("comparisons", "unpaired"):
            for row in db.conn.execute(f"SELECT * FROM {table} ORDER BY id"):
                digest.update(repr(row).encode())
    return digest.hexdigest()[:16]


def timed(act: Any) -> float:
    """Seconds of wall time."""
    started = time.perf_counter()
    act()
    return time.perf_counter() - started


def peak_mb() -> float:
    """The most memory this process has had, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def summary(values: list[float], bar: float) -> dict[str, float]:
    """Median, extremes and the bar."""
    return {
        "median": round(statistics.median(values), 4),
        "min": round(min(values), 4),
        "max": round(max(values), 4),
        "bar": bar,
    }


if __name__ == "__main__":
    main()
