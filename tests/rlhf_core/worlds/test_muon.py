"""Muon in float32 does what torch's own does in bf16."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from rlhf_core.worlds.muon import Muon, orthogonal

SIDES = st.integers(2, 40)


@settings(max_examples=30, deadline=None)
@given(SIDES, SIDES, st.integers(0, 100))
def test_all_singular_values_come_near_to_one(rows: int, columns: int, seed: int) -> None:
    """Whatever the shape and the size of the numbers."""
    torch.manual_seed(seed)
    # singular values of .1 to 1 of the largest; smaller ones need more iterations
    u = torch.linalg.qr(torch.randn(3, rows, min(rows, columns)))[0]
    v = torch.linalg.qr(torch.randn(3, columns, min(rows, columns)))[0]
    values = torch.rand(3, 1, min(rows, columns)) * 0.9 + 0.1
    found = orthogonal(1000 * (u * values) @ v.mT)
    assert found.shape == (3, rows, columns)
    singular = torch.linalg.svdvals(found)
    assert singular.min() > 0.3
    assert singular.max() < 1.4


@pytest.mark.parametrize("shape", [(24, 24), (48, 24), (24, 48)])
def test_steps_are_those_of_torch(shape: tuple[int, int]) -> None:
    """Momentum, orthogonal updates and the scale of the rate; bf16 rounds to about a percent."""
    torch.manual_seed(0)
    start = torch.randn(shape)
    ours, theirs = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    one = Muon([ours], lr=1e-2)
    other = torch.optim.Muon([theirs], lr=1e-2, weight_decay=0.0, adjust_lr_fn="match_rms_adamw")
    for _ in range(5):
        ours.grad = torch.randn(shape)
        theirs.grad = ours.grad.clone()
        one.step()
        other.step()
    moved = (ours - start).norm()
    assert moved > 0.1
    assert (ours - theirs).norm() / moved < 0.03


def test_matrices_of_several_shapes_are_changed_each_by_its_own_gradient() -> None:
    """They are computed together, by shape, and none is mixed up with another."""
    torch.manual_seed(0)
    weights = [nn.Parameter(torch.randn(s)) for s in ((8, 8), (16, 8), (8, 8))]
    grads = [torch.randn_like(w) for w in weights]
    alone = []
    for w, g in zip(weights, grads, strict=True):
        single = nn.Parameter(w.detach().clone())
        single.grad = g.clone()
        Muon([single], lr=1e-2).step()
        alone.append(single)
        w.grad = g
    Muon(weights, lr=1e-2).step()
    for together, single in zip(weights, alone, strict=True):
        torch.testing.assert_close(together, single)
