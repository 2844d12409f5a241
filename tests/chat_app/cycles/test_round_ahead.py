"""The next round is counted anew for whoever has just voted, and not too often where it is slow."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from chat_app.cycles.round_ahead import KEPT_TIMES, OLDEST_S, Kept, RoundWatch
from chat_app.settings import ScheduleSettings
from feedback_store.records import CandidateReply
from feedback_store.store import FeedbackStore


@pytest.fixture
def store(tmp_path: Path) -> Iterator[FeedbackStore]:
    with FeedbackStore(tmp_path / "feedback.db") as opened:
        opened.add_rater("ann", consent="v1")
        yield opened


def choose(store: FeedbackStore, question: str) -> None:
    asked = store.add_message(store.add_conversation("ann").id, "user", question)
    replies = [CandidateReply("x"), CandidateReply("y")]
    shown, _ = store.add_candidates(asked.id, replies, rater_id="ann")
    store.add_choice(shown, "ann", "a")


def test_a_vote_is_counted_at_once(store: FeedbackStore) -> None:
    ahead = RoundWatch(store, ScheduleSettings(new_comparisons=80), now=lambda: 0.0)
    assert (ahead.get().number, ahead.get().new, ahead.get().needed) == (1, 0, 80)
    for votes in (1, 2, 3):
        choose(store, f"q{votes}")
        assert ahead.get().new == votes


@pytest.mark.parametrize("took", [0.01, 0.1, 60.0])
def test_what_is_slow_to_read_is_kept_for_a_while(took: float) -> None:
    time, reads = 0.0, 0

    def read() -> int:
        nonlocal time, reads
        time += took
        reads += 1
        return reads

    kept = Kept(read, now=lambda: time)
    assert kept.get() == 1
    time += min(OLDEST_S, KEPT_TIMES * took) * 0.99
    assert kept.get() == 1
    time += min(OLDEST_S, KEPT_TIMES * took) * 0.02
    assert kept.get() == 2


def test_a_running_round_is_not_the_one_that_a_vote_waits_for(store: FeedbackStore) -> None:
    cycle = store.start_cycle({}, pid=os.getpid())
    ahead = RoundWatch(store, ScheduleSettings()).get()
    assert (ahead.running, ahead.number) == (cycle.id, cycle.id + 1)
    store.finish_cycle(cycle.id, state="rejected")
    assert RoundWatch(store, ScheduleSettings()).get().running is None
