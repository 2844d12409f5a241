"""Tokens a second of the serving engine beside transformers' `generate`, one chat after the other.

    python -m benchmarks.decoding --json                 # the starter
    python -m benchmarks.decoding --model DIR --json     # any model

Both decode the same prompts in float32 on the CPU, in turns within each round. The engine gets all
chats at once, as when that many people write at the same time. `generate` answers them one by one,
as a plain script would. A reply may end by itself, so tokens are counted, not replies.
"""

import argparse
import asyncio
import json
import os
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig
from transformers.utils.logging import disable_progress_bar

from chat_app.engine import GenerationRequest
from chat_app.engine.local import LocalEngine
from chat_app.settings import EngineSettings
from feedback_store import BASE_ADAPTER, PromptMessage
from rlhf_core.model.conversions import loadable
from rlhf_core.model.facts import machine_facts
from rlhf_core.model.loading import load_base
from rlhf_core.model.sources import resolve
from rlhf_core.records import Sampling
from rlhf_core.worlds.checkable.requests import built_in_requests

CHATS = (1, 16)
ROUNDS = 5
TOKENS = 64
TEMPERATURE, TOP_P = 0.6, 0.95


def main() -> None:
    """Print tokens a second of both, and the ratio of each round."""
    cli = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    cli.add_argument("--model", default="starter")
    cli.add_argument(
        "--cache", type=Path, default=Path("data/models"), help="fetched and converted models"
    )
    cli.add_argument("--rounds", type=int, default=ROUNDS)
    cli.add_argument("--json", action="store_true", help="end with one line of JSON")
    options = cli.parse_args()
    threads = machine_facts().cores
    torch.set_num_threads(threads)
    engine = LocalEngine(
        lambda: load_base(
            options.model,
            quantization="none",
            device="cpu",
            cache=options.cache,
        ),
        EngineSettings(rows=max(CHATS), threads=threads),
        key=None,
        reply_seconds=600.0,
    )
    try:
        path = loadable(resolve(options.model, options.cache), options.cache)
        found = asyncio.run(compared(engine, path, options.rounds))
    finally:
        engine.close()
    print(json.dumps(found, indent=None if options.json else 1))


async def compared(engine: LocalEngine, path: str, rounds: int) -> dict[str, Any]:
    """Both in turns; the first round warms up and does not count."""
    disable_progress_bar()  # type: ignore[no-untyped-call]
    # transformers cannot load two models in two threads: it changes torch's device for a moment
    while not engine.health()["ready"]:
        if failure := engine.health()["failure"]:
            raise SystemExit(f"the engine did not start: {failure}")
        await asyncio.sleep(0.1)
    network: Any = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
    tokenizer: Any = AutoTokenizer.from_pretrained(path)
    # no penalty of the model's own
    network.generation_config = GenerationConfig(  # type: ignore[no-untyped-call]
        eos_token_id=network.generation_config.eos_token_id, pad_token_id=tokenizer.eos_token_id
    )
    sizes: dict[str, Any] = {}
    for chats in CHATS:
        texts = [prompt.text for prompt in built_in_requests()[:chats]]
        speeds = [
            (await together(engine, texts, seed), one_by_one(network, tokenizer, texts, seed))
            for seed in range(rounds + 1)
        ][1:]
        ratios = sorted(ours / theirs for ours, theirs in speeds)
        sizes[str(chats)] = {
            "engine": round(statistics.median(ours for ours, _ in speeds), 1),
            "generate": round(statistics.median(theirs for _, theirs in speeds), 1),
            "ratio": round(statistics.median(ratios), 2),
            "ratios": [round(ratio, 2) for ratio in ratios],
        }
    load = os.getloadavg()[0]
    return {"name": "decoding", "tokens_per_second_of_chats": sizes, "rounds": rounds, "load": load}


async def together(engine: LocalEngine, texts: list[str], seed: int) -> float:
    """Tokens a second of the engine, with one chat for each text."""
    start = time.perf_counter()
    counts = await asyncio.gather(*(reply(engine, text, seed) for text in texts))
    return sum(counts) / (time.perf_counter() - start)


async def reply(engine: LocalEngine, text: str, seed: int) -> int:
    """Tokens of one reply, read to its end."""
    asked = (PromptMessage(role="user", content=text),)
    sampling = Sampling(TEMPERATURE, TOP_P, TOKENS)
    wanted = GenerationRequest(asked, BASE_ADAPTER, sampling, seed)
    return [piece.new_tokens async for piece in engine.stream(wanted)][-1]


@torch.inference_mode()
def one_by_one(
    network: Any, tokenizer: Any, texts: list[str], seed: int, *, least: int = 0
) -> float:
    """Tokens a second of `generate`, whose replies have so many tokens at least."""
    torch.manual_seed(seed)
    made, start = 0, time.perf_counter()
    for text in texts:
        inputs = tokenizer.apply_chat_template(
            [{"role": "user", "content": text}],
            add_generation_prompt=True,
            return_tensors="pt",
            return_dict=True,
        )
        out = network.generate(
            **inputs,
            min_new_tokens=least,
            max_new_tokens=TOKENS,
            do_sample=True,
            temperature=TEMPERATURE,
            top_p=TOP_P,
            top_k=0,
        )
        reply = out[0, inputs["input_ids"].shape[1] :]
        made += int((reply != tokenizer.eos_token_id).sum())  # the engine counts no end, either
    return made / (time.perf_counter() - start)


if __name__ == "__main__":
    main()
