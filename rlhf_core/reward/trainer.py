"""Train one member of the ensemble, on TRL's ``RewardTrainer``.

Departs from it where votes need it: an element of a batch is a whole opinion (`reward_data.py`),
ties have a likelihood, comparisons carry weights, labels are smoothed for wrong votes, and raters
whose habits do not cancel get an offset each.

What is learnt of raters (offsets, the width of a tie) explains votes and is thrown away.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor, nn
from torch.nn.functional import softplus
from transformers.modeling_outputs import SequenceClassifierOutput
from transformers.trainer_pt_utils import LengthGroupedSampler
from trl.trainer.reward_config import RewardConfig
from trl.trainer.reward_trainer import RewardTrainer as TRLRewardTrainer

from rlhf_core.config import RewardSettings
from rlhf_core.model.base_model import Base
from rlhf_core.reward.losses import preference_losses
from rlhf_core.reward.reward_data import Collator, TokenizedOpinion
from rlhf_core.reward.reward_model import ScoreModel
from rlhf_core.training.checkpoints import StageFile
from rlhf_core.training.distributed import processes
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

HABIT_RATE = 30.0  # times the learning rate: single numbers that have as far to go as scores


def train_score_model(
    base: Base,
    opinions: Sequence[TokenizedOpinion],
    *,
    adapter: str,
    raters: int,
    settings: RewardSettings,
    report: Progress,
    seed: int,
    file: Path | None,
) -> ScoreModel:
    """Train the attached ``adapter`` in place, and a score head, on opinions.

    Args:
        base: The base that it is an adapter of.
        opinions: What raters said; those drawn twice are there twice.
        adapter: What is trained.
        raters: How many raters have habits that do not cancel; their numbers begin at 1.
        settings: Of the training.
        report: Called after every step.
        seed: Of the order of the data.
        file: The checkpoint, from which a killed run goes on.

    Raises:
        CheckpointError: The checkpoint is of other data or settings.
        DivergenceError: The loss left the numbers.
        MemoryExhaustedError: Memory did not suffice.
    """
    member = ScoreModel(base, adapter)
    judging = PreferenceLikelihood(member, raters, opinions, settings)

    def train(settings: RewardSettings, kept: StageFile) -> Metrics:
        """One attempt, with these settings."""
        with prepared(base, adapter, lower="reward.micro_batch_size") as scratch:
            args = arguments(base, output_dir=scratch, seed=seed)
            kept.train(_trainer(base, judging, opinions, settings, report=report, args=args))
        return {}

    run_stage(
        settings,
        train,
        model=member,
        adapter=adapter,
        weights=[*base.weights(adapter), *judging.own_weights()],
        rows=settings.batch_size,
        file=file,
        made_of=(base.digest(adapter), opinions, seed),
    )
    return member


class PreferenceLikelihood(nn.Module):
    """A member of the ensemble, and what has to be known of raters to explain their votes."""

    def __init__(
        self,
        member: ScoreModel,
        raters: int,
        opinions: Sequence[TokenizedOpinion],
        settings: RewardSettings,
    ) -> None:
        super().__init__()
        self.member, self.config = member, member.config
        device = member.head.weight.device
        self.raw_tie_width = nn.Parameter(torch.zeros((), device=device))
        self.offsets = nn.Parameter(torch.zeros(raters + 1, device=device))
        uses = Counter(r for o in opinions for term in o.terms for r in term.raters if r)
        # each use of an offset carries its part of the prior, whatever batch it is in
        parts = [0.0, *(1.0 / max(1, uses[r]) for r in range(1, raters + 1))]
        self.prior: Tensor
        self.register_buffer("prior", torch.tensor(parts, device=device) / settings.offset_sd**2)
        self.any_ties = any(term.tied for o in opinions for term in o.terms)

    def add_model_tags(self, tags: object) -> None:
        """TRL tags models for their cards; this one has none."""

    def own_weights(self) -> list[nn.Parameter]:
        """All that is trained beside the adapter: the score head, and what is learnt of raters."""
        return [*self.member.head.parameters(), self.raw_tie_width, self.offsets]

    @property
    def tie_width(self) -> Tensor:
        """Half the width of margins that are called a tie more often than not; 0 without ties."""
        return softplus(self.raw_tie_width) * float(self.any_ties)

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, **_: Any
    ) -> SequenceClassifierOutput:
        """The member's raw scores; (R, 1)."""
        found: SequenceClassifierOutput = self.member(input_ids, attention_mask)
        return found

    def losses(self, scores: Tensor, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Weighted loss of each term, and its margin of scores; (P,) each, from (R,)."""
        known = torch.cat([scores, scores.new_zeros(1)])  # the last is the threshold
        margins = known[batch["first"]] - known[batch["second"]]
        raters = batch["raters"]
        offsets = self.offsets[raters] * (raters > 0)  # (P, 2)
        expected = margins - (offsets[:, 0] - offsets[:, 1]) - batch["margins"]
        losses = preference_losses(
            expected,
            batch["tied"],
            tie_width=self.tie_width * batch["could_tie"],
            smoothing=batch["smoothing"],
        )
        prior = 0.5 * (self.prior[raters] * offsets**2).sum(1)
        return batch["weights"] * (losses + prior), margins


class RewardTrainer(QuietTrainer, TRLRewardTrainer):
    """TRL's reward trainer on whole opinions."""

    loss_is_scaled_for_ga = True  # by opinions; a plain mean over micro-batches would ignore size

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.latest: dict[str, float] = {}

    def _prepare_dataset(self, dataset: Any, *_: Any, **__: Any) -> Any:
        """The rows are numbers of opinions, whose token ids the collator knows."""
        return dataset

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """Mean loss of the batch's opinions; of one opinion it is the mean over its pairs.

        In training it counts by how many of the whole step's opinions are in this batch.
        """
        judging: PreferenceLikelihood = self.accelerator.unwrap_model(model)
        outputs = model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"])
        losses, margins = judging.losses(outputs.logits.squeeze(-1), inputs)
        loss = losses.sum()
        decided = margins[~inputs["tied"]]
        self._note(require_finite(loss.detach(), "the reward model's loss", most=EXPLODED), decided)
        if num_items_in_batch is not None:  # processes are averaged over, hence their number
            n = self.accelerator.num_processes
            loss = loss * n * inputs["opinions"] / num_items_in_batch
        return (loss, outputs) if return_outputs else loss

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: Any) -> Tensor:
        """How many opinions an optimizer step is on; the last of a pass has parts of all sizes."""
        own = torch.tensor(sum(int(batch["opinions"]) for batch in batch_samples), device=device)
        found: Tensor = self.accelerator.reduce(own, reduction="sum")
        return found

    def _get_train_sampler(self, *_: Any) -> LengthGroupedSampler:
        """Similar lengths together, in the same order however many processes share the batches."""
        together = self.args.train_batch_size * self.args.gradient_accumulation_steps * processes()
        rows: Any = self.train_dataset
        return LengthGroupedSampler(together, lengths=list(rows["length"]))

    def state_dict(self) -> dict[str, Any]:
        """The running means."""
        return {"latest": self.latest}

    def load_state(self, state: dict[str, Any]) -> None:
        """The same, of the run that is gone on with."""
        self.latest = state["latest"]

    def _note(self, loss: Tensor, decided: Tensor) -> None:
        now = {"loss/reward": loss.item()}
        if len(decided):
            now["reward/accuracy"] = (decided > 0).float().mean().item()
        for key, value in now.items():  # running means over about the last 10 batches
            self.latest[key] = value + 0.9 * (self.latest.get(key, value) - value)


def _trainer(
    base: Base,
    judging: PreferenceLikelihood,
    opinions: Sequence[TokenizedOpinion],
    settings: RewardSettings,
    *,
    report: Progress,
    args: dict[str, Any],
) -> RewardTrainer:
    lengths = [max(map(len, opinion.responses)) for opinion in opinions]
    rows = Dataset.from_dict({"opinion": list(range(len(opinions))), "length": lengths})
    trainer = RewardTrainer(
        model=judging,
        args=RewardConfig(
            **args,
            **batches(settings.batch_size, settings.micro_batch_size),
            num_train_epochs=passes(
                len(rows),
                batch_size=settings.batch_size,
                epochs=settings.epochs,
                min_steps=settings.min_steps,
            ),
            learning_rate=settings.learning_rate,
            lr_scheduler_type="constant",
            remove_unused_columns=False,
            max_length=None,
        ),
        train_dataset=rows,
        data_collator=Collator(base, opinions),
        processing_class=base.tokenizer,
        callbacks=[ReportProgress(lambda share: report(share, trainer.latest))],
        optimizers=(_optimizer(judging, settings.learning_rate), None),
    )
    return trainer


def _optimizer(judging: PreferenceLikelihood, learning_rate: float) -> torch.optim.Optimizer:
    """Adam as the trainer makes it, but quicker for the few numbers about raters."""
    habits = [judging.raw_tie_width, judging.offsets]
    known = set(map(id, habits))
    weights = [p for p in judging.parameters() if p.requires_grad and id(p) not in known]
    groups = [
        {"params": weights, "lr": learning_rate},
        {"params": habits, "lr": learning_rate * HABIT_RATE},
    ]
    return torch.optim.AdamW(groups, lr=learning_rate, weight_decay=0.0)
