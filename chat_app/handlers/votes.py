"""The chat page's events about votes: it calls `service/voting.py`, and says how that went.

Invariants: the page says thank you only after the row is stored. A click that the browser or Gradio
delivers twice is stored once. A vote on the page needs the person's consent; withdrawing a thumb
does not, and it is no thumb down.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from chat_app.errors import ChatAppError, InvalidRequestError, RefusedError
from chat_app.handlers.views import Asked, ChatView, Panel, error_text, panel_of, view_of
from chat_app.service.chat import ChatService
from feedback_store.errors import FeedbackStoreError
from feedback_store.records import Message

CHOICES = {"a": "A is better", "b": "B is better", "tie": "tie", "both_bad": "both bad"}


class Votes:
    """What a person can say about replies; ``rater_id`` comes from the signed cookie."""

    def __init__(self, service: ChatService) -> None:
        self._service = service

    def consented(self, rater_id: str) -> bool:
        """Whether the person agreed that votes train the model."""
        return self._service.consented(rater_id)

    def consent(self, rater_id: str, *, given: bool) -> str:
        """Accept the notice or withdraw the consent; returns the error text, empty if none."""
        try:
            self._service.consent(rater_id, given=given)
        except Exception as exc:
            return error_text(exc)
        return ""

    def thumb(self, rater_id: str, message_id: str, value: int) -> tuple[ChatView, Panel | None]:
        """Thumb a reply up (1) or down (-1), or withdraw the thumb (0); its reasons stay."""
        thanks = "Vote saved, thank you." if value else "Vote withdrawn."
        return self._vote(rater_id, message_id, value, thanks=thanks)

    def explain(
        self, rater_id: str, message_id: str, value: int, *, tags: Sequence[str], comment: str
    ) -> tuple[ChatView, Panel | None]:
        """Store the same thumb with reasons and a comment."""
        thanks = "Saved with your reasons, thank you." if value else "Vote withdrawn."
        reasons = {"tags": tuple(tags), "comment": comment.strip()}
        return self._vote(rater_id, message_id, value, thanks=thanks, **reasons)

    def panel(self, rater_id: str, message_id: str | None) -> Panel | None:
        """The feedback panel of a reply; None unless it is a reply to the person."""
        if message_id is None:
            return None
        try:
            found = self._service.conversation(rater_id, message_id=message_id)
        except (ChatAppError, FeedbackStoreError):
            return None
        return panel_of(found, message_id)

    def choose(self, rater_id: str, candidates_id: str, choice: str) -> ChatView:
        """Choose between two blind replies; the conversation goes on from the better one."""
        view = ChatView()
        try:
            view = view_of(self._service.conversation(rater_id, candidates_id=candidates_id))
            self._require_consent(rater_id)
            _, shown = self._service.choose(rater_id, candidates_id, choice)
            view = view_of(self._service.conversation(rater_id, candidates_id=candidates_id))
        except Exception as exc:
            return replace(view, problem=error_text(exc))
        onward = "" if choice in ("a", "b") else " The conversation goes on from A."
        return replace(view, note=f"Saved: {CHOICES[choice]}.{onward} {_made(shown.messages)}")

    def asked(self, rater_id: str) -> Asked | None:
        """A gold question for the person, if one is due."""
        try:
            found = self._service.next_comparison(rater_id)
        except Exception as exc:
            error_text(exc)  # for the log alone: the person's own vote is stored
            return None
        if found is None:
            return None
        prompt, shown = found
        a, b = shown.messages
        said = tuple((message.role, message.content) for message in prompt)
        return Asked(shown.id, said, a.content, b.content)

    def answer(self, rater_id: str, candidates_id: str, choice: str) -> str:
        """Answer the question from `asked`; returns the error text, empty if none."""
        try:
            self._require_consent(rater_id)
            self._service.choose(rater_id, candidates_id, choice)
        except Exception as exc:
            return error_text(exc)
        return ""

    def rewrite(self, rater_id: str, message_id: str, text: str) -> ChatView:
        """Store the better answer that the person wrote for a reply."""
        view = ChatView()
        try:
            found = self._service.conversation(rater_id, message_id=message_id)
            view = view_of(found)
            self._require_consent(rater_id)
            if text.strip() == found.path(message_id)[-1].content.strip():
                raise InvalidRequestError("this is the same text as the reply; change it first")
            self._service.demonstrate(rater_id, text, message_id=message_id)
        except Exception as exc:
            return replace(view, problem=error_text(exc))
        return replace(
            view,
            note="Saved; see “What became of your votes”. The reply in the chat does not change.",
        )

    def _vote(
        self, rater_id: str, message_id: str, value: int, *, thanks: str, **reasons: Any
    ) -> tuple[ChatView, Panel | None]:
        """Store a thumb, without a key: a repeated click changes nothing."""
        problem = ""
        try:
            if value:
                self._require_consent(rater_id)
            self._service.thumb(rater_id, message_id, value, **reasons)
        except Exception as exc:
            problem = error_text(exc)
        try:
            found = self._service.conversation(rater_id, message_id=message_id)
        except Exception as exc:
            return ChatView(problem=problem or error_text(exc)), None
        if problem:
            return replace(view_of(found), problem=problem), None
        panel = panel_of(found, message_id) if value else None
        return replace(view_of(found), note=thanks), panel

    def _require_consent(self, rater_id: str) -> None:
        if not self._service.consented(rater_id):
            raise RefusedError(
                "Nothing was saved: votes train the model, so agree first, under “Your data”."
            )


def _made(pair: Sequence[Message]) -> str:
    """Which adapters wrote the two replies; the person may know once the choice is stored."""
    a, b = pair[:2]
    if a.adapter is None:  # the engine did not write it
        return ""
    if a.adapter == b.adapter:
        return f"Both were written by {a.adapter}."
    return f"A was written by {a.adapter}, B by {b.adapter}."
