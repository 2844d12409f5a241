"""The ptx term: text that the policy learns beside the rewards, so that it forgets fewer skills.

Source: Ouyang et al. 2022, arXiv:2203.02155, eq. 2. The loss here is the mean over tokens, so
their coefficient of 27.8 does not apply; try several on a model of your own.
"""

import random
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from rlhf_core.model.base_model import Base
from rlhf_core.records import Demonstration
from rlhf_core.train_sft import sft_row

Row = dict[str, list[int]]


class PretrainingMix:
    """Rows of demonstrations and of plain texts, each drawn with the same probability.

    Args:
        base: Its tokenizer reads the texts. Names of control tokens in them become these tokens:
            the texts are the operator's, not a visitor's.
        demonstrations: Their responses are learned, their prompts are not.
        texts: Every token is learned, and the end-of-sequence token after the last.
        seed: Of the drawing.
    """

    def __init__(
        self,
        base: Base,
        demonstrations: Sequence[Demonstration],
        texts: Sequence[str],
        *,
        seed: int,
    ) -> None:
        self._base = base
        self._rows = [sft_row(base.chat, d) for d in demonstrations]
        self._rows += [_text_row(base, text) for text in texts]
        self._rows = [row for row in self._rows if _learned([row])] or self._rows
        self.random = random.Random(seed)

    def draw(self, count: int) -> list[Row]:
        """The next rows; the same ones in every process, since all draw with one seed."""
        return self.random.choices(self._rows, k=count)

    def loss(self, model: Any, drawn: Sequence[Row], *, part: int = 0, parts: int = 1) -> Tensor:
        """Mean loss of a learned token, in nats.

        Args:
            model: What learns.
            drawn: The rows of a whole minibatch.
            part: The part of them to read now, from 0.
            parts: How many parts there are, of equally many rows. Each part is weighted by its
                learned tokens, so that the plain mean over the parts is the loss of all rows.
        """
        size = len(drawn) // parts
        rows = drawn[part * size : (part + 1) * size]
        share = parts * _learned(rows) / _learned(drawn)
        ids, attention = self._base.pad([row["input_ids"] for row in rows], side="right")
        labels = torch.full_like(ids, -100)  # (b, L); -100 is not learned
        for i, row in enumerate(rows):
            labels[i, : len(row["labels"])] = torch.tensor(row["labels"])
        loss: Tensor = model(input_ids=ids, attention_mask=attention, labels=labels).loss
        return loss * share


def _learned(rows: Sequence[Row]) -> int:
    """How many tokens are learned. A row's first is not: there is nothing to predict it from."""
    return sum(label != -100 for row in rows for label in row["labels"][1:])


def _text_row(base: Base, text: str) -> Row:
    ids = base.chat.encode_text(text)
    return {"input_ids": ids, "labels": list(ids)}
