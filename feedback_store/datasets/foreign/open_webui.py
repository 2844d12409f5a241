"""Open WebUI's export of feedback: a thumb on one reply, with the whole chat as it was then.

A reply that was made beside those of other models is rated against them: up is better than each of
them, down is worse, which is how Open WebUI's own leaderboard reads it. Of any other reply the
thumb is taken as a thumb.

Source:
    Open WebUI, `open_webui/models/feedbacks.py` (a rating's data, meta and snapshot).
"""

from collections.abc import Mapping, Sequence
from typing import Any

from feedback_store.datasets.foreign.judgement import (
    ForeignReply,
    ForeignThumb,
    Judgement,
    Part,
    Parts,
    Skip,
    checked,
)
from feedback_store.datasets.foreign.turns import messages_of
from feedback_store.datasets.foreign.values import (
    given,
    name_of,
    required,
    required_name,
    shown,
    utc,
    whole,
)
from feedback_store.errors import InvalidFeedbackError
from feedback_store.records import Prompt

NO_RATING = "feedback without a thumb"
NO_CHAT = "feedback without the chat"
_MOST_TURNS = 10_000  # a chat that goes round in a circle has no beginning


def read(document: Any) -> Parts:
    """The thumb, or the judgements, in one piece of feedback."""
    rating = whole(given(document, "data") or {}, "rating")
    messages = _messages(document)
    if given(document, "type") != "rating" or rating in (None, 0):
        return [Skip(NO_RATING)]
    if messages is None:
        return [Skip(NO_CHAT)]
    if rating not in (1, -1):
        raise InvalidFeedbackError(f"'rating' cannot be {rating}")
    meta, data = required(document, "meta", dict), required(document, "data", dict)
    rated = _message(messages, required_name(meta, "message_id"))
    prompt = _above(messages, rated)
    if others := _beside(messages, rated, given(data, "sibling_model_ids") or ()):
        return [_judgement(document, prompt, rated, other, better=rating == 1) for other in others]
    return [_thumb(document, prompt, rated, rating)]


def _judgement(document: Any, prompt: Prompt, rated: Any, other: Any, *, better: bool) -> Part:
    rater, chat, at = _about(document)
    replies, places = (_reply(rated), _reply(other)), (0, 1) if better else (1, 0)
    return checked(Judgement(rater, chat, prompt, replies, places, created_at=at))


def _thumb(document: Any, prompt: Prompt, rated: Any, value: int) -> Part:
    rater, chat, at = _about(document)
    data = document["data"]
    reasons = [given(data, "reason"), *(given(data, "tags") or ())]
    tags = tuple(dict.fromkeys(reason for reason in reasons if isinstance(reason, str) and reason))
    comment = str(given(data, "comment") or "")
    return checked(ForeignThumb(rater, chat, prompt, _reply(rated), value, tags, comment, at))


def _about(document: Any) -> tuple[str, str, str | None]:
    """The rater, the chat and the time."""
    chat = name_of(document["meta"], "chat_id") or required_name(document, "id")
    return required_name(document, "user_id"), chat, utc(given(document, "created_at"))


def _messages(document: Any) -> Mapping[str, Any] | None:
    """The messages of the chat by their names; None if the export has none."""
    found: Any = document
    for name in ("snapshot", "chat", "chat", "history", "messages"):
        found = given(found, name) if isinstance(found, Mapping) else None
    return found if isinstance(found, Mapping) and found else None


def _message(messages: Mapping[str, Any], name: str) -> Any:
    if not isinstance(messages.get(name), Mapping):
        raise InvalidFeedbackError(f"the chat has no message {shown(name)}")
    return messages[name]


def _above(messages: Mapping[str, Any], rated: Any) -> Prompt:
    """The messages from the beginning of the chat to what the rated reply answers."""
    path: list[Any] = []
    name = name_of(rated, "parentId")
    while name is not None:
        if len(path) == _MOST_TURNS:
            raise InvalidFeedbackError("the messages of the chat answer each other in a circle")
        path.append(_message(messages, name))
        name = name_of(path[-1], "parentId")
    return messages_of({"messages": path[::-1]}, "messages")


def _beside(messages: Mapping[str, Any], rated: Any, models: Sequence[Any]) -> list[Any]:
    """The replies of those models to the same message."""
    return [
        message
        for message in messages.values()
        if isinstance(message, Mapping)
        and message is not rated
        and given(message, "role") == "assistant"
        and given(message, "parentId") == given(rated, "parentId")
        and given(message, "model") in models
    ]


def _reply(message: Any) -> ForeignReply:
    said = messages_of({"reply": [message]}, "reply")[0]
    return ForeignReply(said["content"], name_of(message, "model"))
