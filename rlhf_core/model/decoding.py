"""Decode replies together, one token per row and step, with one key-value cache.

Serving, rollouts and the gate all decode here, so that they sample from the same distribution.
Rows join and leave between steps; a long prompt is read in parts, with steps of the others between
them, unless nobody waits (`admit`). The cache is left-padded: a row's real entries end at the right
edge, the attention mask hides the rest, and every row has its own position ids. Each row names its
adapter and has its own random numbers, drawn from its seed alone. Invariant: neither padding nor
the other rows change the reply of a row. Only one thread may use a batch. It does not know queues
or text.

Letters: B rows, L cached tokens, V vocabulary.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface, DynamicCache
from transformers.masking_utils import sdpa_mask

from rlhf_core.errors import DivergenceError
from rlhf_core.model.caches import JoinedCache, PartCache, Prefixes, RowCache, joined_attention
from rlhf_core.model.fast_layers import MIXED, Mixture
from rlhf_core.model.token_batches import (
    next_tokens,
    pass_tokens,
    together_tokens,
    token_batches,
)
from rlhf_core.records import FinishReason, Sampling

NO_ADAPTER = "__base__"  # PEFT's name for a row without adapter
RESUMED = 16  # tokens of a prompt's beginning from which on it is not read again
LIKELIEST = (64, 512)  # tokens that mostly hold a nucleus; a vocabulary takes long to sort


class Decodable(Protocol):
    """What decoding needs of a `Base`, which uses this module itself."""

    model: Any
    ends: frozenset[int]
    device: torch.device
    mixture: Mixture | None

    @property
    def active(self) -> str | None:
        """The adapter that forward passes go through."""

    def using(self, name: str | None) -> AbstractContextManager[Any]:
        """Send them through another one in the block."""

    def mixing(self, names: Sequence[str]) -> AbstractContextManager[Mixture | None]:
        """Send each row through its own adapter in the block."""

    def pad(
        self, rows: Sequence[Sequence[int]], *, side: Literal["left", "right"]
    ) -> tuple[Tensor, Tensor]:
        """Token rows as ids and mask, (B, longest row) each."""


@dataclass(eq=False, slots=True)
class Row:
    """One reply in the making.

    Attributes:
        prompt_ids: Tokens of the prompt.
        adapter: The policy; ``None`` is the bare base.
        sampling: How its tokens are sampled.
        seed: Of its random numbers.
        ids: Its tokens so far, without an end token.
        end: The end token, if the model ended it; there may be several.
        finish_reason: A batch sets "stop" or "length"; whoever else ends a row sets another reason.
    """

    prompt_ids: list[int]
    adapter: str | None
    sampling: Sampling
    seed: int
    ids: list[int] = field(default_factory=list)
    end: int | None = None
    finish_reason: FinishReason | None = None

    def uniforms(self) -> Tensor:
        """The row's random numbers, one per token; they depend on the seed, not on the batch."""
        generator = torch.Generator().manual_seed(self.seed)
        count = self.sampling.max_new_tokens
        return torch.rand(count, generator=generator, dtype=torch.float64)


@dataclass(slots=True)
class _Part:
    """The beginning of a long prompt: its keys and values, and of how many tokens they are."""

    cache: PartCache
    read: int = 0


class DecodingBatch:
    """The rows being decoded.

    Without gradients, but not in inference mode: some models keep a tensor of a pass in a buffer,
    which training then reads.

    Args:
        base: The model.
        prefixes: What was read before; `advance` goes on from there.
        joins: Whether the model can do joined passes, see `let_join`.
    """

    def __init__(
        self, base: Decodable, prefixes: Prefixes | None = None, *, joins: bool = False
    ) -> None:
        self.rows: list[Row] = []
        self._base, self._prefixes = base, prefixes or Prefixes(0)
        self._joins = joins
        self._cache: RowCache | None = None
        self._mask = torch.zeros((0, 0), dtype=torch.long, device=base.device)  # (B, L)
        self._logits = torch.zeros((0, 0))  # (B, V), for each row's next token
        self._uniforms: list[Tensor] = []
        self._parts: dict[Row, _Part] = {}  # of prompts that were read in part
        self._switch = ExitStack()  # keeps the adapters of the rows active
        self._apart_names: list[str] = []  # adapters of the last step, if they cannot be mixed

    @torch.no_grad()
    def admit(self, rows: Sequence[Row], *, tokens: int | None = None) -> None:
        """Read the prompts of new rows to their ends, as many at once as tokens allow."""
        tokens = tokens or pass_tokens(self._mask.device)
        for part in token_batches([len(row.prompt_ids) for row in rows], tokens=tokens):
            self._admit([rows[i] for i in part])

    def resume(self, row: Row) -> None:
        """Begin a new row's prompt where something that was read before ends, if that is worth it.

        A few tokens are not: to copy them takes as long as to read them.
        """
        found = self._prefixes.longest(row.adapter, row.prompt_ids)
        if found is not None and found[0] >= RESUMED:
            self._parts[row] = _Part(found[1], found[0])

    def unread(self, row: Row) -> int:
        """Tokens of a new row's prompt that were not read yet; 0 once the row is in the batch."""
        if row in self.rows:
            return 0
        return len(row.prompt_ids) - (self._parts[row].read if row in self._parts else 0)

    def _admit(self, rows: Sequence[Row]) -> None:
        """Read prompts together; one that several rows answer by one adapter is read once."""
        first: dict[tuple[str | None, tuple[int, ...]], int] = {}
        of = [first.setdefault(_question(row), len(first)) for row in rows]
        read = [rows[of.index(place)] for place in range(len(first))]
        ids, mask = self._base.pad([row.prompt_ids for row in read], side="left")
        cache: Any = DynamicCache()
        positions = (mask.cumsum(-1) - 1).clamp_min(0)
        logits = self._forward(read, cache=cache, ids=ids, mask=mask, positions=positions)
        self._join_repeated(rows, of, cache, mask=mask, logits=logits)

    def _join_repeated(
        self, rows: Sequence[Row], of: Sequence[int], cache: Any, *, mask: Tensor, logits: Tensor
    ) -> None:
        """Add rows, each of which has the prompt at a place of a cache of their own."""
        if len(of) > len(mask):
            index = torch.tensor(of, device=mask.device)
            mask, logits = mask[index], logits[index]
            cache.batch_select_indices(index)
        self._join(rows, cache=cache, mask=mask, logits=logits)

    def _join(self, rows: Sequence[Row], *, cache: Any, mask: Tensor, logits: Tensor) -> None:
        """Add rows whose prompts are in a cache of their own."""
        room = max(row.sampling.max_new_tokens for row in rows)
        if self._cache is not None:
            self._cache.join(cache, room=room)
            width = max(self._mask.shape[1], mask.shape[1])
            mask = torch.cat([_widen(self._mask, width), _widen(mask, width)])
            logits = torch.cat([self._logits, logits])
        else:
            self._cache = RowCache(cache, room=room)
        self._mask, self._logits = mask, logits
        self.rows += rows
        self._uniforms += [row.uniforms() for row in rows]

    @torch.no_grad()
    def sample(self) -> None:
        """Sample the next token of every row and mark the rows that end.

        Raises:
            DivergenceError: The model's numbers have no finite maximum, so nothing can be sampled.
        """
        sane = torch.isfinite(self._logits.amax(-1)).tolist()
        if not all(sane):
            broken = [row for row, good in zip(self.rows, sane, strict=True) if not good]
            names = sorted({row.adapter or "the base" for row in broken})
            raise DivergenceError(
                f"the logits of {', '.join(names)} are not finite; "
                "use another quantization, or an adapter that was trained at a lower learning rate"
            )
        draws = [u[len(row.ids)] for row, u in zip(self.rows, self._uniforms, strict=True)]
        settings = [(row.sampling.temperature, row.sampling.top_p) for row in self.rows]
        temperature, top_p = torch.tensor(settings, device=self._logits.device).unbind(-1)
        uniforms = torch.stack(draws).to(self._logits.device)
        tokens = draw(self._logits, temperature=temperature, top_p=top_p, uniforms=uniforms)
        for row, token in zip(self.rows, tokens.tolist(), strict=True):
            if token in self._base.ends:
                row.end, row.finish_reason = token, "stop"
                continue
            row.ids.append(token)
            if len(row.ids) >= row.sampling.max_new_tokens:
                row.finish_reason = "length"

    @torch.no_grad()
    def advance(self, reading: Sequence[Row] = ()) -> int:
        """Run the last token of every row, and the next tokens of new prompts, through the model.

        Finished rows are removed before. The first prompt comes first, with those after it, as far
        as they are short enough together, and a part of the first one that is not. A row joins the
        batch when its prompt is read to the end, and with it those of the same prompt.

        Returns:
            How many tokens of prompts were read.
        """
        self._drop_finished()
        parts = self._next_parts(reading)
        if self.rows or parts:
            step = self._joined if self._joins else self._apart
            for (row, _), logits in zip(parts, step(parts), strict=True):
                if not self.unread(row):
                    self._join_read(row, reading, logits)
        return sum(size for _, size in parts)

    def _next_parts(self, reading: Sequence[Row]) -> list[tuple[Row, int]]:
        """The prompts that go on, and how many tokens of each; each prompt once."""
        device, width = self._mask.device, self._base.model.config.get_text_config().hidden_size
        left = together_tokens(device)
        parts: dict[Any, tuple[Row, int]] = {}
        for row in reading:
            if (key := _question(row)) in parts:
                continue
            unread = self.unread(row)
            read, rows = len(row.prompt_ids) - unread, len(self.rows)
            size = next_tokens(device, unread=unread, read=read, rows=rows, width=width)
            parts[key] = row, min(size, left)
            if size < unread or size > left:
                break
            left -= size
        return [(row, size) for row, size in parts.values() if size]

    def _joined(self, parts: Sequence[tuple[Row, int]]) -> Tensor:
        """One pass for all; returns the logits after each part, (parts, V)."""
        device, count = self._mask.device, len(self.rows)
        ids, of = [row.ids[-1] for row in self.rows], [*self.rows]
        positions, caches = self._mask.sum(-1).tolist(), []  # tokens so far
        for row, size in parts:
            part = self._part(row)
            caches.append((part.cache, size))
            ids += row.prompt_ids[part.read : part.read + size]
            positions += range(part.read, part.read + size)
            of += [row] * size
            part.read += size
        self._mask = F.pad(self._mask, (0, 1), value=1)
        visible = self._mask.bool() if count else torch.ones((1, 1), dtype=torch.bool)
        logits = self._forward(
            of,
            cache=JoinedCache(self._cache, caches),
            ids=torch.tensor(ids, device=device)[:, None],
            mask=visible[:, None, None].to(device),  # (B, 1, 1, L)
            positions=torch.tensor(positions, device=device)[:, None],
        )
        self._logits = logits[:count]
        ends = torch.tensor([size for _, size in parts], dtype=torch.long, device=device).cumsum(0)
        return logits[count + ends - 1]

    def _part(self, row: Row) -> _Part:
        """What was read of a row's prompt so far."""
        if row not in self._parts:
            self._parts[row] = _Part(PartCache(len(row.prompt_ids)))
        return self._parts[row]

    def _apart(self, parts: Sequence[tuple[Row, int]]) -> list[Tensor]:
        """As `_joined`, by a pass for the rows and one for each part."""
        if self.rows:
            last = torch.tensor([[row.ids[-1]] for row in self.rows], device=self._mask.device)
            positions = self._mask.sum(-1, keepdim=True)  # (B, 1): tokens so far
            self._mask = F.pad(self._mask, (0, 1), value=1)
            self._logits = self._forward(
                self.rows, cache=self._cache, ids=last, mask=self._mask, positions=positions
            )
        found: list[Tensor] = []
        for row, size in parts:
            part = self._part(row)
            start, part.read = part.read, part.read + size
            ids = torch.tensor([row.prompt_ids[start : part.read]], device=self._mask.device)
            mask = torch.ones((1, part.read), dtype=torch.long, device=self._mask.device)
            positions = torch.arange(start, part.read, device=self._mask.device)[None]
            found += self._forward([row], cache=part.cache, ids=ids, mask=mask, positions=positions)
        return found

    def _join_read(self, row: Row, reading: Sequence[Row], logits: Tensor) -> None:
        """Add a row whose prompt was read, and those with the same prompt."""
        same = [one for one in reading if _question(one) == _question(row)]
        part = self._parts[row]
        for one in same:
            self._parts.pop(one, None)
        mask = torch.ones((1, part.read), dtype=torch.long, device=self._mask.device)
        self._join_repeated(same, [0] * len(same), part.cache, mask=mask, logits=logits[None])

    def _drop_finished(self) -> None:
        """Remove rows with a finish reason, and the cache columns that only they used."""
        self._parts = {row: part for row, part in self._parts.items() if row.finish_reason is None}
        staying = [i for i, row in enumerate(self.rows) if row.finish_reason is None]
        if len(staying) == len(self.rows) or self._cache is None:
            return
        self._keep_prefixes()
        if not staying:
            self.rows, self._uniforms, self._cache = [], [], None
            self._mask = self._mask[:0, :0]
            return
        used = self._mask[torch.tensor(staying, device=self._mask.device)].any(0)
        first = int(used.int().argmax())  # leftmost column that some row uses
        order = self._cache.drop(staying, first)
        self.rows = [self.rows[i] for i in order]
        self._uniforms = [self._uniforms[i] for i in order]
        self._mask = self._mask[torch.tensor(order, device=self._mask.device), first:]

    def _keep_prefixes(self) -> None:
        """Keep what was read of the rows that end; the last token of a reply was not yet."""
        if self._prefixes.on and self._cache is not None:
            for place, row in enumerate(self.rows):
                if row.finish_reason is not None:
                    count = int(self._mask[place].sum())
                    ids = [*row.prompt_ids, *row.ids][:count]
                    layers = self._cache.of_row(place, count)
                    self._prefixes.keep(row.adapter, ids, layers)

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
        """Select each row's adapter. If all rows share one, switch to it: that is faster."""
        wanted = {row.adapter for row in rows}
        if len(wanted) == 1:
            [adapter] = wanted
            if self._base.active != adapter:
                self._switch.close()
                self._switch.enter_context(self._base.using(adapter))
            return {}
        names = sorted(name for name in wanted if name is not None)
        mixture = self._base.mixture
        known = names == self._apart_names and self._base.active is None
        if not known and (mixture is None or self._base.active != MIXED or not mixture.has(names)):
            self._switch.close()
            mixture = self._switch.enter_context(self._base.mixing(names))
            self._apart_names = names if mixture is None else []
        if mixture is None:
            return {"adapter_names": [row.adapter or NO_ADAPTER for row in rows]}
        mixture.choose([row.adapter for row in rows])
        return {}


def let_join(base: Decodable) -> bool:
    """Let a model do joined passes, and try whether it makes the same of them.

    Models whose layers do not see all tokens cannot, nor those with an attention of their own.

    Returns:
        Whether it can.
    """
    config = base.model.config
    sees_all = {"full_attention"}.issuperset(getattr(config, "layer_types", None) or ())
    if config._attn_implementation != "sdpa" or not sees_all:
        return False
    if getattr(config, "sliding_window", None) is not None:
        return False
    AttentionInterface.register("joined", joined_attention)
    AttentionMaskInterface.register("joined", sdpa_mask)
    config._attn_implementation = "joined"
    try:
        one, two = (_two_steps(base, joins=joins) for joins in (True, False))
        same = bool((one - two).norm() <= 0.05 * two.norm())  # a step of 16 bits is .01
    except Exception:  # whatever a model's own code makes of it
        same = False
    if not same:
        config._attn_implementation = "sdpa"
    return same


def _two_steps(base: Decodable, *, joins: bool) -> Tensor:
    """Logits of two rows, (2, V), of which one is read while the other one decodes."""
    batch = DecodingBatch(base, joins=joins)
    for ids in ([3, 4, 5, 6], [7, 8, 9]):
        batch.advance([Row(ids, None, Sampling(0.0, 1.0, 9), 0)])
        batch.rows[-1].ids.append(5)
    batch.advance()
    return batch._logits


def draw(logits: Tensor, *, temperature: Tensor, top_p: Tensor, uniforms: Tensor) -> Tensor:
    """Sample one token per row: invert its cumulative distribution at a uniform number, (B,).

    Source: Holtzman et al. 2020, arXiv:1904.09751, section 3.1 (top_p).

    Args:
        logits: (B, V)
        temperature: 0 takes the most likely token. (B,)
        top_p: Keep only the most likely tokens that together reach this probability. (B,)
        uniforms: In [0, 1), float64. (B,)
    """
    probs = (logits / temperature.clamp_min(1e-6)[:, None]).softmax(-1)  # (B, V)
    tokens, sampled = logits.argmax(-1), temperature > 0
    whole = sampled & (top_p >= 1)
    if bool(whole.any()):
        tokens[whole] = _inverted(probs[whole], uniforms[whole])[:, 0]
    left = sampled & (top_p < 1)
    for most in (*LIKELIEST, probs.shape[-1]):  # the whole vocabulary only for flat distributions
        if not bool(left.any()):
            break
        ordered, order = probs[left].topk(min(most, probs.shape[-1]))  # likeliest first
        reached, wanted = ordered.cumsum(-1, dtype=torch.float64), top_p[left, None]
        nucleus = ordered.where(reached - ordered < wanted, 0.0)
        tokens[left] = order.gather(-1, _inverted(nucleus, uniforms[left]))[:, 0]
        left[left.clone()] = reached[:, -1] < wanted[:, 0]
    return tokens


def _inverted(weights: Tensor, uniforms: Tensor) -> Tensor:
    """Where the cumulative sum of each row passes its uniform number; (B, 1) from (B, N)."""
    cumulative = weights.cumsum(-1, dtype=torch.float64)
    targets = uniforms[:, None] * cumulative[:, -1:]
    # to the right of what is equal, so that no weight of 0 is hit
    return torch.searchsorted(cumulative, targets, right=True).clamp_max(weights.shape[-1] - 1)


def _widen(mask: Tensor, width: int) -> Tensor:
    return F.pad(mask, (width - mask.shape[1], 0))


def _question(row: Row) -> tuple[str | None, tuple[int, ...]]:
    """What is read of a row; it is the same for several replies to one prompt."""
    return row.adapter, tuple(row.prompt_ids)
