import torch
from torch import nn
from torch.testing import assert_close

from rlhf_core.ppo.weight_average import WeightAverage


def test_the_average_is_that_computed_by_hand():
    weight = nn.Parameter(torch.tensor([1.0]))
    average = WeightAverage([weight], decay=0.5)
    average.update()
    weight.data.fill_(4.0)
    average.update()
    average.apply()
    assert_close(weight.data, torch.tensor([(0.5 * 1 + 1.0 * 4) / 1.5]))


def test_after_one_update_it_is_the_weight_itself_and_before_it_nothing_changes():
    weight = nn.Parameter(torch.tensor([3.0]))
    average = WeightAverage([weight], decay=0.99)
    average.apply()
    assert weight.item() == 3.0
    average.update()
    weight.data.fill_(-1.0)
    average.apply()
    assert_close(weight.data, torch.tensor([3.0]))


def test_it_goes_on_from_what_was_kept():
    weight = nn.Parameter(torch.tensor([1.0]))
    one = WeightAverage([weight], decay=0.9)
    one.update()
    two = WeightAverage([weight], decay=0.9)
    two.restore({name: tensor.clone() for name, tensor in one.tensors().items()})
    weight.data.fill_(2.0)
    found = []
    for average in (one, two):
        weight.data.fill_(2.0)
        average.update()
        average.apply()
        found.append(weight.data.clone())
    assert_close(*found)
