import pytest
import torch
from torch.testing import assert_close

from rlhf_core.config import LoraSettings
from rlhf_core.model.split import lower_part
from rlhf_core.reward.trunk import Trunk, common_layers, first_trained_layer

ROWS = [(5, 6, 7, 8), (9, 10), (5, 6, 11)]


@pytest.fixture
def passes(base):
    """How many rows each pass through the lowest layer had."""
    counts: list[int] = []
    base.layers[0].register_forward_pre_hook(lambda _, given: counts.append(len(given[0])))
    return counts


def trunk_of(base, **more):
    base.attach("m0", seed=1)
    return Trunk(base, "m0", 1, **more)


def test_what_is_kept_is_what_the_lower_layers_make_of_each_response(base):
    trunk = trunk_of(base, most_bytes=1 << 20)
    trunk.read(ROWS)
    ids, mask = base.pad(ROWS, side="right")
    found = trunk.states(ROWS)
    assert_close(found, lower_part(base, 1, ids, mask) * mask[:, :, None])


def test_each_response_is_run_once_whatever_is_asked_for_later(base, passes):
    trunk = trunk_of(base, most_bytes=1 << 20)
    del passes[:]
    trunk.read([*ROWS, ROWS[0]])
    for _ in range(3):
        trunk.states(ROWS[1:])
    assert sum(passes) == len(ROWS)


@pytest.mark.parametrize("most_bytes", [0, 64 * 4 * 5])  # room for nothing, or not for all
def test_what_has_no_room_is_computed_again_and_is_the_same(base, most_bytes):
    trunk = trunk_of(base, most_bytes=most_bytes)
    trunk.read(ROWS)
    ids, mask = base.pad(ROWS, side="right")
    assert_close(trunk.states(ROWS), lower_part(base, 1, ids, mask) * mask[:, :, None])


def test_it_runs_its_own_adapter_whichever_is_active(base, disturb):
    trunk = trunk_of(base)
    disturb(base, "m0")
    base.attach("other")
    with base.using("m0"):
        wanted = trunk.states(ROWS)
    with base.using("other"):
        found = trunk.states(ROWS)
        assert base.active == "other"
    assert_close(found, wanted)


@pytest.mark.parametrize(("share", "first"), [(1.0, 0), (0.5, 1), (0.01, 1)])
def test_at_least_one_layer_trains(base, share, first):
    assert first_trained_layer(base, share) == first


def change(base, adapter, layer):
    for name, parameter in base.model.named_parameters():
        if f".layers.{layer}." in name and f"lora_B.{adapter}." in name:
            parameter.data += 0.1


def test_new_adapters_share_all_layers_but_one_and_trained_ones_those_that_are_equal(base):
    for number in range(2):
        base.attach(f"m{number}", seed=number)  # other weights, without effect yet
    assert common_layers(base, ["m0", "m1"]) == 1
    change(base, "m0", 1)
    assert common_layers(base, ["m0", "m1"]) == 1
    change(base, "m1", 0)
    assert common_layers(base, ["m0", "m1"]) == 0


def test_adapters_of_another_scale_share_nothing(base):
    for number, alpha in enumerate((16, 32)):
        base.attach(f"m{number}", lora=LoraSettings(alpha=alpha), seed=0)
        change(base, f"m{number}", 0)
    assert common_layers(base, ["m0", "m1"]) == 0


def test_copies_share_what_they_began_as(base, disturb):
    base.attach("reference")
    disturb(base, "reference")
    for number in range(3):
        base.copy_adapter("reference", f"m{number}")
        change(base, f"m{number}", 1)
    assert common_layers(base, ["m0", "m1", "m2"]) == 1
    with torch.no_grad():
        change(base, "m2", 0)
    assert common_layers(base, ["m0", "m1", "m2"]) == 0
