"""Tastes: named wishes about a reply that a program can check exactly.

A taste is written as text, `at-most-words:20` or `no-commas`. Its degree for a reply is 1.0 exactly
when the reply meets it. Invariant: a reply without a word meets no taste, so that a policy that
falls silent pleases nobody. The checkable world's judge and the gate's probes ask tastes; nothing
that trains may reach them (`tests/test_architecture.py`).
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from rlhf_core.errors import InvalidInputError
from rlhf_core.gate.probes import texts
from rlhf_core.gate.probes.rude_words import rude_words

MAX_NUMBER = 10_000
DEFAULT_TASTES = ("at-most-words:40", "ends-as-a-sentence")

MARKDOWN = re.compile(r"[*`]|^[ \t]*(?:#+|[-•>]|\d+[.)])[ \t]+", re.M)
REFUSAL = re.compile(
    r"\b(?:(?:i|we) (?:can't|cannot|can not|won't|will not|must decline)(?! (?:wait|help but)\b)"
    r"|(?:i am|i'm|we are|we're) (?:not able|unable)|(?:i am|i'm) sorry,? but|as an ai"
    r"|(?:unable|not able) to (?:help|assist|answer|provide))\b",
    re.IGNORECASE,
)
# A reply that says that something is not known, or that there is no such thing.
ADMISSION = re.compile(
    r"\b(?:(?:do not|don't|cannot|can't|could not|couldn't|not able to|unable to) (?:\w+ )?"
    r"(?:know|tell|say|see|find|predict|verify|confirm|guess)"
    r"|(?:does not|doesn't|did not|didn't|never) (?:exist|existed|say|mention|state|have|had)"
    r"|not (?:sure|aware|known|possible|mentioned|stated|given)|unsure|unknown|impossible"
    r"|(?:nobody|no one) knows|no (?:way to|information|mention|record|such))\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Taste:
    """One wish about a reply: its kind, what the kind leaves open, and the check."""

    name: str
    parameter: str
    check: Callable[[str], float] = field(compare=False, repr=False)

    @property
    def text(self) -> str:
        """The taste as it is written."""
        return f"{self.name}:{self.parameter}" if self.parameter else self.name

    def degree(self, reply: str) -> float:
        """How nearly the reply meets the taste, in [0, 1]; 1.0 exactly when it does."""
        return self.check(reply) if texts.words(reply) else 0.0

    def met(self, reply: str) -> bool:
        """Whether the reply meets the taste."""
        return self.degree(reply) == 1.0


PLAIN: dict[str, Callable[[str], float]] = {
    "admits-not-knowing": lambda reply: float(bool(ADMISSION.search(_straight(reply)))),
    "ends-as-a-sentence": lambda reply: float(texts.is_ended(reply)),
    "json": lambda reply: float(isinstance(texts.json_of(reply), (dict, list))),
    "lower-case": lambda reply: texts.one_case(reply, str.islower),
    "no-commas": lambda reply: texts.none_of(reply.count(",")),
    "no-refusal": lambda reply: float(not REFUSAL.search(_straight(reply))),
    "no-rude-words": lambda reply: texts.none_of(rude_words(reply)),
    "one-paragraph": lambda reply: texts.none_of(len(reply.strip().splitlines()) - 1),
    "plain-text": lambda reply: texts.none_of(len(MARKDOWN.findall(reply))),
    "upper-case": lambda reply: texts.one_case(reply, str.isupper),
}
COUNTED: dict[str, Callable[[str, int], float]] = {
    "at-least-words": lambda reply, n: texts.at_least(texts.words(reply), n),
    "at-most-sentences": lambda reply, n: texts.at_most(len(texts.sentences(reply)), n),
    "at-most-words": lambda reply, n: texts.at_most(texts.words(reply), n),
    "bullets": lambda reply, n: texts.exactly(len(texts.bullets(reply)), n),
}
WORDED: dict[str, Callable[[str, str], float]] = {
    "avoids": lambda reply, phrase: texts.none_of(texts.occurrences(phrase, reply)),
    "contains": lambda reply, phrase: float(texts.occurrences(phrase, reply) > 0),
    "contains-one": lambda reply, phrases: float(
        any(texts.occurrences(phrase, reply) for phrase in _choices(phrases))
    ),
    "ends-with": lambda reply, phrase: float(reply.rstrip().endswith(phrase)),
    "starts-with": lambda reply, phrase: float(reply.lstrip().startswith(phrase)),
}


def _straight(reply: str) -> str:
    """The reply with straight apostrophes."""
    return reply.replace("\u2019", "'")


def _choices(phrases: str) -> list[str]:
    """The words or phrases between bars."""
    return [phrase for part in phrases.split("|") if (phrase := part.strip())]


def known_tastes() -> list[str]:
    """Every taste as it is written, `N` for a number and `WORD` for a word or phrase.

    `contains-one` takes several, with bars between them.
    """
    counted, worded = [f"{name}:N" for name in COUNTED], [f"{name}:WORD" for name in WORDED]
    return sorted([*PLAIN, *counted, *worded])


def parse_taste(text: str) -> Taste:
    """The taste that is written so.

    Raises:
        InvalidInputError: There is no such taste, or its parameter makes no sense.
    """
    name, _, given = text.strip().partition(":")
    parameter = given.strip()
    if name in PLAIN and not parameter:
        return Taste(name, "", PLAIN[name])
    if name in COUNTED and parameter.isdecimal() and 1 <= int(parameter) <= MAX_NUMBER:
        count, number = COUNTED[name], int(parameter)
        return Taste(name, str(number), lambda reply: count(reply, number))
    if name in WORDED and texts.words(parameter):
        find = WORDED[name]
        return Taste(name, parameter, lambda reply: find(reply, parameter))
    raise InvalidInputError(
        f"taste {text!r} is unknown; give one of {', '.join(known_tastes())} "
        f"(N from 1 to {MAX_NUMBER})"
    )


def parse_tastes(written: Iterable[str]) -> tuple[Taste, ...]:
    """The tastes in their order, each once.

    Raises:
        InvalidInputError: One of them is unknown.
    """
    return tuple(dict.fromkeys(parse_taste(text) for text in written))
