"""Replies while they are written, through the whole application: who may follow, and how far."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from chat_app.errors import BusyError
from chat_app.handlers import writing
from chat_app.identity import Identity
from chat_app.pages.follow import STREAMS
from chat_app.server import create_app
from feedback_store.store import FeedbackStore
from tests.chat_app.fakes import FakeEngine, fake_service
from tests.chat_app.pages.mounting import Stream, made
from tests.chat_app.serving import UNLIMITED

END = {"event": "end", "data": ""}


@dataclass
class Site:
    """The application, and what visitors do with it."""

    app: Any
    identity: Identity
    engine: FakeEngine

    def visitor(self) -> dict[str, str]:
        """The headers of a new visitor."""
        return {"cookie": f"{self.identity.cookie}={self.identity.new_cookie()}"}

    async def call(self, who: dict[str, str], name: str, *data: Any) -> Any:
        """What a function answers."""
        transport = httpx.ASGITransport(self.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            path = f"/gradio_api/run/{name}"
            answer = await client.post(path, json={"data": data}, headers=who)
        assert answer.status_code == 200, answer.text
        return answer.json()["data"][0]

    async def ask(self, who: dict[str, str]) -> str:
        """Send a message; returns the place of its reply."""
        answer = await self.call(who, "chat_send", "hello", None, None)
        return str(answer["ok"]["writing"])

    @asynccontextmanager
    async def follow(self, who: dict[str, str], prompt_id: str) -> AsyncIterator[Stream]:
        """A stream that has begun; its reader goes away at the end."""
        stream = Stream(self.app)
        task = asyncio.create_task(stream.run(f"/follow/{prompt_id}", who))
        try:
            for _ in range(1000):
                if stream.status:
                    break
                await asyncio.sleep(0.01)
            yield stream
        finally:
            stream.gone.set()
            await asyncio.wait_for(task, 10)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    data = tmp_path_factory.mktemp("site")
    engine, identity = FakeEngine(), Identity(data / "secrets")
    with FeedbackStore(data / "feedback.db") as store:
        service = fake_service(store, engine, data, rates=UNLIMITED)
        yield Site(made(lambda: create_app(service, identity)), identity, engine)


@pytest.fixture
def engine(site: Site) -> FakeEngine:
    """As at the beginning."""
    vars(site.engine).update(vars(FakeEngine()))
    return site.engine


def run(act: Callable[[], Awaitable[None]]) -> None:
    """Run one test in an event loop."""

    async def within() -> None:
        await act()

    asyncio.run(within())


def test_a_reply_is_pieces_then_the_conversation_then_the_end(
    site: Site, engine: FakeEngine
) -> None:
    async def act() -> None:
        ann = site.visitor()
        async with site.follow(ann, await site.ask(ann)) as stream:
            text = await stream.text()
        *pieces, last, end, rest = text.split("\n\n")
        assert (end, rest) == ("event: end\ndata: ", "")
        told = [json.loads(piece.removeprefix("data: "))["ok"]["added"] for piece in pieces]
        assert "".join(one["a"] for one in told) in ("one two", "")
        view = json.loads(last.removeprefix("data: "))["ok"]["view"]
        assert view["messages"][-1]["content"] == "one two"

    run(act)


def test_no_proxy_may_hold_a_stream_back_and_nothing_may_store_it(
    site: Site, engine: FakeEngine
) -> None:
    async def act() -> None:
        ann = site.visitor()
        async with site.follow(ann, await site.ask(ann)) as stream:
            assert stream.status == 200
            assert stream.headers["content-type"].startswith("text/event-stream")
            assert stream.headers["x-accel-buffering"] == "no"
            assert stream.headers["cache-control"] == "no-store"
            assert "content-length" not in stream.headers

    run(act)


def test_another_visitor_follows_nothing(site: Site, engine: FakeEngine) -> None:
    engine.waits = True

    async def act() -> None:
        ann, bob = site.visitor(), site.visitor()
        prompt_id = await site.ask(ann)
        async with site.follow(ann, prompt_id) as hers, site.follow(bob, prompt_id) as his:
            assert await hers.piece() == {
                "ok": {"added": {"a": "one"}, "view": None, "problem": "", "sentence": None}
            }
            refused = await his.piece()
            assert refused.keys() == {"problem", "kind", "sentence"}
            assert "one" not in refused["problem"].split()
            assert await his.event() == END
            async with site.follow(bob, "nothing") as none:
                assert (await none.piece())["kind"] == refused["kind"], "as if it did not exist"
        await site.call(bob, "chat_stop", prompt_id)
        async with site.follow(ann, prompt_id) as hers:
            assert (await hers.piece())["ok"]["added"] == {"a": "one"}, "it is still written"
        await site.call(ann, "chat_stop", prompt_id)
        async with site.follow(bob, prompt_id) as his:
            assert (await his.piece())["kind"] == refused["kind"], "nor once it is stored"

    run(act)


def test_who_has_no_cookie_follows_nothing(site: Site, engine: FakeEngine) -> None:
    engine.waits = True

    async def act() -> None:
        ann = site.visitor()
        prompt_id = await site.ask(ann)
        forged = {"cookie": ann["cookie"][:-3] + "xxx"}
        for who in ({}, forged, {"authorization": "Bearer ann"}):
            async with site.follow(who, prompt_id) as stream:
                assert stream.status == 401 and "no cookie" in await stream.text()
        await site.call(ann, "chat_stop", prompt_id)

    run(act)


def test_one_stream_too_many_is_refused_until_one_has_ended(site: Site, engine: FakeEngine) -> None:
    engine.waits = True

    async def act() -> None:
        ann, bob = site.visitor(), site.visitor()
        prompt_id, his = await site.ask(ann), await site.ask(bob)
        async with AsyncExitStack() as stack:
            opened = [
                stack.enter_async_context(site.follow(ann, prompt_id)) for _ in range(STREAMS + 8)
            ]
            streams = await asyncio.gather(*opened)  # all at once
            assert [one.status for one in streams].count(200) == STREAMS
            refused = [one for one in streams if one.status == 429]
            assert len(refused) == 8
            assert "close a tab" in await refused[0].text()
            assert int(refused[0].headers["retry-after"]) >= 1
            async with site.follow(bob, his) as other:
                assert other.status == 200
        for _ in range(2):  # all have left
            async with AsyncExitStack() as stack:
                for _ in range(STREAMS):
                    stream = await stack.enter_async_context(site.follow(ann, prompt_id))
                    assert stream.status == 200
        for who, place in ((ann, prompt_id), (bob, his)):
            await site.call(who, "chat_stop", place)

    run(act)


def test_a_stream_that_has_ended_counts_no_more(site: Site, engine: FakeEngine) -> None:
    async def act() -> None:
        ann = site.visitor()
        prompt_id = await site.ask(ann)
        for _ in range(STREAMS + 2):
            async with site.follow(ann, prompt_id) as stream:
                assert stream.status == 200
                assert (await stream.text()).endswith("event: end\ndata: \n\n")

    run(act)


def test_a_quiet_line_gets_a_piece_without_text(
    site: Site, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert 0 < writing.QUIET_S < 60, "nginx gives a line up after 60 seconds, others after more"
    monkeypatch.setattr(writing, "QUIET_S", 0.3)
    engine.waits = True

    async def act() -> None:
        ann = site.visitor()
        prompt_id = await site.ask(ann)
        async with site.follow(ann, prompt_id) as stream:
            assert (await stream.piece())["ok"]["added"] == {"a": "one"}
            for _ in range(2):
                assert (await stream.piece())["ok"]["added"] == {"a": ""}
            await site.call(ann, "chat_stop", prompt_id)
            last = (await stream.piece())["ok"]
            while last["view"] is None:
                last = (await stream.piece())["ok"]
            assert last["view"]["messages"][-1]["content"] == "one"
            assert await stream.event() == END

    run(act)


def test_a_problem_is_a_piece_before_the_end(site: Site, engine: FakeEngine) -> None:
    def fail() -> None:
        raise BusyError("Too many people wait.")

    async def act() -> None:
        ann = site.visitor()
        engine.starts = fail
        async with site.follow(ann, await site.ask(ann)) as stream:
            told = await stream.piece()
            while told.get("ok", {}).get("problem") == "":
                told = await stream.piece()
            assert "Too many people wait." in told["ok"]["problem"]
            assert await stream.event() == END
        async with site.follow(ann, "nothing") as stream:
            assert (await stream.piece()).keys() == {"problem", "kind", "sentence"}
            assert await stream.event() == END

    run(act)


def test_a_reader_who_leaves_ends_no_reply(site: Site, engine: FakeEngine) -> None:
    engine.waits = True

    async def act() -> None:
        ann = site.visitor()
        prompt_id = await site.ask(ann)
        for _ in range(2):
            async with site.follow(ann, prompt_id) as stream:
                assert (await stream.piece())["ok"]["added"] == {"a": "one"}
        await site.call(ann, "chat_stop", prompt_id)

    run(act)
    assert len(engine.seeds) == 1, "it was asked for once"


@pytest.mark.parametrize("name", ["", "a/b", "a.b", "..", "%2e", "ü", "a b", "a?b"])
def test_only_a_plain_name_is_followed(site: Site, name: str) -> None:
    async def act() -> None:
        async with site.follow(site.visitor(), name) as stream:
            assert stream.status == 404 and "no route" in await stream.text()

    run(act)
