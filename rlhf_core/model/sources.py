"""What the name of a model means: the starter, a directory, a hub's id, a GGUF file, an adapter.

`resolve` looks at names and the small files beside weights. It loads nothing and reaches no
network, so a wrong name costs no time. `conversions.py` makes of each source a directory that
transformers reads.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rlhf_core.errors import ModelError

STARTER_MODEL = Path(__file__).parents[1] / "worlds" / "starter" / "model"  # shipped
FETCHED = {"smollm2": "SmolLM2-135M-Instruct.Q4_1.gguf"}  # name -> file in the cache
ADAPTER_CONFIG, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
HUB_ID = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")
SPLIT = re.compile(r"-\d{5}-of-\d{5}\.gguf$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Source:
    """Where a model comes from.

    Attributes:
        kind: What it is.
        place: Its path, or its id on the hub.
        base: The model that an adapter was trained on.
    """

    kind: Literal["starter", "directory", "hub", "gguf", "adapter"]
    place: str
    base: "Source | None" = None


def resolve(model: str, cache: Path | None = None) -> Source:
    """Find out what a model's name means.

    Args:
        model: ``"starter"``, the name of a fetched model, a directory with a model or with a PEFT
            adapter, a GGUF file, or else an id on the hub.
        cache: The directory of fetched and converted models.

    Raises:
        ModelError: The name is that of a file or directory that cannot be a model.
    """
    path = Path(model)
    if model == "starter":
        return Source("starter", str(STARTER_MODEL))
    if model in FETCHED:
        return _fetched(model, cache)
    if path.suffix.lower() == ".gguf":
        return _gguf(path)
    if path.is_file():
        raise ModelError(
            f"the file {model!r} is not a model; give a .gguf file (unpack an archive first), "
            "a model's directory or its id"
        )
    if (path / ADAPTER_CONFIG).is_file():
        return _adapter(path, cache)
    return Source("directory" if path.is_dir() else "hub", model)


def adapter_config(path: Path) -> dict[str, Any]:
    """What an adapter's directory says about it.

    Raises:
        ModelError: It cannot be read.
    """
    try:
        config = json.loads((path / ADAPTER_CONFIG).read_bytes())
    except (OSError, ValueError) as exc:
        raise ModelError(f"{path / ADAPTER_CONFIG} cannot be read: {exc}") from exc
    if not isinstance(config, dict):
        raise ModelError(f"{path / ADAPTER_CONFIG} is not an adapter's configuration")
    return config


def _fetched(model: str, cache: Path | None) -> Source:
    if cache is None or not (cache / FETCHED[model]).is_file():
        where, option = (f" in {cache}", f" --data {cache.parent}") if cache else ("", "")
        raise ModelError(
            f"model {model!r} is not there yet{where}; `feedback-chat fetch {model}{option}` "
            "fetches it"
        )
    return _gguf(cache / FETCHED[model])


def _gguf(path: Path) -> Source:
    """A file that is there, in one part, and begins as a GGUF file does."""
    if SPLIT.search(path.name):
        raise ModelError(
            f"{path} is one part of a GGUF file; join the parts with `llama-gguf-split --merge`"
        )
    try:
        with path.open("rb") as file:
            begin = file.read(4)
    except OSError as exc:
        raise ModelError(f"the GGUF file {path} cannot be read: {exc.strerror}") from exc
    if begin != b"GGUF":
        raise ModelError(f"{path} is not a GGUF file: it begins with {begin!r}, not b'GGUF'")
    return Source("gguf", str(path))


def _adapter(path: Path, cache: Path | None) -> Source:
    """A LoRA adapter with weights in safetensors, and the model that it names as its base."""
    config = adapter_config(path)
    kind, name = config.get("peft_type"), config.get("base_model_name_or_path")
    if kind != "LORA":
        raise ModelError(
            f"the adapter {path} is of type {kind!r}; only LORA can be merged into its base"
        )
    if not (path / ADAPTER_WEIGHTS).is_file():
        raise ModelError(
            f"the adapter {path} has no {ADAPTER_WEIGHTS}; save it with safe_serialization=True"
        )
    correct = f"correct base_model_name_or_path in its {ADAPTER_CONFIG}"
    if not isinstance(name, str) or not name:
        raise ModelError(f"the adapter {path} does not name its base model; {correct}")
    if (Path(name) / ADAPTER_CONFIG).is_file():  # it might even be the same one
        raise ModelError(f"the base of the adapter {path} is an adapter, too: {name}; {correct}")
    base = resolve(name, cache)
    if base.kind == "hub" and not HUB_ID.fullmatch(name):
        raise ModelError(f"the base of the adapter {path} is not here: {name}; {correct}")
    return Source("adapter", str(path), base)
