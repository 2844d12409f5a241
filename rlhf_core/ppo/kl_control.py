"""How far the policy may move: the weight of the KL penalty, and the budget that ends the stage.

The penalty pulls towards the stage's reference, which is another one in every cycle. The budget is
counted from the bare base, the same in every cycle, so that many cycles cannot drift without end;
it is the KL that the gate looks at.
"""

from rlhf_core.errors import DivergenceError

MAX_ERROR = 0.2  # Ziegler et al. 2019, section 2.2
EXPLODED = 10.0  # nats per token: each token about e^10 times less likely under the base


class KLController:
    """The weight of the KL penalty: fixed, or steered so that the KL stays near a target.

    Args:
        coef: Weight to begin with.
        target: KL per response in nats; ``None`` keeps the weight fixed.
        horizon: Episodes over which an error of ``MAX_ERROR`` changes the weight by that share.

    Source:
        Ziegler et al. 2019, arXiv:1909.08593, section 2.2.
    """

    def __init__(self, coef: float, *, target: float | None, horizon: int) -> None:
        self.coef, self._target, self._horizon = coef, target, horizon

    def update(self, kl: float, episodes: int) -> None:
        """Take note of a rollout's KL."""
        if self._target is not None:
            error = min(max(kl / self._target - 1, -MAX_ERROR), MAX_ERROR)
            self.coef *= 1 + error * episodes / self._horizon


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
