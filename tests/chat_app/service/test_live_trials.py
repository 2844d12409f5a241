"""Trials on a running service with a real model: blind side-by-sides, and what follows."""

import json
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from chat_app.errors import RefusedError
from feedback_store.records import BASE_ADAPTER
from tests.chat_app.serving import Running, publish_copy, running, until

ONE, TWO = "policy-000001", "policy-000002"
ASKED = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 16, "temperature": 1.0}
ALL = {"trial": {"canary_share": 1.0, "guard_share": 1.0}}


@pytest.fixture
def fresh(tiny_model: Path, tiny_adapters: Path, tmp_path: Path) -> Iterator[Running]:
    """A service with two published adapters that serves the base."""
    with running(tmp_path / "data", tiny_model, cycle=ALL) as service:
        for name in (ONE, TWO):
            publish_copy(tiny_adapters / name, tmp_path / "data", name)
            service.service.store.register_adapter(name, kind="policy", state="published")
        yield service


def try_out(fresh: Running, name: str) -> None:
    fresh.service.canary(name)
    until(lambda: fresh.service.trial is not None)


def pair(client: httpx.Client) -> str:
    """The id of two replies that differ; this model sometimes writes the same twice."""
    while True:
        answer = client.post("/v1/candidates", json=ASKED)
        assert answer.status_code == 200, answer.text
        if shown := answer.json()["candidates_id"]:
            return str(shown)


def sides(fresh: Running, candidates_id: str) -> list[str | None]:
    """Who wrote the replies, from left to right."""
    return [message.adapter for message in fresh.service.store.candidates(candidates_id)]


def choice_of(shown: str, choice: str) -> dict[str, str]:
    return {"candidates_id": shown, "choice": choice, "idempotency_key": shown}


def choose(fresh: Running, rater: str, worse: str) -> httpx.Response:
    """One rater sees a pair and prefers the reply that the worse adapter did not write."""
    with fresh.client(rater) as client:
        client.post("/v1/consent", json={"given": True})
        shown = pair(client)
        choice = "b" if sides(fresh, shown)[0] == worse else "a"
        return client.post("/v1/choices", json=choice_of(shown, choice))


def test_without_a_trial_both_replies_are_of_the_served_adapter(fresh: Running) -> None:
    with fresh.client() as client:
        shown = pair(client)
    assert sides(fresh, shown) == [BASE_ADAPTER] * 2


def test_a_canary_stands_beside_the_served_adapter_on_either_side(fresh: Running) -> None:
    try_out(fresh, ONE)
    with fresh.client() as client:
        shown = [pair(client) for _ in range(24)]
    seen = Counter(tuple(sides(fresh, one)) for one in shown)
    assert set(seen) == {(ONE, BASE_ADAPTER), (BASE_ADAPTER, ONE)}


def test_ordinary_replies_come_from_the_served_adapter_while_a_canary_is_tried(
    fresh: Running,
) -> None:
    try_out(fresh, ONE)
    with fresh.client() as client:
        reply = client.post("/v1/chat/completions", json=ASKED).json()
    assert reply["model"] == BASE_ADAPTER


def test_no_answer_names_an_adapter_before_the_choice(fresh: Running) -> None:
    try_out(fresh, ONE)
    with fresh.client() as client:
        answer = client.post("/v1/candidates", json=ASKED)
        told = answer.text + json.dumps(dict(answer.headers))
        seen = [client.get(route).text for route in ("/v1/feedback/me", "/v1/comparisons/next")]
        assert "policy-" not in told + "".join(seen)
        shown = answer.json()["candidates_id"]
        after = client.post("/v1/choices", json=choice_of(shown, "tie")).json()
    assert set(after["adapters"].values()) == {ONE, BASE_ADAPTER}


def test_people_who_find_a_canary_better_get_it_served_and_guarded(fresh: Running) -> None:
    try_out(fresh, ONE)
    for n in range(45):
        answer = choose(fresh, f"rater-{n % 9}", worse=BASE_ADAPTER)
        assert answer.is_success, answer.text
    until(lambda: fresh.service.adapter == ONE)
    until(lambda: fresh.service.trial is not None and fresh.service.trial.kind == "guard")


def test_people_who_find_a_served_adapter_worse_get_the_one_before_back(fresh: Running) -> None:
    fresh.service.promote(ONE)
    until(lambda: fresh.service.trial is not None)
    for n in range(63):
        if fresh.service.trial is None:
            break
        assert choose(fresh, f"rater-{n % 9}", worse=ONE).is_success
    until(lambda: fresh.service.adapter == BASE_ADAPTER)
    assert fresh.service.store.stages()[ONE] == "rolled back"
    with fresh.client("rater-0") as client:
        receipt, *_ = client.get("/v1/feedback/me").json()["events"]
    about = {"kind": "guard", "adapter": ONE, "other": BASE_ADAPTER, "outcome": "worse"}
    assert receipt["trial"] == about | {"counts": True}
    with pytest.raises(RefusedError, match=r"was rolled back: policy-"):
        fresh.service.promote(ONE)


def test_a_guard_goes_on_after_a_restart(
    tiny_model: Path, tiny_adapters: Path, tmp_path: Path
) -> None:
    with running(tmp_path / "data", tiny_model, cycle=ALL) as service:
        publish_copy(tiny_adapters / ONE, tmp_path / "data", ONE)
        service.service.store.register_adapter(ONE, kind="policy", state="published")
        service.service.promote(ONE)
    with running(tmp_path / "data", tiny_model, cycle=ALL) as again:
        until(lambda: again.service.trial is not None)
        with again.client() as client:
            shown = pair(client)
        assert set(sides(again, shown)) == {ONE, BASE_ADAPTER}


def test_a_canary_that_does_not_load_is_stopped_and_chats_go_on(fresh: Running) -> None:
    shutil.rmtree(fresh.service.settings.adapters / ONE)
    fresh.service.store.start_trial("canary", ONE, BASE_ADAPTER, by="another process")
    until(lambda: fresh.service.store.open_trial() is None)
    [trial] = fresh.service.store.trials()
    assert trial.outcome == "stopped" and ONE in str(trial.reason)
    until(lambda: bool(fresh.service.store.alarms()))
    [alarm] = fresh.service.store.alarms()
    assert alarm.kind == "failed" and alarm.text.startswith(f"the canary of {ONE} was stopped")
    with fresh.client() as client:
        assert sides(fresh, pair(client)) == [BASE_ADAPTER] * 2


def test_an_operator_stops_a_trial_by_hand(fresh: Running) -> None:
    with pytest.raises(RefusedError, match="nothing to stop"):
        fresh.service.stop_trial()
    try_out(fresh, ONE)
    token = fresh.identity.operator_token
    with fresh.client(token) as operator:
        stopped = operator.post("/v1/operate/stop-trial").json()
        assert stopped == {"kind": "canary", "adapter": ONE, "other": BASE_ADAPTER}
        assert operator.get("/v1/operate/status").json()["trial"] is None
        again = operator.post("/v1/operate/canary", json={"adapter": TWO}).json()
        assert again == {"adapter": TWO, "other": BASE_ADAPTER}
        metrics = operator.get("/metrics").text
    assert 'feedback_chat_trial_choices{adapter="policy-000002"' in metrics
