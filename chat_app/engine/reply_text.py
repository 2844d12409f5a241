"""The text of one reply while its tokens arrive, up to the first stop text.

Invariant: text that was given out never changes later, never ends in half a character, and is no
beginning of a stop text. It knows no tokens: who uses it decodes them.
"""

from collections.abc import Callable, Sequence

UNFINISHED = "\ufffd"  # decoders show it for the bytes of an incomplete character


class ReplyText:
    """Gives out the new text of a reply.

    The bytes of an unfinished character wait for the next token. Spaces at the end wait too,
    because the tokenizer may still remove them; so does what may become a stop text.

    Args:
        decode: Turns the tokens of the reply into text.
        stop: Texts that end the reply; neither they nor what follows is part of it.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str], stop: Sequence[str] = ()) -> None:
        self._decode = decode
        self._stop = stop
        self._shown = ""

    def stops(self, ids: Sequence[int]) -> bool:
        """Whether a stop text has come."""
        return bool(self._stop) and self._end(self._decode(ids)) is not None

    def take(self, ids: Sequence[int], *, final: bool = False) -> str:
        """The text that was not given out yet; ``final`` gives all the rest."""
        text = self._decode(ids).rstrip(UNFINISHED)
        text = text[: self._end(text)]
        if not final:
            text = text[: len(text) - self._begun(text)].rstrip()
            if not text.startswith(self._shown):
                return ""  # the decoder may still change the end of the text
        new = text[len(self._shown) :]
        self._shown += new
        return new

    def _end(self, text: str) -> int | None:
        """Where the first stop text begins, if there is one."""
        return min((at for stop in self._stop if (at := text.find(stop)) >= 0), default=None)

    def _begun(self, text: str) -> int:
        """How many characters at the end may be the beginning of a stop text."""
        return max(
            (
                size
                for stop in self._stop
                for size in range(1, len(stop))
                if text.endswith(stop[:size])
            ),
            default=0,
        )
