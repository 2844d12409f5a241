import math

import pytest
import torch
from torch import tensor
from torch.testing import assert_close

from rlhf_core.ppo.metrics import (
    finished,
    mismatch_metrics,
    rollout_metrics,
    update_metrics,
    value_clip_share,
)

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


def test_the_mismatch_leaves_out_padding_and_what_the_other_program_did_not_say():
    told = tensor([[-1.0, float("nan")], [-2.0, -9.0]])
    found = mismatch_metrics(told, tensor([[-1.0, -5.0], [-1.5, 0.0]]), MASK)
    assert found["sampling/mismatch_kl"].item() == pytest.approx((math.exp(0.5) - 1.5) / 2)
    assert found["sampling/logp_difference"].item() == pytest.approx(0.25)
    assert found["sampling/logp_difference_max"].item() == 0.5


def test_the_mismatch_is_the_kl_of_what_sampled_from_what_trains():
    torch.manual_seed(0)
    theirs = torch.randn(50).log_softmax(-1)
    ours = (theirs + 0.1 * torch.randn(50)).log_softmax(-1)
    tokens = torch.multinomial(theirs.exp(), 20_000, replacement=True)[None]  # (1, T)
    found = mismatch_metrics(theirs[tokens], ours[tokens], torch.ones_like(tokens).bool())
    kl = (theirs.exp() * (theirs - ours)).sum().item()
    assert found["sampling/mismatch_kl"].item() == pytest.approx(kl, rel=0.1)


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
