"""The critic's first weights, fitted to the first rollout.

A critic that starts at zero expects a score of 0. Scores are centred, but most first replies of a
base do not end and are punished, so the mean reward is below 0. Then every end token of a long
reply looks bad, whatever it is worth, and the policy learns to avoid ends before the critic learns
better. The value head is linear, so its best weights for a rollout have a closed form: no learning
rate, no steps. How strongly they are drawn towards 0 is chosen by how well they predict replies to
prompts that they were not fitted to.

Shapes: B responses of this process, T response tokens, N of them real; d numbers in a hidden state,
F folds of prompts.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from rlhf_core.ppo.advantages import generalized_advantages
from rlhf_core.ppo.critic import Critic

FOLDS = 4
PENALTIES = (0.01, 0.1, 1.0, 10.0, 100.0, 1000.0)  # times the mean square of a state's numbers


def warm_up(
    critic: Critic,
    states: Tensor,
    rewards: Tensor,
    mask: Tensor,
    *,
    gamma: float,
    group: int,
    total: Callable[[Tensor], Tensor],
) -> Tensor:
    """Fit the critic to a rollout; returns its values then, zero on padding, (B, T).

    Args:
        critic: Gets the weights.
        states: The state before each response token. (B, T, d)
        rewards: Reward of each token. (B, T)
        mask: True on response tokens. (B, T)
        gamma: Discount per token.
        group: Responses per prompt; responses to one prompt are neighbours.
        total: Sum over all processes that share the batch.
    """
    # with lambda 1 and no critic, a return is the sum of the rewards from a token on
    nothing = torch.zeros_like(rewards)
    returns, _ = generalized_advantages(rewards, nothing, mask, gamma=gamma, lam=1.0)  # (B, T)
    prompts = torch.arange(len(mask), device=mask.device) // group  # (B,)
    weight, bias = fit_value_head(
        states[mask], returns[mask], prompts.repeat_interleave(mask.sum(1)), total=total
    )
    with torch.no_grad():
        critic.head.weight.copy_(weight[None])
        critic.head.bias.copy_(bias)
        return critic.values(states).masked_fill(~mask, 0.0)


def fit_value_head(
    states: Tensor,
    returns: Tensor,
    prompts: Tensor,
    *,
    total: Callable[[Tensor], Tensor] = lambda local: local,
) -> tuple[Tensor, Tensor]:
    """Weight and bias of the value head by ridge least squares; the bias is not penalised.

    Args:
        states: The state before each response token. (N, d)
        returns: Sum of the rewards from this token on. (N,)
        prompts: The number of each token's prompt; all tokens of a prompt are in one fold. (N,)
        total: Sum over all processes that share the batch.

    Returns:
        The weight, (d,), and the bias, (), both in float32.

    Source:
        Hoerl and Kennard 1970, "Ridge regression"; the penalty by cross-validation.
    """
    ones = torch.ones_like(returns)[:, None]
    rows = torch.cat([states, ones, returns[:, None]], 1)  # (N, d + 2)
    # sums of products hold all that least squares needs, and processes can add them up
    folds = (rows[prompts % FOLDS == k].double() for k in range(FOLDS))
    products = total(torch.stack([fold.T @ fold for fold in folds]))  # (F, d + 2, d + 2)
    whole = products.sum(0)  # (d + 2, d + 2)

    def unseen_error(penalty: float) -> float:
        """Squared error on each fold of the fit to the others."""
        fits = ((_solve(whole - fold, penalty), fold) for fold in products)
        return sum(_squared_error(found, fold) for found, fold in fits)

    found = _solve(whole, min(PENALTIES, key=unseen_error)).float()  # (d + 1,)
    return found[:-1], found[-1]


def _solve(products: Tensor, penalty: float) -> Tensor:
    """Weight and bias that fit best; (d + 1,) from (d + 2, d + 2)."""
    left = products[:-1, :-1].clone()  # (d + 1, d + 1)
    left.diagonal().add_(1e-6)  # else nothing could be solved where a fold holds all prompts
    left.diagonal()[:-1].add_(penalty * left.diagonal()[:-1].mean().item())
    found: Tensor = torch.linalg.solve(left, products[:-1, -1])
    return found


def _squared_error(found: Tensor, products: Tensor) -> float:
    """Sum of the squared errors on the tokens of these products."""
    difference = torch.cat([found, found.new_tensor([-1.0])])  # (d + 2,): prediction minus return
    return (difference @ products @ difference).item()
