"""Supervised fine-tuning of an adapter on demonstrations, on TRL's ``SFTTrainer``.

Only the assistant's tokens are learned, with the end token. If there is a score, the
pass whose responses score best is kept: the loss on demonstrations says little about what people
prefer.

Source: Ouyang et al. 2022, arXiv:2203.02155, section 3.5 (selection by reward score).
"""

import random
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from datasets import Dataset
from torch import Tensor
from transformers import TrainerCallback
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer as TRLSFTTrainer

from rlhf_core.config import SFTSettings
from rlhf_core.errors import NotEnoughDataError
from rlhf_core.model.base_model import Base
from rlhf_core.model.chat_format import ChatFormat
from rlhf_core.records import Demonstration, Prompt
from rlhf_core.reward.reward_model import Score, scores_of
from rlhf_core.training.checkpoints import StageFile, file_in
from rlhf_core.training.memory import out_of_memory_in_one_line
from rlhf_core.training.stage import (
    EXPLODED,
    Metrics,
    Progress,
    QuietTrainer,
    ReportProgress,
    arguments,
    batches,
    passes,
    prepared,
    require_finite,
    run_stage,
)


def train_sft(  # noqa: PLR0913 - every stage takes its inputs by name
    base: Base,
    demonstrations: Sequence[Demonstration],
    *,
    adapter: str,
    settings: SFTSettings,
    score: Score | None = None,
    prompts: Sequence[Prompt] = (),
    progress: Progress | None = None,
    seed: int = 0,
    checkpoints: Path | str | None = None,
) -> dict[str, float]:
    """Train the attached ``adapter`` in place to imitate the demonstrations.

    Args:
        base: The shared base.
        demonstrations: What to imitate.
        adapter: The adapter to train.
        settings: SFT's settings.
        score: Chooses the pass that is kept; without it the last pass is kept.
        prompts: Conversations to respond to for ``score``; none of them should be demonstrated.
        progress: Called after every optimizer step.
        seed: Seed of everything random here.
        checkpoints: Directory of the checkpoint from which a killed run resumes. The caller has to
            give the same score again.

    Returns:
        Final metrics: ``loss/sft``, the mean loss per response token in nats; and, with ``score``,
        ``sft/score`` and ``sft/passes`` of the pass that was kept.

    Raises:
        NotEnoughDataError: There is no demonstration, or no prompt for the score.
        CheckpointError: The checkpoint is of other data or settings.
        DivergenceError: The loss is not finite, or too large.
        MemoryExhaustedError: Memory ran out.
    """
    if not demonstrations:
        raise NotEnoughDataError("there are 0 demonstrations; collect some, or leave SFT out")
    if score is not None and not prompts:
        raise NotEnoughDataError("there are 0 prompts to score responses to; leave the score out")
    rows = [sft_row(base.chat, d) for d in demonstrations]
    asked = random.Random(seed).sample(prompts, min(settings.scored_prompts, len(prompts)))
    n_passes = passes(
        len(rows),
        batch_size=settings.batch_size,
        epochs=settings.epochs,
        min_steps=settings.min_steps,
    )

    def train(settings: SFTSettings, kept: StageFile) -> Metrics:
        """One attempt, with these settings."""
        with prepared(
            base,
            adapter,
            lower="sft.micro_batch_size",
            recompute=settings.gradient_checkpointing,
        ) as scratch:
            trainer = SFTTrainer(
                model=base.model,
                args=_config(base, settings, n_passes=n_passes, output_dir=scratch, seed=seed),
                train_dataset=Dataset.from_list(rows),
                processing_class=base.tokenizer,
            )
            if score is not None:
                mean_score = partial(_mean_score, base, adapter, score, asked, seed)
                # few demonstrations get many passes; only `epochs` of these are scored
                every = max(1, n_passes // settings.epochs)
                trainer.add_callback(_KeepBest(trainer, mean_score, every))
            if progress is not None:
                trainer.add_callback(
                    ReportProgress(lambda share: progress(share, {"loss/sft": trainer.latest}))
                )
            kept.train(trainer)
            return trainer.restore_best()

    return run_stage(
        settings,
        train,
        model=base.model,
        adapter=adapter,
        weights=base.weights(adapter),
        rows=settings.batch_size,
        file=file_in(checkpoints, "sft"),
        made_of=(base.digest(adapter), base.reply, rows, prompts, score is not None, seed),
    )


def sft_row(chat: ChatFormat, demonstration: Demonstration) -> dict[str, Any]:
    """Token ids and labels of one demonstration; the prompt's labels are -100 (not learned).

    A response that is longer than a reply may be is cut, and then has no end to learn.
    """
    ids, reply = chat.encode_pair(demonstration.prompt, demonstration.response)
    if reply > chat.reply.tokens:
        ids, reply = ids[:-1], reply - 1  # the end token, because there is no room
    return {"input_ids": ids, "labels": [-100] * (len(ids) - reply) + ids[len(ids) - reply :]}


class SFTTrainer(QuietTrainer, TRLSFTTrainer):
    """TRL's trainer; it remembers its latest loss and the best pass so far."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.latest = float("nan")
        self._step_loss = 0.0
        self.best: dict[str, float] = {}
        self.best_weights: dict[str, Tensor] = {}

    def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
        """TRL's loss, which must be finite; a step's micro-batches add up to the step's loss."""
        found = super().compute_loss(*args, **kwargs)  # type: ignore[no-untyped-call]
        loss = found[0] if isinstance(found, tuple) else found
        whole = require_finite(loss.detach() + self._step_loss, "the SFT loss", most=EXPLODED)
        self._step_loss = whole.item()
        if self.accelerator.sync_gradients:  # the step's last part
            self.latest, self._step_loss = self._step_loss, 0.0
        return found

    def state_dict(self) -> dict[str, Any]:
        """The latest loss, and the best pass with its weights."""
        weights = {f"best/{name}": weight for name, weight in self.best_weights.items()}
        return {"latest": self.latest, "best": self.best} | weights

    def load_state(self, state: dict[str, Any]) -> None:
        """Restore what ``state_dict`` returned."""
        self.latest, self.best = state.pop("latest"), state.pop("best")
        self.best_weights = {k.removeprefix("best/"): v.clone() for k, v in state.items()}

    def note_pass(self, score: float, passed: int) -> None:
        """Keep the weights of this pass if it scores higher than every pass before."""
        if not self.best or score > self.best["sft/score"]:
            self.best = {"sft/score": score, "sft/passes": float(passed), "loss/sft": self.latest}
            self.best_weights = {name: p.data.clone() for name, p in self._trained()}

    def restore_best(self) -> dict[str, float]:
        """Restore the weights of the best pass, if passes were scored; returns its metrics."""
        if not self.best:
            return {"loss/sft": self.latest}
        for name, parameter in self._trained():
            parameter.data.copy_(self.best_weights[name])
        return self.best

    def _trained(self) -> list[tuple[str, Any]]:
        model: Any = self.model
        return [(name, p) for name, p in model.named_parameters() if p.requires_grad]


class _KeepBest(TrainerCallback):
    """Scores the policy after every ``every`` passes and after the last one.

    It does so in the last step of a pass, so that the checkpoint after that step has the score.
    """

    def __init__(self, trainer: SFTTrainer, mean_score: Callable[[], float], every: int) -> None:
        self._trainer, self._mean_score, self._every = trainer, mean_score, every

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Called by TRL's loop after every optimizer step."""
        ended = float(state.epoch).is_integer()
        if ended and (state.global_step == state.max_steps or int(state.epoch) % self._every == 0):
            self._trainer.note_pass(self._mean_score(), int(state.epoch))


def _mean_score(
    base: Base, adapter: str, score: Score, prompts: Sequence[Prompt], seed: int
) -> float:
    with out_of_memory_in_one_line("sft.scored_prompts"):
        found = base.respond(prompts, adapter=adapter, seed=seed)
        scores = scores_of(score, prompts, [response.text for response in found])  # (B,)
    return require_finite(scores, "the score of a response").mean().item()


def _config(
    base: Base, settings: SFTSettings, *, n_passes: int, output_dir: str, seed: int
) -> SFTConfig:
    return SFTConfig(
        **arguments(base, output_dir=output_dir, seed=seed),
        **batches(settings.batch_size, settings.micro_batch_size),
        num_train_epochs=n_passes,
        learning_rate=settings.learning_rate,
        lr_scheduler_type="cosine",
        max_length=None,  # `sft_row` has cut the rows
    )
