"""Messages as OpenAI's clients send them, and the dialogue that the model gets.

Histories of real clients hold empty replies, null contents and lists of parts. What says nothing is
left out; what the model cannot take is refused with its place, as in ``messages.3.content.0``.
"""

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, model_validator

from chat_app.errors import InvalidRequestError
from chat_app.service.limits import check_text
from chat_app.settings import LimitSettings
from feedback_store.records import ROLES, PromptMessage

KINDS = {  # of parts that are no text
    "image_url": "images",
    "input_image": "images",
    "image": "images",
    "input_audio": "audio messages",
    "audio": "audio messages",
    "video_url": "videos",
    "file": "files",
    "input_file": "files",
}
ALIASES = {"developer": "system"}  # roles that mean the same
TOOL_ROLES = ("tool", "function")


class NotSupportedError(ValueError):
    """A field of a request asks for what is not there."""


def refused(what: str, *harmless: Any) -> BeforeValidator:
    """A field that says nothing, or one of the harmless values; all else is not supported."""

    def check(value: Any) -> None:
        if value and value not in harmless:
            raise NotSupportedError(f"{what} not supported; leave it out")

    return BeforeValidator(check)


def _known_role(role: str) -> str:
    if role in TOOL_ROLES:
        raise NotSupportedError("results of tools are not supported")
    if role not in (*ROLES, *ALIASES):
        known = ", ".join((*ROLES, *ALIASES))
        raise ValueError(f"this role is unknown; use {known}")
    return ALIASES.get(role, role)


class PartIn(BaseModel):
    """One part of a message's content."""

    type: str
    text: str = ""

    @model_validator(mode="before")
    @classmethod
    def _is_text(cls, part: Any) -> Any:
        kind = part.get("type") if isinstance(part, dict) else None
        if kind == "refusal":  # what an assistant said instead of an answer
            return {"type": "text", "text": part.get("refusal") or ""}
        if kind == "text" and not isinstance(part.get("text"), str):
            raise ValueError("a text part needs a text")
        if isinstance(kind, str) and kind != "text":
            what = KINDS.get(kind, "parts of this type")
            raise NotSupportedError(f"{what} are not supported")
        return part


def _as_parts(content: Any) -> Any:
    if content is None:
        return []
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    if not isinstance(content, list):
        raise ValueError("Input should be a text or a list of parts")
    return content


Content = Annotated[
    list[PartIn], BeforeValidator(_as_parts, json_schema_input_type=str | list[PartIn] | None)
]


class MessageIn(BaseModel):
    """One message of a dialogue that the caller sends."""

    role: Annotated[str, AfterValidator(_known_role)]
    content: Content = []
    refusal: str | None = None  # in the place of an assistant's content
    tool_calls: Annotated[None, refused("calls of tools are")] = None
    function_call: Annotated[None, refused("calls of functions are")] = None
    audio: Annotated[None, refused("audio messages are")] = None

    @property
    def text(self) -> str:
        """All that the message says."""
        return "".join(part.text for part in self.content) or self.refusal or ""


def dialogue_of(
    messages: Sequence[MessageIn], limits: LimitSettings, *, empty_replies: bool = False
) -> list[PromptMessage]:
    """The messages in the store's form, without replies and instructions that say nothing.

    With ``empty_replies`` such replies stay in their places, by which the store may know them.

    Raises:
        InvalidRequestError: A text is too long, or a question is empty; its place is named.
    """
    dialogue = []
    for place, message in enumerate(messages):
        text = message.text
        if message.role != "user" and not text.strip():
            if empty_replies and message.role == "assistant":
                dialogue.append(PromptMessage(role="assistant", content=""))
            continue
        try:
            check_text(text, limits)
        except InvalidRequestError as exc:
            param = f"messages.{place}.content"
            raise InvalidRequestError(f"messages.{place}: {exc}", param=param) from exc
        dialogue.append(PromptMessage(role=message.role, content=text))
    return dialogue
