"""Does the time to reply tell which of two adapters wrote it?

    python -m benchmarks.blinding --json    # the starter, 200 pairs of each kind

A trial shows a reply of each of two adapters, the sides by lot. Whoever watches the texts arrive
must not be able to tell them apart. Here the real engine answers as it does for a side-by-side: two
requests at once, of the base and an adapter, and of two adapters. The area under the curve (AUC)
says how often the second one's first text comes later, or its tokens slower: .5 tells nothing. How
long a reply is does tell, but that is what it says.
"""

import argparse
import asyncio
import json
import os
import random
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from scipy.stats import mannwhitneyu

from benchmarks.waits import chatter
from chat_app.engine import GenerationRequest
from chat_app.engine.local import LocalEngine
from chat_app.settings import EngineSettings
from feedback_store.records import BASE_ADAPTER, PromptMessage
from rlhf_core.config import LoraSettings
from rlhf_core.model.adapters import publish_adapter
from rlhf_core.model.base_model import Base
from rlhf_core.model.loading import load_base
from rlhf_core.records import Sampling
from rlhf_core.worlds.starter.measure import held_out_requests

ONE, TWO = "policy-000001", "policy-000002"
PAIRS = {"base, adapter": (BASE_ADAPTER, ONE), "adapter, adapter": (ONE, TWO)}
BAR = (0.43, 0.57)  # 200 pairs that tell nothing are within it 19 times of 20


def main() -> None:
    """Print the AUC of the first text and of the seconds a token, for each kind of pair."""
    cli = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    cli.add_argument("--pairs", type=int, default=200)
    cli.add_argument("--json", action="store_true", help="end with one line of JSON")
    options = cli.parse_args()
    base = load_base("starter")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for name in (ONE, TWO):
            publish(base, folder, name)
        engine = LocalEngine(lambda: base, EngineSettings(), key=None, reply_seconds=600.0)
        try:
            found = asyncio.run(measured(engine, folder, options.pairs))
        finally:
            engine.close()
    load = round(os.getloadavg()[0], 1)
    facts = {"name": "blinding", "auc": found, "bar": BAR, "pairs": options.pairs, "load": load}
    print(json.dumps(facts, indent=None if options.json else 1))


def publish(base: Base, folder: Path, name: str) -> None:
    """An adapter that is as large as a trained one and changes nothing."""
    base.attach("written", lora=LoraSettings())
    base.save("written", folder / "staging")
    base.drop("written")
    publish_adapter(folder / "staging", folder / name, kind="policy", base=base.fingerprint)


async def measured(engine: LocalEngine, folder: Path, pairs: int) -> dict[str, Any]:
    """AUC by kind of pair and by how many others chat."""
    while not engine.health()["ready"]:
        await asyncio.sleep(0.05)
    for name in (ONE, TWO):
        await engine.load(name, folder / name)
    found = {}
    for others in (0, 2):
        chats = [asyncio.create_task(chatter(engine, [])) for _ in range(others)]
        for kind, names in PAIRS.items():
            times = [await asked(engine, names, number) for number in range(pairs)]
            first, pace = (
                [[pair[side][what] for pair in times] for side in (0, 1)] for what in (0, 1)
            )
            found[f"{kind}, {others} beside"] = {"first_text": auc(*first), "pace": auc(*pace)}
        for chat in chats:
            chat.cancel()
            with suppress(asyncio.CancelledError):
                await chat
    return found


def auc(one: list[float], two: list[float]) -> float:
    """How often the second is larger, a tie counts half."""
    return round(float(mannwhitneyu(two, one).statistic) / (len(one) * len(two)), 3)


async def asked(
    engine: LocalEngine, names: tuple[str, str], number: int
) -> list[tuple[float, float]]:
    """Seconds to the first text and a token, of both; asked at once in the order of a lot."""
    [request] = held_out_requests(1, number)
    prompt = [PromptMessage(role="user", content=request.text)]
    sides = random.Random(number).sample((0, 1), 2)
    tasks = {
        side: asyncio.create_task(
            timed(engine, GenerationRequest(prompt, names[side], Sampling(1.0, 1.0, 64), number))
        )
        for side in sides
    }
    return [await tasks[side] for side in (0, 1)]


async def timed(engine: LocalEngine, request: GenerationRequest) -> tuple[float, float]:
    """Seconds to the first text, and seconds a token."""
    started, first, tokens = time.monotonic(), 0.0, 1
    async for piece in engine.stream(request):
        first = first or (time.monotonic() - started if piece.text else 0.0)
        tokens = max(1, piece.new_tokens)
    return first, (time.monotonic() - started) / tokens


if __name__ == "__main__":
    main()
