"""A real Prometheus reads a real service, and answers what the dashboard and the alerts ask."""

import json
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from feedback_store.records import Alarm
from tests.chat_app.api.dashboards import RULES, expressions
from tests.chat_app.serving import Running, publish_copy, running, until

ASKED = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 12}
VARIABLES = {"$__rate_interval": "30s", "$job": "feedback-chat", "$instance": ".*"}
LINE = {"stage": "policy", "loss/sft": 2.0, "loss/reward": 0.6, "reward/accuracy": 0.7}
LINE |= {"objective/kl": 0.5, "objective/scores": 1.0, "objective/rlhf_reward": 0.9}
LINE |= {"objective/entropy": 20.0, "val/length": 9.0}


@contextmanager
def prometheus(folder: Path, target: str) -> Iterator[httpx.Client]:
    """Prometheus with our configuration, but for the target, TLS, the key and the interval."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    shutil.copy(RULES, folder)
    config = (RULES.parent / "prometheus.yml").read_text()
    for ours, here in (
        ("scheme: https", "scheme: http"),
        ("    authorization:\n      credentials_file: /etc/prometheus/feedback-chat.key\n", ""),
        ("chat.example.org", target),
        ("15s", "1s"),
    ):
        assert ours in config
        config = config.replace(ours, here)
    (folder / "prometheus.yml").write_text(config)
    command = ["prometheus", f"--config.file={folder / 'prometheus.yml'}"]
    command += [f"--storage.tsdb.path={folder / 'tsdb'}", f"--web.listen-address={address}"]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        with httpx.Client(base_url=f"http://{address}", trust_env=False, timeout=20) as client:
            yield client
    finally:
        process.terminate()
        process.wait(20)


def ask(client: httpx.Client, expression: str) -> list[Any]:
    """The series that an expression gives now."""
    for variable, value in VARIABLES.items():
        expression = expression.replace(variable, value)
    answer = client.get("/api/v1/query", params={"query": expression}).json()
    assert answer["status"] == "success", (expression, answer)
    return list(answer["data"]["result"])


def is_scraped(client: httpx.Client) -> bool:
    try:
        return len(ask(client, "feedback_chat_ready == 1")) == 1
    except (httpx.HTTPError, ValueError):  # it still starts
        return False


def chat_and_vote(service: Running, name: str) -> None:
    with service.client(name) as client:
        for thumb in ("up", "down"):
            reply = client.post("/v1/chat/completions", json=ASKED).json()
            vote = {"message_id": reply["id"], "thumb": thumb, "idempotency_key": thumb}
            assert client.post("/v1/feedback", json=vote).status_code == 200


def train(service: Running, adapter: Path) -> None:
    """What a cycle and its gate leave behind while it runs, beside a canary."""
    store, data = service.service.store, service.service.settings.data
    publish_copy(adapter, data, "policy-000001")
    store.register_adapter("policy-000001", kind="policy", state="published")
    store.start_trial("canary", "policy-000001", "policy-000000", by="test")
    cycle = store.start_cycle({}, pid=os.getpid())
    found = {"win_rate": 0.6, "kl": 0.4, "reward_accuracy": 0.8}
    store.update_cycle(cycle.id, stage="policy", progress=0.5, metrics=found)
    folder = data / "cycles" / f"{cycle.id:06d}"
    folder.mkdir(parents=True)
    (folder / "metrics.jsonl").write_text(json.dumps(LINE) + "\n")
    store.note_verified_backup("/backups/1", by="test")


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("prometheus") is None, reason="prometheus is not installed")
def test_prometheus_answers_what_every_panel_and_alert_asks(
    tiny_model: Path, tiny_adapters: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "prometheus"
    folder.mkdir()
    with running(tmp_path / "data", tiny_model) as service:
        chat_and_vote(service, "ann")
        with prometheus(folder, service.url.removeprefix("http://")) as client:
            until(lambda: is_scraped(client))
            chat_and_vote(service, "bob")
            train(service, tiny_adapters / "policy-000001")
            service.service.store.raise_alarm(Alarm("kl", "the KL is large"), key="1")
            left = expressions()

            def answered() -> bool:
                for title in [title for title, asked in left.items() if ask(client, asked)]:
                    del left[title]
                return not left

            try:
                until(answered, seconds=30)
            except AssertionError:
                raise AssertionError(f"no series for {left}") from None
            groups = client.get("/api/v1/rules").json()["data"]["groups"]
            rules = {rule["name"]: rule["health"] for group in groups for rule in group["rules"]}
            assert len(rules) == 9 and set(rules.values()) == {"ok"}
            until(lambda: ask(client, 'ALERTS{alertname="FeedbackChatAlarm"}'), seconds=30)
