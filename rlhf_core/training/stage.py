"""What the three trainers share: quiet settings, progress, and a base that is restored afterwards.

Several processes, as `accelerate launch` starts them, train one adapter together: each takes its
part of every batch, and they exchange only the gradients of trained weights.

The training loops are TRL's; this module does not import it.
"""

import tempfile
import time
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from math import ceil
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from transformers import PrinterCallback, TrainerCallback

from rlhf_core.errors import DivergenceError, LaunchError, ModelError
from rlhf_core.model.base_model import Base
from rlhf_core.training.checkpoints import ResumableTrainer, StageFile
from rlhf_core.training.distributed import processes
from rlhf_core.training.memory import Settings, give_back, halving, out_of_memory_in_one_line

Metrics = dict[str, float]
Progress = Callable[[float, dict[str, float]], None]  # share done (0..1), latest metrics

EXPLODED = 100.0  # nats; a model that knows nothing is at about 12 per token, 0.7 per comparison


class QuietTrainer(ResumableTrainer):
    """Mixed into every TRL trainer: it trains in float32, reports no usage, and can be resumed."""

    def __init__(self, **kwargs: Any) -> None:
        trained = [p for p in kwargs["model"].parameters() if p.requires_grad]
        weights = [(parameter, parameter.data.float()) for parameter in trained]
        super().__init__(**kwargs)
        trainer: Any = self
        # TRL casts the adapters of a quantized base to bfloat16. Near 0.02 its numbers are farther
        # apart than Adam's steps of 1e-4, so updates would be lost.
        for parameter, weight in weights:
            parameter.data = weight
        _synchronise_only_what_is_trained(trainer.model)
        trainer.remove_callback(PrinterCallback)

    def _send_telemetry(self) -> None:
        """TRL reports usage over the network here; a service with people's chats must not."""


class ReportProgress(TrainerCallback):
    """Calls ``progress`` after every optimizer step."""

    def __init__(self, report: Callable[[float], None]) -> None:
        self._report = report

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Report which share of the steps is done."""
        self._report(state.global_step / state.max_steps)


def arguments(base: Base, **more: Any) -> dict[str, Any]:
    """Trainer arguments of all stages: no output, no files, no mixed precision, no weight decay."""
    return {
        "use_cpu": base.device.type == "cpu",
        "bf16": False,  # the base computes in its own precision, adapters and heads in float32
        "gradient_checkpointing": False,  # `prepared` sees to it, in the same way for all stages
        "disable_tqdm": True,
        "logging_strategy": "no",
        "save_strategy": "no",
        "report_to": [],
        "optim": "adamw_torch",
        "weight_decay": 0.0,
        "ddp_find_unused_parameters": False,  # all are used, some of them outside forward
        "dataloader_pin_memory": base.device.type == "cuda",
        **more,
    }


def batches(batch_size: int, micro_batch_size: int) -> dict[str, Any]:
    """Trainer arguments for one optimizer step on ``batch_size`` rows, shared by all processes.

    Args:
        batch_size: Rows of an optimizer step, over all processes.
        micro_batch_size: Most rows that one process holds in memory at once; 0 = its whole part.

    Raises:
        LaunchError: The processes cannot get equally many rows.
    """
    own, rest = divmod(batch_size, processes())
    if rest:
        raise LaunchError(
            f"batch_size {batch_size} cannot be divided among {processes()} processes; "
            "use a multiple, or start fewer processes"
        )
    parts = ceil(own / (micro_batch_size or own))
    while own % parts:  # equal parts, so that every row has the same weight
        parts += 1
    return {
        "per_device_train_batch_size": own // parts,
        "gradient_accumulation_steps": parts,
    }


def passes(rows: int, *, batch_size: int, epochs: int, min_steps: int) -> int:
    """Passes over the data: ``epochs``, or more if rows are few (few steps teach little)."""
    return max(epochs, ceil(min_steps / ceil(rows / batch_size)))


def run_stage(
    settings: Settings,
    train: Callable[[Settings, StageFile], Metrics],
    *,
    model: nn.Module,
    adapter: str,
    weights: Sequence[Tensor],
    rows: int,
    file: Path | None,
    made_of: tuple[object, ...],
) -> Metrics:
    """Train to the end, from the checkpoint if there is one; a finished stage is only restored.

    Args:
        settings: The stage's settings.
        train: Trains with the settings and the checkpoint file that it gets.
        model: The model whose weights are trained.
        adapter: The adapter that is the result, with the model's head if it has one.
        weights: Everything that is trained, as it is at the start.
        rows: Rows of an optimizer step.
        file: The checkpoint; ``None`` keeps none.
        made_of: Everything that the result depends on beside the settings.

    Returns:
        What ``train`` returned, now or when the stage ended.

    Raises:
        CheckpointError: The checkpoint is of other data or settings.
        MemoryExhaustedError: Memory ran out.
    """

    def attempt(settings: Settings) -> Metrics:
        """Train from the checkpoint, with as many rows at once as these settings say."""
        whole = (settings.decisive(), *made_of)
        kept = StageFile(file, made_of=whole, seconds=settings.checkpoint_seconds)
        if kept.result is not None:
            kept.restore_result(model, adapter)
            return kept.result
        metrics = train(settings, kept)
        kept.finish(model, adapter, metrics)
        return metrics

    done = halving(settings, attempt, rows=rows, weights=weights)
    give_back()
    return done


@contextmanager
def prepared(
    base: Base,
    adapter: str,
    *,
    lower: str = "batch_size",
    above: int = 0,
    recompute: bool = False,
) -> Iterator[str]:
    """Make ``adapter`` the active and only trainable one; afterwards the base is as before.

    TRL patches the model's forward pass; this removes the patch.

    Args:
        base: The shared base.
        adapter: The adapter to train.
        lower: The setting to lower if memory runs out.
        above: How many of the lowest layers do not train.
        recompute: Gradient checkpointing: keep one state of each layer for a pass's gradients, and
            compute the others again.

    Yields:
        A directory for the trainer's files, removed at the end.

    Raises:
        ModelError: The model cannot recompute its states.
        MemoryExhaustedError: Memory ran out.
        DivergenceError: A trained weight is not finite.
    """
    network = base.model.get_base_model()
    with (
        out_of_memory_in_one_line(lower, by_rows=True),
        base.training(adapter, above=above),
        tempfile.TemporaryDirectory() as scratch,
        warnings.catch_warnings(),
    ):
        # TRL calls gradient checkpointing by names that transformers deprecates
        warnings.filterwarnings("ignore", message=r".*gradient_checkpointing\w*. is deprecated.*")
        if recompute:
            if not network.supports_gradient_checkpointing:
                raise ModelError(
                    f"a {network.config.model_type} model cannot recompute its states; "
                    "set gradient_checkpointing to false"
                )
            network.activation_checkpointing_enable()
        try:
            yield scratch
            for parameter in base.model.parameters():
                if parameter.requires_grad:  # no loss was computed after the last step
                    require_finite(parameter.data, "a trained weight")
        finally:
            network.__dict__.pop("forward", None)
            if recompute:
                network.activation_checkpointing_disable()


def _synchronise_only_what_is_trained(model: Any) -> None:
    """Several processes load the same base, so they exchange only gradients of trained weights.

    Without this PyTorch would send every frozen weight once, and every buffer at each step.
    """
    frozen = [name for name, p in model.named_parameters() if not p.requires_grad]
    frozen += [name for name, _ in model.named_buffers()]
    ignore = DistributedDataParallel._set_params_and_buffers_to_ignore_for_model
    ignore(model, frozen)  # type: ignore[no-untyped-call]


def require_finite(value: torch.Tensor, what: str, *, most: float = float("inf")) -> torch.Tensor:
    """The value itself; raises ``DivergenceError`` if it is not finite, or above ``most``."""
    if not bool(torch.isfinite(value).all()):
        raise DivergenceError(
            f"{what} is not finite; training was stopped. Lower the learning rate and try again"
        )
    if bool((value > most).any()):
        raise DivergenceError(
            f"{what} has grown to {value.max().item():.3g}; training was stopped. "
            "Lower the learning rate and try again"
        )
    return value


class Stopwatch:
    """Seconds spent in named sections, and since the start."""

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
