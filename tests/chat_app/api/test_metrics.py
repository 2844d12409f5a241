"""What `/metrics` says, and that the dashboard and the alerts ask for nothing else."""

import itertools
import json
import os
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from chat_app.api.metrics import Metrics
from chat_app.api.metrics.seldom import Seldom
from chat_app.cycles.newest_metrics import newest_metrics
from feedback_store.records import Alarm, PromptMessage
from feedback_store.store import FeedbackStore
from tests.chat_app.api.dashboards import (
    DASHBOARD,
    RULES,
    expressions,
    names_in,
    panels,
    samples_of,
)
from tests.chat_app.fakes import FakeEngine, fake_service
from tests.chat_app.serving import Running, publish_copy, until

ASKED = [{"role": "user", "content": "what is Zanzibar?"}]
LINE = {"stage": "policy", "objective/kl": 0.5, "objective/scores": 1.5, "val/length": 9.0}
LINE |= {"objective/rlhf_reward": 1.4, "objective/entropy": 20.0}
EARLIER = {"stage": "reward", "loss/sft": 2.0, "loss/reward": 0.6, "reward/accuracy": 0.7}


@pytest.fixture(scope="module")
def text(served: Running, tiny_adapters: Path) -> Iterator[str]:
    """The metrics of a service with chats, votes, a trial, an alarm and a running cycle."""
    store = served.service.store
    with served.client("anna-of-zanzibar") as client:
        asked = {"messages": ASKED, "max_tokens": 12}
        reply = client.post("/v1/chat/completions", json=asked).json()
        for thumb, key in (("up", "1"), ("down", "2")):
            vote = {"message_id": reply["id"], "thumb": thumb, "idempotency_key": key}
            assert client.post("/v1/feedback", json=vote).status_code == 200
        data = served.service.settings.data  # without the files the server would stop the trial
        publish_copy(tiny_adapters / "policy-000001", data, "policy-000001")
        store.register_adapter("policy-000001", kind="policy", state="published")
        store.start_trial("canary", "policy-000001", "policy-000000", by="test")
        store.raise_alarm(Alarm("kl", "the KL is large"), key="1")
        cycle = store.start_cycle({}, pid=os.getpid())
        found = {"win_rate": 0.6, "kl": 0.4, "reward_accuracy": 0.8}
        store.update_cycle(cycle.id, stage="policy", progress=0.5, metrics=found)
        folder = data / "cycles" / f"{cycle.id:06d}"
        folder.mkdir(parents=True)
        lines = f"{json.dumps(EARLIER)}\n{json.dumps(LINE)}\n"
        (folder / "metrics.jsonl").write_text(lines + '{"stage": "pol')
        yield client.get("/metrics").text
    store.finish_cycle(cycle.id, state="failed")


def test_the_times_and_tokens_of_a_reply_are_counted(text: str) -> None:
    found = samples_of(text)
    for name in ("queue_seconds", "first_token_seconds"):
        assert found[f"feedback_chat_{name}_count"] == 1
    assert found["feedback_chat_inter_token_seconds_count"] >= 1
    assert found["feedback_chat_new_tokens_total"] == 12
    assert found["feedback_chat_prompt_tokens_total"] > len(ASKED[0]["content"])
    assert found['feedback_chat_replies_total{finish_reason="length"}'] == 1
    assert found['feedback_chat_replies_total{finish_reason="error"}'] == 0


def test_votes_are_counted_by_kind_and_by_what_they_say(text: str) -> None:
    found = samples_of(text)
    assert found['feedback_chat_votes_total{kind="thumb",said="up"}'] == 1
    assert found['feedback_chat_votes_total{kind="thumb",said="down"}'] == 1
    assert found['feedback_chat_votes_total{kind="choice",said="tie"}'] == 0


def test_a_running_cycle_shows_its_stage_and_its_newest_numbers(text: str) -> None:
    found = samples_of(text)
    assert found['feedback_chat_cycle_stage{stage="policy"}'] == 1
    assert sum(value for name, value in found.items() if "cycle_stage" in name) == 1
    assert found["feedback_chat_cycle_kl_nats"] == 0.5
    assert found["feedback_chat_cycle_reward_accuracy_ratio"] == 0.7
    assert found["feedback_chat_cycle_win_rate_ratio"] == 0.6
    assert found["feedback_chat_cycle_progress_ratio"] == 0.5


def test_the_canary_is_in_one_state_and_the_served_adapter_is_named(text: str) -> None:
    found = samples_of(text)
    assert found['feedback_chat_trial_state{kind="canary",state="open"}'] == 1
    assert found['feedback_chat_trial_state{kind="guard",state="none"}'] == 1
    assert sum(value for name, value in found.items() if "trial_state" in name) == 2
    assert any('adapter_info{adapter="policy-000000",' in name for name in found)
    assert 'version="1"' in text


def test_no_label_has_a_persons_words_or_name(text: str, served: Running) -> None:
    assert "anzibar" not in text
    assert "token-" not in text


def test_every_metric_that_the_dashboard_asks_for_is_there(text: str) -> None:
    there = {re.split(r"[{ ]", line)[0] for line in text.splitlines() if not line.startswith("#")}
    asked = {name for expression in expressions().values() for name in names_in(expression)}
    assert len(asked) > 30 and asked <= there


def test_every_metric_that_an_alert_asks_for_is_there(text: str) -> None:
    there = {re.split(r"[{ ]", line)[0] for line in text.splitlines() if not line.startswith("#")}
    assert names_in(RULES.read_text()) <= there


def test_every_metric_is_documented(text: str) -> None:
    page = (DASHBOARD.parents[2] / "docs" / "monitoring.md").read_text()
    families = set(re.findall(r"# TYPE (feedback_chat_\w+) (?:counter|gauge|histogram)", text))
    families = {name for name in families if not name.endswith("_created")}
    assert {name for name in families if f"`{name.removesuffix('_total')}" not in page} == set()


def test_the_panels_have_numbers_of_their_own_and_do_not_overlap() -> None:
    every = json.loads(DASHBOARD.read_text())["panels"]
    assert len({panel["id"] for panel in every}) == len(every)
    places = [panel["gridPos"] for panel in every]
    assert all(place["x"] >= 0 and place["x"] + place["w"] <= 24 for place in places)
    taken = [
        (x, y)
        for place in places
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(set(taken)) == len(taken)


def test_each_panel_says_what_it_shows_and_asks_the_chosen_data_source() -> None:
    for panel in panels():
        assert panel["description"] and panel["title"]
        sources = {target["datasource"]["uid"] for target in panel["targets"]}
        assert sources | {panel["datasource"]["uid"]} == {"${datasource}"}


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_promtool_finds_no_fault_in_the_metrics_and_the_rules(text: str) -> None:
    linted = subprocess.run(
        ["promtool", "check", "metrics"], input=text, capture_output=True, text=True, check=False
    )
    assert (linted.returncode, linted.stdout, linted.stderr) == (0, "", "")
    for check in (["check", "rules", "rules.yml"], ["test", "rules", "rules_test.yml"]):
        done = subprocess.run(
            ["promtool", *check], cwd=RULES.parent, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_registering_and_a_scrape_without_a_cycle_work_on_an_empty_store(tmp_path: Path) -> None:
    with FeedbackStore(tmp_path / "feedback.db") as store:
        service = fake_service(store, FakeEngine(), tmp_path)
        found = samples_of(Metrics(service).text().decode())
    assert found["feedback_chat_cycle_running"] == 0
    assert "feedback_chat_cycle_kl_nats" not in found
    assert found['feedback_chat_trial_state{kind="canary",state="none"}'] == 1


def test_votes_are_counted_on_after_a_restart_and_an_erasure(tmp_path: Path) -> None:
    for rater in ("ann", "bob"):
        with FeedbackStore(tmp_path / "feedback.db") as store:
            store.add_rater(rater, kind="person", consent="1")
            [asked] = store.add_dialogue(rater, [PromptMessage(role="user", content="hello")])
            answer = {"parent_id": asked.id, "adapter": "policy-000000"}
            reply = store.add_message(asked.conversation_id, "assistant", "hi", **answer)
            store.add_thumb(reply.id, rater, 1)
            store.forget(rater)
            counted = store.vote_counts()
    assert counted == {("thumb", "up"): 2}


def test_a_value_that_takes_long_is_read_seldom() -> None:
    seconds, numbers = [1.0], itertools.count()

    def read() -> int:
        seconds[0] += 0.5  # so long it takes
        return next(numbers)

    seldom = Seldom(read, now=lambda: seconds[0], patience=60)
    assert seldom() == 0
    seconds[0] += 49
    assert seldom() == 0
    seconds[0] += 2
    assert seldom() == 1


def test_nobody_waits_for_a_value_that_takes_too_long() -> None:
    goes_on = threading.Event()
    seldom = Seldom(lambda: goes_on.wait(60), patience=0)
    assert seldom() is None
    goes_on.set()
    until(seldom)


def test_the_newest_numbers_of_a_cycle_are_the_last_finite_ones(tmp_path: Path) -> None:
    assert newest_metrics(tmp_path, 1) == {}
    folder = tmp_path / "cycles" / "000001"
    folder.mkdir(parents=True)
    (folder / "metrics.jsonl").write_text('[1]\n{"a": 1, "b": 2}\n{"a": 3, "b": NaN}\nnot JSON')
    assert newest_metrics(tmp_path, 1) == {"a": 3.0, "b": 2.0}
