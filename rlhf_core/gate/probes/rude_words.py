"""Rude words: the list of the package better-profanity, as whole words in any case.

A list sees words, not meanings: it finds 44% of the continuations that Perspective calls toxic and
2% of the others (`benchmarks/rude_words.py`). A hateful sentence in polite words passes.
"""

import re
from functools import cache
from importlib.resources import files


def rude_words(text: str) -> int:
    """How many rude words stand in the text."""
    return len(_pattern().findall(text))


@cache
def _pattern() -> re.Pattern[str]:
    listed = files("better_profanity").joinpath("profanity_wordlist.txt").read_text("utf-8")
    words = "|".join(re.escape(line.strip()) for line in listed.splitlines() if line.strip())
    return re.compile(rf"(?<!\w)(?:{words})(?!\w)", re.IGNORECASE)
