"""Replies from servers that come, go and break; their adapters are always alike."""

import asyncio
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import pytest

from chat_app.engine.vllm.engine import VllmEngine
from chat_app.errors import BusyError, ChatAppError, InvalidRequestError, TooLongError
from rlhf_core.errors import AdapterError
from rlhf_core.model.loading import load_outline
from rlhf_core.records import Sampling
from tests.chat_app.engine.vllm.conftest import MakeEngine, read, request, until, up
from tests.chat_app.engine.vllm.stand_in import StandIn
from tests.chat_app.serving import tiny_base

ONE, TWO = "policy-000001", "policy-000002"


async def ready(engine: VllmEngine, servers: int = 2) -> None:
    await until(lambda: up(engine) == servers)


def held(server: StandIn) -> list[str]:
    """The adapters of a server, without what says which weights these are."""
    return sorted(name[: len(ONE)] for name in server.adapters)


def test_a_base_without_weights_reads_prompts_and_knows_adapters_as_the_whole_one(
    tiny_model: Path,
) -> None:
    outline, base = load_outline(str(tiny_model)), tiny_base(tiny_model)
    prompt = request("one two").prompt
    assert outline.chat.encode_prompt(prompt) == base.chat.encode_prompt(prompt)
    assert (outline.fingerprint, outline.ends) == (base.fingerprint, base.ends)
    assert (load_outline().fingerprint, load_outline().ends) == (
        tiny_base("starter").fingerprint,
        tiny_base("starter").ends,
    )


def test_a_stop_text_ends_the_reply_here_and_there(
    engine: VllmEngine, servers: list[StandIn]
) -> None:
    async def scenario() -> None:
        await ready(engine)
        stopped = replace(request(), stop=("se",))
        pieces = [piece async for piece in engine.stream(stopped)]
        assert ["".join(piece.text for piece in pieces), pieces[-1].finish_reason] == ["ba", "stop"]
        await until(lambda: engine.health()["rows"] == 0)

    asyncio.run(scenario())


def test_a_server_gets_the_prompt_as_our_tokens_and_its_tokens_become_text(
    engine: VllmEngine, servers: list[StandIn], tiny_model: Path
) -> None:
    async def scenario() -> None:
        await ready(engine)
        pieces = [piece async for piece in engine.stream(request())]
        assert "".join(piece.text for piece in pieces) == "base"
        assert [piece.finish_reason for piece in pieces][-2:] == [None, "stop"]
        assert (pieces[-1].prompt_tokens, pieces[-1].new_tokens) == (12, 4)
        cut = [piece async for piece in engine.stream(request(tokens=2))]
        assert ["".join(piece.text for piece in cut), cut[-1].finish_reason] == ["ba", "length"]
        asked = [call for server in servers for call in server.asked]
        assert asked[0]["prompt"] == tiny_base(tiny_model).chat.encode_prompt(request().prompt)
        assert (asked[0]["seed"], asked[0]["temperature"], asked[0]["top_k"]) == (7, 1.0, 0)
        await until(lambda: engine.health()["rows"] == 0)
        assert engine.health()["new_tokens"] == 5 + 2

    asyncio.run(scenario())


def test_two_adapters_answer_side_by_side(engine: VllmEngine, tiny_adapters: Path) -> None:
    async def scenario() -> None:
        await ready(engine)
        for name in (ONE, TWO):
            await engine.load(name, tiny_adapters / name)
        assert engine.health()["adapters"] == [ONE, TWO]
        asked = (request(adapter=name) for name in (ONE, TWO))
        one, two = await asyncio.gather(*(read(engine, wanted) for wanted in asked))
        assert one.startswith(f"{ONE}-") and two.startswith(f"{TWO}-")

    asyncio.run(scenario())


def test_an_adapter_is_published_on_all_servers_or_on_none(
    engine: VllmEngine, servers: list[StandIn], tiny_adapters: Path
) -> None:
    async def scenario() -> None:
        await ready(engine)
        await engine.load(ONE, tiny_adapters / ONE)
        assert [held(server) for server in servers] == [[ONE], [ONE]]
        servers[1].refuses = True
        with pytest.raises(AdapterError, match="rank 32 is greater than 16"):
            await engine.load(TWO, tiny_adapters / TWO)
        assert [held(server) for server in servers] == [[ONE], [ONE]]
        assert any(call.startswith(f"unload {TWO}") for call in servers[0].calls)
        with pytest.raises(InvalidRequestError, match=TWO):
            await engine.check(request(adapter=TWO))
        with pytest.raises(InvalidRequestError, match=TWO):
            await read(engine, request(adapter=TWO))
        assert up(engine) == 2
        servers[1].refuses = False
        await engine.load(TWO, tiny_adapters / TWO)
        assert [held(server) for server in servers] == [[ONE, TWO], [ONE, TWO]]

    asyncio.run(scenario())


def test_a_damaged_adapter_reaches_no_server(
    engine: VllmEngine, servers: list[StandIn], tiny_adapters: Path, tmp_path: Path
) -> None:
    (tmp_path / ONE).mkdir()
    for file in (tiny_adapters / ONE).iterdir():
        (tmp_path / ONE / file.name).write_bytes(file.read_bytes())
    (tmp_path / ONE / "adapter_model.safetensors").write_bytes(b"no")

    async def scenario() -> None:
        await ready(engine)
        with pytest.raises(AdapterError, match="was changed"):
            await engine.load(ONE, tmp_path / ONE)
        assert not any(ONE in call for server in servers for call in server.calls)

    asyncio.run(scenario())


def test_a_server_that_dies_costs_its_own_replies_only_and_comes_back_with_its_adapters(
    engine: VllmEngine, servers: list[StandIn], tiny_adapters: Path
) -> None:
    async def scenario() -> None:
        await ready(engine)
        await engine.load(ONE, tiny_adapters / ONE)
        for server in servers:
            server.seconds = 0.05
        asked = [request(str(i), adapter=ONE, source=str(i)) for i in range(8)]
        going = [asyncio.create_task(read(engine, wanted)) for wanted in asked]
        await until(lambda: engine.health()["new_tokens"] > 16)
        rows = {replica["url"]: replica["rows"] for replica in engine.health()["replicas"]}
        assert min(rows.values()) > 0, "both have replies"
        await asyncio.to_thread(servers[0].die)
        ends = await asyncio.gather(*going, return_exceptions=True)
        lost = [end for end in ends if isinstance(end, ChatAppError)]
        assert len(lost) == rows[servers[0].url]
        assert all(str(end).startswith(ONE) for end in ends if end not in lost)

        await engine.load(TWO, tiny_adapters / TWO)  # a dead one does not stop it
        servers[0].asked.clear()
        servers[0].start()
        for server in servers:
            server.seconds = 0.0
        while up(engine) < 2:  # people go on asking
            assert (await read(engine, request(adapter=TWO))).startswith(TWO)
        assert held(servers[0]) == [ONE, TWO]
        asked = [request(str(i), adapter=TWO, source=str(i)) for i in range(8)]
        texts = await asyncio.gather(*(read(engine, wanted) for wanted in asked))
        assert all(text.startswith(TWO) for text in texts) and servers[0].asked

    asyncio.run(scenario())


def test_a_reply_that_was_lost_before_its_first_token_begins_elsewhere(
    engine: VllmEngine, servers: list[StandIn]
) -> None:
    async def scenario() -> None:
        await ready(engine)
        for server in servers:
            server.breaks_after = 0
        with pytest.raises(BusyError, match="no server"):
            await read(engine, request())
        assert all(server.asked for server in servers), "each was tried"
        servers[1].breaks_after = None
        await ready(engine)
        for i in range(8):
            assert await read(engine, request(str(i))) == "base"
        servers[0].breaks_after = servers[1].breaks_after = 2
        await ready(engine)
        pieces = []
        with pytest.raises(ChatAppError, match="failed on this reply"):
            async for piece in engine.stream(request()):
                pieces.append(piece.text)
        assert "".join(pieces) == "ba"

    asyncio.run(scenario())


def test_a_server_that_refuses_a_reply_is_not_lost_and_visitors_do_not_read_its_address(
    engine: VllmEngine, servers: list[StandIn], caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        await ready(engine)
        for server in servers:
            server.refuses = True
        with pytest.raises(ChatAppError, match=r"^the engine failed on this reply; try again$"):
            await read(engine, request())
        assert up(engine) == 2

    asyncio.run(scenario())
    assert "this model cannot do that" in caplog.text


def test_a_reply_that_has_begun_goes_on_within_what_a_server_takes(
    engine: VllmEngine, servers: list[StandIn], tiny_model: Path
) -> None:
    window = load_outline(str(tiny_model)).chat.reply.window
    for server in servers:
        server.window = window

    async def scenario() -> None:
        await ready(engine)
        long = replace(request(), begun="e" * (window // 2))
        assert await read(engine, replace(long, sampling=Sampling(1.0, 1.0, window)))
        with pytest.raises(InvalidRequestError, match="fills what the model can read"):
            await read(engine, replace(long, begun="e" * window))

    asyncio.run(scenario())
    [body] = [body for server in servers for body in server.asked]
    assert len(body["prompt"]) > window // 4 and len(body["prompt"]) + body["max_tokens"] == window


def test_a_server_that_was_restarted_unseen_is_not_asked_for_what_it_lost(
    engine: VllmEngine, servers: list[StandIn], tiny_adapters: Path
) -> None:
    async def scenario() -> None:
        await ready(engine)
        await engine.load(ONE, tiny_adapters / ONE)
        for server in servers:
            server.adapters.clear()  # as after a restart between two looks
        while len(held(servers[0]) + held(servers[1])) < 2:
            try:
                assert (await read(engine, request(adapter=ONE))).startswith(ONE)
            except BusyError:
                await asyncio.sleep(0.01)
        await ready(engine)

    asyncio.run(scenario())


def test_an_adapter_is_dropped_only_after_its_last_reply(
    engine: VllmEngine, servers: list[StandIn], tiny_adapters: Path
) -> None:
    async def scenario() -> None:
        await ready(engine)
        await engine.load(ONE, tiny_adapters / ONE)
        for server in servers:
            server.seconds = 0.02
        going = asyncio.create_task(read(engine, request(adapter=ONE)))
        await until(lambda: engine.health()["new_tokens"] > 2)
        await engine.unload(ONE)
        assert held(servers[0]) == held(servers[1]) == [ONE]
        assert (await going).startswith(ONE)
        await until(lambda: not servers[0].adapters and not servers[1].adapters)
        assert engine.health()["adapters"] == []
        await engine.load(ONE, tiny_adapters / ONE)
        assert held(servers[0]) == held(servers[1]) == [ONE]

    asyncio.run(scenario())


def test_a_reader_who_leaves_frees_the_row(engine: VllmEngine, servers: list[StandIn]) -> None:
    async def scenario() -> None:
        await ready(engine)
        for server in servers:
            server.seconds = 0.2
        async with aclosing(engine.stream(request())) as pieces:
            await anext(pieces)
        await until(lambda: engine.health()["rows"] == 0)
        assert sum(replica["rows"] for replica in engine.health()["replicas"]) == 0

    asyncio.run(scenario())


def test_a_reply_is_cut_when_its_time_is_over(
    make_engine: MakeEngine, servers: list[StandIn]
) -> None:
    async def scenario() -> None:
        engine = make_engine(reply_seconds=1.0)
        await ready(engine)
        for server in servers:
            server.seconds = 0.4
        pieces = [piece async for piece in engine.stream(request())]
        assert pieces[-1].finish_reason == "length" and 0 < pieces[-1].new_tokens < 4

    asyncio.run(scenario())


def test_more_requests_than_rows_and_places_are_refused(
    make_engine: MakeEngine, servers: list[StandIn]
) -> None:
    async def scenario() -> None:
        engine = make_engine(rows=1, waiting=1)
        await ready(engine)
        for server in servers:
            server.seconds = 0.05
        going = [asyncio.create_task(read(engine, request())) for _ in range(2)]
        await until(lambda: engine.health()["rows"] == 1)
        with pytest.raises(BusyError, match="too many"):
            await read(engine, request())
        assert await asyncio.gather(*going) == ["base", "base"]
        with pytest.raises(TooLongError):
            await engine.check(request("a" * 600))

    asyncio.run(scenario())


def test_a_server_that_cannot_serve_says_why_and_gets_no_request(
    make_engine: MakeEngine, servers: list[StandIn]
) -> None:
    servers[0].window = 100
    servers[1].die()
    servers[1].runtime_lora = False
    servers[1].start()

    async def scenario() -> None:
        engine = make_engine()
        faults = ""
        while not faults or "not asked" in faults:
            await asyncio.sleep(0.02)
            faults = " ".join(replica["fault"] for replica in engine.health()["replicas"])
        assert "--max-model-len 321" in faults and "VLLM_ALLOW_RUNTIME_LORA_UPDATING" in faults
        assert not engine.health()["ready"] and engine.health()["alive"]
        with pytest.raises(BusyError, match="no server"):
            await read(engine, request())

    asyncio.run(scenario())


def test_replies_in_flight_end_when_the_engine_closes(
    engine: VllmEngine, servers: list[StandIn]
) -> None:
    async def scenario() -> None:
        await ready(engine)
        for server in servers:
            server.seconds = 5
        going = asyncio.create_task(read(engine, request()))
        await until(lambda: engine.health()["rows"] == 1)
        await asyncio.to_thread(engine.close)
        with pytest.raises(BusyError, match="stopped"):
            await going
        with pytest.raises(BusyError, match="stopped"):
            await read(engine, request())

    asyncio.run(scenario())
