"""How long a visitor waits for a side-by-side: two replies by lot, or two of four by doubt.

    python -m benchmarks.waits --json                             # the starter
    python -m benchmarks.waits --model DIR --tokens 64 --json     # any model

One visitor asks the real service on its real engine, alone and beside a chatter who asks for
replies without a pause. In turns: pairs by lot, which stream, and pairs of which two of four are
chosen, which appear when they are chosen. Seconds are to the first text and to the stored pair;
`stall` is the longest time between two pieces of the chatter's replies, the 95th percentile.
The posterior comes from votes without a meaning, which take as long as any other.
"""

import argparse
import asyncio
import json
import os
import statistics
import tempfile
import time
from collections import defaultdict
from contextlib import suppress
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from chat_app.cycles.scheduler import CycleProcess
from chat_app.engine import GenerationRequest
from chat_app.engine.local import LocalEngine
from chat_app.service.chat import ChatService
from chat_app.settings import Settings
from feedback_store.records import BASE_ADAPTER, PromptMessage
from feedback_store.splits import is_held_out_question
from feedback_store.store import FeedbackStore
from rlhf_core.config import ReplySettings
from rlhf_core.model.adapters import publish_adapter
from rlhf_core.model.loading import load_base
from rlhf_core.records import Comparison, Label, Sampling
from rlhf_core.reward.acquisition import fit_uncertainty
from rlhf_core.worlds.checkable.requests import built_in_requests

LABELS: tuple[Label, ...] = ("a", "b")
RATER, VOTES, QUESTIONS = "visitor", 20, 12


def main() -> None:
    """Print seconds by arm and by how many others chat."""
    cli = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    cli.add_argument("--model", default="starter")
    cli.add_argument("--cache", type=Path, default=Path("data/models"))
    cli.add_argument("--tokens", type=int, default=64, help="longest reply")
    cli.add_argument("--questions", type=int, default=QUESTIONS)
    cli.add_argument("--json", action="store_true", help="end with one line of JSON")
    options = cli.parse_args()
    reply = ReplySettings(tokens=options.tokens)
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder)
        given = {"data": data, "choices": "active", "active_share": 0.5, "reply": reply}
        settings = Settings.model_validate(given)
        base = load_base(options.model, quantization="none", cache=options.cache, reply=reply)
        texts = (request.text for request in built_in_requests())
        questions = [text for text in texts if not is_held_out_question(text)]
        asked = [[PromptMessage(role="user", content=text)] for text in questions]
        votes = [
            Comparison(prompt, f"one {n} yes", f"two {n} no", LABELS[n % 2])
            for n, prompt in enumerate(asked[-VOTES:])
        ]
        (data / "staging").mkdir()
        fit_uncertainty(base, votes).save(data / "staging")
        path = data / "adapters" / "reward-000001"
        publish_adapter(data / "staging", path, kind="reward", base=base.fingerprint, parent=None)
        engine = LocalEngine(lambda: base, settings.engine, key=None, reply_seconds=600.0)
        with FeedbackStore(settings.database) as store:
            service = ChatService(store, engine, settings, cycles=CycleProcess(store, settings))
            try:
                found = asyncio.run(measured(service, engine, path, questions[: options.questions]))
            finally:
                engine.close()
    found |= {"model": options.model, "tokens": options.tokens, "load": round(os.getloadavg()[0])}
    print(json.dumps(found, indent=None if options.json else 1))


async def measured(
    service: ChatService, engine: LocalEngine, path: Path, questions: list[str]
) -> dict[str, Any]:
    """Each question by lot and by doubt, alone and beside a chatter; the first is no figure."""
    while not engine.health()["ready"]:
        await asyncio.sleep(0.05)
    service.ready = True
    service.visitor(RATER)
    await engine.load_doubts(path)
    by_lot = service.settings.model_copy(update={"choices": "random"})
    by_doubt, found = service.settings, dict[str, Any]()
    for others in (0, 1):
        seconds = defaultdict[str, list[tuple[float, float]]](list)
        gaps = defaultdict[str, list[float]](list)
        for question in questions:
            for arm, settings in (("lot", by_lot), ("doubt", by_doubt)):
                service.settings = settings
                pieces: list[float] = []
                chats = [asyncio.create_task(chatter(engine, pieces)) for _ in range(others)]
                seconds[arm].append(await waited(service, question))
                for chat in chats:
                    chat.cancel()
                    with suppress(asyncio.CancelledError):
                        await chat
                gaps[arm] += [b - a for a, b in pairwise(pieces)]
        for arm, times in seconds.items():
            first, whole = (statistics.median(t) for t in zip(*times[1:], strict=True))
            row = {"first_text": round(first, 2), "pair": round(whole, 2)}
            if others:
                row["stall"] = round(statistics.quantiles(gaps[arm], n=20)[-1], 3)
            found[f"{arm}, {others} beside"] = row
    return found


async def waited(service: ChatService, question: str) -> tuple[float, float]:
    """Seconds to the first text and to the stored pair."""
    said, started, first = service.ask(RATER, question), time.monotonic(), 0.0
    async for piece in service.candidates(RATER, [said]):
        first = first or (time.monotonic() - started if piece.text else 0.0)
    return first, time.monotonic() - started


async def chatter(engine: LocalEngine, pieces: list[float]) -> None:
    """Somebody who asks again and again; notes when each piece came."""
    prompt = [PromptMessage(role="user", content="Tell me a story.")]
    request = GenerationRequest(prompt, BASE_ADAPTER, Sampling(1.0, 1.0, 64), seed=0)
    for seed in range(10_000):
        async for _ in engine.stream(replace(request, seed=seed)):
            pieces.append(time.monotonic())


if __name__ == "__main__":
    main()
