"""Train the reward model from comparisons, on TRL's ``RewardTrainer``.

Departs from it where votes need it: ties are soft targets, comparisons carry weights, labels are
smoothed for wrong votes, and each ensemble member is a bootstrap resample on the shared base.
Corrupted copies of preferred responses (cut, emptied, repeated, shuffled) join as rejected ones:
people rarely get to vote against such things, but a policy soon finds them.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor
from trl.trainer.reward_config import RewardConfig
from trl.trainer.reward_trainer import DataCollatorForPreference
from trl.trainer.reward_trainer import RewardTrainer as TRLRewardTrainer

from rlhf_core.base_model import Base
from rlhf_core.chat_format import encode_pair
from rlhf_core.config import LoraSettings, RewardSettings
from rlhf_core.errors import NotEnoughDataError
from rlhf_core.losses import preference_loss
from rlhf_core.records import Comparison
from rlhf_core.reward_model import Member, RewardModel
from rlhf_core.training import (
    Progress,
    QuietTrainer,
    ReportProgress,
    arguments,
    passes,
    prepared,
    require_finite,
)


def train_reward(
    base: Base,
    comparisons: Sequence[Comparison],
    *,
    settings: RewardSettings,
    name: str,
    lora: LoraSettings | None = None,
    progress: Progress | None = None,
    seed: int = 0,
) -> RewardModel:
    """Train an ensemble of reward models on ``base``; its adapters are ``{name}-m0`` and so on.

    Raises:
        NotEnoughDataError: No comparison prefers one response over the other.
        DivergenceError: The loss left the numbers.
    """
    decided = [c for c in comparisons if c.label != "tie"]
    if not decided:
        raise NotEnoughDataError(
            f"none of {len(comparisons)} comparisons prefers a response; collect more votes"
        )
    usable = decided if settings.tie_weight == 0 else list(comparisons)
    members = []
    for k in range(settings.members):
        rng = random.Random(f"{seed}-{k}")
        drawn = [rng.choice(usable) for _ in usable] if settings.members > 1 else list(usable)
        rows = _rows(base, drawn, settings, rng)
        torch.manual_seed(rng.randrange(2**31))
        base.attach(f"{name}-m{k}", lora=lora)
        member = Member(base, f"{name}-m{k}")

        def report(share: float, metrics: dict[str, float], k: int = k) -> None:
            if progress is not None:
                progress((k + share) / settings.members, metrics)

        _train_member(base, member, rows, settings=settings, report=report, seed=seed * 100 + k)
        members.append(member)
    model = RewardModel(
        base, members, spread_penalty=settings.spread_penalty, max_tokens=settings.max_tokens
    )
    prompts = [c.prompt for c in comparisons]
    model.normalise(
        prompts * 2, [c.response_a for c in comparisons] + [c.response_b for c in comparisons]
    )
    return model


def corrupt(response: str, rng: random.Random) -> str | None:
    """A worse copy: cut, emptied, repeated or shuffled; ``None`` if nothing can be made worse."""
    words = response.split()
    if not words:
        return None
    kind = rng.choices(("cut", "emptied", "repeated", "shuffled"), weights=(4, 2, 2, 2))[0]
    if kind == "repeated":
        return " ".join(words + [rng.choice(words)] * 3)
    if kind == "shuffled" and len(set(words)) > 2:
        shuffled = words
        while shuffled == words:
            shuffled = rng.sample(words, len(words))
        return " ".join(shuffled)
    if kind == "emptied" or len(words) == 1:
        return ""
    return " ".join(words[: rng.randrange(1, len(words))])


class RewardTrainer(QuietTrainer, TRLRewardTrainer):
    """TRL's reward trainer with soft targets and weights."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.latest: dict[str, float] = {}

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """Preference loss of one batch, whose first half are the (softly) preferred responses."""
        targets, weights = inputs.pop("targets"), inputs.pop("weights")
        outputs = model(**inputs)
        first, second = outputs.logits.squeeze(-1).chunk(2)  # (B,) each
        margins = first - second
        loss = preference_loss(margins, targets, weights)
        self._note(require_finite(loss.detach(), "the reward model's loss"), margins, targets)
        return (loss, outputs) if return_outputs else loss

    def _note(self, loss: Tensor, margins: Tensor, targets: Tensor) -> None:
        decided = margins[targets != 0.5]
        now = {"loss/reward": loss.item()}
        if len(decided):
            now["reward/accuracy"] = (decided > 0).float().mean().item()
        for key, value in now.items():  # running means over about the last 10 batches
            self.latest[key] = value + 0.9 * (self.latest.get(key, value) - value)


@dataclass
class _Collator(DataCollatorForPreference):
    """Pads the pairs as TRL does and adds targets and weights."""

    def torch_call(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        batch: dict[str, Any] = super().torch_call(examples)
        batch["targets"] = torch.tensor([e["target"] for e in examples])  # (B,)
        batch["weights"] = torch.tensor([e["weight"] for e in examples])  # (B,)
        return batch


def _train_member(
    base: Base,
    member: Member,
    rows: list[dict[str, Any]],
    *,
    settings: RewardSettings,
    report: Progress,
    seed: int,
) -> None:
    with prepared(base, member.adapter) as scratch:
        trainer = RewardTrainer(
            model=member,
            args=RewardConfig(
                **arguments(base, output_dir=scratch, seed=seed),
                per_device_train_batch_size=settings.batch_size,
                num_train_epochs=passes(
                    len(rows),
                    batch_size=settings.batch_size,
                    epochs=settings.epochs,
                    min_steps=settings.min_steps,
                ),
                learning_rate=settings.learning_rate,
                lr_scheduler_type="constant",
                train_sampling_strategy="group_by_length",  # less padding
                remove_unused_columns=False,
                max_length=None,
            ),
            train_dataset=Dataset.from_list(rows),
            data_collator=_Collator(pad_token_id=base.tokenizer.pad_token_id),
            processing_class=base.tokenizer,
            callbacks=[ReportProgress(lambda share: report(share, trainer.latest))],
        )
        trainer.train()


def _rows(
    base: Base, comparisons: Sequence[Comparison], settings: RewardSettings, rng: random.Random
) -> list[dict[str, Any]]:
    """Token ids, target and weight of every pair, corrupted copies included."""

    def row(c: Comparison, better: str, worse: str, target: float) -> dict[str, Any]:
        first, _ = encode_pair(base.tokenizer, c.prompt, better, max_tokens=settings.max_tokens)
        second, _ = encode_pair(base.tokenizer, c.prompt, worse, max_tokens=settings.max_tokens)
        weight = c.weight * (settings.tie_weight if target == 0.5 else 1.0)
        return {
            "chosen_ids": first,
            "rejected_ids": second,
            "target": target,
            "weight": weight,
            "length": max(len(first), len(second)),
        }

    rows = []
    for c in comparisons:
        c = c.swap() if c.label == "b" else c
        target = 0.5 if c.label == "tie" else 1.0 - settings.label_smoothing
        rows.append(row(c, c.response_a, c.response_b, target))
        if c.label != "tie" and rng.random() < settings.corrupted_share:
            worse = corrupt(c.response_a, rng)
            if worse is not None:
                rows.append(row(c, c.response_a, worse, 1.0))
    scale = len(rows) / sum(r["weight"] for r in rows)
    return [r | {"weight": r["weight"] * scale} for r in rows]
