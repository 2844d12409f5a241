"""When the next cycle begins by itself, and that whoever asks is told what it waits for."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chat_app.cycles.readiness import ScheduleFacts, needed_evidence, rejections_in_a_row, waits_for
from chat_app.settings import ScheduleSettings
from feedback_store.records import Cycle, Trial

SETTINGS = ScheduleSettings(new_comparisons=80, every_hours=24.0, min_hours=0.5)
HOURS = st.floats(0, 1000)
FACTS = st.builds(
    ScheduleFacts,
    new=st.floats(0, 2000),
    hours=st.none() | HOURS,
    since_made=HOURS,
    idle_minutes=st.none() | st.floats(0, 100),
    rejections=st.integers(0, 20),
    failed=st.booleans(),
    disagreement=st.none() | st.floats(0, 1),
    running=st.booleans(),
)
SCHEDULES = st.builds(
    ScheduleSettings,
    new_comparisons=st.integers(1, 500),
    every_hours=st.floats(0, 100),
    min_hours=st.floats(0, 10),
    most_backoff=st.floats(1, 64),
    idle_minutes=st.floats(0, 60),
)


def cycle(state: str) -> Cycle:
    known: dict[str, Any] = dict.fromkeys(Cycle.__slots__)
    return Cycle(**(known | {"state": state}))


def test_votes_that_are_missing_are_counted_in_words() -> None:
    found = waits_for(SETTINGS, ScheduleFacts(new=34))
    assert (found.reason, found.due, found.needed) == (None, None, 80)
    assert found.waits_for == "votes worth 34 of 80 comparisons"


def test_enough_votes_start_a_cycle() -> None:
    found = waits_for(SETTINGS, ScheduleFacts(new=80, hours=2))
    assert (found.reason, found.waits_for) == ("votes worth 80 of 80 comparisons", "")


@pytest.mark.parametrize(
    ("new", "hours", "starts"), [(20, 24, True), (19, 999, False), (79, 23, False)]
)
def test_after_its_time_a_cycle_begins_on_a_quarter_of_the_votes(
    new: float, hours: float, starts: bool
) -> None:
    assert (waits_for(SETTINGS, ScheduleFacts(new, hours=hours)).reason is not None) == starts
    first = waits_for(SETTINGS, ScheduleFacts(new, hours=None, since_made=hours))
    assert (first.reason is not None) == starts, "before the first, the store's age counts"


def test_without_a_period_votes_alone_decide() -> None:
    never = SETTINGS.model_copy(update={"every_hours": 0.0})
    assert waits_for(never, ScheduleFacts(new=79, hours=1000)).reason is None


def test_two_rejections_in_a_row_ask_for_four_times_as_much_and_say_so() -> None:
    found = waits_for(SETTINGS, ScheduleFacts(new=34, hours=30, rejections=2))
    assert (
        found.waits_for
        == "votes worth 34 of 320 comparisons (80 as set; more after 2 rejections in a row)"
    )
    assert waits_for(SETTINGS, ScheduleFacts(new=100, hours=95, rejections=2)).reason is None
    assert waits_for(SETTINGS, ScheduleFacts(new=100, hours=96, rejections=2)).reason is not None
    assert needed_evidence(SETTINGS, ScheduleFacts(new=0, rejections=50)) == 640, "there is a limit"


def test_rejections_count_since_the_last_candidate_that_passed() -> None:
    def counted(*newest_first: str) -> int:
        return rejections_in_a_row([cycle(state) for state in newest_first])

    assert counted() == 0
    assert counted("rejected", "refused", "rejected", "promoted", "rejected") == 2
    assert counted("failed", "cancelled", "passed", "rejected") == 0


def test_where_reward_models_disagree_about_new_questions_fewer_votes_are_enough() -> None:
    def needed(disagreement: float | None) -> int:
        return needed_evidence(SETTINGS, ScheduleFacts(new=0, disagreement=disagreement))

    assert [needed(d) for d in (None, 0.0, 0.25, 0.5, 1.2)] == [80, 120, 80, 40, 40]
    told = waits_for(SETTINGS, ScheduleFacts(new=34, disagreement=0.1)).waits_for
    why = "(80 as set; more, as the last reward models differ 10% as much as guesses would)"
    assert told == f"votes worth 34 of 104 comparisons {why}"


def test_the_shortest_time_between_two_cycles_is_kept() -> None:
    found = waits_for(SETTINGS, ScheduleFacts(new=500, hours=0.2))
    assert (found.reason, found.waits_for) == (
        None,
        "30 minutes after the last cycle began (12 so far)",
    )
    assert found.due is not None


def test_a_clock_that_was_ahead_stops_no_cycle() -> None:
    ahead = ScheduleFacts(new=500, hours=-9000.0, idle_minutes=-500.0)
    quiet = SETTINGS.model_copy(update={"idle_minutes": 10.0})
    assert waits_for(quiet, ahead).reason is not None


def test_a_cycle_that_failed_is_tried_again_after_the_usual_time() -> None:
    failed = ScheduleFacts(new=0, hours=24, failed=True)
    assert waits_for(SETTINGS, failed).reason == "the last cycle failed 24.0 hours ago"
    assert waits_for(SETTINGS, replace(failed, hours=23)).reason is None
    assert waits_for(SETTINGS, replace(failed, failed=False)).reason is None


def test_an_idle_window_is_told_apart_from_all_else_that_is_waited_for() -> None:
    quiet = SETTINGS.model_copy(update={"idle_minutes": 10.0})
    busy = ScheduleFacts(new=500, hours=5, idle_minutes=4)
    assert waits_for(quiet, busy).idle
    assert not waits_for(quiet, replace(busy, hours=0.1)).idle
    assert not waits_for(quiet, replace(busy, new=0)).idle


def test_a_window_without_messages_is_waited_for_up_to_a_limit() -> None:
    quiet = SETTINGS.model_copy(update={"idle_minutes": 10.0, "most_idle_hours": 3.0})
    busy = ScheduleFacts(new=80, hours=5, idle_minutes=4)
    assert waits_for(quiet, busy).waits_for.startswith("an idle window: 10 minutes without")
    assert waits_for(quiet, busy, waited=3.0).reason is not None
    assert waits_for(quiet, replace(busy, idle_minutes=10)).reason is not None
    assert waits_for(quiet, replace(busy, idle_minutes=None)).reason is not None
    assert waits_for(SETTINGS, replace(busy, idle_minutes=0)).reason is not None


def test_nothing_starts_beside_a_running_cycle_or_a_canary() -> None:
    canary = Trial(1, "canary", "policy-000002", "policy-000001", "2030-01-15")
    found = waits_for(SETTINGS, ScheduleFacts(new=500, hours=9, trial=canary))
    assert found.waits_for == "people's choices between policy-000002 and policy-000001"
    assert waits_for(SETTINGS, ScheduleFacts(new=500, hours=9, running=True)).reason is None


@given(SCHEDULES, FACTS, st.floats(0, 500))
def test_more_evidence_never_stops_a_cycle_that_would_begin(
    settings: ScheduleSettings, facts: ScheduleFacts, more: float
) -> None:
    if waits_for(settings, facts).reason is not None:
        assert waits_for(settings, replace(facts, new=facts.new + more)).reason is not None


@given(SCHEDULES, FACTS)
def test_a_cycle_either_begins_or_says_what_it_waits_for(
    settings: ScheduleSettings, facts: ScheduleFacts
) -> None:
    found = waits_for(settings, facts)
    assert (found.reason is None) == bool(found.waits_for)
    assert found.reason is None or found.due == found.reason
    assert found.needed <= settings.most_backoff * settings.new_comparisons * 1.5 + 1
