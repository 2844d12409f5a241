"""The chat page's events about votes: it calls `service/voting.py`, and says how that went.

Invariants: the page says thank you only after the row is stored. A click that the browser delivers
twice is stored once. A vote on the page needs the person's consent; withdrawing one does not, and
a thumb that is withdrawn is no thumb down.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from chat_app.errors import ConsentNeededError, InvalidRequestError
from chat_app.handlers.versions import named
from chat_app.handlers.views import ChatView, ShownThumb, branch_through, chosen_of, error_text
from chat_app.service.chat import ChatService
from feedback_store.errors import say

THAN_BEFORE = {
    "better": "better than before",
    "same": "as good as before",
    "worse": "worse than before",
}


@dataclass(frozen=True, slots=True)
class Chosen:
    """The conversation after a choice, and which version wrote each reply, if the engine did.

    An adapter that was never served has no number, and is named.
    """

    view: ChatView
    a: int | str | None
    b: int | str | None


@dataclass(frozen=True, slots=True)
class Asked:
    """A gold question: a prompt from outside the conversation, and two replies to compare.

    `prompt` is ``(role, content)`` of each message.
    """

    id: str
    prompt: tuple[tuple[str, str], ...]
    a: str
    b: str


class Votes:
    """What a person can say about replies; ``rater_id`` comes from the signed cookie."""

    def __init__(self, service: ChatService) -> None:
        self._service = service

    def consented(self, rater_id: str) -> bool:
        """Whether the person agreed that votes train the model."""
        return self._service.consented(rater_id)

    def consent(self, rater_id: str, *, given: bool) -> bool:
        """Accept the notice, or withdraw the consent; returns which it is now."""
        self._service.consent(rater_id, given=given)
        return given

    def thumb(
        self,
        rater_id: str,
        message_id: str,
        value: int,
        *,
        tags: Sequence[str] | None = None,
        comment: str | None = None,
    ) -> ShownThumb | None:
        """Thumb a reply up (1) or down (-1), with reasons, or withdraw the thumb (0).

        Without reasons, those that were given for the same thumb stay.
        """
        if value:
            self._require_consent(rater_id)
        thumb = self._service.thumb(
            rater_id,
            message_id,
            value,
            tags=None if tags is None or not value else tuple(tags),
            comment=None if comment is None or not value else comment.strip(),
        )
        return ShownThumb(thumb.value, thumb.tags, thumb.comment) if thumb.value else None

    def choose(
        self, rater_id: str, candidates_id: str, choice: str, *, seconds: float | None = None
    ) -> Chosen:
        """Choose between two blind replies; the conversation goes on from the better one."""
        found = self._service.conversation(rater_id, candidates_id=candidates_id)
        self._require_consent(rater_id)
        made, shown = self._service.choose(rater_id, candidates_id, choice, seconds=seconds)
        found = replace(found, choices={**found.choices, candidates_id: made})
        better, versions = chosen_of(shown.messages, choice), self._service.store.versions()
        a, b = (m.adapter and named(versions, m.adapter) for m in shown.messages[:2])
        return Chosen(branch_through(found, better.id), a, b)

    def compare_with_before(self, rater_id: str, message_id: str, said: str) -> str:
        """Store how a reply is beside the one that it replaced: one of `THAN_BEFORE`."""
        self._require_consent(rater_id)
        self._service.compare_with_before(rater_id, message_id, said)
        return said

    def rewrite(self, rater_id: str, message_id: str, text: str) -> str:
        """Store the better answer that the person wrote for a reply; returns it."""
        self._require_consent(rater_id)
        found = self._service.conversation(rater_id, message_id=message_id)
        if text.strip() == found.path(message_id)[-1].content.strip():
            raise InvalidRequestError(say("this is the same text as the reply; change it first"))
        return self._service.demonstrate(rater_id, text, message_id=message_id).content

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

    def answer(self, rater_id: str, candidates_id: str, choice: str) -> None:
        """Answer the question from `asked`."""
        self._require_consent(rater_id)
        self._service.choose(rater_id, candidates_id, choice)

    def _require_consent(self, rater_id: str) -> None:
        if not self._service.consented(rater_id):
            raise ConsentNeededError(
                say("Nothing was saved: votes train the model, so agree first.")
            )
