"""Supervised fine-tuning of an adapter on demonstrations: TRL's ``SFTTrainer`` as it is.

Only the assistant's tokens are learned, the end-of-sequence token among them.
"""

from collections.abc import Sequence
from typing import Any

from datasets import Dataset
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer as TRLSFTTrainer

from rlhf_core.base_model import Base
from rlhf_core.chat_format import Tokenizer, encode_pair
from rlhf_core.config import SFTSettings
from rlhf_core.errors import NotEnoughDataError
from rlhf_core.records import Demonstration
from rlhf_core.training import (
    Progress,
    QuietTrainer,
    ReportProgress,
    arguments,
    passes,
    prepared,
    require_finite,
)


def train_sft(
    base: Base,
    demonstrations: Sequence[Demonstration],
    *,
    adapter: str,
    settings: SFTSettings,
    progress: Progress | None = None,
    seed: int = 0,
) -> dict[str, float]:
    """Train the attached ``adapter`` in place to imitate the demonstrations.

    Returns:
        Final metrics: ``loss/sft``, the mean loss per response token in nats.

    Raises:
        NotEnoughDataError: There is no demonstration.
        DivergenceError: The loss left the numbers.
    """
    if not demonstrations:
        raise NotEnoughDataError("there are 0 demonstrations; leave SFT out or collect some")
    rows = [sft_row(base.tokenizer, d, settings.max_tokens) for d in demonstrations]
    with prepared(base, adapter) as scratch:
        trainer = SFTTrainer(
            model=base.model,
            args=SFTConfig(
                **arguments(base, output_dir=scratch, seed=seed),
                per_device_train_batch_size=settings.batch_size,
                num_train_epochs=passes(
                    len(rows),
                    batch_size=settings.batch_size,
                    epochs=settings.epochs,
                    min_steps=settings.min_steps,
                ),
                learning_rate=settings.learning_rate,
                lr_scheduler_type="cosine",
                max_length=None,
            ),
            train_dataset=Dataset.from_list(rows),
            processing_class=base.tokenizer,
        )
        if progress is not None:
            trainer.add_callback(
                ReportProgress(lambda share: progress(share, {"loss/sft": trainer.latest}))
            )
        trainer.train()
    return {"loss/sft": trainer.latest}


def sft_row(tokenizer: Tokenizer, demonstration: Demonstration, max_tokens: int) -> dict[str, Any]:
    """Token ids and labels of one demonstration; the prompt's labels are -100 (not learned)."""
    ids, reply = encode_pair(
        tokenizer, demonstration.prompt, demonstration.response, max_tokens=max_tokens
    )
    return {"input_ids": ids, "labels": [-100] * (len(ids) - reply) + ids[len(ids) - reply :]}


class SFTTrainer(QuietTrainer, TRLSFTTrainer):
    """TRL's trainer, remembering its latest loss."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.latest = float("nan")

    def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
        """TRL's loss, which must be a number."""
        found = super().compute_loss(*args, **kwargs)  # type: ignore[no-untyped-call]
        loss = found[0] if isinstance(found, tuple) else found
        self.latest = require_finite(loss.detach(), "the SFT loss").item()
        return found
