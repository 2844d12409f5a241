"""What long conversations of other people do to one user's replies, through the serving engine.

    python -m benchmarks.long_prompts --json                                        # the starter
    python -m benchmarks.long_prompts --model DIR --prompt-tokens 2048 --json       # any model

A user asks short questions, one after the other: alone, beside one person who sends conversations
of 199 messages of 1,200 characters without a pause, and beside four of them; in turns within each
round. Times are from the check of a request, as the service makes it, to the first text and to the
end of the reply. The seeds are the same, so the replies are, too. A long conversation is cut to the
contract's tokens and gets a reply of a token, so that reading is what others wait for.
"""

import argparse
import asyncio
import json
import os
import statistics
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from chat_app.engine import GenerationRequest
from chat_app.engine.local import LocalEngine
from chat_app.errors import InvalidRequestError
from chat_app.settings import EngineSettings
from feedback_store import BASE_ADAPTER, PromptMessage
from rlhf_core.config import ReplySettings
from rlhf_core.model.loading import load_base
from rlhf_core.records import Sampling
from rlhf_core.worlds.checkable.requests import built_in_requests

BESIDE = (0, 1, 4)
ROUNDS, QUESTIONS, TOKENS = 5, 8, 32
MESSAGES, CHARACTERS = 199, 1200


def main() -> None:
    """Print milliseconds to the first text and to the end, by the number of people beside."""
    cli = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    cli.add_argument("--model", default="starter")
    cli.add_argument(
        "--cache", type=Path, default=Path("data/models"), help="fetched and converted models"
    )
    cli.add_argument("--prompt-tokens", type=int, help="the contract's, if not the default")
    cli.add_argument("--rounds", type=int, default=ROUNDS)
    cli.add_argument("--json", action="store_true", help="end with one line of JSON")
    options = cli.parse_args()
    length = options.prompt_tokens or ReplySettings().prompt_tokens
    reply = ReplySettings(prompt_tokens=length)
    engine = LocalEngine(
        lambda: load_base(
            options.model, quantization="none", device="cpu", cache=options.cache, reply=reply
        ),
        EngineSettings(),
        key=None,
        reply_seconds=600.0,
    )
    try:
        found = asyncio.run(measured(engine, options.rounds))
    finally:
        engine.close()
    found |= {"model": options.model, "prompt_tokens": length, "load": os.getloadavg()[0]}
    print(json.dumps(found, indent=None if options.json else 1))


async def measured(engine: LocalEngine, rounds: int) -> dict[str, Any]:
    """All three in turns; the first round warms up and does not count."""
    while not engine.health()["ready"]:
        if failure := engine.health()["failure"]:
            raise SystemExit(f"the engine did not start: {failure}")
        await asyncio.sleep(0.1)
    times: dict[int, list[tuple[float, float]]] = {people: [] for people in BESIDE}
    sent = dict.fromkeys(BESIDE, 0)
    for number in range(rounds + 1):
        for people in BESIDE:
            found, dialogues = await beside(engine, people, number)
            times[people] += found if number else []
            sent[people] += dialogues if number else 0
    return {
        "name": "long_prompts",
        "first_text_ms": {str(n): _spread([first for first, _ in times[n]]) for n in BESIDE},
        "reply_ms": {str(n): _spread([whole for _, whole in times[n]]) for n in BESIDE},
        "dialogues": {str(n): sent[n] for n in BESIDE},
        "questions": len(times[0]),
    }


async def beside(
    engine: LocalEngine, people: int, number: int
) -> tuple[list[tuple[float, float]], int]:
    """Times of the user's questions beside so many people, and what these sent meanwhile."""
    sent: list[int] = []
    others = [asyncio.create_task(_send(engine, sent, number, who)) for who in range(people)]
    await asyncio.sleep(0.05)
    found = []
    for seed, asked in enumerate(built_in_requests()[:QUESTIONS]):
        question = [PromptMessage(role="user", content=asked.text)]
        found.append(await timed(engine, question, TOKENS, number * QUESTIONS + seed))
        await asyncio.sleep(0.01 * seed)  # so that questions come at any moment of the others' work
    for other in others:
        other.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    while engine.health()["rows"]:
        await asyncio.sleep(0.01)
    return found, len(sent)


async def timed(
    engine: LocalEngine, prompt: Sequence[PromptMessage], tokens: int, seed: int
) -> tuple[float, float]:
    """Milliseconds to the first text of a reply and to its end."""
    request = GenerationRequest(prompt, BASE_ADAPTER, Sampling(1.0, 0.95, tokens), seed)
    start, first = time.perf_counter(), None
    await engine.check(request)
    async for piece in engine.stream(request):
        if first is None and (piece.text or piece.finish_reason):
            first = time.perf_counter() - start
    return 1000 * (first or 0.0), 1000 * (time.perf_counter() - start)


async def _send(engine: LocalEngine, sent: list[int], number: int, who: int) -> None:
    """Send long conversations, each of them new, without a pause."""
    words = " ".join(prompt.text for prompt in built_in_requests())
    while True:
        said = f"{number} {who} {len(sent)} {words}"
        text = (said * (1 + CHARACTERS // len(said)))[:CHARACTERS]
        roles = ("user", "assistant")
        prompt = [
            PromptMessage(role=roles[n % 2], content=text if n < MESSAGES - 1 else said[:60])
            for n in range(MESSAGES)
        ]
        with suppress(InvalidRequestError):  # it does not fit, and was read all the same
            await timed(engine, prompt, 1, seed=0)
        sent.append(who)


def _spread(values: Sequence[float]) -> dict[str, float]:
    cuts = statistics.quantiles(values, n=20, method="inclusive")
    return {"p50": round(statistics.median(values), 1), "p95": round(cuts[-1], 1)}


if __name__ == "__main__":
    main()
