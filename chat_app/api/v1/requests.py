"""The fields of API requests, with OpenAI's names where OpenAI has one.

These models check shapes only. The service checks lengths and meanings, for the pages too.
"""

import sys
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, model_validator

from chat_app.api.v1.dialogue import MessageIn, refused
from chat_app.engine import Sampling
from chat_app.service.limits import SURROGATE

AS_MUCH_AS_FITS = sys.maxsize  # tokens; the service and the engine cut it to what there is
MOST_STOPS, STOP_CHARS = 4, 200  # stop texts of a request
CLIENT_CHARS = 200  # of a client's name for a reply


class SamplingIn(BaseModel):
    """Sampling settings with OpenAI's names; None means the service's default."""

    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = Field(
        default=None, description="-1 or null: as much as fits; left out: the service's own length"
    )
    max_completion_tokens: int | None = Field(default=None, description="as max_tokens, and first")

    def over(self, default: Sampling) -> Sampling:
        """These settings, with the default for each that is None."""
        given = (self.max_completion_tokens, self.max_tokens)
        tokens = next((tokens for tokens in given if tokens is not None), None)
        if tokens is None and not self.model_fields_set & {"max_completion_tokens", "max_tokens"}:
            tokens = default.max_new_tokens
        return Sampling(
            default.temperature if self.temperature is None else self.temperature,
            default.top_p if self.top_p is None else self.top_p,
            AS_MUCH_AS_FITS if tokens in (None, -1) else tokens,
        )


class StreamOptions(BaseModel):
    """OpenAI's options of a streamed answer."""

    include_usage: bool | None = False


def _as_texts(stop: Any) -> Any:
    return [stop] if isinstance(stop, str) else stop or []


def _are_few(stop: list[str]) -> list[str]:
    texts = [text for text in stop if text]
    if len(texts) > MOST_STOPS or any(len(text) > STOP_CHARS for text in texts):
        limits = f"at most {MOST_STOPS} texts of at most {STOP_CHARS} characters"
        raise ValueError(f"send {limits}")
    if any(SURROGATE.search(text) for text in texts):
        raise ValueError("a text has half of a character; send it whole")
    return texts


class StopIn(BaseModel):
    """Texts before the first of which a reply ends."""

    stop: Annotated[
        list[str],
        BeforeValidator(_as_texts, json_schema_input_type=str | list[str] | None),
        AfterValidator(_are_few),
    ] = []


class NotSupportedIn(BaseModel):
    """What would change an answer and is not there; a value that changes nothing is taken."""

    tool_choice: Annotated[None, refused("calls of tools are", "none", "auto")] = None
    function_call: Annotated[None, refused("calls of functions are", "none", "auto")] = None
    response_format: Annotated[None, refused("this format is", {"type": "text"})] = None
    logprobs: Annotated[None, refused("log-probabilities are")] = None
    top_logprobs: Annotated[None, refused("log-probabilities are")] = None
    logit_bias: Annotated[None, refused("a bias of tokens is")] = None
    frequency_penalty: Annotated[None, refused("a penalty is")] = None
    presence_penalty: Annotated[None, refused("a penalty is")] = None
    modalities: Annotated[None, refused("this is", ["text"])] = None
    audio: Annotated[None, refused("audio answers are")] = None
    web_search_options: Annotated[None, refused("a search of the web is")] = None


class CompletionIn(StopIn, SamplingIn, NotSupportedIn):
    """``POST /v1/chat/completions``; unknown fields are ignored."""

    model: str = "policy"
    messages: list[MessageIn]
    user: str | None = None  # for whom a gateway asks
    tools: Any = Field(default=None, description="an offer, which the model leaves alone")
    functions: Any = Field(default=None, description="as tools")
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    seed: int | None = None
    n: int | None = 1
    store: bool | None = Field(default=None, description="false: nothing of it is stored")
    metadata: Any = Field(default=None, description="`task` names a client's chore; else ignored")
    retry_of: str | None = None  # the reply to the same messages that this one replaces


class CandidatesIn(StopIn, SamplingIn):
    """``POST /v1/candidates``."""

    messages: list[MessageIn]
    user: str | None = None  # for whom a gateway asks
    n: int = 2


def client_name(text: str) -> str:
    """A client's own name for a reply, in a header or a body.

    Raises:
        ValueError: It is empty, too long or no text.
    """
    name = text.strip()
    if not 0 < len(name) <= CLIENT_CHARS:
        raise ValueError(f"a name of {len(name)} characters; send 1 to {CLIENT_CHARS}")
    if SURROGATE.search(name):
        raise ValueError("the name has half of a character; send it whole")
    return name


class EventIn(BaseModel):
    """The field of every event: a key made by the client, so that the event is stored once."""

    model_config = {"extra": "forbid"}
    idempotency_key: str = Field(min_length=1, max_length=200)


class ChoiceIn(EventIn):
    """``POST /v1/choices``."""

    candidates_id: str
    choice: Literal["a", "b", "tie", "both_bad"]
    strength: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    seconds: float | None = Field(default=None, ge=0, allow_inf_nan=False)
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

    message_id: str | None = None
    client_message: Annotated[str, AfterValidator(client_name)] | None = Field(
        default=None, description="instead of `message_id`: what the client calls the reply"
    )
    thumb: Literal["up", "down"] | None
    tags: list[str] = Field(default=[], max_length=20)
    comment: str = ""

    @model_validator(mode="after")
    def _names_one_reply(self) -> Self:
        if (self.message_id is None) == (self.client_message is None):
            raise ValueError("give either message_id or client_message, and not both")
        return self


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
