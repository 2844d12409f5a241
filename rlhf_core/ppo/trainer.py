"""`PPOTrainer`: a critic on TRL's ``GRPOTrainer``. Only this file knows the inside of TRL's GRPO.

TRL asks for responses, calls the score, asks for old and reference log-probabilities, and computes
the clipped objective. Responses come from the decoder that also serves (TRL's ``rollout_func``), so
a finished one costs nothing while others go on. Two private methods are overridden (and a test
names them):

- ``_generate_and_score_completions`` makes a rollout. We call it and add values, the KL penalty in
  the reward, advantages and returns.
- ``_compute_loss``. We call it and add the clipped value loss and, if asked for, the ptx loss.

TRL's pass through the network calls the model's ``forward``. That is wrapped here: it leaves the
padding out, and reads the critic's values from the same states.

Source: Schulman et al. 2017, arXiv:1707.06347; Ouyang et al. 2022, arXiv:2203.02155, section 3.5.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial, wraps
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor
from trl.trainer.grpo_config import GRPOConfig
from trl.trainer.grpo_trainer import GRPOTrainer
from trl.trainer.utils import FusedCausalLMOutput

from rlhf_core.config import PolicySettings
from rlhf_core.errors import DivergenceError
from rlhf_core.model.base_model import Base
from rlhf_core.model.token_batches import pass_tokens
from rlhf_core.ppo.advantages import generalized_advantages, leave_one_out, token_rewards, whiten
from rlhf_core.ppo.critic import Critic, optimizer_of, packed, spread
from rlhf_core.ppo.losses import clipped_value_loss, require_bounded_kl
from rlhf_core.ppo.metrics import (
    finished,
    iteration_metrics,
    mismatch_metrics,
    rollout_metrics,
    time_metrics,
    update_metrics,
    value_clip_share,
)
from rlhf_core.ppo.pretraining_mix import PretrainingMix, Row
from rlhf_core.ppo.warm_up import warm_up
from rlhf_core.records import Demonstration, Prompt, Sampling
from rlhf_core.reward.reward_model import Score, scores_of
from rlhf_core.training.checkpoints import generator_state
from rlhf_core.training.memory import out_of_memory_in_one_line
from rlhf_core.training.stage import QuietTrainer, Stopwatch, require_finite

FEWEST_MEASURED = 8  # replies of a rollout that the KL to the anchor is measured on
IGNORED = -100  # the label of a token that is not scored
MAX_POLICY_LOSS = 100.0  # advantages have variance 1, so only exploded ratios give more
REFERENCE = "ref"  # the adapter name under which TRL looks for the reference
READ = ("prompt_ids", "prompt_mask", "completion_ids", "completion_mask")  # of a rollout, by a pass


class KLBudgetSpent(Exception):  # noqa: N818 - a signal to stop, no error
    """The policy has moved as far from the anchor as it may."""


class PPOTrainer(QuietTrainer, GRPOTrainer):
    """GRPO with a critic, a KL penalty for each token in the reward, and GAE.

    Shapes: B responses of this process, P prompt tokens (padded on the left), T response tokens
    (padded on the right).
    """

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
        anchor: str | None = None,
    ) -> None:
        self.settings, self._base, self._critic = settings, base, critic
        self._anchor = anchor
        self._anchor_is_reference = base.digest(anchor) == base.digest(reference)
        self._kept_of_states: Callable[[Tensor], Tensor] = critic.values  # (N, ...) from (N, d)
        self.latest: dict[str, float] = {"iterations": 0.0, "kl_stopped": 0.0}
        # of each pass: log-probabilities, (B, T), and what is kept of the states, (B, T, ...)
        self._passes: list[tuple[Tensor, Tensor]] = []
        self._noted: defaultdict[str, list[float]] = defaultdict(list)
        self._clock = Stopwatch()
        self._mix = PretrainingMix(base, demonstrations, texts, seed=args.seed)
        self._drawn: list[Row] = []  # the ptx rows of this minibatch

        def reward(prompts: list[Prompt], completions: list[Any], **_: Any) -> list[float | None]:
            """The score function as TRL calls it. Keeps the scores: TRL returns advantages only."""
            responses = [completion[0]["content"] for completion in completions]
            with self._clock.timed("score"):
                scores = scores_of(score, prompts, responses)  # (B,)
            if not bool(torch.isfinite(scores).all()):  # TRL would log what people wrote
                raise DivergenceError(
                    "the score of a response is not finite; training was stopped. Mend the reward "
                    "model, or the function that scores"
                )
            self._scores = scores.to(base.device)
            return [float(s) for s in scores]

        super().__init__(
            model=base.model,
            reward_funcs=reward,
            args=args,
            train_dataset=train_dataset,
            processing_class=base.tokenizer,
            optimizers=(optimizer_of(base, critic, settings), None),
        )
        self.rollout_func = self._respond  # given to the constructor, TRL would warn of it
        # With a nonzero beta TRL computes the reference's log-probabilities. Not sooner: TRL's
        # constructor would look for an adapter named "default" and copy it.
        self.beta = 1.0
        network = base.model.get_base_model()
        network.forward = self._reading(network.forward)  # `prepared` undoes this at the end

    # -- the rollout --------------------------------------------------------------------------

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        """TRL's rollout, with the advantage and, for the critic, value and return of each token."""
        self._passes = []
        lower = "policy.batch_size or reply.tokens"
        with self._clock.timed("rollout"), out_of_memory_in_one_line(lower):
            rollout: dict[str, Any] = super()._generate_and_score_completions(inputs)
            if "old_per_token_logps" not in rollout:  # TRL needs none for a single step
                self._passes = []
                rollout["old_per_token_logps"] = self._logprobs(rollout)
            # the policy's pass comes first, in parts of a micro-batch, and then the reference's
            values = torch.cat([values for _, values in self._passes])[: len(inputs)]  # (B, T)
            return rollout | self._shape(rollout, values)

    def _respond(self, prompts: list[Any], _: GRPOTrainer) -> dict[str, Any]:
        """Responses as they are served; text that people typed never becomes a control token."""
        reply = self._base.reply
        rows = [self._base.chat.encode_prompt(prompt) for prompt in prompts]
        # every token may be sampled: the log-probabilities that train are those of all tokens
        sampling = Sampling(reply.rollout_temperature, top_p=1.0, max_new_tokens=reply.tokens)
        found = self._base.decode(rows, sampling, adapter=self._base.active, batch_size=len(rows))
        responses = [list(response.token_ids) for response in found]
        told = [response.logprobs for response in found]  # by another program, if one decodes
        return {
            "prompt_ids": rows,
            "completion_ids": responses,
            "logprobs": None if None in told else told,
        }

    def _shape(self, rollout: dict[str, Any], values: Tensor) -> dict[str, Tensor]:
        """Advantages, values and returns, (B, T) each; stops where the budget is spent."""
        s, mask = self.settings, rollout["completion_mask"].bool()
        logprobs, reference = rollout["old_per_token_logps"], rollout["ref_per_token_logps"]
        if (told := rollout.pop("sampling_per_token_logps", None)) is not None:
            self._note(mismatch_metrics(told, logprobs, mask))
        ended = finished(rollout["completion_ids"], mask, self.eos_token_ids)  # (B,)
        scores = self._scores - s.missing_eos_penalty * ~ended  # (B,)
        rewards = token_rewards(scores, logprobs, reference, mask, kl_coef=s.kl_coef)
        kl = (logprobs - reference).masked_fill(~mask, 0.0)  # (B, T)
        self._note(rollout_metrics(self._scores, rewards, logprobs, kl, mask, kl_coef=s.kl_coef))
        self._note({"val/num_eos_tokens": ended.sum(), "val/finished": ended.float().mean()})
        self._require_budget(rollout, kl, mask)
        if s.estimator == "rloo":
            advantages = leave_one_out(rewards.sum(1), mask, group=s.group_size)
            return {"advantages": self._whitened(advantages, mask)}
        if self.state.global_step == 0:
            values = self._warm_up(rollout, rewards, mask)
        advantages, returns = generalized_advantages(
            rewards, values, mask, gamma=s.gamma, lam=s.lam
        )
        advantages = self._whitened(advantages, mask)
        return {"advantages": advantages, "values": values, "returns": returns}

    def _whitened(self, advantages: Tensor, mask: Tensor) -> Tensor:
        """Whitened advantages, (B, T); notes their mean at the replies' ends."""
        advantages = whiten(advantages, mask, total=self._total)
        ends = mask.sum(1, keepdim=True).sub(1).clamp(min=0)  # (B, 1)
        self._note({"val/end_advantage": advantages.gather(1, ends).mean()})
        return advantages

    def _warm_up(self, rollout: dict[str, Any], rewards: Tensor, mask: Tensor) -> Tensor:
        """Fit the critic to the first rollout; its values then, (B, T)."""
        self._kept_of_states = lambda states: states  # read the rollout once more
        try:
            self._passes = []
            self._logprobs(rollout)
            states = self._passes[0][1]  # (B, T, d)
        finally:
            self._kept_of_states = self._critic.values
        return warm_up(
            self._critic,
            states,
            rewards,
            mask,
            gamma=self.settings.gamma,
            group=self.settings.group_size,
            total=self._total,
        )

    def _require_budget(self, rollout: dict[str, Any], kl: Tensor, mask: Tensor) -> None:
        """Stop if the policy has moved too far from the anchor.

        The KL penalty pulls towards this stage's reference, and every cycle has another reference.
        The budget counts from the anchor, the same for many cycles, so that together they cannot
        move without end. If the anchor is not the reference, it reads a quarter of the replies.
        """
        if not self._anchor_is_reference:
            every = max(1, len(mask) // max(FEWEST_MEASURED, len(mask) // 4))
            sample = {name: rollout[name][::every] for name in READ}
            mask = mask[::every]  # (b, T)
            with self._base.using(self._anchor):
                kl = rollout["old_per_token_logps"][::every] - self._logprobs(sample)
            kl = kl.masked_fill(~mask, 0.0)  # (b, T)
        episodes = len(mask) * self.accelerator.num_processes
        spent, length = (self._total(torch.stack([kl.sum(), mask.sum()])) / episodes).tolist()
        require_finite(torch.tensor(spent), "the KL of the policy")
        require_bounded_kl(spent, length)
        self._note({"objective/kl_anchor": torch.tensor(spent)})
        if spent > self.settings.kl_limit(self._base.reply.tokens):
            raise KLBudgetSpent

    # -- the loss -----------------------------------------------------------------------------

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> Tensor:
        """TRL's clipped policy loss, plus the value loss and the ptx loss; a scalar."""
        s, mask = self.settings, inputs["completion_mask"].bool()
        self._passes = []
        self.beta = 0.0  # else TRL adds the KL to the loss; it is in the reward already
        try:
            policy_loss: Tensor = super()._compute_loss(model, inputs)  # type: ignore[no-untyped-call]
        finally:
            self.beta = 1.0
        logprobs, values = self._passes[0]  # (B, T)
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
        """The ptx loss of this part of the minibatch; its mean over all parts is the whole's."""
        parts, n = self.current_gradient_accumulation_steps, self.accelerator.num_processes
        at = self._step % parts
        if at == 0:  # every process draws the same rows, for the whole minibatch
            self._drawn = self._mix.draw(rows * parts * n)
        part = at * n + self.accelerator.process_index  # and each reads other ones of them
        return self._mix.loss(model, self._drawn, part=part, parts=parts * n)

    def _share(self, mask: Tensor) -> float | Tensor:
        """Weight of this part's mean in the mean over all tokens of the minibatch.

        Transformers takes the plain mean over parts, and data-parallel training over processes. So
        each part is weighted by its share of the tokens; the weights are 1 on average.
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

    def _reading(self, fused: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap the network's forward, to which TRL has added a head that returns log-probs."""

        @wraps(fused)  # with its signature, against which transformers checks arguments
        def forward(*args: Any, fused_lm_head: bool = False, **kwargs: Any) -> Any:
            if not fused_lm_head:  # generating, or the ptx loss
                return fused(*args, **kwargs)
            # only a rollout's passes go without gradients
            with self._clock.timed("update" if torch.is_grad_enabled() else "logprobs"):
                return self._read(partial(fused, fused_lm_head=True), **kwargs)

        return forward

    def _read(
        self, fused: Callable[..., Any], input_ids: Tensor, labels: Tensor, **more: Any
    ) -> FusedCausalLMOutput:
        """Log-probability and entropy of each response token, (B, T); notes what it keeps.

        Args:
            fused: TRL's forward; returns log-probabilities and entropies of its targets, (1, N).
            input_ids: Prompts and responses. (B, P + T)
            labels: The response tokens, and ``IGNORED`` elsewhere. (B, P + T)
            more: The attention mask, and whatever else TRL gives the model.
        """
        # every response has a first token, so the first column with a label is where they begin
        n_prompt = int((labels != IGNORED).any(0).int().argmax())  # P
        shape = (len(labels), labels.shape[1] - n_prompt)
        attention, most = more.pop("attention_mask"), pass_tokens(input_ids.device)
        parts = list(packed(input_ids, attention, shape[1], tokens=most))
        found, aux = [], []
        for part in parts:
            # the critic leaves one state for each target, so nothing is to be shifted any more
            inputs = {"input_ids": part.ids, "attention_mask": part.attention}
            with self._critic.reading(*part.states):
                out = fused(**inputs, shift_labels=part.targets[None], **more)
            kept = self._kept_of_states(self._critic.states())  # (N, ...)
            found.append((out.log_probs[0], out.entropy[0], kept))  # (N,) each
            aux += [] if out.aux_loss is None else [out.aux_loss]
        logprobs, entropy, kept = (spread(one, parts, shape) for one in zip(*found, strict=True))
        self._passes.append((logprobs, kept))
        aux_loss = torch.stack(aux).mean() if aux else None
        return FusedCausalLMOutput(log_probs=logprobs, entropy=entropy, aux_loss=aux_loss)

    def _logprobs(self, rollout: dict[str, Any]) -> Tensor:
        """Log-probabilities of a rollout's responses under the adapter now active; (B, T)."""
        ids = torch.cat([rollout["prompt_ids"], rollout["completion_ids"]], 1)  # (B, P + T)
        attention = torch.cat([rollout["prompt_mask"], rollout["completion_mask"]], 1)
        n_tokens = rollout["completion_ids"].shape[1]
        with torch.no_grad():
            found: tuple[Tensor, Any, Any] = self._get_per_token_logps_and_entropies(
                self.model, ids, attention, n_tokens
            )
        return found[0]

    def _total(self, local: Tensor) -> Tensor:
        """The sum over all processes."""
        found: Tensor = self.accelerator.reduce(local, reduction="sum")
        return found

    # -- metrics and checkpoints --------------------------------------------------------------

    def finish_iteration(self) -> None:
        """Put the means of what was noted in this iteration, and its times, into ``latest``."""
        self._noted["policy/entropy_avg"] += self._metrics["train"].get("entropy", [])  # per token
        self._metrics["train"].clear()
        assert self.optimizer is not None
        self.latest |= iteration_metrics(self._noted)
        self.latest |= time_metrics(self._clock, episodes=self.settings.batch_size)
        self.latest["lr"] = self.optimizer.param_groups[0]["lr"]
        self._noted.clear()
        self._clock = Stopwatch()

    def may_stop_here(self) -> bool:
        """Only between iterations: a checkpoint holds no rollout."""
        return self.state.global_step % self.settings.steps_per_iteration == 0

    def state_dict(self) -> dict[str, Any]:
        """What the rest of the run depends on, beside the state that every trainer has."""
        return {"mix": self._mix.random.getstate(), "latest": self.latest}

    def load_state(self, state: dict[str, Any]) -> None:
        """Restore what ``state_dict`` returned, also after it was JSON."""
        self._mix.random.setstate(generator_state(state["mix"]))
        self.latest = dict(state["latest"])

    def _note(self, metrics: dict[str, Tensor]) -> None:
        for name, value in metrics.items():
            self._noted[name].append(value.item())
