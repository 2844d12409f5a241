"""The engine over two real servers of vLLM that hold the starter, beside the local engine.

`real_server.py` says how they are found. Two take 6 GB of memory, and two minutes to start.
"""

import asyncio
import logging
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import torch

from chat_app.engine import Engine, GenerationRequest, Sampling
from chat_app.engine.local import LocalEngine
from chat_app.engine.vllm.engine import VllmEngine
from chat_app.errors import ChatAppError
from chat_app.settings import EngineSettings
from feedback_store.records import PromptMessage
from rlhf_core.config import LoraSettings
from rlhf_core.errors import AdapterError
from rlhf_core.model.adapters import publish_adapter
from rlhf_core.model.loading import load_base, load_outline
from tests.chat_app.engine.vllm.real_server import RealServer, command

BASE, ONE, TWO = "policy-000000", "policy-000001", "policy-000002"
LARGE = "policy-000003"  # of a rank that only the first server takes
RANKS = {ONE: 4, TWO: 8, LARGE: 16}
log = logging.getLogger(__name__)
QUESTIONS = (
    *(f"What is the capital of {place}?" for place in ("France", "Spain", "Italy", "Japan")),
    *(f"What is {a} + {b}?" for a, b in ((2, 3), (1, 7), (4, 4))),
    *(f"What is the opposite of {word}?" for word in ("hot", "big", "old")),
)
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[RealServer]]:
    command()
    logs = tmp_path_factory.mktemp("logs")
    both = [RealServer(rank, logs / f"{rank}.log") for rank in (16, 8)]
    try:
        yield both
    finally:
        for server in both:
            server.die()


@pytest.fixture(scope="module")
def adapters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random adapters of the starter, far enough from it that their replies differ."""
    root = tmp_path_factory.mktemp("adapters")
    for seed, (name, rank) in enumerate(RANKS.items()):
        base = load_base("starter", quantization="none", device="cpu")
        torch.manual_seed(seed)
        base.attach(name, lora=LoraSettings(rank=rank), trainable=True)
        for parameter in base.model.parameters():
            if parameter.requires_grad:
                torch.nn.init.normal_(parameter, std=0.05)
        base.save(name, root / f".{name}")
        publish_adapter(root / f".{name}", root / name, kind="policy", base=base.fingerprint)
    return root


@pytest.fixture
def engine(servers: list[RealServer]) -> Iterator[VllmEngine]:
    urls = [server.url for server in servers]
    engine = VllmEngine(load_outline, EngineSettings(kind="vllm", vllm_urls=urls), key=None)
    yield engine
    engine.close()


def request(
    text: str, *, adapter: str, tokens: int = 60, source: str = "", warmth: float = 0.0
) -> GenerationRequest:
    prompt = (PromptMessage(role="user", content=text),)
    return GenerationRequest(prompt, adapter, Sampling(warmth, 1.0, tokens), 7, source=source)


async def read(engine: Engine, wanted: GenerationRequest) -> str:
    return "".join([piece.text async for piece in engine.stream(wanted)])


async def ready(engine: Engine, servers: int = 2) -> None:
    async with asyncio.timeout(400):
        while True:
            health = engine.health()
            well = [replica for replica in health.get("replicas", ()) if not replica["fault"]]
            if health["ready"] and len(well) == servers:
                return
            await asyncio.sleep(0.1)


async def models(server: RealServer) -> list[str]:
    """The adapters that a server lists, without what says which weights these are."""
    import httpx

    async with httpx.AsyncClient(trust_env=False) as http:
        listed = (await http.get(f"{server.url}/v1/models")).json()["data"]
    return sorted(model["id"][: len(ONE)] for model in listed if model["parent"])


def test_greedy_replies_are_those_of_the_local_engine(engine: VllmEngine, adapters: Path) -> None:
    local = LocalEngine(
        partial(load_base, "starter", quantization="none", device="cpu"),
        EngineSettings(),
        key=None,
    )

    async def scenario() -> None:
        await ready(engine)
        await ready(local, servers=0)
        for each in (engine, local):
            for name in (ONE, TWO):
                await each.load(name, adapters / name)
        asked = [request(text, adapter=name) for name in (BASE, ONE, TWO) for text in QUESTIONS]
        theirs = await asyncio.gather(*(read(engine, wanted) for wanted in asked))
        ours = await asyncio.gather(*(read(local, wanted) for wanted in asked))
        for their, our in zip(theirs, ours, strict=True):
            log.info("vLLM: %r, local: %r", their, our)
        equal = sum(their == our for their, our in zip(theirs, ours, strict=True))
        log.info("%d of %d replies are equal", equal, len(ours))
        assert equal >= 0.9 * len(ours), "beside rounding, which may turn a near tie"
        assert len(set(ours)) > 3, "the adapters change the replies"

    try:
        asyncio.run(scenario())
    finally:
        local.close()


def test_an_adapter_that_one_server_refuses_is_on_none(
    engine: VllmEngine, servers: list[RealServer], adapters: Path
) -> None:
    async def scenario() -> None:
        await ready(engine)
        await engine.load(ONE, adapters / ONE)
        with pytest.raises(AdapterError, match="rank"):
            await engine.load(LARGE, adapters / LARGE)
        for server in servers:
            assert ONE in await models(server) and LARGE not in await models(server)
        await engine.unload(ONE)

    asyncio.run(scenario())


def test_a_killed_server_costs_its_own_replies_and_gets_its_adapters_back(
    engine: VllmEngine, servers: list[RealServer], adapters: Path
) -> None:
    async def scenario() -> None:
        await ready(engine)
        for name in (ONE, TWO):
            await engine.load(name, adapters / name)
        ends: list[str | BaseException] = []
        asking = True

        async def ask(visitor: int) -> None:
            turn = 0
            while asking:
                turn += 1
                wanted = request(f"Tell me {turn}", adapter=ONE, source=str(visitor), warmth=2.0)
                ends.extend(await asyncio.gather(read(engine, wanted), return_exceptions=True))

        visitors = [asyncio.create_task(ask(i)) for i in range(12)]
        await asyncio.sleep(3)
        assert not any(isinstance(end, BaseException) for end in ends)
        rows = {replica["url"]: replica["rows"] for replica in engine.health()["replicas"]}
        servers[0].die()
        await asyncio.sleep(3)
        asking = False
        await asyncio.gather(*visitors)
        lost = [end for end in ends if isinstance(end, BaseException)]
        log.info("%s rows when one was killed; %d of %d lost", rows, len(lost), len(ends))
        assert all(isinstance(end, ChatAppError) for end in lost)
        assert len(lost) <= 12, "one for each visitor at most"
        greedy = request(QUESTIONS[0], adapter=TWO)
        before = await read(engine, greedy)
        servers[0].start()
        await ready(engine)
        assert {ONE, TWO} <= set(await models(servers[0]))
        servers[1].die()  # so the one that was restarted has to answer
        texts = [await read(engine, greedy) for _ in range(3)]
        assert texts == [before] * 3

    asyncio.run(scenario())
