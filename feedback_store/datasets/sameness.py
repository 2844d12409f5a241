"""When two replies say the same to a reader, and when one says nothing: by what can be seen.

White space, control and format characters and other marks without a shape do not count. A pair that
differs in them alone would teach a reward model to count blanks.
"""

import unicodedata

_UNSEEN = {"Cc", "Cf", "Zs", "Zl", "Zp"}  # categories
# Default_Ignorable_Code_Point outside these categories (Unicode 15, DerivedCoreProperties), and the
# Braille pattern without a dot.
_FILLERS = ("\u034f", "\u115f", "\u1160", "\u17b4", "\u17b5", "\u2800", "\u3164", "\uffa0")
_VARIATIONS = ((0x180B, 0x180F), (0xFE00, 0xFE0F), (0xE0100, 0xE01EF))


def visible(text: str) -> str:
    """The text without what cannot be seen."""
    return text.translate(_SEEN)


class _SeenCharacters(dict[int, int | None]):
    """What becomes of each character, by its number; looked up once."""

    def __missing__(self, number: int) -> int | None:
        unseen = (
            unicodedata.category(chr(number)) in _UNSEEN
            or chr(number) in _FILLERS
            or any(first <= number <= last for first, last in _VARIATIONS)
        )
        self[number] = None if unseen else number
        return self[number]


_SEEN = _SeenCharacters()
