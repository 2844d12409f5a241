"""The first screen says what is served, how it got there, and what the next cycle waits for."""

import json
import os
import subprocess
import sys

from chat_app.cycles.trials import check_trial
from chat_app.handlers.operate.now import Now
from chat_app.service.chat import ChatService
from feedback_store.records import BASE_ADAPTER, Alarm
from rlhf_core.config import TrialSettings
from tests.chat_app.handlers.operate.conftest import ONE, choose


def test_a_fresh_service_says_what_a_first_cycle_waits_for(service: ChatService) -> None:
    now = Now(service).now(allowed=True)
    assert (now.state, now.run, now.last, now.trial) == ("idle", None, None, None)
    assert (now.served.number, now.served.back, now.served.forced) == (1, None, None)
    assert now.next.waits_for is not None and now.next.votes
    assert now.next.waits_for.text == "votes worth 0 of 80 comparisons"
    assert now.condition.ready and now.condition.saves and not now.condition.alarms


def test_the_way_back_and_a_forced_promotion_are_beside_the_served_version(
    service: ChatService,
) -> None:
    store = service.store
    cycle = store.start_cycle({}, pid=os.getpid()).id
    store.register_adapter(ONE, kind="policy", cycle_id=cycle)
    store.finish_cycle(cycle, state="rejected", reasons=("too long",), adapter=ONE)
    store.serve(ONE, by="key olga", force=True, guard=True)
    served = Now(service).now(allowed=True).served
    assert (served.number, served.back) == (2, (BASE_ADAPTER, 1))
    assert served.forced is not None
    assert (served.forced.by, served.forced.reasons) == ("key olga", ("too long",))
    store.serve(BASE_ADAPTER, by="operator")
    assert Now(service).now(allowed=True).served.forced is None


def test_the_verdict_of_a_guard_stays_after_its_end(service: ChatService) -> None:
    store = service.store
    store.register_adapter(ONE, kind="policy", state="published")
    store.serve(ONE, by="operator", guard=True)
    open_ = Now(service).now(allowed=True).trial
    assert open_ is not None and (open_.ended_at, open_.evidence.choices) == (None, 0)
    choose(service, BASE_ADAPTER, raters=13)
    assert check_trial(store, TrialSettings()) is not None
    trial = Now(service).now(allowed=True).trial
    assert trial is not None and (trial.outcome, trial.number) == ("worse", 2)
    assert service.status()["last_trial"]["outcome"] == "worse"
    assert service.status()["trial"] is None


def test_a_running_cycle_has_a_curve_and_a_last_line(service: ChatService) -> None:
    store = service.store
    cycle = store.start_cycle({}, pid=os.getpid())
    store.update_cycle(cycle.id, stage="policy", progress=0.5, metrics={"planned/hours": 1.0})
    folder = service.settings.data / "cycles" / "000001"
    folder.mkdir(parents=True)
    lines = [
        {"stage": "policy", "fraction": f, "objective/kl": 2 * f, "objective/scores": f}
        for f in (0.25, 0.5)
    ]
    (folder / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)) + '\n{"stage": "po')
    run = Now(service).now(allowed=True).run
    assert run is not None and run.stage == "policy" and run.elapsed >= 0
    assert [(one.kl, one.score) for one in run.curve] == [(0.5, 0.25), (1.0, 0.5)]
    assert run.left is not None and run.left >= 0


def test_a_killed_cycle_is_not_shown_as_running(service: ChatService) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    service.store.start_cycle({}, pid=dead.pid)
    now = Now(service).now(allowed=True)
    assert (now.state, now.run) == ("idle", None)
    assert now.last is not None and now.last.state == "failed"


def test_alarms_since_the_last_cycle_are_part_of_the_health(service: ChatService) -> None:
    store = service.store
    store.raise_alarm(Alarm("length", "replies are long"), key="1")
    assert [alarm.text for alarm in Now(service).now(allowed=True).condition.alarms] == [
        "replies are long"
    ]


def test_the_size_of_the_database_has_what_is_not_folded_into_its_file_yet(
    service: ChatService,
) -> None:
    store = service.store
    conversation = store.add_conversation(store.add_rater("ann").id).id
    store.add_message(conversation, "user", "a long message " * 100_000)
    found = Now(service).now(allowed=True).condition.database
    facts = store.condition()
    assert facts["wal_bytes"] > 1_000_000
    assert found >= facts["file_bytes"] + facts["wal_bytes"]
