"""Decode replies together, one token per row and step, with one key-value cache.

Rows join and leave between steps. The cache is left-padded: a row's real entries end at the right
edge, the attention mask hides the rest, and every row has its own position ids. Each row names its
adapter and has its own random numbers, drawn from its seed alone. Invariant: neither padding nor
the other rows change the reply of a row. Only one thread may use a batch. It does not know queues
or text.

Letters: B rows, L cached tokens, V vocabulary.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import DynamicCache

from chat_app.engine import FinishReason, Sampling
from feedback_store.records import BASE_ADAPTER
from rlhf_core.model.base_model import Base

NO_ADAPTER = "__base__"  # PEFT's name for a row without adapter


@dataclass(eq=False, slots=True)
class Row:
    """One reply in the making."""

    prompt_ids: list[int]
    adapter: str
    sampling: Sampling
    seed: int
    ids: list[int] = field(default_factory=list)
    finish_reason: FinishReason | None = None

    def uniforms(self) -> Tensor:
        """The row's random numbers, one per token; they depend on the seed, not on the batch."""
        generator = torch.Generator().manual_seed(self.seed)
        count = self.sampling.max_new_tokens
        return torch.rand(count, generator=generator, dtype=torch.float64)


class DecodingBatch:
    """The rows being decoded."""

    def __init__(self, base: Base) -> None:
        self.rows: list[Row] = []
        self._base = base
        self._cache: Any = DynamicCache()  # `Any`: its layers have many types
        self._mask = torch.zeros((0, 0), dtype=torch.long)  # (B, L)
        self._logits = torch.zeros((0, 0))  # (B, V), for each row's next token
        self._uniforms: list[Tensor] = []
        self._switch = ExitStack()  # keeps the adapter active that all rows share

    @torch.inference_mode()
    def admit(self, rows: Sequence[Row]) -> None:
        """Run the prompts of new rows through the model together and add the rows to the batch."""
        ids, mask = self._base.pad([row.prompt_ids for row in rows], side="left")
        cache: Any = DynamicCache()
        positions = (mask.cumsum(-1) - 1).clamp_min(0)
        logits = self._forward(rows, cache=cache, ids=ids, mask=mask, positions=positions)
        if self.rows:
            width = max(self._mask.shape[1], mask.shape[1])
            for layer, new in zip(self._cache.layers, cache.layers, strict=True):
                layer.keys = _stack(layer.keys, new.keys, width)
                layer.values = _stack(layer.values, new.values, width)
            mask = torch.cat([_widen(self._mask, width), _widen(mask, width)])
            logits = torch.cat([self._logits, logits])
        else:
            self._cache = cache
        self._mask, self._logits = mask, logits
        self.rows += rows
        self._uniforms += [row.uniforms() for row in rows]

    @torch.inference_mode()
    def sample(self) -> None:
        """Sample the next token of every row and mark the rows that end."""
        draws = [u[len(row.ids)] for row, u in zip(self.rows, self._uniforms, strict=True)]
        settings = [(row.sampling.temperature, row.sampling.top_p) for row in self.rows]
        temperature, top_p = torch.tensor(settings, device=self._logits.device).unbind(-1)
        uniforms = torch.stack(draws).to(self._logits.device)
        tokens = draw(self._logits, temperature=temperature, top_p=top_p, uniforms=uniforms)
        for row, token in zip(self.rows, tokens.tolist(), strict=True):
            if token in self._base.ends:
                row.finish_reason = "stop"
                continue
            row.ids.append(token)
            if len(row.ids) >= row.sampling.max_new_tokens:
                row.finish_reason = "length"

    @torch.inference_mode()
    def advance(self) -> None:
        """Remove finished rows and run the last token of the others through the model."""
        self._drop_finished()
        if not self.rows:
            return
        last = torch.tensor([[row.ids[-1]] for row in self.rows], device=self._mask.device)
        positions = self._mask.sum(-1, keepdim=True)  # (B, 1): tokens so far
        self._mask = F.pad(self._mask, (0, 1), value=1)
        self._logits = self._forward(
            self.rows, cache=self._cache, ids=last, mask=self._mask, positions=positions
        )

    def _drop_finished(self) -> None:
        """Remove rows with a finish reason, and the cache columns that only they used."""
        staying = [i for i, row in enumerate(self.rows) if row.finish_reason is None]
        if len(staying) == len(self.rows):
            return
        self.rows = [self.rows[i] for i in staying]
        self._uniforms = [self._uniforms[i] for i in staying]
        if not self.rows:
            self._cache = DynamicCache()
            return
        index = torch.tensor(staying, device=self._mask.device)
        mask = self._mask[index]
        first = int(mask.any(0).int().argmax())  # leftmost column that some row uses
        self._mask = mask[:, first:]
        for layer in self._cache.layers:
            layer.keys = layer.keys[index, :, first:]
            layer.values = layer.values[index, :, first:]

    def _forward(
        self, rows: Sequence[Row], *, cache: Any, ids: Tensor, mask: Tensor, positions: Any
    ) -> Tensor:
        """Logits for the token after the last column, (B, V)."""
        out = self._base.model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
            **self._adapter_names(rows),
        )
        logits: Tensor = out.logits[:, -1].float()
        return logits

    def _adapter_names(self, rows: Sequence[Row]) -> dict[str, list[str]]:
        """Select each row's adapter. If all rows share one, switch to it: twice as fast."""
        wanted = [None if row.adapter == BASE_ADAPTER else row.adapter for row in rows]
        if len(set(wanted)) > 1:
            return {"adapter_names": [name or NO_ADAPTER for name in wanted]}
        adapter = wanted[0]
        if self._base.active != adapter:
            self._switch.close()
            self._switch.enter_context(self._base.using(adapter))
        return {}


def draw(logits: Tensor, *, temperature: Tensor, top_p: Tensor, uniforms: Tensor) -> Tensor:
    """Sample one token per row: invert its cumulative distribution at a uniform number, (B,).

    Args:
        logits: (B, V)
        temperature: 0 takes the most likely token. (B,)
        top_p: Keep only the most likely tokens that together reach this probability. (B,)
        uniforms: In [0, 1), float64. (B,)
    """
    probs = (logits / temperature.clamp_min(1e-6)[:, None]).softmax(-1)  # (B, V)
    if bool((top_p < 1).any()):
        ordered, order = probs.sort(-1, descending=True)
        before = ordered.cumsum(-1) - ordered
        kept = ordered.where(before < top_p[:, None], 0.0)
        probs = torch.zeros_like(probs).scatter(-1, order, kept)
    cumulative = probs.double().cumsum(-1)
    targets = uniforms[:, None] * cumulative[:, -1:]  # never hits a token of probability 0
    tokens = torch.searchsorted(cumulative, targets, right=True).squeeze(-1)
    tokens = tokens.clamp_max(logits.shape[-1] - 1)
    return torch.where(temperature > 0, tokens, logits.argmax(-1))


def _widen(mask: Tensor, width: int) -> Tensor:
    return F.pad(mask, (width - mask.shape[1], 0))


def _stack(old: Tensor, new: Tensor, width: int) -> Tensor:
    """Join the keys or values of two caches, padded on the left to ``width`` tokens."""
    parts = [F.pad(part, (0, 0, width - part.shape[2], 0)) for part in (old, new)]
    return torch.cat(parts)
