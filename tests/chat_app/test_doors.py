"""Every route, as every caller: the answers are the reviewed table of docs/security.md."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from chat_app.api.page_routes import PAGES_PER_MINUTE, UNREAD_S, Sessions
from chat_app.identity import Identity
from feedback_store.store import FeedbackStore
from tests.chat_app.serving import serving

ROOT = Path(__file__).parents[2]
PAGE, _, _ = (ROOT / "docs" / "security.md").read_text().partition("On another host")
ROWS = re.findall(r"^\| (GET|POST) (\S+) \| ((?:\S+ \| ){4}\S+) \|$", PAGE, re.MULTILINE)
CALLERS = ("nobody", "visitor", "another", "labeler", "operator")
ELSEWHERE = {"X-Forwarded-For": "203.0.113.9"}  # so that no request counts as one of this machine
TOKEN = "the-operators-token"
EVENT = {"data": [], "fn_index": 0, "session_hash": "s"}


@dataclass
class Served:
    """The command, in a process of its own."""

    url: str
    identity: Identity  # reads the same keys
    log: Path
    labeler: str  # the text of a key
    ids: dict[str, str]  # of what is the visitor's


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("doors")
    options = ("--model", str(tiny_model), "--quantization", "none")
    keys = {"operator_token": TOKEN, "rates__requests_per_minute": "10000"}
    with serving(folder / "data", *options, log=folder / "log", **keys) as (_, url):
        identity = Identity(folder / "data" / "secrets")
        with FeedbackStore(folder / "data" / "feedback.db") as store:
            _, key = store.make_key("lena", role="labeler", by="operator")
        service = Served(url, identity, folder / "log", key, {})
        asked = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 8}
        with httpx.Client(base_url=url, timeout=20, trust_env=False) as client:
            sent = {"headers": headers_of("visitor", service)}
            client.post("/v1/consent", json={"given": True}, **sent).raise_for_status()
            shown = client.post("/v1/candidates", json={**asked, "temperature": 2.0}, **sent).json()
            service.ids["candidates_id"] = shown["candidates_id"]
            reply = client.post("/v1/chat/completions", json=asked, **sent).json()
            service.ids["message_id"] = reply["id"]
            event = {**EVENT, "session_hash": "of-visitor"}
            client.post("/gradio_api/queue/join", json=event, **sent).raise_for_status()
            service.ids["rater"] = client.get("/v1/feedback/me", **sent).json()["rater"]
        yield service
    assert "Traceback" not in (folder / "log").read_text()


def headers_of(caller: str, served: Served) -> dict[str, str]:
    """What a caller sends."""
    if caller in ("visitor", "another"):
        cookie = f"{served.identity.cookie}={served.identity.new_cookie(f'browser-{caller}')}"
        return {**ELSEWHERE, "cookie": cookie}
    if caller in ("labeler", "operator"):
        token = served.labeler if caller == "labeler" else TOKEN
        return {**ELSEWHERE, "authorization": f"Bearer {token}"}
    return ELSEWHERE


def body_of(path: str, caller: str, ids: dict[str, str]) -> dict[str, Any]:
    """What a request says: right, as far as it is about something of the visitor's."""
    once = {"idempotency_key": f"by-{caller}"}
    return {
        "/gradio_api/queue/join": {**EVENT, "session_hash": "of-visitor"},
        "/gradio_api/run/predict": {**EVENT, "session_hash": "of-visitor"},
        "/operator/gradio_api/queue/join": {**EVENT, "session_hash": f"of-{caller}"},
        "/operator/gradio_api/run/predict": {**EVENT, "session_hash": f"of-{caller}"},
        "/v1/choices": {"candidates_id": ids["candidates_id"], "choice": "a", **once},
        "/v1/rankings": {"candidates_id": ids["candidates_id"], "order": [["a"], ["b"]], **once},
        "/v1/feedback": {"message_id": ids["message_id"], "thumb": "up", **once},
        "/v1/demonstrations": {"message_id": ids["message_id"], "content": "Good day.", **once},
    }.get(path, {})


def status_of(served: Served, method: str, path: str, caller: str) -> int:
    """The status of one request; a stream is left after its first bytes."""
    headers, login = headers_of(caller, served), path == "/operator/login"
    if path.endswith("/"):
        headers = {**headers, "accept": "text/html"}
    if path.endswith("/queue/data"):
        path += f"?session_hash=of-{caller if path.startswith('/operator') else 'visitor'}"
    sent: dict[str, Any] = {}
    if method == "POST" and login:
        sent = {"data": {"token": TOKEN if caller == "operator" else ""}}
    elif method == "POST":
        sent = {"json": body_of(path, caller, served.ids)}
    with (
        httpx.Client(base_url=served.url, timeout=20, trust_env=False) as client,
        client.stream(
            method,
            path.replace("RATER", served.ids["rater"]),
            headers=headers,
            follow_redirects=login,
            **sent,
        ) as answer,
    ):
        return answer.status_code


# Run in a process of its own: Gradio leaves event loops and sockets behind where nothing serves.
LIST_ROUTES = """
import json, sys, tempfile
from pathlib import Path
from chat_app.identity import Identity
from chat_app.server import create_app
from feedback_store.store import FeedbackStore
from tests.chat_app.fakes import FakeEngine, fake_service

def routes_of(routes, prefix=""):
    for route in routes:
        if hasattr(route, "methods"):
            yield from ((method, prefix + route.path) for method in route.methods or ())
        elif inner := getattr(route, "original_router", None):  # FastAPI's, for a router
            yield from routes_of(inner.routes, prefix)
        elif hasattr(route, "routes"):  # a mounted application
            yield from routes_of(route.routes, prefix + route.path)

folder = Path(sys.argv[1])
with FeedbackStore(folder / "feedback.db") as store:
    app = create_app(fake_service(store, FakeEngine(), folder), Identity(folder / "secrets"))
print("\\n" + json.dumps(sorted(set(routes_of(app.routes)))))
"""


@pytest.mark.parametrize(("method", "path", "answers"), ROWS)
def test_the_answer_to_every_caller_is_the_reviewed_one(
    served: Served, method: str, path: str, answers: str
) -> None:
    for caller, expected in zip(CALLERS, answers.split(" | "), strict=True):
        status = status_of(served, method, path, caller)
        to_login = status == 303 and path == "/operator/"
        found = "no" if status in (401, 403) or to_login else "-" if status == 404 else "yes"
        if path.endswith("/queue/data") and status == 404:
            found = "yes"  # let in; there is no such session
        assert found == expected, f"{caller}: {status}"


def test_a_route_of_gradio_that_is_not_in_the_table_does_not_exist(
    served: Served, tmp_path: Path
) -> None:
    command = [sys.executable, "-c", LIST_ROUTES, str(tmp_path)]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    routes = [tuple(route) for route in json.loads(said.splitlines()[-1])]
    known = {(method, path) for method, path, *_ in ROWS}
    tried = 0
    for method, path in routes:
        plain = re.sub(r"\{[^}]*\}", "x", path)
        ours = plain.startswith("/v1") or plain.startswith("/operator/robots")
        files = re.fullmatch(r"(/operator)?(/(assets|static)/x|/favicon.ico)", plain)
        if ours or files or (method, plain) in known or method in ("HEAD", "OPTIONS"):
            continue
        for caller in ("visitor", "operator"):
            status = status_of(served, method, plain, caller)
            assert status == 404, f"{method} {plain}, {caller}: {status}"
        tried += 1
    assert tried > 60, "Gradio's routes were found"


def test_another_visitor_neither_sends_to_nor_reads_from_a_session(served: Served) -> None:
    event = {**EVENT, "session_hash": "of-ann"}

    def visit(rater_id: str, path: str, **sent: Any) -> int:
        cookie = f"{served.identity.cookie}={served.identity.new_cookie(rater_id)}"
        method = "POST" if sent else "GET"
        with (
            httpx.Client(base_url=served.url, timeout=20, trust_env=False) as client,
            client.stream(method, path, headers={"cookie": cookie}, **sent) as answer,
        ):
            return answer.status_code

    assert visit("browser-ann", "/gradio_api/queue/join", json=event) == 200
    stream = "/gradio_api/queue/data?session_hash=of-ann"
    assert visit("browser-mallory", "/gradio_api/queue/join", json=event) == 403
    assert visit("browser-mallory", stream) == 403
    assert visit("browser-mallory", "/gradio_api/cancel", json=event) == 404
    for trick in (f"{stream}&session_hash=of-mallory", f"{stream}&session_hash="):
        assert visit("browser-mallory", trick) == 400
    both = "/gradio_api/queue/data?session_hash=of-mallory&session_hash=of-ann"
    assert visit("browser-mallory", both) == 400
    assert visit("browser-mallory", "/gradio_api/queue/data?session_hash=" + "x" * 5000) == 404
    assert visit("browser-ann", stream) == 200
    assert visit("browser-ann", "/gradio_api/queue/join", json={"data": [], "fn_index": 0}) == 400


def test_wrong_events_of_a_page_leave_one_line_each_without_what_was_sent(served: Served) -> None:
    cookie = f"{served.identity.cookie}={served.identity.new_cookie()}"
    secret = "what-a-person-wrote"
    wrong: list[dict[str, Any]] = [
        {"data": [secret], "fn_index": 10_000},
        {"data": [secret] * 50, "fn_index": 3},
        {"data": {"x": secret}, "fn_index": 3},
        {"data": [], "fn_index": secret},
        {"data": [{"path": secret}], "fn_index": 1},
        {"data": None},
    ]
    nested = b"[" * 50_000
    with httpx.Client(base_url=served.url, timeout=20, trust_env=False) as client:
        for number, event in enumerate(wrong):
            for route in ("run/predict", "queue/join"):
                sent = {**event, "session_hash": f"wrong-{number}"}
                client.post(f"/gradio_api/{route}", json=sent, headers={"cookie": cookie})
        for number in range(3):
            path = f"/gradio_api/queue/data?session_hash=unknown-{number}"
            assert client.get(path, headers={"cookie": cookie}).status_code == 404
        deep = client.post("/gradio_api/queue/join", content=nested, headers={"cookie": cookie})
        assert deep.status_code == 400
    assert secret not in served.log.read_text()


def test_results_that_nobody_fetches_are_dropped_after_a_minute() -> None:
    seconds = [0.0]
    sessions = Sessions(now=lambda: seconds[0])
    assert sessions.begin("one", "ann") == sessions.begin("two", "ann") == 0.0
    seconds[0] = UNREAD_S - 1
    assert sessions.begin("one", "ann") == 0.0 and not sessions.is_unread("one")
    seconds[0] = UNREAD_S  # more events are no sign that somebody reads
    two = sessions.of("two", "ann")
    assert two is not None
    with sessions.reading(two):
        assert sessions.is_unread("one") and not sessions.is_unread("two")
        assert (sessions.streams("ann"), sessions.streams("bob")) == (1, 0)
    assert sessions.streams("ann") == 0 and not sessions.is_unread("two")
    assert sessions.is_unread("never begun")


def test_an_event_after_a_long_pause_has_its_minute_to_be_read() -> None:
    seconds = [0.0]
    sessions = Sessions(now=lambda: seconds[0])
    sessions.begin("tab", "ann")
    session = sessions.of("tab", "ann")
    assert session is not None
    with sessions.reading(session):
        seconds[0] = 5.0
    seconds[0] = 900.0  # ann has read the reply, thought, and writes again
    sessions.begin("tab", "ann")
    assert not sessions.is_unread("tab")
    seconds[0] += UNREAD_S
    assert sessions.is_unread("tab")


def test_one_visitor_opens_few_pages_in_a_minute_and_goes_on_in_those() -> None:
    seconds = [0.0]
    sessions = Sessions(now=lambda: seconds[0])
    waits = [sessions.begin(f"page-{n}", "mallory") for n in range(PAGES_PER_MINUTE + 1)]
    assert waits[:-1] == [0.0] * PAGES_PER_MINUTE and waits[-1] > 0
    assert sessions.begin("page-0", "mallory") == 0.0, "it was opened before"
    assert sessions.begin("another", "ann") == 0.0
    seconds[0] += waits[-1]
    assert sessions.begin("one-more", "mallory") == 0.0
