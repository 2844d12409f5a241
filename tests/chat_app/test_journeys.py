"""The number of store transactions that each event of the chat page costs."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import gradio as gr
import pytest
from fastapi.testclient import TestClient

from chat_app.handlers.talk import Talk
from chat_app.handlers.views import ChatView, ShownThumb
from chat_app.handlers.votes import Votes
from chat_app.identity import Identity
from chat_app.pages.chat_events import ChatEvents
from chat_app.server import create_app
from chat_app.service.chat import ChatService
from feedback_store.records import CandidateReply
from feedback_store.store import FeedbackStore
from tests.chat_app.fakes import FakeEngine, fake_service
from tests.chat_app.handlers.talking import hear, last_id, say
from tests.chat_app.reading import receipts_of

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
    talk, votes, view = Talk(service), Votes(service), ChatView()
    for turn in range(turns):
        if reply := last_id(view):
            votes.thumb(ANN, reply, 1)
        view = say(talk, f"question {turn}", view, rater=ANN)
    return view


def cost(service: ChatService, act: Callable[[], object]) -> tuple[int, int]:
    """How many transactions of an event read, and how many write."""
    with counted(service.store) as count:
        act()
    return count["reads"], count["writes"]


def thumb_with_receipts(service: ChatService, view: ChatView) -> tuple[int, int]:
    """What a click on a thumb costs, with the conversation again and the receipts."""
    found: list[object] = []

    def act() -> None:
        found.append(Votes(service).thumb(ANN, str(last_id(view)), -1))
        found.append(Talk(service).open(ANN, str(view.conversation_id)).messages[-1].thumb)
        found.append(len(receipts_of(service, ANN)))

    costs = cost(service, act)
    assert found == [ShownThumb(-1), ShownThumb(-1), min(30, len(view.messages) // 2)]
    return costs


def test_a_thumb_reads_as_little_on_a_long_conversation_as_on_a_short_one(
    service: ChatService,
) -> None:
    reads, writes = thumb_with_receipts(service, talk_for(service, 1))
    reads_of_long, writes_of_long = thumb_with_receipts(service, talk_for(service, 30))
    assert writes == writes_of_long == 1
    assert reads_of_long <= 9 and abs(reads_of_long - reads) <= 2


def test_a_doubled_click_writes_one_vote(service: ChatService) -> None:
    view = talk_for(service, 1)
    thumb_with_receipts(service, view)
    [thumb] = service.store.thumbs()
    thumb_with_receipts(service, view)
    assert service.store.thumbs() == [thumb]
    assert len(service.receipts(ANN)) == 1


def events_of(service: ChatService, view: ChatView) -> dict[str, tuple[int, int]]:
    """What each event of the chat page costs in a conversation, by its name."""
    events, me = ChatEvents(service), gr.Request(username=ANN)
    conversation_id, reply = str(view.conversation_id), str(last_id(view))
    question = view.messages[-2].id
    talk, costs = events.talk, {}

    async def written(begin: Awaitable[ChatView]) -> None:
        assert not (await hear(talk, await begin, rater=ANN)).problem

    def takes(name: str, act: Callable[[], object]) -> None:
        costs[name] = cost(service, act)

    takes("opened", lambda: events.chat_opened(conversation_id, None, me))
    takes("conversations", lambda: events.chat_conversations("", 100, me))
    takes("open", lambda: events.chat_open(conversation_id, question, None, me))
    takes("newest", lambda: events.chat_newest(conversation_id, me))
    takes("consent", lambda: events.chat_consent(True, me))
    takes("thumb", lambda: events.chat_thumb(reply, -1, ["wrong"], "no", me))
    takes("rewrite", lambda: events.chat_rewrite(reply, "better", me))
    takes("asked", lambda: events.chat_asked(me))
    sends = events.chat_send("and now?", reply, view.newest, me)
    takes("send", lambda: asyncio.run(written(sends)))
    edits = events.chat_edit(question, f"edited {conversation_id}", me)
    takes("edit", lambda: asyncio.run(written(edits)))
    retries = events.chat_again(reply, me)
    takes("again", lambda: asyncio.run(written(retries)))
    return costs


def test_every_event_takes_a_handful_of_transactions_however_long_the_conversation_is(
    service: ChatService,
) -> None:
    short = events_of(service, talk_for(service, 1))
    long = events_of(service, talk_for(service, 30))
    assert long == short
    most = {  # (that read, that write)
        "opened": (7, 0),
        "conversations": (2, 0),
        "open": (1, 0),
        "newest": (1, 0),
        "consent": (1, 0),  # it was given before
        "thumb": (2, 1),
        "rewrite": (3, 1),
        "asked": (0, 0),
        "send": (5, 2),  # the message and its reply
        "edit": (4, 2),
        "again": (3, 1),
    }
    assert {n: c for n, c in long.items() if c[0] > most[n][0] or c[1] > most[n][1]} == {}


def test_a_choice_takes_as_many_transactions_as_a_thumb(service: ChatService) -> None:
    view = talk_for(service, 1)
    asked = service.ask(ANN, "which?", parent_id=last_id(view))
    replies = [CandidateReply("x"), CandidateReply("y")]
    pair, _ = service.store.add_candidates(asked.id, replies, rater_id=ANN)
    events, me = ChatEvents(service), gr.Request(username=ANN)
    reads, writes = cost(service, lambda: events.chat_choose(pair, "b", 2.5, me))
    assert reads <= 4 and writes == 1


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
