"""What a model and a machine are, as far as settings depend on it; no weights are loaded.

The number of parameters comes from the model's class, built without memory from its configuration.
"""

import os
import sys
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from textwrap import shorten
from typing import Any, Literal

import psutil
import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, DynamicCache

from rlhf_core.errors import ModelError

CONTAINER = Path("/sys/fs/cgroup")  # of this process, inside a container


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """The sizes of a causal language model.

    Attributes:
        parameters: All of them; tied weights count once.
        linear_parameters: Those of the linear layers within blocks, which quantization packs.
        layers: Blocks of the decoder.
        width: Numbers in a hidden state.
        vocabulary: Different tokens.
        cache_width: Numbers that one token adds to the key-value cache of one layer, on average.
        context: Longest sequence in tokens, or None if the configuration does not say.
    """

    parameters: int
    linear_parameters: int
    layers: int
    width: int
    vocabulary: int
    cache_width: int
    context: int | None


@dataclass(frozen=True, slots=True)
class MachineFacts:
    """Where training runs.

    Attributes:
        device: What computes.
        memory: All of its memory, in bytes.
        free: What of it is free now.
        cores: Of the CPU.
    """

    device: Literal["cpu", "cuda"]
    memory: int
    free: int
    cores: int


def model_facts(path: str) -> ModelFacts:
    """The facts of a model, from its configuration alone.

    Args:
        path: A directory, or a name on a model hub.

    Raises:
        ModelError: The configuration cannot be read.
    """
    config = model_config(path)
    try:
        with torch.device("meta"):
            network: Any = AutoModelForCausalLM.from_config(  # type: ignore[no-untyped-call]
                config, dtype=torch.bfloat16
            )
        cached = _cached_numbers(network)
    except Exception as exc:  # what a model's code raises on such a configuration, nobody knows
        raise _no_decoder(path, config, str(exc) or type(exc).__name__) from exc
    if not cached:
        raise _no_decoder(path, config, "it keeps no keys and values")
    head = network.get_output_embeddings()
    linear = [m for m in network.modules() if isinstance(m, nn.Linear) and m is not head]
    return ModelFacts(
        parameters=network.num_parameters(),
        linear_parameters=sum(p.numel() for m in linear for p in m.parameters()),
        layers=config.num_hidden_layers,
        width=config.hidden_size,
        vocabulary=config.vocab_size,
        cache_width=ceil(cached / config.num_hidden_layers),
        context=getattr(config, "max_position_embeddings", None),
    )


@torch.no_grad()
def _cached_numbers(network: Any) -> int:
    """How many numbers one token adds to the key-value cache: seen in a pass without memory.

    Configurations name their heads in too many ways, and layers may differ or share.
    """
    cache: Any = DynamicCache()
    token = torch.zeros(1, 1, dtype=torch.long, device="meta")
    network(input_ids=token, past_key_values=cache, use_cache=True)
    return sum(layer.keys.numel() + layer.values.numel() for layer in cache.layers)


def _no_decoder(path: str, config: Any, reason: str) -> ModelError:
    kind = getattr(config, "model_type", "unknown")
    return ModelError(
        f"model {path!r} of type {kind!r} is not a decoder with attention, which this service "
        f"needs: {shorten(reason, 120, placeholder=' ...')}"
    )


def model_config(path: str) -> Any:
    """The text model's configuration.

    Raises:
        ModelError: It cannot be read.
    """
    try:
        return AutoConfig.from_pretrained(path).get_text_config()
    except (OSError, ValueError, KeyError) as exc:
        reason = shorten(str(exc), 200, placeholder=" ...")
        raise ModelError(f"the configuration of model {path!r} cannot be read: {reason}") from exc


def machine_facts() -> MachineFacts:
    """The facts of this machine, now."""
    cores = min(len(os.sched_getaffinity(0)), _container_cores())
    if torch.cuda.is_available():
        torch.cuda.empty_cache()  # what PyTorch keeps for itself is free for training
        free, whole = torch.cuda.mem_get_info()
        return MachineFacts("cuda", whole, free, cores)
    memory = psutil.virtual_memory()
    whole, used = _container_memory()
    total, free = min(memory.total, whole), min(memory.available, whole - used)
    return MachineFacts("cpu", total, max(0, free), cores)


def _container_cores() -> int:
    """The processors whose time a container may use; without a limit, as if they were endless."""
    try:
        quota, period = (CONTAINER / "cpu.max").read_text().split()
    except (OSError, ValueError):
        return sys.maxsize
    return sys.maxsize if quota == "max" else max(1, ceil(int(quota) / int(period)))


def _container_memory() -> tuple[int, int]:
    """What a container allows and has used, in bytes; without a limit, as if it were endless."""
    try:
        limit, used, details = (
            (CONTAINER / f"memory.{name}").read_text() for name in ("max", "current", "stat")
        )
    except OSError:
        return sys.maxsize, 0
    if limit.strip() == "max":
        return sys.maxsize, 0
    cached = dict(line.split() for line in details.splitlines()).get("inactive_file", "0")
    return int(limit), int(used) - int(cached)  # the kernel gives cached files up


def peak_memory() -> int:
    """The most bytes that this process had at once: on the GPU, if there is one, or else at all."""
    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    # not getrusage's figure: that one begins at what the parent process had
    lines = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
    return 1024 * int(lines["VmHWM"].split()[0])
