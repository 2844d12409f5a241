"""How much time a running cycle has left, by its row alone."""

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from chat_app.cycles.status import LEAST_S, cycle_facts, outcome, seconds_left, time_left
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


def test_the_time_so_far_corrects_the_plan_and_in_the_first_half_only_upwards(running):
    assert seconds_left(running, after(running, minutes=40)) == 60 * 60
    assert seconds_left(running, after(running, minutes=20)) == 36 * 60
    late = replace(running, progress=0.6)
    assert seconds_left(late, after(late, minutes=30)) == 20 * 60


def test_a_last_minute_is_told_only_once_the_last_stages_have_begun(running):
    training = replace(running, stage="policy", progress=0.9)
    evaluating = replace(training, stage="evaluate")
    assert seconds_left(training, after(training, minutes=4)) == LEAST_S
    assert seconds_left(evaluating, after(evaluating, minutes=4)) == 27


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


def test_the_outcome_of_a_cycle_is_a_few_lines_and_ends_with_the_reasons(running):
    ends = (datetime.fromisoformat(running.started_at) + timedelta(minutes=5)).isoformat()
    measured = {
        "reward_accuracy": 0.74,
        "reward_accuracy_low": 0.69,
        "win_rate": 0.8,
        "win_rate_low": 0.75,
        "win_rate_high": 0.85,
        "kl": 1.96,
        "candidate/mean_tokens": 9.3,
        "served/mean_tokens": 16.1,
        "memory_gb": 0.88,
        "seed": 4.0,
    }
    done = replace(
        running,
        state="rejected",
        adapter="policy-000001",
        finished_at=ends,
        metrics=measured,
        reasons=("too short",),
    )
    assert outcome(done) == [
        "rejected: policy-000001, after 5 minutes and 0.9 GB",
        "the reward model predicts 74% of held-out votes, at least 69%",
        "the candidate wins 80% (75% to 85%) against the policy that was served, with a KL of 1.96 "
        "nats a reply",
        "its replies have 9 tokens in the mean, 16 before",
        "too short",
    ]
    assert outcome(running)[0].startswith("running, 40% done, in stage snapshot, about")
    failed = replace(running, state="failed", stage="reward", reasons=("killed",))
    assert outcome(failed) == ["failed in stage reward", "killed"]


@pytest.mark.parametrize(
    ("progress", "words"),
    [(0.99, "about a minute left"), (0.5, "about 30 minutes left")],
)
def test_the_time_left_is_said_in_words(running, progress, words):
    resumed = running.metrics | {"resumed_cycle": 1.0}
    cycle = replace(running, stage="evaluate", progress=progress, metrics=resumed)
    assert time_left(cycle) == words
