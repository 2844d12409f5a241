"""The log has the request's id in each line, and nothing that a person wrote or is named by."""

import asyncio
import json
import logging
import os
import re
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from prometheus_client import CollectorRegistry
from starlette.types import Message, Receive, Scope, Send

from chat_app.api.errors import add_error_handlers
from chat_app.api.logs import REQUESTS, JsonLines, RequestIds, TextLines, request_id
from chat_app.api.metrics.requests import CountRequests, RequestMeasures
from chat_app.api.metrics.seldom import Seldom
from chat_app.errors import BusyError
from chat_app.settings import DEBUG_VARIABLE
from tests.chat_app.serving import Running, serving

ID = re.compile(r"[0-9a-f-]{36}")
MARK = "zanzibar"


@pytest.mark.parametrize("given", ["trace-0123456789", "A1b2C3d4.e_f"])
def test_a_well_formed_id_of_the_sender_is_answered(served: Running, given: str) -> None:
    with served.client(None) as client:
        answer = client.get("/healthz", headers={"X-Request-ID": given})
    assert answer.headers["x-request-id"] == given


@pytest.mark.parametrize("given", ["", "short", "two words here", 'quote"quote', "a" * 65, "ü" * 9])
def test_any_other_gets_a_new_one(served: Running, given: str) -> None:
    with served.client(None) as client:
        answer = client.get("/healthz", headers={"X-Request-ID": given.encode()})
    assert ID.fullmatch(answer.headers["x-request-id"])


def test_a_key_is_no_request_id(served: Running) -> None:
    _, key = served.service.store.make_key("portal", by="test")
    with served.client(None) as client:
        answer = client.get("/v1/nothing", headers={"X-Request-ID": key})
    assert answer.status_code == 404 and ID.fullmatch(answer.headers["x-request-id"])


def test_two_requests_at_the_same_time_keep_their_ids() -> None:
    seen: dict[str, list[str]] = {}

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for _ in range(3):
            await asyncio.sleep(0)
            seen.setdefault(scope["path"], []).append(request_id())

    async def send(message: Message) -> None: ...

    async def both() -> None:
        calls = []
        for name in ("first-request", "second-request"):
            headers = [(b"x-request-id", name.encode())]
            scope = {"type": "http", "method": "GET", "path": name, "headers": headers}
            calls.append(RequestIds(app)(scope, None, send))  # type: ignore[arg-type]
        await asyncio.gather(*calls)

    asyncio.run(both())
    assert seen == {name: [name] * 3 for name in ("first-request", "second-request")}


@pytest.mark.parametrize("form", [TextLines(), JsonLines()])
def test_an_error_is_logged_by_its_type_and_place_without_its_message(
    form: logging.Formatter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FEEDBACK_CHAT_DEBUG", raising=False)
    try:
        int(MARK)
    except ValueError as exc:
        record = logging.LogRecord("x", 40, "f", 1, "it failed", (), (ValueError, exc, None))
    line = form.format(record)
    assert "ValueError" in line and "test_logs.py" in line and MARK not in line


@pytest.mark.parametrize("form", [TextLines(), JsonLines()])
def test_an_error_of_several_is_logged_with_the_place_of_each(form: logging.Formatter) -> None:
    async def fails() -> None:
        int(MARK)

    async def together() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(fails())

    with pytest.raises(ExceptionGroup) as failed:
        asyncio.run(together())
    error = (failed.type, failed.value, failed.tb)
    line = form.format(logging.LogRecord("x", 40, "f", 1, "it failed", (), error))
    assert "ExceptionGroup" in line and "ValueError" in line and " in fails" in line
    assert MARK not in line


@pytest.mark.parametrize(("fault", "told"), [(BusyError, True), (ValueError, False)])
def test_a_fault_is_logged_with_its_message_only_if_that_is_ours(
    caplog: pytest.LogCaptureFixture, fault: type[Exception], told: bool
) -> None:
    def fails() -> None:
        raise fault(MARK)

    assert Seldom(fails, patience=60)() is None
    [line] = [TextLines().format(record) for record in caplog.records]
    assert "a metric cannot be read" in line and (MARK in line) is told
    assert told or "ValueError" in line


UNCAUGHT = f"""
import asyncio, gc, sys, threading
from chat_app.api.logs import begin_log
from chat_app.settings import LogSettings

async def bad(): raise ValueError("{MARK}")
def worse(said): raise KeyError(said)

class Worse:
    def __del__(self): raise OSError("{MARK}")

async def main():
    task = asyncio.create_task(bad())
    await asyncio.sleep(0.01)
    del task
    gc.collect()
    asyncio.get_running_loop().call_soon(worse, "{MARK}")
    await asyncio.sleep(0.01)

begin_log(LogSettings(format=sys.argv[1]))
asyncio.run(main())
Worse()
threading.Thread(target=worse, args=("{MARK}",), name="clerk").start()
"""


@pytest.mark.parametrize("form", ["json", "text"])
def test_an_error_that_nobody_caught_is_logged_by_its_type_and_place(form: str) -> None:
    command = [sys.executable, "-c", UNCAUGHT, form]
    env = {name: value for name, value in os.environ.items() if name != DEBUG_VARIABLE}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=env)
    log = done.stderr
    assert MARK not in log
    assert "Task exception was never retrieved" in log and "ValueError" in log
    assert "in worse" in log and "KeyError" in log and "the thread clerk has ended" in log
    assert "OSError" in log
    if form == "json":
        assert [json.loads(line)["level"] for line in log.splitlines()] == ["ERROR"] * 4


def test_an_unexpected_error_is_logged_and_counted_as_a_500_and_its_page_names_the_request(
    caplog: pytest.LogCaptureFixture,
) -> None:
    app, registry = FastAPI(), CollectorRegistry()

    def bad() -> None:
        int(MARK)

    for path in ("/v1/bad", "/bad"):
        app.get(path)(bad)
    add_error_handlers(app)
    app.add_middleware(CountRequests, measures=RequestMeasures(registry))
    app.add_middleware(RequestIds)
    caplog.set_level(logging.INFO, logger=REQUESTS)
    with TestClient(app, raise_server_exceptions=False) as client:
        answers = [client.get("/v1/bad"), client.get("/bad", headers={"Accept": "text/html"})]
    lines = [json.loads(JsonLines().format(r)) for r in caplog.records if r.name == REQUESTS]
    assert [line["status"] for line in lines] == [500, 500]
    counted = {"route": "/v1/bad", "status": "500"}
    assert registry.get_sample_value("feedback_chat_requests_total", counted) == 1
    page = answers[1]
    assert page.headers["content-type"].startswith("text/html")
    for answer in answers:
        assert answer.status_code == 500 and ID.fullmatch(answer.headers["x-request-id"])


@pytest.mark.slow
@pytest.mark.parametrize("form", ["json", "text"])
def test_no_log_has_what_people_write_or_what_names_them(
    tiny_model: Path, tmp_path: Path, form: str
) -> None:
    log, data = tmp_path / "log", tmp_path / "data"
    options = ["--model", str(tiny_model), "--quantization", "none"]
    with serving(data, *options, log=log, log__format=form, log__requests="true") as (_, url):
        said = list(say_and_fail(url))
    text = log.read_text()
    assert MARK not in text.lower()
    assert not [reply for reply in said if len(reply) > 8 and reply in text]
    assert "/v1/chat/completions" in text and "route=unknown" in text
    assert re.search(r"reply [0-9a-f-]{36} of policy-000000, tokens=\d+", text)
    if form == "json":
        lines = [json.loads(line) for line in text.splitlines()]
        replies = [line for line in lines if "reply" in line]
        requests = {line["request"]: line for line in lines if line.get("route")}
        assert replies and all(line["request"] in requests for line in replies)


def say_and_fail(url: str) -> list[str]:
    """Every way in, with marked texts, good and bad; returns the replies."""
    asked = {"messages": [{"role": "user", "content": f"{MARK}?"}], "max_tokens": 24}
    headers = {"Authorization": f"Bearer {MARK}-token"}
    said = []
    with httpx.Client(base_url=url, headers=headers, trust_env=False, timeout=60) as http:
        reply = http.post("/v1/chat/completions", json=asked).json()
        said.append(reply["choices"][0]["message"]["content"])
        vote = {"message_id": reply["id"], "thumb": "up", "comment": MARK, "idempotency_key": MARK}
        assert http.post("/v1/feedback", json=vote).status_code == 200
        better = {"content": f"better {MARK}", "message_id": reply["id"], "idempotency_key": "b"}
        assert http.post("/v1/demonstrations", json=better).status_code == 200
        assert http.post("/v1/candidates", json=asked | {"n": 2}).status_code == 200
        with http.stream("POST", "/v1/chat/completions", json=asked | {"stream": True}) as pieces:
            assert list(pieces.iter_lines())
        for path, body in (
            ("/v1/feedback", {"message_id": MARK, "thumb": MARK}),
            ("/v1/chat/completions", {"messages": MARK, MARK: MARK}),
            ("/v1/choices", vote | {"thumb": "up"}),
            (f"/v1/{MARK}?{MARK}={MARK}", {}),
            (f"/gradio_api/call/{MARK}", {"data": [MARK]}),
            ("/gradio_api/call/chat_ask", {"data": [MARK], "session_hash": MARK}),
        ):
            assert http.post(path, json=body).status_code >= 400, path
        http.post("/v1/feedback", content=MARK.encode())
        http.get(f"/v1/feedback/{MARK}")
        http.get("/operator", params={"token": MARK})
        http.get("/", headers={"Cookie": MARK, "User-Agent": MARK, "Referer": f"http://{MARK}"})
    return said
