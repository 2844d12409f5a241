"""The rules of the service, with an engine that the test controls."""

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from chat_app.engine import Sampling
from chat_app.errors import BusyError
from chat_app.handlers.talk import Talk
from chat_app.service.chat import ChatService
from chat_app.service.replies import REDRAWS, Candidates
from feedback_store.store import FeedbackStore
from tests.chat_app.fakes import FakeEngine, fake_service

ANN = "ann"


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


@pytest.fixture
def service(engine: FakeEngine, tmp_path: Path) -> Iterator[ChatService]:
    with FeedbackStore(tmp_path / "feedback.db") as store:
        store.add_rater(ANN)
        yield fake_service(store, engine, tmp_path)


@pytest.mark.parametrize("cancellations", [1, 2])
def test_a_stopped_reply_is_stored_beside_the_event_loop(
    service: ChatService, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch, cancellations: int
) -> None:
    said = service.ask(ANN, "hello")
    engine.waits = True
    started, stored, threads = threading.Event(), threading.Event(), []
    add_message = service.store.add_message

    def slow(*args: Any, **kwargs: Any) -> Any:
        threads.append(threading.current_thread())
        started.set()
        if cancellations == 2:
            stored.wait(5)  # until the reader is gone
        return add_message(*args, **kwargs)

    async def read() -> None:
        async for _ in service.reply(ANN, [said]):
            monkeypatch.setattr(service.store, "add_message", slow)

    async def scenario() -> None:
        reading = asyncio.create_task(read())
        await asyncio.sleep(0.2)
        reading.cancel()
        if cancellations == 2:
            await asyncio.to_thread(started.wait, 5)
            reading.cancel()
        with suppress(asyncio.CancelledError):
            await reading
        stored.set()

    asyncio.run(scenario())
    _, reply = service.store.messages(said.conversation_id)
    assert (reply.content, reply.finish_reason) == ("one", "cancelled")
    assert threads and threading.main_thread() not in threads


def test_there_is_no_room_for_more_replies_than_the_engine_holds(
    engine: FakeEngine, tmp_path: Path
) -> None:
    with FeedbackStore(tmp_path / "feedback.db") as store:
        service = fake_service(store, engine, tmp_path, engine={"rows": 1, "waiting": 0})
        room = service.require_room("bob")
        with pytest.raises(BusyError, match="too many requests"):
            service.require_room(ANN)
        room()
        service.require_room(ANN)()


def compare(service: ChatService, *, n: int = 2, temperature: float = 1.0) -> Candidates:
    said = service.ask(ANN, "hello")

    async def read() -> list[Candidates | None]:
        sampling = Sampling(temperature)
        pieces = service.candidates(ANN, [said], n=n, sampling=sampling)
        return [piece.candidates async for piece in pieces]

    stored = asyncio.run(read())[-1]
    assert stored is not None
    return stored


def test_of_replies_that_say_the_same_the_later_is_made_anew(
    service: ChatService, engine: FakeEngine
) -> None:
    engine.says = ["Rome.", "Rome.", " Rome.", "Milan."]
    shown = compare(service)
    assert [(m.label, m.content) for m in shown.messages] == [("a", "Rome."), ("b", "Milan.")]
    assert [m.seed for m in shown.messages] == [engine.seeds[0], engine.seeds[3]]
    assert service.candidates_of(ANN, shown.id) == shown


@pytest.mark.parametrize(("temperature", "made"), [(1.0, 2 + REDRAWS), (0.0, 2)])
def test_replies_that_stay_the_same_are_one_reply_with_nothing_to_choose(
    service: ChatService, engine: FakeEngine, temperature: float, made: int
) -> None:
    shown = compare(service, temperature=temperature)
    (reply,) = shown.messages
    assert (reply.content, reply.label, reply.candidates_id) == ("one two", None, None)
    assert (shown.id, len(engine.seeds)) == ("", made)
    view = Talk(service).open(ANN, reply.conversation_id)
    assert view.pair is None and view.messages[-1].id == reply.id


def test_of_four_replies_the_distinct_ones_are_compared(
    service: ChatService, engine: FakeEngine
) -> None:
    engine.says = ["Rome.", "Milan.", "Rome."]
    contents = [message.content for message in compare(service, n=4).messages]
    assert contents == ["Rome.", "Milan.", "one two"]


def test_a_candidate_that_fails_ends_the_others_and_nothing_is_stored(
    service: ChatService, engine: FakeEngine
) -> None:
    def fail_second() -> None:
        if engine.seeds:
            raise BusyError("the queue is full")

    engine.starts, engine.waits = fail_second, True
    with pytest.raises(BusyError, match="the queue is full"):
        compare(service)
    [conversation] = service.conversations(ANN)
    assert len(service.store.messages(conversation.id)) == 1


def test_a_stop_while_the_finished_reply_is_stored_waits_until_it_is(
    service: ChatService, monkeypatch: pytest.MonkeyPatch
) -> None:
    [said] = service.continue_dialogue(ANN, [{"role": "user", "content": "hello"}])
    started, add_message = threading.Event(), service.store.add_message

    def slow(*args: Any, **kwargs: Any) -> Any:
        started.set()
        time.sleep(0.3)
        return add_message(*args, **kwargs)

    monkeypatch.setattr(service.store, "add_message", slow)

    async def read() -> None:
        async for _ in service.reply(ANN, [said]):
            pass

    async def scenario() -> list[str | None]:
        reading = asyncio.create_task(read())
        await asyncio.to_thread(started.wait, 5)
        reading.cancel()
        with suppress(asyncio.CancelledError):
            await reading
        return [message.finish_reason for message in service.store.messages(said.conversation_id)]

    assert asyncio.run(scenario()) == [None, "stop"]
