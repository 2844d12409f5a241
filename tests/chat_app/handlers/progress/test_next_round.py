import os
from datetime import UTC, datetime, timedelta

import pytest

from chat_app.cycles.readiness import Readiness
from chat_app.handlers.progress.next_round import _hours, next_round
from chat_app.settings import ScheduleSettings
from feedback_store.records import BASE_ADAPTER
from feedback_store.store import FeedbackStore
from tests.chat_app.handlers.progress.building import ONE, cycle_of

SCHEDULE = ScheduleSettings(new_comparisons=80)


@pytest.fixture
def store(tmp_path):
    with FeedbackStore(tmp_path / "feedback.db") as opened:
        yield opened


def waiting(new, needed=80, rejections=0):
    return Readiness(new, needed, rejections, None, None, "votes")


def told(store, schedule=SCHEDULE):
    return next_round(store, schedule, since=store.servings()[0].since)


def test_a_new_store_waits_for_votes_and_nobody_can_tell_how_long(store):
    found = told(store)
    assert (found.waits, found.votes, found.needed, found.hours) == ("votes", 0, 80, None)


def test_a_round_that_runs_says_how_far_it_is(store):
    cycle = store.start_cycle({}, pid=os.getpid())
    store.update_cycle(cycle.id, stage="policy", progress=0.5)
    found = told(store)
    assert (found.waits, found.progress) == ("runs", 0.5) and found.seconds_left is not None


def test_it_waits_for_people_who_compare_two_versions(store):
    cycle_of(store, "passed", ONE, promotion="canary")
    assert told(store).waits == "trial"


def test_it_waits_for_the_operator_where_no_round_begins_by_itself(store):
    assert told(store, ScheduleSettings(enabled=False)).waits == "operator"


def test_the_pace_of_the_votes_says_when_the_next_round_may_begin():
    schedule = ScheduleSettings(every_hours=0)
    assert _hours(schedule, waiting(20), passed=10.0) == 30.0
    assert _hours(schedule, waiting(79.9), passed=10.0) == 0.0


@pytest.mark.parametrize(("new", "passed"), [(4, 10.0), (20, 0.5)])
def test_a_few_votes_or_minutes_show_no_pace(new, passed):
    assert _hours(SCHEDULE, waiting(new), passed) is None


def test_after_the_time_that_asks_for_fewer_votes_a_quarter_is_enough():
    assert _hours(ScheduleSettings(every_hours=24), waiting(20), passed=10.0) == 14.0
    later = ScheduleSettings(every_hours=24)
    assert _hours(later, waiting(10), passed=20.0) == 20.0  # for ten more votes
    assert _hours(later, waiting(20, rejections=1), passed=10.0) == 30.0


def test_the_pace_counts_from_the_end_of_the_last_round(store):
    ended = cycle_of(store, "rejected").finished_at
    assert datetime.now(UTC) - datetime.fromisoformat(ended) < timedelta(minutes=1)
    assert told(store).hours is None
    assert store.serving().adapter == BASE_ADAPTER
