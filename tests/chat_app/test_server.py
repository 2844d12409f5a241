"""The whole server: adapters swapped under load, kills and restarts, honest complaints at start."""

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from feedback_store.store import FeedbackStore
from tests.chat_app.serving import Running, running


@pytest.fixture
def fresh(tiny_model: Path, tmp_path: Path) -> Iterator[Running]:
    with running(tmp_path / "data", tiny_model) as service:
        yield service


def publish(data: Path, adapters: Path, name: str, *, damaged: bool = False) -> None:
    """Put an adapter where a cycle would, and its row as published."""
    shutil.copytree(adapters / name, data / "adapters" / name)
    if damaged:
        weights = data / "adapters" / name / "adapter_model.safetensors"
        weights.write_bytes(weights.read_bytes()[:-8] + b"\0" * 8)
    with FeedbackStore(data / "feedback.db") as store:
        store.register_adapter(name, kind="policy", state="published")


def until(condition: Callable[[], Any], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"it did not happen within {seconds} s"
        time.sleep(0.02)


def test_a_swap_under_load_fails_nobody_and_every_reply_names_its_adapter(
    fresh: Running, tiny_adapters: Path
) -> None:
    names = [f"policy-{number:06d}" for number in (1, 2)]
    for name in names:
        publish(fresh.service.settings.data, tiny_adapters, name)

    async def visit(client: httpx.AsyncClient, number: int) -> list[dict[str, Any]]:
        answers = []
        for turn in range(6):
            body = {
                "messages": [{"role": "user", "content": f"{number} {turn}"}],
                "max_tokens": 60,
                "seed": turn,
            }
            answer = await client.post("/v1/chat/completions", json=body)
            assert answer.status_code == 200, answer.text
            answers.append(answer.json())
        return answers

    async def swap() -> None:
        for name in (*names, names[0], "policy-000000"):
            fresh.service.promote(name)
            while fresh.service.adapter != name:
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.1)

    async def scenario() -> list[dict[str, Any]]:
        async with httpx.AsyncClient(base_url=fresh.url, trust_env=False, timeout=30) as client:
            visits = [visit(client, number) for number in range(12)]
            told = await asyncio.gather(*visits, swap())
        return [answer for answers in told[:-1] for answer in answers or []]

    answers = asyncio.run(scenario())
    assert len(answers) == 72
    assert len({answer["model"] for answer in answers}) >= 2
    alone = {}
    for answer in answers[::6]:  # each again, alone, on the adapter that its row names
        path = fresh.service.store.path(answer["id"])
        alone[answer["id"]] = replay(fresh, path[-1].adapter or "", path[0].content, path[-1].seed)
    texts = {a["id"]: a["choices"][0]["message"]["content"] for a in answers}
    assert alone == {message_id: texts[message_id] for message_id in alone}


def replay(service: Running, adapter: str, prompt: str, seed: int | None) -> str:
    service.service.promote(adapter)
    until(lambda: service.service.adapter == adapter)
    with service.client() as client:
        body = {"messages": [{"role": "user", "content": prompt}], "max_tokens": 60, "seed": seed}
        answer = client.post("/v1/chat/completions", json=body).json()
    assert answer["model"] == adapter
    return str(answer["choices"][0]["message"]["content"])


def test_a_damaged_adapter_is_never_served_and_the_row_says_so(
    fresh: Running, tiny_adapters: Path
) -> None:
    publish(fresh.service.settings.data, tiny_adapters, "policy-000001")
    publish(fresh.service.settings.data, tiny_adapters, "policy-000002", damaged=True)
    fresh.service.promote("policy-000001")
    until(lambda: fresh.service.adapter == "policy-000001")
    fresh.service.promote("policy-000002")
    until(lambda: fresh.service.store.serving().adapter == "policy-000001")
    assert "policy-000002 does not load" in fresh.service.store.serving().by
    assert fresh.service.adapter == "policy-000001"
    with fresh.client() as client:
        assert client.get("/readyz").json()["serving"] == "policy-000001"


def test_only_the_last_adapters_stay_loaded(fresh: Running, tiny_adapters: Path) -> None:
    data = fresh.service.settings.data
    for number in (1, 2, 3):
        shutil.copytree(
            tiny_adapters / "policy-000001",
            tmp := data / f"copy-{number}",
            ignore=shutil.ignore_patterns("manifest.json"),
        )
        manifest = json.loads((tiny_adapters / "policy-000001" / "manifest.json").read_text())
        name = f"policy-{number:06d}"
        (tmp / "manifest.json").write_text(json.dumps({**manifest, "name": name}))
        (data / "adapters").mkdir(exist_ok=True)
        tmp.rename(data / "adapters" / name)
        fresh.service.store.register_adapter(name, kind="policy", state="published")
        fresh.service.promote(name)
        until(lambda name=name: fresh.service.adapter == name)
    until(lambda: fresh.service.engine.health()["adapters"] == ["policy-000002", "policy-000003"])


def test_a_start_on_a_damaged_served_adapter_goes_back_to_the_one_before(
    tiny_model: Path, tiny_adapters: Path, tmp_path: Path
) -> None:
    with FeedbackStore(tmp_path / "feedback.db"):
        pass
    publish(tmp_path, tiny_adapters, "policy-000001")
    publish(tmp_path, tiny_adapters, "policy-000002", damaged=True)
    with FeedbackStore(tmp_path / "feedback.db") as store:
        store.serve("policy-000001", by="test")
        store.serve("policy-000002", by="test")
    with running(tmp_path, tiny_model) as service:
        assert service.service.adapter == "policy-000001"
        assert service.service.store.serving().adapter == "policy-000001"


# The command itself, in a process of its own


def start(data: Path, *options: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "chat_app", "serve", "--data", str(data), *options]
    env = {**os.environ, "FEEDBACK_CHAT_SCHEDULE__ENABLED": "false"}
    return subprocess.Popen(
        command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as port:
        return int(port.getsockname()[1])


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/readyz", timeout=1) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def test_kill_nine_loses_nothing_that_was_acknowledged(tiny_model: Path, tmp_path: Path) -> None:
    data, port = tmp_path / "data", free_port()
    options = ("--port", str(port), "--model", str(tiny_model), "--quantization", "none")
    url = f"http://127.0.0.1:{port}"
    headers = {"Authorization": "Bearer alice"}
    first = start(data, *options)
    try:
        until(lambda: answers(url), 120)
        with httpx.Client(base_url=url, headers=headers, trust_env=False, timeout=20) as client:
            body = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 5}
            message = client.post("/v1/chat/completions", json=body).json()["id"]
            vote = {"message_id": message, "thumb": "up", "idempotency_key": "once"}
            stored = client.post("/v1/feedback", json=vote).json()
            cookie = client.get("/", headers={"Accept": "text/html"}).cookies
    finally:
        first.kill()
        first.communicate()
    second = start(data, *options)
    try:
        until(lambda: answers(url), 120)
        with httpx.Client(base_url=url, headers=headers, trust_env=False, timeout=20) as client:
            assert client.post("/v1/feedback", json=vote).json() == stored
            events = client.get("/v1/feedback/me").json()["events"]
            client.cookies.update(cookie)
            page = client.get("/", headers={"Accept": "text/html"})
            assert "feedback_chat_rater" not in page.cookies, "the cookie is still known"
        assert [event["message_id"] for event in events] == [message]
    finally:
        second.send_signal(signal.SIGTERM)
        out, err = second.communicate(timeout=20)
    assert second.returncode == 0
    assert f"Chat:     {url}" in out and "/operator?token=" in out
    assert "Traceback" not in err
    with FeedbackStore(data / "feedback.db") as store:
        assert store.verify() == [] and store.counts()["thumbs"] == 1
    assert (data / "secrets" / "key").stat().st_mode & 0o777 == 0o600
