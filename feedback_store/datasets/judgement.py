"""What a foreign format is: a function from one document to the judgements in it.

A document is one line, row or tree of a file. The function gives a `Judgement` for each opinion in
it ("who found which replies to a prompt better"), or a `Skip` with a reason for a part that is in
the format but says nothing that the store can learn from. A document that is not in the format
raises `InvalidFeedbackError`. Nothing is guessed. A new format is one module with such a function,
named in `imports` and in the command `import`; the modules share what is below.

Invariant: a `Judgement` that passed `checked` can be stored and compared: no text in it is empty,
its replies differ, and every one has a place.
"""

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

from feedback_store.errors import InvalidFeedbackError
from feedback_store.records import ROLES, Prompt, PromptMessage
from feedback_store.sqlite.ids import iso_utc

MOST_REPLIES = 26  # labels are letters
LONGEST_NAME = 100

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


Parts = Iterable[Judgement | Skip]


def checked(judgement: Judgement) -> Judgement | Skip:
    """The judgement, or why there is nothing to learn from it.

    Raises:
        UnicodeEncodeError: A text cannot be stored.
    """
    texts = [reply.content for reply in judgement.replies]
    everything = [*texts, *(message["content"] for message in judgement.prompt)]
    "".join(everything).encode()
    if not all(text.strip() for text in everything):
        return Skip(EMPTY)
    if len(set(texts)) == 1:
        return Skip(SAME)
    if len(texts) > MOST_REPLIES:
        return Skip(TOO_MANY)
    roles = [message["role"] for message in judgement.prompt if message["role"] != "system"]
    if not roles or roles != _alternating(len(roles)) or len(roles) % 2 == 0:
        return Skip(TURNS)
    return judgement


def required(document: Any, name: str, *kinds: type) -> Any:
    """A field of a document, of one of these types.

    Raises:
        InvalidFeedbackError: It is missing, or something else.
    """
    if not isinstance(document, Mapping):
        raise InvalidFeedbackError(f"{shown(document)} is no JSON object")
    if name not in document:
        raise InvalidFeedbackError(f"there is no {name!r}")
    value = document[name]
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        raise InvalidFeedbackError(f"{name!r} cannot be {shown(value)}")
    return value


def messages_of(document: Any, name: str) -> Prompt:
    """A list of messages with the roles and texts that the store has."""
    return tuple(_message(item, name) for item in required(document, name, list, tuple))


def utc(value: Any) -> str | None:
    """A time of a data set (ISO 8601 or seconds since 1970) as the store writes it."""
    if value is None:
        return None
    try:
        time = datetime.fromtimestamp(value, UTC) if _is_number(value) else _time(value)
    except (ValueError, TypeError, OverflowError, OSError) as exc:
        raise InvalidFeedbackError(f"{shown(value)} is no time") from exc
    return iso_utc(time)


def score(document: Any, name: str) -> float | None:
    """A finite number of a document, None if it has none."""
    value = document.get(name)
    if value is None:
        return None
    if not _is_number(value) or not math.isfinite(value):
        raise InvalidFeedbackError(f"{name!r} cannot be {shown(value)}")
    return float(value)


def digest(*parts: str | None) -> str:
    """A short name for texts, the same in every process; parts cannot run into each other."""
    text = "".join(f"{len(part)}:{part}" if part is not None else "-" for part in parts)
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def shown(value: Any) -> str:
    """A value in a few characters, as a reason may quote it."""
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def ranks(values: Sequence[int]) -> tuple[int, ...]:
    """Places from ranks with gaps: (4, 0, 4) gives (1, 0, 1)."""
    order = sorted(set(values))
    return tuple(order.index(value) for value in values)


def _alternating(count: int) -> list[str]:
    return ["assistant" if i % 2 else "user" for i in range(count)]


def _message(item: Any, name: str) -> PromptMessage:
    role, content = required(item, "role", str), required(item, "content", str)
    if role not in ROLES:
        raise InvalidFeedbackError(f"{name!r} has a message of {shown(role)}")
    return PromptMessage(role=role, content=content)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _time(text: str) -> datetime:
    time = datetime.fromisoformat(text)
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
