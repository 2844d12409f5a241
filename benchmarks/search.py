"""What full-text search costs those who chat, and what it gives operators.

    python -m benchmarks.search --json

Each round writes the same chats to two fresh stores in turn, one with the index and one whose
triggers were dropped: one writer who waits for each commit, and 64 who share them. Then one large
store is searched, and one of its raters is forgotten.
"""

import argparse
import json
import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from feedback_store import FeedbackStore

ROUNDS = 5
ALONE, TOGETHER = 150, 3_000  # messages, each with a thumb
WRITERS = 64
LARGE = 50_000  # messages
BAR = 0.7  # of the events a second without the index
WORDS = [f"word{number}" for number in range(20_000)]


def text(chance: random.Random, words: int = 60) -> str:
    """Words of which few are common and many are rare, as in any language."""
    return " ".join(WORDS[min(int(chance.paretovariate(0.4)) - 1, 19_999)] for _ in range(words))


def write(store: FeedbackStore, conversation: str, chance: random.Random, count: int) -> None:
    """Messages, each with a thumb: two events, two commits."""
    for _ in range(count):
        said = store.add_message(conversation, "assistant", text(chance))
        store.add_thumb(said.id, "ann", 1, idempotency_key=said.id)


def events_a_second(folder: Path, *, indexed: bool, writers: int, messages: int) -> float:
    """Acknowledged events a second of some threads on a fresh store."""
    with FeedbackStore(folder / f"{time.monotonic_ns()}.db") as store:
        if not indexed:
            with store._file.write() as db:
                db.execute("DROP TRIGGER message_is_searchable")
        conversation = store.add_conversation(store.add_rater("ann", consent="1").id).id
        chances = [random.Random(number) for number in range(writers)]
        began = time.perf_counter()
        with ThreadPoolExecutor(writers) as pool:
            share = messages // writers
            list(pool.map(lambda chance: write(store, conversation, chance, share), chances))
        return 2 * share * writers / (time.perf_counter() - began)


def spread(values: list[float], bar: float | None = None) -> dict[str, float | None]:
    """The figures of one measure."""
    return {
        "median": round(statistics.median(values), 3),
        "min": round(min(values), 3),
        "max": round(max(values), 3),
        "bar": bar,
    }


def seconds(act: Callable[[], Any]) -> float:
    """How long an act takes."""
    began = time.perf_counter()
    act()
    return time.perf_counter() - began


def measure_large(folder: Path) -> dict[str, dict[str, float | None]]:
    """Search and forgetting in a large store, in seconds."""
    chance = random.Random(0)
    with FeedbackStore(folder / "large.db") as store:
        for rater in ("ann", "bob"):
            conversation = store.add_conversation(store.add_rater(rater).id).id
            for _ in range(LARGE // 2_000):
                with store._file.write():
                    for _ in range(1_000):
                        store.add_message(conversation, "user", text(chance))
        rare = [seconds(lambda: store.search(chance.choice(WORDS[500:]))) for _ in range(21)]
        common = [seconds(lambda: store.search(WORDS[0])) for _ in range(5)]
        forget = seconds(lambda: store.forget("ann"))
    return {
        f"rare word in {LARGE} messages, s": spread(rare),
        f"word in most of {LARGE} messages, s": spread(common),
        f"forget {LARGE // 2} messages of {LARGE}, s": spread([forget]),
    }


def main() -> None:
    """Print the ratios, and with `--json` nothing else."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="only the line of JSON")
    quiet = parser.parse_args().json
    ratios: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for writers, messages in ((1, ALONE), (WRITERS, TOGETHER)):
            found: dict[bool, list[float]] = {True: [], False: []}
            for _ in range(ROUNDS):
                for indexed in (False, True):
                    found[indexed].append(
                        events_a_second(folder, indexed=indexed, writers=writers, messages=messages)
                    )
            pairs = zip(found[True], found[False], strict=True)
            ratios[f"events a second with the index / without, {writers} writers"] = spread(
                [with_it / without for with_it, without in pairs], BAR
            )
            ratios[f"events a second with the index, {writers} writers"] = spread(found[True])
        ratios |= measure_large(folder)
    if not quiet:
        for what, figures in ratios.items():
            print(f"{figures['median']:>10}  {what}")
    print(json.dumps({"name": "search", "ratios": ratios, "load": os.getloadavg()[0]}))


if __name__ == "__main__":
    main()
