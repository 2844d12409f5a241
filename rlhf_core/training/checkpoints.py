"""Checkpoints of one training stage: the file from which a killed stage resumes.

Transformers runs the loop and finds its place in the data. This module only replaces the file: one
safetensors file, never a pickle, with the trainable weights, the optimizer's state, and in its
header, as JSON, the scheduler, the random states and a trainer's own values.

- The file is written under another name, synced and renamed: a kill leaves the old or the new one.
- A file that does not match its checksum is ignored: that stage alone begins again. Which stages a
  cycle keeps is decided in `cycle/resume.py`.
- A file made from other data or settings is an error.
- A stage that has ended leaves its weights and metrics, and is not trained again.
"""

import hashlib
import json
import logging
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate.utils import gather_object
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import TrainerCallback

from rlhf_core.errors import CheckpointError, LaunchError
from rlhf_core.model.adapters import flush
from rlhf_core.training.distributed import broadcast, first_process

log = logging.getLogger(__name__)
TRAINER_STATE = "trainer_state.json"  # the only file that transformers itself reads


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The contents of a file: tensors, and everything else as JSON."""

    tensors: dict[str, Tensor]
    state: dict[str, Any]

    def part(self, prefix: str) -> dict[str, Tensor]:
        """The tensors whose names begin with ``prefix/``, by their names without it."""
        names = [name for name in self.tensors if name.startswith(f"{prefix}/")]
        return {name[len(prefix) + 1 :]: self.tensors[name] for name in names}


def write_checkpoint(file: Path, checkpoint: Checkpoint) -> None:
    """Write or replace a checkpoint; at any moment the old or the new one is there, complete."""
    plain = {k: v.detach().cpu().contiguous().clone() for k, v in checkpoint.tensors.items()}
    state = json.dumps(checkpoint.state)
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    part = file.with_suffix(".part")
    save_file(plain, part, metadata={"state": state, "sha256": _digest(plain, state)})
    flush(part)
    part.replace(file)
    flush(file.parent)


def read_checkpoint(file: Path) -> Checkpoint | None:
    """The checkpoint in a file; ``None`` if there is none, or the file is damaged."""
    if not file.is_file():
        return None
    try:
        with safe_open(file, framework="pt") as found:
            header = found.metadata() or {}
            tensors = {name: found.get_tensor(name) for name in found.keys()}  # noqa: SIM118
        if header.get("sha256") != _digest(tensors, header["state"]):
            raise ValueError("it does not match its checksum")
        return Checkpoint(tensors, json.loads(header["state"]))
    except (OSError, KeyError, ValueError, SafetensorError) as exc:
        log.warning("checkpoint %s is ignored: %s", file, exc)
        return None


def file_in(directory: Path | str | None, name: str) -> Path | None:
    """The checkpoint file of a stage; ``None`` without a directory."""
    return None if directory is None else Path(directory) / f"{name}.safetensors"


class StageFile:
    """The checkpoint of one stage: read at the start, replaced in training, kept at the end."""

    def __init__(self, file: Path | None, *, made_of: object, seconds: float) -> None:
        """Open the file, if there is one.

        Args:
            file: Where it is; ``None`` keeps no checkpoint.
            made_of: Everything that the stage's result depends on. Its ``repr`` is compared.
            seconds: Shortest time between two checkpoints.

        Raises:
            CheckpointError: The file is of other data or settings, or its folder is not one.
        """
        self.file, self._seconds = file, seconds
        self._made_of = hashlib.sha256(repr(made_of).encode()).hexdigest()
        self._latest = time.monotonic()
        if file is not None and file.parent.exists() and not file.parent.is_dir():
            raise CheckpointError(f"checkpoints {file.parent} is not a directory; give another")
        self.found = None if file is None else read_checkpoint(file)
        if self.found is not None and self.found.state["made_of"] != self._made_of:
            raise CheckpointError(
                f"checkpoint {file} was made from other data or settings; "
                "remove it to begin anew, or give another directory"
            )

    @property
    def result(self) -> dict[str, float] | None:
        """The stage's metrics, if it has ended."""
        found: dict[str, float] | None = self.found.state.get("result") if self.found else None
        return found

    def train(self, trainer: Any) -> None:
        """Train, from the checkpoint if there is one; ``trainer`` is a ``ResumableTrainer``."""
        if self.file is None:
            trainer.train()
            return
        if trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled:
            raise LaunchError("sharded training cannot keep checkpoints; leave checkpoints out")
        trainer.kept = self
        trainer.add_callback(_SaveWhenDue(trainer))
        if self.found is None:
            trainer.train()
        else:
            folder = trainer.args.output_dir
            Path(folder, TRAINER_STATE).write_text(json.dumps(self.found.state["trainer"]))
            trainer.train(resume_from_checkpoint=folder)

    def due(self) -> bool:
        """Whether it is time for another checkpoint."""
        return time.monotonic() - self._latest >= self._seconds

    def write(self, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        """Replace the file."""
        if self.file is not None:
            whole = dict(state) | {"made_of": self._made_of}
            write_checkpoint(self.file, Checkpoint(dict(tensors), whole))
        self._latest = time.monotonic()

    def finish(self, model: nn.Module, adapter: str, result: Mapping[str, float]) -> None:
        """Keep the stage's result: the weights of adapter and head, and the metrics."""
        if self.file is not None and first_process():
            weights = {f"weights/{k}": v for k, v in _results(model, adapter)}
            self.write(weights, {"result": dict(result)})

    def restore_result(self, model: nn.Module, adapter: str) -> None:
        """Load the weights that the stage ended with."""
        assert self.found is not None
        _copy_into(dict(_results(model, adapter)), self.found.part("weights"))


class ResumableTrainer:
    """Mixed into a transformers trainer: it keeps its checkpoints in a ``StageFile``.

    Transformers' loop calls the four private methods below that save and load. They save and load
    what transformers' own do, in another format.
    """

    kept: StageFile | None = None
    order: dict[str, Any] | None = None  # random state when this epoch's order was drawn

    def state_dict(self) -> dict[str, Any]:
        """A trainer's own tensors and JSON values that the rest of the run depends on."""
        return {}

    def load_state(self, state: dict[str, Any]) -> None:
        """Restore what ``state_dict`` returned."""

    def may_stop_here(self) -> bool:
        """Whether a run can resume from the state after this optimizer step."""
        return True

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        trainer: Any = self
        assert self.kept is not None
        # The next epoch draws its order from `now`; within an epoch its order is drawn again from
        # the state of its start.
        now, ended = random_state(), float(trainer.state.epoch).is_integer()
        ranks = gather_object([{"now": now, "order": now if ended else self.order}])
        if not first_process():
            return
        own = self.state_dict()
        optimizer = trainer.optimizer.state_dict()
        tensors = {f"weights/{k}": v for k, v in _trainable(trainer.model)}
        tensors |= {f"own/{k}": v for k, v in own.items() if isinstance(v, Tensor)}
        for index, values in optimizer["state"].items():
            tensors |= {f"optimizer/{index}/{k}": torch.as_tensor(v) for k, v in values.items()}
        state = {
            "own": {k: v for k, v in own.items() if not isinstance(v, Tensor)},
            "groups": optimizer["param_groups"],
            "scheduler": trainer.lr_scheduler.state_dict(),
            "ranks": ranks,
            "trainer": asdict(trainer.state),
        }
        self.kept.write(tensors, state)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        trainer: Any = self
        found = self._found()
        _copy_into(dict(_trainable(trainer.model)), found.part("weights"))
        self.load_state({**found.state["own"], **found.part("own")})
        if len(found.state["ranks"]) != trainer.accelerator.num_processes:
            raise LaunchError(
                f"the checkpoint is of {len(found.state['ranks'])} processes, but now there are "
                f"{trainer.accelerator.num_processes}; start as many, or remove the checkpoint"
            )

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is not None:
            trainer: Any = self
            found = self._found()
            state: dict[int, dict[str, Tensor]] = {}
            for name, tensor in found.part("optimizer").items():
                index, key = name.split("/")
                state.setdefault(int(index), {})[key] = tensor
            trainer.optimizer.load_state_dict(
                {"state": state, "param_groups": found.state["groups"]}
            )
            trainer.lr_scheduler.load_state_dict(found.state["scheduler"])
            found.tensors.clear()  # no longer needed; they may be gigabytes

    def _load_rng_state(self, checkpoint: str | None) -> None:
        if checkpoint is not None:
            set_random_state(self._rank()["now"])

    def begin_epoch(self) -> None:
        """Make this epoch draw its order from the same random state as the killed run did."""
        resumed = self.kept is not None and self.kept.found is not None
        if resumed and self.order is None:
            set_random_state(self._rank()["order"])
        self.order = random_state()

    def _rank(self) -> dict[str, Any]:
        trainer: Any = self
        found: dict[str, Any] = self._found().state["ranks"][trainer.accelerator.process_index]
        return found

    def _found(self) -> Checkpoint:
        assert self.kept is not None and self.kept.found is not None
        return self.kept.found


class _SaveWhenDue(TrainerCallback):
    """Asks for a checkpoint when one is due, in all processes at the same step."""

    def __init__(self, trainer: Any) -> None:
        self._trainer = trainer

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Before the order of the epoch's data is drawn."""
        self._trainer.begin_epoch()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """After an optimizer step."""
        if self._trainer.may_stop_here() and state.global_step < state.max_steps:
            control.should_save = broadcast(self._trainer.kept.due())


def random_state() -> dict[str, Any]:
    """The state of every random generator of this process, as JSON values."""
    numbers: Any = np.random.get_state()
    kind, words, *rest = numbers
    state = {
        "python": random.getstate(),
        "numpy": [kind, words.tolist(), *rest],
        "torch": torch.get_rng_state().tolist(),
    }
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state().tolist()
    return state


def set_random_state(state: Mapping[str, Any]) -> None:
    """Put every generator where ``random_state`` found it."""
    random.setstate(generator_state(state["python"]))
    np.random.set_state(tuple(state["numpy"]))
    torch.set_rng_state(torch.tensor(state["torch"], dtype=torch.uint8))
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(torch.tensor(state["cuda"], dtype=torch.uint8))


def generator_state(found: Sequence[Any]) -> tuple[Any, ...]:
    """The state of a ``random.Random`` as it was before it went through JSON."""
    version, words, gauss = found
    return (version, tuple(words), gauss)


def _trainable(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    return ((name, p.data) for name, p in model.named_parameters() if p.requires_grad)


def _results(model: nn.Module, adapter: str) -> Iterator[tuple[str, Tensor]]:
    """The weights of an adapter, and of the model's score head if it has one."""
    for name, parameter in model.named_parameters():
        if f".{adapter}." in name or name.startswith("head."):
            yield name, parameter.data


def _copy_into(parameters: dict[str, Tensor], weights: dict[str, Tensor]) -> None:
    if {k: v.shape for k, v in parameters.items()} != {k: v.shape for k, v in weights.items()}:
        raise CheckpointError("the checkpoint holds weights of another shape; remove it")
    for name, weight in weights.items():
        parameters[name].copy_(weight)


def _digest(tensors: Mapping[str, Tensor], state: str) -> str:
    digest = hashlib.sha256(state.encode())
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
