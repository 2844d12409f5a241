"""Limits of one request, the same for the API and the pages, checked before any work.

Each function raises `InvalidRequestError`, which names the value, unless the request is allowed.
Nothing here knows the rater or counts requests: a limit of requests in a time belongs into
`api/admission.py`, where every request passes.
"""

import re
from collections.abc import Sequence
from dataclasses import replace

from chat_app.engine import Sampling
from chat_app.errors import InvalidRequestError
from chat_app.settings import LimitSettings, Settings
from feedback_store.errors import say
from feedback_store.records import ROLES, PromptMessage

SURROGATE = re.compile("[\ud800-\udfff]")


def check_sampling(sampling: Sampling, settings: Settings) -> Sampling:
    """Return sampling settings that are in range; refuse others.

    A reply that may be longer than the limit is not refused, but cut there: clients ask for more
    than they need. The model's context may cut it before.
    """
    most = max(settings.limits.new_tokens, settings.reply.tokens)  # never less than the default
    if not 0 <= sampling.temperature <= 2:
        raise InvalidRequestError(
            f"temperature {sampling.temperature} is not from 0 to 2", param="temperature"
        )
    if not 0 < sampling.top_p <= 1:
        raise InvalidRequestError(
            f"top_p {sampling.top_p} is not above 0 and at most 1", param="top_p"
        )
    if sampling.max_new_tokens < 1:
        raise InvalidRequestError(
            f"max_tokens is {sampling.max_new_tokens}; send 1 or more, or -1 for as much as fits",
            param="max_tokens",
        )
    return replace(sampling, max_new_tokens=min(sampling.max_new_tokens, most))


def check_text(text: str, limits: LimitSettings) -> None:
    """Refuse a text that is empty or too long."""
    if not text.strip():
        raise InvalidRequestError(say("the message is empty; write something"))
    if half := SURROGATE.search(text):
        raise InvalidRequestError(
            say(
                "the message has half of a character at position {place}; send it whole",
                place=half.start(),
            )
        )
    if len(text) > limits.message_chars:
        raise InvalidRequestError(
            say(
                "the message has {n} characters, more than {most}; shorten it",
                n=len(text),
                most=limits.message_chars,
            )
        )


def check_number(n: int, limits: LimitSettings) -> None:
    """Refuse a number of candidates that cannot be compared, or is more than the limit."""
    if not 2 <= n <= limits.candidates:
        raise InvalidRequestError(
            say(
                "n is {given}; ask for 2 to {most} candidates",
                given=n,
                most=limits.candidates,
            ),
            param="n",
        )


def check_messages(messages: Sequence[PromptMessage], limits: LimitSettings) -> None:
    """Refuse a conversation that is too long or does not end with a user message."""
    if not 1 <= len(messages) <= limits.messages:
        raise InvalidRequestError(
            f"{len(messages)} messages; send 1 to {limits.messages}", param="messages"
        )
    for place, message in enumerate(messages):
        if message["role"] not in ROLES:
            raise InvalidRequestError(
                f"role {message['role']!r} is unknown; use {', '.join(ROLES)}",
                param=f"messages.{place}.role",
            )
        check_text(message["content"], limits)
    if messages[-1]["role"] != "user":
        raise InvalidRequestError(
            f"the last message has role {messages[-1]['role']!r}; end with a user message",
            param="messages",
        )
