from math import log

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import tensor
from torch.testing import assert_close

from rlhf_core.reward.losses import preference_losses


def loss_of(margin, *, tied=False, width=0.0, smoothing=0.0):
    return preference_losses(
        tensor([float(margin)]),
        tensor([tied]),
        tie_width=tensor([float(width)]),
        smoothing=tensor([smoothing]),
    )[0]


def test_no_margin_costs_log_two():
    assert_close(loss_of(0), tensor(log(2)))


def test_a_margin_for_the_preferred_response_costs_less():
    assert_close(loss_of(2), tensor(log(1 + torch.e**-2)))
    assert_close(loss_of(-2) - loss_of(2), tensor(2.0))


@given(st.floats(-8, 8), st.floats(0.01, 5))
def test_the_likelihoods_of_a_preference_either_way_and_of_a_tie_sum_to_one(margin, width):
    outcomes = (loss_of(margin, width=width), loss_of(-margin, width=width))
    tie = loss_of(margin, tied=True, width=width)
    assert_close(sum((-loss).exp() for loss in (*outcomes, tie)), tensor(1.0))


@given(st.floats(-8, 8), st.floats(0.01, 5))
def test_exchanging_the_sides_of_a_tie_changes_nothing(margin, width):
    assert_close(loss_of(margin, tied=True, width=width), loss_of(-margin, tied=True, width=width))


def test_a_tie_is_likeliest_without_a_margin():
    losses = [loss_of(m, tied=True, width=0.5).item() for m in (-1.0, -0.2, 0.0, 0.2, 1.0)]
    assert min(losses) == losses[2]


def test_ties_of_no_width_leave_bradley_terry_with_sound_gradients():
    margins = tensor([0.3, 200.0, -200.0], requires_grad=True)
    width = torch.zeros(3, requires_grad=True)
    never = torch.zeros(3, dtype=torch.bool)
    losses = preference_losses(margins, never, tie_width=width, smoothing=torch.zeros(3))
    assert_close(losses, -torch.nn.functional.logsigmoid(margins))
    losses.sum().backward()
    assert torch.isfinite(margins.grad).all() and torch.isfinite(width.grad).all()


def test_a_smoothed_preference_is_met_at_its_log_odds():
    margin = tensor([log(19)], requires_grad=True)
    smoothing, width = tensor([0.05]), torch.zeros(1)
    preference_losses(margin, tensor([False]), tie_width=width, smoothing=smoothing).backward()
    assert_close(margin.grad, tensor([0.0]), atol=1e-6, rtol=0)
