"""`PPOTrainer`: a critic on TRL's ``GRPOTrainer``.

TRL samples, scores, asks for old and reference log-probabilities and computes the clipped
objective. Two of its methods are overridden, and both call TRL's own: the one that makes a rollout,
to add values, the KL-shaped reward, advantages and returns; and the one that computes the loss, to
add the clipped value loss and, if asked, the loss on text that must not be forgotten. A third, the
pass through the network that both use, goes over the same rows without their padding.

Source: Schulman et al. 2017, arXiv:1707.06347; Ouyang et al. 2022, arXiv:2203.02155, section 3.5.
"""

import statistics
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor
from trl.trainer.grpo_config import GRPOConfig
from trl.trainer.grpo_trainer import GRPOTrainer

from rlhf_core.config import PolicySettings
from rlhf_core.errors import DivergenceError
from rlhf_core.model.base_model import Base
from rlhf_core.model.chat_format import encode_prompt
from rlhf_core.ppo.advantages import generalized_advantages, leave_one_out, token_rewards, whiten
from rlhf_core.ppo.critic import Critic
from rlhf_core.ppo.kl_control import require_bounded_kl
from rlhf_core.ppo.losses import clipped_value_loss
from rlhf_core.ppo.metrics import finished, rollout_metrics, update_metrics, value_clip_share
from rlhf_core.ppo.packing import Packed, packed, spread
from rlhf_core.ppo.pretraining_mix import PretrainingMix, Row
from rlhf_core.records import Demonstration, Prompt
from rlhf_core.scores import Score, scores_of
from rlhf_core.training.checkpoints import generator_state
from rlhf_core.training.memory import out_of_memory_in_one_line
from rlhf_core.training.stage import QuietTrainer, Stopwatch, require_finite

GROUP = 2  # responses per prompt in a rollout; TRL demands at least two
FORWARD_ROWS = 16  # of similar length, in one forward pass
MAX_POLICY_LOSS = 100.0  # advantages have variance 1, so this means ratios out of all bounds


class KLBudgetSpent(Exception):  # noqa: N818 - a signal to stop cleanly, no error
    """The policy has moved as far from the bare base as it may."""


class PPOTrainer(QuietTrainer, GRPOTrainer):
    """GRPO with a value head, per-token KL in the reward, and GAE."""

    def __init__(  # noqa: PLR0913 - everything by name
        self,
        base: Base,
        score: Score,
        *,
        critic: Critic,
        settings: PolicySettings,
        demonstrations: Sequence[Demonstration],
        args: GRPOConfig,
        train_dataset: Dataset,
        texts: Sequence[str] = (),
        reference: str | None = None,
    ) -> None:
        self.settings, self._base, self._critic = settings, base, critic
        self._reference = reference
        self.latest: dict[str, float] = {"iterations": 0.0, "kl_stopped": 0.0}
        self._passes: list[tuple[Tensor, Tensor]] = []  # log-probabilities and values, (B, T)
        self._scores = torch.empty(0)
        self._noted: defaultdict[str, list[float]] = defaultdict(list)
        self._clock = Stopwatch()
        self._mix = PretrainingMix(base, demonstrations, texts, seed=args.seed)
        self._drawn: list[Row] = []  # from the mix, for the minibatch that is under way

        def reward(prompts: list[Prompt], completions: list[Any], **_: Any) -> list[float | None]:
            """The score, as TRL asks for it."""
            responses = [completion[0]["content"] for completion in completions]
            scores = scores_of(score, prompts, responses)
            if not bool(torch.isfinite(scores).all()):  # TRL would print what people wrote
                raise DivergenceError(
                    "the score of a response is not finite; training was stopped. Mend the reward "
                    "model, or the function that scores"
                )
            return [float(s) for s in scores]

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

    # -- the rollout --------------------------------------------------------------------------

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        """TRL's rollout, with values, returns and advantages per token."""
        self._passes = []
        lower = "policy.batch_size or policy.max_new_tokens"
        with self._clock.timed("rollout"), out_of_memory_in_one_line(lower):
            rollout: dict[str, Any] = super()._generate_and_score_completions(inputs)
            if "old_per_token_logps" not in rollout:  # TRL skips that pass if it steps only once
                self._passes = []
                self._pass_over(rollout)
            logprobs, values = self._passes[0]  # the policy's pass comes before the reference's
            shaped = self._shape(rollout, logprobs, values)
        return rollout | {"old_per_token_logps": logprobs, "values": values, **shaped}

    def _shape(
        self, rollout: dict[str, Any], logprobs: Tensor, values: Tensor
    ) -> dict[str, Tensor]:
        """Advantages and returns of a rollout; its KL must be within the budget."""
        s, mask = self.settings, rollout["completion_mask"].bool()
        here = slice(len(mask) * self.accelerator.process_index, None)  # TRL gathers the scores
        scores = require_finite(self._scores[here, 0][: len(mask)], "the score of a response")
        ended = finished(rollout["completion_ids"], mask, self.eos_token_ids)  # (B,)
        reference = rollout["ref_per_token_logps"]
        rewards = token_rewards(
            scores - s.missing_eos_penalty * ~ended, logprobs, reference, mask, kl_coef=s.kl_coef
        )
        kl = (logprobs - reference).masked_fill(~mask, 0.0)  # (B, T)
        self._note(rollout_metrics(scores, rewards, logprobs, kl, mask, kl_coef=s.kl_coef))
        self._note(
            {"val/num_eos_tokens": ended.sum(), "val/finished": ended.float().mean()},
        )
        self._spend(rollout, logprobs, kl, mask)
        if s.estimator == "rloo":
            advantages, returns = leave_one_out(rewards.sum(1), mask, group=GROUP), values
        else:
            advantages, returns = generalized_advantages(
                rewards, values, mask, gamma=s.gamma, lam=s.lam
            )
        return {"advantages": whiten(advantages, mask, total=self._total), "returns": returns}

    def _spend(self, rollout: dict[str, Any], logprobs: Tensor, kl: Tensor, mask: Tensor) -> None:
        """Hold the rollout's KL to the bare base against the budget."""
        from_base = kl
        if self._reference is not None:
            with self._base.using(None):
                self._pass_over(rollout)
            from_base = (logprobs - self._passes.pop()[0]).masked_fill(~mask, 0.0)
        n = self.accelerator.num_processes
        sums = torch.stack([from_base.sum(), mask.sum()]) / (len(mask) * n)
        spent, length = self._total(sums).tolist()  # per response, of all processes
        require_finite(torch.tensor(spent), "the KL of the policy")
        require_bounded_kl(spent, length)
        self._note({"objective/kl_base": torch.tensor(spent)})
        if spent > self.settings.kl_budget:
            self.finish_iteration()
            raise KLBudgetSpent

    # -- the loss -----------------------------------------------------------------------------

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
        parts = self.current_gradient_accumulation_steps  # of a minibatch; TRL divides by it, too
        require_finite(policy_loss, "PPO's policy loss", most=MAX_POLICY_LOSS)
        losses = {"loss/policy_avg": parts * policy_loss}
        if s.estimator == "gae":
            old = inputs["values"]
            losses["loss/value_avg"] = clipped_value_loss(
                values, old, inputs["returns"], mask, cliprange=s.value_cliprange
            )
            self._note({"val/clipfrac_avg": value_clip_share(values, old, mask, s.value_cliprange)})
        self._note(losses)
        log_ratio = logprobs.detach() - inputs["old_per_token_logps"]
        self._note(update_metrics(log_ratio, mask, cliprange=s.cliprange))
        total = losses["loss/policy_avg"] + s.vf_coef * losses.get("loss/value_avg", 0.0)
        total = total * self._share(mask)
        if s.ptx_coef:
            ptx_loss = self._ptx_loss(model, len(mask))
            self._note({"loss/ptx_avg": ptx_loss})
            total = total + s.ptx_coef * ptx_loss
        return require_finite(total, "PPO's loss") / parts

    def _ptx_loss(self, model: Any, rows: int) -> Tensor:
        """The ptx loss of this part of the minibatch and this process, to be averaged over all.

        All processes draw the whole minibatch's rows, and each reads others of them.
        """
        parts, n = self.current_gradient_accumulation_steps, self.accelerator.num_processes
        at = self._step % parts
        if at == 0:
            self._drawn = self._mix.draw(rows * parts * n)
        part = at * n + self.accelerator.process_index
        return self._mix.loss(model, self._drawn, part=part, parts=parts * n)

    def _share(self, mask: Tensor) -> float | Tensor:
        """Weight of a mean over these tokens in the mean over the whole minibatch.

        Parts of a minibatch, and those of several processes, count by their tokens. It is 1 on
        average, since transformers and data-parallel training take plain means over them.
        """
        parts, n = self.current_gradient_accumulation_steps, self.accelerator.num_processes
        if parts * n == 1:
            return 1.0
        assert self._buffered_inputs is not None
        at = self._step % self.args.steps_per_generation
        minibatch = self._buffered_inputs[at - at % parts :][:parts]
        whole = torch.stack([part["completion_mask"].sum() for part in minibatch]).sum()
        return parts * n * mask.sum() / self._total(whole)

    # -- passes through the network -----------------------------------------------------------

    def _get_per_token_logps_and_entropies(
        self,
        model: Any,
        input_ids: Tensor,
        attention_mask: Tensor,
        logits_to_keep: int,
        batch_size: int | None = None,
        compute_entropy: bool = False,
        compute_aux_loss: bool = False,
        **_: Any,
    ) -> Any:
        """Like TRL's, without the padding; the values of the same tokens are kept beside them."""
        rows = min(FORWARD_ROWS, batch_size or FORWARD_ROWS)
        parts = list(packed(input_ids, attention_mask, logits_to_keep, rows=rows))
        found = [self._pass(model, part, aux=compute_aux_loss) for part in parts]
        shape = (len(input_ids), logits_to_keep)
        logprobs, entropies, values = (
            spread([one[k] for one in found], parts, shape) for k in range(3)
        )
        self._passes.append((logprobs, values))
        aux = torch.stack([one[3] for one in found]).mean() if compute_aux_loss else None
        return logprobs, entropies if compute_entropy else None, aux

    def _pass(self, model: Any, part: Packed, *, aux: bool) -> tuple[Tensor, ...]:
        """Log-probability, entropy and value of each response token, each (N,)."""
        more = {"output_router_logits": True} if aux else {}
        with self._critic.reading(*part.states), self.accelerator.autocast():
            # TRL's fused head takes the states that the critic's hook leaves over
            out = model(
                input_ids=part.ids,
                attention_mask=part.attention,
                shift_labels=part.targets[None],
                fused_lm_head=True,
                **more,
            )
        return out.log_probs[0], out.entropy[0], self._critic.values(), out.aux_loss

    def _pass_over(self, rollout: dict[str, Any]) -> None:
        ids = torch.cat([rollout["prompt_ids"], rollout["completion_ids"]], 1)  # (B, P + T)
        attention = torch.cat([rollout["prompt_mask"], rollout["completion_mask"]], 1)
        with torch.no_grad():
            self._get_per_token_logps_and_entropies(
                self.model, ids, attention, rollout["completion_ids"].size(1)
            )

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

    def _total(self, local: Tensor) -> Tensor:
        found: Tensor = self.accelerator.reduce(local, reduction="sum")
        return found

    # -- the books ----------------------------------------------------------------------------

    def finish_iteration(self) -> None:
        """Average what was noted since the last call into ``latest``, with shares of the time."""
        self._noted["policy/entropy_avg"] += self._metrics["train"].get("entropy", [])  # per token
        self._metrics["train"].clear()
        for key, values in self._noted.items():
            if values:
                self.latest[key] = statistics.fmean(values)
        self.latest["val/ratio_var"] = statistics.pvariance(self._noted["val/ratio"] or [1.0])
        self._noted.clear()
        assert self.optimizer is not None
        self.latest["lr"] = self.optimizer.param_groups[0]["lr"]
        self._note_time()

    def _note_time(self) -> None:
        whole, spent = self._clock.elapsed(), self._clock.seconds
        parts = {
            "generate": spent["generate"],
            "score": spent["score"],
            "logprobs": spent["rollout"] - spent["generate"] - spent["score"],
            "update": whole - spent["rollout"],
        }
        self.latest |= {f"time/{name}": seconds / whole for name, seconds in parts.items()}
        self.latest |= {"time/iteration_s": whole, "eps": self.settings.batch_size / whole}
        self._clock = Stopwatch()

    def may_stop_here(self) -> bool:
        """Between iterations only: the rollout of one that is under way is kept nowhere."""
        return self.state.global_step % self.settings.steps_per_iteration == 0

    def state_dict(self) -> dict[str, Any]:
        """Tensors and JSON values that the rest of a run depends on, besides TRL's own."""
        return {"mix": self._mix.random.getstate(), "latest": self.latest}

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from what ``state_dict`` gave, perhaps by way of JSON."""
        self._mix.random.setstate(generator_state(state["mix"]))
        self.latest = dict(state["latest"])

    def _note(self, metrics: dict[str, Tensor]) -> None:
        for name, value in metrics.items():
            self._noted[name].append(value.item())


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
        fused=True,  # one kernel instead of a dozen for each of an adapter's many small tensors
    )
