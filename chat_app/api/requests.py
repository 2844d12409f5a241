"""The fields of API requests, with OpenAI's names where OpenAI has one.

These models check shapes only. The service checks lengths and meanings, for the pages too.
"""

from typing import Literal

from pydantic import BaseModel, Field

from chat_app.engine import Sampling
from feedback_store.records import PromptMessage


class TextPart(BaseModel):
    """One part of a message's content, as OpenAI's clients may send it."""

    type: Literal["text"]
    text: str


class MessageIn(BaseModel):
    """One message of a dialogue that the caller sends."""

    role: str
    content: str | list[TextPart]

    def plain(self) -> PromptMessage:
        """The message in the store's form."""
        content = self.content
        text = content if isinstance(content, str) else "".join(part.text for part in content)
        return PromptMessage(role=self.role, content=text)


class SamplingIn(BaseModel):
    """Sampling settings with OpenAI's names; None means the service's default."""

    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None

    def over(self, default: Sampling) -> Sampling:
        """These settings, with the default for each that is None."""
        tokens = self.max_completion_tokens or self.max_tokens
        return Sampling(
            default.temperature if self.temperature is None else self.temperature,
            default.top_p if self.top_p is None else self.top_p,
            default.max_new_tokens if tokens is None else tokens,
        )


class StreamOptions(BaseModel):
    """OpenAI's options of a streamed answer."""

    include_usage: bool = False


class CompletionIn(SamplingIn):
    """``POST /v1/chat/completions``; unknown fields are ignored."""

    model: str = "policy"
    messages: list[MessageIn]
    user: str | None = None  # for whom a gateway asks
    stream: bool = False
    stream_options: StreamOptions | None = None
    seed: int | None = None
    n: Literal[1] | None = 1
    retry_of: str | None = None  # the reply to the same messages that this one replaces


class CandidatesIn(SamplingIn):
    """``POST /v1/candidates``."""

    messages: list[MessageIn]
    user: str | None = None  # for whom a gateway asks
    n: int = 2


class EventIn(BaseModel):
    """The field of every event: a key made by the client, so that the event is stored once."""

    model_config = {"extra": "forbid"}
    idempotency_key: str = Field(min_length=1, max_length=200)


class ChoiceIn(EventIn):
    """``POST /v1/choices``."""

    candidates_id: str
    choice: Literal["a", "b", "tie", "both_bad"]
    strength: float | None = None
    seconds: float | None = None
    tags: list[str] | None = Field(
        default=None,
        max_length=20,
        description="Why. Sent again with the same key, a choice takes the reasons given then.",
    )
    comment: str | None = None


class RankingIn(EventIn):
    """``POST /v1/rankings``."""

    candidates_id: str
    order: list[list[str]]


class FeedbackIn(EventIn):
    """``POST /v1/feedback``; ``thumb`` is required, because null withdraws the thumb."""

    message_id: str
    thumb: Literal["up", "down"] | None
    tags: list[str] = Field(default=[], max_length=20)
    comment: str = ""


class RetryIn(EventIn):
    """``POST /v1/retries``: a reply beside the one that it replaced."""

    message_id: str
    than_before: Literal["better", "same", "worse"]


class DemonstrationIn(EventIn):
    """``POST /v1/demonstrations``: an answer instead of a reply, or to a prompt."""

    content: str
    message_id: str | None = None
    messages: list[MessageIn] | None = None


class ConsentIn(BaseModel):
    """``POST /v1/consent``."""

    model_config = {"extra": "forbid"}
    given: bool


class EraseIn(BaseModel):
    """``DELETE /v1/me``; ``confirm`` has to be "erase"."""

    model_config = {"extra": "forbid"}
    confirm: str


class PromoteIn(BaseModel):
    """``POST /v1/operate/promote`` and ``/v1/operate/canary``."""

    model_config = {"extra": "forbid"}
    adapter: str
    force: bool = False
