"""The PPO stage: from prompts and a score to a policy. The trainer itself is in `ppo/trainer.py`.

Every rollout comes from the current policy; replies of the chat service never train here.
"""

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import ceil
from pathlib import Path
from typing import Any

from datasets import Dataset
from transformers import TrainerCallback
from trl.trainer.grpo_config import GRPOConfig

from rlhf_core.config import PolicySettings
from rlhf_core.errors import LaunchError, NotEnoughDataError
from rlhf_core.model.base_model import Base
from rlhf_core.ppo.critic import attached_critic
from rlhf_core.ppo.trainer import REFERENCE, KLBudgetSpent, PPOTrainer
from rlhf_core.records import Demonstration, Prompt
from rlhf_core.reward.reward_model import Score
from rlhf_core.training.checkpoints import StageFile, file_in
from rlhf_core.training.distributed import processes
from rlhf_core.training.stage import Metrics, Progress, arguments, batches, prepared, run_stage

__all__ = ["PPOTrainer", "Score", "train_policy"]


def train_policy(  # noqa: PLR0913 - every stage takes its inputs by name
    base: Base,
    prompts: Sequence[Prompt],
    score: Score,
    *,
    adapter: str,
    reference: str | None,
    settings: PolicySettings,
    anchor: str | None = None,
    demonstrations: Sequence[Demonstration] = (),
    texts: Sequence[str] = (),
    older_prompts: Sequence[Prompt] = (),
    unvoted_prompts: Sequence[Prompt] = (),
    progress: Progress | None = None,
    seed: int = 0,
    checkpoints: Path | str | None = None,
) -> dict[str, float]:
    """Train the attached ``adapter`` in place towards higher scores, near the reference.

    Args:
        base: The shared base.
        prompts: Conversations to respond to, of one turn or more; used again and again.
        score: Scores whole responses, for instance ``RewardModel.score``.
        adapter: The policy's adapter.
        reference: Adapter that the KL penalty is measured against; ``None`` is the bare base.
        settings: PPO's settings.
        anchor: Adapter from which the KL budget counts; ``None`` is the bare base.
        demonstrations: For the ptx loss; unused if ``settings.ptx_coef`` is 0.
        texts: Plain text for the ptx loss, beside the demonstrations.
        older_prompts: Prompts of earlier cycles, so that they are not forgotten.
        unvoted_prompts: Prompts that nobody voted on.
        progress: Called after every iteration.
        seed: Seed of everything random here.
        checkpoints: Directory of the checkpoint from which a killed run resumes; it is written
            between iterations. The caller has to give the same score again.

    Returns:
        Metrics of the last iteration, ``iterations`` done, and ``kl_stopped`` (1 or 0).

    Raises:
        InvalidInputError: A prompt is not a conversation, the score does not give one number for
            each response, or options do not go together.
        NotEnoughDataError: There is no prompt, or no text for the ptx loss.
        CheckpointError: The checkpoint is of other data or settings.
        DivergenceError: A loss, score, KL or weight is not finite, or too large.
        MemoryExhaustedError: Memory ran out.
    """
    settings.require_fit()
    prompts, older_prompts, unvoted_prompts = (
        _fitting(base, asked) for asked in (prompts, older_prompts, unvoted_prompts)
    )
    if not prompts:
        raise NotEnoughDataError(
            f"there are 0 prompts of at most {base.reply.prompt_tokens} tokens to respond to; "
            "collect conversations first"
        )
    if settings.ptx_coef and not (demonstrations or texts):
        raise NotEnoughDataError(
            "ptx_coef needs demonstrations or texts and there are 0; set it to 0, or in a cycle "
            "name a pretraining_file"
        )
    data = (prompts, older_prompts, unvoted_prompts, demonstrations, texts)
    dataset = _dataset(prompts, settings, older=older_prompts, unvoted=unvoted_prompts, seed=seed)

    def train(settings: PolicySettings, kept: StageFile) -> Metrics:
        """One attempt, with these settings."""
        with (
            _reference(base, reference),
            prepared(
                base,
                adapter,
                lower="policy.micro_batch_size",
                recompute=settings.gradient_checkpointing,
            ) as scratch,
            attached_critic(base, trained=settings.estimator == "gae") as critic,
        ):
            trainer = PPOTrainer(
                base,
                score,
                critic=critic,
                settings=settings,
                demonstrations=demonstrations,
                texts=texts,
                reference=reference,
                anchor=anchor,
                args=_config(base, settings, output_dir=scratch, seed=seed),
                train_dataset=dataset,
            )
            trainer.add_callback(_AfterIteration(trainer, progress))
            try:
                kept.train(trainer)
            except KLBudgetSpent:
                trainer.finish_iteration()
                trainer.latest["kl_stopped"] = 1.0
            return trainer.latest

    return run_stage(
        settings,
        train,
        model=base.model,
        adapter=adapter,
        weights=base.weights(adapter),
        rows=settings.minibatch_size,
        file=file_in(checkpoints, "policy"),
        made_of=(
            *(base.digest(name) for name in (adapter, reference, anchor)),
            base.reply,
            data,
            seed,
        ),
    )


def _fitting(base: Base, prompts: Sequence[Prompt]) -> list[Prompt]:
    fitted = map(base.chat.fit_prompt, prompts)
    return [prompt for prompt in fitted if prompt is not None]


class _AfterIteration(TrainerCallback):
    """Computes and reports an iteration's metrics after its last optimizer step."""

    def __init__(self, trainer: PPOTrainer, progress: Progress | None) -> None:
        self._trainer, self._progress = trainer, progress

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Called by TRL's loop after every optimizer step."""
        if state.global_step % self._trainer.settings.steps_per_iteration:
            return
        self._trainer.finish_iteration()
        self._trainer.latest["iterations"] += 1
        if self._progress is not None:
            self._progress(state.global_step / state.max_steps, dict(self._trainer.latest))


@contextmanager
def _reference(base: Base, reference: str | None) -> Iterator[None]:
    """Attach the reference under the name that TRL looks for; without one TRL uses the base."""
    if reference in (None, REFERENCE):
        yield
        return
    base.copy_adapter(reference, REFERENCE)
    try:
        yield
    finally:
        base.drop(REFERENCE)


def _config(base: Base, settings: PolicySettings, *, output_dir: str, seed: int) -> GRPOConfig:
    steps, n = settings.steps_per_iteration, processes()
    if settings.batch_size // n % settings.group_size:  # a process compares replies by itself
        raise LaunchError(
            f"the {settings.batch_size // n} episodes of each of {n} processes cannot be divided "
            f"into groups of {settings.group_size}; use another policy.batch_size"
        )
    return GRPOConfig(
        **arguments(base, output_dir=output_dir, seed=seed),
        **batches(settings.minibatch_size, settings.micro_batch_size),
        generation_batch_size=settings.batch_size,
        num_generations=settings.group_size,
        num_iterations=settings.epochs,
        max_steps=settings.iterations * steps,
        warmup_steps=settings.warmup_iterations * steps,
        learning_rate=settings.learning_rate,
        lr_scheduler_type="constant_with_warmup",
        max_grad_norm=settings.max_grad_norm,
        max_completion_length=base.reply.tokens,
        temperature=base.reply.rollout_temperature,
        top_k=0,
        epsilon=settings.cliprange,
        beta=0.0,  # the KL penalty is in the reward, see PPOTrainer
        loss_type="bnpo",  # the mean over all tokens of the batch
        disable_dropout=True,
    )


def _dataset(
    prompts: Sequence[Prompt],
    settings: PolicySettings,
    *,
    older: Sequence[Prompt] = (),
    unvoted: Sequence[Prompt] = (),
    seed: int = 0,
) -> Dataset:
    """As many prompts as all iterations need; TRL shuffles them.

    Each kind gets its natural share, as many as there are of it, within limits:

    - older prompts, of all: at least ``replay_share``, so that they are not forgotten, and at most
      ``most_replay_share``, so that after many cycles the new ones still count;
    - unvoted prompts, of the rest: at most ``most_unvoted_share``, because the reward model knows
      least about them;
    - prompts with new votes: what is left.
    """
    needed = settings.iterations * settings.batch_size // settings.group_size
    natural = len(older) / (len(older) + len(unvoted) + len(prompts))
    replayed = min(max(settings.replay_share, natural), settings.most_replay_share) if older else 0
    share = min(settings.most_unvoted_share, len(unvoted) / (len(unvoted) + len(prompts)))
    n_older = round(needed * replayed)
    n_unvoted = round((needed - n_older) * share)
    chosen = [
        *_repeated(older, n_older, seed=seed),
        *_repeated(prompts, needed - n_older - n_unvoted, seed=seed + 1),
        *_repeated(unvoted, n_unvoted, seed=seed + 2),
    ]
    return Dataset.from_list([{"prompt": [dict(m) for m in prompt]} for prompt in chosen])


def _repeated(prompts: Sequence[Prompt], count: int, *, seed: int) -> list[Prompt]:
    """``count`` prompts, each about equally often, in random order."""
    rows = list(prompts) * ceil(count / max(1, len(prompts)))
    if len(prompts) > count:
        random.Random(seed).shuffle(rows)
    return rows[:count]
