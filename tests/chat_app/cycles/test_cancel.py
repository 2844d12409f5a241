"""A running cycle is cancelled, whatever its process does: row, lock and process end well."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from chat_app.cycles import cancel
from chat_app.cycles.cancel import cancel_cycle
from chat_app.cycles.scheduler import CycleProcess, Scheduler
from chat_app.errors import RefusedError
from chat_app.settings import ScheduleSettings, load_settings
from feedback_store.store import FeedbackStore
from tests.chat_app.cycles.test_scheduler import vote

# Begins a cycle, and then does what the test says.
PROCESS = """
import os, signal, sys, time
from feedback_store import FeedbackStore
store = FeedbackStore(sys.argv[1])
if sys.argv[2] == "deaf":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
store.start_cycle({}, pid=os.getpid())
print("begun", flush=True)
time.sleep(600)
"""


@pytest.fixture
def store(tmp_path: Path) -> Iterator[FeedbackStore]:
    with FeedbackStore(tmp_path / "feedback.db") as opened:
        yield opened


def begin(data: Path, how: str) -> "subprocess.Popen[str]":
    words = [sys.executable, "-c", PROCESS, str(data / "feedback.db"), how]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "begun\n"
    process.stdout.close()
    if how == "stopped":
        process.send_signal(signal.SIGSTOP)
    return process


@pytest.mark.parametrize(
    ("how", "ends_by"),
    [("hears", signal.SIGTERM), ("deaf", signal.SIGKILL), ("stopped", signal.SIGKILL)],
)
def test_the_process_ends_even_if_it_is_deaf_or_stopped(
    store: FeedbackStore,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    how: str,
    ends_by: signal.Signals,
) -> None:
    monkeypatch.setattr(cancel, "ANSWERS_S", 0.5)
    process = begin(tmp_path, how)
    files = [tmp_path / "cycles" / "000001" / name for name in ("checkpoints", "staging-policy")]
    for folder in files:
        folder.mkdir(parents=True)
        (folder / "weights.safetensors").touch()
    done = cancel_cycle(store, tmp_path, by="operator")
    assert process.wait() == -ends_by
    assert (done.state, done.reasons) == ("cancelled", ("by operator",))
    assert not any(folder.exists() for folder in files)
    assert store.start_cycle({}, pid=os.getpid()).id == 2, "the next cycle can begin"


def test_all_waiting_together_is_less_than_25_seconds() -> None:
    assert cancel.STARTS_S + cancel.ANSWERS_S + cancel.GONE_S < 25


def test_a_cycle_in_a_thread_of_this_process_is_cancelled_without_a_signal(
    store: FeedbackStore, tmp_path: Path
) -> None:
    store.start_cycle({}, pid=os.getpid())
    assert cancel_cycle(store, tmp_path, by="operator").state == "cancelled"


def test_a_cancel_when_nothing_runs_is_one_line(store: FeedbackStore, tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match=r"no cycle is running \(none has run yet\)"):
        cancel_cycle(store, tmp_path, by="operator")
    store.start_cycle({}, pid=os.getpid())
    store.finish_cycle(1, state="rejected")
    with pytest.raises(RefusedError, match=r"\(cycle 1 has ended: rejected\)"):
        cancel_cycle(store, tmp_path, by="operator")


def test_a_cycle_whose_process_is_still_starting_is_cancelled_once_it_has_begun(
    store: FeedbackStore, tmp_path: Path
) -> None:
    looks: list[subprocess.Popen[str]] = []

    def starting() -> bool:
        looks.append(begin(tmp_path, "hears"))
        return True

    assert cancel_cycle(store, tmp_path, by="operator", starting=starting).id == 1
    assert [process.wait() for process in looks] == [-signal.SIGTERM]


def test_a_process_that_ends_before_it_has_begun_a_cycle_leaves_nothing_to_cancel(
    store: FeedbackStore, tmp_path: Path
) -> None:
    cycles = CycleProcess(store, load_settings(data=tmp_path))
    cycles.start()  # without votes it refuses itself
    with pytest.raises(RefusedError, match="no cycle is running"):
        cycles.cancel(by="operator")


def test_the_scheduler_starts_no_cycle_on_the_votes_of_a_cancelled_one(
    store: FeedbackStore, tmp_path: Path
) -> None:
    settings = ScheduleSettings(new_comparisons=3, every_hours=1e-6, min_hours=0)
    vote(store, 5)
    store.refresh_comparisons()
    store.start_cycle({}, pid=os.getpid())  # by an operator
    cancel_cycle(store, tmp_path, by="operator")
    for _ in range(2):  # the second as after a restart of the server
        scheduler = Scheduler(store, settings.model_copy(update={"every_hours": 2.0}), lambda: 1)
        assert not scheduler.check()
        assert not Scheduler(store, settings, lambda: 1).check()
    vote(store, 3)
    assert scheduler.check()
    assert store.new_comparisons() == 8, "and that cycle learns from all of them"


def test_hours_count_from_the_cancel(store: FeedbackStore, tmp_path: Path) -> None:
    settings = ScheduleSettings(new_comparisons=100, every_hours=2.0)
    store.start_cycle({}, pid=os.getpid())
    with store._file.write() as db:
        db.execute("UPDATE cycles SET started_at = '2026-01-01T00:00:00.000Z'")
    cancel_cycle(store, tmp_path, by="operator")
    vote(store, 1)
    assert not Scheduler(store, settings, lambda: 1).check()
