import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import tensor
from torch.testing import assert_close

from rlhf_core.ppo.advantages import generalized_advantages, leave_one_out, token_rewards, whiten

MASK = tensor([[True, True, True], [True, False, False]])


def test_the_reward_is_the_kl_penalty_and_the_score_at_the_last_real_token():
    logprobs = tensor([[-1.0, -2.0, -3.0], [-1.0, 9.0, 9.0]])
    reference = tensor([[-1.5, -2.0, -2.0], [-3.0, 0.0, 0.0]])
    rewards = token_rewards(tensor([10.0, 20.0]), logprobs, reference, MASK, kl_coef=0.1)
    assert_close(rewards, tensor([[-0.05, 0.0, 10.1], [19.8, 0.0, 0.0]]))


def test_moving_away_from_the_reference_costs_reward():
    """k1 = logprobs - ref_logprobs is positive on average where the policy samples."""
    torch.manual_seed(0)
    policy, reference = torch.randn(50).softmax(0), torch.randn(50).softmax(0)
    drawn = policy.multinomial(4000, replacement=True)[None]  # (1, T)
    mask = torch.ones_like(drawn, dtype=torch.bool)
    cost = token_rewards(
        tensor([0.0]), policy.log()[drawn], reference.log()[drawn], mask, kl_coef=1.0
    )
    exact = (policy * (policy / reference).log()).sum()
    assert exact > 0.3
    assert_close(-cost.mean(), exact, rtol=0.1, atol=0.0)
    same = token_rewards(tensor([0.0]), policy.log()[drawn], policy.log()[drawn], mask, kl_coef=1.0)
    assert same.abs().sum() == 0


def test_advantages_are_those_computed_by_hand():
    rewards = tensor([[1.0, 0.0, 2.0], [3.0, 5.0, 5.0]])
    values = tensor([[0.5, 1.0, -1.0], [1.0, 7.0, 7.0]])
    advantages, returns = generalized_advantages(rewards, values, MASK, gamma=0.5, lam=0.5)
    # deltas: 2 + 0 + 1 = 3; 0 - 0.5 - 1 = -1.5; 1 + 0.5 - 0.5 = 1
    expected = tensor([[1 - 0.25 * 0.75, -1.5 + 0.25 * 3, 3.0], [2.0, 0.0, 0.0]])
    assert_close(advantages, expected)
    assert_close(returns, tensor([[1.3125, 0.25, 2.0], [3.0, 0.0, 0.0]]))


def test_with_lambda_one_the_return_is_the_sum_of_what_follows():
    rewards, values = torch.randn(2, 3), torch.randn(2, 3)
    _, returns = generalized_advantages(rewards, values, MASK, gamma=1.0, lam=1.0)
    whole = (rewards * MASK).flip(1).cumsum(1).flip(1) * MASK
    assert_close(returns, whole)


def test_a_perfect_critic_leaves_no_advantage():
    rewards = torch.randn(2, 3) * MASK
    values = rewards.flip(1).cumsum(1).flip(1)
    advantages, _ = generalized_advantages(rewards, values, MASK, gamma=1.0, lam=0.95)
    assert_close(advantages, torch.zeros(2, 3))


def test_leave_one_out_compares_with_the_others_to_the_same_prompt():
    totals = tensor([1.0, 3.0, 5.0, 5.0])
    mask = tensor([[True, True], [True, False], [True, True], [True, True]])
    expected = tensor([[-2.0, -2.0], [2.0, 0.0], [0.0, 0.0], [0.0, 0.0]])
    assert_close(leave_one_out(totals, mask, group=2), expected)
    assert_close(
        leave_one_out(tensor([1.0, 2.0, 6.0]), torch.ones(3, 1, dtype=torch.bool), group=3),
        tensor([[-3.0], [-1.5], [4.5]]),
    )


def test_whitened_values_have_mean_zero_and_variance_one_over_real_tokens():
    white = whiten(tensor([[1.0, 2.0, 3.0], [6.0, 99.0, 99.0]]), MASK)
    real = white[MASK]
    assert_close(real.mean(), tensor(0.0), atol=1e-6, rtol=0)
    assert_close(real.var(correction=0), tensor(1.0))
    assert white[~MASK].abs().sum() == 0


def test_whitening_equal_values_gives_zero_not_nan():
    assert whiten(torch.ones(2, 3), MASK).abs().sum() == 0


@settings(max_examples=40, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 5), min_size=1, max_size=4),
    extra=st.integers(1, 3),
    seed=st.integers(0, 1000),
)
def test_padding_never_changes_an_advantage(lengths, extra, seed):
    generator = torch.Generator().manual_seed(seed)
    width = max(lengths)
    mask = torch.arange(width + extra) < tensor(lengths)[:, None]
    data = [torch.randn(len(lengths), width + extra, generator=generator) for _ in range(3)]
    scores = torch.randn(len(lengths), generator=generator)

    def run(width: int) -> tuple[torch.Tensor, torch.Tensor]:
        logprobs, reference, values = (x[:, :width] for x in data)
        real = mask[:, :width]
        rewards = token_rewards(scores, logprobs, reference, real, kl_coef=0.3)
        advantages, returns = generalized_advantages(rewards, values, real, gamma=1.0, lam=0.95)
        return whiten(advantages, real), returns

    for short, long in zip(run(width), run(width + extra), strict=True):
        assert_close(short, long[:, :width])
        assert long[:, width:].abs().sum() == 0


@pytest.mark.parametrize("order", [(1, 0), (0, 1)])
def test_batch_order_never_changes_an_advantage(order):
    rewards, values = torch.randn(2, 3), torch.randn(2, 3)
    first, _ = generalized_advantages(rewards, values, MASK, gamma=1.0, lam=0.95)
    rows = list(order)
    second, _ = generalized_advantages(rewards[rows], values[rows], MASK[rows], gamma=1.0, lam=0.95)
    assert_close(first[rows], second)
