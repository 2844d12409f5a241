"""The win rate and its bounds, on scores and policies whose true rate is known."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rlhf_core.gate.win_rate import level_of, probabilities, win_rate

FOLDS = 5


def scored(rng, *, shift, better=0.0, questions=40, replies=4, wrong=0.3):
    """Margins by members that share an error of judgement, and differ a little in it.

    `shift` is how far the candidate's replies are from the served policy's in what members
    mistake for quality, and `better` how much better they are.
    """
    error = rng.normal(0, wrong, 2)  # what all members mistake, of two qualities of a reply
    own = rng.normal(0, wrong / 2, (FOLDS, 2))
    asked = np.repeat(np.arange(questions), replies)
    truth = better + rng.normal(0, 1, questions)[asked] + rng.normal(0, 1, len(asked))
    style = shift + rng.normal(0, 1, (2, len(asked)))
    margins = truth + (error + own) @ style
    known = np.arange(FOLDS)[:, None] != asked % FOLDS
    return torch.tensor(margins), torch.tensor(known), [str(q) for q in asked]


def test_a_better_policy_is_found_and_the_rate_is_near_the_true_one():
    rng = np.random.default_rng(0)
    found = [win_rate(*scored(rng, shift=0.0, better=1.0), level=0.02) for _ in range(40)]
    assert sum(f.low > 0.5 for f in found) >= 38
    true = 0.5 * (1 + math.erf(1.0 / 2))  # of a normal difference with variance 2
    assert np.mean([f.value for f in found]) == pytest.approx(true, abs=0.05)
    assert all(f.questions == 40 for f in found)


def test_an_error_that_all_members_may_share_widens_the_bounds():
    rng = np.random.default_rng(1)
    without, beside = (
        [win_rate(*scored(rng, shift=shift), level=0.05) for _ in range(60)] for shift in (0, 3)
    )
    mean = [np.mean([f.member_error for f in found]) for found in (without, beside)]
    assert mean[1] > 2 * mean[0]
    assert sum(f.low > 0.5 for f in without) <= 6


def test_a_tiny_shift_on_every_reply_is_no_win_everywhere():
    rng = np.random.default_rng(2)
    margins = torch.tensor(0.01 + rng.normal(0, 0.3, (FOLDS, 1)) + rng.normal(0, 0.1, (FOLDS, 200)))
    surely = probabilities(torch.full((FOLDS, 200), 0.01) + margins - margins.mean(0))
    assert (surely.mean(0) - 0.5).abs().max() < 0.1
    known = torch.zeros_like(margins, dtype=torch.bool)
    assert win_rate(margins, known, [str(n) for n in range(200)], level=0.05).low < 0.5


def test_a_rule_is_one_member_that_is_sure():
    margins = torch.tensor([[1.0, -0.01, 0.0, 2.0]])
    assert probabilities(margins).tolist() == [[1.0, 0.0, 0.5, 1.0]]
    known = torch.zeros_like(margins, dtype=torch.bool)
    found = win_rate(margins, known, ["a", "b", "c", "d"], level=0.05)
    assert found.value == 0.625 and found.member_error == 0.0


def test_a_reply_is_scored_by_members_that_know_no_vote_on_its_question():
    margins = torch.tensor([[9.0, -9.0], [-9.0, 9.0]])
    strangers = torch.tensor([[False, True], [True, False]])
    kept = win_rate(margins, strangers, ["a", "b"], level=0.05)
    swapped = win_rate(margins, ~strangers, ["a", "b"], level=0.05)
    assert kept.value > 0.7 > 0.3 > swapped.value
    all_know = win_rate(margins, torch.ones_like(strangers), ["a", "b"], level=0.05)
    assert all_know.value == pytest.approx(0.5), "then all score it"


@given(
    st.integers(1, 5),
    st.integers(1, 8),
    st.floats(1e-4, 0.4),
    st.integers(0, 1000),
)
def test_bounds_enclose_the_rate_and_a_smaller_level_widens_them(members, n, level, seed):
    rng = np.random.default_rng(seed)
    margins = torch.tensor(rng.normal(0, 1, (members, n)))
    known = torch.tensor(rng.random((members, n)) < 0.5)
    questions = [str(q) for q in rng.integers(0, 3, n)]
    found = win_rate(margins, known, questions, level=level)
    wider = win_rate(margins, known, questions, level=level / 2)
    assert 0 <= wider.low <= found.low <= found.value <= found.high <= wider.high <= 1


def test_margins_that_are_no_numbers_show_nothing():
    margins = torch.tensor([[math.nan, 1.0], [1.0, 1.0]])
    known = torch.zeros_like(margins, dtype=torch.bool)
    assert not win_rate(margins, known, ["a", "b"], level=0.05).low > 0.5


def test_the_levels_of_all_tests_together_are_the_error_rate():
    levels = [level_of(test, 0.05) for test in range(1, 100_000)]
    assert levels == sorted(levels, reverse=True)
    assert 0.0495 < sum(levels) < 0.05 and levels[0] > 0.019


def test_the_lower_bound_of_a_rate_near_one_is_far_below_it_and_the_upper_one_is_not():
    """Members at 80% to 98%: the same error at 50% would reach as far down as up."""
    rates = torch.linspace(0.80, 0.98, 10)
    places = (torch.arange(100) + 0.5) / 100
    margins = torch.where(places < rates[:, None], 1.0, -1.0) * 1e3  # (10, 100)
    found = win_rate(margins, torch.zeros(10, 100).bool(), [str(n) for n in range(100)], level=0.05)
    assert found.value - found.low > 1.3 * (found.high - found.value)
    turned = win_rate(
        -margins, torch.zeros(10, 100).bool(), [str(n) for n in range(100)], level=0.05
    )
    assert turned.value == pytest.approx(1 - found.value)


@given(st.floats(0.02, 0.98), st.integers(4, 60))
def test_bounds_are_in_order_and_rates(share, questions):
    places = (torch.arange(questions) + 0.5) / questions
    margins = torch.where(places < share, 1.0, -1.0)[None].repeat(4, 1)  # (4, questions)
    known = torch.zeros(4, questions).bool()
    found = win_rate(margins, known, [str(n) for n in range(questions)], level=0.01)
    assert 0 <= found.low <= found.value <= found.high <= 1
