"""A tiny random model on disk, its adapters, and services on it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from chat_app.settings import EngineSettings
from rlhf_core.config import LoraSettings
from rlhf_core.model.adapters import publish_adapter
from tests.chat_app.serving import Running, running, tiny_base

TEMPLATE = (
    "{% for m in messages %}<{{ m['role'][0] }}>{{ m['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}<a>{% endif %}"
)


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """One token a byte, so that a random model writes broken characters all the time."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate(["<pad>", "<eos>", *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>")
    fast.chat_template = TEMPLATE
    return fast


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory of a random Llama with a byte tokenizer and a chat template."""
    path = tmp_path_factory.mktemp("tiny-model")
    torch.manual_seed(0)
    tokenizer = tiny_tokenizer()
    config = LlamaConfig(
        vocab_size=320,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        initializer_range=0.3,  # large, so that replies depend on everything before them
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
    )
    model = LlamaForCausalLM(config)
    with torch.no_grad():  # rarely an end, so that tests decide how long replies are
        model.lm_head.weight[: len(tokenizer.all_special_ids)] = 0
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


@pytest.fixture(scope="session")
def tiny_adapters(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory with the adapters policy-000001 and policy-000002, far from the base."""
    root = tmp_path_factory.mktemp("adapters")
    for number in (1, 2):
        base, name = tiny_base(tiny_model), f"policy-{number:06d}"
        torch.manual_seed(number)
        base.attach(name, lora=LoraSettings(rank=4), trainable=True)
        for parameter in base.model.parameters():
            if parameter.requires_grad:
                torch.nn.init.normal_(parameter, std=0.3)
        base.save(name, root / f".{name}")
        publish_adapter(
            root / f".{name}", root / name, kind="policy", base=base.fingerprint, parent=None
        )
    return root


@pytest.fixture
def engine_settings() -> EngineSettings:
    return EngineSettings(rows=8, waiting=8, updates_per_second=1000)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Give torch back the threads it had; engines take one."""
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def served(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One service for all tests of a module."""
    with running(tmp_path_factory.mktemp("data"), tiny_model) as service:
        yield service
