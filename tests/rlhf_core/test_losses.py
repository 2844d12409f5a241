from math import log

import pytest
import torch
from torch import tensor
from torch.testing import assert_close

from rlhf_core.losses import clipped_value_loss, masked_mean, preference_loss

ONE = torch.ones(1)


def test_the_masked_mean_weighs_tokens_not_responses():
    mask = tensor([[True, True, True], [True, False, False]])
    assert_close(masked_mean(tensor([[1.0, 1.0, 1.0], [5.0, 99.0, 99.0]]), mask), tensor(2.0))


def test_no_margin_costs_log_two():
    assert_close(preference_loss(tensor([0.0]), ONE, ONE), tensor(log(2)))


def test_a_margin_for_the_preferred_response_costs_less():
    right, wrong = (preference_loss(tensor([m]), ONE, ONE) for m in (2.0, -2.0))
    assert_close(right, tensor(log(1 + torch.e**-2)))
    assert_close(wrong - right, tensor(2.0))


@pytest.mark.parametrize("margin", [-3.0, -0.1, 0.7, 5.0])
def test_exchanging_the_sides_changes_nothing(margin):
    target = tensor([0.9])
    here = preference_loss(tensor([margin]), target, ONE)
    assert_close(here, preference_loss(tensor([-margin]), 1 - target, ONE))


@pytest.mark.parametrize(("target", "best"), [(0.5, 0.0), (0.95, log(19))])
def test_a_soft_target_is_met_at_its_log_odds(target, best):
    margin = tensor([best], requires_grad=True)
    preference_loss(margin, tensor([target]), ONE).backward()
    assert_close(margin.grad, tensor([0.0]), atol=1e-6, rtol=0)


def test_a_weight_of_two_counts_like_two_votes():
    margins, targets = tensor([1.0, -1.0]), torch.ones(2)
    weighted = preference_loss(margins, targets, tensor([2.0, 1.0])) * 2
    repeated = preference_loss(margins[[0, 0, 1]], torch.ones(3), torch.ones(3)) * 3
    assert_close(weighted, repeated)


def test_the_value_loss_is_that_computed_by_hand():
    values, old = tensor([[1.0, 0.1, 9.0]]), tensor([[0.0, 0.0, 9.0]])
    returns, mask = tensor([[2.0, 0.5, 0.0]]), tensor([[True, True, False]])
    # token 1: clipped to 0.2, so max(1, 3.24) = 3.24; token 2: unclipped, 0.16
    loss = clipped_value_loss(values, old, returns, mask, cliprange=0.2)
    assert_close(loss, tensor(0.5 * (3.24 + 0.16) / 2))


def test_a_value_beyond_the_clip_gets_no_push_towards_its_return():
    values = tensor([[0.5, 0.5]], requires_grad=True)
    old, returns = tensor([[0.0, 0.4]]), tensor([[1.0, 1.0]])
    loss = clipped_value_loss(
        values, old, returns, torch.ones(1, 2, dtype=torch.bool), cliprange=0.2
    )
    loss.backward()
    assert values.grad[0, 0] == 0
    assert values.grad[0, 1] < 0
