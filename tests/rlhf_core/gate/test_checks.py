import math
from dataclasses import replace

import pytest

from rlhf_core.config import GateSettings
from rlhf_core.gate.checks import check_policy, check_votes, decide
from rlhf_core.gate.evaluation import Accuracy, Evaluation, ReplyStatistics

HEALTHY = ReplyStatistics(
    empty_rate=0.0,
    unfinished_rate=0.01,
    cut_rate=0.02,
    repeated_rate=0.0,
    same_rate=0.01,
    distinct_rate=0.9,
    mean_words=6.0,
    mean_tokens=9.0,
)
BETTER = Evaluation(
    win_rate=0.7,
    win_rate_low=0.64,
    win_rate_high=0.76,
    replies=200,
    prompts=60,
    kl=5.0,
    tokens=48,
    candidate=HEALTHY,
    served=replace(HEALTHY, unfinished_rate=0.2),
    increases={"empty": 0.0, "unfinished": -0.24, "cut": -0.01, "repeated": 0.0},
    fit=math.nan,
    fit_low=math.nan,
    scores_candidate=(),
    scores_served=(),
    samples=(),
)
SETTINGS = GateSettings()


def verdict(evaluation):
    return decide(check_policy(evaluation, SETTINGS))


def test_a_better_and_healthy_candidate_is_promoted_without_reasons():
    assert verdict(BETTER).promote
    assert verdict(BETTER).reasons == ()


def test_a_candidate_not_shown_better_is_rejected_with_its_bound():
    answer = verdict(replace(BETTER, win_rate=0.54, win_rate_low=0.49))
    assert not answer.promote
    assert "49%" in answer.reasons[0]


def test_an_exact_draw_is_not_better():
    assert not verdict(replace(BETTER, win_rate=0.5, win_rate_low=0.5)).promote


@pytest.mark.parametrize(
    ("field", "value", "word"),
    [("empty_rate", 0.3, "empty"), ("same_rate", 0.4, "have to heed the question")],
)
def test_a_collapsed_candidate_is_rejected_whatever_its_win_rate(field, value, word):
    collapsed = replace(
        BETTER, win_rate=1.0, win_rate_low=0.99, candidate=replace(HEALTHY, **{field: value})
    )
    answer = verdict(collapsed)
    assert not answer.promote
    assert len(answer.reasons) == 1 and word in answer.reasons[0]


@pytest.mark.parametrize(
    ("sign", "word"),
    [("unfinished", "do not end"), ("cut", "mid-sentence"), ("repeated", "repeat")],
)
@pytest.mark.parametrize("low", [0.06, math.nan])
def test_a_sign_that_the_candidate_shows_clearly_more_often_rejects(sign, word, low):
    answer = verdict(replace(BETTER, increases=BETTER.increases | {sign: low}))
    assert not answer.promote
    assert len(answer.reasons) == 1
    assert word in answer.reasons[0] or f"{sign}_increase could not be measured" in answer.reasons


@pytest.mark.parametrize("low", [0.51, 0.5, math.nan])
def test_shared_replies_pass_only_if_they_fit_their_questions(low):
    narrow = replace(HEALTHY, same_rate=0.5)
    answer = verdict(replace(BETTER, candidate=narrow, fit=0.7, fit_low=low))
    assert answer.promote is (low == 0.51)
    assert "50% of pairs of different questions (served policy: 1%)" in answer.checks[-1].text


@pytest.mark.parametrize("field", ["win_rate_low", "kl"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_measurement_that_is_not_finite_rejects(field, value):
    assert not verdict(replace(BETTER, **{field: value})).promote


def test_a_candidate_too_far_from_the_base_is_rejected():
    assert not verdict(replace(BETTER, kl=SETTINGS.kl_limit(48) + 1)).promote


def test_no_checks_promote_nothing():
    assert not decide(()).promote


def test_votes_that_do_not_predict_each_other_are_rejected():
    good, chance = (
        Accuracy(0.75, 0.68, 0.81, 150, 0.8, 0.72),
        Accuracy(0.52, 0.45, 0.59, 150, 0.53, 0.45),
    )
    assert decide(check_votes(good, good)).promote
    assert not decide(check_votes(good, chance)).promote
    assert not decide(check_votes(chance, good)).promote


def test_votes_count_by_how_sure_the_prediction_is():
    by_rank, plainly = (
        Accuracy(0.6, 0.49, 0.7, 90, 0.68, 0.56),
        Accuracy(0.6, 0.51, 0.7, 90, 0.52, 0.43),
    )
    assert decide(check_votes(by_rank, by_rank)).promote
    assert not decide(check_votes(by_rank, plainly)).promote
    assert not decide(check_votes(plainly, by_rank)).promote


def test_no_held_out_votes_reject():
    none, good = Accuracy(0.0, 0.0, 1.0, 0, 0.0, 0.0), Accuracy(0.8, 0.7, 0.87, 99, 0.8, 0.7)
    assert not decide(check_votes(none, good)).promote
