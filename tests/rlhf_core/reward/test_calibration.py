import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from rlhf_core.reward.calibration import (
    FEWEST_VOTES,
    expected_calibration_error,
    fit_temperature,
    left_out_margins,
)


@pytest.fixture(autouse=True)
def _one_seed():
    torch.manual_seed(0)


def votes(n, temperature):
    """Margins, and those of the preferred side when log-odds are margin / temperature."""
    margins = torch.randn(n) * 2
    first = torch.rand(n) < (margins / temperature).sigmoid()
    return margins, first


@given(st.sampled_from([0.3, 1.0, 4.0]))
def test_the_temperature_that_made_the_votes_is_found(temperature):
    margins, first = votes(20_000, temperature)
    found = fit_temperature(torch.where(first, margins, -margins), torch.ones(20_000))
    assert abs(found / temperature - 1) < 0.1


def test_votes_count_by_their_weight():
    margins, first = votes(400, 1.0)
    signed = torch.where(first, margins, -margins)
    weights = torch.ones(400)
    weights[200:] = 0
    assert fit_temperature(signed, weights) == fit_temperature(signed[:200], weights[:200])


def test_too_few_votes_leave_the_temperature_alone():
    few = torch.full((FEWEST_VOTES - 1,), 3.0)
    assert fit_temperature(few, torch.ones_like(few)) == 1.0


def test_votes_that_are_never_wrong_or_never_right_give_a_bounded_temperature():
    sure = torch.full((100,), 3.0)
    assert 0.019 < fit_temperature(sure, torch.ones(100)) < 0.021
    assert 49 < fit_temperature(-sure, torch.ones(100)) < 51


def test_true_probabilities_have_hardly_any_calibration_error_and_overstated_ones_much():
    margins, first = votes(20_000, 1.0)
    outcomes = first.float()
    assert expected_calibration_error(margins.sigmoid(), outcomes) < 0.02
    assert expected_calibration_error((4 * margins).sigmoid(), outcomes) > 0.1


def test_the_calibration_error_is_that_computed_by_hand():
    stated = torch.tensor([0.8, 0.2, 0.8, 0.8])  # sure by 0.8 each, right in three of four
    outcomes = torch.tensor([1.0, 0.0, 1.0, 0.0])
    assert_close(expected_calibration_error(stated, outcomes), 0.05)


def test_no_votes_have_no_calibration_error():
    assert expected_calibration_error(torch.empty(0), torch.empty(0)) == 0.0


@given(st.integers(2, 5), st.floats(0.1, 1.2))
def test_members_that_left_votes_out_give_the_temperature_of_the_whole_ensemble(members, noise):
    n = 80_000
    truth, first = votes(n, 1.0)
    each = truth + noise * torch.randn(members, n)
    unseen = torch.rand(members, n) < 0.37
    some = unseen.any(0)
    told = left_out_margins(each, unseen)
    signs = torch.where(first, 1.0, -1.0)
    found = fit_temperature((told * signs)[some], torch.ones(n)[some])
    wanted = fit_temperature(each.mean(0) * signs, torch.ones(n))
    assert abs(found / wanted - 1) < 0.1


def test_members_that_agree_or_know_nothing_keep_margins_finite():
    unseen = torch.tensor([[True, True, False], [True, False, False]])
    same = torch.tensor([[1.0, -2.0, 3.0], [1.0, 7.0, 3.0]])
    assert_close(left_out_margins(same, unseen), torch.tensor([1.0, -2.0, 0.0]))
    assert_close(left_out_margins(torch.zeros(2, 3), unseen), torch.zeros(3))


def test_where_nothing_was_left_out_nothing_is_told():
    assert_close(left_out_margins(torch.ones(3, 4), torch.zeros(3, 4) > 0), torch.zeros(4))


def test_one_member_tells_its_own_margins():
    margins = torch.randn(1, 50)
    assert_close(left_out_margins(margins, torch.ones(1, 50, dtype=torch.bool)), margins[0])
