"""The average of a policy's weights over its iterations, which is smoother than the last ones.

Weights of ``decay ** age``, corrected so that they sum to 1 from the first iteration on: a stage of
thirty iterations would else be mostly its own start.

Source: Ouyang et al. 2022, arXiv:2203.02155, appendix C.4 (decay 0.992, 500 iterations); the
correction is Adam's, Kingma and Ba 2015, arXiv:1412.6980, section 3.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn


class WeightAverage:
    """Exponential moving average of some parameters."""

    def __init__(self, parameters: Sequence[nn.Parameter], decay: float) -> None:
        self._parameters, self._decay = list(parameters), decay
        self._sums = [torch.zeros_like(p) for p in self._parameters]
        self._whole = 0.0  # what the weights of the average sum to

    @torch.no_grad()
    def update(self) -> None:
        """Take the parameters' present values into the average."""
        for total, parameter in zip(self._sums, self._parameters, strict=True):
            total.lerp_(parameter, 1 - self._decay)
        self._whole = self._decay * self._whole + 1 - self._decay

    @torch.no_grad()
    def apply(self) -> None:
        """Give the parameters the average; without an update they stay as they are."""
        if self._whole:
            for total, parameter in zip(self._sums, self._parameters, strict=True):
                parameter.copy_(total / self._whole)

    def tensors(self) -> dict[str, Tensor]:
        """What has to be kept to go on later."""
        named = {f"average/{i}": total for i, total in enumerate(self._sums)}
        return named | {"average/whole": torch.tensor(self._whole, dtype=torch.float64)}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on from what ``tensors`` gave."""
        for i, total in enumerate(self._sums):
            total.copy_(tensors[f"average/{i}"])
        self._whole = tensors["average/whole"].item()
