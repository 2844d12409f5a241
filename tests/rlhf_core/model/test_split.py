import pytest
import torch
from torch.testing import assert_close
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    Gemma2Config,
    Gemma3TextConfig,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    MistralConfig,
    Qwen2Config,
)

from rlhf_core.model.base_model import Base
from rlhf_core.model.split import lower_part, splits, upper_part, whole_pass

LAYERS, VOCABULARY = 4, 320
SIZE = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 2,
    "initializer_range": 0.2,
}
LLAMA_LIKE = SIZE | {"intermediate_size": 64, "num_key_value_heads": 2, "head_dim": 16}
OF_GPT2 = {"n_embd": 32, "n_layer": LAYERS, "n_head": 2}
WINDOW = {"sliding_window": 3}  # shorter than the rows: other masks in some layers
CONFIGS = {
    "llama": LlamaConfig(**LLAMA_LIKE),
    "qwen2": Qwen2Config(**LLAMA_LIKE),
    "mistral": MistralConfig(**LLAMA_LIKE, **WINDOW),
    "gemma2": Gemma2Config(**LLAMA_LIKE, **WINDOW),
    "gemma3": Gemma3TextConfig(**LLAMA_LIKE, **WINDOW),
    "neox": GPTNeoXConfig(**SIZE, intermediate_size=64),
    "gpt2": GPT2Config(vocab_size=VOCABULARY, **OF_GPT2, bos_token_id=0, eos_token_id=0),
    "bloom": BloomConfig(vocab_size=VOCABULARY, hidden_size=32, n_layer=LAYERS, n_head=2),
}


def random_base(name, tokenizer) -> Base:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(CONFIGS[name])
    return Base(model.requires_grad_(False).eval(), tokenizer)


@pytest.fixture
def rows(base):
    return base.pad([[5, 9, 30, 40, 7, 8, 99], [11, 12, 13]], side="right")


@pytest.mark.parametrize("name", sorted(CONFIGS.keys() - {"bloom"}))
@pytest.mark.parametrize("depth", [1, 3])
def test_the_two_parts_of_a_pass_give_what_the_whole_gives(name, depth, tokenizer, rows):
    base = random_base(name, tokenizer)
    ids, mask = rows
    assert splits(base, depth)
    states = lower_part(base, depth, ids, mask)
    states[mask == 0] = 0  # as when it was kept without padding
    found = upper_part(base, depth, states, ids, mask)
    whole = whole_pass(base, ids, mask)
    assert_close(found[mask.bool()], whole[mask.bool()])


def test_a_model_whose_layers_give_tuples_is_not_split(tokenizer):
    assert not splits(random_base("bloom", tokenizer), 2)


def test_a_layer_that_changes_more_than_hidden_states_is_noticed(base):
    """A layer that leaves something to a later one, outside of the hidden states."""
    first, second = base.layers
    lower, upper, left = first.forward, second.forward, {}

    def leave(states, **more):
        left["states"] = states
        return lower(states, **more)

    def take(states, **more):
        return upper(states + left["states"], **more)

    first.forward, second.forward = leave, take
    assert not splits(base, 1)
    assert (first.forward, second.forward) == (leave, take)  # and nothing is left changed


def test_afterwards_the_layers_are_as_before(base, rows):
    before = whole_pass(base, *rows)
    upper_part(base, 1, lower_part(base, 1, *rows), *rows)
    assert torch.equal(whole_pass(base, *rows), before)
    assert not any("forward" in layer.__dict__ for layer in base.layers)


def test_gradients_reach_the_upper_layers_alone(base, rows):
    base.attach("m0")
    with base.training("m0", above=1):
        upper_part(base, 1, lower_part(base, 1, *rows), *rows).sum().backward()
    trained = {n for n, p in base.model.named_parameters() if p.grad is not None}
    assert trained and all(".layers.1." in name for name in trained)
