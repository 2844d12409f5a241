import pytest
import torch
from torch import tensor
from torch.testing import assert_close

from rlhf_core.errors import DivergenceError
from rlhf_core.ppo.losses import clipped_value_loss, masked_mean, require_bounded_kl


def test_the_masked_mean_weighs_tokens_not_responses():
    mask = tensor([[True, True, True], [True, False, False]])
    assert_close(masked_mean(tensor([[1.0, 1.0, 1.0], [5.0, 99.0, 99.0]]), mask), tensor(2.0))


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


def test_a_kl_that_no_language_has_is_divergence():
    require_bounded_kl(80.0, 12.0)
    with pytest.raises(DivergenceError, match="130 nats a response of 12 tokens"):
        require_bounded_kl(130.0, 12.0)
