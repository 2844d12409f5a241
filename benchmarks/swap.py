"""What a swap of adapters costs the people who chat meanwhile, and what several at once cost.

    python -m benchmarks.swap --json                 # the starter
    python -m benchmarks.swap --model DIR --json     # any model

Adapters of four contents are published by another process under names that are never used again,
as cycles do it. All is greedy, in float32 on the CPU. What is measured:

- `adapters`: tokens a second of 24 chats on three adapters over those of 24 on one (bar .6), in
  turns, the median of the rounds.
- `replies`: 32 people ask without a pause while 100 adapters are swapped. Replies that are lost,
  and those that differ by a byte from what the adapter that they name writes alone (bar 0 each).
- `first`: 95% of the times to the first text of who asks as a swap begins, over that of who asks
  between two swaps, while 31 others ask (bar 1.2); in turns, the median of the rounds.
- `memory`: the process's memory after 200 swaps over that after 20, nobody chatting (bar 1.02).
"""

import argparse
import asyncio
import json
import os
import shutil
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import asynccontextmanager
from itertools import count
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import psutil
import torch

from benchmarks.serving import said
from chat_app.engine import GenerationRequest
from chat_app.engine.local import LocalEngine
from chat_app.settings import EngineSettings
from rlhf_core.model.adapters import publish_adapter
from rlhf_core.model.base_model import Base
from rlhf_core.model.facts import machine_facts
from rlhf_core.model.loading import load_base
from rlhf_core.records import Sampling

CONTENTS, SPREAD = 4, 0.01  # adapters that differ, and how far their weights are from the base's
ROWS, CHATS, TOKENS = 32, 24, 48
SWAPS, PROBES, PAUSE_S = 100, 20, 0.4
FEW, MANY = 20, 200
TEXTS = (
    "What is the capital of France?",
    "What is the capital of Norway?",
    "What is 3 plus 4?",
    "What is 9 minus 2?",
    "What is the opposite of hot?",
    "What is the opposite of early?",
    "Hello!",
    "Tell me about cats.",
)
BARS = {"adapters": 0.6, "first": 1.2, "memory": 1.02}


class Bench:
    """The engine, and adapters to be published on it."""

    def __init__(self, model: str, cache: Path, folder: Path) -> None:
        threads = machine_facts().cores
        torch.set_num_threads(threads)
        self.folder = folder
        self.texts = TEXTS
        base = load_base(model, quantization="none", device="cpu", cache=cache)
        self.fingerprint = base.fingerprint
        for content in range(CONTENTS):
            _write(base, content, folder / f"content-{content}")
        self.engine = LocalEngine(
            lambda: base, EngineSettings(rows=ROWS, threads=threads), key=None, reply_seconds=600
        )
        while not self.engine.health()["ready"]:
            time.sleep(0.05)
        self._numbers, self._questions = count(1), count(100)
        self._cycles = ProcessPoolExecutor(1, mp_context=get_context("spawn"))
        self.served = ""

    async def publish(self) -> str:
        """The name of the next adapter, which another process has written."""
        number = next(self._numbers)
        source, path = self.folder / f"content-{number % CONTENTS}", self.folder / name_of(number)
        await self._elsewhere(publish, source, path, self.fingerprint)
        return path.name

    async def swap(self, name: str = "") -> None:
        """Give the next adapter to new replies, and let the one before go."""
        name, before = name or await self.publish(), self.served
        await self.engine.load(name, self.folder / name)
        self.served = name
        if before:
            await self.engine.unload(before)
            await self._elsewhere(shutil.rmtree, self.folder / before)

    async def _elsewhere(self, work: Callable[..., Any], *args: Any) -> None:
        await asyncio.get_running_loop().run_in_executor(self._cycles, work, *args)

    async def ask(self, text: str, adapter: str) -> tuple[str, float]:
        """One greedy reply, and the seconds to its first text."""
        start, first, parts = time.perf_counter(), 0.0, ""
        sampling = Sampling(0.0, 1.0, TOKENS)
        async for piece in self.engine.stream(GenerationRequest(said(text), adapter, sampling, 0)):
            first, parts = first or time.perf_counter() - start, parts + piece.text
        return parts, first

    @asynccontextmanager
    async def people(
        self, answers: list[tuple[str, str, str, float]], *, new: bool = False
    ) -> AsyncIterator[None]:
        """People who ask, read and ask again; each answer with its question and its adapter.

        New questions are read whole by every adapter; others only by one that is new, too.
        """
        going = True

        async def one(place: int) -> None:
            """Ask until the others have enough."""
            for turn in count(place):
                if not going:
                    return
                text, adapter = self.texts[turn % len(self.texts)], self.served
                text = f"{next(self._questions)} {text}" if new else text
                try:
                    answers.append((text, adapter, *await self.ask(text, adapter)))
                except Exception as exc:
                    answers.append((text, adapter, f"lost: {exc}", 0.0))

        async with asyncio.TaskGroup() as group:
            for place in range(ROWS - new):  # with new questions there is one who probes
                group.create_task(one(place))
            try:
                yield
            finally:
                going = False

    async def replies(self) -> dict[str, Any]:
        """Replies during many swaps beside those of each adapter alone."""
        answers: list[tuple[str, str, str, float]] = []
        async with self.people(answers):
            for _ in range(SWAPS):
                await self.swap()
                await asyncio.sleep(0.2)
        alone: dict[tuple[str, int], str] = {}
        for _ in range(CONTENTS):
            await self.swap()
            content = int(self.served.rpartition("-")[2]) % CONTENTS
            for text in self.texts:
                alone[text, content] = (await self.ask(text, self.served))[0]
        told = Counter[str]()
        for text, adapter, answer, _ in answers:
            lost = answer.startswith("lost: ")
            same = answer == alone[text, int(adapter.rpartition("-")[2]) % CONTENTS]
            told["lost" if lost else "equal" if same else "differ"] += 1
        different = len(set(alone.values()))
        return {**dict(told), "of": len(answers), "swaps": SWAPS, "different_texts": different}

    async def first(self, _seed: int) -> tuple[float, float]:
        """Seconds to the first text, 95%: of who asks as a swap begins, and between two swaps."""
        answers: list[tuple[str, str, str, float]] = []
        during, between = list[float](), list[float]()
        async with self.people(answers, new=True):
            for _ in range(PROBES):
                name = await self.publish()
                await asyncio.sleep(PAUSE_S)
                swap = asyncio.create_task(self.swap(name))
                during.append(await self._probe())
                await swap
                await asyncio.sleep(PAUSE_S)
                between.append(await self._probe())
                await asyncio.sleep(PAUSE_S)
        lost = [one[2] for one in answers if one[2].startswith("lost: ")]
        if lost:
            raise SystemExit(f"{len(lost)} replies are lost: {lost[0]}")
        return tuple(statistics.quantiles(s, n=20)[-1] for s in (during, between))  # type: ignore[return-value]

    async def _probe(self) -> float:
        question = f"{next(self._questions)} {self.texts[0]}"
        return (await self.ask(question, self.served))[1]

    async def adapters(self, seed: int) -> tuple[float, float]:
        """Tokens a second of chats on three adapters, and on one."""
        names = []
        for content in range(3):
            name = name_of(900_000 + content)
            if not (path := self.folder / name).exists():
                await self._elsewhere(
                    publish, self.folder / f"content-{content}", path, self.fingerprint
                )
            await self.engine.load(name, path)
            names.append(name)
        return await self._speed(names, f"{seed} a"), await self._speed(names[:1], f"{seed} b")

    async def _speed(self, names: Sequence[str], new: str) -> float:
        start, made = time.perf_counter(), self.engine.health()["new_tokens"]
        await asyncio.gather(
            *(
                self.ask(
                    f"{new}{chat} {self.texts[chat % len(self.texts)]}", names[chat % len(names)]
                )
                for chat in range(CHATS)
            )
        )
        made = self.engine.health()["new_tokens"] - made
        return float(made / (time.perf_counter() - start))

    async def memory(self, _seed: int) -> tuple[float, float]:
        """MB of the process after many swaps, and after a few."""
        held = []
        for swaps in (FEW, MANY - FEW):
            for _ in range(swaps):
                await self.swap()
                await self.ask(self.texts[0], self.served)
            held.append(psutil.Process().memory_info().rss / 2**20)
        return held[1], held[0]


def name_of(number: int) -> str:
    """The name of an adapter."""
    return f"policy-{number:06d}"


def publish(source: Path, path: Path, base: str) -> None:
    """Write an adapter as a cycle does."""
    staging = path.with_name(f".{path.name}")
    shutil.copytree(source, staging)
    publish_adapter(staging, path, kind="policy", base=base)


def _write(base: Base, content: int, folder: Path) -> None:
    """An adapter with random weights, far enough from the base that its replies differ."""
    base.attach("new", seed=content)
    torch.manual_seed(content)
    with torch.no_grad():
        for key, weights in base.model.named_parameters():
            if ".lora_B.new." in key:
                weights.normal_(std=SPREAD)
    base.save("new", folder)
    base.drop("new")


def main() -> None:
    """Print each figure beside its bar."""
    cli = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    cli.add_argument("--model", default="starter")
    cli.add_argument("--cache", type=Path, default=Path("data/models"), help="converted models")
    cli.add_argument("--rounds", type=int, default=5)
    cli.add_argument("--json", action="store_true", help="end with one line of JSON")
    options = cli.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(options.model, options.cache, Path(folder))
        try:
            found = asyncio.run(measured(bench, options.rounds))
        finally:
            bench.engine.close()
    found |= {"name": "swap", "model": options.model, "rounds": options.rounds}
    print(json.dumps(found, indent=None if options.json else 1))


async def measured(bench: Bench, rounds: int) -> dict[str, Any]:
    """All figures, each with the load."""
    found: dict[str, Any] = {}
    await bench.swap()  # so that something is served
    for name, measure, times in (
        ("adapters", bench.adapters, rounds + 1),
        ("first", bench.first, rounds + 1),
        ("memory", bench.memory, 1),
    ):
        pairs = [await measure(seed) for seed in range(times)][-rounds:]
        ratios = sorted(a / b for a, b in pairs)
        middle = statistics.median(ratios)
        found[name] = {
            "ratio": round(middle, 3),
            "bar": BARS[name],
            "met": middle >= BARS[name] if name == "adapters" else middle <= BARS[name],
            "ratios": [round(ratio, 3) for ratio in ratios],
            "measured": [round(statistics.median(side), 4) for side in zip(*pairs, strict=True)],
            "load": round(os.getloadavg()[0], 1),
        }
        print(name, found[name], flush=True)
    found["replies"] = await bench.replies() | {"load": round(os.getloadavg()[0], 1)}
    print("replies", found["replies"], flush=True)
    return found


if __name__ == "__main__":
    main()
