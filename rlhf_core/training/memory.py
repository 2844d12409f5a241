"""Memory between stages, and too little of it for a stage: smaller parts, or an error in one line.

The number of rows at once changes no result. So a stage may begin again with half as many, from
its checkpoint or, without one, from its first weights.
"""

import ctypes
import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
from accelerate.utils.memory import clear_device_cache
from torch import Tensor

from rlhf_core.config import TrainingStage
from rlhf_core.errors import MemoryExhaustedError
from rlhf_core.training.distributed import processes

log = logging.getLogger(__name__)
Settings = TypeVar("Settings", bound=TrainingStage)
T = TypeVar("T")

M_MMAP_THRESHOLD = -3  # of malloc.h
MAPPED = 8 * 2**20


def map_large_blocks() -> None:
    """Let glibc map each block of at least `MAPPED` bytes by itself, for this whole process.

    Such a block goes back to the system when it is freed. By itself glibc keeps blocks of up to
    32 MiB, and a cycle on a model of 30M parameters held 1 GB more than its tensors need
    (docs/results.md, "What a cycle needs"). Other C libraries have no such call.
    """
    _glibc("mallopt", M_MMAP_THRESHOLD, MAPPED)


def give_back() -> None:
    """Give freed memory back to the GPU's driver and, from glibc's heap, to the system."""
    clear_device_cache(garbage_collection=True)
    _glibc("malloc_trim", 0)


def _glibc(name: str, *values: int) -> None:
    """Call a function of glibc; nothing happens under another C library."""
    function = getattr(ctypes.CDLL(None), name, None)
    if function is not None:
        function(*values)


@contextmanager
def out_of_memory_in_one_line(lower: str, *, by_rows: bool = False) -> Iterator[None]:
    """Turn every kind of out-of-memory error into one.

    Args:
        lower: The setting to lower.
        by_rows: Whether that is the number of rows at once, which `halving` may lower by itself.

    Raises:
        MemoryExhaustedError: The block ran out of memory.
    """
    try:
        yield
    except MemoryExhaustedError:
        raise  # an inner block knows better what to lower
    except (MemoryError, RuntimeError) as exc:
        if not is_out_of_memory(exc):
            raise
        raise MemoryExhaustedError(
            f"there is too little memory; lower {lower}", by_rows=by_rows
        ) from exc


def halving(
    settings: Settings,
    train: Callable[[Settings], T],
    *,
    rows: int,
    weights: Iterable[Tensor],
) -> T:
    """Train; if memory runs out and the settings allow it, again with half as many rows at once.

    Several processes cannot: those with enough memory would wait for the one without.

    Args:
        settings: The stage's settings.
        train: The stage; it opens its checkpoint itself, if it has one.
        rows: Rows of an optimizer step; by default all of them are in memory at once.
        weights: What the stage trains, as it is at the start.

    Raises:
        MemoryExhaustedError: A single row needs too much memory, halving is off, or memory ran out
            in another part of the stage than training.
    """
    allowed = settings.halve_micro_batch and processes() == 1
    start = [(weight, weight.detach().clone()) for weight in weights] if allowed else []
    while True:
        at_once = min(settings.micro_batch_size or rows, rows)
        try:
            return train(settings)
        except MemoryExhaustedError as exc:
            if not exc.by_rows:
                raise
            if at_once == 1:
                raise MemoryExhaustedError(
                    "there is too little memory to train on a single row; lower reply.tokens or "
                    "reply.prompt_tokens, or use a smaller model"
                ) from exc
            if not allowed:
                raise
            log.warning("%s: trying again with %d rows at once", str(exc), at_once // 2)
        # after the except block, because the error keeps a reference to the tensors to free
        give_back()
        for weight, first in start:
            weight.data = first.clone()
        settings = settings.model_copy(update={"micro_batch_size": at_once // 2})


def is_out_of_memory(exc: Exception) -> bool:
    """Whether memory ran out; PyTorch's CPU allocator and cuBLAS raise a plain RuntimeError."""
    signs = ("can't allocate memory", "out of memory", "alloc_failed")
    told = isinstance(exc, RuntimeError) and any(sign in str(exc).lower() for sign in signs)
    return told or isinstance(exc, (torch.OutOfMemoryError, MemoryError))
