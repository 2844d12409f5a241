"""Token ids to text while they still arrive.

Invariant: what was given out is never taken back and never ends in half a character: bytes of an
unfinished character, and spaces that a tokenizer may still swallow, wait for what follows.
"""

from collections.abc import Callable, Sequence

UNFINISHED = "\ufffd"  # what decoders show for bytes that are no character yet


class ReplyText:
    """The text of one reply as its tokens arrive."""

    def __init__(self, decode: Callable[[Sequence[int]], str]) -> None:
        self._decode = decode
        self._shown = ""

    def take(self, ids: Sequence[int], *, final: bool = False) -> str:
        """Text not given out yet; ``final`` gives everything that there will be."""
        text = self._decode(ids).rstrip(UNFINISHED)
        if not final:
            text = text.rstrip()
            if not text.startswith(self._shown):
                return ""  # the decoder still changes its mind about the end
        new = text[len(self._shown) :]
        self._shown += new
        return new
