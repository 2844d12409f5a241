"""The chat page's functions as a browser calls them: over HTTP, through the whole application."""

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from chat_app.engine import GenerationRequest, Piece
from chat_app.identity import Identity
from chat_app.server import create_app
from chat_app.service.chat import ChatService
from feedback_store.store import FeedbackStore
from tests.chat_app.fakes import FakeEngine, fake_service
from tests.chat_app.pages.mounting import made
from tests.chat_app.serving import UNLIMITED, until


@dataclass
class Tab:
    """A browser's tab that has the chat page open."""

    client: TestClient

    def call(self, name: str, *data: Any) -> Any:
        """What a function returns."""
        answer = self.client.post(f"/gradio_api/run/{name}", json={"data": data})
        assert answer.status_code == 200, answer.text
        [found] = answer.json()["data"]
        assert found.keys() == {"ok"}, found
        return found["ok"]

    def follow(self, prompt_id: str) -> list[Any]:
        """All pieces of the reply to a message."""
        answer = self.client.get(f"/follow/{prompt_id}")
        assert answer.status_code == 200, answer.text
        *pieces, end = answer.text.split("\n\n")[:-1]
        assert end == "event: end\ndata: "
        return [json.loads(piece.removeprefix("data: "))["ok"] for piece in pieces]


@contextmanager
def open_tab(service: ChatService, data: Path) -> Iterator[Tab]:
    """The whole application while it lives, and a browser that has opened its page."""
    app = made(lambda: create_app(service, Identity(data / "secrets")))
    with TestClient(app, base_url="http://127.0.0.1") as client:
        page = client.get("/", headers={"accept": "text/html"})
        assert page.status_code == 200, page.text
        yield Tab(client)


class SlowEngine(FakeEngine):
    """Takes a second for a reply, so that a page hears of it while it is written."""

    async def stream(self, request: GenerationRequest) -> AsyncGenerator[Piece, None]:
        """The pieces, with time between them."""
        async with aclosing(super().stream(request)) as pieces:
            async for piece in pieces:
                await asyncio.sleep(0.5)
                yield piece


@pytest.fixture
def engine() -> FakeEngine:
    return SlowEngine()


@pytest.fixture
def service(engine: FakeEngine, tmp_path: Path) -> Iterator[ChatService]:
    with FeedbackStore(tmp_path / "feedback.db") as store:
        options = {"rates": UNLIMITED, "schedule": {"enabled": False}}
        yield fake_service(store, engine, tmp_path, **options)


def test_a_conversation_from_the_first_message_to_a_vote(
    service: ChatService, tmp_path: Path
) -> None:
    with open_tab(service, tmp_path) as tab:
        opening = tab.call("chat_opened", None, None)
        assert opening["listed"]["conversations"] == [] and opening["view"]["messages"] == []
        assert service.store.raters() == [], "to look at the page stores nobody"
        asked = tab.call("chat_send", "hello", None, None)
        *told, last = tab.follow(asked["writing"])
        assert [piece["added"] for piece in told] == [{"a": "one"}, {"a": " two"}]
        again = tab.follow(asked["writing"])
        assert again == [last], "who comes late gets the conversation"
        reply = last["view"]["messages"][-1]
        assert (reply["role"], reply["content"]) == ("assistant", "one two")
        tab.call("chat_consent", True)
        thumb = tab.call("chat_thumb", reply["id"], -1, ["wrong"], "no")
        assert tab.call("chat_thumb", reply["id"], -1, None, None) == thumb
        assert tab.call("chat_rewrite", reply["id"], "three") == "three"
        opening = tab.call("chat_opened", asked["conversation_id"], None)
    shown = opening["view"]["messages"][-1]
    assert opening["consented"] and [
        one["title"] for one in opening["listed"]["conversations"]
    ] == ["hello"]
    assert (shown["thumb"], shown["better"]) == (thumb, "three")
    assert thumb == {"value": -1, "tags": ["wrong"], "comment": "no"}


def test_an_address_of_another_visitors_conversation_opens_an_empty_page(
    service: ChatService, tmp_path: Path
) -> None:
    service.store.add_rater("bob")
    other = service.ask("bob", "a secret")
    with open_tab(service, tmp_path) as tab:
        for conversation_id in (other.conversation_id, "nothing", ""):
            view = tab.call("chat_opened", conversation_id, other.id)["view"]
            assert (view["conversation_id"], view["messages"]) == (None, [])


def test_a_server_that_ends_stores_what_is_written_of_a_reply(
    service: ChatService, engine: FakeEngine, tmp_path: Path
) -> None:
    engine.waits = True
    with open_tab(service, tmp_path) as tab:
        asked = tab.call("chat_send", "hello", None, None)
        until(lambda: engine.seeds)
        time.sleep(0.7)  # until there is a first word
    said, reply = service.store.messages(asked["conversation_id"])
    assert said.id == asked["writing"]
    assert (reply.content, reply.finish_reason) == ("one", "cancelled")


def test_nothing_of_the_answers_names_who_or_what_wrote_a_blind_reply(
    service: ChatService, engine: FakeEngine, tmp_path: Path
) -> None:
    service.settings = service.settings.model_copy(update={"candidates_every": 1})
    engine.says = ["Rome.", "Milan."]
    with open_tab(service, tmp_path) as tab:
        tab.call("chat_consent", True)
        asked = tab.call("chat_send", "hello", None, None)
        assert asked["two"]
        pieces = tab.follow(asked["writing"])
        pair = pieces[-1]["view"]["pair"]
        assert {pair["a"]["content"], pair["b"]["content"]} == {"Rome.", "Milan."}
        assert "policy" not in json.dumps([asked, pieces])
        chosen = tab.call("chat_choose", pair["id"], "b", 2.5)
    assert (chosen["a"], chosen["b"]) == (1, 1), "the versions, once the choice is stored"
    assert chosen["view"]["messages"][-1]["id"] == pair["b"]["id"]
    assert [choice.seconds for choice in service.store.choices()] == [2.5]


def test_events_leave_nothing_behind_in_gradio(service: ChatService, tmp_path: Path) -> None:
    with open_tab(service, tmp_path) as tab:
        view = None
        for _ in range(3):
            below, newest = (view["newest"], view["newest"]) if view else (None, None)
            asked = tab.call("chat_send", "hello", below, newest)
            view = tab.follow(asked["writing"])[-1]["view"]
        apps = [getattr(route, "app", None) for route in tab.client.app.routes]  # type: ignore[attr-defined]
        [*_, visitors] = [one for one in apps if hasattr(one, "blocks")]
        states = visitors.state_holder.session_data
        assert len(states) == 1, "one for all, however many tabs there are"
        queue = visitors.blocks._queue
        assert not (queue.event_analytics or queue.pending_messages_per_session)
        assert not any(one.queue for one in queue.event_queue_per_concurrency_id.values())
        assert not visitors.iterators
