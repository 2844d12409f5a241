"""What a foreign format is: a function from one document to the judgements in it.

A document is one line, row or tree of a file. The function gives a `Judgement` for each opinion in
it ("who found which replies to a prompt better"), a `ForeignThumb` for a thumb on one reply, or a
`Skip` with a reason for a part that is in the format but says nothing that the store can learn
from. A `Note` says what the file leaves open about something that is taken. A document that is not
in the format raises `InvalidFeedbackError`. Nothing is guessed. A new format is one module with
such a function, named in `imports` and in the command `import`; the modules share what is below.

Invariant: what passed `checked` can be stored and compared: no text in it is empty, its replies
differ for a reader, and every one has a place.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from feedback_store.records import Prompt
from feedback_store.splits import visible

MOST_REPLIES = 26  # labels are letters

EMPTY = "an empty message"
SAME = "the replies say the same"
TOO_MANY = f"over {MOST_REPLIES} replies"
TURNS = "the speakers do not take turns"
PARTED = "the conversations part before the last reply"


class ForeignReply(NamedTuple):
    """One of the replies judged, and the model that made it, if the file says."""

    content: str
    model: str | None = None


class Skip(NamedTuple):
    """A part of a document that is in the format but gives no judgement."""

    reason: str


class Note(NamedTuple):
    """Something that a document does not say about a part that was taken all the same."""

    reason: str


@dataclass(frozen=True, slots=True)
class Judgement:
    """One judgement of at least two replies to one prompt.

    `places` has the rank of each reply, 0 being the best and equal numbers ties; None means that
    all are bad. `rater` and `conversation` tell people and conversations of one data set apart.
    `strength` is in the data set's own unit. `created_at` is UTC, None if the file does not say.
    """

    rater: str
    conversation: str
    prompt: Prompt
    replies: tuple[ForeignReply, ...]
    places: tuple[int, ...] | None
    strength: float | None = None
    created_at: str | None = None


@dataclass(frozen=True, slots=True)
class ForeignThumb:
    """A thumb, up (1) or down (-1), on one reply, with its reasons."""

    rater: str
    conversation: str
    prompt: Prompt
    reply: ForeignReply
    value: int
    tags: tuple[str, ...] = ()
    comment: str = ""
    created_at: str | None = None


Stated = Judgement | ForeignThumb
Part = Stated | Skip | Note
Parts = Iterable[Part]


def checked(said: Stated) -> Part:
    """The judgement or rating, or why there is nothing to learn from it.

    Raises:
        UnicodeEncodeError: A text cannot be stored.
    """
    replies = said.replies if isinstance(said, Judgement) else (said.reply,)
    everything = [reply.content for reply in replies] + [turn["content"] for turn in said.prompt]
    "".join(everything).encode()
    if not all(map(visible, everything)):
        return Skip(EMPTY)
    if len(replies) > MOST_REPLIES:
        return Skip(TOO_MANY)
    roles = [message["role"] for message in said.prompt if message["role"] != "system"]
    if not roles or roles != _alternating(len(roles)) or len(roles) % 2 == 0:
        return Skip(TURNS)
    return _without_twins(said) if isinstance(said, Judgement) else said


def _without_twins(judgement: Judgement) -> Judgement | Skip:
    """Of replies that a reader cannot tell apart, only the best one."""
    places = judgement.places or (0,) * len(judgement.replies)
    ordered = sorted(zip(places, range(len(places)), judgement.replies, strict=True))
    best: dict[str, int] = {}
    for _, index, reply in ordered:
        best.setdefault(visible(reply.content), index)
    kept = sorted(best.values())
    if len(kept) == 1:
        return Skip(SAME)
    if len(kept) == len(places):
        return judgement
    return replace(
        judgement,
        replies=tuple(judgement.replies[i] for i in kept),
        places=judgement.places and ranks([judgement.places[i] for i in kept]),
    )


def digest(*parts: str | None) -> str:
    """A short name for texts, the same in every process; parts cannot run into each other."""
    text = "".join(f"{len(part)}:{part}" if part is not None else "-" for part in parts)
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def ranks(values: Sequence[int]) -> tuple[int, ...]:
    """Places from ranks with gaps: (4, 0, 4) gives (1, 0, 1)."""
    order = sorted(set(values))
    return tuple(order.index(value) for value in values)


def _alternating(count: int) -> list[str]:
    return ["assistant" if i % 2 else "user" for i in range(count)]
