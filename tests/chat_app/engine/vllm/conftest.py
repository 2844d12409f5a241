"""Engines over stand-ins of vLLM."""

import asyncio
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from chat_app.engine import GenerationRequest, Sampling
from chat_app.engine.vllm import replicas
from chat_app.engine.vllm.engine import VllmEngine
from chat_app.settings import EngineSettings
from feedback_store.records import PromptMessage
from rlhf_core.model.loading import load_outline
from tests.chat_app.engine.vllm.stand_in import StandIn, standing_in

MakeEngine = Callable[..., VllmEngine]


@pytest.fixture
def servers(tiny_model: Path) -> Iterator[list[StandIn]]:
    """Two servers of vLLM."""
    letters = AutoTokenizer.from_pretrained(tiny_model).get_vocab()
    with standing_in(letters, 2) as both:
        yield both


@pytest.fixture
def make_engine(
    tiny_model: Path, servers: list[StandIn], monkeypatch: pytest.MonkeyPatch
) -> Iterator[MakeEngine]:
    monkeypatch.setattr(replicas, "WATCH_S", 0.05)
    engines: list[VllmEngine] = []

    def make(reply_seconds: float = 60.0, **options: Any) -> VllmEngine:
        urls = [server.url for server in servers]
        given = {"rows": 8, "waiting": 8, "updates_per_second": 1000, **options}
        settings = EngineSettings(kind="vllm", vllm_urls=urls, **given)
        outline = partial(load_outline, str(tiny_model))
        engine = VllmEngine(outline, settings, key=None, reply_seconds=reply_seconds)
        engines.append(engine)
        return engine

    yield make
    for engine in engines:
        engine.close()


@pytest.fixture
def engine(make_engine: MakeEngine) -> VllmEngine:
    return make_engine()


def request(
    text: str = "hello", *, adapter: str = "policy-000000", tokens: int = 60, source: str = "ann"
) -> GenerationRequest:
    prompt = (PromptMessage(role="user", content=text),)
    return GenerationRequest(prompt, adapter, Sampling(1.0, 1.0, tokens), 7, source=source)


async def read(engine: VllmEngine, wanted: GenerationRequest) -> str:
    return "".join([piece.text async for piece in engine.stream(wanted)])


async def until(condition: Callable[[], Any]) -> None:
    """Wait until something has happened."""
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)


def up(engine: VllmEngine) -> int:
    """How many servers get requests."""
    return sum(not replica["fault"] for replica in engine.health()["replicas"])
