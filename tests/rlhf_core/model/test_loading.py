import json
import shutil

import bitsandbytes.functional as bnb
import pytest
import torch
from bitsandbytes.nn import Linear4bit
from transformers import AutoTokenizer, Lfm2Config, Lfm2ForCausalLM

from rlhf_core.config import ReplySettings
from rlhf_core.errors import ModelError
from rlhf_core.model.loading import load_base
from tests.rlhf_core.templates import SMOLLM

IDS = torch.arange(5, 21).reshape(2, 8)


def test_an_unknown_model_is_one_line(tmp_path):
    with pytest.raises(ModelError, match=r"^model '.*nothing' cannot be loaded: [^\n]+$"):
        load_base(str(tmp_path / "nothing"), quantization="none", device="cpu")


def test_an_unknown_quantization_names_the_known_ones(model_path):
    with pytest.raises(ModelError, match="'nf3' is unknown; use nf4, int8 or none"):
        load_base(str(model_path), quantization="nf3", device="cpu")  # type: ignore[arg-type]


def test_a_model_without_chat_template_is_refused(model_path, tmp_path):
    for file in model_path.iterdir():
        if file.name != "chat_template.jinja":
            (tmp_path / file.name).write_bytes(file.read_bytes())
    with pytest.raises(ModelError, match="no chat template"):
        load_base(str(tmp_path), quantization="none", device="cpu")


def test_a_system_prompt_without_room_for_a_question_is_refused(load_tiny):
    reply = ReplySettings(prompt_tokens=40, tokens=8, system_prompt="be kind " * 20)
    with pytest.raises(ModelError, match=r"shortest question has \d+ tokens.*prompt_tokens 40"):
        load_tiny(SMOLLM, reply)


@pytest.mark.parametrize(
    ("prompt", "tokens", "remedy"),
    [
        (1024, 64, "lower reply.prompt_tokens to 448 or less"),
        (8, 600, "lower reply.tokens below 512"),
    ],
)
def test_a_window_beyond_the_context_is_refused_with_what_fits(load_tiny, prompt, tokens, remedy):
    with pytest.raises(ModelError, match=f"context of 512 tokens; {remedy}$"):
        load_tiny(SMOLLM, ReplySettings(prompt_tokens=prompt, tokens=tokens))


def test_a_tokenizer_without_an_end_is_refused(model_path, tmp_path):
    shutil.copytree(model_path, tmp_path / "model")
    file = tmp_path / "model" / "tokenizer_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"eos_token": None}))
    with pytest.raises(ModelError, match="no end-of-sequence token; name it"):
        load_base(str(tmp_path / "model"), quantization="none", device="cpu")


def test_a_token_for_padding_without_an_embedding_is_not_used(model_path, tmp_path, said):
    shutil.copytree(model_path, tmp_path / "model")
    tokenizer = AutoTokenizer.from_pretrained(model_path)
    tokenizer.add_special_tokens({"pad_token": "[PAD]"})
    tokenizer.save_pretrained(tmp_path / "model")
    base = load_base(str(tmp_path / "model"), quantization="none", device="cpu")
    assert base.tokenizer.pad_token_id == base.tokenizer.eos_token_id
    assert len(base.respond([said("hi"), said("what is the colour")], adapter=None)) == 2


def test_layers_that_are_no_attention_are_refused(tokenizer, tmp_path):
    config = Lfm2Config(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        layer_types=["conv", "full_attention"],
    )
    Lfm2ForCausalLM(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=r"layers that are no attention \(conv\)"):
        load_base(str(tmp_path), quantization="none", device="cpu")


def test_dropout_is_off_even_in_training_mode(base):
    base.model.train()
    assert torch.equal(base.model(input_ids=IDS).logits, base.model(input_ids=IDS).logits)


def gradients(model: torch.nn.Module) -> torch.Tensor:
    model.train()
    model.zero_grad()
    model(input_ids=IDS, labels=IDS).loss.backward()
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


def test_nf4_gradients_are_right_after_generating(model_path, said, disturb):
    """bitsandbytes repacks nf4 weights in evaluation mode, which breaks the backward pass."""
    quantized, plain = (
        load_base(str(model_path), quantization=q, device="cpu") for q in ("nf4", "none")
    )
    layers = [m for m in quantized.model.modules() if isinstance(m, Linear4bit)]
    assert len(layers) == 14
    for name, module in quantized.model.named_modules():
        if isinstance(module, Linear4bit):
            assert not module.support_avx512bf16_for_cpu
            weight = bnb.dequantize_4bit(module.weight.data, module.weight.quant_state)
            plain.model.get_submodule(name).weight.data.copy_(weight.float())
    for base in (quantized, plain):
        torch.manual_seed(0)  # the same fresh adapter on both
        base.attach("policy", trainable=True)
        disturb(base, "policy", size=0.05)
        base.respond([said("hello")] * 2, adapter="policy", max_new_tokens=4)
    with quantized.using("policy"), plain.using("policy"):
        found, expected = gradients(quantized.model), gradients(plain.model)
    assert (found - expected).norm() / expected.norm() < 1e-4


@torch.no_grad()
def test_an_nf4_base_answers_the_same_after_an_adapter_was_attached_between_replies():
    base = load_base("starter", quantization="nf4", device="cpu")
    base.attach("one")
    before = base.model(input_ids=IDS).logits
    base.copy_adapter("one", "two")  # reads the adapter's weights, as attaching from a directory
    torch.testing.assert_close(base.model(input_ids=IDS).logits, before)
