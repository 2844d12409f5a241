"""GGUF files and PEFT adapters become directories that transformers reads: once, into a cache.

transformers takes long to read a GGUF file, so that happens once. An adapter is merged into its
base before that is quantized: 4-bit weights would round the adapter away. The merged model then
*is* the base, of the reference and of every KL, and no policy needs two adapters at once.

Invariant: a directory has its name only once all of it is on disk. The name holds a hash of what
the weights were made from, so a changed file is converted anew. The cache can be deleted.
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from textwrap import shorten
from typing import Any

import torch
from filelock import FileLock
from gguf import GGMLQuantizationType, GGUFReader
from huggingface_hub import snapshot_download
from peft import (
    LoraConfig,
    get_peft_model,
    get_peft_model_state_dict,
    set_peft_model_state_dict,
)
from safetensors import SafetensorError
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GgufConfig
from transformers.utils.peft_utils import find_adapter_config_file

from rlhf_core.errors import ModelError
from rlhf_core.model.adapters import flush
from rlhf_core.model.sources import (
    ADAPTER_CONFIG,
    ADAPTER_WEIGHTS,
    Source,
    adapter_config,
    resolve,
)

PARTS = {".json", ".jinja", ".txt", ".model", ".bin", ".safetensors"}  # suffixes of a model's files
MERGED = "merged_adapter"  # in a merged model's configuration: the hash of what was merged
# A quantized block's scale is a float16, so float16 keeps what a quantized file knew.
DTYPES = {
    frozenset({GGMLQuantizationType.F32}): torch.float32,
    frozenset({GGMLQuantizationType.F32, GGMLQuantizationType.BF16}): torch.bfloat16,
    frozenset({GGMLQuantizationType.BF16}): torch.bfloat16,
}


def loadable(source: Source, cache: Path | None) -> str:
    """A directory or a hub's id that transformers loads, converted first if it has to be.

    Args:
        source: What `resolve` found.
        cache: Where converted models are kept.

    Raises:
        ModelError: There is no cache to convert into, the file or the adapter is damaged, or
            transformers or PEFT does not know its kind.
    """
    source = _hub_adapter(source, cache)
    if source.kind not in ("gguf", "adapter"):
        return source.place
    if cache is None:
        raise ModelError(
            f"{source.place} has to be converted before it is loaded; give `load_base` a cache"
        )
    origin, mark = Path(source.place), _identity(source)
    target = cache / f"{origin.stem}-{mark[:16]}"
    if source.base is None:
        return _once(target, partial(_convert_gguf, origin))
    base = loadable(source.base, cache)
    return _once(target, partial(_merge, origin, base))


def _hub_adapter(source: Source, cache: Path | None) -> Source:
    """The directory that a hub's adapter was downloaded to; any other source as it is."""
    if source.kind != "hub":
        return source
    try:
        found = find_adapter_config_file(source.place)
    except OSError:  # no id; whoever loads the model says so
        found = None
    if found is None:
        return source
    kinds = [f"*{suffix}" for suffix in PARTS - {".bin"}]
    with _in_one_line(f"the adapter {source.place}"):
        folder = snapshot_download(
            source.place,
            allow_patterns=kinds,
            ignore_patterns=["*/*"],  # no checkpoints
        )
    return resolve(folder, cache)


def _identity(source: Source) -> str:
    """A hash of what a model is made from; one on the hub goes by its name."""
    place = Path(source.place)
    digest = hashlib.sha256()
    match source.kind:
        case "hub":
            digest.update(source.place.encode())
        case "adapter":
            assert source.base is not None
            digest.update((_adapter_identity(place) + _identity(source.base)).encode())
            for file in _parts(place):  # a tokenizer of its own
                if file.name not in (ADAPTER_CONFIG, ADAPTER_WEIGHTS):
                    digest.update(file.name.encode() + _file_hash(file))
        case "gguf":
            digest.update(_file_hash(place))
        case "directory" | "starter":
            for file in _parts(place):
                digest.update(file.name.encode() + _file_hash(file))
    return digest.hexdigest()


def _adapter_identity(path: Path) -> str:
    """A hash of an adapter's weights, wherever its base lies."""
    config = adapter_config(path) | {"base_model_name_or_path": None}
    digest = hashlib.sha256(json.dumps(config, sort_keys=True).encode())
    digest.update(_file_hash(path / ADAPTER_WEIGHTS))
    return digest.hexdigest()


def _parts(folder: Path) -> list[Path]:
    """The files that a model, its tokenizer and its chat template are made of."""
    return sorted(file for file in folder.iterdir() if file.suffix in PARTS)


def _file_hash(file: Path) -> bytes:
    try:
        state = file.stat()
        return _hash(file, state.st_size, state.st_mtime_ns)
    except OSError as exc:
        raise ModelError(f"{file} cannot be read: {exc.strerror}") from exc


@cache
def _hash(file: Path, _size: int, _modified: int) -> bytes:
    """The hash of a file; read once for as long as it does not change."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").digest()


def _once(target: Path, convert: Callable[[Path], None]) -> str:
    """Make a directory unless it is there; of several processes one makes it, the others wait."""
    if not target.is_dir():
        try:
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with FileLock(target.parent / ".lock"):
                if not target.is_dir():
                    with _new_folder(target) as folder:
                        convert(folder)
        except (OSError, SafetensorError) as exc:
            raise ModelError(f"{target} cannot be written: {exc}") from exc
    return str(target)


@contextmanager
def _new_folder(target: Path) -> Iterator[Path]:
    """A folder to fill, which gets the name `target` when the block has ended well."""
    unfinished = target.with_name(f"{target.name}.partial")
    shutil.rmtree(unfinished, ignore_errors=True)  # of a process that was killed
    unfinished.mkdir()
    try:
        yield unfinished
        for file in unfinished.iterdir():
            flush(file)
        flush(unfinished)
        unfinished.rename(target)
        flush(target.parent)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _convert_gguf(file: Path, folder: Path) -> None:
    """Read a GGUF file with transformers; write its weights, tokenizer and settings."""
    # Under a link of its own, because transformers would use the files that lie beside the file.
    link = folder / "model.gguf"
    link.symlink_to(file.resolve())
    with _in_one_line(f"the GGUF file {file}", "; it may be incomplete: get it again"):
        kinds = frozenset(tensor.tensor_type for tensor in GGUFReader(file).tensors)
    with _in_one_line(f"the GGUF file {file}"):
        tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=link.name)
    _require_template(tokenizer, file)
    loader: Any = AutoModelForCausalLM  # its type knows no loading report
    with _in_one_line(f"the GGUF file {file}"):
        network, report = loader.from_pretrained(
            folder,
            gguf_file=link.name,
            dtype=DTYPES.get(kinds, torch.float16),
            # Else it counts as quantized, and can be neither saved nor quantized again.
            quantization_config=GgufConfig(dequantize=True),
            output_loading_info=True,
        )
        if report["missing_keys"]:  # transformers would have made them up
            raise ValueError(f"it lacks {len(report['missing_keys'])} tensors of the model")
    link.unlink()
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _merge(adapter: Path, base: str, folder: Path) -> None:
    """Add an adapter to its base in float32, and write the sum in the base's own type."""
    with _in_one_line(f"the base {base} of the adapter {adapter}"):
        config = AutoConfig.from_pretrained(base)
        if getattr(config, "quantization_config", None) is not None:
            raise ValueError(f"it is stored quantized; name the original in {ADAPTER_CONFIG}")
        network = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    with _in_one_line(f"the adapter {adapter}"):
        lora = LoraConfig.from_pretrained(str(adapter))
        lora.base_model_name_or_path = base  # PEFT warns if it is another one
        tuned = get_peft_model(network, lora).eval()
        fresh = get_peft_model_state_dict(tuned, save_embedding_layers=False)
        weights = load_file(adapter / ADAPTER_WEIGHTS)
        # PEFT adds a copy of the base's weights where embeddings are adapted.
        wanted, found = (
            {name: tensor.shape for name, tensor in part.items() if ".base_layer." not in name}
            for part in (fresh, weights)
        )
        if strays := dict(wanted.items() ^ found.items()):  # PEFT would only warn
            raise ValueError(f"{len(strays)} of its weights do not fit the base: {min(strays)}")
        set_peft_model_state_dict(tuned, weights)
        before = _answer(tuned)
        merged = tuned.merge_and_unload()
        # It differs if two layers share the weights that one of them had adapted, or by a NaN.
        if not torch.allclose(_answer(merged), before, rtol=0.01, atol=0.01):
            raise ValueError("merged into its base it would answer differently")
        own = adapter if (adapter / "tokenizer.json").is_file() else base
        tokenizer = AutoTokenizer.from_pretrained(own)
    _require_template(tokenizer, adapter)
    below = getattr(config, MERGED, "")
    digest = hashlib.sha256((below + _adapter_identity(adapter)).encode())
    setattr(merged.config, MERGED, digest.hexdigest())
    merged.to(config.dtype or torch.float32).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


@torch.no_grad()
def _answer(network: Any) -> torch.Tensor:
    """The logits after a few tokens, (1, T, V)."""
    logits: torch.Tensor = network(input_ids=torch.arange(1, 17)[None]).logits
    return logits


def _require_template(tokenizer: Any, origin: Path) -> None:
    if tokenizer.chat_template is None:
        raise ModelError(f"{origin} has no chat template; use an instruction-tuned model")


@contextmanager
def _in_one_line(what: str, advice: str = "") -> Iterator[None]:
    """Raise every error of the block as a line about `what`, with an advice.

    The libraries meet a damaged file with errors of any class.
    """
    try:
        yield
    except Exception as exc:
        reason = shorten(str(exc), 200, placeholder=" ...") or type(exc).__name__
        raise ModelError(f"{what} cannot be loaded: {reason}{advice}") from exc
