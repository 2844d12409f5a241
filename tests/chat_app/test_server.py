"""The whole server: adapters swapped under load, kills and restarts, honest complaints at start."""

import asyncio
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from chat_app.errors import RefusedError
from feedback_store.records import ServedBase
from feedback_store.store import FeedbackStore
from tests.chat_app.serving import Running, publish_copy, running, serving, until

Answer = dict[str, Any]


@pytest.fixture
def fresh(tiny_model: Path, tmp_path: Path) -> Iterator[Running]:
    with running(tmp_path / "data", tiny_model) as service:
        yield service


def publish(data: Path, adapters: Path, name: str, *, damaged: bool = False) -> None:
    """Put an adapter where a cycle would, and its row as published."""
    publish_copy(adapters / name, data, name)
    if damaged:
        weights = data / "adapters" / name / "adapter_model.safetensors"
        weights.write_bytes(weights.read_bytes()[:-8] + b"\0" * 8)
    with FeedbackStore(data / "feedback.db") as store:
        store.register_adapter(name, kind="policy", state="published")


async def visits_during_swaps(fresh: Running, adapters: list[str]) -> list[Answer]:
    """What visitors are told while one adapter after the other is served."""
    answers: list[Answer] = []
    swapped = asyncio.Event()

    async def visit(client: httpx.AsyncClient, number: int) -> None:
        turn = 0
        while not swapped.is_set():
            said = [{"role": "user", "content": f"{number} {turn}"}]
            body = {"messages": said, "max_tokens": 60, "seed": turn}
            headers = {"Authorization": f"Bearer visitor-{number}"}  # each has few at once
            answer = await client.post("/v1/chat/completions", json=body, headers=headers)
            assert answer.status_code == 200, answer.text
            answers.append(answer.json())
            turn += 1

    async def swap() -> None:
        """The next adapter comes when visitors have had replies of this, however long it takes."""
        for name in adapters:
            before = len(answers)
            await asyncio.to_thread(fresh.service.promote, name)
            while [answer["model"] for answer in answers[before:]].count(name) < 12:
                await asyncio.sleep(0.05)
                serving = await asyncio.to_thread(fresh.service.store.serving)
                assert serving.adapter == name, serving.by
        swapped.set()

    async with (
        httpx.AsyncClient(base_url=fresh.url, trust_env=False, timeout=60) as client,
        asyncio.TaskGroup() as tasks,
    ):
        for task in (swap(), *(visit(client, number) for number in range(12))):
            tasks.create_task(task)
    return answers


def test_a_swap_under_load_fails_nobody_and_every_reply_names_its_adapter(
    fresh: Running, tiny_adapters: Path
) -> None:
    names = [f"policy-{number:06d}" for number in (1, 2)]
    for name in names:
        publish(fresh.service.settings.data, tiny_adapters, name)
    answers = asyncio.run(visits_during_swaps(fresh, [*names, names[0], "policy-000000"]))
    assert {answer["model"] for answer in answers} == {*names, "policy-000000"}
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
    with pytest.raises(RefusedError, match="policy-000002"):
        fresh.service.promote("policy-000002")
    fresh.service.store.serve("policy-000002", by="another process")  # a row without that check
    until(lambda: fresh.service.store.serving().adapter == "policy-000001")
    serving = fresh.service.store.serving()
    assert "policy-000002 does not load" in serving.by
    assert serving.previous == "policy-000000"  # as before the damaged one
    assert fresh.service.adapter == "policy-000001"
    with fresh.client() as client:
        assert client.get("/readyz").json()["serving"] == "policy-000001"


def test_only_the_last_adapters_stay_loaded(fresh: Running, tiny_adapters: Path) -> None:
    data = fresh.service.settings.data
    for number in (1, 2, 3):
        name = f"policy-{number:06d}"
        publish_copy(tiny_adapters / "policy-000001", data, name)
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


def test_a_directory_of_another_model_is_taken_over_with_a_warning(
    tiny_model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for warned in (True, False):
        with FeedbackStore(tmp_path / "feedback.db") as store:
            if warned:
                store.note_base(ServedBase("smollm2", {}))
        caplog.clear()
        with running(tmp_path, tiny_model) as service:
            assert service.service.store.base().model == str(tiny_model)
        assert ("answered with model 'smollm2' before" in caplog.text) is warned


# The command itself, in a process of its own


@pytest.mark.slow
def test_kill_nine_loses_nothing_that_was_acknowledged(tiny_model: Path, tmp_path: Path) -> None:
    data, log = tmp_path / "data", tmp_path / "log"
    options = ("--model", str(tiny_model), "--quantization", "none")
    client = httpx.Client(headers={"Authorization": "Bearer alice"}, trust_env=False, timeout=60)
    with client, serving(data, *options, log=log) as (process, url):
        body = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 5}
        message = client.post(f"{url}/v1/chat/completions", json=body).json()["id"]
        vote = {"message_id": message, "thumb": "up", "idempotency_key": "once"}
        stored = client.post(f"{url}/v1/feedback", json=vote).json()
        client.get(url, headers={"Accept": "text/html"})
        cookie = client.cookies
        process.kill()
    client = httpx.Client(headers=client.headers, cookies=cookie, trust_env=False, timeout=60)
    with client, serving(data, *options, log=log) as (process, url):
        assert client.post(f"{url}/v1/feedback", json=vote).json() == stored
        events = client.get(f"{url}/v1/feedback/me").json()["events"]
        page = client.get(url, headers={"Accept": "text/html"})
        assert page.status_code == 200 and not page.cookies, "the cookie is still known"
        assert [event["message_id"] for event in events] == [message]
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)
        assert process.returncode == 0
    assert "Traceback" not in log.read_text()
    with FeedbackStore(data / "feedback.db") as store:
        assert store.verify() == [] and store.counts()["thumbs"] == 1
    assert (data / "secrets" / "key").stat().st_mode & 0o777 == 0o600
