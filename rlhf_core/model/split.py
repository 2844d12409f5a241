"""A forward pass in two parts: the lower layers, whose result can be kept, and the upper layers.

It is the model's own forward pass: masks, positions and the last norm are made by its own code. For
the lower part, the first layer above raises what it was given, and the pass ends there. For the
upper part, the lowest layer gives what was kept, and the other lower layers pass it on. Models
whose layers give more than hidden states cannot be split; `splits` finds out by trying.

Switching the layers is not safe beside other threads that use the same model, as with adapters.

Shapes: B rows of T tokens, padded on the right; d numbers in a hidden state.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from rlhf_core.model.base_model import Base

TOLERANCE = 1e-4  # of the largest hidden state; the two parts compute what the whole does


_NOT_AS_EXPECTED = (
    AttributeError,
    IndexError,
    KeyError,
    TypeError,
    ValueError,
    RuntimeError,
)


class _EnoughError(Exception):
    """Ends a forward pass; carries the hidden states."""

    def __init__(self, states: Tensor) -> None:
        super().__init__()
        self.states = states


def whole_pass(base: Base, ids: Tensor, mask: Tensor) -> Tensor:
    """The last hidden states of the active adapter; (B, T, d)."""
    decoder = base.model.get_decoder()
    found: Tensor = decoder(
        input_ids=ids, attention_mask=mask, use_cache=False
    ).last_hidden_state  # (B, T, d)
    return found


@torch.no_grad()
def lower_part(base: Base, depth: int, ids: Tensor, mask: Tensor) -> Tensor:
    """The hidden states that the layer number `depth` (from 0) is given; (B, T, d)."""

    def enough(hidden_states: Tensor, *_: Any, **__: Any) -> NoReturn:
        raise _EnoughError(hidden_states)

    with _replaced({base.layers[depth]: enough}):
        try:
            whole_pass(base, ids, mask)
        except _EnoughError as found:
            return found.states
    raise RuntimeError(f"the model never reached its layer {depth}")


def upper_part(base: Base, depth: int, states: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
    """The last hidden states from those that `lower_part` gave; (B, T, d)."""

    def kept(*_: Any, **__: Any) -> Tensor:
        return states

    def unchanged(hidden_states: Tensor, *_: Any, **__: Any) -> Tensor:
        return hidden_states

    lowest, *others = base.layers[:depth]
    with _replaced({lowest: kept} | dict.fromkeys(others, unchanged)):
        return whole_pass(base, ids, mask)


@torch.no_grad()
def splits(base: Base, depth: int) -> bool:
    """Whether the two parts together give what the whole pass gives, on rows of two lengths."""
    ids, mask = _two_rows(base)
    try:
        # what stands at padding must not matter
        states = lower_part(base, depth, ids, mask) * mask[:, :, None]
        whole_pass(base, ids.flip(1), mask)  # what a layer leaves elsewhere is now of other rows
        found = upper_part(base, depth, states, ids, mask)[mask.bool()]
    except _NOT_AS_EXPECTED:
        return False  # its layers take or give something else
    return _same(found, whole_pass(base, ids, mask)[mask.bool()])


def _two_rows(base: Base) -> tuple[Tensor, Tensor]:
    """Token ids and a mask, to try a model on; (2, 7) each."""
    size = base.model.get_input_embeddings().num_embeddings
    ids = (torch.arange(14, device=base.device).reshape(2, 7) * 37 + 11) % size
    mask = torch.ones_like(ids)
    mask[1, 4:] = 0
    return ids, mask


def _same(found: Tensor, wanted: Tensor) -> bool:
    # not finite: whoever trains on that says so better than this can
    close = (found - wanted).abs().max() <= TOLERANCE * wanted.abs().max()
    return bool(close) or not bool(wanted.isfinite().all())


@contextmanager
def _replaced(forward: Mapping[nn.Module, Callable[..., Any]]) -> Iterator[None]:
    """In the block these layers have another forward pass; afterwards their own."""
    # some libraries give a layer a `forward` of its own beside that of its class
    before = {layer: layer.__dict__.get("forward") for layer in forward}
    for layer, function in forward.items():
        layer.__dict__["forward"] = function
    try:
        yield
    finally:
        for layer, own in before.items():
            layer.__dict__.pop("forward")
            if own is not None:
                layer.__dict__["forward"] = own
