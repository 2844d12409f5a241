"""The KL that no working policy reaches."""

from rlhf_core.errors import DivergenceError

EXPLODED = 10.0  # nats per token: each token about e^10 times less likely under the base


def require_bounded_kl(kl: float, length: float) -> None:
    """Raise ``DivergenceError`` if a KL of so many nats per response means a broken policy.

    Args:
        kl: Nats per response.
        length: Mean tokens of a response.
    """
    if kl > EXPLODED * length:
        raise DivergenceError(
            f"the KL to the base is {kl:.0f} nats a response of {length:.0f} tokens; training was "
            f"stopped. Lower the learning rate or raise kl_coef and try again"
        )
