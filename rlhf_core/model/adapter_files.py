"""What may stand in the files of an adapter: weights and settings as our own training writes them.

A signature says who wrote an adapter; this says that nothing in it is absurd, whoever wrote it:
training that exploded, or a file that PEFT would read as another kind of adapter.
"""

import json
import math
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from rlhf_core.errors import AdapterError
from rlhf_core.model.sources import ADAPTER_CONFIG, ADAPTER_WEIGHTS

CARD = "README.md"  # for people; no program of ours reads it
MAX_CARD_BYTES = 100_000  # ours have about 3,000

# Root mean square of one weight matrix. Matrices start at 1 / sqrt(3 * inputs) or 0, and Adam moves
# a weight by at most about the learning rate in a step (Kingma & Ba 2015, arXiv:1412.6980, section
# 2.1): 3 is 1,500 steps at the largest default rate, 0.002, all in one direction. Trained adapters
# of the starter reach 0.06.
MAX_RMS = 3.0

# Fields of an adapter's configuration that differ between our adapters, and their types.
FREE_FIELDS: dict[str, tuple[type, ...]] = {
    "r": (int,),
    "lora_alpha": (int,),
    "target_modules": (str, list),
    "inference_mode": (bool,),
    "peft_version": (str,),
    "base_model_name_or_path": (str, type(None)),  # the manifest's fingerprint decides instead
}
NEEDED_FIELDS = ("peft_type", "r", "lora_alpha", "target_modules")
# Those that `Base.save` always writes so. All others of PEFT stay empty: they could load other
# weights, repeat layers, or make another kind of adapter.
FIXED_FIELDS = {
    "peft_type": "LORA",
    "task_type": "CAUSAL_LM",
    "bias": "none",
    "init_lora_weights": True,
    "megatron_core": "megatron.core",
    "qalora_group_size": 16,
}


def require_sound(file: Path) -> None:
    """Refuse a file with weights or settings that no training of ours writes.

    Raises:
        AdapterError: It holds such, or cannot be read.
    """
    if file.name == ADAPTER_CONFIG:
        _require_plain_config(file)
    elif file.name == CARD:
        _require_short_text(file)
    elif file.suffix == ".safetensors":
        try:
            with safe_open(file, framework="pt") as tensors:
                for name in tensors.keys():  # noqa: SIM118 - safe_open is not a mapping
                    _require_sound_weights(file, name, tensors.get_tensor(name))
        except AdapterError:
            raise
        except Exception as exc:  # safetensors raises its own error class for a malformed header
            raise AdapterError(f"adapter file {file} cannot be read: {exc}") from exc


def shapes_of(file: Path) -> dict[str, tuple[int, ...]]:
    """The shape of each matrix in a file that is sound, by name."""
    with safe_open(file, framework="pt") as tensors:
        names = [*tensors.keys()]
        return {name: tuple(tensors.get_slice(name).get_shape()) for name in names}


def _require_sound_weights(file: Path, name: str, weights: torch.Tensor) -> None:
    ours = file.name == ADAPTER_WEIGHTS
    if not weights.is_floating_point() or (ours and weights.dtype != torch.float32):
        raise AdapterError(f"adapter file {file} holds {name} as {weights.dtype}, not float32")
    norm = torch.linalg.vector_norm(weights.double()).item()
    if not math.isfinite(norm):
        raise AdapterError(f"adapter file {file} holds a NaN or infinity in {name}")
    if ours and norm > MAX_RMS * math.sqrt(weights.numel()):
        raise AdapterError(
            f"adapter file {file} holds {name} with a root mean square of "
            f"{norm / math.sqrt(weights.numel()):.3g}; no training gives more than {MAX_RMS}"
        )


def _require_short_text(file: Path) -> None:
    if file.stat().st_size > MAX_CARD_BYTES:
        raise AdapterError(f"adapter file {file} is longer than {MAX_CARD_BYTES} bytes")
    try:
        file.read_text("utf-8")
    except UnicodeDecodeError as exc:
        raise AdapterError(f"adapter file {file} is no text: {exc}") from exc


def _require_plain_config(file: Path) -> None:
    try:
        config: dict[str, Any] = json.loads(file.read_text())
        strays = [name for name, value in config.items() if not _is_ours(name, value)]
        strays += [name for name in NEEDED_FIELDS if name not in config]
    except (ValueError, AttributeError, RecursionError) as exc:
        raise AdapterError(f"adapter file {file} cannot be read: {exc}") from exc
    if strays:
        raise AdapterError(
            f"adapter file {file} has {', '.join(strays)} as no adapter of this service has"
        )


def _is_ours(name: str, value: Any) -> bool:
    if name in FREE_FIELDS:
        return type(value) in FREE_FIELDS[name] and (type(value) is not int or value > 0)
    return bool(value == FIXED_FIELDS[name] if name in FIXED_FIELDS else not value)
