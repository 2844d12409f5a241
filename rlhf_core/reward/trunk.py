"""The layers that all members of an ensemble have in common, run once for each response.

Members train only their upper layers. Below, they are copies of one adapter, so the hidden states
of a response are the same for all members, in every epoch and whenever it is scored. They are
computed once and kept, within a budget of memory; beyond it they are computed again.

Shapes: R responses, T tokens of the longest, d numbers in a hidden state.
"""

import logging
from collections.abc import Callable, Collection, Sequence
from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn

from rlhf_core.model.base_model import Base
from rlhf_core.model.split import lower_part, splits
from rlhf_core.model.token_batches import pass_tokens, token_batches

log = logging.getLogger(__name__)
Tokens = tuple[int, ...]


def first_trained_layer(base: Base, share: float) -> int:
    """The number of the lowest layer that trains, if this share of the layers does."""
    n = len(base.layers)
    return n - max(1, round(share * n)) if n else 0


def common_layers(base: Base, adapters: Sequence[str]) -> int:
    """How many of the lowest layers are the same whichever of the adapters is active."""
    layers = base.layers
    inside = {module for layer in layers for module in layer.modules()}
    outside = [module for module in base.model.modules() if module not in inside]
    parts: list[Collection[nn.Module]] = [outside, *(list(layer.modules()) for layer in layers)]
    for number, part in enumerate(parts):
        tuned: list[Any] = [module for module in part if isinstance(module, BaseTunerLayer)]
        if not all(_same(module, adapters[0], other) for module in tuned for other in adapters[1:]):
            return max(0, number - 1)
    return max(0, len(layers) - 1)  # one has to be left to run for each member


def _same(module: Any, one: str, other: str) -> bool:
    """Whether two adapters change a module's output in the same way."""
    (a, b, scale), (other_a, other_b, other_scale) = (
        (module.lora_A[name].weight, module.lora_B[name].weight, module.scaling[name])
        for name in (one, other)
    )
    if not b.any() and not other_b.any():
        return True  # new adapters, without effect
    same = torch.equal(b, other_b) and torch.equal(a, other_a)
    return bool(same and scale == other_scale)


class Trunk:
    """The lowest layers of one adapter, and what they made of responses.

    Args:
        base: The shared base.
        adapter: The adapter; all that share the trunk have the same one below `depth`.
        depth: How many layers; 0 keeps nothing, and members run whole passes.
        most_bytes: Most memory for what is kept.
    """

    def __init__(self, base: Base, adapter: str, depth: int, *, most_bytes: int = 0) -> None:
        self._base, self._adapter, self._left = base, adapter, most_bytes
        self._kept: dict[Tokens, Tensor] = {}
        with base.using(adapter):
            self.depth = depth if depth and splits(base, depth) else 0
        if depth and not self.depth:
            log.info("this model's layers cannot be run in two parts; whole passes take longer")

    def read(self, rows: Collection[Tokens], *, done: Callable[[int], None] | None = None) -> None:
        """Compute and keep the hidden states of responses, as far as memory is allowed.

        Args:
            rows: Token ids of prompts with their responses.
            done: Called with the number of responses that were read last.
        """
        if not self.depth:
            return
        new = sorted({row for row in rows if row not in self._kept})
        lengths = [len(row) for row in new]
        for places in token_batches(lengths, tokens=pass_tokens(self._base.device)):
            part = [new[place] for place in places]
            size = sum(map(len, part)) * self._width * self._base.model.dtype.itemsize
            if size > self._left:
                return
            self._left -= size
            for row, states in zip(part, self._compute(part), strict=True):
                self._kept[row] = states[: len(row)].cpu().clone()  # (T, d)
            if done is not None:
                done(len(part))

    def states(self, rows: Sequence[Tokens]) -> Tensor:
        """Hidden states of responses, 0 at padding; (R, T, d). There are none without a layer."""
        missing = [row for row in dict.fromkeys(rows) if row not in self._kept]
        found = dict(zip(missing, self._compute(missing), strict=True)) if missing else {}
        some = next(iter(found.values())) if found else self._kept[rows[0]]
        out = some.new_zeros(len(rows), max(map(len, rows)), self._width)  # (R, T, d)
        for place, row in zip(out, rows, strict=True):
            place[: len(row)] = self._kept[row] if row in self._kept else found[row][: len(row)]
        return out

    def forget(self) -> None:
        """Free the memory; from now on hidden states are computed when they are asked for."""
        self._kept.clear()
        self._left = 0

    @property
    def _width(self) -> int:
        return int(self._base.model.config.get_text_config().hidden_size)

    def _compute(self, rows: Sequence[Tokens]) -> Tensor:
        ids, mask = self._base.pad(rows, side="right")
        with self._base.using(self._adapter):
            return lower_part(self._base, self.depth, ids, mask)  # (R, T, d)
