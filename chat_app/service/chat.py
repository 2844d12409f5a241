"""What a visitor can do, written once: the HTTP API and the pages both call `ChatService`.

`ask` stores a visitor's message, `continue_dialogue` a whole dialogue; `reply` and `candidates`
answer the path down to a message. A second reply to the same message is a retry; an edit is a new
`ask` with the parent of the old message. Invariants: raters reach only their own conversations
(for others: `NotFoundError`), and a reply keeps the adapter it began with, which its row names.

`reply`, `candidates` and `check_fits` are asynchronous. All other methods are short, thread-safe
and blocking, so an event loop calls them through a thread. This module does not know HTTP,
cookies, Gradio or torch.
"""

from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from chat_app.cycles.scheduler import CycleProcess
from chat_app.cycles.status import status_of
from chat_app.engine import Engine, GenerationRequest, Sampling
from chat_app.errors import BusyError, InvalidRequestError, NotFoundError, RefusedError
from chat_app.service import promotion
from chat_app.service.gold_file import read_gold
from chat_app.service.limits import check_messages, check_sampling, check_text
from chat_app.service.replies import CandidatePiece, Candidates, Replies, ReplyPiece, new_seed
from chat_app.settings import Settings
from feedback_store.errors import UnknownRecordError
from feedback_store.feedback.messages import prompt_of
from feedback_store.records import (
    BASE_ADAPTER,
    Choice,
    Conversation,
    ConversationView,
    Cycle,
    Message,
    PromptMessage,
    Ranking,
    Rater,
    Serving,
    StoredDemonstration,
    Thumb,
)
from feedback_store.store import FeedbackStore

TITLE_CHARS = 80
COMMENT_CHARS = 2_000
REASONS = {
    1: ("correct", "friendly", "did what I asked", "well put"),
    -1: ("wrong", "rude", "ignored my request", "too long"),
}


class ChatService:
    """The rules of chatting and voting over one store and one engine."""

    def __init__(
        self, store: FeedbackStore, engine: Engine, settings: Settings, *, cycles: CycleProcess
    ) -> None:
        self.store = store
        self.engine = engine
        self.settings = settings
        self.cycles = cycles
        self._replies = Replies(store, engine)
        self._gold = read_gold(settings.gold_items, settings.limits) if settings.gold_items else ()
        self.adapter = BASE_ADAPTER  # of new replies; only the watcher sets it
        self.ready = False  # whether that adapter is loaded; only the watcher sets it

    @property
    def default_sampling(self) -> Sampling:
        """The sampling settings of a request that names none."""
        return Sampling(**self.settings.sampling.model_dump())

    # Raters

    def visitor(self, rater_id: str, *, kind: str = "person", consent: bool = False) -> Rater:
        """The rater of this id, made at the first visit; ``consent`` accepts the present notice."""
        consent_version = self.settings.consent_version if consent else None
        return self.store.add_rater(rater_id, kind=kind, consent=consent_version)

    def consented(self, rater_id: str) -> bool:
        """Whether the rater has accepted the notice in its present version."""
        try:
            return self.store.rater(rater_id).consent == self.settings.consent_version
        except UnknownRecordError:
            return False

    # Conversations

    def conversations(self, rater_id: str) -> list[Conversation]:
        """The rater's conversations, newest first."""
        return self.store.conversations(rater_id)

    def conversation(
        self,
        rater_id: str,
        *,
        conversation_id: str | None = None,
        message_id: str | None = None,
        candidates_id: str | None = None,
    ) -> ConversationView:
        """One of the rater's conversations, by its id or by the id of something in it.

        Raises:
            NotFoundError: The rater has no such conversation.
        """
        with _not_found():
            return self.store.conversation_view(
                rater_id,
                conversation_id=conversation_id,
                message_id=message_id,
                candidates_id=candidates_id,
            )

    def candidates_of(self, rater_id: str, candidates_id: str) -> Candidates:
        """Stored candidates, in the order shown."""
        with _not_found():
            shown = self.store.candidates(candidates_id, rater_id=rater_id)
        return Candidates(candidates_id, tuple(shown))

    def shows_candidates(self, turn: int) -> bool:
        """Whether the ``turn``-th user message of a conversation (from 1) gets two replies."""
        every = self.settings.candidates_every
        return every > 0 and turn % every == 0

    # Asking and answering

    def ask(
        self,
        rater_id: str,
        text: str,
        *,
        conversation_id: str | None = None,
        parent_id: str | None = None,
    ) -> Message:
        """Store a user message: in a new conversation, or in a known one after ``parent_id``.

        Raises:
            InvalidRequestError: The text is empty or too long.
            NotFoundError: The conversation or parent is unknown, or another rater's.
        """
        check_text(text, self.settings.limits)
        with _not_found():
            return self.store.add_dialogue(
                rater_id,
                [PromptMessage(role="user", content=text)],
                title=_title(text),
                conversation_id=conversation_id,
                parent_id=parent_id,
            )[0]

    async def check_fits(self, text: str) -> None:
        """Check that the model can read a message, before it is stored.

        Raises:
            InvalidRequestError: The text is empty or too long.
        """
        check_text(text, self.settings.limits)
        said = PromptMessage(role="user", content=text)
        await self.engine.check(
            GenerationRequest((said,), self.adapter, self.default_sampling, seed=0)
        )

    def continue_dialogue(self, rater_id: str, messages: Sequence[PromptMessage]) -> list[Message]:
        """Store the new messages of a dialogue that the caller sends; returns its whole path.

        Raises:
            InvalidRequestError: No messages, too many, a wrong role, or no user message at the end.
            BusyError: No reply is possible now; nothing was stored.
        """
        check_messages(messages, self.settings.limits)
        self._require_room()
        title = _title(messages[-1]["content"])
        return self.store.continue_dialogue(rater_id, messages, title=title)

    def reply(
        self,
        path: Sequence[Message],
        *,
        sampling: Sampling | None = None,
        seed: int | None = None,
        retry_of: str | None = None,
    ) -> AsyncGenerator[ReplyPiece, None]:
        """Answer the user message at the end of a path; the last piece has the stored reply.

        ``retry_of`` is the reply that the rater wants replaced: weak evidence against it. Closing
        the iterator early stops the decoding and stores the text so far as "cancelled".

        Raises:
            BusyError: The queue is full.
            InvalidRequestError: The conversation does not fit the model.
        """
        request = self._request(path, sampling=sampling, seed=seed)
        return self._replies.one(path[-1], request, retry_of=retry_of)

    def candidates(
        self,
        rater_id: str,
        path: Sequence[Message],
        *,
        n: int = 2,
        sampling: Sampling | None = None,
    ) -> AsyncGenerator[CandidatePiece, None]:
        """Answer a user message with n blind replies; pieces of all labels come interleaved.

        They are stored together at the end. Closing the iterator early stores nothing, because a
        reply that was not shown in full is no evidence. Replies with the same text are generated
        again, and left out if they still repeat another. A single one left is an ordinary reply.
        """
        if not 2 <= n <= self.settings.limits.candidates:
            raise InvalidRequestError(
                f"n is {n}; ask for 2 to {self.settings.limits.candidates} candidates"
            )
        request = self._request(path, sampling=sampling)
        requests = [replace(request, seed=new_seed()) for _ in range(n)]
        return self._replies.several(path[-1], requests, rater_id=rater_id)

    def next_comparison(self, rater_id: str) -> tuple[list[Message], Candidates] | None:
        """The prompt and two replies of a gold question, if one is due for the rater.

        `choose` answers it, like any other comparison. Until then it stays the same.
        """
        every = self.settings.gold_every
        if not (self._gold and every):
            return None
        candidates_id = self.store.gold_question(rater_id, self._gold, every=every)
        if candidates_id is None:
            return None
        shown = self.candidates_of(rater_id, candidates_id)
        return self.store.path(str(shown.messages[0].parent_id)), shown

    # Feedback: the same idempotency key returns the same record

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
    ) -> tuple[Choice, Candidates]:
        """Choose among candidates: "a", "b", "tie" or "both_bad"; returns them, too."""
        shown = self.candidates_of(rater_id, candidates_id)
        choice_made = self.store.add_choice(
            candidates_id,
            rater_id,
            choice,
            strength=strength,
            seconds=seconds,
            idempotency_key=idempotency_key,
        )
        return choice_made, shown

    def rank(
        self,
        rater_id: str,
        candidates_id: str,
        order: Sequence[Sequence[str]],
        *,
        idempotency_key: str,
    ) -> Ranking:
        """Rank candidates, best first, ties in one group."""
        self.candidates_of(rater_id, candidates_id)
        return self.store.add_ranking(
            candidates_id, rater_id, order, idempotency_key=idempotency_key
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

    def receipts(self, rater_id: str) -> list[dict[str, Any]]:
        """Each of the rater's events and what became of it."""
        return self.store.feedback_of(rater_id)

    # For operators; the caller has checked that the request is an operator's

    def status(self) -> dict[str, Any]:
        """The document of `feedback-chat status --json`."""
        return status_of(self.store)

    def recent_cycles(self, limit: int = 20) -> list[Cycle]:
        """The latest cycles, newest first."""
        return self.store.cycles(limit=limit)

    def start_cycle(self) -> int:
        """Start a cycle in a separate process and return its process id.

        Raises:
            RefusedError: A cycle is running.
        """
        return self.cycles.start()

    def promote(self, name: str) -> Serving:
        """Serve a published policy adapter; new replies use it within a second."""
        return promotion.promote(self.store, self.settings.adapters, name)

    def rollback(self) -> Serving:
        """Serve the adapter that was served before this one.

        Raises:
            RefusedError: There is none.
        """
        return promotion.roll_back(self.store, self.settings.adapters)

    # Inside

    def _require_room(self) -> None:
        """Refuse a request that cannot be answered now, before it is stored."""
        if not self.ready:
            raise BusyError("the model is still being loaded; try again in a moment")
        if self.engine.health()["room"] <= 0:
            raise BusyError("too many requests are waiting already; try again in a moment")

    def _request(
        self,
        path: Sequence[Message],
        *,
        sampling: Sampling | None = None,
        seed: int | None = None,
    ) -> GenerationRequest:
        self._require_room()
        if path[-1].role != "user":
            raise InvalidRequestError(f"message {path[-1].id} is a reply; answer a user's message")
        return GenerationRequest(
            prompt_of(path),
            self.adapter,
            check_sampling(sampling or self.default_sampling, self.settings.limits),
            new_seed() if seed is None else seed % 2**63,
        )

    def _own_message(self, rater_id: str, message_id: str) -> Message:
        with _not_found():
            return self.store.message(message_id, rater_id=rater_id)


def _title(text: str) -> str:
    return text.strip().splitlines()[0][:TITLE_CHARS]


def _require_whole(reply: Message) -> None:
    """Refuse a vote on a reply that the visitor has not seen in full: it is no evidence."""
    if reply.finish_reason in ("cancelled", "error"):
        raise RefusedError("This reply was cut off, so it cannot be judged; try again first.")


def _check_reasons(value: int, tags: Sequence[str], comment: str) -> None:
    """Refuse reasons that are not offered for this thumb, and a comment that is too long."""
    offered = REASONS.get(value, ())
    unknown = sorted(set(tags) - set(offered))
    if unknown:
        raise InvalidRequestError(f"unknown reasons {unknown}; choose from {list(offered)}")
    if len(comment) > COMMENT_CHARS:
        raise InvalidRequestError(
            f"the comment has {len(comment):,} characters; at most {COMMENT_CHARS:,} fit"
        )


@contextmanager
def _not_found() -> Iterator[None]:
    """Give the same error for a missing record and for another rater's."""
    try:
        yield
    except UnknownRecordError as exc:
        raise NotFoundError(str(exc)) from exc
