"""The service over stand-ins of vLLM: what visitors and operators see of it."""

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from chat_app.engine.vllm import replicas
from chat_app.errors import InvalidRequestError
from chat_app.settings import load_settings
from feedback_store.records import BASE_ADAPTER
from tests.chat_app.engine.vllm.stand_in import StandIn
from tests.chat_app.serving import Running, publish_copy, running, until

ONE, TWO = "policy-000001", "policy-000002"
ASKED = {"messages": [{"role": "user", "content": "hello"}]}


@pytest.fixture
def service(
    servers: list[StandIn],
    tiny_model: Path,
    tiny_adapters: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Running]:
    """A service with two published adapters that serves the base."""
    monkeypatch.setattr(replicas, "WATCH_S", 0.05)
    urls = ",".join(server.url for server in servers)
    options = {
        "engine": {"kind": "vllm", "vllm_urls": urls},
        "cycle": {"trial": {"canary_share": 1.0}},
    }
    with running(tmp_path / "data", tiny_model, **options) as fresh:
        for name in (ONE, TWO):
            publish_copy(tiny_adapters / name, tmp_path / "data", name)
            fresh.service.store.register_adapter(name, kind="policy", state="published")
        with fresh.client() as client:
            until(lambda: client.get("/readyz").json()["replicas"]["up"] == 2)
        yield fresh


def reply(service: Running) -> str:
    with service.client() as client:
        answer = client.post("/v1/chat/completions", json=ASKED)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["choices"][0]["message"]["content"])


def test_a_promotion_that_one_server_refuses_changes_nothing_and_raises_an_alarm(
    service: Running, servers: list[StandIn]
) -> None:
    service.service.promote(ONE)
    until(lambda: reply(service).startswith(f"{ONE}-"))
    servers[1].refuses = True
    service.service.promote(TWO)
    until(lambda: service.service.store.alarms())
    [alarm] = service.service.store.alarms()
    assert "greater than 16" in alarm.text and f"serving {ONE} instead" in alarm.text
    assert service.service.store.serving().adapter == ONE
    servers[1].refuses = False
    assert reply(service).startswith(f"{ONE}-")


def test_a_canary_stands_beside_the_served_adapter(service: Running) -> None:
    service.service.canary(ONE)
    until(lambda: service.service.trial is not None)
    seen: Counter[str | None] = Counter()
    with service.client() as client:
        for _ in range(3):
            shown = client.post("/v1/candidates", json=ASKED).json()["candidates_id"]
            seen.update(m.adapter for m in service.service.store.candidates(shown))
    assert seen == {ONE: 3, BASE_ADAPTER: 3}


def test_a_reply_that_breaks_off_is_stored_as_an_error(
    service: Running, servers: list[StandIn]
) -> None:
    for server in servers:
        server.breaks_after = 2
    with service.client() as client:
        answer = client.post("/v1/chat/completions", json=ASKED | {"stream": True})
    assert "failed on this reply" in answer.text
    found = re.search(r'"id": "([^"]+)"', answer.text)
    assert found, answer.text
    message = service.service.store.message(found[1])
    assert (message.content, message.finish_reason) == ("ba", "error")


def test_the_metrics_say_which_servers_get_requests(
    service: Running, servers: list[StandIn]
) -> None:
    servers[0].die()
    gone = f'feedback_chat_replica_up{{replica="{servers[0].url}"}} 0.0'
    there = f'feedback_chat_replica_up{{replica="{servers[1].url}"}} 1.0'
    with service.client() as client:
        until(lambda: gone in client.get("/metrics").text)
        assert there in client.get("/metrics").text
        ready = client.get("/readyz")
    assert (ready.status_code, ready.json()["replicas"]) == (200, {"up": 1, "of": 2})
    assert servers[0].url not in ready.text, "strangers may read this"
    assert reply(service) == "base"


def test_settings_of_vllm_that_do_not_go_together_are_refused_in_one_line() -> None:
    def refused(match: str, **flags: object) -> None:
        with pytest.raises(InvalidRequestError, match=match):
            load_settings(**flags)

    refused("go together", engine={"kind": "vllm"})
    refused("go together", engine={"vllm_urls": "http://a:1"})
    by_cycles = {"policy": {"generation": "vllm"}}
    refused("go together", cycle=by_cycles)
    of_cycles = load_settings(engine={"vllm_urls": "http://a:1"}, cycle=by_cycles)
    assert of_cycles.servers is not None and of_cycles.engine.kind == "local"
    refused("'a:1' is no address", engine={"kind": "vllm", "vllm_urls": "a:1"})
    given = {"kind": "vllm", "vllm_urls": "http://a:1/v1, http://a:1,http://b:2/"}
    refused("use choices 'random'", engine=given, choices="active")
    settings = load_settings(engine=given)
    assert settings.engine.vllm_urls == ("http://a:1", "http://b:2")
    assert {"engine.kind", "engine.vllm_urls"} == settings.flags
