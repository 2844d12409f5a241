"""Keys and values of what was read and said, for prompts that begin in the same way.

The next turn of a conversation begins with the turns before it, and another try at a reply has the
same prompt. Their keys and values are kept when a row ends, as many as a number of bytes allows;
the longest unused go first. They are of one adapter: another one makes other values of the same
tokens. A copy is kept and copies are handed out, so nothing here changes. Letters: see `row_cache`.
"""

from collections import OrderedDict
from collections.abc import Sequence
from itertools import takewhile

from torch import Tensor
from transformers import DynamicCache

Layers = list[tuple[Tensor, Tensor]]  # keys and values of each layer, (1, H, L, D)


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

    def longest(self, adapter: str | None, ids: Sequence[int]) -> tuple[int, DynamicCache] | None:
        """How many first tokens of a prompt are kept, and their keys and values.

        The last token is never among them: its logits have to be computed.
        """
        shared = {key: _shared(key[1], ids) for key in self._kept if key[0] == adapter}
        best = max(shared, key=lambda key: shared[key], default=None)
        if best is None or (count := min(shared[best], len(ids) - 1)) < 1:
            return None
        self._kept.move_to_end(best)
        cache = DynamicCache()
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
