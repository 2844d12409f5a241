"""Messages as data sets write them: one text, one object, a list of turns, or any of it as JSON.

A turn has "role" and "content" or "from" and "value"; a content is a text or a list of parts. What
is not text is not made into text.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from feedback_store.datasets.foreign.judgement import PARTED, TURNS, Skip
from feedback_store.datasets.foreign.values import given, required, shown, structured
from feedback_store.errors import InvalidFeedbackError
from feedback_store.records import Prompt, PromptMessage

_ROLES = {
    "user": "user",
    "human": "user",
    "prompter": "user",
    "system": "system",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bot": "assistant",
    "model": "assistant",
}


class Sides(NamedTuple):
    """One prompt and the two replies to it."""

    prompt: Prompt
    replies: tuple[str, str]


def messages_of(document: Any, name: str, *, speaker: str | None = None) -> Prompt:
    """The messages of a field, with the roles and texts that the store has.

    Args:
        document: A row of a file.
        name: Its field.
        speaker: Whose words a bare text is; without it, the field has to be a list of turns.

    Raises:
        InvalidFeedbackError: It is something else.
    """
    value = required(document, name, str, list, tuple, dict)
    found = structured(value)
    turns = [found] if isinstance(found, Mapping) else found
    # An empty list is no message, but "[]" is what somebody said.
    if isinstance(turns, (list, tuple)) and all(map(_is_turn, turns)) and (turns or turns is value):
        return tuple(_message(turn, name) for turn in turns)
    if speaker is None or not isinstance(value, str):
        raise InvalidFeedbackError(f"{name!r} cannot be {shown(value)}")
    return (PromptMessage(role=speaker, content=value),)


def text_of(content: Any, name: str) -> str:
    """The text of a content.

    Raises:
        InvalidFeedbackError: Something in it is no text.
    """
    if not isinstance(content, (list, tuple)):
        return str(required({name: content}, name, str))
    parts = [part if isinstance(part, dict) else {"text": part} for part in content]
    for part in parts:
        if (kind := given(part, "type")) not in (None, "text"):
            raise InvalidFeedbackError(f"{name!r} has {shown(kind)}, and only text is compared")
    return "\n".join(required(part, "text", str) for part in parts)


def two_sides(prompt: Prompt, one: Prompt, other: Prompt) -> Sides | Skip:
    """Two replies to one prompt, which stands by itself, before both replies, or both.

    Raises:
        InvalidFeedbackError: A side has no message.
    """
    if not one or not other:
        raise InvalidFeedbackError("'chosen' or 'rejected' has no message")
    if any(side[-1]["role"] != "assistant" for side in (one, other)):
        return Skip(TURNS)
    if one[:-1] != other[:-1]:
        return Skip(PARTED)
    return Sides(one[:-1] or prompt, (one[-1]["content"], other[-1]["content"]))


def _is_turn(value: Any) -> bool:
    return isinstance(value, Mapping) and any(who in value for who in ("role", "from"))


def _message(turn: Any, name: str) -> PromptMessage:
    who, what = ("from", "value") if "from" in turn else ("role", "content")
    role = required(turn, who, str)
    if role not in _ROLES:
        raise InvalidFeedbackError(f"{name!r} has a message of {shown(role)}")
    if what not in turn:
        raise InvalidFeedbackError(f"there is no {what!r}")
    return PromptMessage(role=_ROLES[role], content=text_of(turn[what], what))
