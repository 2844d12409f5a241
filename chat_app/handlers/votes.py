"""Voting: thumbs with reasons, side-by-side choices, better answers, consent, receipts.

Invariants: a thank-you is only ever said after the row is stored; a click that the browser or
Gradio delivers twice is stored once; on the page a vote needs the person's consent. Taking a thumb
back is no thumb down, and needs no consent.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from chat_app.errors import ChatAppError, InvalidRequestError, RefusedError
from chat_app.handlers.views import Asked, ChatView, Panel, told, view_at, view_of
from chat_app.service.chat import COMMENT_CHARS, REASONS, ChatService
from feedback_store.errors import FeedbackStoreError
from feedback_store.records import Message, Thumb
from feedback_store.sqlite.ids import new_id

__all__ = ["CHOICES", "COMMENT_CHARS", "REASONS", "Votes", "Wanted"]

CHOICES = {"a": "A is better", "b": "B is better", "tie": "tie", "both_bad": "both bad"}


class Votes:
    """What a person can say about replies; every call names the rater of the signed cookie."""

    def __init__(self, service: ChatService) -> None:
        self._service = service

    def consented(self, rater_id: str) -> bool:
        """Whether the person lets votes train the model."""
        return self._service.consented(rater_id)

    def consent(self, rater_id: str, *, given: bool) -> str:
        """Accept the notice, or take that back; returns what went wrong, if anything did."""
        try:
            self._service.visitor(rater_id, consent=given)
            if not given:
                self._service.store.set_consent(rater_id, None)
        except Exception as exc:
            return told(exc)
        return ""

    def thumb(self, rater_id: str, message_id: str, value: int) -> tuple[ChatView, Panel | None]:
        """Thumb a reply up (1) or down (-1), or withdraw the thumb (0)."""
        return self._voted(rater_id, message_id, Wanted(value))

    def explain(
        self, rater_id: str, message_id: str, value: int, *, tags: Sequence[str], comment: str
    ) -> tuple[ChatView, Panel | None]:
        """Say why: the same vote with reasons and a comment."""
        wanted = Wanted(value, tuple(tags), comment.strip(), explained=True)
        return self._voted(rater_id, message_id, wanted)

    def panel(self, rater_id: str, message_id: str | None) -> Panel | None:
        """The feedback panel of a reply, or none if it is no reply of the person's."""
        try:
            path = self._service.path(rater_id, message_id) if message_id else []
            message = path[-1]
            thumb = self._service.store.current_thumb(message.id, rater_id)
        except (ChatAppError, FeedbackStoreError, IndexError):
            return None
        if message.role != "assistant":
            return None
        if thumb is None or thumb.value == 0:
            return Panel(message.id, message.content, 0)
        return Panel(message.id, message.content, thumb.value, thumb.tags, thumb.comment)

    def choose(self, rater_id: str, candidates_id: str, choice: str) -> ChatView:
        """Judge two blind replies; the conversation goes on from the better one."""
        try:
            pair = self._service.candidates_of(rater_id, candidates_id).messages
            if self._service.store.is_gold_question(candidates_id):
                raise InvalidRequestError("this belongs to no conversation; answer it where it is")
            self._choose(rater_id, candidates_id, choice)
        except Exception as exc:
            return replace(self._view_of_pair(rater_id, candidates_id), problem=told(exc))
        view = self._view_of_pair(rater_id, candidates_id)
        onward = "" if choice in ("a", "b") else " The conversation goes on from A."
        return replace(view, note=f"Saved: {CHOICES[choice]}.{onward} {_made(pair)}")

    def asked(self, rater_id: str) -> Asked | None:
        """A comparison that the service asks the person for, if it is time for one."""
        try:
            found = self._service.next_comparison(rater_id)
        except Exception as exc:
            told(exc)  # an extra that fails is for the log; the person's own vote is stored
            return None
        if found is None:
            return None
        prompt, shown = found
        a, b = shown.messages
        said = tuple((message.role, message.content) for message in prompt)
        return Asked(shown.id, said, a.content, b.content)

    def answer(self, rater_id: str, candidates_id: str, choice: str) -> str:
        """Answer what was `asked`; returns what went wrong, if anything did."""
        try:
            self._choose(rater_id, candidates_id, choice)
        except Exception as exc:
            return told(exc)
        return ""

    def rewrite(self, rater_id: str, message_id: str, text: str) -> ChatView:
        """Store the answer that the person would have given instead of a reply."""
        try:
            self._require_consent(rater_id)
            reply = self._service.path(rater_id, message_id)[-1]
            if text.strip() == reply.content.strip():
                raise InvalidRequestError("this is the reply as it was; change it, then save it")
            before = self._service.store.current_demonstration(message_id, rater_id)
            if before is None or before.content != text:
                self._service.demonstrate(
                    rater_id, text, message_id=message_id, idempotency_key=new_id()
                )
        except Exception as exc:
            return replace(view_at(self._service, rater_id, message_id), problem=told(exc))
        note = "Saved; see “What became of your votes”. The chat itself stays."
        return replace(view_at(self._service, rater_id, message_id), note=note)

    def _choose(self, rater_id: str, candidates_id: str, choice: str) -> None:
        """Store a choice unless it is the present one, which a doubled click repeats."""
        self._require_consent(rater_id)
        before = self._service.choice_of(rater_id, candidates_id)
        if before is None or before.choice != choice:
            self._service.choose(rater_id, candidates_id, choice, idempotency_key=new_id())

    def _voted(
        self, rater_id: str, message_id: str, wanted: "Wanted"
    ) -> tuple[ChatView, Panel | None]:
        """Store a vote unless it is the present one, which a doubled click repeats."""
        try:
            before = self._service.store.current_thumb(message_id, rater_id)
            if not wanted.same_as(before):
                if wanted.value:
                    self._require_consent(rater_id)
                self._service.thumb(
                    rater_id,
                    message_id,
                    wanted.value,
                    tags=wanted.tags,
                    comment=wanted.comment,
                    idempotency_key=new_id(),
                )
        except Exception as exc:
            return replace(view_at(self._service, rater_id, message_id), problem=told(exc)), None
        view = replace(view_at(self._service, rater_id, message_id), note=wanted.thanks())
        return view, self.panel(rater_id, message_id) if wanted.value else None

    def _require_consent(self, rater_id: str) -> None:
        if not self._service.consented(rater_id):
            raise RefusedError(
                "Nothing was saved: votes train the model, so agree first, under “Your data”."
            )

    def _view_of_pair(self, rater_id: str, candidates_id: str) -> ChatView:
        """The conversation of two replies; of a gold question there is nothing to see."""
        try:
            pair = self._service.candidates_of(rater_id, candidates_id).messages
            if self._service.store.is_gold_question(candidates_id):
                return ChatView()
        except (ChatAppError, FeedbackStoreError):
            return ChatView()
        return view_of(self._service, rater_id, pair[0].conversation_id)


@dataclass(frozen=True, slots=True)
class Wanted:
    """A vote as the person wants it to be."""

    value: int
    tags: tuple[str, ...] = ()
    comment: str = ""
    explained: bool = False

    def same_as(self, thumb: Thumb | None) -> bool:
        """Whether this is what is stored already; a bare thumb keeps earlier reasons."""
        if thumb is None:
            return self.value == 0
        unchanged = (thumb.tags, thumb.comment) == (self.tags, self.comment)
        return thumb.value == self.value and (unchanged or not self.explained)

    def thanks(self) -> str:
        """What to say once it is stored."""
        if self.value == 0:
            return "Vote withdrawn."
        return "Saved with your reasons, thank you." if self.explained else "Vote saved, thank you."


def _made(pair: Sequence[Message]) -> str:
    """Who wrote the two replies, which may be told once the choice is stored."""
    a, b = pair[:2]
    if a.adapter is None:  # only what the engine wrote has one
        return ""
    if a.adapter == b.adapter:
        return f"Both were written by {a.adapter}."
    return f"A was written by {a.adapter}, B by {b.adapter}."
