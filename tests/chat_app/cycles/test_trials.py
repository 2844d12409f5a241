"""When a trial ends, and in which words."""

import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chat_app.cycles.alarms import AlarmWatch
from chat_app.cycles.trials import (
    check_trial,
    drifting,
    end_of,
    evidence_of,
    told,
    trial_alarm,
    trial_facts,
)
from chat_app.settings import load_settings
from feedback_store import BASE_ADAPTER, CandidateReply, FeedbackStore, Trial
from rlhf_core.config import AlarmSettings, TrialSettings
from rlhf_core.gate.betting import LiveEvidence, live_evidence

ONE = "policy-000001"
NOW = datetime(2026, 5, 1, tzinfo=UTC)
CANARY = Trial(1, "canary", ONE, BASE_ADAPTER, (NOW - timedelta(days=2)).isoformat())
GUARD = Trial(2, "guard", ONE, BASE_ADAPTER, CANARY.started_at)


def found(
    better: float = 1, worse: float = 1, choices: int = 40, rate: float = 0.5
) -> LiveEvidence:
    return LiveEvidence(better, worse, choices, left_out=0, raters=12, rate=rate)


def test_a_trial_goes_on_while_little_is_shown() -> None:
    for trial in (CANARY, GUARD):
        assert end_of(trial, found(better=19.9, worse=19.9), TrialSettings(), NOW) is None


def test_a_verdict_says_how_often_people_preferred_it_and_how_sure_that_is() -> None:
    end = end_of(GUARD, found(worse=23.4, choices=85, rate=0.312), TrialSettings(), NOW)
    assert end is not None and end.outcome == "worse"
    assert end.reason == (
        "policy-000001 was preferred to policy-000000 in 31% of 85 choices by 12 raters; the "
        "evidence that it is worse is 23, and 20 is enough"
    )


@pytest.mark.parametrize(
    ("trial", "wanted"), [(CANARY, "not shown to be better"), (GUARD, "not shown to be worse")]
)
def test_a_trial_without_a_verdict_ends_at_its_limits(trial: Trial, wanted: str) -> None:
    few = TrialSettings(canary_choices=40, guard_choices=40)
    short = TrialSettings(days=2)
    for settings, limit in ((few, "of at most 40"), (short, "after 2 days")):
        end = end_of(trial, found(), settings, NOW)
        assert end is not None and end.outcome == "not_shown"
        assert limit in end.reason and end.reason.endswith(wanted)


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.sampled_from(["first", "second"]))))
def test_what_is_said_of_one_adapter_is_the_opposite_of_the_other(
    choices: list[tuple[str, str]],
) -> None:
    """Exchanged sides exchange better and worse."""
    other = {"first": "second", "second": "first"}
    here, there = live_evidence(choices), live_evidence((r, other[c]) for r, c in choices)
    assert (here.better, here.worse) == (there.worse, there.better)
    assert here.rate == pytest.approx(1 - there.rate)


# With a store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[FeedbackStore]:
    with FeedbackStore(tmp_path / "feedback.db") as opened:
        opened.register_adapter(ONE, kind="policy", state="published")
        opened.serve(ONE, by="operator", guard=True)
        yield opened


def vote(store: FeedbackStore, preferred: str, raters: int, each: int = 5) -> None:
    trial = store.open_trial()
    assert trial is not None
    for number in range(raters):
        rater = store.add_rater(f"{preferred} {number}", consent="1").id
        conversation = store.add_conversation(rater).id
        for turn in range(each):
            asked = store.add_message(conversation, "user", f"question {number} {turn}")
            pair = [CandidateReply(name, adapter=name) for name in (ONE, BASE_ADAPTER)]
            shown, _ = store.add_candidates(asked.id, pair, rater_id=rater, trial_id=trial.id)
            store.add_choice(shown, rater, "a" if preferred == ONE else "b")


def test_people_take_a_served_adapter_back_by_their_choices_alone(store: FeedbackStore) -> None:
    vote(store, BASE_ADAPTER, raters=4)
    assert check_trial(store, TrialSettings()) is None  # not enough yet
    vote(store, BASE_ADAPTER, raters=9)
    ended = check_trial(store, TrialSettings())
    assert ended is not None and ended.outcome == "worse"
    assert store.serving().adapter == BASE_ADAPTER
    assert store.stages()[ONE] == "rolled back"
    alarm = trial_alarm(ended)
    assert alarm is not None and alarm.kind == "rolled_back"
    assert alarm.text == f"{ONE} was rolled back: {ended.reason}"


def test_a_guard_of_an_adapter_that_people_like_ends_and_it_stays(store: FeedbackStore) -> None:
    vote(store, ONE, raters=9)
    ended = check_trial(store, TrialSettings())
    assert ended is not None and ended.outcome == "better"
    assert (store.serving().adapter, store.open_trial()) == (ONE, None)


@pytest.fixture
def promoted(tmp_path: Path) -> Iterator[FeedbackStore]:
    """A store whose gate found a win rate of 85%."""
    with FeedbackStore(tmp_path / "of-a-cycle.db") as opened:
        cycle = opened.start_cycle({}, pid=os.getpid())
        opened.register_adapter(ONE, kind="policy", cycle_id=cycle.id)
        ended: Any = {"state": "promoted", "adapter": ONE, "promotion": "offline"}
        opened.finish_cycle(cycle.id, metrics={"win_rate": 0.85}, **ended)
        yield opened


def guard_of(store: FeedbackStore) -> Trial:
    trial = store.open_trial()
    assert trial is not None
    return trial


def test_people_who_like_an_adapter_less_than_its_gate_said_raise_an_alarm(
    promoted: FeedbackStore,
) -> None:
    vote(promoted, ONE, raters=2)
    assert drifting(promoted, guard_of(promoted), AlarmSettings()) is None
    vote(promoted, BASE_ADAPTER, raters=14)
    alarm = drifting(promoted, guard_of(promoted), AlarmSettings())
    assert alarm is not None and alarm.kind == "live_win_rate"
    assert (alarm.value, alarm.limit) == (0.125, 0.5875)


def test_one_rater_raises_no_such_alarm(promoted: FeedbackStore) -> None:
    vote(promoted, BASE_ADAPTER, raters=1, each=60)
    assert drifting(promoted, guard_of(promoted), AlarmSettings(live_edge=1)) is None


def test_an_alarm_that_was_lost_by_a_kill_is_raised_later_and_once(store: FeedbackStore) -> None:
    vote(store, BASE_ADAPTER, raters=12)
    assert check_trial(store, TrialSettings()) is not None  # and the process dies here
    watch = AlarmWatch(store, load_settings(schedule={"enabled": False}))
    watch.check()
    watch.check()
    assert [alarm.kind for alarm in store.alarms()] == ["rolled_back"]


def test_a_service_that_waits_for_a_canary_does_not_starve(store: FeedbackStore) -> None:
    store.register_adapter("policy-000002", kind="policy", state="published")
    store.start_trial("canary", "policy-000002", ONE, by="operator")
    starved = load_settings(schedule={"starved_days": 1e-9})
    AlarmWatch(store, starved).check()
    assert store.alarms() == []
    AlarmWatch(store, starved)
    canary = store.open_trial()
    assert canary is not None
    store.end_trial(canary.id, "stopped", "the operator did", by="operator")
    AlarmWatch(store, starved).check()
    assert [alarm.kind for alarm in store.alarms()] == ["starved"]


def test_a_canary_that_nobody_was_asked_about_is_stopped_and_not_rejected() -> None:
    end = end_of(CANARY, found(choices=3), TrialSettings(days=2), NOW)
    assert end is not None and end.outcome == "stopped"
    assert end.reason == "3 choices in 2 days are too few to say anything"


def test_one_rater_decides_nothing_however_often_they_choose(store: FeedbackStore) -> None:
    vote(store, BASE_ADAPTER, raters=1, each=60)
    assert check_trial(store, TrialSettings()) is None
    facts = trial_facts(store)
    assert facts is not None and (facts["choices"], facts["left_out"]) == (7, 53)


def test_without_a_share_of_side_by_sides_the_guard_is_stopped(store: FeedbackStore) -> None:
    ended = check_trial(store, TrialSettings(guard_share=0))
    assert ended is not None and (ended.outcome, store.serving().adapter) == ("stopped", ONE)


def test_the_facts_of_a_trial_are_told_in_one_line(store: FeedbackStore) -> None:
    facts = trial_facts(store)
    assert facts is not None
    assert told(facts) == "guard of policy-000001 beside policy-000000: nobody has chosen yet"
    vote(store, ONE, raters=2)
    facts = trial_facts(store)
    assert facts is not None
    assert told(facts) == (
        "guard of policy-000001 beside policy-000000: preferred in 100% of 10 choices by 2 raters; "
        "the evidence that it is better is 2.64, that it is worse 1, and 20 is enough"
    )
    trial = store.open_trial()
    assert trial is not None and evidence_of(store, trial).choices == 10
