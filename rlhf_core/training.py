"""What the three trainers share: quiet settings, progress, and a base left as it was found.

The training loops themselves are TRL's; only ``train_*.py`` import it.
"""

import tempfile
import time
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import ceil
from typing import Any

import torch
from transformers import PrinterCallback, TrainerCallback

from rlhf_core.base_model import Base
from rlhf_core.errors import DivergenceError

Progress = Callable[[float, dict[str, float]], None]  # share done (0..1), latest metrics


class QuietTrainer:
    """Mixed into every TRL trainer: it trains in float32 and tells no one."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        trainer: Any = self
        _to_float32(trainer.model)
        trainer.remove_callback(PrinterCallback)

    def _send_telemetry(self) -> None:
        """TRL reports usage over the network here; a service holding people's chats does not."""


class ReportProgress(TrainerCallback):
    """Calls ``progress`` after every optimizer step."""

    def __init__(self, report: Callable[[float], None]) -> None:
        self._report = report

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Report which share of the steps is done."""
        self._report(state.global_step / state.max_steps)


def arguments(base: Base, **more: Any) -> dict[str, Any]:
    """Trainer arguments alike in all stages: silent, no files, plain precision, no dropout."""
    return {
        "use_cpu": base.device.type == "cpu",
        "bf16": False,  # the base computes in its own precision, adapters and heads in float32
        "gradient_checkpointing": False,
        "disable_tqdm": True,
        "logging_strategy": "no",
        "save_strategy": "no",
        "report_to": [],
        "optim": "adamw_torch",
        "weight_decay": 0.0,
        "dataloader_pin_memory": base.device.type == "cuda",
        **more,
    }


def passes(rows: int, *, batch_size: int, epochs: int, min_steps: int) -> int:
    """Passes over the data: as set, and more where rows are few (12 steps teach nothing)."""
    return max(epochs, ceil(min_steps / ceil(rows / batch_size)))


@contextmanager
def prepared(base: Base, adapter: str) -> Iterator[str]:
    """Make ``adapter`` the active and only trainable one; afterwards the base is as before.

    TRL patches the model's forward pass and its parameters' precision, so both are put back.

    Yields:
        A directory for the trainer's files, removed at the end.
    """
    network = base.model.get_base_model()
    with (
        base.training(adapter),
        tempfile.TemporaryDirectory() as scratch,
        warnings.catch_warnings(),
    ):
        # TRL's own default for checkpointing uses the name that transformers is retiring
        warnings.filterwarnings("ignore", message=".*gradient_checkpointing. is deprecated.*")
        try:
            yield scratch
        finally:
            network.__dict__.pop("forward", None)


def _to_float32(model: Any) -> None:
    """Train in float32: TRL casts the adapters of a quantized base to bfloat16.

    Adam's steps of 1e-4 are below bfloat16's resolution of weights around 0.02 and more.
    """
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()


def require_finite(value: torch.Tensor, what: str) -> torch.Tensor:
    """The value itself; raises ``DivergenceError`` if it is NaN or infinite."""
    if not bool(torch.isfinite(value).all()):
        raise DivergenceError(
            f"{what} is not finite; training was stopped. Lower the learning rate and try again"
        )
    return value


class Stopwatch:
    """Seconds spent in named sections, and since it was made."""

    def __init__(self) -> None:
        self._start = time.perf_counter()
        self.seconds: defaultdict[str, float] = defaultdict(float)

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Add the time of the block to section ``name``."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] += time.perf_counter() - start

    def elapsed(self) -> float:
        """Seconds since the stopwatch was made."""
        return time.perf_counter() - self._start
