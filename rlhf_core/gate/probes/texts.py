"""What a text is made of, and how nearly it has what was wished: pure functions, no model.

A word is what stands between white space and has a letter or a digit. A sentence ends with its mark
before white space, or with its line; the full stop of an abbreviation or of a list's number ends
none. A **degree** is 1.0 exactly when a wish is met. What misses it gets `NEAR` at most, the more
the nearer it comes, so that a visitor prefers 22 words to 90 when 20 were wished.
"""

import json
import re
from collections.abc import Callable
from typing import Any

NEAR = 0.7  # the degree of a miss stays below this

_TOKEN = re.compile(r"\S*\w\S*")
_CLOSED = r"[.!?\u2026]+[\"'\u201d\u2019)\]*_]*"  # a mark, perhaps in quotes, brackets or emphasis
_MARK = re.compile(rf"{_CLOSED}(?=\s|$)|\n|$")
_ENDED = re.compile(rf"{_CLOSED}$")
_NO_END = re.compile(
    r"(?:\b(?:mr|mrs|ms|dr|prof|st|vs|e\.g|i\.e|approx)|^\s*(?:[-*•]\s*)?\d{1,3})\.$", re.I
)
_BULLET = re.compile(r"^[ \t]*(?:-|•|\*(?!\*))[ \t]*\S.*$", re.M)
_FENCE = re.compile(r"^```\w*\s*|\s*```$")


def word_ends(text: str) -> list[int]:
    """Where each word ends, as offsets into the text."""
    return [token.end() for token in _TOKEN.finditer(text) if _has_word(token.group())]


def words(text: str) -> int:
    """Number of words."""
    return len(word_ends(text))


def sentence_ends(text: str) -> list[int]:
    """Where each sentence ends, as offsets; the last one may lack its mark."""
    ends, start = [], 0
    for mark in _MARK.finditer(text):
        piece = text[start : mark.end()]
        whole = not mark.group().strip() or not _NO_END.search(piece)  # a line's end always ends
        if _has_word(piece) and whole:
            ends.append(start + len(piece.rstrip()))
            start = mark.end()
    return ends


def sentences(text: str) -> list[str]:
    """The sentences, without the white space around them."""
    ends = sentence_ends(text)
    return [text[a:b].strip() for a, b in zip([0, *ends], ends, strict=False)]


def is_ended(text: str) -> bool:
    """Whether the text ends as a sentence does: with a mark, perhaps in quotes or brackets."""
    return bool(_ENDED.search(text.rstrip()))


def bullets(text: str) -> list[str]:
    """The lines that start with `-`, `*` or `•`."""
    return [line.group() for line in _BULLET.finditer(text)]


def occurrences(phrase: str, text: str) -> int:
    """How often a word or phrase stands in the text, as whole words, in any case."""
    return len(whole_words(phrase).findall(text))


def whole_words(phrase: str) -> re.Pattern[str]:
    """The pattern of a word or phrase with no letter or digit on either side."""
    return re.compile(rf"(?<!\w){re.escape(phrase)}(?!\w)", re.IGNORECASE)


def json_of(text: str) -> Any:
    """The value that the text is, a code fence around it allowed; None if it is not JSON."""
    try:
        return json.loads(_FENCE.sub("", text.strip()))
    except (ValueError, RecursionError):
        return None


# Degrees


def at_most(count: float, limit: float) -> float:
    """1.0 up to the limit, then the less the further above it."""
    return 1.0 if count <= limit else NEAR * max(0.0, limit) / max(1, count)


def at_least(count: float, wished: float) -> float:
    """1.0 from the wished number on, before it the less the further below."""
    return 1.0 if count >= wished else NEAR * count / wished


def exactly(count: int, wished: int) -> float:
    """1.0 for this number and no other."""
    return 1.0 if count == wished else NEAR * max(0, min(count, wished)) / max(1, count, wished)


def none_of(count: int) -> float:
    """1.0 without any, then the less the more there are."""
    return 1.0 if count == 0 else NEAR / (1 + count)


def every(good: int, total: int) -> float:
    """1.0 if all are good, else by their share."""
    return 1.0 if good == total else NEAR * good / total


def one_case(text: str, has_case: Callable[[str], bool]) -> float:
    """1.0 if all letters that have a case have this one (and there are any), else by their share.

    Args:
        text: Any text.
        has_case: `str.islower` or `str.isupper`.
    """
    if has_case(text):
        return 1.0
    good = sum(has_case(letter) for letter in text)
    return NEAR * good / max(1, sum(letter.islower() or letter.isupper() for letter in text))


def _has_word(text: str) -> bool:
    return any(letter.isalnum() for letter in text)
