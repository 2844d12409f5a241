"""Too little memory for a stage: one line that says what to lower or, if asked for, smaller parts.

Sizes in memory change no result, so a stage may begin again with half as many rows at once: from
its checkpoint or, without one, from the weights that it had.
"""

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


@contextmanager
def out_of_memory_in_one_line(lower: str, *, by_rows: bool = False) -> Iterator[None]:
    """Turn whatever says that memory has run out into one error.

    Args:
        lower: The setting to lower.
        by_rows: Whether that is the number of rows at once, which `halving` may lower by itself.

    Raises:
        MemoryExhaustedError: Memory did not suffice within the block.
    """
    try:
        yield
    except MemoryExhaustedError:
        raise  # a block within this one knows better what to lower
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as exc:
        if isinstance(exc, RuntimeError) and not _is_out_of_memory(exc):
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
    """Train; where memory does not suffice, with half as many rows at once, if that is asked for.

    Several processes cannot: those that had memory would wait for the one that had not.

    Args:
        settings: Of the stage.
        train: The stage; it opens its checkpoint itself, if it has one.
        rows: Of an optimizer step, which is what is in memory at once by default.
        weights: What the stage trains, as it is at the start.

    Raises:
        MemoryExhaustedError: Memory did not suffice for a single row, halving is off, or it was
            not by training that memory ran out.
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
                    "there is too little memory to train on a single row; lower max_tokens or "
                    "max_new_tokens, or use a smaller model"
                ) from exc
            if not allowed:
                raise
            log.warning("%s: going on with %d rows at once", str(exc), at_once // 2)
        # here and not above: the error holds on to what is to be freed
        clear_device_cache(garbage_collection=True)
        for weight, was in start:
            weight.data = was.clone()
        settings = settings.model_copy(update={"micro_batch_size": at_once // 2})


def _is_out_of_memory(exc: RuntimeError) -> bool:
    """PyTorch's allocator on CPUs and cuBLAS have no error class of their own."""
    signs = ("can't allocate memory", "out of memory", "alloc_failed")
    return any(sign in str(exc).lower() for sign in signs)
