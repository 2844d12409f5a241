"""How much time a running cycle has left, by its row alone."""

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from chat_app.cycles.status import cycle_facts, seconds_left, time_left
from feedback_store import FeedbackStore
from feedback_store.records import Cycle


@pytest.fixture
def running(tmp_path) -> Cycle:
    """A cycle that was planned to take an hour, at 40%."""
    with FeedbackStore(tmp_path / "feedback.db") as store:
        store.start_cycle({}, pid=1)
        return store.update_cycle(1, progress=0.4, metrics={"planned/hours": 1.0})


def after(cycle: Cycle, **time: float) -> datetime:
    return datetime.fromisoformat(cycle.started_at) + timedelta(**time)


def test_the_time_so_far_corrects_the_plan(running):
    assert seconds_left(running, after(running, minutes=40)) == 60 * 60
    assert seconds_left(running, after(running, minutes=20)) == 30 * 60


def test_at_first_and_after_a_resume_only_the_plan_is_known(running):
    early = replace(running, progress=0.01)
    resumed = replace(running, metrics=running.metrics | {"resumed_cycle": 3.0})
    assert seconds_left(early, after(early, minutes=9)) == 0.99 * 3600
    assert seconds_left(resumed, after(resumed, minutes=1)) == 0.6 * 3600


def test_without_a_plan_nobody_can_tell_at_first(running):
    early = replace(running, progress=0.01, metrics={})
    assert seconds_left(early) is None and time_left(early) == ""


def test_a_cycle_that_has_ended_has_nothing_left(running):
    assert seconds_left(replace(running, state="promoted")) is None
    facts = cycle_facts(running)
    assert facts["seconds"] is None and facts["seconds_left"] is not None


@pytest.mark.parametrize(
    ("progress", "words"),
    [(0.99, "about a minute left"), (0.5, "about 30 minutes left")],
)
def test_the_time_left_is_said_in_words(running, progress, words):
    resumed = running.metrics | {"resumed_cycle": 1.0}
    assert time_left(replace(running, progress=progress, metrics=resumed)) == words
