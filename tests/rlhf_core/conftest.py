"""A tiny random Llama with a byte-level tokenizer, written to disk once per session."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from feedback_store import BASE_ADAPTER, CandidateReply, FeedbackStore
from rlhf_core.config import (
    CycleSettings,
    GateSettings,
    PolicySettings,
    ReplySettings,
    RewardSettings,
    SFTSettings,
)
from rlhf_core.model.base_model import Base
from rlhf_core.model.loading import load_base
from rlhf_core.records import ChatMessage
from tests.rlhf_core.templates import TINY, Kind, tokenizer_of


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    return tokenizer_of(TINY)


def save_tiny_model(path: Path, tokenizer: PreTrainedTokenizerFast, **declared: Any) -> Path:
    """A random model with a tokenizer; ``declared`` goes into its generation config."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        initializer_range=0.1,  # larger than usual, so that outputs depend on inputs
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=tokenizer.bos_token_id,
    )
    model = LlamaForCausalLM(config)
    if tokenizer.pad_token_id == tokenizer.eos_token_id:
        with torch.no_grad():  # a fresh model's padding is all zeros, and could never be predicted
            model.get_input_embeddings().weight[tokenizer.pad_token_id].normal_(std=0.1)
    model.generation_config.update(**declared)
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


@pytest.fixture(scope="session")
def model_path(
    tmp_path_factory: pytest.TempPathFactory, tokenizer: PreTrainedTokenizerFast
) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("tiny"), tokenizer)


@pytest.fixture
def load_tiny(tmp_path: Path, short: ReplySettings) -> Callable[..., Base]:
    """Loads a random model of a kind, with what its generation config declares."""

    def load(kind: Kind, reply: ReplySettings = short, **declared: Any) -> Base:
        path = save_tiny_model(tmp_path / "model", tokenizer_of(kind), **declared)
        return load_base(str(path), quantization="none", device="cpu", reply=reply)

    return load


@pytest.fixture(scope="session")
def short() -> ReplySettings:
    """A contract of short replies, so that tests are quick."""
    return ReplySettings(prompt_tokens=128, tokens=8)


@pytest.fixture(scope="session")
def loaded_base(model_path: Path, short: ReplySettings) -> Base:
    return load_base(str(model_path), quantization="none", device="cpu", reply=short)


@pytest.fixture
def base(loaded_base: Base) -> Base:
    """A base of the test's own: a copy takes a fifth of the time that loading takes."""
    return copy.deepcopy(loaded_base)


@pytest.fixture
def said() -> Callable[[str], list[ChatMessage]]:
    """A conversation of one message."""
    return lambda text: [{"role": "user", "content": text}]


@pytest.fixture
def disturb() -> Callable[..., None]:
    """Give an adapter weights that change the output."""

    def change(base: Base, adapter: str, *, seed: int = 0, size: float = 0.1) -> None:
        generator = torch.Generator().manual_seed(seed)
        for name, parameter in base.model.named_parameters():
            if f".{adapter}." in name:
                parameter.data += size * torch.randn(parameter.shape, generator=generator)

    return change


def prefer_the_kind_reply(
    store: FeedbackStore, rater: str, number: int, choice: str = "a", prompt: str | None = None
) -> None:
    conversation = store.add_conversation(rater).id
    asked = store.add_message(conversation, "user", prompt or f"What is {number} plus 1?")
    replies = [
        CandidateReply(
            content=f"{word} {number}",
            adapter=BASE_ADAPTER,
            sampling={},
            seed=0,
            finish_reason="stop",
        )
        for word in ("kind", "rude")
    ]
    candidates, _ = store.add_candidates(asked.id, replies, rater_id=rater)
    store.add_choice(candidates, rater, choice, idempotency_key=f"vote-{number}")


@pytest.fixture
def vote() -> Callable[..., None]:
    """Has a rater choose between two replies; unless told otherwise, the kind one."""
    return prefer_the_kind_reply


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data directory with 40 votes of five raters, and twelve demonstrations."""
    data = tmp_path / "data"
    data.mkdir()
    with FeedbackStore(data / "feedback.db") as store:
        raters = [store.add_rater(f"rater-{n}", kind="simulated").id for n in range(5)]
        for number in range(40):
            prefer_the_kind_reply(store, raters[number % 5], number)
        rater = store.add_rater("writer", kind="simulated").id
        for number in range(12):
            asked = [{"role": "user", "content": f"Name thing {number}."}]
            store.add_demonstration(
                rater, f"thing {number}", prompt=asked, idempotency_key=f"own-{number}"
            )
    return data


@pytest.fixture(scope="session")
def small_cycle() -> CycleSettings:
    """Settings of a cycle of seconds."""
    return CycleSettings(
        min_comparisons=10,
        full_comparisons=0,
        sft=SFTSettings(min_demonstrations=2, epochs=1, min_steps=4, batch_size=4),
        reward=RewardSettings(members=1, min_steps=12, batch_size=8, learning_rate=1e-2),
        policy=PolicySettings(iterations=3, batch_size=8, minibatch_size=8, kl_budget=1e9),
        gate=GateSettings(prompts=20, min_prompts=2, packaged_probes=False),
    )
