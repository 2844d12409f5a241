"""The serving engine beside `generate`, and what people do to each other's replies; ratios only.

    python -m benchmarks.serving --json                 # the starter
    python -m benchmarks.serving --model DIR --json     # any model
    python -m benchmarks.serving --only padded,turns    # some of it

All is seeded, in float32 on the CPU, with as many threads on both sides, in turns within a round,
with two numbers a round and the median of their ratios; the first round warms up. What is compared:

- `chats`: tokens a second of 16 chats at once over `generate`, one after the other, replies of 64
  tokens (bar 8).
- `short`: the same with replies as they end, which are a few tokens on the starter, so that most of
  the time is for reading prompts.
- `mixed`, `equal`: the same 16 prompts over `generate` on one padded batch, replies of 16 to 128
  tokens (bar 1.6) and all of 64 (bar .9). The padded batch goes on until its longest reply ends.
- `arrivals`: 95% of the time to the first text of 16 chats that come one after the other while the
  first one's reply is written, over that of a chat alone (bar 3). They come no faster than one in
  50 ms.
- `gap`: 95% of the time between two tokens of 8 chats while a prompt of 4,000 tokens, or as long as
  the model takes, is read, over the same without it (bar 2).
- `turns`: tokens that the tenth turn of a conversation reads, over those that are new in it (1.5).
"""

import argparse
import asyncio
import itertools
import json
import os
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GenerationConfig
from transformers.utils.logging import disable_progress_bar

from benchmarks.decoding import TOKENS, one_by_one, together
from chat_app.engine import GenerationRequest
from chat_app.engine.local import LocalEngine
from chat_app.settings import EngineSettings
from feedback_store import BASE_ADAPTER, PromptMessage
from rlhf_core.config import ReplySettings
from rlhf_core.model.conversions import loadable
from rlhf_core.model.facts import machine_facts
from rlhf_core.model.loading import load_base
from rlhf_core.model.sources import resolve
from rlhf_core.records import Sampling
from rlhf_core.worlds.checkable.requests import built_in_requests

CHATS, ROUNDS = 16, 5
MIXED = tuple(16 + 112 * place // (CHATS - 1) for place in range(CHATS))  # tokens of the replies
EQUAL = (TOKENS,) * CHATS
SPACING_S, STEADY, LONG = 0.05, 8, 4000
BARS: dict[str, float | None] = {
    "chats": 8.0,
    "short": None,
    "mixed": 1.6,
    "equal": 0.9,
    "arrivals": 3.0,
    "gap": 2.0,
    "turns": 1.5,
}
AT_MOST = ("arrivals", "gap", "turns")


class Bench:
    """The engine, and the same network for `generate`."""

    def __init__(self, model: str, cache: Path, *, pack: bool, threads: int) -> None:
        path = loadable(resolve(model, cache), cache)
        context = AutoConfig.from_pretrained(path).max_position_embeddings
        self.most = min(LONG, context - 2 * max(MIXED))  # tokens of a prompt
        torch.set_num_threads(threads)
        self.engine = LocalEngine(
            lambda: load_base(
                model,
                quantization="none",
                device="cpu",
                cache=cache,
                reply=ReplySettings(prompt_tokens=self.most),
            ),
            EngineSettings(rows=2 * CHATS, threads=threads, pack=pack),
            key=None,
            reply_seconds=600.0,
        )
        while not self.engine.health()["ready"]:
            if failure := self.engine.health()["failure"]:
                raise SystemExit(f"the engine did not start: {failure}")
            time.sleep(0.1)
        disable_progress_bar()  # type: ignore[no-untyped-call]
        self.network: Any = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
        self.tokenizer: Any = AutoTokenizer.from_pretrained(path)
        self._numbers = itertools.count(100)
        self.texts = [prompt.text for prompt in built_in_requests()[:CHATS]]
        self.network.generation_config = GenerationConfig(  # type: ignore[no-untyped-call]
            eos_token_id=self.network.generation_config.eos_token_id,
            pad_token_id=self.tokenizer.eos_token_id,
        )

    async def reply(self, prompt: Sequence[PromptMessage], tokens: int, seed: int) -> list[float]:
        """The moments at which a reply's tokens came, the last one once it ended."""
        sampling, moments = Sampling(0.6, 0.95, tokens), [0.0]
        async for piece in self.engine.stream(
            GenerationRequest(prompt, BASE_ADAPTER, sampling, seed)
        ):
            moments += [time.perf_counter()] * (piece.new_tokens - len(moments) + 1)
        return moments[1:]

    def new(self) -> list[str]:
        """Questions that the engine has not read before, not even their beginnings."""
        number = next(self._numbers)
        return [f"{number} {text}" for text in self.texts]

    async def chats(self, seed: int) -> tuple[float, float]:
        """Tokens a second of whole replies: ours, and theirs one after the other."""
        texts = self.new()
        ours = await self._whole(texts, EQUAL, seed)
        return ours, one_by_one(self.network, self.tokenizer, texts, seed, least=TOKENS)

    async def short(self, seed: int) -> tuple[float, float]:
        """The same of replies that end by themselves."""
        texts = self.new()
        ours = await together(self.engine, texts, seed)
        return ours, one_by_one(self.network, self.tokenizer, texts, seed)

    async def padded(self, lengths: Sequence[int], seed: int) -> tuple[float, float]:
        """Useful tokens a second: ours, and theirs on one padded batch."""
        texts = self.new()
        return await self._whole(texts, lengths, seed), self._padded(texts, lengths, seed)

    async def _whole(self, texts: Sequence[str], lengths: Sequence[int], seed: int) -> float:
        """Our tokens a second; a reply is as long as is said, whatever it says."""
        ends, self.engine._base.ends = self.engine._base.ends, frozenset()  # type: ignore[union-attr]
        start = time.perf_counter()
        await asyncio.gather(
            *(
                self.reply(said(text), tokens, seed)
                for text, tokens in zip(texts, lengths, strict=True)
            )
        )
        ours = sum(lengths) / (time.perf_counter() - start)
        self.engine._base.ends = ends  # type: ignore[union-attr]
        return ours

    @torch.inference_mode()
    def _padded(self, texts: Sequence[str], lengths: Sequence[int], seed: int) -> float:
        torch.manual_seed(seed)
        self.tokenizer.padding_side = "left"
        if self.tokenizer.pad_token is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token
        start = time.perf_counter()
        inputs = self.tokenizer.apply_chat_template(
            [[{"role": "user", "content": text}] for text in texts],
            add_generation_prompt=True,
            return_tensors="pt",
            return_dict=True,
            padding=True,
        )
        longest = max(lengths)
        how = {"do_sample": True, "temperature": 0.6, "top_p": 0.95, "top_k": 0}
        self.network.generate(**inputs, min_new_tokens=longest, max_new_tokens=longest, **how)
        return sum(lengths) / (time.perf_counter() - start)

    async def arrivals(self, seed: int) -> tuple[float, float]:
        """Seconds to the first text: 95% of those who come one after the other, and alone."""

        async def first(text: str, after: float) -> tuple[float, float]:
            await asyncio.sleep(after)
            start = time.perf_counter()
            moments = await self.reply(said(text), 64, seed)
            return moments[0] - start, moments[-1] - start

        alone = [await first(text, 0) for text in self.new()[:4]]
        firsts, wholes = zip(*alone, strict=True)
        spacing = max(SPACING_S, statistics.median(wholes) / CHATS)
        times = [first(text, spacing * place) for place, text in enumerate(self.new())]
        return _p95([one for one, _ in await asyncio.gather(*times)]), statistics.median(firsts)

    async def gap(self, seed: int) -> tuple[float, float]:
        """Seconds between two tokens, 95%: while a long prompt is read, and without it."""

        async def steady() -> list[float]:
            texts = self.new()[:STEADY]
            found = await asyncio.gather(*(self.reply(said(t), 96, seed) for t in texts))
            return [b - a for moments in found for a, b in itertools.pairwise(moments)]

        # each token by itself; people get a few at once
        settings = self.engine._settings
        self.engine._settings = settings.model_copy(update={"updates_per_second": 1e6})
        without = _p95(await steady())
        words = f"{seed} " + " ".join(self.texts)
        most = int(0.8 * self.most * len(words) / len(self.tokenizer(words).input_ids))
        long = (words * (1 + most // len(words)))[:most]
        beside = asyncio.create_task(self.reply(said(long), 1, seed))
        gaps = await steady()
        await beside
        self.engine._settings = settings
        return _p95(gaps), without

    async def turns(self, seed: int) -> tuple[float, float]:
        """Tokens that the tenth turn reads, and those that are new in it."""
        dialogue: list[PromptMessage] = []
        read = before = 0
        for turn in range(10):  # short ones, for what does not fit is left out
            dialogue.append(PromptMessage(role="user", content=f"{seed} {turn}"))
            made, parts = self.engine._made["prompt_tokens"], ""
            async for piece in self.engine.stream(
                GenerationRequest(tuple(dialogue), BASE_ADAPTER, Sampling(0.6, 0.95, 8), seed)
            ):
                parts, whole = parts + piece.text, piece.prompt_tokens
            read, new, before = self.engine._made["prompt_tokens"] - made, whole - before, whole
            dialogue.append(PromptMessage(role="assistant", content=parts))
        return float(read), float(new)


def said(text: str) -> tuple[PromptMessage, ...]:
    """A conversation of one message."""
    return (PromptMessage(role="user", content=text),)


def main() -> None:
    """Print each ratio beside its bar."""
    cli = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    cli.add_argument("--model", default="starter")
    cli.add_argument("--cache", type=Path, default=Path("data/models"), help="converted models")
    cli.add_argument("--rounds", type=int, default=ROUNDS)
    cli.add_argument("--only", default=",".join(BARS), help="what to compare")
    cli.add_argument("--threads", type=int, default=machine_facts().cores, help="of both sides")
    cli.add_argument("--no-pack", action="store_true", help="with the weights as they are")
    cli.add_argument("--json", action="store_true", help="end with one line of JSON")
    options = cli.parse_args()
    bench = Bench(options.model, options.cache, pack=not options.no_pack, threads=options.threads)
    measures: dict[str, Callable[[int], Awaitable[tuple[float, float]]]] = {
        "chats": bench.chats,
        "short": bench.short,
        "mixed": lambda seed: bench.padded(MIXED, seed),
        "equal": lambda seed: bench.padded(EQUAL, seed),
        "arrivals": bench.arrivals,
        "gap": bench.gap,
        "turns": bench.turns,
    }
    try:
        found = {
            name: asyncio.run(compared(measures[name], name, options.rounds))
            for name in options.only.split(",")
        }
    finally:
        bench.engine.close()
    found |= {"name": "serving", "model": options.model, "rounds": options.rounds}
    found["threads"] = options.threads
    print(json.dumps(found, indent=None if options.json else 1))


async def compared(
    measure: Callable[[int], Awaitable[tuple[float, float]]], name: str, rounds: int
) -> Any:
    """The median ratio and all of them, with what was measured and the load."""
    pairs = [await measure(seed) for seed in range(rounds + 1)][1:]
    ratios = sorted(a / b for a, b in pairs)
    middle = statistics.median(ratios)
    bar = BARS[name]
    result = {
        "ratio": round(middle, 2),
        "bar": bar,
        "met": None if bar is None else middle <= bar if name in AT_MOST else middle >= bar,
        "ratios": [round(ratio, 2) for ratio in ratios],
        "measured": [round(statistics.median(side), 4) for side in zip(*pairs, strict=True)],
        "load": round(os.getloadavg()[0], 1),
    }
    print(name, result, flush=True)
    return result


def _p95(values: Sequence[float]) -> float:
    return statistics.quantiles(values, n=20, method="inclusive")[-1]


if __name__ == "__main__":
    main()
