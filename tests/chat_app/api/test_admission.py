"""Limits over HTTP: who is refused, how, and that nothing of it is stored."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import httpx
import pytest

from tests.chat_app.serving import Running, running

ASKED = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 2}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Iterator[Running]:
    rates = {"requests_per_minute": 20, "new_raters_per_hour": 5, "votes_per_minute": 3}
    with running(tmp_path_factory.mktemp("limits") / "data", tiny_model, rates=rates) as service:
        yield service


@pytest.fixture
def proxied(tmp_path: Path, tiny_model: Path) -> Iterator[Running]:
    """A service behind a proxy on this machine, which tells whose requests it brings."""
    with running(tmp_path / "data", tiny_model, proxies=["127.0.0.1"]) as service:
        yield service


def test_a_refused_request_says_when_to_come_again_and_stores_nothing(served: Running) -> None:
    with served.client("mallory") as mallory, served.client("ann") as ann:
        answers = [mallory.post("/v1/chat/completions", json=ASKED) for _ in range(14)]
        before = served.service.store.counts()["messages"]
        refused = mallory.post("/v1/chat/completions", json=ASKED)
        assert served.service.store.counts()["messages"] == before
        assert ann.post("/v1/chat/completions", json=ASKED).status_code == 200
    assert [answer.status_code for answer in answers[:10]] == [200] * 10
    assert refused.status_code == 429 and int(refused.headers["retry-after"]) >= 1
    error = refused.json()["error"]
    assert error["type"] == "rate_limit_error" and "too many requests" in error["message"]


def test_fresh_tokens_of_one_address_soon_name_nobody(served: Running) -> None:
    raters = served.service.store.counts()["raters"]
    said = []
    for n in range(12):
        with served.client(f"fresh-{n}") as client:
            said.append(client.post("/v1/chat/completions", json=ASKED).status_code)
    assert set(said) == {200, 429} and said[-1] == 429
    assert served.service.store.counts()["raters"] <= raters + 5


def test_simulated_visitors_of_this_machine_are_not_limited(served: Running) -> None:
    with served.client("robot", **{"X-Feedback-Chat-Simulated": "1"}) as robot:
        answers = [robot.post("/v1/chat/completions", json=ASKED) for _ in range(30)]
    assert {answer.status_code for answer in answers} == {200}


def test_votes_of_one_rater_are_counted_and_the_answer_tells_what_they_are_for(
    served: Running,
) -> None:
    with served.client("voter", **{"X-Feedback-Chat-Simulated": "1"}) as robot:
        message = robot.post("/v1/chat/completions", json=ASKED).json()["id"]
        vote = {"message_id": message, "thumb": "up", "idempotency_key": "once"}
        assert robot.post("/v1/feedback", json=vote).json()["trains"] is True
    browser = httpx.Client(base_url=served.url, trust_env=False)
    browser.cookies.set(served.identity.cookie, served.identity.new_cookie("browser-known"))
    served.service.visitor("browser-known")
    with browser:
        message = browser.post("/v1/chat/completions", json=ASKED).json()["id"]
        vote = {"message_id": message, "thumb": "up", "idempotency_key": "twice"}
        first = browser.post("/v1/feedback", json=vote).json()
        assert first["trains"] is False and "trains nothing" in first["note"]
        assert browser.post("/v1/consent", json={"given": True}).json()["given"] is True
        assert browser.post("/v1/feedback", json=vote).json()["trains"] is True
        assert browser.post("/v1/consent", json={"given": False}).status_code == 200
        assert browser.post("/v1/feedback", json=vote).json()["trains"] is False
        late = browser.post("/v1/feedback", json=vote)
    assert late.status_code == 429 and "too many votes" in late.json()["error"]["message"]


def test_long_dialogues_are_counted_by_what_was_sent_not_by_what_is_read(
    tmp_path: Path, tiny_model: Path
) -> None:
    said = [{"role": "user", "content": "word " * 400}] * 20
    rates = {"tokens_per_minute": 20_000}
    with running(tmp_path / "data", tiny_model, rates=rates) as served:
        with served.client("mallory") as mallory:
            body = {"messages": said, "max_tokens": 2}
            answers = [mallory.post("/v1/chat/completions", json=body) for _ in range(4)]
        with served.client("ann") as ann:
            assert ann.post("/v1/chat/completions", json=ASKED).status_code == 200
    refused = answers[-1]
    assert refused.status_code == 429 and "too many tokens" in refused.json()["error"]["message"]


def origins(served: Running) -> dict[str, str | None]:
    with served.service.store._file.read() as db:
        return {row["id"]: row["origin"] for row in db.query("SELECT id, origin FROM raters")}


def test_a_new_rater_is_stored_with_the_origin_and_never_with_the_address(
    proxied: Running, tmp_path: Path
) -> None:
    with proxied.client("ann", **{"X-Forwarded-For": "192.0.2.1"}) as ann:
        ann.post("/v1/consent", json={"given": True})
    with proxied.client("ann", **{"X-Forwarded-For": "198.51.100.7"}) as ann:  # from work
        ann.post("/v1/consent", json={"given": True})
    with proxied.client("bob", **{"X-Forwarded-For": "192.0.2.1"}) as bob:
        bob.post("/v1/consent", json={"given": True})
    home = proxied.identity.origin("192.0.2.1")
    assert list(origins(proxied).values()) == [home, home]
    proxied.service.store.backup(tmp_path / "copy.db")
    assert b"192.0.2.1" not in (tmp_path / "copy.db").read_bytes()


def test_visitors_of_the_page_have_an_origin_once_they_do_something(proxied: Running) -> None:
    cookie = f"{proxied.identity.cookie}={proxied.identity.new_cookie('browser-new')}"
    headers = {"X-Forwarded-For": "2001:db8:1:2::3", "Cookie": cookie}
    with proxied.client(None, **headers) as browser:
        browser.get("/")
    assert not proxied.service.knows("browser-new")
    proxied.service.visitor("browser-new")  # as an event of the page does
    expected = proxied.identity.origin("2001:db8:1:2::4")
    assert origins(proxied)["browser-new"] == expected is not None


def test_raters_of_this_machine_and_simulated_ones_have_no_origin(proxied: Running) -> None:
    with proxied.client("local") as local, proxied.client(None) as anonymous:
        local.post("/v1/consent", json={"given": True})
        anonymous.post("/v1/consent", json={"given": True})
    with proxied.client("robot", **{"X-Feedback-Chat-Simulated": "1"}) as robot:
        robot.post("/v1/chat/completions", json=ASKED)
    assert list(origins(proxied).values()) == [None] * 3


def test_of_requests_that_come_together_the_refused_ones_store_nothing(
    tmp_path: Path, tiny_model: Path
) -> None:
    with running(tmp_path / "data", tiny_model, rates={"replies_at_once": 3}) as served:
        with served.client("mallory") as client, ThreadPoolExecutor(24) as pool:
            body = {**ASKED, "max_tokens": 60}
            post = partial(client.post, "/v1/chat/completions", json=body)
            answers = list(pool.map(lambda _: post().status_code, range(24)))
        asked = served.service.store.counts()["messages"] - answers.count(200)
    assert set(answers) == {200, 429} and asked == answers.count(200)


def test_a_reply_that_is_stopped_is_counted_all_the_same(tmp_path: Path, tiny_model: Path) -> None:
    with running(tmp_path / "data", tiny_model, rates={"tokens_per_minute": 300}) as served:
        said = []
        with served.client("mallory") as client:
            for _ in range(40):
                body = {**ASKED, "max_tokens": 100, "stream": True}
                with client.stream("POST", "/v1/chat/completions", json=body) as answer:
                    said.append(answer.status_code)
                    next(answer.iter_raw())
    assert said[0] == 200 and said[-1] == 429


def test_who_has_a_key_is_not_refused_for_others_of_the_address(
    tmp_path: Path, tiny_model: Path
) -> None:
    with running(tmp_path / "data", tiny_model, engine={"rows": 2, "waiting": 6}) as served:
        _, key = served.service.store.make_key("ann", by="operator")
        rooms = [served.service.require_room("token-x") for _ in range(4)]
        with served.client("stranger") as stranger, served.client(key) as ann:
            served.service.rates.request("token-x", "127.0.0.1")
            assert ann.post("/v1/chat/completions", json=ASKED).status_code == 200
            assert stranger.post("/v1/chat/completions", json=ASKED).status_code == 200
        for room in rooms:
            room()
        rooms = [served.service.require_room("token-x") for _ in range(4)]
        with served.client("stranger") as stranger, served.client(key) as ann:
            refused = stranger.post("/v1/chat/completions", json=ASKED)
            assert refused.status_code == 503 and "too many requests" in refused.text
            assert ann.post("/v1/chat/completions", json=ASKED).status_code == 200
        for room in rooms:
            room()
