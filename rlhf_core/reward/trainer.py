"""Train one member of the ensemble, on TRL's ``RewardTrainer``.

It differs from TRL's where votes need it: an element of a batch is a whole opinion
(`reward_data.py`), ties have a likelihood, comparisons have weights, labels are smoothed because
some votes are wrong, and each rater of single responses gets a threshold (an offset).

Offsets and the width of a tie only explain votes. They are not part of the reward model, and are
thrown away after training.

Shapes: R distinct responses of a batch, P terms of all its opinions.
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
from rlhf_core.reward.losses import preference_losses
from rlhf_core.reward.reward_data import Collator, TokenizedOpinion
from rlhf_core.reward.reward_model import ScoreModel
from rlhf_core.reward.trunk import Trunk
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

# Of what is learnt about raters: log-odds, which have the same size whatever the model's. It is 30
# times the starter's rate, since single numbers must move as far as scores.
HABIT_RATE = 0.06


def train_score_model(  # noqa: PLR0913  # each by name, but for the first two
    member: ScoreModel,
    opinions: Sequence[TokenizedOpinion],
    *,
    trunk: Trunk,
    above: int,
    raters: int,
    settings: RewardSettings,
    report: Progress,
    seed: int,
    file: Path | None,
) -> None:
    """Train a member in place, its attached adapter and its score head, on opinions.

    Args:
        member: The member.
        opinions: What raters said; an opinion that was drawn twice is there twice.
        trunk: What the lowest layers make of the responses.
        above: How many of the lowest layers do not train; at least the trunk's.
        raters: How many raters get an offset; their numbers begin at 1.
        settings: Settings of the training.
        report: Called after every optimizer step.
        seed: Of the order of the data.
        file: The checkpoint, from which a run that was killed goes on.

    Raises:
        CheckpointError: The checkpoint is of other data or settings.
        DivergenceError: The loss is no finite number.
        MemoryExhaustedError: Memory did not suffice.
    """
    base, adapter = member.base, member.adapter
    likelihood = PreferenceLikelihood(member, raters, opinions, settings)
    start = (base.digest(adapter), member.head.weight.tolist(), member.head.bias.tolist())

    def train(settings: RewardSettings, kept: StageFile) -> Metrics:
        """One attempt, with these settings."""
        with prepared(
            base,
            adapter,
            lower="reward.micro_batch_size",
            above=above,
            recompute=settings.gradient_checkpointing,
        ) as scratch:
            args = arguments(base, output_dir=scratch, seed=seed)
            collator = Collator(base, opinions, trunk)
            kept.train(_trainer(likelihood, collator, settings, report=report, args=args))
        return {}

    run_stage(
        settings,
        train,
        model=member,
        adapter=adapter,
        weights=[*base.weights(adapter), *likelihood.own_weights()],
        rows=settings.batch_size,
        file=file,
        made_of=(*start, opinions, seed),
    )


class PreferenceLikelihood(nn.Module):
    """How likely votes are: a member of the ensemble, and what explains how raters vote.

    Args:
        member: Gives the scores.
        raters: How many raters get an offset.
        opinions: All that will be trained on.
        settings: Settings of the training.
    """

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
        self.offsets = nn.Parameter(torch.zeros(raters + 1, device=device))  # number 0 is unused
        uses = Counter(r for o in opinions for term in o.terms for r in term.raters if r)
        # An offset is drawn towards 0 once in a pass, not once for each of its terms. So each of
        # its terms carries an equal part of the penalty, whatever batch the term is in.
        parts = [0.0, *(1.0 / max(1, uses[r]) for r in range(1, raters + 1))]
        self.prior: Tensor
        self.register_buffer("prior", torch.tensor(parts, device=device) / settings.offset_sd**2)
        self.any_ties = any(term.tied for o in opinions for term in o.terms)

    def add_model_tags(self, tags: object) -> None:
        """TRL tags models for their model cards; this one has no card."""

    def own_weights(self) -> list[nn.Parameter]:
        """All that is trained beside the adapter: the score head, the offsets, the tie's width."""
        return [*self.member.head.parameters(), self.raw_tie_width, self.offsets]

    @property
    def tie_width(self) -> Tensor:
        """The w of `preference_losses`: half the range of margins where a tie is likeliest.

        It is 0 if nobody ever called a tie, and the loss is Bradley-Terry's.
        """
        return softplus(self.raw_tie_width) * float(self.any_ties)

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, **more: Any
    ) -> SequenceClassifierOutput:
        """The member's raw scores; (R, 1)."""
        found: SequenceClassifierOutput = self.member(input_ids, attention_mask, **more)
        return found

    def losses(self, scores: Tensor, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Weighted loss of each term, and its margin of scores; (P,) each, from (R,)."""
        known = torch.cat([scores, scores.new_zeros(1)])  # (R + 1,): the threshold scores 0
        margins = known[batch["first"]] - known[batch["second"]]  # (P,)
        raters = batch["raters"]  # (P, 2)
        offsets = self.offsets[raters] * (raters > 0)  # (P, 2)
        # a strict rater's thumb up says more, and a mild rater's thumb down; strong preferences
        # have to be right by a margin
        expected = margins - (offsets[:, 0] - offsets[:, 1]) - batch["margins"]
        losses = preference_losses(
            expected,
            batch["tied"],
            tie_width=self.tie_width * batch["could_tie"],
            smoothing=batch["smoothing"],
        )
        # Gaussian: offsets explain as much of the votes as is likely, and scores explain the rest
        prior = 0.5 * (self.prior[raters] * offsets**2).sum(1)  # (P,)
        return batch["weights"] * (losses + prior), margins


class RewardTrainer(QuietTrainer, TRLRewardTrainer):
    """TRL's reward trainer on whole opinions."""

    loss_is_scaled_for_ga = True  # by opinions: micro-batches do not all have the same number

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.latest: dict[str, float] = {}

    def _prepare_dataset(self, dataset: Any, *_: Any, **__: Any) -> Any:
        """As it is: the rows are numbers of opinions, and the collator knows their tokens."""
        return dataset

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """Mean loss of the batch's opinions; an opinion's loss is the mean over its pairs.

        In training a batch counts by how many of the optimizer step's opinions it has.
        """
        likelihood: PreferenceLikelihood = self.accelerator.unwrap_model(model)
        read = ("input_ids", "attention_mask", "states", "depth")
        outputs = model(**{name: inputs[name] for name in read if name in inputs})
        losses, margins = likelihood.losses(outputs.logits.squeeze(-1), inputs)  # (P,) each
        loss = losses.sum()
        decided = margins[~inputs["tied"]]
        self._note(require_finite(loss.detach(), "the reward model's loss", most=EXPLODED), decided)
        if num_items_in_batch is not None:  # times n, since the mean over n processes is taken
            n = self.accelerator.num_processes
            loss = loss * n * inputs["opinions"] / num_items_in_batch
        return (loss, outputs) if return_outputs else loss

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: Any) -> Tensor:
        """Opinions of an optimizer step, in all processes; the last step of a pass has fewer."""
        own = torch.tensor(sum(int(batch["opinions"]) for batch in batch_samples), device=device)
        found: Tensor = self.accelerator.reduce(own, reduction="sum")
        return found

    def _get_train_sampler(self, *_: Any) -> LengthGroupedSampler:
        """Similar lengths together, to save padding; the same order for any number of processes."""
        together = self.args.train_batch_size * self.args.gradient_accumulation_steps * processes()
        rows: Any = self.train_dataset
        return LengthGroupedSampler(together, lengths=list(rows["length"]))

    def state_dict(self) -> dict[str, Any]:
        """The running means of the metrics."""
        return {"latest": self.latest}

    def load_state(self, state: dict[str, Any]) -> None:
        """Restore what ``state_dict`` returned."""
        self.latest = state["latest"]

    def _note(self, loss: Tensor, decided: Tensor) -> None:
        now = {"loss/reward": loss.item()}
        if len(decided):
            now["reward/accuracy"] = (decided > 0).float().mean().item()
        for key, value in now.items():  # running means, over about the last 10 batches
            self.latest[key] = value + 0.9 * (self.latest.get(key, value) - value)


def _trainer(
    likelihood: PreferenceLikelihood,
    collator: Collator,
    settings: RewardSettings,
    *,
    report: Progress,
    args: dict[str, Any],
) -> RewardTrainer:
    opinions = collator.opinions
    lengths = [max(map(len, opinion.responses)) for opinion in opinions]
    rows = Dataset.from_dict({"opinion": list(range(len(opinions))), "length": lengths})
    trainer = RewardTrainer(
        model=likelihood,
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
        data_collator=collator,
        processing_class=collator.base.tokenizer,
        callbacks=[ReportProgress(lambda share: report(share, trainer.latest))],
        optimizers=(_optimizer(likelihood, settings), None),
    )
    return trainer


def _optimizer(likelihood: PreferenceLikelihood, settings: RewardSettings) -> torch.optim.Optimizer:
    """Adam, with learning rates of their own for the score head and what is learnt about raters."""
    head = list(likelihood.member.head.parameters())
    habits = [likelihood.raw_tie_width, likelihood.offsets]
    known = set(map(id, [*head, *habits]))
    weights = [p for p in likelihood.parameters() if p.requires_grad and id(p) not in known]
    groups = [
        {"params": weights, "lr": settings.learning_rate},
        {"params": head, "lr": settings.head_learning_rate or settings.learning_rate},
        {"params": habits, "lr": HABIT_RATE},
    ]
    return torch.optim.AdamW(groups, lr=settings.learning_rate, weight_decay=0.0)
