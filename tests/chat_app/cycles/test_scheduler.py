"""Cycles start when they are due, one at a time, in a separate process with low priority."""

import os
import time
from pathlib import Path

import pytest

from chat_app.cycles.scheduler import CycleProcess, Scheduler
from chat_app.errors import InvalidRequestError, RefusedError
from chat_app.profile import with_profile
from chat_app.settings import ScheduleSettings, load_settings
from feedback_store.records import CandidateReply
from feedback_store.store import FeedbackStore

AFTER_3 = ScheduleSettings(new_comparisons=3, min_hours=0, most_backoff=1)


def vote(store: FeedbackStore, count: int) -> None:
    rater = store.add_rater("rater", consent="1")
    for number in range(count):
        conversation = store.add_conversation(rater.id)
        asked = store.add_message(conversation.id, "user", f"{number} of {conversation.id}?")
        replies = [CandidateReply("one thing"), CandidateReply("another")]
        shown, _ = store.add_candidates(asked.id, replies, rater_id=rater.id)
        key = f"{conversation.id}"
        store.add_choice(shown, rater.id, "a", idempotency_key=key)


def test_the_scheduler_starts_once_and_waits_for_as_many_new_votes_again(tmp_path: Path) -> None:
    starts: list[int] = []

    def start() -> int:
        starts.append(1)
        return 1

    with FeedbackStore(tmp_path / "feedback.db") as store:
        scheduler = Scheduler(store, AFTER_3, start)
        vote(store, 2)
        assert not scheduler.check()
        vote(store, 1)
        assert scheduler.check()
        assert not scheduler.check(), "a refused cycle leaves its votes unused: no second start"
        vote(store, 3)
        assert scheduler.check()
    assert len(starts) == 2


def learn(store: FeedbackStore) -> None:
    """Run a cycle on all comparisons."""
    cycle = store.start_cycle({}, pid=os.getpid())
    store.use_comparisons(cycle.id, [item.id for item in store.comparisons()])
    assert store.counts()["unused_comparisons"] == 0
    store.finish_cycle(cycle.id, state="rejected")


def test_after_a_cycle_has_learnt_the_same_number_of_votes_starts_the_next(tmp_path: Path) -> None:
    with FeedbackStore(tmp_path / "feedback.db") as store:
        scheduler = Scheduler(store, AFTER_3, lambda: 1)
        for _ in range(3):
            vote(store, 2)
            assert not scheduler.check()
            vote(store, 1)
            assert scheduler.check()
            learn(store)
            assert not scheduler.check()


def test_votes_that_a_running_cycle_holds_are_not_new_when_it_is_refused(tmp_path: Path) -> None:
    with FeedbackStore(tmp_path / "feedback.db") as store:
        scheduler = Scheduler(store, AFTER_3, lambda: 1)
        vote(store, 3)
        assert scheduler.check()
        cycle = store.start_cycle({}, pid=os.getpid())
        store.use_comparisons(cycle.id, [item.id for item in store.comparisons()])
        assert not scheduler.check()
        store.finish_cycle(cycle.id, state="refused")
        assert not scheduler.check()


def test_votes_of_a_refused_cycle_start_none_after_a_restart_either(tmp_path: Path) -> None:
    with FeedbackStore(tmp_path / "feedback.db") as store:
        vote(store, 3)
        store.refresh_comparisons()
        for state in ("refused", "failed"):
            cycle = store.start_cycle({}, pid=os.getpid())
            store.finish_cycle(cycle.id, state=state)
            assert not Scheduler(store, AFTER_3, lambda: 1).check()
            assert store.new_comparisons() == 3, "they are still to be learnt from"
        vote(store, 3)
        assert Scheduler(store, AFTER_3, lambda: 1).check()


def test_a_cycle_waits_for_an_idle_window_and_no_longer_than_its_limit(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "chat_app.cycles.scheduler")
    quiet = AFTER_3.model_copy(update={"idle_minutes": 60.0})
    with FeedbackStore(tmp_path / "feedback.db") as store:
        vote(store, 3)
        scheduler = Scheduler(store, quiet, lambda: 1)
        assert not scheduler.check() and not scheduler.check()
        (line,) = [record.message for record in caplog.records]
        assert "a cycle is due, and waits for an idle window: 60 minutes" in line
        impatient = quiet.model_copy(update={"most_idle_hours": 0.0})
        assert Scheduler(store, impatient, lambda: 1).check()


def test_a_start_that_is_refused_is_tried_again(tmp_path: Path) -> None:
    def refuse() -> int:
        raise RefusedError("a cycle is running")

    with FeedbackStore(tmp_path / "feedback.db") as store:
        vote(store, 3)
        scheduler = Scheduler(store, AFTER_3, refuse)
        assert not scheduler.check()
        scheduler = Scheduler(store, AFTER_3, lambda: 1)
        assert scheduler.check()


def test_a_cycle_does_not_start_with_another_contract_than_the_servers(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text("[reply]\ntokens = 60\n")
    settings = with_profile(load_settings(data=tmp_path))
    with FeedbackStore(settings.database) as store:
        cycles = CycleProcess(store, settings)
        file.write_text("[reply]\ntokens = 30\n")
        with pytest.raises(RefusedError, match=r"tokens is now 30, .* with 60; restart the server"):
            cycles.start()
        file.write_text("[reply]\ntokens = many\n")
        with pytest.raises(InvalidRequestError, match="not valid TOML"):
            cycles.start()
        assert cycles.running() is None


def test_the_process_is_niced_alone_and_keeps_its_output(tmp_path: Path) -> None:
    settings = with_profile(load_settings(data=tmp_path))
    with FeedbackStore(settings.database) as store:
        cycles = CycleProcess(store, settings)
        assert cycles.running() is None
        pid = cycles.start()
        assert os.getpriority(os.PRIO_PROCESS, pid) >= settings.schedule.niceness
        with pytest.raises(RefusedError, match=str(pid)):
            cycles.start()
        deadline = time.monotonic() + 30
        while cycles.running() and time.monotonic() < deadline:
            time.sleep(0.05)
        assert cycles.running() is None
    assert "no votes yet" in (tmp_path / "cycles" / "output.log").read_text()


def test_a_cycle_that_somebody_else_runs_counts_too(tmp_path: Path) -> None:
    settings = load_settings(data=tmp_path)
    with FeedbackStore(settings.database) as store:
        cycle = store.start_cycle({}, pid=os.getpid())
        cycles = CycleProcess(store, settings)
        assert cycles.running() == os.getpid()
        store.finish_cycle(cycle.id, state="failed")
        assert cycles.running() is None


def test_a_dead_cycle_whose_pid_another_process_has_now_blocks_nothing(tmp_path: Path) -> None:
    settings = load_settings(data=tmp_path)
    with FeedbackStore(settings.database) as store:
        store.start_cycle({}, pid=os.getpid())
        with store._file.write() as db:
            db.execute("UPDATE cycles SET process = 'an earlier boot/1'")
        assert CycleProcess(store, settings).running() is None


def test_a_cycle_of_the_server_asks_the_servers_of_vllm_that_its_flags_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEEDBACK_CHAT_CYCLE__POLICY__GENERATION", "vllm")
    given = {"kind": "vllm", "vllm_urls": "http://a:1,http://b:2"}
    settings = load_settings(data=tmp_path, engine=given)
    with FeedbackStore(tmp_path / "feedback.db") as store:
        environment = CycleProcess(store, settings)._environment()
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert load_settings(data=tmp_path).servers == settings.servers
