"""The exact judge of the starter world: what a reply says, and the gold reward.

It is a parser, not a model. Only the simulated raters and the published measurements import it.
Nothing that trains or promotes may (`tests/test_architecture.py`): measurements would be circular.
"""

import re
from dataclasses import dataclass

from rlhf_core.worlds.starter.world import POLITE_WORDS, RUDE_WORDS, Request

_REFUSALS = (
    "who cares",
    "something else",
    "rather talk",
    "not now",
    "look it up",
    "go away",
    "want now",
)


@dataclass(frozen=True, slots=True)
class GoldVerdict:
    """The judge's exact findings about one reply."""

    correct: bool  # says the right value (for a list: three) and no wrong value of that kind
    rude: bool
    ignored: bool  # does not answer the request
    constraint_met: bool
    polite: bool
    finished: bool
    words: int

    @property
    def gold(self) -> float:
        """The gold reward: truth first, then civility, then the request."""
        return (
            2.0 * self.correct
            + 1.0 * self.constraint_met
            + 0.4 * self.polite
            - 2.0 * self.rude
            - 1.0 * self.ignored
            - 0.5 * (not self.finished)
            - 0.03 * max(0, self.words - 12)
        )


def judge(request: Request, reply: str, *, finished: bool = True) -> GoldVerdict:
    """Judge one reply to one request."""
    text = reply.lower()
    words = re.findall(r"[a-z']+|\d+", text)
    said = mentioned(text, request.answers)
    wrong = mentioned(text, request.wrong)
    rude = any(word in words for word in RUDE_WORDS)
    refused = any(phrase in text for phrase in _REFUSALS) or not words
    civil = not rude and not refused and "next" not in words
    return GoldVerdict(
        correct=_is_correct(request, said, wrong, civil),
        rude=rude,
        ignored=refused or (request.kind != "chat" and not said and not wrong),
        constraint_met=_meets(request, words, said),
        polite=civil and any(word in text for word in POLITE_WORDS),
        finished=finished,
        words=len(words),
    )


def mentioned(text: str, values: tuple[str, ...]) -> set[str]:
    """The values that are in the text as whole words."""
    there = [v for v in values if v.lower() in text]  # most are not; looking is cheap
    return {
        v for v in there if re.search(rf"(?<![a-z0-9]){re.escape(v.lower())}(?![a-z0-9])", text)
    }


def _is_correct(request: Request, said: set[str], wrong: set[str], civil: bool) -> bool:
    if request.kind == "chat":
        return civil
    if request.kind == "list":
        return len(said) == 3 and not wrong
    return bool(said) and not wrong


def _meets(request: Request, words: list[str], said: set[str]) -> bool:
    """Whether the reply has the requested form; without a constraint it always has."""
    if request.constraint == "two words":
        return len(words) == 2
    if request.constraint == "politely":
        return any(word in " ".join(words) for word in POLITE_WORDS)
    return request.kind != "list" or len(said) == 3
