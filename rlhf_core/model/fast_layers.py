"""Layers that decode many rows faster: packed weights, and several adapters in one product.

A matrix product of a few rows spends most of its time on putting the weights in order, anew for
each token. oneDNN takes weights that were put in order once. They are a second copy: the first one
is what embeddings, digests and training read.

PEFT's way to several adapters in one batch gathers the rows of each adapter, in each layer, one
adapter after the other. A `Mixture` has the matrices of all side by side, as one adapter whose
rank is the sum of theirs, and keeps of each row the part of its own.

Letters: B rows, T tokens of a row, R ranks of all adapters.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LEAST = 300_000  # weights of a layer, below which the plain product is as fast or faster
MIXED = "__mixed__"  # PEFT's name for a mixture
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


class Mixture:
    """Several adapters as one adapter of PEFT's, called `MIXED`.

    It copies their weights, so it is of no use once one of them changes.

    Args:
        layers: PEFT's layers of the base.
        names: The adapters; `can_mix` says whether they can be mixed.
    """

    @torch.no_grad()
    def __init__(self, layers: Sequence[Any], names: Sequence[str]) -> None:
        self.names, self._layers = tuple(names), layers
        ranks = [layers[0].r[name] for name in names]
        own = torch.arange(len(names)).repeat_interleave(torch.tensor(ranks))
        device = layers[0].lora_A[names[0]].weight.device
        self._own = torch.eye(len(names) + 1)[:, own].to(device)  # the last row: no adapter
        self.mask = self._own  # (B, 1, R), of the rows that `choose` was told
        for layer in layers:
            first = torch.cat([layer.lora_A[name].weight for name in names])
            second = [layer.lora_B[name].weight * layer.scaling[name] for name in names]
            layer.lora_A[MIXED] = _MaskedLinear(first, self)
            layer.lora_B[MIXED] = _PlainLinear(torch.cat(second, 1))
            layer.lora_dropout[MIXED], layer.scaling[MIXED] = nn.Identity(), 1.0

    def has(self, names: Sequence[str]) -> bool:
        """Whether all these adapters are in it."""
        return set(self.names).issuperset(names)

    def choose(self, names: Sequence[str | None]) -> None:
        """Give each row of the next passes its adapter."""
        places = [len(self.names) if name is None else self.names.index(name) for name in names]
        self.mask = self._own[places][:, None]

    def remove(self) -> None:
        """Take it off the layers."""
        for layer in self._layers:
            for of_adapters in (layer.lora_A, layer.lora_B, layer.lora_dropout, layer.scaling):
                of_adapters.pop(MIXED)


def can_mix(layers: Sequence[Any], names: Sequence[str]) -> bool:
    """Whether adapters can be one: plain LoRA of linear layers, in all layers, of one rank each."""
    return all(
        name in layer.lora_A
        and type(layer.lora_A[name]) is nn.Linear
        and layer.lora_B[name].bias is None
        and name not in layer.lora_variant
        and layer.r[name] == layers[0].r[name]
        for layer in layers
        for name in names
    )


class _PlainLinear(nn.Module):
    """A product with weights that no state has: (..., in) to (..., out)."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = weight  # a plain attribute: it is no parameter and in no state

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight)


class _MaskedLinear(_PlainLinear):
    """(B, T, in) to (B, T, R), zero where the rank is not of the row's adapter."""

    def __init__(self, weight: Tensor, mixture: Mixture) -> None:
        super().__init__(weight)
        self._mixture = [mixture]  # a list: nothing of it is in a state

    def forward(self, x: Tensor) -> Tensor:
        mask = self._mixture[0].mask
        if x.dim() != 3 or len(x) != len(mask):  # `Base.mixing` tries it before it is used
            raise ValueError(f"a mixture of {len(mask)} rows cannot mask {tuple(x.shape)}")
        return super().forward(x) * mask
