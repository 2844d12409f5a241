"""Long prompts in the engine: each is encoded once, beside decoding, and read in parts."""

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerFast

from chat_app.engine import GenerationRequest, Sampling, queued
from chat_app.engine.local import LocalEngine
from chat_app.engine.prompts import Prompts
from chat_app.errors import InvalidRequestError, TooLongError
from chat_app.settings import EngineSettings
from feedback_store.records import BASE_ADAPTER, PromptMessage
from rlhf_core.model import token_batches
from rlhf_core.model.base_model import Base
from rlhf_core.model.decoding import DecodingBatch, Row
from tests.chat_app.serving import tiny_base

PART = 16  # tokens, here
LONG, SHORT = "long " * 48, "short"  # 244 tokens and 9, with the template


@pytest.fixture
def engine(
    tiny_model: Path, engine_settings: EngineSettings, monkeypatch: pytest.MonkeyPatch
) -> Iterator[LocalEngine]:
    monkeypatch.setattr(token_batches, "CPU_PROMPTS", 2 * PART)
    monkeypatch.setattr(token_batches, "CPU_PROMPT", PART)
    anew = engine_settings.model_copy(update={"prefix_mb": 0})  # the prompts here are alike
    engine = LocalEngine(lambda: tiny_base(tiny_model), anew, key=None)
    yield engine
    engine.close()


@pytest.fixture
def encodings(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """The thread and the text of everything that the tokenizer encodes."""
    found, encode = [], PreTrainedTokenizerFast._encode_plus

    def note(tokenizer: PreTrainedTokenizerFast, text: str, **how: object) -> object:
        found.append((threading.current_thread().name, text))
        return encode(tokenizer, text, **how)

    monkeypatch.setattr(PreTrainedTokenizerFast, "_encode_plus", note)
    return found


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """What the decoding thread does: reads so many tokens of prompts, or a step of so many rows."""
    done: list[tuple[str, int]] = []
    advance, sample = DecodingBatch.advance, DecodingBatch.sample

    def note_read(batch: DecodingBatch, rows: Sequence[Row] = ()) -> int:
        if tokens := advance(batch, rows):
            done.append(("read", tokens))
        return tokens

    def note_sample(batch: DecodingBatch) -> None:
        done.append(("step", len(batch.rows)))
        sample(batch)

    monkeypatch.setattr(DecodingBatch, "advance", note_read)
    monkeypatch.setattr(DecodingBatch, "sample", note_sample)
    return done


def asked(
    *texts: str, tokens: int = 8, seed: int = 0, adapter: str = "policy-000000"
) -> GenerationRequest:
    roles = ("user", "assistant")
    first = 1 - len(texts) % 2  # the last one is the user's
    prompt = [
        PromptMessage(role=roles[(first + n) % 2], content=text) for n, text in enumerate(texts)
    ]
    return GenerationRequest(prompt, adapter, Sampling(1.0, 1.0, tokens), seed)


async def read(engine: LocalEngine, wanted: GenerationRequest) -> str:
    return "".join([piece.text async for piece in engine.stream(wanted)])


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.005)


def test_the_decoding_thread_never_encodes_and_a_prompt_is_encoded_once(
    engine: LocalEngine, encodings: list[tuple[str, str]]
) -> None:
    async def scenario() -> None:
        await until(lambda: engine.health()["ready"])
        encodings.clear()
        await engine.check(asked(SHORT))
        await asyncio.gather(*(read(engine, asked(SHORT, seed=seed)) for seed in range(3)))
        assert [text for _, text in encodings] == [f"<u>{SHORT}\n<a>"]
        await read(engine, asked(*["x" * 100] * 20))
        assert {thread[:7] for thread, _ in encodings} == {"prompts"}

    asyncio.run(scenario())


def test_a_long_prompt_is_read_in_parts_between_the_steps_of_others(
    engine: LocalEngine, steps: list[tuple[str, int]]
) -> None:
    async def scenario() -> None:
        await until(lambda: engine.health()["ready"])
        quiet = await read(engine, asked(SHORT, tokens=200)), await read(engine, asked(LONG))
        other = asyncio.create_task(read(engine, asked(SHORT, tokens=200)))
        await until(lambda: engine.health()["new_tokens"] > 210)
        steps.clear()
        long = await read(engine, asked(LONG))
        during = [kind for kind, _ in steps[: [*steps, ("step", 2)].index(("step", 2))]]
        assert during.count("read") >= -(-244 // PART)  # a part behind others is smaller
        assert ["read", "read"] not in [during[at : at + 2] for at in range(len(during))]
        assert (await other, long) == quiet

    asyncio.run(scenario())


def test_a_short_prompt_passes_long_ones_whenever_it_comes(
    engine: LocalEngine,
) -> None:
    ended: list[str] = []

    async def ask(name: str, text: str, tokens: int = 1) -> None:
        await read(engine, asked(text, tokens=tokens))
        ended.append(name)

    async def scenario() -> None:
        await until(lambda: engine.health()["ready"])
        with engine._wake:  # the thread finds them all at once
            tasks = [asyncio.create_task(ask(f"long {n}", LONG)) for n in range(12)]
            await until(lambda: sum(ticket.ids is not None for ticket in engine._waiting) == 12)
            tasks.append(asyncio.create_task(ask("short", SHORT)))
            await until(lambda: sum(ticket.ids is not None for ticket in engine._waiting) == 13)
        await until(lambda: len(ended) >= 3)  # many tokens were read since the others came
        await ask("late", SHORT)
        assert ended[0] == "short" and ended.index("late") < 8
        await asyncio.gather(*tasks)

    asyncio.run(scenario())


def test_no_long_prompt_is_passed_for_ever(
    engine: LocalEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queued, "PATIENCE", 2)
    going, began, ready = True, 0, engine._ready

    def note_ready(ticket: queued.Ticket, ids: list[int]) -> None:
        nonlocal began
        ready(ticket, ids)
        began = engine._made["prompt_tokens"] if len(ids) > 200 else began

    async def chatter() -> None:
        while going:
            await read(engine, asked("a longer one", tokens=1))

    async def scenario() -> None:
        nonlocal going
        await until(lambda: engine.health()["ready"])
        others = [asyncio.create_task(chatter()) for _ in range(12)]  # there is always one waiting
        await until(lambda: engine._made["prompt_tokens"] > 400)
        monkeypatch.setattr(engine, "_ready", note_ready)
        await read(engine, asked(LONG, tokens=1))
        going = False
        assert 244 < engine._made["prompt_tokens"] - began < 244 + 2 * 244 + 12 * 19
        await asyncio.gather(*others)

    asyncio.run(scenario())


def test_prompts_that_are_read_later_hold_no_rows(engine: LocalEngine) -> None:
    async def scenario() -> None:
        await until(lambda: engine.health()["ready"])
        tasks = [asyncio.create_task(read(engine, asked(LONG, tokens=1))) for n in range(12)]
        await until(lambda: engine.health()["rows"])
        assert engine.health()["rows"] <= 3  # one is read, and another was just now or is next
        await asyncio.gather(*tasks)
        await until(lambda: engine.health()["rows"] == engine.health()["waiting"] == 0)

    asyncio.run(scenario())


def test_who_leaves_while_the_prompt_is_encoded_or_read_leaves_nothing(
    engine: LocalEngine, steps: list[tuple[str, int]]
) -> None:
    async def scenario() -> None:
        leaving = asyncio.create_task(read(engine, asked(LONG)))
        await asyncio.sleep(0)  # it waits, perhaps for the model
        leaving.cancel()
        await until(lambda: engine.health()["ready"])
        assert engine.health()["waiting"] == 0
        leaving = asyncio.create_task(read(engine, asked(LONG)))
        await until(lambda: steps)
        leaving.cancel()
        await until(lambda: engine.health()["rows"] == 0)
        assert await read(engine, asked(SHORT))

    asyncio.run(scenario())


def test_an_adapter_is_kept_while_a_prompt_for_it_is_encoded(
    engine: LocalEngine, tiny_adapters: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    began, go_on, encode = threading.Event(), threading.Event(), Prompts._encode

    def slowly(prompts: Prompts, *said: object) -> object:
        began.set()
        assert go_on.wait(5)
        return encode(prompts, *said)

    async def scenario() -> None:
        await until(lambda: engine.health()["ready"])
        await engine.load("policy-000001", tiny_adapters / "policy-000001")
        engine._prompts.result()._encode_once = slowly.__get__(engine._prompts.result())
        reply = asyncio.create_task(read(engine, asked(SHORT, adapter="policy-000001")))
        await asyncio.to_thread(began.wait, 5)
        await engine.unload("policy-000001")
        await engine.unload("policy-000002")  # so that a step has passed
        go_on.set()
        assert await reply
        await until(lambda: engine.health()["adapters"] == [])

    asyncio.run(scenario())


@pytest.fixture(scope="module")
def prompts(tiny_model: Path) -> tuple[Prompts, Base]:
    base = tiny_base(tiny_model)
    return Prompts(base.chat, base.model.config), base


@pytest.mark.parametrize("number", range(1, 9))
@pytest.mark.parametrize("head", [(), ("system",), ("system", "system")])
@pytest.mark.parametrize("first", ["user", "assistant"])
@pytest.mark.parametrize("long", [None, 0, -1])
def test_the_last_message_is_kept_or_refused_in_one_line(
    prompts: tuple[Prompts, Base], number: int, head: tuple[str, ...], first: str, long: int | None
) -> None:
    turns = (first, "assistant" if first == "user" else "user") * number
    roles = [*head, *turns[: number - 1], "user"]
    said = [PromptMessage(role=role, content=f"{n} say it " * 7) for n, role in enumerate(roles)]
    if long is not None:
        said[long]["content"] = "too long " * 30
    wanted = GenerationRequest(said, "policy-000000", Sampling(), 0)
    made, base = prompts
    try:
        text = base.tokenizer.decode(asyncio.run(made.encode(wanted)))
    except InvalidRequestError as exc:
        assert str(exc).startswith("the last message does not fit the model: about ")
        assert "\n" not in str(exc) and (long == -1 or (long == 0 and (head or number == 1)))
    else:
        assert text.endswith(f"<u>{said[-1]['content']}\n<a>")
        assert text.startswith("".join(f"<s>{m['content']}\n" for m in said[: len(head)]))


@pytest.mark.parametrize("text", ["\N{SLICE OF PIZZA}" * 200 + "say it " * 200, "say it " * 300])
def test_as_much_as_is_said_to_fit_does_fit(prompts: tuple[Prompts, Base], text: str) -> None:
    made, base = prompts
    said = [PromptMessage(role="user", content=text)]
    with pytest.raises(TooLongError) as refused:
        asyncio.run(made.encode(GenerationRequest(said, "policy-000000", Sampling(), 0)))
    said[0]["content"] = text[: refused.value.fits]
    tokens, room = len(base.chat.encode_prompt(said)), base.reply.prompt_tokens
    assert room / 2 < tokens <= room


def test_an_enormous_conversation_that_cannot_fit_is_refused_without_being_counted(
    prompts: tuple[Prompts, Base], encodings: list[tuple[str, str]]
) -> None:
    said = [PromptMessage(role="system", content="be kind " * 1000)] * 199
    said.append(PromptMessage(role="user", content="hello"))
    with pytest.raises(InvalidRequestError, match=r"about 0 of its 5 characters fit; shorten it"):
        asyncio.run(prompts[0].encode(GenerationRequest(said, "policy-000000", Sampling(), 0)))
    assert sum(len(text) for _, text in encodings) < 60 * 256


def test_the_next_turn_of_a_conversation_reads_what_is_new_alone(
    tiny_model: Path,
    engine_settings: EngineSettings,
    steps: list[tuple[str, int]],
) -> None:
    engine = LocalEngine(lambda: tiny_base(tiny_model), engine_settings, key=None)

    async def scenario() -> None:
        while not engine.health()["ready"]:
            await asyncio.sleep(0.01)
        first = asked(LONG, adapter=BASE_ADAPTER)
        reply = await read(engine, first)
        steps.clear()
        await read(engine, asked(LONG, reply, "more", adapter=BASE_ADAPTER, seed=1))
        assert 0 < sum(tokens for did, tokens in steps if did == "read") < 40

    try:
        asyncio.run(scenario())
    finally:
        engine.close()
