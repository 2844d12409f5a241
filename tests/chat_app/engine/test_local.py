"""The engine under many requests: order, limits, cancelling, and adapters that come and go."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import wait
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import pytest

from chat_app.engine import GenerationRequest, Sampling
from chat_app.engine.local import LocalEngine
from chat_app.errors import BusyError, ChatAppError, InvalidRequestError
from chat_app.settings import EngineSettings
from feedback_store.records import PromptMessage
from rlhf_core.errors import AdapterError, ModelError
from rlhf_core.model.base_model import Base
from rlhf_core.model.decoding import DecodingBatch
from tests.chat_app.serving import tiny_base

MakeEngine = Callable[..., LocalEngine]


@pytest.fixture
def make_engine(tiny_model: Path, engine_settings: EngineSettings) -> Iterator[MakeEngine]:
    engines: list[LocalEngine] = []

    def make(model: str = str(tiny_model), reply_seconds: float = 60.0) -> LocalEngine:
        engine = LocalEngine(
            lambda: tiny_base(model),
            engine_settings,
            key=None,
            reply_seconds=reply_seconds,
        )
        engines.append(engine)
        return engine

    yield make
    for engine in engines:
        engine.close()


@pytest.fixture
def engine(make_engine: MakeEngine) -> LocalEngine:
    return make_engine()


def request(
    text: str = "hello", *, adapter: str = "policy-000000", tokens: int = 40, seed: int = 0
) -> GenerationRequest:
    prompt = (PromptMessage(role="user", content=text),)
    return GenerationRequest(prompt, adapter, Sampling(1.0, 1.0, tokens), seed)


async def read(engine: LocalEngine, wanted: GenerationRequest) -> str:
    return "".join([piece.text async for piece in engine.stream(wanted)])


async def ready(engine: LocalEngine) -> None:
    while not engine.health()["ready"]:
        await asyncio.sleep(0.01)


def test_pieces_are_whole_characters_and_the_last_says_why(engine: LocalEngine) -> None:
    async def scenario() -> None:
        pieces = [piece async for piece in engine.stream(request(tokens=60, seed=3))]
        assert len(pieces) > 5
        assert [p.finish_reason for p in pieces[:-1]] == [None] * (len(pieces) - 1)
        assert pieces[-1].finish_reason == "length"
        counts = [piece.new_tokens for piece in pieces]
        assert counts == sorted(counts) and {piece.prompt_tokens for piece in pieces} == {12}
        assert (pieces[-1].prompt_tokens, pieces[-1].new_tokens) == (12, 60)
        assert not pieces[-1].text.endswith("\ufffd")

    asyncio.run(scenario())


def test_a_seed_gives_the_same_reply_in_any_company(engine: LocalEngine) -> None:
    async def scenario() -> None:
        alone = await read(engine, request(seed=5))
        crowd = [read(engine, request("other", seed=i)) for i in range(6)]
        together = (await asyncio.gather(read(engine, request(seed=5)), *crowd))[0]
        assert together == alone

    asyncio.run(scenario())


def test_replies_in_flight_are_untouched_by_loading_and_unloading(
    engine: LocalEngine, tiny_adapters: Path
) -> None:
    async def scenario() -> None:
        await ready(engine)
        await engine.load("policy-000001", tiny_adapters / "policy-000001")
        wanted = [
            request(f"q{i}", adapter=f"policy-00000{i % 2}", tokens=300, seed=i) for i in range(6)
        ]
        quiet = await asyncio.gather(*(read(engine, one) for one in wanted))
        running = [asyncio.create_task(read(engine, one)) for one in wanted]
        for _ in range(5):
            await asyncio.sleep(0.02)
            await engine.load("policy-000002", tiny_adapters / "policy-000002")
            assert "policy-000002" in engine.health()["adapters"]
            await read(engine, request(adapter="policy-000002", tokens=3))
            await engine.unload("policy-000002")
        assert any(not task.done() for task in running), "the replies must still be in flight"
        assert await asyncio.gather(*running) == quiet

    asyncio.run(scenario())


def test_an_adapter_is_dropped_only_after_its_last_row(
    engine: LocalEngine, tiny_adapters: Path
) -> None:
    async def scenario() -> None:
        await ready(engine)
        await engine.load("policy-000001", tiny_adapters / "policy-000001")
        wanted = request(adapter="policy-000001", tokens=200, seed=1)
        quiet = await read(engine, wanted)
        running = asyncio.create_task(read(engine, wanted))
        await asyncio.sleep(0.05)
        await engine.unload("policy-000001")
        assert "policy-000001" in engine.health()["adapters"]
        assert await running == quiet
        await _until(lambda: engine.health()["adapters"] == [])
        with pytest.raises(InvalidRequestError, match="policy-000001"):
            await read(engine, wanted)
        await engine.load("policy-000001", tiny_adapters / "policy-000001")
        assert await read(engine, wanted) == quiet

    asyncio.run(scenario())


def test_an_adapter_that_is_wanted_again_while_it_is_dropped_is_loaded_again(
    engine: LocalEngine, tiny_adapters: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tiny_adapters / "policy-000001"

    async def scenario() -> None:
        await ready(engine)
        await engine.load("policy-000001", path)
        loop, drop, wanted = asyncio.get_running_loop(), engine._base.retire, []

        def drop_slowly(name: str) -> None:
            again = asyncio.run_coroutine_threadsafe(engine.load("policy-000001", path), loop)
            wanted.append(again)
            wait([again], timeout=0.3)  # it has looked, and ends only after the drop
            drop(name)

        monkeypatch.setattr(engine._base, "retire", drop_slowly)
        await engine.unload("policy-000001")
        await _until(lambda: wanted)
        await asyncio.wrap_future(wanted[0])
        assert engine.health()["adapters"] == ["policy-000001"]
        assert await read(engine, request(adapter="policy-000001", tokens=20))

    asyncio.run(scenario())


def test_a_damaged_adapter_is_refused_and_nothing_else_changes(
    engine: LocalEngine, tiny_adapters: Path, tmp_path: Path
) -> None:
    bad = tmp_path / "policy-000001"
    bad.mkdir()
    for file in (tiny_adapters / "policy-000001").iterdir():
        (bad / file.name).write_bytes(file.read_bytes())
    weights = bad / "adapter_model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)

    async def scenario() -> None:
        await ready(engine)
        quiet = await read(engine, request())
        with pytest.raises(AdapterError, match="changed after it was written"):
            await engine.load("policy-000001", bad)
        assert engine.health()["adapters"] == []
        assert await read(engine, request()) == quiet

    asyncio.run(scenario())


def test_closing_a_stream_frees_its_row_between_two_steps(engine: LocalEngine) -> None:
    async def scenario() -> None:
        async with aclosing(engine.stream(request(tokens=400))) as pieces:
            async for _ in pieces:
                break
        before = engine.health()["new_tokens"]
        await _until(lambda: engine.health()["rows"] == 0)
        assert engine.health()["new_tokens"] - before < 50

    asyncio.run(scenario())


def test_a_full_queue_refuses_at_once_and_serves_those_it_accepted(engine: LocalEngine) -> None:
    async def scenario() -> None:
        await ready(engine)
        accepted = [asyncio.create_task(read(engine, request(seed=i))) for i in range(16)]
        await asyncio.sleep(0)
        with pytest.raises(BusyError, match="try again"):
            await read(engine, request())
        assert all(await asyncio.gather(*accepted))
        assert await read(engine, request())

    asyncio.run(scenario())


def test_a_reply_past_its_time_is_cut_off(make_engine: MakeEngine) -> None:
    engine = make_engine(reply_seconds=0.3)

    async def scenario() -> None:
        await ready(engine)
        started = time.monotonic()
        pieces = [piece async for piece in engine.stream(request(tokens=490))]
        assert pieces[-1].finish_reason == "length"
        assert pieces[-1].new_tokens < 490
        assert time.monotonic() - started < 2

    asyncio.run(scenario())


def test_a_long_conversation_drops_its_oldest_turns_and_a_long_message_is_refused(
    engine: LocalEngine,
) -> None:
    turns = [
        PromptMessage(role=role, content="x" * 100)
        for _ in range(4)
        for role in ("user", "assistant")
    ]
    long = GenerationRequest(
        (*turns, PromptMessage(role="user", content="?")),
        "policy-000000",
        Sampling(max_new_tokens=100),
        0,
    )

    async def scenario() -> None:
        pieces = [piece async for piece in engine.stream(long)]
        assert 200 < pieces[-1].prompt_tokens <= 412
        its_length = r"about \d{3} of its 600 characters fit; shorten it"
        with pytest.raises(InvalidRequestError, match=its_length):
            await read(engine, request("x" * 600))
        too_many = replace(request(), sampling=Sampling(max_new_tokens=5000))
        pieces = [piece async for piece in engine.stream(too_many)]
        assert pieces[-1].prompt_tokens + pieces[-1].new_tokens == 512, "the whole context"
        assert pieces[-1].finish_reason == "length"
        assert await read(engine, request()), "others go on"

    asyncio.run(scenario())


def test_the_first_text_comes_at_once_and_later_text_at_the_set_rate(
    make_engine: MakeEngine, engine_settings: EngineSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = make_engine()
    monkeypatch.setattr(
        engine, "_settings", engine_settings.model_copy(update={"updates_per_second": 10.0})
    )

    async def scenario() -> None:
        await ready(engine)
        started = time.monotonic()
        times = [time.monotonic() - started async for _ in _pieces(engine)]
        assert times[0] < 0.5 * times[-1]
        assert len(times) <= times[-1] * 10 + 3

    asyncio.run(scenario())


def test_a_model_that_cannot_be_loaded_is_reported_not_raised(make_engine: MakeEngine) -> None:
    engine = make_engine(model="/nowhere/at/all")

    async def scenario() -> None:
        await _until(lambda: engine.health()["failure"] is not None)
        assert isinstance(engine.health()["failure"], ModelError)
        assert not engine.health()["ready"]
        with pytest.raises(BusyError):
            await read(engine, request())

    asyncio.run(scenario())


def test_an_adapter_that_cannot_be_dropped_costs_one_reply_and_not_the_engine(
    engine: LocalEngine, tiny_adapters: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(base: Base, name: str) -> None:
        raise KeyError(name)

    async def scenario() -> None:
        await ready(engine)
        await engine.load("policy-000001", tiny_adapters / "policy-000001")
        quiet = await read(engine, request())
        monkeypatch.setattr(Base, "retire", fail)
        running = asyncio.create_task(read(engine, request(tokens=480)))
        await _until(lambda: engine.health()["rows"] == 1)
        await engine.unload("policy-000001")
        with pytest.raises(ChatAppError, match="failed on this reply"):
            await asyncio.wait_for(running, 10)
        assert await read(engine, request()) == quiet
        assert engine.health()["alive"]

    asyncio.run(scenario())


def test_a_cancelled_check_or_command_does_not_stop_the_engine(engine: LocalEngine) -> None:
    async def scenario() -> None:
        await ready(engine)
        with engine._wake:  # the worker cannot take the command before it is cancelled
            for waited in (engine.check(request()), engine.unload("policy-000001")):
                waiting = asyncio.create_task(waited)
                await asyncio.sleep(0)
                waiting.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await waiting
        assert await read(engine, request())

    asyncio.run(scenario())


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_no_request_waits_for_an_engine_that_died(
    engine: LocalEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(batch: DecodingBatch) -> None:
        raise SystemExit

    async def scenario() -> None:
        await ready(engine)
        monkeypatch.setattr(DecodingBatch, "sample", die)
        for _ in range(2):
            with pytest.raises(BusyError, match="has stopped"):
                await asyncio.wait_for(read(engine, request()), 10)
        await _until(lambda: not engine.health()["alive"])

    asyncio.run(scenario())


async def _pieces(engine: LocalEngine) -> AsyncIterator[str]:
    async for piece in engine.stream(request(tokens=450)):
        yield piece.text


async def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline, "it did not happen within 5 s"
        await asyncio.sleep(0.01)


def test_a_stop_text_ends_the_reply_before_it(engine: LocalEngine) -> None:
    async def scenario() -> None:
        whole = await read(engine, request(tokens=60))
        stop = whole[20:23]
        pieces = [piece async for piece in engine.stream(replace(request(), stop=(stop,)))]
        text = "".join(piece.text for piece in pieces)
        assert text == whole[: whole.index(stop)]
        assert pieces[-1].finish_reason == "stop" and pieces[-1].new_tokens < 60

    asyncio.run(scenario())
