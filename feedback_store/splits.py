"""Which split a question or a rater is in, for ever; and when two texts or prompts are the same.

All of it follows from hashes that never change. The store keeps them beside each message, so that
no derivation reads a text again. A change here would move questions between training and
measuring: a test pins the values.
"""

import hashlib
import unicodedata
from collections.abc import Sequence

from feedback_store.records import PromptMessage, Split

_HELD_OUT_QUESTIONS = 4  # one question in four
_HELD_OUT_RATERS = 10  # one rater in ten
_UNHEARD = {"Pc", "Pd", "Ps", "Pe", "Pi", "Pf", "Po", "Zs", "Zl", "Zp", "Cc", "Cf"}  # categories
_UNSEEN = {"Zs", "Zl", "Zp", "Cc", "Cf"}  # categories
# Default_Ignorable_Code_Point outside these categories (Unicode 15, DerivedCoreProperties), and the
# Braille pattern without a dot.
_FILLERS = ("\u034f", "\u115f", "\u1160", "\u17b4", "\u17b5", "\u2800", "\u3164", "\uffa0")
_VARIATIONS = ((0x180B, 0x180F), (0xFE00, 0xFE0F), (0xE0100, 0xE01EF))


def text_hash(text: str) -> str:
    """Two responses with the same hash say the same; the text counts as it is written."""
    return _digest(text)[:32]


def visible(text: str) -> str:
    """A text without white space and whatever else has no shape: what a reader can tell apart.

    A pair that differs in the rest alone would teach a reward model to count blanks.
    """
    return text.translate(_SEEN)


def path_hash(parent: str | None, role: str, content: str) -> str:
    """Two prompts with the same hash are the same, but for case, white space and forms of a letter.

    `parent` is the hash of the path above the message.
    """
    return _digest(f"{parent or ''}\n{role}\n{_plain(content)}")[:32]


def path_hashes(prompt: Sequence[PromptMessage]) -> list[str]:
    """The hash of the path down to each of the messages."""
    found: list[str] = []
    for message in prompt:
        above = found[-1] if found else None
        found.append(path_hash(above, message["role"], message["content"]))
    return found


def prompt_hash(prompt: Sequence[PromptMessage]) -> str | None:
    """The hash of a whole path; None if it is empty."""
    return path_hashes(prompt)[-1] if prompt else None


def is_held_out_question(question: str) -> bool:
    """Whether a question is for measuring only: its words alone decide, for ever.

    The path to the question does not count, nor do case, spacing and punctuation. Otherwise
    training in one conversation could use a question that another conversation holds out.
    """
    return hashlib.sha256(_bare(question).encode()).digest()[0] % _HELD_OUT_QUESTIONS == 0


def is_held_out_rater(rater_id: str) -> bool:
    """Whether a rater's judgements are for measuring only: the id alone decides."""
    digest = hashlib.sha256(f"rater\n{rater_id}".encode()).digest()
    return digest[0] % _HELD_OUT_RATERS == 0


def split_of(prompt: Sequence[PromptMessage], *, held_out_rater: bool = False) -> Split:
    """The split of a judgement of this prompt, whose question is the last user message."""
    said = [item["content"] for item in prompt if item["role"] == "user"]
    return split(is_held_out_question(said[-1] if said else ""), held_out_rater)


def split(held_out_question: bool, held_out_rater: bool) -> Split:
    """Training shares no question with "held_out" and no rater with "held_out_raters"."""
    if held_out_question:
        return "held_out"
    return "held_out_raters" if held_out_rater else "train"


def _plain(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def _bare(text: str) -> str:
    """A text without case, white space, punctuation, and control and format characters.

    Source:
        The Unicode Standard, D146: compatibility caseless match.
    """
    folded = unicodedata.normalize("NFD", text).casefold()
    folded = unicodedata.normalize("NFKD", folded).casefold()
    folded = unicodedata.normalize("NFKD", folded)
    return "".join(c for c in folded if unicodedata.category(c) not in _UNHEARD)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


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
