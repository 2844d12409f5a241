"""The functions that the pages call, over Gradio, and the form of their answers.

Each is a public endpoint: anybody can call it with anything. So an argument of another type is
refused here, and whose things it is about is checked in `chat_app.handlers`. An answer is
``{"ok": result}``, or ``{"problem": one sentence for the person, "kind": name of the error}`` with
``"sentence"``, by which a page says it in its language (`handlers.views.SaidSentence`).
"""

import inspect
from collections.abc import Callable, Iterable
from functools import wraps
from typing import Any

import gradio as gr
import gradio.events
from pydantic import ConfigDict, TypeAdapter, ValidationError, validate_call

from chat_app.errors import InvalidRequestError
from chat_app.handlers.views import error_text, said
from feedback_store.errors import Sentence, say

Event = Callable[..., Any]
Answer = dict[str, Any]

UNREADABLE = say("That did not work: the page sent something that cannot be read. Reload it.")
_RESULT = TypeAdapter[Any](Any)
_STRICT = ConfigDict(strict=True, arbitrary_types_allowed=True)


def add_events(events: Iterable[Event]) -> None:
    """Register functions in the open ``gr.Blocks``, each under its own name.

    Raises:
        ValueError: A name is taken.
    """
    for event in events:
        name = event.__name__
        made = gradio.events.api(
            _answer_of(event), api_name=name, queue=False, api_visibility="undocumented"
        )
        if made["api_name"] != name:  # Gradio would call the second one by another name
            raise ValueError(f"there are two events {name}; give one another name")


def answer_as_json(result: object) -> str:
    """An answer as JSON text; an error becomes a problem."""
    answer = _problem(result) if isinstance(result, Exception) else _ok(result)
    return _RESULT.dump_json(answer).decode()


def visitor(request: gr.Request) -> str:
    """The rater who sends a request; Gradio answers nobody else."""
    return str(request.username)


def _answer_of(event: Event) -> Callable[..., Any]:
    """The function with its arguments checked and its result as an answer."""
    checked = _checked(event)

    @wraps(event)
    def answered(*given: Any) -> Answer:
        try:
            return _ok(event(*checked(*given)))
        except Exception as exc:
            return _problem(exc)

    @wraps(event)
    async def answered_later(*given: Any) -> Answer:
        try:
            return _ok(await event(*checked(*given)))
        except Exception as exc:
            return _problem(exc)

    function: Any = answered_later if inspect.iscoroutinefunction(event) else answered
    signature = inspect.signature(event).replace(return_annotation=dict)
    function.__signature__ = signature  # by which Gradio counts the results
    return function  # type: ignore[no-any-return]


def _checked(event: Event) -> Callable[..., tuple[Any, ...]]:
    """What returns an event's arguments if they have its types, and refuses all others."""

    @validate_call(config=_STRICT)
    @wraps(event)
    def typed(*given: Any) -> tuple[Any, ...]:
        return given

    def checked(*given: Any) -> tuple[Any, ...]:
        try:
            for one in given:
                _require_whole_characters(one)
            return typed(*given)
        except (ValidationError, UnicodeError) as exc:
            raise InvalidRequestError(UNREADABLE) from exc

    return checked


def _require_whole_characters(given: Any) -> None:
    """Refuse half a character, which JSON can name and nothing can store or send back."""
    if isinstance(given, str):
        given.encode()
    elif isinstance(given, list | dict):
        for one in given.values() if isinstance(given, dict) else given:
            _require_whole_characters(one)


def _ok(result: Any) -> Answer:
    shown = said(result) if isinstance(result, Sentence) else result
    return {"ok": _RESULT.dump_python(shown, mode="json")}


def _problem(exc: Exception) -> Answer:
    text = error_text(exc)
    answer = {"problem": str(text), "kind": type(exc).__name__}
    if isinstance(text, Sentence):
        answer |= {"sentence": _RESULT.dump_python(said(text), mode="json")}
    return answer
