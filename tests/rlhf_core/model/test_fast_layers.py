"""Packed weights give the same replies; where they cannot be used, nothing changes."""

import copy

import pytest
import torch
from torch import nn

from rlhf_core.model.base_model import Base
from rlhf_core.model.fast_layers import PackedLinear, pack

MB = 2**20


@pytest.fixture
def packed(loaded_base: Base) -> Base:
    base = copy.deepcopy(loaded_base)
    assert pack(base.model, most=MB, least=0) > 0
    return base


def layers(base: Base) -> list[PackedLinear]:
    return [layer for layer in base.model.modules() if isinstance(layer, PackedLinear)]


@pytest.mark.parametrize("rows", [1, 7])
def test_a_packed_model_has_the_same_logits(loaded_base: Base, packed: Base, rows: int) -> None:
    ids = torch.randint(5, 90, (rows, 12))
    with torch.no_grad():
        expected = loaded_base.model(input_ids=ids).logits
        assert torch.allclose(packed.model(input_ids=ids).logits, expected, atol=1e-4)


def test_with_gradients_the_weights_themselves_are_used(packed: Base) -> None:
    layer = layers(packed)[0]
    seen = torch.randn(3, layer.in_features, requires_grad=True)
    expected = nn.functional.linear(seen, layer.weight, layer.bias)
    out = layer(seen)
    assert torch.equal(out, expected)
    out.sum().backward()
    assert seen.grad is not None


def test_an_adapter_is_attached_to_packed_layers_and_digests_stay(
    loaded_base: Base, packed: Base
) -> None:
    before = packed.digest(None)
    packed.attach("one")
    with packed.using("one"), torch.no_grad():
        packed.model(input_ids=torch.tensor([[5, 6, 7]]))
    packed.drop("one")
    assert before == packed.digest(None) == loaded_base.digest(None)


def test_other_kinds_of_weights_are_left_alone() -> None:
    model = nn.Sequential(nn.Linear(4, 4).double(), nn.Linear(4, 4))
    assert pack(model, most=MB) == 0  # of one type that is not packed, and weights that may change
    assert [type(layer) for layer in model] == [nn.Linear, nn.Linear]


def test_what_is_too_large_is_not_packed(loaded_base: Base) -> None:
    base = copy.deepcopy(loaded_base)
    assert pack(base.model, most=1000) == 0 and layers(base) == []
