import pytest

from rlhf_core.errors import ModelError
from rlhf_core.model.facts import machine_facts, model_facts


def test_facts_are_those_of_the_loaded_model_though_no_weights_are_read(model_path, base):
    found, config = model_facts(str(model_path)), base.model.config
    assert found.parameters == base.model.num_parameters()
    blocks = [p.numel() for n, p in base.model.named_parameters() if "_proj" in n]
    assert found.linear_parameters == sum(blocks)
    assert (found.layers, found.width) == (config.num_hidden_layers, config.hidden_size)
    assert (found.vocabulary, found.context) == (config.vocab_size, 512)
    assert found.cache_width == 2 * 64  # keys and values of two heads of 32 numbers


def test_a_model_without_a_configuration_is_refused(tmp_path):
    with pytest.raises(ModelError, match=r"configuration of model .* cannot be read"):
        model_facts(str(tmp_path))


def test_a_machine_has_less_free_memory_than_memory():
    found = machine_facts()
    assert 0 < found.free <= found.memory
    assert found.cores >= 1
