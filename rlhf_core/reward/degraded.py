"""Corrupted copies of preferred responses, which join the comparisons as rejected ones.

People rarely see such responses, but a policy soon finds out that an untrained reward model likes
them. What must not be learnt from them is that long replies are good, or replies with line breaks.
So a copy keeps the white space around its words, and over all kinds copies have, on average, as
many words and line breaks as the originals: what is lost by cutting is gained by repeating.
"""

import random
import re
from itertools import pairwise
from typing import Literal, get_args

Kind = Literal["cut", "emptied", "repeated", "shuffled"]
# A cut loses half of the words on average, emptying loses all, and repeating doubles them: as many
# are lost as gained. Cut is the most frequent: a reply without its end is the easiest mistake.
SHARES: dict[Kind, float] = {"cut": 0.4, "emptied": 0.1, "repeated": 0.3, "shuffled": 0.2}
WORD = re.compile(r"\S+")


def degrade(response: str, rng: random.Random, kind: Kind | None = None) -> str | None:
    """A worse copy of a response.

    Args:
        response: The response.
        rng: Source of random numbers.
        kind: What to do to it; by default drawn by `SHARES`. A response too short for it (of one
            word, or of one word again and again) is emptied or repeated.

    Returns:
        A copy with other words than the response, or None if that has no words.
    """
    words = list(WORD.finditer(response))
    n, different = len(words), len({word.group() for word in words})
    if not n:
        return None
    kind = kind or rng.choices(get_args(Kind), weights=[SHARES[k] for k in get_args(Kind)])[0]
    if kind == "cut" and n > 1:  # after any word but the last
        return response[: words[rng.randrange(n - 1)].end()]
    if kind == "shuffled" and different > 1:
        return _shuffled(response, words, rng)
    # What cannot be cut is emptied. What cannot be shuffled is as often emptied as repeated, but
    # that of one word repeated, to make up for the cuts.
    emptied = kind in ("cut", "emptied") or (kind == "shuffled" and n > 1 and rng.random() < 0.5)
    return "" if emptied else _repeated(response, words, rng)


def _shuffled(response: str, words: list[re.Match[str]], rng: random.Random) -> str:
    """The words in another order; all white space stays where it is."""
    before = [word.group() for word in words]
    after = before
    while after == before:
        after = rng.sample(before, len(before))
    moved = iter(after)
    return WORD.sub(lambda _: next(moved), response)


def _repeated(response: str, words: list[re.Match[str]], rng: random.Random) -> str:
    """Some words in a row, said again and again until there are twice as many words as before.

    A word is repeated with the white space that follows it; the last one has none, and gets that of
    another word.
    """
    n = len(words)
    first, last = sorted((rng.randrange(n), rng.randrange(n)))
    gaps = [response[a.end() : b.start()] for a, b in pairwise(words)] or [" "]
    gaps.append(rng.choice(gaps))
    run = [words[i].group() + gaps[i] for i in range(first, last + 1)]
    again = "".join(run[i % len(run)] for i in range(n))
    at = words[first].start()
    return response[:at] + again + response[at:]
