import pytest
import torch
from torch import tensor
from torch.testing import assert_close

from rlhf_core.ppo.metrics import finished, rollout_metrics, update_metrics, value_clip_share

MASK = tensor([[True, True], [True, False]])


def test_a_rollouts_metrics_are_those_computed_by_hand():
    logprobs, kl = tensor([[-1.0, -2.0], [-3.0, 9.0]]), tensor([[0.5, 0.5], [3.0, 0.0]])
    found = rollout_metrics(
        tensor([1.0, 2.0]), tensor([[0.0, 1.0], [2.0, 0.0]]), logprobs, kl, MASK, kl_coef=0.1
    )
    plain = {name: round(value.item(), 6) for name, value in found.items()}
    assert plain == {
        "objective/kl": 2.0,  # nats per response
        "objective/entropy": 3.0,
        "objective/non_score_reward": -0.2,
        "objective/rlhf_reward": 1.5,
        "objective/scores": 1.5,
        "objective/kl_coef": 0.1,
        "val/length": 1.5,
    }


def test_the_updates_metrics_leave_padding_out():
    log_ratio = tensor([[0.0, 0.5], [0.1, 7.0]])
    found = update_metrics(log_ratio, MASK, cliprange=0.2)
    assert found["policy/clipfrac_avg"].item() == pytest.approx(1 / 3)
    assert found["policy/approxkl_avg"].item() == pytest.approx(0.5 * (0.25 + 0.01) / 3)
    assert_close(found["val/ratio"], log_ratio.exp()[MASK].mean())
    values, old = tensor([[1.0, 0.1], [0.0, 5.0]]), torch.zeros(2, 2)
    assert value_clip_share(values, old, MASK, 0.2).item() == pytest.approx(1 / 3)


def test_a_response_is_finished_if_its_last_real_token_ends_it():
    ids = tensor([[5, 2], [2, 2], [2, 7]])
    mask = tensor([[True, True], [True, False], [True, True]])
    assert finished(ids, mask, [2]).tolist() == [True, True, False]
