"""The critic's closed form: exact where values are linear, cautious where they are noise."""

import torch
from torch.testing import assert_close

from rlhf_core.ppo.warm_up import fit_value_head

REPLIES, TOKENS, WIDTH = 64, 20, 16


def rollout(noise: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """States, returns and prompts of a rollout whose returns follow from its states, or do not."""
    generator = torch.Generator().manual_seed(1)
    states = torch.randn(REPLIES, TOKENS, WIDTH, generator=generator)
    states += 3 * torch.randn(REPLIES, 1, WIDTH, generator=generator)  # replies are unlike
    linear = states @ torch.linspace(-1, 1, WIDTH)
    luck = torch.randn(REPLIES, 1, generator=generator).expand(-1, TOKENS)  # one score a reply
    returns = (1 - noise) * linear + noise * luck - 1.0
    prompts = (torch.arange(REPLIES) // 2).repeat_interleave(TOKENS)
    return states.flatten(0, 1), returns.flatten(), prompts


def test_values_that_are_linear_in_the_states_are_found():
    states, returns, prompts = rollout(noise=0.0)
    weight, bias = fit_value_head(states, returns, prompts)
    assert_close(weight, torch.linspace(-1, 1, WIDTH), atol=0.02, rtol=0)
    assert_close(bias, torch.tensor(-1.0), atol=0.02, rtol=0)


def test_luck_is_not_learned_by_heart():
    states, returns, prompts = rollout(noise=1.0)
    weight, bias = fit_value_head(states, returns, prompts)
    values = states @ weight + bias
    assert abs(values.mean() - returns.mean()) < 0.01
    assert values.std() < 0.1 * returns.std()
    # without a penalty, the head would know each reply by its state
    ones = torch.cat([states, torch.ones(len(states), 1)], 1)
    by_heart = ones @ torch.linalg.lstsq(ones, returns[:, None]).solution
    assert by_heart.std() > 0.3 * returns.std()


def test_processes_that_add_up_their_sums_find_what_one_process_finds():
    states, returns, prompts = rollout(noise=0.5)
    whole = fit_value_head(states, returns, prompts)
    half = len(states) // 2
    sums: list[torch.Tensor] = []
    fit_value_head(
        states[:half], returns[:half], prompts[:half], total=lambda own: sums.append(own) or own
    )
    found = fit_value_head(
        states[half:], returns[half:], prompts[half:], total=lambda own: own + sums[0]
    )
    for one, other in zip(found, whole, strict=True):
        assert_close(one, other, atol=1e-5, rtol=1e-4)


def test_a_single_prompt_is_enough_for_the_mean():
    states, returns, _ = rollout(noise=1.0)
    weight, bias = fit_value_head(states[:40], returns[:40], torch.zeros(40, dtype=torch.long))
    values = states[:40] @ weight + bias
    assert abs(values.mean() - returns[:40].mean()) < 0.05
