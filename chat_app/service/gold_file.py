"""Read the operator's file of gold questions: JSON lines, all checked before the service starts.

A line is ``{"prompt": "...", "better": "...", "worse": "..."}``; instead of ``prompt`` it may have
``messages``, a conversation that ends with a user message. See ``docs/votes.md``.
"""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from chat_app.errors import InvalidRequestError
from chat_app.service.limits import check_messages, check_text
from chat_app.settings import LimitSettings
from feedback_store.feedback.gold_questions import GoldItem
from feedback_store.records import PromptMessage
from feedback_store.splits import prompt_hash


class _Message(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    role: Literal["system", "user", "assistant"]
    content: str


class _Line(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    prompt: str | None = None
    messages: tuple[_Message, ...] | None = None
    better: str
    worse: str


def read_gold(
    path: Path, limits: LimitSettings, *, named: str = "gold_items"
) -> tuple[GoldItem, ...]:
    """The items of a file; blank lines are skipped.

    Args:
        path: The file.
        limits: Of the texts.
        named: The option that names the file, for messages.

    Raises:
        InvalidRequestError: The file cannot be read, has no items, or a line is wrong; the message
            names the option, the file and the line.
    """
    try:
        # Split at line feeds only: a JSON string may contain U+2028 and similar characters.
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as exc:
        raise InvalidRequestError(f"{named} {path} cannot be read: {exc}") from exc
    items: dict[str | None, GoldItem] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            item = _item(line, limits)
        except InvalidRequestError as exc:
            raise InvalidRequestError(f"{named} {path}, line {number}: {exc}") from exc
        asked = prompt_hash(item.prompt)
        if asked in items:
            said = "an earlier line has the same prompt; give each prompt once"
            raise InvalidRequestError(f"{named} {path}, line {number}: {said}")
        items[asked] = item
    if not items:
        raise InvalidRequestError(f"{named} {path} has no items; write one JSON object a line")
    return tuple(items.values())


def _item(text: str, limits: LimitSettings) -> GoldItem:
    try:
        line = _Line.model_validate_json(text)
    except ValidationError as exc:
        wrong = exc.errors()[0]
        where = ".".join(map(str, wrong["loc"]))
        raise InvalidRequestError(f"{where}: {wrong['msg']}" if where else wrong["msg"]) from exc
    if (line.prompt is None) == (line.messages is None):
        raise InvalidRequestError("give either prompt or messages, and not both")
    if line.prompt is not None:
        prompt: tuple[PromptMessage, ...] = (PromptMessage(role="user", content=line.prompt),)
    else:
        prompt = tuple(PromptMessage(role=m.role, content=m.content) for m in line.messages or ())
    check_messages(prompt, limits)
    for reply in (line.better, line.worse):
        check_text(reply, limits)
    if line.better.strip().casefold() == line.worse.strip().casefold():
        raise InvalidRequestError(
            "better and worse are the same but for case; give two different replies"
        )
    return GoldItem(prompt, line.better, line.worse)
