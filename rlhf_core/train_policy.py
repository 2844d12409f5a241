"""PPO: a critic on TRL's ``GRPOTrainer``.

TRL samples, scores, computes old and reference log-probabilities and the clipped objective. Two of
its methods are overridden, and both call TRL's own: the one that makes a rollout, to add values,
the KL-shaped reward, advantages and returns; and the one that computes the loss, to add the
clipped value loss and, if asked, the loss on demonstrations.

The critic is a linear head on the policy's own trunk, starting at zero. Every rollout comes from
the current policy; replies of the chat service are never trained on here.

Source: Schulman et al. 2017, arXiv:1707.06347; Ouyang et al. 2022, arXiv:2203.02155, section 3.5.
"""

import random
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from math import ceil
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor
from transformers import TrainerCallback
from trl.trainer.grpo_config import GRPOConfig
from trl.trainer.grpo_trainer import GRPOTrainer

from rlhf_core.advantages import generalized_advantages, leave_one_out, token_rewards, whiten
from rlhf_core.base_model import Base
from rlhf_core.chat_format import encode_prompt
from rlhf_core.config import PolicySettings
from rlhf_core.critic import Critic, attached_critic
from rlhf_core.errors import NotEnoughDataError
from rlhf_core.losses import clipped_value_loss, masked_mean
from rlhf_core.records import Demonstration, Prompt
from rlhf_core.train_sft import sft_row
from rlhf_core.training import (
    Progress,
    QuietTrainer,
    Stopwatch,
    arguments,
    prepared,
    require_finite,
)

Score = Callable[[Sequence[Prompt], Sequence[str]], Tensor]  # (B,) from B prompts, B responses
GROUP = 2  # responses per prompt in a rollout; TRL demands at least two
PTX_TOKENS = 256  # longer demonstrations are cut from the left
REFERENCE = "ref"  # the adapter name under which TRL looks for the reference


def train_policy(  # noqa: PLR0913 - every stage takes its inputs by name
    base: Base,
    prompts: Sequence[Prompt],
    score: Score,
    *,
    adapter: str,
    reference: str | None,
    settings: PolicySettings,
    demonstrations: Sequence[Demonstration] = (),
    progress: Progress | None = None,
    seed: int = 0,
) -> dict[str, float]:
    """Train the attached ``adapter`` in place towards higher scores, near the reference.

    Args:
        base: The shared base.
        prompts: Conversations to respond to; sampled again and again.
        score: Scores whole responses, for instance ``RewardModel.score``.
        adapter: The policy.
        reference: Adapter that the KL is measured against; ``None`` is the bare base.
        settings: PPO's settings.
        demonstrations: For the ptx term; unused while ``settings.ptx_coef`` is 0.
        progress: Called after every iteration.
        seed: Of everything random here.

    Returns:
        Metrics of the last iteration, ``iterations`` done, and ``kl_stopped`` (1 or 0).

    Raises:
        NotEnoughDataError: There is no prompt, or no demonstration for the ptx term.
        DivergenceError: A loss or score left the numbers.
    """
    if not prompts:
        raise NotEnoughDataError("there are 0 prompts to respond to; collect conversations first")
    if settings.ptx_coef and not demonstrations:
        raise NotEnoughDataError("ptx_coef needs demonstrations and there are 0; set it to 0")
    with (
        _reference(base, reference),
        prepared(base, adapter) as scratch,
        attached_critic(base) as critic,
    ):
        trainer = PPOTrainer(
            base,
            score,
            critic=critic,
            settings=settings,
            demonstrations=demonstrations,
            args=_config(base, settings, output_dir=scratch, seed=seed),
            train_dataset=_dataset(prompts, settings),
        )
        trainer.add_callback(_AfterIteration(trainer, progress))
        try:
            trainer.train()
        except _KLBudgetSpent:
            trainer.latest["kl_stopped"] = 1.0
        return trainer.latest


class PPOTrainer(QuietTrainer, GRPOTrainer):
    """GRPO with a value head, per-token KL in the reward, and GAE."""

    def __init__(
        self,
        base: Base,
        score: Score,
        *,
        critic: Critic,
        settings: PolicySettings,
        demonstrations: Sequence[Demonstration],
        args: GRPOConfig,
        train_dataset: Dataset,
    ) -> None:
        self.settings, self._base, self._critic = settings, base, critic
        self.latest: dict[str, float] = {"iterations": 0.0, "kl_stopped": 0.0}
        self._passes: list[tuple[Tensor, Tensor]] = []  # log-probabilities and values, (B, T)
        self._scores = torch.empty(0)
        self._noted: defaultdict[str, list[float]] = defaultdict(list)
        self._clock = Stopwatch()
        self._ptx_rows = [sft_row(base.tokenizer, d, PTX_TOKENS) for d in demonstrations]
        self._random = random.Random(args.seed)

        def reward(prompts: list[Prompt], completions: list[Any], **_: Any) -> list[float | None]:
            responses = [completion[0]["content"] for completion in completions]
            return [float(s) for s in score(prompts, responses)]

        super().__init__(
            model=base.model,
            reward_funcs=reward,
            args=args,
            train_dataset=train_dataset,
            processing_class=base.tokenizer,
            optimizers=(_optimizer(base, critic, settings), None),
        )
        # A nonzero beta makes TRL compute the reference's log-probabilities. It is set only now
        # because the constructor would look for an adapter called "default" to copy.
        self.beta = 1.0

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        """TRL's rollout, with values, returns and advantages per token."""
        self._passes = []
        with self._clock.timed("rollout"):
            rollout: dict[str, Any] = super()._generate_and_score_completions(inputs)
            if "old_per_token_logps" not in rollout:  # TRL skips that pass if it steps only once
                self._passes = []
                self._policy_pass(rollout)
        logprobs, values = self._passes[0]  # the policy's pass comes before the reference's
        return rollout | {
            "old_per_token_logps": logprobs,
            "values": values,
            **self._shape(rollout, logprobs, values),
        }

    def _shape(
        self, rollout: dict[str, Any], logprobs: Tensor, values: Tensor
    ) -> dict[str, Tensor]:
        """Advantages and returns of a rollout; its KL must be within the budget."""
        s, mask = self.settings, rollout["completion_mask"].bool()
        here = slice(len(mask) * self.accelerator.process_index, None)  # TRL gathers the scores
        scores = require_finite(self._scores[here, 0][: len(mask)], "the score of a response")
        finished = _finished(rollout["completion_ids"], mask, self.eos_token_ids)  # (B,)
        kl_per_token = (logprobs - rollout["ref_per_token_logps"]) * mask
        rewards = token_rewards(
            scores - s.missing_eos_penalty * ~finished,
            logprobs,
            rollout["ref_per_token_logps"],
            mask,
            kl_coef=s.kl_coef,
        )
        kl = require_finite(kl_per_token.sum(1).mean(), "the KL to the reference")
        self._note(
            {
                "objective/kl": kl,  # nats per response
                "objective/score": scores.mean(),
                "objective/rlhf_reward": rewards.sum(1).mean(),
                "val/finished": finished.float().mean(),
                "val/length": mask.sum(1).float().mean(),
            }
        )
        if kl > s.kl_budget:
            self.finish_iteration()
            raise _KLBudgetSpent
        if s.estimator == "rloo":
            advantages = leave_one_out(rewards.sum(1), mask, group=GROUP)
            return {"advantages": whiten(advantages, mask), "returns": values}
        advantages, returns = generalized_advantages(
            rewards, values, mask, gamma=s.gamma, lam=s.lam
        )
        return {"advantages": whiten(advantages, mask), "returns": returns}

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> Tensor:
        """TRL's clipped policy loss, plus the value loss and the ptx loss."""
        s, mask = self.settings, inputs["completion_mask"].bool()
        self._passes = []
        self.beta = 0.0  # the KL is in the reward already
        try:
            policy_loss: Tensor = super()._compute_loss(model, inputs)  # type: ignore[no-untyped-call]
        finally:
            self.beta = 1.0
        logprobs, values = self._passes[0]
        losses = {"loss/policy": policy_loss}
        if s.estimator == "gae":
            losses["loss/value"] = clipped_value_loss(
                values, inputs["values"], inputs["returns"], mask, cliprange=s.value_cliprange
            )
        if s.ptx_coef:
            losses["loss/ptx"] = self._ptx_loss(model, len(mask))
        self._note(losses)
        self._note(_changes(logprobs.detach() - inputs["old_per_token_logps"], mask, s.cliprange))
        coefficients = {"loss/policy": 1.0, "loss/value": s.vf_coef, "loss/ptx": s.ptx_coef}
        total = torch.stack([coefficients[name] * loss for name, loss in losses.items()]).sum()
        return require_finite(total, "PPO's loss")

    def _ptx_loss(self, model: Any, count: int) -> Tensor:
        """Mean loss per response token of as many demonstrations as there are episodes."""
        rows = self._random.choices(self._ptx_rows, k=count)
        ids, attention = self._base.pad([row["input_ids"] for row in rows], side="right")
        labels = torch.full_like(ids, -100)
        for i, row in enumerate(rows):
            labels[i, : len(row["labels"])] = torch.tensor(row["labels"])
        loss: Tensor = model(input_ids=ids, attention_mask=attention, labels=labels).loss
        return loss

    def _policy_pass(self, rollout: dict[str, Any]) -> None:
        ids = torch.cat([rollout["prompt_ids"], rollout["completion_ids"]], 1)  # (B, P + T)
        attention = torch.cat([rollout["prompt_mask"], rollout["completion_mask"]], 1)
        n_tokens = rollout["completion_ids"].size(1)
        with torch.no_grad():
            self._get_per_token_logps_and_entropies(self.model, ids, attention, n_tokens)

    def _get_per_token_logps_and_entropies(
        self,
        model: Any,
        input_ids: Tensor,
        attention_mask: Tensor,
        logits_to_keep: int,
        **more: Any,
    ) -> Any:
        """TRL's log-probabilities; the values of the same tokens are kept beside them."""
        with self._critic.listening():
            found = super()._get_per_token_logps_and_entropies(
                model, input_ids, attention_mask, logits_to_keep, **more
            )
            self._passes.append((found[0], self._critic.values(logits_to_keep)))
        return found

    def _tokenize_prompts(
        self, prompts: list[Prompt]
    ) -> tuple[list[list[int]], None, dict[str, Any]]:
        return [encode_prompt(self._base.tokenizer, prompt) for prompt in prompts], None, {}

    def _generate(self, prompts: list[Prompt]) -> Any:
        with self._clock.timed("generate"):
            return super()._generate(prompts)

    def _calculate_rewards(self, *args: Any, **kwargs: Any) -> Tensor:
        with self._clock.timed("score"):
            self._scores = super()._calculate_rewards(*args, **kwargs)
        return self._scores

    def finish_iteration(self) -> None:
        """Average what was noted since the last call into ``latest``, with shares of the time."""
        self._noted["objective/entropy"] += self._metrics["train"].get("entropy", [])  # per token
        self._metrics["train"].clear()
        self.latest |= {key: sum(v) / len(v) for key, v in self._noted.items() if v}
        self._noted.clear()
        whole, spent = self._clock.elapsed(), self._clock.seconds
        parts = {
            "generate": spent["generate"],
            "score": spent["score"],
            "logprobs": spent["rollout"] - spent["generate"] - spent["score"],
            "update": whole - spent["rollout"],
        }
        self.latest |= {f"time/{name}": seconds / whole for name, seconds in parts.items()}
        self.latest["time/iteration_s"] = whole
        self._clock = Stopwatch()

    def _note(self, metrics: dict[str, Tensor]) -> None:
        for name, value in metrics.items():
            self._noted[name].append(value.item())


class _KLBudgetSpent(Exception):  # noqa: N818 - a signal to stop cleanly, no error
    """The policy has moved as far from the reference as it may."""


class _AfterIteration(TrainerCallback):
    """Closes the books of an iteration after its last optimizer step."""

    def __init__(self, trainer: PPOTrainer, progress: Progress | None) -> None:
        self._trainer, self._progress = trainer, progress

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Called by TRL's loop after every optimizer step."""
        if state.global_step % (args.steps_per_generation * args.num_iterations):
            return
        self._trainer.finish_iteration()
        self._trainer.latest["iterations"] += 1
        if self._progress is not None:
            self._progress(state.global_step / state.max_steps, dict(self._trainer.latest))


@contextmanager
def _reference(base: Base, reference: str | None) -> Iterator[None]:
    """Have the reference where TRL looks for it: under its name, or (``None``) nowhere."""
    if reference in (None, REFERENCE):
        yield
        return
    base.copy_adapter(reference, REFERENCE)
    try:
        yield
    finally:
        base.drop(REFERENCE)


def _config(base: Base, settings: PolicySettings, *, output_dir: str, seed: int) -> GRPOConfig:
    steps = settings.batch_size // settings.minibatch_size * settings.epochs  # per iteration
    return GRPOConfig(
        **arguments(base, output_dir=output_dir, seed=seed),
        per_device_train_batch_size=settings.minibatch_size,
        generation_batch_size=settings.batch_size,
        num_generations=GROUP,
        num_iterations=settings.epochs,
        gradient_accumulation_steps=1,
        max_steps=settings.iterations * steps,
        warmup_steps=settings.warmup_iterations * steps,
        learning_rate=settings.learning_rate,
        lr_scheduler_type="constant_with_warmup",
        max_grad_norm=settings.max_grad_norm,
        max_completion_length=settings.max_new_tokens,
        temperature=settings.temperature,
        top_k=0,
        epsilon=settings.cliprange,
        beta=0.0,  # see PPOTrainer
        loss_type="bnpo",  # the mean over all tokens of the batch
        disable_dropout=True,
        ddp_find_unused_parameters=False,  # the critic is used outside forward
    )


def _dataset(prompts: Sequence[Prompt], settings: PolicySettings) -> Dataset:
    """The prompts, repeated so that they last for all iterations in one shuffled pass."""
    needed = settings.iterations * settings.batch_size // GROUP
    rows = [{"prompt": [dict(message) for message in prompt]} for prompt in prompts]
    return Dataset.from_list(rows * ceil(needed / len(rows)))


def _optimizer(base: Base, critic: Critic, settings: PolicySettings) -> torch.optim.Optimizer:
    head = list(critic.parameters())
    policy = [
        p
        for p in base.model.parameters()
        if p.requires_grad and not any(p is other for other in head)
    ]
    return torch.optim.AdamW(
        [
            {"params": policy, "lr": settings.learning_rate},
            {"params": head, "lr": settings.value_learning_rate},
        ],
        eps=1e-5,  # arXiv:2403.17031: a larger epsilon than PyTorch's tames the first steps
        weight_decay=0.0,
    )


def _finished(ids: Tensor, mask: Tensor, eos_ids: list[int]) -> Tensor:
    """Whether the last real token of each response is an end-of-sequence token; (B,)."""
    last = mask.sum(1, keepdim=True).sub(1).clamp(min=0)  # (B, 1)
    return torch.isin(ids.gather(1, last).squeeze(1), torch.tensor(eos_ids, device=ids.device))


def _changes(log_ratio: Tensor, mask: Tensor, cliprange: float) -> dict[str, Tensor]:
    """How far the policy is from the one that made the rollout. Metrics from (B, T)."""
    ratio = log_ratio.exp()
    return {
        "policy/approxkl": 0.5 * masked_mean(log_ratio**2, mask),
        "policy/clipfrac": masked_mean(((ratio - 1).abs() > cliprange).float(), mask),
        "val/ratio": masked_mean(ratio, mask),
    }
