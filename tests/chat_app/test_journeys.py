"""The number of store transactions that a vote and a message cost."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from chat_app.handlers.receipts import receipts_of
from chat_app.handlers.talk import Talk
from chat_app.handlers.views import ChatView
from chat_app.handlers.votes import Votes
from chat_app.identity import Identity
from chat_app.server import create_app
from chat_app.service.chat import ChatService
from feedback_store.store import FeedbackStore
from tests.chat_app.fakes import FakeEngine, fake_service

ANN = "ann"


@pytest.fixture
def service(tmp_path: Path) -> Iterator[ChatService]:
    with FeedbackStore(tmp_path / "feedback.db") as store:
        store.add_rater(ANN, consent="1")
        yield fake_service(store, FakeEngine(), tmp_path, candidates_every=0)


@contextmanager
def counted(store: FeedbackStore) -> Iterator[Counter[str]]:
    """Count the transactions that begin inside the block; SQLite reports them."""
    count: Counter[str] = Counter()

    def read(statement: str) -> None:
        count["reads"] += statement.startswith("BEGIN")

    def write(statement: str) -> None:
        count["writes"] += statement.startswith("BEGIN")

    reader, writer = store._file._reader.conn, store._file._writer.conn
    reader.set_trace_callback(read)
    writer.set_trace_callback(write)
    try:
        yield count
    finally:
        reader.set_trace_callback(None)
        writer.set_trace_callback(None)


def talk_for(service: ChatService, turns: int) -> ChatView:
    """A conversation on the page, with a thumb on every reply but the last."""
    talk, votes = Talk(service), Votes(service)

    async def say(text: str, last_id: str | None) -> ChatView:
        return [v async for v in talk.send(ANN, text, last_id=last_id, tab="t")][-1]

    view = ChatView()
    for turn in range(turns):
        if view.last_id:
            votes.thumb(ANN, view.last_id, 1)
        view = asyncio.run(say(f"question {turn}", view.last_id))
    return view


def thumb_with_redraw(service: ChatService, view: ChatView) -> Counter[str]:
    """What a click on a thumb costs: the vote, the conversation again, and the receipts."""
    with counted(service.store) as count:
        after, panel = Votes(service).thumb(ANN, str(view.last_id), -1)
        receipts = receipts_of(service, ANN)
    assert after.messages[-1].thumb == -1 and panel is not None
    assert len(receipts) == min(30, len(view.messages) // 2)
    return count


def test_a_thumb_reads_as_little_on_a_long_conversation_as_on_a_short_one(
    service: ChatService,
) -> None:
    short = thumb_with_redraw(service, talk_for(service, 1))
    long = thumb_with_redraw(service, talk_for(service, 30))
    assert short["writes"] == long["writes"] == 1
    assert long["reads"] <= 8 and abs(long["reads"] - short["reads"]) <= 2


def test_a_doubled_click_writes_one_vote(service: ChatService) -> None:
    view = talk_for(service, 1)
    thumb_with_redraw(service, view)
    [thumb] = service.store.thumbs()
    thumb_with_redraw(service, view)
    assert service.store.thumbs() == [thumb]
    assert len(service.receipts(ANN)) == 1


def test_a_dialogue_by_the_api_is_stored_once_and_its_last_turn_in_one_transaction(
    service: ChatService, tmp_path: Path
) -> None:
    app = create_app(service, Identity(tmp_path / "secrets"), pages=False)
    client = TestClient(app, base_url="http://127.0.0.1", headers={"Authorization": "Bearer alice"})
    dialogue: list[dict[str, str]] = []
    for turn in range(10):
        dialogue.append({"role": "user", "content": f"question {turn}"})
        before_generation: Counter[str] = Counter()
        with counted(service.store) as count:
            service.engine.starts = lambda seen=before_generation, now=count: seen.update(now)
            answer = client.post("/v1/chat/completions", json={"messages": dialogue}).json()
        dialogue.append(answer["choices"][0]["message"])
    assert before_generation["writes"] == 1
    assert count["writes"] == 2  # and one for the reply
    path = service.store.path(answer["id"])
    assert [(m.role, m.content) for m in path] == [(m["role"], m["content"]) for m in dialogue]
    assert service.store.counts()["messages"] == 20
