"""The server watches for trouble beside its chats, and tells it in its log, metrics and status."""

import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from chat_app.cycles.alarms import AlarmWatch, starved
from chat_app.cycles.readiness import ScheduleFacts, waits_for
from chat_app.cycles.status import status_of
from chat_app.settings import ScheduleSettings, load_settings
from feedback_store.records import Alarm
from feedback_store.sqlite.ids import iso_utc
from feedback_store.store import FeedbackStore
from tests.chat_app.cycles.receiving import Receiver, receiving
from tests.chat_app.serving import running, until

NOON = datetime(2030, 1, 15, 12, tzinfo=UTC)
FORTNIGHT = ScheduleSettings(new_comparisons=80, starved_days=14)
SOME = waits_for(FORTNIGHT, ScheduleFacts(new=34))


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with receiving() as opened:
        yield opened


@pytest.fixture
def store(tmp_path: Path) -> Iterator[FeedbackStore]:
    with FeedbackStore(tmp_path / "feedback.db") as opened:
        yield opened


def end(store: FeedbackStore, state: str) -> None:
    cycle = store.start_cycle({}, pid=os.getpid())
    store.finish_cycle(cycle.id, state=state, reasons=("why",))


def watch(store: FeedbackStore, tmp_path: Path, **options: Any) -> AlarmWatch:
    return AlarmWatch(store, load_settings(data=tmp_path, **options))


def ago(**time_ago: float) -> str:
    return iso_utc(NOON - timedelta(**time_ago))


def test_a_service_starves_at_its_limit_and_not_before() -> None:
    assert starved(FORTNIGHT, ago(days=13.99), SOME, now=NOON) is None
    alarm = starved(FORTNIGHT, ago(days=14), SOME, now=NOON)
    assert alarm is not None and (alarm.kind, alarm.value, alarm.limit) == ("starved", 14.0, 14.0)
    assert "for 14 days: votes worth 34 comparisons have come, and 80 start a cycle" in alarm.text


def test_no_number_of_days_starves_a_service_that_does_not_want_to_hear_of_it() -> None:
    assert starved(ScheduleSettings(starved_days=0), ago(days=999), SOME, now=NOON) is None


def test_a_starved_service_raises_one_alarm_for_each_time_that_it_waits(
    store: FeedbackStore, tmp_path: Path
) -> None:
    short = {"starved_days": 1e-9}
    looking = watch(store, tmp_path, schedule=short)
    for _ in range(3):
        looking.check()
    assert store.alarm_counts()["starved"] == 1
    end(store, "promoted")
    time.sleep(0.002)
    looking.check()
    assert store.alarm_counts()["starved"] == 2
    watch(store, tmp_path, schedule={"enabled": False, **short}).check()
    assert store.alarm_counts()["starved"] == 2


def test_each_alarm_is_one_line_in_the_log_once_over_restarts(
    store: FeedbackStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    end(store, "failed")
    for _ in range(2):
        watch(store, tmp_path).check()
    store.raise_alarm(Alarm("rolled_back", "policy-000001 lost"), key="policy-000001")
    for _ in range(2):
        watch(store, tmp_path).check()
    assert [r.message for r in caplog.records if r.levelname == "WARNING"] == [
        "alarm 1 (failed) of cycle 1: failed in stage snapshot; `feedback-chat status` says why",
        "alarm 2 (rolled_back): policy-000001 lost",
    ]


def test_a_watch_logs_also_what_another_process_sends(
    store: FeedbackStore, tmp_path: Path, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    alerts = {"webhook": receiver.url}
    server = watch(store, tmp_path, alerts=alerts)
    end(store, "failed")
    watch(store, tmp_path, alerts=alerts).check()
    caplog.clear()
    server.check()
    assert "alarm 1 (failed)" in caplog.text
    assert len(receiver.got) == 1


def test_a_store_that_does_not_answer_is_one_line_and_the_watch_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with FeedbackStore(tmp_path / "feedback.db") as store:
        looking = watch(store, tmp_path, schedule={"poll_seconds": 0.01})
    looking.begin()
    until(lambda: caplog.records)
    time.sleep(0.1)
    looking.end()
    (line,) = [record.message for record in caplog.records]
    assert line.startswith("alarms cannot be looked for: ")


def test_status_has_the_alarms_since_the_last_cycle_began(store: FeedbackStore) -> None:
    store.raise_alarm(Alarm("starved", "no votes"), key="then")
    assert [alarm["kind"] for alarm in status_of(store, ScheduleSettings())["alarms"]] == [
        "starved"
    ]
    time.sleep(0.002)
    cycle = store.start_cycle({}, pid=os.getpid())
    store.raise_alarm(Alarm("kl", "far", 0.9, 0.8), key="1", cycle_id=cycle.id)
    (found,) = status_of(store, ScheduleSettings())["alarms"]
    assert found | {"time": ""} == {
        "id": 2,
        "kind": "kl",
        "text": "far",
        "value": 0.9,
        "limit": 0.8,
        "cycle": 1,
        "time": "",
    }


def test_the_service_sends_while_it_chats_and_stops_although_its_receiver_hangs(
    tmp_path: Path, tiny_model: Path, receiver: Receiver
) -> None:
    receiver.waits_s = 5.0
    options = {
        "schedule": {"enabled": False, "poll_seconds": 0.05},
        "alerts": {"webhook": receiver.url, "seconds": 20},
    }
    with running(tmp_path, tiny_model, **options) as served:
        end(served.service.store, "failed")
        until(lambda: receiver.got)
        with served.client(served.identity.operator_token) as client:
            asked = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 3}
            answer = client.post("/v1/chat/completions", json=asked)
            assert answer.status_code == httpx.codes.OK
            assert 'feedback_chat_alarms_total{kind="failed"} 1.0' in client.get("/metrics").text
            (alarm,) = client.get("/v1/operate/status").json()["alarms"]
        stopping = time.monotonic()
    assert time.monotonic() - stopping < 4.5
    assert (alarm["kind"], alarm["cycle"]) == ("failed", 1)
    assert len(receiver.got) == 1
