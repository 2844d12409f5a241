"""Each alarm is raised at its limit and not below, once, and quotes nobody."""

import json
import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedback_store import Alarm, FeedbackStore
from rlhf_core.config import AlarmSettings, CycleSettings, GateSettings
from rlhf_core.cycle import run_cycle
from rlhf_core.cycle.alarms import WINDOW, end_alarm, measured_alarms, raise_alarms
from rlhf_core.cycle.report import curve_metrics
from rlhf_core.cycle.snapshot import take_snapshot
from rlhf_core.errors import ModelError

SETTINGS = AlarmSettings()
FIRST = {"served/mean_tokens": 10.0, "policy/entropy_first": 2.0, "reward_accuracy": 0.75}
CALM = FIRST | {
    "candidate/mean_tokens": 10.0,
    "policy/entropy_last": 1.5,
    "policy/score_first": 0.0,
    "policy/score_last": 1.0,
    "win_rate": 0.75,
    "kl": 10.0,
    "gate/kl_limit": 20.0,
    "data/largest_rater_share": 0.25,
}
# Each number is one that a float holds exactly, so that it is at the limit and not beside it.
AT_AND_BELOW = [
    ("length_drift", {"candidate/mean_tokens": 15.0}, {"candidate/mean_tokens": 14.9}),
    ("length_drift", {"candidate/mean_tokens": 4.0}, {"candidate/mean_tokens": 4.1}),
    ("length", {"served/mean_tokens": 25.0}, {"served/mean_tokens": 24.9}),
    ("entropy", {"policy/entropy_last": 0.5}, {"policy/entropy_last": 0.51}),
    ("kl", {"kl": 16.0}, {"kl": 15.9}),
    ("over_optimised", {"win_rate": 0.5}, {"win_rate": 0.51}),
    ("over_optimised", {"win_rate": 0.5, "policy/score_last": 0.25}, {"policy/score_last": 0.24}),
    ("agreement", {"reward_accuracy": 0.625}, {"reward_accuracy": 0.65}),
    ("one_rater", {"data/largest_rater_share": 0.5}, {"data/largest_rater_share": 0.49}),
]
LIMITS = AlarmSettings(agreement_fall=0.125)


def kinds(metrics, earlier=(FIRST,), settings=LIMITS):
    return [alarm.kind for alarm in measured_alarms(metrics, earlier, settings)]


def test_a_calm_cycle_raises_no_alarm():
    assert kinds(CALM) == kinds(CALM, ()) == []


@pytest.mark.parametrize(("kind", "at", "below"), AT_AND_BELOW)
def test_an_alarm_is_raised_at_its_limit_and_not_below(kind, at, below):
    assert kind in kinds(CALM | at)
    assert kind not in kinds(CALM | at | below)


def test_each_alarm_says_its_value_and_its_limit():
    odd = CALM | {"kl": 19.0, "data/largest_rater_share": 0.75, "win_rate": 0.25}
    by_kind = {alarm.kind: alarm for alarm in measured_alarms(odd, [FIRST], SETTINGS)}
    assert set(by_kind) == {"kl", "one_rater", "over_optimised"}
    assert (by_kind["kl"].value, by_kind["kl"].limit) == (0.95, 0.8)
    assert "19 nats a reply, 95% of what the gate allows (limit 80%)" in by_kind["kl"].text
    assert by_kind["one_rater"].text.startswith("one rater has 75% of the weight")
    assert "rose by 1 in PPO, but the candidate wins only 25%" in by_kind["over_optimised"].text


@given(st.sets(st.sampled_from(sorted(CALM))), st.booleans())
def test_a_metric_that_is_missing_or_no_number_raises_no_alarm(missing, as_nan):
    nan = {name: float("nan") for name in missing} if as_nan else {}
    rest = {name: value for name, value in CALM.items() if name not in missing} | nan
    assert kinds(rest) == kinds(rest, ()) == kinds({}, [rest]) == []


def test_entropy_and_length_count_from_the_first_cycle_and_agreement_from_the_last_three():
    later = {"served/mean_tokens": 40.0, "policy/entropy_first": 0.6, "reward_accuracy": 0.5}
    now = CALM | {"candidate/mean_tokens": 39.0, "served/mean_tokens": 39.0}
    found = kinds(now | {"policy/entropy_last": 0.5}, [later, later, later, FIRST])
    assert found == ["length_drift", "entropy"]
    assert "agreement" in kinds(CALM | {"reward_accuracy": 0.6}, [{}, FIRST, {}, FIRST])


def test_healthy_cycles_of_the_starter_raise_no_alarm():
    measured = {  # eleven cycles with these figures or milder ones
        "candidate/mean_tokens": 7.3,
        "served/mean_tokens": 15.5,
        "policy/entropy_first": 0.46,
        "policy/entropy_last": 0.19,
        "policy/score_first": -0.4,
        "policy/score_last": 0.7,
        "win_rate": 0.71,
        "kl": 2.7,
        "gate/kl_limit": 38.4,
        "reward_accuracy": 0.71,
        "data/largest_rater_share": 0.2,
    }
    assert kinds(measured, (), SETTINGS) == []


def end(store, state, *, metrics=None, reasons=()):
    cycle = store.start_cycle({}, pid=os.getpid())
    return store.finish_cycle(cycle.id, state=state, metrics=metrics, reasons=reasons)


@pytest.fixture
def store(tmp_path):
    with FeedbackStore(tmp_path / "feedback.db") as opened:
        yield opened


def raised(store):
    return [(alarm.kind, alarm.cycle_id) for alarm in store.alarms()]


def test_cycles_that_ended_badly_raise_an_alarm_once_whoever_looks(store):
    end(store, "refused")
    end(store, "rejected", reasons=("preferred in 40 to 60% of 20 questions",), metrics={"kl": 1})
    end(store, "failed", reasons=("out of memory",))
    for _ in range(3):
        raise_alarms(store, SETTINGS)
    assert raised(store) == [("rejected", 2), ("failed", 3)]
    texts = [alarm.text for alarm in store.alarms()]
    assert texts[0] == "rejected: preferred in 40 to 60% of 20 questions"
    assert texts[1] == "failed in stage snapshot; `feedback-chat status` says why"


def test_a_killed_cycle_raises_its_alarm_when_somebody_else_looks(store):
    sleeper = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    store.start_cycle({}, pid=sleeper.pid)
    raise_alarms(store, SETTINGS)
    assert raised(store) == []
    sleeper.kill()
    sleeper.communicate()
    raise_alarms(store, SETTINGS)
    assert raised(store) == [("failed", 1)]
    end(store, "rejected")  # whose start writes that the first has failed
    raise_alarms(store, SETTINGS)
    assert raised(store) == [("failed", 1), ("rejected", 2)]


def test_each_cycle_is_compared_with_those_before_it(store):
    end(store, "promoted", metrics={"reward_accuracy": 0.8})
    end(store, "promoted", metrics={"reward_accuracy": 0.6})
    end(store, "promoted", metrics={"reward_accuracy": 0.65})
    raise_alarms(store, SETTINGS)
    assert raised(store) == [("agreement", 2)]


def test_other_limits_raise_no_alarm_about_cycles_that_were_watched(store):
    end(store, "promoted", metrics={"data/largest_rater_share": 0.3})
    raise_alarms(store, SETTINGS)
    raise_alarms(store, AlarmSettings(rater_share=0.1))
    assert raised(store) == []


def test_only_the_latest_cycles_are_looked_at(store):
    for _ in range(WINDOW + 2):
        end(store, "rejected")
    raise_alarms(store, SETTINGS)
    assert store.watched_cycle() == WINDOW + 2
    assert store.alarm_counts()["rejected"] == WINDOW


def test_a_cycle_that_fails_raises_an_alarm_that_does_not_quote_why(data):
    with pytest.raises(ModelError, match="my-secret-words"):
        run_cycle(
            data,
            CycleSettings(min_comparisons=10, gate=GateSettings(min_prompts=2)),
            model=str(data / "my-secret-words"),
        )
    with FeedbackStore(data / "feedback.db") as store:
        (alarm,) = store.alarms()
    assert (alarm.kind, alarm.cycle_id) == ("failed", 1)
    assert "secret" not in alarm.text


def test_a_refused_cycle_is_no_alarm_but_one_that_waits_to_be_watched_is_noted(data):
    assert run_cycle(data, CycleSettings(min_comparisons=50)).state == "refused"
    with FeedbackStore(data / "feedback.db") as store:
        assert (store.alarms(), store.watched_cycle()) == ([], 1)
        assert end_alarm(store.cycle(1)) is None


def test_the_largest_raters_share_is_that_of_the_weight_of_all_comparisons(data, vote):
    settings = CycleSettings(min_comparisons=10, gate=GateSettings(min_prompts=2))
    with FeedbackStore(data / "feedback.db") as store:
        for number in range(40, 50):
            vote(store, "rater-3", number, "ab"[number % 2])  # always one side is quarantined
        found = take_snapshot(store, settings)
    assert len(found.train) + len(found.held_out) == 50
    assert found.largest_rater_share == pytest.approx(18 / 50)


def test_the_ends_of_a_curve_are_means_over_an_eighth_and_entropy_is_per_token():
    at = [n / 16 for n in range(1, 17)]
    curves = {
        "objective/scores": dict(zip(at, [float(n) for n in range(16)], strict=True)),
        "objective/entropy": dict(zip(at, [8.0] * 8 + [3.0] * 8, strict=True)),
        "val/length": dict(zip(at, [4.0] * 8 + [6.0] * 8, strict=True)),
    }
    assert curve_metrics(curves) == {
        "policy/score_first": 0.5,
        "policy/score_last": 14.5,
        "policy/entropy_first": 2.0,
        "policy/entropy_last": 0.5,
    }
    assert curve_metrics({}) == {}


@pytest.mark.slow
def test_a_whole_cycle_measures_what_alarms_need_and_reports_them(
    data, model_path, small_cycle, short
):
    settings = small_cycle.model_copy(update={"alarms": AlarmSettings(rater_share=0.01)})
    cycle = run_cycle(data, settings, model=str(model_path), quantization="none", reply=short)
    measured = {"policy/entropy_first", "policy/entropy_last", "policy/score_first", "kl"}
    assert measured | {"gate/kl_limit", "data/largest_rater_share"} <= set(cycle.metrics)
    assert cycle.metrics["gate/kl_limit"] == pytest.approx(0.6 * short.tokens)
    report = json.loads((data / "cycles" / "000001" / "report.json").read_text())
    with FeedbackStore(data / "feedback.db") as store:
        alarms = [a for a in store.alarms() if a.kind not in ("rejected", "failed")]
    assert "one_rater" in {alarm.kind for alarm in alarms}
    assert [Alarm(**told) for told in report["alarms"]] == [
        Alarm(a.kind, a.text, a.value, a.limit) for a in alarms
    ]
