import math
from dataclasses import replace

import pytest

from rlhf_core.config import GateSettings
from rlhf_core.gate.checks import check_policy, check_votes, decide
from rlhf_core.gate.evaluation import Accuracy, Evaluation, ReplyStatistics
from rlhf_core.gate.win_rate import WinRate

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
    same_length=None,
    question_error=0.03,
    member_error=0.02,
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
    ("tokens", "low", "promoted"),
    [
        (9.0, 0.3, True),
        (5.0, 0.3, True),
        (12.0, 0.5, False),
        (12.0, 0.51, True),
        (5, math.nan, False),
    ],
)
def test_longer_replies_have_to_win_at_the_same_length_too(tokens, low, promoted):
    """Shorter ones need not: that may be what people want."""
    equal = WinRate(0.55, low, 0.7, 60, 0.03, 0.02)
    candidate = replace(HEALTHY, mean_tokens=tokens)
    answer = verdict(replace(BETTER, same_length=equal, candidate=candidate))
    assert answer.promote is promoted
    if tokens == 12 and not promoted:
        assert answer.reasons == (
            "replies of 12 tokens in the mean (served policy: 9); at the same length 50% to 70% "
            "would be preferred, and more than 50% is needed: they may be liked for their length",
        )


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


def predicted(chance, votes=150):
    return Accuracy(0.6, 0.5, 0.7, votes, 0.65, 0.5, chance)


def votes_pass(first, second):
    return decide(check_votes(predicted(first), predicted(second), SETTINGS)).promote


def test_votes_that_do_not_predict_each_other_are_rejected():
    assert votes_pass(0.001, 0.001) and votes_pass(0.0001, 0.2)
    assert not votes_pass(0.03, 0.03), "two that agree are no two proofs"
    assert not votes_pass(0.0001, 0.9) and not votes_pass(math.nan, 0.001)


def test_the_reason_says_what_was_predicted_and_how_likely_that_is_by_chance():
    (reason,) = decide(check_votes(predicted(0.3), predicted(0.2), SETTINGS)).reasons
    assert "60% of 150 votes that it has not seen (65% if its surer predictions" in reason
    assert "with probability 0.2" in reason and "at most 0.02" in reason


def test_no_held_out_votes_reject():
    none = Accuracy(0.0, 0.0, 1.0, 0, 0.0, 0.0, 1.0)
    assert not decide(check_votes(none, predicted(0.0001), SETTINGS)).promote
