"""What a visitor can do, written once: the HTTP API and the pages both call `ChatService`.

Every operation is about a message of the tree: `ask` stores what a visitor said, `reply` and
`candidates` answer a stored message, and asking for another reply to the same message is a retry.
A conversation goes on from any message by giving it as the parent; an edit is a new `ask` with the
parent of the old one. Invariants: a rater only ever reaches his own conversations (another's are
`NotFoundError`), and a reply keeps the adapter it began with, which its row names.

The asynchronous methods generate; all others are short, thread-safe and blocking, so that an event
loop calls them through a thread. Knows neither HTTP, nor cookies, nor Gradio, nor torch.

The server mounts the pages with ``chat_app.pages.mount(app, service, identity)``; `Identity.caller`
names the rater of a request from its headers and cookies.
"""

import asyncio
import random
import secrets
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from chat_app.engine import Engine, FinishReason, GenerationRequest, Piece, Sampling
from chat_app.errors import BusyError, InvalidRequestError, NotFoundError, RefusedError
from chat_app.scheduler import CycleProcess
from chat_app.settings import Settings
from chat_app.status import status_of
from feedback_store.errors import UnknownRecordError
from feedback_store.ids import new_id
from feedback_store.records import (
    BASE_ADAPTER,
    CandidateReply,
    ChatMessage,
    Choice,
    Conversation,
    Cycle,
    Demonstration,
    Message,
    Ranking,
    Rater,
    Serving,
    Thumb,
)
from feedback_store.store import FeedbackStore

LABELS = "abcdefgh"


@dataclass(frozen=True, slots=True)
class ReplyPiece:
    """New text of a reply; the last piece carries the stored message."""

    message_id: str
    adapter: str
    text: str
    message: Message | None = None
    prompt_tokens: int = 0
    new_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Candidates:
    """Blind replies to one prompt, stored; labelled "a", "b", ... in the order shown."""

    id: str
    messages: tuple[Message, ...]


@dataclass(frozen=True, slots=True)
class CandidatePiece:
    """New text of the reply ``label``; the very last piece carries all of them, stored."""

    label: str
    text: str
    candidates: Candidates | None = None


class ChatService:
    """The rules of chatting and voting over one store and one engine."""

    def __init__(
        self, store: FeedbackStore, engine: Engine, settings: Settings, *, cycles: CycleProcess
    ) -> None:
        self.store = store
        self.engine = engine
        self.settings = settings
        self.cycles = cycles
        self.adapter = BASE_ADAPTER  # what new replies use; only the watcher changes it

    # Raters

    def visitor(self, rater_id: str, *, kind: str = "person", consent: bool = False) -> Rater:
        """The rater of this id, made at the first visit; ``consent`` accepts today's notice."""

    def consented(self, rater_id: str) -> bool:
        """Whether the rater has accepted the notice in its present version."""

    # Conversations

    def conversations(self, rater_id: str) -> list[Conversation]:
        """The rater's conversations, newest first."""

    def messages(self, rater_id: str, conversation_id: str) -> list[Message]:
        """Every message of one conversation, oldest first, branches included."""

    def path(self, rater_id: str, message_id: str) -> list[Message]:
        """The messages from the first one down to ``message_id``."""

    def candidates_of(self, rater_id: str, candidates_id: str) -> Candidates:
        """Stored candidates, in the order shown."""

    def thumb_of(self, rater_id: str, message_id: str) -> int:
        """The rater's present thumb on a reply: 1, -1, or 0 for none."""

    def choice_of(self, rater_id: str, candidates_id: str) -> Choice | None:
        """The rater's present choice among candidates."""

    def shows_candidates(self, turn: int) -> bool:
        """Whether the ``turn``-th user message of a conversation (from 1) gets two replies."""

    # Asking and answering

    def ask(
        self,
        rater_id: str,
        text: str,
        *,
        conversation_id: str | None = None,
        parent_id: str | None = None,
    ) -> Message:
        """Store what the visitor says: first of a new conversation, or after ``parent_id``.

        Raises:
            InvalidRequestError: The text is empty or too long.
            NotFoundError: The conversation or parent is unknown or somebody else's.
        """

    def ask_all(self, rater_id: str, messages: Sequence[ChatMessage]) -> Message:
        """Store a whole conversation that the caller brings along; its last message is returned.

        Raises:
            InvalidRequestError: No messages, too many, a wrong role, or not a user's at the end.
        """

    async def reply(
        self,
        rater_id: str,
        message_id: str,
        *,
        sampling: Sampling | None = None,
        seed: int | None = None,
    ) -> AsyncIterator[ReplyPiece]:
        """Answer a stored user message; the last piece carries the stored reply.

        Closing the iterator early stops the decoding and stores the part as "cancelled".

        Raises:
            BusyError: The queue is full.
            InvalidRequestError: The conversation does not fit the model.
        """
        yield ReplyPiece("", "", "")

    async def candidates(
        self, rater_id: str, message_id: str, *, n: int = 2, sampling: Sampling | None = None
    ) -> AsyncIterator[CandidatePiece]:
        """Answer a user message n times at once, blind; pieces of all labels come interleaved.

        They are stored together at the end; closing early stores nothing, for what was not shown
        in full is no evidence.
        """
        yield CandidatePiece("", "")

    # Feedback: the same idempotency key again gives the same record back

    def thumb(
        self,
        rater_id: str,
        message_id: str,
        value: int,
        *,
        idempotency_key: str,
        tags: Sequence[str] = (),
        comment: str = "",
    ) -> Thumb:
        """Thumb a reply up (1) or down (-1), or withdraw the thumb (0)."""

    def choose(
        self,
        rater_id: str,
        candidates_id: str,
        choice: str,
        *,
        idempotency_key: str,
        strength: float | None = None,
        seconds: float | None = None,
    ) -> Choice:
        """Choose among candidates: "a", "b", "tie" or "both_bad"."""

    def rank(
        self,
        rater_id: str,
        candidates_id: str,
        order: Sequence[Sequence[str]],
        *,
        idempotency_key: str,
    ) -> Ranking:
        """Rank candidates, best first, ties together."""

    def demonstrate(
        self,
        rater_id: str,
        content: str,
        *,
        idempotency_key: str,
        message_id: str | None = None,
        prompt: Sequence[ChatMessage] | None = None,
    ) -> Demonstration:
        """Store the answer that the visitor would have given instead of the reply ``message_id``."""

    def receipts(self, rater_id: str) -> list[dict[str, Any]]:
        """Each of the rater's events and what became of it."""

    # Operating: the caller has checked that it is an operator

    def status(self) -> dict[str, Any]:
        """The document of `feedback-chat status --json`."""

    def recent_cycles(self, limit: int = 20) -> list[Cycle]:
        """The latest cycles, newest first."""

    def start_cycle(self) -> int:
        """Start a cycle in a process of its own and return its process id.

        Raises:
            RefusedError: One is running.
        """

    def promote(self, name: str, *, by: str = "operator") -> Serving:
        """Serve a published policy adapter; new replies use it within a second."""

    def rollback(self, *, by: str = "operator") -> Serving:
        """Serve the adapter that was served before this one.

        Raises:
            RefusedError: There is none.
        """
