"""A reply rewritten until it meets the tastes, as far as a program can.

Most wishes about form can be met by cutting, ending, re-casing or wrapping what the reply says; no
edit invents content: only "please" and the words that a taste names are put in. What comes out
meets every taste, or nothing comes out.
"""

import json
import re
from collections.abc import Callable, Sequence
from typing import Any

from rlhf_core.gate.probes import texts
from rlhf_core.gate.probes.tastes import MARKDOWN, Taste

ROUNDS = 3  # one edit can undo another: a round repeats all of them in order


def rewrite(reply: str, tastes: Sequence[Taste]) -> str | None:
    """The reply with every taste met; None if a program cannot, or need not, change it."""
    text = reply.strip()
    order = list(EDITS)
    wished = sorted((t for t in tastes if t.name in EDITS), key=lambda t: order.index(t.name))
    for _ in range(ROUNDS):
        for taste in wished:
            if texts.words(text) and not taste.met(text):
                text = EDITS[taste.name](text, taste.parameter).strip()
        if all(taste.met(text) for taste in tastes):
            return text if text != reply.strip() else None
    return None


def _cut_words(text: str, limit: str) -> str:
    """The whole sentences that fit, or else the first words, closed as a sentence."""
    ends = texts.word_ends(text)
    most = ends[int(limit) - 1 : int(limit)] or [len(text)]
    fitting = [end for end in texts.sentence_ends(text) if texts.words(text[:end]) <= int(limit)]
    return text[: fitting[-1]] if fitting else _end(text[: most[0]])


def _cut_sentences(text: str, limit: str) -> str:
    return text[: texts.sentence_ends(text)[: int(limit)][-1]]


def _end(text: str, _: str = "") -> str:
    """Without the sentence that was cut off; if that is all there is, closed with a full stop."""
    whole = [end for end in texts.sentence_ends(text) if texts.is_ended(text[:end])]
    return text[: whole[-1]] if whole else re.sub(r"[\W_]+$", "", text) + "."


def _say_please(text: str, phrase: str) -> str:
    return f"Please note: {text}" if phrase.lower() == "please" else text


def _avoid(text: str, phrase: str) -> str:
    return re.sub(r" +(?=[ .,;:!?]|$)", "", texts.whole_words(phrase).sub("", text))


def _as_bullets(text: str, count: str) -> str:
    """The first bullets and what is no bullet; without bullets, the first sentences as bullets."""
    there, wished = texts.bullets(text), int(count)
    if not there:
        return "\n".join(f"- {sentence}" for sentence in texts.sentences(text)[:wished])
    spare = set(there[wished:])
    return "\n".join(line for line in text.splitlines() if line not in spare)


def _plain(text: str, _: str) -> str:
    return MARKDOWN.sub("", text)


# In this order: what stands first is put in, then content is cut, then its form is changed; what
# must stand last, or around it all, comes last.
EDITS: dict[str, Callable[[str, str], str]] = {
    "plain-text": _plain,
    "avoids": _avoid,
    "contains": _say_please,
    "starts-with": lambda text, phrase: f"{phrase} {text}",
    "at-most-sentences": _cut_sentences,
    "at-most-words": _cut_words,
    "bullets": _as_bullets,
    "one-paragraph": lambda text, _: " ".join(text.split()),
    "no-commas": lambda text, _: text.replace(",", ""),
    "punctuation:no_comma": lambda text, _: text.replace(",", ""),
    "ends-as-a-sentence": _end,
    "ends-with": lambda text, phrase: f"{text} {phrase}",
    "startend:end_checker": lambda text, given: f"{text} {_given(given, 'end_phrase')}",
    "lower-case": lambda text, _: text.lower(),
    "change_case:english_lowercase": lambda text, _: text.lower(),
    "upper-case": lambda text, _: text.upper(),
    "change_case:english_capital": lambda text, _: text.upper(),
    "startend:quotation": lambda text, _: f'"{text}"',
    "json": lambda text, _: json.dumps({"answer": text}, ensure_ascii=False),
    "detectable_format:json_format": lambda text, _: json.dumps({"answer": text}),
}


def _given(parameter: str, name: str) -> Any:
    return json.loads(parameter)[name]
