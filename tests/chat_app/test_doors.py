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

from chat_app.api.languages import STATIC, version_of_files
from chat_app.identity import Identity
from feedback_store.store import FeedbackStore
from tests.chat_app.serving import serving

ROOT = Path(__file__).parents[2]
PAGE, _, _ = (ROOT / "docs" / "security.md").read_text().partition("On another host")
ROWS = re.findall(r"^\| (GET|POST|DELETE) (\S+) \| ((?:\S+ \| ){4}\S+) \|$", PAGE, re.MULTILINE)
CALLERS = ("nobody", "visitor", "another", "labeler", "operator")
ELSEWHERE = {"X-Forwarded-For": "203.0.113.9"}  # so that no request counts as one of this machine
TOKEN = "the-operators-token"
EVENT = {"data": [], "fn_index": 0, "session_hash": "s"}
NOT_THERE = ("NotFoundError", "UnknownRecordError")


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
    keys = {
        "operator_token": TOKEN,
        "rates__requests_per_minute": "10000",
        "reply__tokens": "8",
        "brand__logo": str(STATIC / "theme" / "icon.svg"),
    }
    with serving(folder / "data", *options, log=folder / "log", **keys) as (_, url):
        identity = Identity(folder / "data" / "secrets")
        with FeedbackStore(folder / "data" / "feedback.db") as store:
            _, key = store.make_key("lena", role="labeler", by="operator")
        service = Served(url, identity, folder / "log", key, {})
        with httpx.Client(base_url=url, timeout=20, trust_env=False) as client:
            client.headers.update(headers_of("another", service))
            client.post("/v1/consent", json={"given": True}).raise_for_status()
            client.headers.update(headers_of("visitor", service))
            client.post("/v1/consent", json={"given": True}).raise_for_status()
            service.ids.update(of_the_api(client), **of_the_pages(client))
        yield service
    assert "Traceback" not in (folder / "log").read_text()


def of_the_api(client: httpx.Client) -> dict[str, str]:
    """Two replies to choose between, a reply and one in its place, and who has them."""
    asked = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 8}
    shown = client.post("/v1/candidates", json={**asked, "temperature": 2.0}).json()
    reply = client.post("/v1/chat/completions", json=asked).json()
    retry = client.post("/v1/chat/completions", json={**asked, "retry_of": reply["id"]}).json()
    return {
        "candidates_id": shown["candidates_id"],
        "message_id": reply["id"],
        "retry_id": retry["id"],
        "rater": client.get("/v1/feedback/me").json()["rater"],
    }


def of_the_pages(client: httpx.Client) -> dict[str, str]:
    """Three conversations of the chat page, and a vote in the first."""
    found: dict[str, str] = {}

    def call(name: str, *data: Any) -> Any:
        answer = client.post(f"/gradio_api/run/{name}", json={"data": data})
        [told] = answer.raise_for_status().json()["data"]
        assert told.keys() == {"ok"}, told
        return told["ok"]

    for name in ("first", "second", "third"):
        view = call("chat_send", f"the {name} message", None, None)
        told = client.get(f"/follow/{view['writing']}").text
        assert told.endswith("event: end\ndata: \n\n")
        view = call("chat_open", view["conversation_id"], None, None)
        found[name], found[f"said_{name}"] = view["conversation_id"], view["messages"][0]["id"]
        found[f"reply_{name}"] = view["messages"][1]["id"]
    call("chat_thumb", found["reply_first"], 1, None, None)
    found["vote"] = call("votes_found", None, None, "", 0)["votes"][0]["id"]
    return found


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
    choice = {"candidates_id": ids["candidates_id"], "choice": "a"}
    called = {
        "chat_opened": [None, None],
        "chat_conversations": ["", 100],
        "chat_deleted": [],
        "chat_fits": ["hello"],
        "chat_open": [ids["first"], None, None],
        "chat_newest": [ids["first"]],
        "chat_rename": [ids["first"], "A title"],
        "chat_pin": [ids["first"], True],
        "chat_again": [ids["reply_second"]],
        "chat_edit": [ids["said_third"], "another message"],
        "chat_thumb": [ids["reply_first"], 1, None, None],
        "chat_rewrite": [ids["reply_first"], "A better answer."],
        "chat_compare_with_before": [ids["retry_id"], "same"],
        "chat_choose": [ids["candidates_id"], "a", None],
        "chat_answer": [ids["candidates_id"], "a"],
        "chat_delete": [ids["first"]],
        "chat_restore": [ids["first"]],
        "compare_choose": [ids["candidates_id"], "a", None, None, False],
        "compare_rank": [ids["candidates_id"], [["a"], ["b"]], False],
        "compare_skip": [ids["candidates_id"]],
        "votes_found": [None, None, "", 0],
        "votes_explain": [ids["candidates_id"], ["clearer"], ""],
        "votes_undo": ["thumb", ids["vote"]],
        "votes_redo": ["thumb", ids["vote"]],
        "operate_cycle": [],
    }
    _, run, name = path.partition("/gradio_api/run/")
    if run:
        return {"data": called.get(name, [])}
    return {
        "/gradio_api/queue/join": EVENT,
        "/v1/choices": {**choice, **once},
        "/v1/rankings": {"candidates_id": ids["candidates_id"], "order": [["a"], ["b"]], **once},
        "/v1/retries": {"message_id": ids["retry_id"], "than_before": "same", **once},
        "/v1/feedback": {"message_id": ids["message_id"], "thumb": "up", **once},
        "/v1/demonstrations": {"message_id": ids["message_id"], "content": "Good day.", **once},
    }.get(path, {})


def answer_of(served: Served, method: str, path: str, caller: str) -> tuple[int, str]:
    """The status of one request, and the beginning of its text."""
    headers, login = headers_of(caller, served), path == "/operator/login"
    if path.endswith("/"):
        headers = {**headers, "accept": "text/html"}
    sent: dict[str, Any] = {}
    if method == "POST" and login:
        sent = {"data": {"token": TOKEN if caller == "operator" else ""}}
    elif method == "POST":
        sent = {"json": body_of(path, caller, served.ids)}
    names = {"RATER": "rater", "MESSAGE": "said_first"}
    for name, of in names.items():
        path = path.replace(name, served.ids[of])
    with (
        httpx.Client(base_url=served.url, timeout=20, trust_env=False) as client,
        client.stream(
            method,
            path.replace("VERSION", version_of_files()),
            headers=headers,
            follow_redirects=login,
            **sent,
        ) as answer,
    ):
        return answer.status_code, next(answer.iter_text(), "")


def told_of(status: int, text: str) -> str:
    """An answer as the table has it; calls and streams say in their text that nothing is there."""
    if status in (401, 403):
        return "no"
    unknown_function = status == 400 and "event cannot be read" in text
    missing = any(f'"kind":"{kind}"' in text.replace(": ", ":") for kind in NOT_THERE)
    if status == 404 or unknown_function or missing:
        return "-"
    return text if '"problem":' in text and '"problem":""' not in text else "yes"


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
        status, text = answer_of(served, method, path, caller)
        to_login = status == 303 and path == "/operator/"
        assert ("no" if to_login else told_of(status, text)) == expected, f"{caller}: {status}"


def test_a_route_of_gradio_that_is_not_in_the_table_does_not_exist(
    served: Served, tmp_path: Path
) -> None:
    command = [sys.executable, "-c", LIST_ROUTES, str(tmp_path)]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    routes = [tuple(route) for route in json.loads(said.splitlines()[-1])]
    pages = ("/", "/compare", "/votes", "/progress", "/values")
    pages += ("/operator/", "/operator/progress", "/operator/values")
    known = {(method, path) for method, path, *_ in ROWS} | {("HEAD", path) for path in pages}
    tried = 0
    for method, path in routes:
        plain = re.sub(r"\{[^}]*\}", "x", path)
        ours = plain.startswith(("/v1", "/follow/", "/brand", "/operator/export/"))
        call = method == "POST" and re.fullmatch(r"(/operator)?/gradio_api/run/x", plain)
        if ours or call or (method, plain) in known or plain in ("/healthz", "/readyz"):
            continue
        for caller in ("visitor", "operator"):
            status, _ = answer_of(served, method, plain, caller)
            assert status == 404, f"{method} {plain}, {caller}: {status}"
        tried += 1
    assert tried > 60, "Gradio's routes were found"


def test_every_function_that_takes_somebodys_thing_is_in_the_table() -> None:
    from chat_app.pages.chat_events import ChatEvents
    from chat_app.pages.compare_events import CompareEvents
    from chat_app.pages.votes_events import VotesEvents

    things = ("conversation_id", "message_id", "candidates_id", "vote_id")
    takes = {
        name
        for events in (ChatEvents, CompareEvents, VotesEvents)
        for name, function in vars(events).items()
        if set(things) & set(getattr(function, "__annotations__", ()))
    }
    known = {path.rpartition("/")[2] for _, path, *_ in ROWS}
    # one opens an empty page, and one tells of the person's own votes, if there are any
    assert takes - known == {"votes_in_place"}


def test_wrong_events_of_a_page_leave_one_line_each_without_what_was_sent(served: Served) -> None:
    cookie = f"{served.identity.cookie}={served.identity.new_cookie()}"
    secret = "what-a-person-wrote"
    wrong: list[Any] = [
        {"data": [secret], "fn_index": 10_000},
        {"data": [secret, {"x": secret}, *[secret] * 50]},
        {"data": {"x": secret}},
        {"data": [], "session_hash": secret},
        {"data": [{"path": secret}]},
        {"data": None},
        {"data": secret},
        [secret],
        secret,
    ]
    nested = b"[" * 50_000
    lines = len(served.log.read_text().splitlines())
    with httpx.Client(base_url=served.url, timeout=20, trust_env=False) as client:
        client.headers["cookie"] = cookie
        for event in wrong:
            for name in ("chat_send", "chat_opened", "nothing"):
                answer = client.post(f"/gradio_api/run/{name}", json=event)
                problem = answer.status_code == 200 and "problem" in answer.json()["data"][0]
                assert problem or answer.status_code == 400, f"{name}: {event}"
                assert secret not in answer.text
        for number in range(3):
            told = client.get(f"/follow/unknown-{number}").text
            assert '"problem"' in told and told.endswith("event: end\ndata: \n\n")
        deep = client.post("/gradio_api/run/chat_send", content=nested)
        assert deep.status_code == 400
    log = served.log.read_text()
    assert secret not in log
    assert len(log.splitlines()) - lines <= 3 * len(wrong) + 4
