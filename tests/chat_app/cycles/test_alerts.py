"""Alarms reach a real receiver and a real command, once, and what goes wrong is one line."""

import json
import logging
import os
import socket
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from chat_app.cycles import alerts
from chat_app.cycles.alerts import WAITS, send_due
from chat_app.settings import AlertSettings
from feedback_store.records import Alarm
from feedback_store.store import FeedbackStore
from tests.chat_app.cycles.receiving import Receiver, receiving

LONG = Alarm("length", "replies are long", 2.0, 1.5)


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with receiving() as opened:
        yield opened


@pytest.fixture
def store(tmp_path: Path) -> Iterator[FeedbackStore]:
    with FeedbackStore(tmp_path / "feedback.db") as opened:
        yield opened


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next tries come at once."""
    monkeypatch.setattr(alerts, "WAITS", (timedelta(0),) * len(WAITS))


def settings(receiver: Receiver | None = None, **options: object) -> AlertSettings:
    address = {"webhook": receiver.url} if receiver else {}
    return AlertSettings.model_validate(
        {"installation": "here", "seconds": 5, **address, **options}
    )


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message for record in caplog.records if record.name == alerts.__name__]


def test_a_webhook_gets_the_documented_body_once_over_restarts(
    tmp_path: Path, receiver: Receiver
) -> None:
    with FeedbackStore(tmp_path / "feedback.db") as store:
        cycle = store.start_cycle({}, pid=os.getpid())
        store.raise_alarm(LONG, key="1", cycle_id=cycle.id)
        raised = store.alarms()[0].raised_at
        send_due(store, settings(receiver))
    for _ in range(3):
        with FeedbackStore(tmp_path / "feedback.db") as store:
            store.raise_alarm(LONG, key="1", cycle_id=cycle.id)
            send_due(store, settings(receiver))
    assert receiver.types == ["application/json"]
    assert receiver.got == [
        {
            "id": 1,
            "kind": "length",
            "text": "feedback-chat on here, cycle 1: replies are long",
            "value": 2.0,
            "limit": 1.5,
            "cycle": 1,
            "time": raised,
            "installation": "here",
        }
    ]


def test_an_alarm_without_a_cycle_names_this_machine_unless_the_service_has_a_name(
    store: FeedbackStore, receiver: Receiver
) -> None:
    store.raise_alarm(Alarm("starved", "no votes"), key="since then")
    send_due(store, settings(receiver, installation=""))
    (body,) = receiver.got
    name = socket.gethostname()
    assert (body["installation"], body["cycle"], body["value"]) == (name, None, None)
    assert body["text"] == f"feedback-chat on {name}: no votes"


@pytest.mark.usefixtures("at_once")
def test_a_receiver_that_answers_500_is_asked_again_until_the_last_try(
    store: FeedbackStore, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    receiver.status = 500
    store.raise_alarm(LONG, key="1")
    for _ in range(10):
        send_due(store, settings(receiver))
    assert len(receiver.got) == len(WAITS) + 1
    assert lines(caplog)[0] == "alarm 1: alerts.webhook answered 500; next try in 0:00:00"
    assert lines(caplog)[-1] == "alarm 1: alerts.webhook answered 500; this was the last try"
    assert len(lines(caplog)) == len(receiver.got), "one line for each try"
    assert "s3cret" not in caplog.text


@pytest.mark.usefixtures("at_once")
def test_a_receiver_that_comes_back_gets_what_it_missed_once(
    store: FeedbackStore, receiver: Receiver
) -> None:
    receiver.status = 503
    store.raise_alarm(LONG, key="1")
    send_due(store, settings(receiver))
    receiver.status = 204
    for _ in range(3):
        send_due(store, settings(receiver))
    assert len(receiver.got) == 2


def test_a_try_that_failed_is_not_repeated_before_its_time(
    store: FeedbackStore, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    receiver.status = 500
    store.raise_alarm(LONG, key="1")
    for _ in range(3):
        send_due(store, settings(receiver))
    assert len(receiver.got) == 1
    assert lines(caplog) == ["alarm 1: alerts.webhook answered 500; next try in 0:03:00"]


def test_nobody_waits_longer_than_one_try_for_a_receiver_that_is_slow(
    store: FeedbackStore, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    receiver.waits_s = 3.0
    for number in range(4):
        store.raise_alarm(LONG, key=str(number))
    started = time.monotonic()
    send_due(store, settings(receiver, seconds=0.3))
    assert time.monotonic() - started < 2.5
    assert lines(caplog) == ["alarm 1: alerts.webhook gave TimeoutError; next try in 0:03:00"]


def test_a_receiver_that_is_down_is_one_line_without_its_address(
    store: FeedbackStore, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"http://127.0.0.1:{taken.getsockname()[1]}/s3cret"
    store.raise_alarm(LONG, key="1")
    send_due(store, settings(webhook=address))
    assert lines(caplog) == ["alarm 1: alerts.webhook gave ConnectError; next try in 0:03:00"]
    assert "s3cret" not in caplog.text


def test_a_redirect_is_not_followed(store: FeedbackStore, receiver: Receiver) -> None:
    receiver.status, receiver.headers = 307, {"Location": receiver.url}
    store.raise_alarm(LONG, key="1")
    send_due(store, settings(receiver))
    assert len(receiver.got) == 1


def keeps(file: Path) -> str:
    """A command that appends its stdin to a file, with a quoted argument."""
    code = f"import sys; open({str(file)!r}, 'a').write(sys.stdin.read() + chr(10))"
    return f'{sys.executable} -c "{code}" "an argument; echo no shell > {file}"'


def test_a_command_gets_the_same_body_on_its_stdin_and_no_shell(
    store: FeedbackStore, receiver: Receiver, tmp_path: Path
) -> None:
    told = settings(receiver, command=keeps(tmp_path / "got"))
    store.raise_alarm(LONG, key="1")
    for _ in range(2):
        send_due(store, told)
    assert [json.loads(line) for line in (tmp_path / "got").read_text().splitlines()] == (
        receiver.got
    )


@pytest.mark.usefixtures("at_once")
def test_a_command_runs_once_although_the_webhook_is_tried_again(
    store: FeedbackStore, receiver: Receiver, tmp_path: Path
) -> None:
    receiver.status = 500
    store.raise_alarm(LONG, key="1")
    for _ in range(3):
        send_due(store, settings(receiver, command=keeps(tmp_path / "got")))
    assert len(receiver.got) == 3
    assert len((tmp_path / "got").read_text().splitlines()) == 1


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("/no/such/program", "cannot be started: [Errno 2]"),
        (f"{sys.executable} -c 'import sys; sys.exit(7)'", "ended with 7"),
        (f"{sys.executable} -c 'import time; time.sleep(60)'", "took longer than 0.5 seconds"),
        ("sh -c 'sleep 60 & sleep 60'", "took longer than 0.5 seconds"),
    ],
)
def test_a_command_that_goes_wrong_is_one_line_and_the_webhook_gets_its_alarm(
    store: FeedbackStore,
    receiver: Receiver,
    caplog: pytest.LogCaptureFixture,
    command: str,
    says: str,
) -> None:
    seconds = 0.5 if "longer" in says else 30
    store.raise_alarm(LONG, key="1")
    send_due(store, settings(receiver, command=command, seconds=seconds))
    (line,) = lines(caplog)
    assert line.startswith("alarm 1: alerts.command ") and says in line
    assert len(receiver.got) == 1


def test_a_command_that_is_stopped_leaves_none_of_its_processes(
    store: FeedbackStore, tmp_path: Path
) -> None:
    pid = tmp_path / "pid"
    slow = settings(command=f"sh -c 'sleep 60 & echo $! > {pid}; wait'", seconds=1)
    store.raise_alarm(LONG, key="1")
    send_due(store, slow)
    child = Path(f"/proc/{pid.read_text().strip()}/stat")
    deadline = time.monotonic() + 10
    while child.exists() and ") Z " not in child.read_text() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not child.exists() or ") Z " in child.read_text()


def test_without_a_receiver_nothing_is_left_for_one_that_comes_later(
    store: FeedbackStore, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    store.raise_alarm(LONG, key="1")
    send_due(store, settings())
    send_due(store, settings(receiver))
    assert receiver.got == [] and lines(caplog) == []


def test_the_address_never_shows_in_a_printout_or_at_the_debug_level_of_our_log(
    store: FeedbackStore, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="chat_app")
    store.raise_alarm(LONG, key="1")
    send_due(store, settings(receiver))
    assert "s3cret" not in caplog.text + repr(settings(receiver))
