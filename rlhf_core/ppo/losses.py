"""What TRL's GRPO trainer does not have: the clipped value loss, and a KL that stops training.

Shapes: B responses in the batch, T response tokens. ``mask`` is True on real tokens.
"""

from torch import Tensor

from rlhf_core.errors import DivergenceError

EXPLODED = 10.0  # nats per token: each token about e^10 times less likely under the base


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean over the real tokens of the whole batch; a scalar from (B, T)."""
    return values.masked_fill(~mask, 0.0).sum() / mask.sum().clamp(min=1)


def clipped_value_loss(
    values: Tensor, old_values: Tensor, returns: Tensor, mask: Tensor, *, cliprange: float
) -> Tensor:
    """Half the squared error of the critic, which is not paid for moving beyond the clip.

    Args:
        values: The critic's values now. (B, T)
        old_values: Its values at the time of the rollout. (B, T)
        returns: What it should have said. (B, T)
        mask: True on response tokens. (B, T)
        cliprange: How far a value may move from its old one.

    Source:
        Huang et al. 2022, "The 37 implementation details of PPO", detail 9.
    """
    clipped = old_values + (values - old_values).clamp(-cliprange, cliprange)  # (B, T)
    # the larger error counts: beyond the clip it is the clipped one, which has no gradient
    worst = ((values - returns) ** 2).max((clipped - returns) ** 2)
    return 0.5 * masked_mean(worst, mask)


def require_bounded_kl(kl: float, length: float) -> None:
    """Raise ``DivergenceError`` if the policy says what the base would never say.

    Args:
        kl: Nats per response.
        length: Mean tokens of a response.
    """
    if kl > EXPLODED * length:
        raise DivergenceError(
            f"the KL to the base is {kl:.0f} nats a response of {length:.0f} tokens; training was "
            f"stopped. Lower the learning rate or raise kl_coef and try again"
        )
