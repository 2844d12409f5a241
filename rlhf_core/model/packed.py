"""Weights in the order in which a CPU multiplies them, for decoding many rows at once.

A matrix product of a few rows spends most of its time on putting the weights in order, anew for
each token. oneDNN takes weights that were put in order once. They are a second copy: the first one
is what embeddings, digests and training read.
"""

from typing import Any

import torch
from torch import Tensor, nn

LEAST = 300_000  # weights of a layer, below which the plain product is as fast or faster
ROWLESS = 2**22  # weights of a layer, from which on even a single row gains


class PackedLinear(nn.Linear):
    """A linear layer of frozen weights that multiplies by their packed copy, without gradients."""

    packed: Tensor

    def forward(self, input: Tensor) -> Tensor:
        """As `nn.Linear`, but for rounding; (..., in) to (..., out)."""
        few = input.numel() == self.in_features and self.weight.numel() < ROWLESS
        if few or torch.is_grad_enabled() or input.dtype != torch.float32:
            return super().forward(input)
        out: Tensor = torch.ops.mkldnn._linear_pointwise(
            input, self.packed, self.bias, "none", [], ""
        )
        return out


@torch.no_grad()
def pack(model: Any, *, most: int, least: int = LEAST) -> int:
    """Pack large frozen linear layers in float32 on a CPU; the weights must not change any more.

    Args:
        model: The network.
        most: Bytes of the copies at most; if they would take more, nothing is packed.
        least: Weights of a layer at least; smaller ones stay as they are.

    Returns:
        Bytes of the copies.
    """
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return 0
    layers = [layer for layer in model.modules() if _is_packable(layer, least)]
    total: int = sum(layer.weight.nbytes for layer in layers)
    if total > most:
        return 0
    for layer in layers:
        layer.__class__ = PackedLinear
        layer.packed = torch.ops.mkldnn._reorder_linear_weight(layer.weight)
    return total


def _is_packable(layer: Any, least: int) -> bool:
    if type(layer) is not nn.Linear or layer.weight.requires_grad or layer.weight.numel() < least:
        return False
    return layer.weight.device.type == "cpu" and layer.weight.dtype == torch.float32
