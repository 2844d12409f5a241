import json

import pytest
from transformers import CONFIG_MAPPING

from rlhf_core.errors import ModelError
from rlhf_core.model import facts
from rlhf_core.model.facts import machine_facts, model_facts


def test_facts_are_those_of_the_loaded_model_though_no_weights_are_read(model_path, base):
    found, config = model_facts(str(model_path)), base.model.config
    assert found.parameters == base.model.num_parameters()
    blocks = [p.numel() for n, p in base.model.named_parameters() if "_proj" in n]
    assert found.linear_parameters == sum(blocks)
    assert (found.layers, found.width) == (config.num_hidden_layers, config.hidden_size)
    assert (found.vocabulary, found.context) == (config.vocab_size, 512)
    assert found.cache_width == 2 * 64  # keys and values of two heads of 32 numbers


TINY = {"vocab_size": 330, "hidden_size": 32, "num_attention_heads": 2, "num_hidden_layers": 6}
KINDS = {"layer_types": ["sliding_attention", "full_attention"] * 3, "num_key_value_heads": 1}
UNLIKE = {  # by kind: its configuration, and numbers in the cache for one token and layer
    "falcon": ({}, 2 * 16),  # one head of keys and values, whatever `num_attention_heads`
    "deepseek_v3": ({"kv_lora_rank": 8, "qk_rope_head_dim": 8, "first_k_dense_replace": 6}, 16),
    "gemma4_text": ({**KINDS, "head_dim": 16, "global_head_dim": 32}, 2 * (16 + 32) / 2),
    "gemma3n_text": ({**KINDS, "head_dim": 16, "num_kv_shared_layers": 3}, 2 * 16 / 2),
}


@pytest.mark.parametrize("kind", UNLIKE)
def test_the_cache_is_counted_however_a_model_names_its_heads(tmp_path, kind):
    own, width = UNLIKE[kind]
    if kind == "gemma3n_text":
        own = own | {"activation_sparsity_pattern": [0.0] * 6}
    CONFIG_MAPPING[kind](**TINY, **own).save_pretrained(tmp_path)
    assert model_facts(str(tmp_path)).cache_width == width


def test_a_model_without_a_configuration_is_refused(tmp_path):
    with pytest.raises(ModelError, match=r"configuration of model .* cannot be read"):
        model_facts(str(tmp_path))


def test_a_model_that_is_no_decoder_is_refused_in_one_line(tmp_path):
    kinds = {"t5": "T5Model", "mamba": "MambaForCausalLM"}
    for kind, name in kinds.items():
        config = {"model_type": kind, "architectures": [name]}
        (tmp_path / "config.json").write_text(json.dumps(config))
        with pytest.raises(ModelError, match=rf"type '{kind}' is not a decoder [^\n]+$"):
            model_facts(str(tmp_path))


def test_memory_is_what_the_container_allows(tmp_path, monkeypatch):
    monkeypatch.setattr(facts, "CONTAINER", tmp_path)
    whole = machine_facts()
    (tmp_path / "memory.current").write_text("300000000\n")
    (tmp_path / "memory.stat").write_text("anon 5\ninactive_file 100000000\n")
    (tmp_path / "memory.max").write_text("max\n")
    assert machine_facts().memory == whole.memory
    (tmp_path / "memory.max").write_text("500000000\n")
    found = machine_facts()
    assert (found.memory, found.free) == (500_000_000, 300_000_000)


@pytest.mark.parametrize(("limit", "cores"), [("150000 100000", 2), ("10000 100000", 1)])
def test_processors_are_those_whose_time_the_container_may_use(tmp_path, monkeypatch, limit, cores):
    monkeypatch.setattr(facts, "CONTAINER", tmp_path)
    whole = machine_facts().cores
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert machine_facts().cores == whole
    (tmp_path / "cpu.max").write_text(f"{limit}\n")
    assert machine_facts().cores == min(whole, cores)


def test_a_machine_has_less_free_memory_than_memory():
    found = machine_facts()
    assert 0 < found.free <= found.memory
    assert found.cores >= 1
