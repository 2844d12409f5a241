"""What a visitor can say about replies: thumbs and their reasons, choices, retries, better answers.

Invariants: raters judge only replies in their own conversations and candidates that were shown to
them; a reply that was cut off cannot be judged. The same idempotency key returns the same record.
Whether a vote needs consent is the caller's rule. Too many votes in a time are refused. `REASONS`
are the reasons for a thumb and for a choice that the pages offer and the API accepts. `chat.py`
generates the replies.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from chat_app.errors import InvalidRequestError, NotFoundError, RefusedError
from chat_app.service.limits import check_messages, check_text
from chat_app.service.rates import Rates
from chat_app.service.replies import UNSTORED, Candidates
from chat_app.settings import Settings
from feedback_store.errors import (
    FeedbackStoreError,
    InvalidFeedbackError,
    UnknownRecordError,
    say,
    text_of,
)
from feedback_store.feedback.gold_questions import GoldItem
from feedback_store.raters.screening import Screened
from feedback_store.records import (
    Choice,
    Message,
    PromptMessage,
    Ranking,
    Retry,
    StoredDemonstration,
    Thumb,
)
from feedback_store.store import FeedbackStore

log = logging.getLogger(__name__)

COMMENT_CHARS = 2_000
_BAD = ("wrong", "rude", "ignored my request", "too long")
_BETTER = ("more correct", "closer to what I asked", "clearer", "shorter", "kinder", "safer")
REASONS: dict[int | str, tuple[str, ...]] = {  # by what is said: a thumb's value, or a choice
    1: ("correct", "friendly", "did what I asked", "well put"),
    -1: _BAD,
    "a": _BETTER,
    "b": _BETTER,
    "tie": (),
    "both_bad": _BAD,
}


class Voting:
    """The rules of voting: a part of `ChatService`."""

    store: FeedbackStore
    settings: Settings
    rates: Rates
    _gold: Sequence[GoldItem]
    _test: Sequence[GoldItem]

    def candidates_of(self, rater_id: str, candidates_id: str) -> Candidates:
        """Stored candidates, in the order shown."""
        with not_found():
            shown = self.store.candidates(candidates_id, rater_id=rater_id)
        return Candidates(candidates_id, tuple(shown))

    def next_comparison(self, rater_id: str) -> tuple[list[Message], Candidates] | None:
        """The prompt and two replies of a gold question, if one is due for the rater.

        `choose` answers it, like any other comparison. Until then it stays the same.
        """
        every, candidates_id = self.settings.gold_every, None
        if self._test and not self.store.has_passed(rater_id):  # the whole test comes first
            candidates_id = self.store.gold_question(rater_id, self._test, every=None)
        if candidates_id is None and self._gold and every:
            candidates_id = self.store.gold_question(rater_id, self._gold, every=every)
        if candidates_id is None:
            return None
        shown = self.candidates_of(rater_id, candidates_id)
        return self.store.path(str(shown.messages[0].parent_id)), shown

    def thumb_by_client(
        self,
        rater_id: str,
        client_message: str,
        value: int,
        *,
        idempotency_key: str,
        tags: Sequence[str] = (),
        comment: str = "",
    ) -> Thumb:
        """As `thumb`, on the latest reply that a client calls so.

        A reply that went on has the name of its beginning, and a thumb on that gives way.

        Raises:
            NotFoundError: There is no such reply.
        """
        self.rates.vote(rater_id)
        _check_reasons(value, tags, comment)
        with not_found():
            return self.store.add_thumb_by_client(
                client_message,
                rater_id,
                value,
                tags=tags,
                comment=comment,
                idempotency_key=idempotency_key,
                check=lambda reply: _require_whole(reply) if value else None,
            )

    def thumb(
        self,
        rater_id: str,
        message_id: str,
        value: int,
        *,
        idempotency_key: str | None = None,
        tags: Sequence[str] | None = None,
        comment: str | None = None,
    ) -> Thumb:
        """Thumb a reply up (1) or down (-1), or withdraw the thumb (0).

        Raises:
            InvalidRequestError: A tag is not in `REASONS`, or the comment is too long.
            RefusedError: The reply was cut off.
        """
        self.rates.vote(rater_id)
        message = self._own_message(rater_id, message_id)
        if value:
            _require_whole(message)
        _check_reasons(value, tags or (), comment or "")
        return self.store.add_thumb(
            message_id,
            rater_id,
            value,
            tags=tags,
            comment=comment,
            idempotency_key=idempotency_key,
        )

    def choose(
        self,
        rater_id: str,
        candidates_id: str,
        choice: str,
        *,
        idempotency_key: str | None = None,
        strength: float | None = None,
        seconds: float | None = None,
        tags: Sequence[str] | None = None,
        comment: str | None = None,
    ) -> tuple[Choice, Candidates]:
        """Choose among candidates: "a", "b", "tie" or "both_bad"; returns them, too.

        Raises:
            InvalidRequestError: A tag is not in `REASONS`, or the comment is too long.
        """
        self.rates.vote(rater_id)
        shown = self.candidates_of(rater_id, candidates_id)
        _check_reasons(choice, tags or (), comment or "")
        choice_made = self.store.add_choice(
            candidates_id,
            rater_id,
            choice,
            strength=strength,
            seconds=seconds,
            tags=tags,
            comment=comment,
            idempotency_key=idempotency_key,
        )
        if self._test:
            self._note_screened(rater_id)
        return choice_made, shown

    def _note_screened(self, rater_id: str) -> None:
        """Note the result of the test, if there is one; the vote is stored, whatever comes."""
        try:
            self.store.note_screened(self.screened(rater_id), by="screening")
        except FeedbackStoreError:  # the next choice notes it
            log.exception("the result of a screening was not written")

    def screened(self, rater_id: str | None = None) -> list[Screened]:
        """How far a rater, or each of them, is with the test of the team."""
        share = self.settings.screening.share
        return self.store.screened(self._test, share=share, rater_id=rater_id)

    def test_of(self, rater_id: str) -> Screened | None:
        """How far a rater is with the test of the team; None if they are to take none."""
        for found in self.screened(rater_id):
            return found
        if not self._test or self.store.has_passed(rater_id):
            return None
        return Screened(rater_id, answered=0, questions=len(self._test), right=0, passed=None)

    def explain(
        self, rater_id: str, candidates_id: str, *, tags: Sequence[str], comment: str
    ) -> Choice:
        """Say why one chose so; it stays the same choice, also for its times and its receipt.

        Raises:
            NotFoundError: No choice of the rater stands there.
            InvalidRequestError: A tag is not in `REASONS`, or the comment is too long.
        """
        self.rates.vote(rater_id)
        made = self.store.choice_of(candidates_id, rater_id)
        if made is None:
            raise NotFoundError(say("your choice was taken back, so there is nothing to say why."))
        _check_reasons(made.choice, tags, comment)
        with not_found():
            return self.store.explain_choice(candidates_id, rater_id, tags=tags, comment=comment)

    def rank(
        self,
        rater_id: str,
        candidates_id: str,
        order: Sequence[Sequence[str]],
        *,
        idempotency_key: str | None = None,
    ) -> Ranking:
        """Rank candidates, best first, ties in one group.

        Raises:
            InvalidRequestError: The order does not name each label once.
        """
        self.rates.vote(rater_id)
        self.candidates_of(rater_id, candidates_id)
        try:
            return self.store.add_ranking(
                candidates_id, rater_id, order, idempotency_key=idempotency_key
            )
        except InvalidFeedbackError as exc:
            raise InvalidRequestError(text_of(exc), param="order") from exc

    def compare_with_before(
        self,
        rater_id: str,
        message_id: str,
        than_before: str,
        *,
        idempotency_key: str | None = None,
    ) -> Retry:
        """Say how a retry is beside the reply that it replaced: "better", "same" or "worse".

        Raises:
            NotFoundError: The rater has no such reply, or it replaced none.
            RefusedError: The reply was cut off.
        """
        self.rates.vote(rater_id)
        _require_whole(self._own_message(rater_id, message_id))
        with not_found():
            return self.store.compare_with_before(
                message_id, rater_id, than_before, idempotency_key=idempotency_key
            )

    def demonstrate(
        self,
        rater_id: str,
        content: str,
        *,
        idempotency_key: str | None = None,
        message_id: str | None = None,
        prompt: Sequence[PromptMessage] | None = None,
    ) -> StoredDemonstration:
        """Store the answer that the visitor wrote, to a prompt or instead of a reply.

        Raises:
            InvalidRequestError: The text or the prompt is unusable; or both a reply and a prompt
                are given, or neither.
            RefusedError: The reply was cut off.
        """
        self.rates.vote(rater_id)
        check_text(content, self.settings.limits)
        if (message_id is None) == (prompt is None):
            raise InvalidRequestError("give either message_id or messages, and not both")
        if message_id is not None:
            _require_whole(self._own_message(rater_id, message_id))
        if prompt is not None:
            check_messages(prompt, self.settings.limits)
        return self.store.add_demonstration(
            rater_id,
            content,
            message_id=message_id,
            prompt=prompt,
            idempotency_key=idempotency_key,
        )

    def receipts(
        self,
        rater_id: str,
        *,
        conversation_id: str | None = None,
        ids: Sequence[str] | None = None,
    ) -> list[dict[str, Any]]:
        """The rater's events, all, those in one conversation or these, and what became of each."""
        return self.store.feedback_of(rater_id, conversation_id=conversation_id, ids=ids)

    def withdraw(self, rater_id: str, kind: str, event_id: str) -> None:
        """Take back anything that the rater said, of whatever kind."""
        self.rates.vote(rater_id)
        with not_found():
            self.store.withdraw_feedback(rater_id, kind, event_id)

    def say_again(self, rater_id: str, kind: str, event_id: str) -> None:
        """Undo `withdraw`.

        Raises:
            ConflictError: The rater has said something else about the same thing meanwhile.
        """
        self.rates.vote(rater_id)
        with not_found():
            self.store.restore_feedback(rater_id, kind, event_id)

    def _own_message(self, rater_id: str, message_id: str) -> Message:
        if message_id.startswith(UNSTORED):
            raise NotFoundError(
                say("reply {id} was not stored, so nobody can vote on it", id=repr(message_id))
            )
        with not_found():
            return self.store.message(message_id, rater_id=rater_id)


def _require_whole(reply: Message) -> None:
    """Refuse a vote on a reply that the visitor has not seen in full: it is no evidence."""
    if reply.finish_reason in ("cancelled", "error"):
        raise RefusedError(say("This reply was cut off, so it cannot be judged; try again first."))


def _check_reasons(said: int | str, tags: Sequence[str], comment: str) -> None:
    """Refuse reasons that are not offered for what is said, and a comment that is too long."""
    offered = REASONS.get(said, ())
    unknown = sorted(set(tags) - set(offered))
    if len(set(tags)) < len(tags):
        raise InvalidRequestError(say("a reason is given twice; give each once"), param="tags")
    if unknown:
        raise InvalidRequestError(
            say(
                "unknown reasons {given}; choose from {choices}",
                given=unknown,
                choices=list(offered),
            ),
            param="tags",
        )
    if len(comment) > COMMENT_CHARS:
        raise InvalidRequestError(
            say(
                "the comment has {n} characters; at most {most} fit",
                n=len(comment),
                most=COMMENT_CHARS,
            ),
            param="comment",
        )


@contextmanager
def not_found() -> Iterator[None]:
    """Give the same error for a missing record and for another rater's."""
    try:
        yield
    except UnknownRecordError as exc:
        raise NotFoundError(text_of(exc)) from exc
