"""Muon: momentum whose matrices are made orthogonal, for small bases that learn fast.

AdamW mostly strengthens the few directions in which gradients are large. Muon gives every direction
of an update the same size, so that a base needs less than three quarters of the steps (decision
0049). `torch.optim.Muon` multiplies in bf16, which is many times slower on processors that lack it,
and one matrix at a time. This is the same in float32, for all matrices of one shape at once.

Source: Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks"; the rate is
scaled as in Liu et al. 2025, arXiv:2502.16982, section 2.2, so that AdamW's fits.
"""

from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import Tensor, nn

MOMENTUM = 0.95
ITERATIONS = 5
# of a polynomial that makes singular values about 1; they need not be exact
COEFFICIENTS = (3.4445, -4.7750, 2.0315)


class Muon(torch.optim.Optimizer):
    """The optimizer of a network's matrices; embeddings, heads and vectors need another one.

    Args:
        matrices: Weights with two dimensions.
        lr: As AdamW's: updates have its usual root mean square of 0.2.
    """

    def __init__(self, matrices: Iterable[nn.Parameter], *, lr: float) -> None:
        super().__init__(matrices, {"lr": lr})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Change the weights by the gradients that they have."""
        for group in self.param_groups:
            alike: dict[torch.Size, list[Tensor]] = defaultdict(list)
            for weights in group["params"]:
                alike[weights.shape].append(weights)
            for shape, same in alike.items():
                updates = torch.stack([self._accelerated(weights) for weights in same])
                rate = group["lr"] * 0.2 * max(shape) ** 0.5
                for weights, update in zip(same, orthogonal(updates), strict=True):
                    weights.sub_(update, alpha=rate)

    def _accelerated(self, weights: Tensor) -> Tensor:
        """The gradient with Nesterov's momentum."""
        if "momentum" not in self.state[weights]:
            self.state[weights]["momentum"] = torch.zeros_like(weights)
        momentum: Tensor = self.state[weights]["momentum"]
        assert weights.grad is not None
        momentum.lerp_(weights.grad, 1 - MOMENTUM)
        return weights.grad.lerp(momentum, MOMENTUM)


def orthogonal(matrices: Tensor) -> Tensor:
    """Nearly the closest matrices whose singular values are 1, by Newton and Schulz; (n, a, b)."""
    a, b, c = COEFFICIENTS
    x: Tensor = matrices / matrices.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-7)
    tall = x.shape[-2] > x.shape[-1]
    x = x.mT if tall else x
    for _ in range(ITERATIONS):
        square = x @ x.mT
        x = a * x + (b * square + c * square @ square) @ x
    found: Tensor = x.mT if tall else x
    return found
