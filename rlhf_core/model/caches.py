"""Keys and values: those of the rows of a batch, and those that are kept for prompts to come.

In a batch: transformers' own cache is copied whole for each token. Here a token is written in
place, a row that joins is copied once, and one that ends leaves its place to the last row. All is
copied only when the buffers are full.

After it: the next turn of a conversation begins with the turns before it. So keys and values are
kept when a row ends, as many as a number of bytes allows; the longest unused go first. They are of
one adapter: another one makes other values of the same tokens. A copy is kept and copies are handed
out, so nothing here changes.

In a joined pass the last tokens of the rows and the next tokens of prompts go through the network
together, each as a row of one token. So the weights are read once for all of them, and nothing is
padded. Only attention has to know which tokens are of one prompt.
Source: Agrawal et al. 2023, arXiv:2308.16369, section 4.3.

Letters: B rows, H heads, L cached tokens, D size of a head, T tokens of a pass.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import takewhile
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import Cache
from transformers.cache_utils import DynamicLayer
from transformers.integrations.sdpa_attention import sdpa_attention_forward

Layers = list[tuple[Tensor, Tensor]]  # keys and values of each layer, (1, H, L, D)


class RowLayer(DynamicLayer):  # type: ignore[no-untyped-call]
    """One layer; `keys` and `values` are views of its buffers, (B, H, L, D), real to the right."""

    keys: Any
    values: Any

    def __init__(self, layer: Any, *, room: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.is_initialized = True
        self.dtype, self.device = layer.keys.dtype, layer.keys.device
        rows, _, width, _ = layer.keys.shape
        self._take(layer.keys, layer.values, rows=rows, width=width, most=width + room)

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Write the next tokens of all rows; returns all keys and values."""
        count = key_states.shape[-2]
        if self._end + count > self._keys.shape[-2]:
            self._grow(rows=self.keys.shape[0], width=self.keys.shape[-2], room=count)
        rows, end = self.keys.shape[0], self._end + count
        self._keys[:rows, :, self._end : end] = key_states
        self._values[:rows, :, self._end : end] = value_states
        self._show(rows, self._end - self.keys.shape[-2], end)
        return self.keys, self.values

    def join(self, layer: Any, *, room: int) -> None:
        """Add the rows of a layer, and make room for so many tokens of each row."""
        (old, _, held, _), (new, _, width, _) = self.keys.shape, layer.keys.shape
        start = self._end - max(held, width)
        most_rows, _, most, _ = self._keys.shape
        if start < 0 or old + new > most_rows or self._end + room > most:
            self._grow(rows=old + new, width=max(held, width), room=room)
            start = self._end - max(held, width)
        place = slice(old, old + new), slice(None), slice(self._end - width, self._end)
        self._keys[place], self._values[place] = layer.keys, layer.values
        self._show(old + new, start, self._end)

    def drop(self, moves: Sequence[tuple[int, int]], rows: int, unused: int) -> None:
        """Move rows to the places of others, keep so many, and forget the first columns."""
        for source, target in moves:
            self.keys[target], self.values[target] = self.keys[source], self.values[source]
        self._show(rows, self._end - self.keys.shape[-2] + unused, self._end)

    def _grow(self, *, rows: int, width: int, room: int) -> None:
        """Make larger buffers, with more than is needed now, so that it is done seldom."""
        if rows > (most_rows := self._keys.shape[0]):
            most_rows = max(rows, most_rows + most_rows // 2)
        most = width + max(room + room // 2, width // 4)
        self._take(self.keys, self.values, rows=most_rows, width=width, most=most)

    def _take(self, keys: Tensor, values: Tensor, *, rows: int, width: int, most: int) -> None:
        """Copy keys and values into new buffers of ``most`` columns, to the right in ``width``."""
        held, heads, length, size = keys.shape
        # zeros, for a row is also multiplied with what its mask hides
        self._keys = keys.new_zeros((rows, heads, most, size))
        self._values = values.new_zeros((rows, heads, most, values.shape[-1]))
        self._keys[:held, :, width - length : width] = keys
        self._values[:held, :, width - length : width] = values
        self._show(held, width - length, width)

    def _show(self, rows: int, start: int, end: int) -> None:
        self._end = end
        self.keys = self._keys[:rows, :, start:end]
        self.values = self._values[:rows, :, start:end]


class PartLayer(DynamicLayer):  # type: ignore[no-untyped-call]
    """One layer of a prompt that is read in parts: they are written into one buffer.

    Args:
        room: Tokens of the whole prompt.
    """

    def __init__(self, room: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._room, self._end = room, 0

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Write the next tokens, (1, H, T, D); returns all keys and values so far."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            _, heads, _, size = key_states.shape
            self._keys = key_states.new_empty((1, heads, self._room, size))
            self._values = value_states.new_empty((1, heads, self._room, value_states.shape[-1]))
        start, self._end = self._end, self._end + key_states.shape[-2]
        self._keys[:, :, start : self._end] = key_states
        self._values[:, :, start : self._end] = value_states
        self.keys, self.values = self._keys[:, :, : self._end], self._values[:, :, : self._end]
        return self.keys, self.values


class PartCache(Cache):
    """The keys and values of a prompt that is read in parts; transformers' own copies all for each.

    Args:
        room: Tokens of the whole prompt.
    """

    def __init__(self, room: int) -> None:
        layer: Any = partial(PartLayer, room)  # a layer is made when it is first written to
        super().__init__(layer_class_to_replicate=layer)


class RowCache(Cache):
    """The keys and values of all layers, for rows that join and leave.

    Args:
        cache: Of the first rows; it is copied.
        room: Tokens that will be added to each of them.
    """

    layers: Any

    def __init__(self, cache: Cache, *, room: int) -> None:
        super().__init__(layers=[RowLayer(layer, room=room) for layer in cache.layers])

    def join(self, cache: Cache, *, room: int) -> None:
        """Add the rows of a cache, to the right as all rows."""
        for layer, new in zip(self.layers, cache.layers, strict=True):
            layer.join(new, room=room)

    def drop(self, staying: Sequence[int], unused: int) -> list[int]:
        """Keep some rows, and forget the first columns, which none of them uses.

        Returns:
            The rows in their new order: the last ones have moved to the places of those that left.
        """
        before = self.layers[0].keys.shape[0]
        gone = sorted(set(range(before)) - set(staying))
        order = [*range(before)]
        moves = []
        for hole in gone:
            while order and order[-1] in gone:
                order.pop()
            if hole >= len(order):
                break
            moves.append((len(order) - 1, hole))
            order[hole] = order.pop()
        for layer in self.layers:
            layer.drop(moves, len(order), unused)
        return order

    def of_row(self, row: int, tokens: int) -> Layers:
        """Copies of a row's last keys and values in each layer, (1, H, tokens, D)."""
        place = slice(row, row + 1), slice(None), slice(-tokens, None)
        return [(layer.keys[place].clone(), layer.values[place].clone()) for layer in self.layers]


@dataclass(frozen=True, slots=True)
class Joined:
    """Keys or values of a joined pass: of the batch's rows, if it has any, and of each prompt."""

    rows: Tensor | None
    prompts: list[Tensor]
    sizes: list[int]  # tokens of the pass that are each prompt's


class JoinedCache(Cache):
    """Adds the tokens of a joined pass to the keys and values that they belong to.

    Args:
        rows: Of the batch, which come first; None if it has none.
        prompts: The cache of each prompt that goes on, and how many tokens it gets.
    """

    def __init__(self, rows: RowCache | None, prompts: Sequence[tuple[PartCache, int]]) -> None:
        super().__init__(layers=[])
        self._rows, self._prompts = rows, [cache for cache, _ in prompts]
        self._sizes = [size for _, size in prompts]

    def update(  # type: ignore[override]  # transformers hands it to the attention as it is
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[Joined, Joined]:
        """Add keys and values, (T, H, 1, D) each; returns all, for `joined_attention`."""
        parts = [key_states.shape[0] - sum(self._sizes), *self._sizes]
        (row_keys, *keys), (row_values, *values) = (
            key_states.split_with_sizes(parts),
            value_states.split_with_sizes(parts),
        )
        held: Any = (None, None)
        if self._rows is not None:
            held = self._rows.update(row_keys, row_values, layer_idx)
        pairs = [
            cache.update(k.transpose(0, 2), v.transpose(0, 2), layer_idx)
            for cache, k, v in zip(self._prompts, keys, values, strict=True)
        ]
        return (
            Joined(held[0], [k for k, _ in pairs], self._sizes),
            Joined(held[1], [v for _, v in pairs], self._sizes),
        )


def joined_attention(
    module: torch.nn.Module, query: Tensor, key: Any, value: Any, mask: Any, **how: Any
) -> tuple[Tensor, None]:
    """Torch's attention; in a joined pass, that of the rows and of each prompt by itself.

    Args:
        module: The attention of a layer.
        query: (T, H, 1, D)
        key: A `Joined`; a tensor in any other pass.
        value: As the keys.
        mask: Of the rows, (B, 1, 1, L); what transformers made in any other pass.
        how: Scale and the like.
    """
    if not isinstance(key, Joined):
        return sdpa_attention_forward(module, query, key, value, mask, **how)
    row_query, *queries = query.split_with_sizes([query.shape[0] - sum(key.sizes), *key.sizes])
    found = []
    if key.rows is not None:
        found.append(
            sdpa_attention_forward(module, row_query, key.rows, value.rows, mask, **how)[0]
        )
    for part, keys, values in zip(queries, key.prompts, value.prompts, strict=True):
        found.append(_of_prompt(part, keys, values, how.get("scaling")))
    return torch.cat(found), None


def _of_prompt(query: Tensor, keys: Tensor, values: Tensor, scale: float | None) -> Tensor:
    """Attention of a prompt's next tokens to all that was read of it, (T, 1, H, D).

    Heads that share keys are packed: their queries follow each other, so that keys and values are
    not repeated for each head, which takes longer than the rest.

    Args:
        query: (T, H, 1, D)
        keys: (1, shared H, L, D)
        values: As the keys.
        scale: Of the products.
    """
    new, heads, _, size = query.shape
    _, groups, length, _ = keys.shape
    shared = heads // groups
    packed = query.view(new, groups, shared, size).permute(1, 2, 0, 3)
    visible = torch.ones((new, length), dtype=torch.bool, device=query.device)
    out = scaled_dot_product_attention(
        packed.reshape(1, groups, shared * new, size),
        keys,
        values,
        attn_mask=visible.tril(length - new).repeat(shared, 1),
        scale=scale,
    )
    out = out.view(groups, shared, new, -1).permute(2, 0, 1, 3)
    return out.reshape(new, 1, heads, -1)


class Prefixes:
    """What was read of each adapter's rows.

    Args:
        most_bytes: Of keys and values together; 0 keeps nothing.
    """

    def __init__(self, most_bytes: int) -> None:
        self._most, self.bytes = most_bytes, 0
        self._kept = OrderedDict[tuple[str | None, tuple[int, ...]], Layers]()

    @property
    def on(self) -> bool:
        """Whether anything is kept."""
        return self._most > 0

    def keep(self, adapter: str | None, ids: Sequence[int], layers: Layers) -> None:
        """Keep the keys and values of tokens, in place of those of their beginnings."""
        whole = tuple(ids)
        for key in [key for key in self._kept if key[0] == adapter and _begins(whole, key[1])]:
            self._drop(key)
        self._kept[adapter, whole] = layers
        self.bytes += _size(layers)
        while self.bytes > self._most:
            self._drop(next(iter(self._kept)))

    def longest(self, adapter: str | None, ids: Sequence[int]) -> tuple[int, PartCache] | None:
        """How many first tokens of a prompt are kept, and their keys and values.

        The last token is never among them: its logits have to be computed.
        """
        shared = {key: _shared(key[1], ids) for key in self._kept if key[0] == adapter}
        best = max(shared, key=lambda key: shared[key], default=None)
        if best is None or (count := min(shared[best], len(ids) - 1)) < 1:
            return None
        self._kept.move_to_end(best)
        cache = PartCache(len(ids))
        for place, (keys, values) in enumerate(self._kept[best]):
            cache.update(keys[:, :, :count], values[:, :, :count], place)
        return count, cache

    def forget(self, adapter: str | None) -> None:
        """Keep nothing of an adapter any more: others may come under its name."""
        for key in [key for key in self._kept if key[0] == adapter]:
            self._drop(key)

    def _drop(self, key: tuple[str | None, tuple[int, ...]]) -> None:
        self.bytes -= _size(self._kept.pop(key))


def _size(layers: Layers) -> int:
    return sum(part.nbytes for layer in layers for part in layer)


def _shared(kept: Sequence[int], ids: Sequence[int]) -> int:
    """How many first tokens are the same."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(kept, ids, strict=False)))


def _begins(whole: tuple[int, ...], part: tuple[int, ...]) -> bool:
    return whole[: len(part)] == part
