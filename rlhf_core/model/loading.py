"""Load a base model: convert it if need be, quantize its layers, refuse what cannot work.

`load_outline` loads what is needed of a base whose weights another program holds. Only this module
knows bitsandbytes.
"""

import warnings
from dataclasses import dataclass
from pathlib import Path
from textwrap import shorten
from typing import Any, Literal, cast

import torch
from bitsandbytes.nn.modules import Linear4bit
from huggingface_hub import snapshot_download
from safetensors import safe_open
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    GenerationConfig,
)
from transformers.utils.logging import disable_progress_bar

from rlhf_core.config import ReplySettings
from rlhf_core.errors import ModelError
from rlhf_core.model.base_model import Base, ends_of, fingerprint_of
from rlhf_core.model.chat_format import ChatFormat
from rlhf_core.model.conversions import loadable
from rlhf_core.model.sources import resolve
from rlhf_core.records import ChatMessage

Quantization = Literal["nf4", "int8", "none"]
UNLOADABLE = (OSError, ValueError, ImportError, RuntimeError)  # what transformers raises
ATTENTION = {"full_attention", "sliding_attention", "chunked_attention"}  # kinds of layers


def load_base(
    model: str = "starter",
    *,
    quantization: Quantization = "nf4",
    device: str = "auto",
    reply: ReplySettings | None = None,
    cache: Path | None = None,
) -> Base:
    """Load a causal language model and its tokenizer.

    Args:
        model: ``"starter"`` for the embedded model, a directory, a GGUF file, a directory with a
            PEFT adapter, or a name on a model hub.
        quantization: Storage of the linear layers.
        device: ``"cpu"``, ``"cuda"``, or ``"auto"`` for a GPU if there is one.
        reply: The contract of lengths and sampling; by default the starter's.
        cache: Where a GGUF file or an adapter is kept once it is converted.

    Raises:
        ModelError: The model cannot be loaded or converted, has no chat template or no
            end-of-sequence token, has layers that are no attention, or has no room for the
            contract's prompt and reply.
    """
    where = _device(device)
    # Adam on bfloat16 loses small updates; a CPU has no fast 16-bit matmul at these sizes
    dtype = torch.bfloat16 if where.type == "cuda" else torch.float32
    disable_progress_bar()  # type: ignore[no-untyped-call] # transformers shows one for each load
    # PEFT 0.21 reads a name that transformers deprecates, whenever an adapter is attached. The
    # filter stays: to set and restore it for each adapter is not safe beside other threads.
    warnings.filterwarnings(
        "ignore", message=".is_gradient_checkpointing. is deprecated", category=FutureWarning
    )
    path = loadable(resolve(model, cache), cache)
    tokenizer = _tokenizer(model, path)
    try:
        network: Any = AutoModelForCausalLM.from_pretrained(
            path,
            dtype=dtype,
            device_map={"": where},
            quantization_config=_quantization_config(quantization, dtype),
        )
    except UNLOADABLE as exc:
        raise _cannot_load(model, exc) from exc
    known, pad = network.get_input_embeddings().num_embeddings, tokenizer.pad_token_id
    if pad is None or pad >= known:  # some add a token for padding, but no embedding
        tokenizer.pad_token = tokenizer.eos_token
    network.config.pad_token_id = tokenizer.pad_token_id
    network.requires_grad_(False)
    _disable_dropout(network)
    _prevent_repacking(network)  # in serving, too: adapters are attached between replies
    _require_attention(model, network)
    base = Base(network.eval(), tokenizer, reply)
    _require_room(base.chat, network.config)
    return base


@dataclass(frozen=True, slots=True)
class Outline:
    """A base without its weights: what turns messages into its tokens, and knows its adapters.

    Attributes:
        chat: Its tokenizer and chat template, and the contract of lengths.
        config: The model's configuration.
        ends: As for `Base`.
        fingerprint: As for `Base`.
    """

    chat: ChatFormat
    config: Any
    ends: frozenset[int]
    fingerprint: str


def load_outline(
    model: str = "starter", *, reply: ReplySettings | None = None, cache: Path | None = None
) -> Outline:
    """Load all of a base but its weights; of these it reads 64 rows.

    Args:
        model: As for `load_base`.
        reply: As for `load_base`.
        cache: As for `load_base`.

    Raises:
        ModelError: As for `load_base`, or the weights are no safetensors files with the input
            embeddings under their usual name.
    """
    path = loadable(resolve(model, cache), cache)
    tokenizer = _tokenizer(model, path)
    try:
        folder = Path(path) if Path(path).is_dir() else Path(snapshot_download(path))
        config = AutoConfig.from_pretrained(folder)
        rows = _embeddings(folder, config)
        if (folder / "generation_config.json").is_file():
            generation = GenerationConfig.from_pretrained(folder)
        else:
            generation = GenerationConfig.from_model_config(config)
    except UNLOADABLE as exc:
        raise _cannot_load(model, exc) from exc
    chat = ChatFormat(tokenizer, reply or ReplySettings())
    _require_room(chat, config)
    return Outline(chat, config, ends_of(generation, chat), fingerprint_of(config, rows))


def _embeddings(folder: Path, config: Any) -> Tensor:
    """The first rows of the input embeddings, read from a model's files; (64, d)."""
    with torch.device("meta"):
        # in torch's own type, since transformers makes another one the default of all threads
        network: Any = AutoModelForCausalLM.from_config(  # type: ignore[no-untyped-call]
            config, dtype=torch.get_default_dtype()
        )
    weight = network.get_input_embeddings().weight
    name = next(name for name, parameter in network.named_parameters() if parameter is weight)
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, framework="pt") as weights:
            if name in weights.keys():  # noqa: SIM118 # it is no mapping
                return cast(Tensor, weights.get_slice(name)[:64])
    raise ValueError(f"no .safetensors file in {folder} has the weight {name}")


def _tokenizer(model: str, path: str) -> Any:
    try:
        tokenizer = AutoTokenizer.from_pretrained(path)
    except UNLOADABLE as exc:
        raise _cannot_load(model, exc) from exc
    if tokenizer.chat_template is None:
        raise ModelError(f"model {model!r} has no chat template; use an instruction-tuned model")
    if tokenizer.eos_token_id is None:
        raise ModelError(
            f"the tokenizer of model {model!r} has no end-of-sequence token; name it as eos_token "
            "in the model's tokenizer_config.json"
        )
    return tokenizer


def _cannot_load(model: str, exc: Exception) -> ModelError:
    reason = shorten(str(exc), 200, placeholder=" ...")  # one line
    return ModelError(f"model {model!r} cannot be loaded: {reason}")


def _device(device: str) -> torch.device:
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise ModelError(f"device {device!r} is not available here; use 'cpu' or 'auto'")
    return torch.device(device)


def _quantization_config(quantization: str, dtype: torch.dtype) -> BitsAndBytesConfig | None:
    match quantization:
        case "none":
            return None
        case "int8":
            return BitsAndBytesConfig(load_in_8bit=True)  # type: ignore[no-untyped-call]
        case "nf4":
            return BitsAndBytesConfig(  # type: ignore[no-untyped-call]
                load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype
            )
    raise ModelError(f"quantization {quantization!r} is unknown; use nf4, int8 or none")


def _require_attention(model: str, network: Any) -> None:
    """Refuse layers whose state is no cache of keys and values, which is all that replies keep."""
    kinds = {*(getattr(network.config.get_text_config(), "layer_types", None) or ())} - ATTENTION
    if kinds or network._is_stateful:
        found = ", ".join(sorted(kinds)) or network.config.model_type
        raise ModelError(
            f"model {model!r} has layers that are no attention ({found}), whose state cannot be "
            "kept while replies join and leave; use a model with attention alone"
        )


def _require_room(chat: ChatFormat, config: Any) -> None:
    """Refuse a contract that is longer than the model's context, or has no room for a question."""
    reply = chat.reply
    context = getattr(config.get_text_config(), "max_position_embeddings", None)
    if context is not None and reply.window > context:
        room = context - reply.tokens
        fits = f"reply.prompt_tokens to {room} or less"
        lower = fits if room > 0 else f"reply.tokens below {context}"
        raise ModelError(
            f"reply.prompt_tokens {reply.prompt_tokens} and reply.tokens {reply.tokens} do not fit "
            f"the model's context of {context} tokens; lower {lower}"
        )
    shortest = len(chat.encode_prompt([ChatMessage(role="user", content="?")]))
    if shortest > reply.prompt_tokens:
        raise ModelError(
            f"the shortest question has {shortest} tokens with the chat template and "
            f"reply.system_prompt, more than reply.prompt_tokens {reply.prompt_tokens}; raise it, "
            "or shorten the system prompt"
        )


def _prevent_repacking(model: torch.nn.Module) -> None:
    """Keep bitsandbytes from repacking nf4 weights on CPUs with AVX512-BF16.

    bitsandbytes 0.50.2 repacks them in place at the first forward pass in evaluation mode without
    gradients (every rollout). After that the backward pass is wrong, without any error. So are all
    later replies once `state_dict()` was called, and a live swap of adapters calls it. The starter
    decodes 0.8 times as fast without repacking (docs/results.md, "Found on the way").
    """
    for module in model.modules():
        if isinstance(module, Linear4bit):
            module.support_avx512bf16_for_cpu = False


def _disable_dropout(model: torch.nn.Module) -> None:
    """Dropout would add noise to PPO's probability ratio and KL."""
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        if hasattr(module, "attention_dropout"):
            module.attention_dropout = 0.0  # type: ignore[assignment]
