"""The rules of the service around an engine that does as the test says."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from chat_app.errors import BusyError
from chat_app.service import ChatService
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
        async for _ in service.reply(ANN, said.id):
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
    _, reply = service.messages(ANN, said.conversation_id)
    assert (reply.content, reply.finish_reason) == ("one", "cancelled")
    assert threads and threading.main_thread() not in threads


def test_a_conversation_that_cannot_be_answered_now_is_not_stored(
    service: ChatService, engine: FakeEngine
) -> None:
    engine.room = 0
    with pytest.raises(BusyError, match="too many requests"):
        service.ask_all(ANN, [{"role": "user", "content": "hello"}])
    assert service.conversations(ANN) == []
