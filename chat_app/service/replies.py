"""From a stored prompt to a stored reply, with the text streaming out on the way.

Invariants: the row is written before the last piece is given out, so that a reply that was shown
in full can be voted on; a reply that was stopped is stored as far as it came, as "cancelled"; blind
candidates are stored together or not at all, and no two of them say the same. Checks nothing:
`chat.py` has done that.
"""

import asyncio
import logging
import secrets
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import asdict, dataclass, replace
from typing import Any

from chat_app.engine import Engine, FinishReason, GenerationRequest, Piece
from feedback_store.records import CandidateReply, Message
from feedback_store.sqlite.ids import new_id
from feedback_store.store import FeedbackStore

log = logging.getLogger(__name__)

LABELS = "abcdefgh"
REDRAWS = 3  # for a reply that says the same as one beside it


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
    """Blind replies to one prompt, stored; labelled "a", "b", ... in the order shown.

    If all said the same there is one message, an ordinary reply; the id is empty.
    """

    id: str
    messages: tuple[Message, ...]


@dataclass(frozen=True, slots=True)
class CandidatePiece:
    """New text of the reply ``label``; the very last piece carries all of them, stored."""

    label: str
    text: str
    candidates: Candidates | None = None


class Replies:
    """Generates replies and stores them."""

    def __init__(self, store: FeedbackStore, engine: Engine) -> None:
        self._store = store
        self._engine = engine

    async def one(
        self, prompt: Message, request: GenerationRequest, *, retry_of: str | None = None
    ) -> AsyncGenerator[ReplyPiece, None]:
        """Stream and store one reply below ``prompt``, perhaps instead of ``retry_of``."""
        draft = _Draft(request)
        reply_id = new_id()
        try:
            async with aclosing(self._engine.stream(request)) as pieces:
                async for piece in pieces:
                    draft.add(piece)
                    if piece.finish_reason is None:
                        yield ReplyPiece(reply_id, request.adapter, piece.text)
        except BaseException as exc:
            draft.finish_reason = "error" if isinstance(exc, Exception) else "cancelled"
            if draft.text:
                await self._store_part(prompt, draft, reply_id)
            raise
        message = await asyncio.to_thread(
            self._store_reply, prompt, draft, reply_id, retry_of=retry_of
        )
        last = draft.last
        yield ReplyPiece(
            reply_id, request.adapter, last.text, message, last.prompt_tokens, last.new_tokens
        )

    async def several(
        self, prompt: Message, requests: Sequence[GenerationRequest], *, rater_id: str
    ) -> AsyncGenerator[CandidatePiece, None]:
        """Stream replies made at the same time, then store together what is distinct."""
        drafts = [_Draft(request) for request in requests]
        arrivals: asyncio.Queue[tuple[int, Piece | Exception]] = asyncio.Queue()
        tasks = [
            asyncio.create_task(self._pump(index, request, arrivals))
            for index, request in enumerate(requests)
        ]
        try:
            while any(draft.finish_reason is None for draft in drafts):
                index, piece = await arrivals.get()
                if isinstance(piece, Exception):
                    raise piece
                drafts[index].add(piece)
                if piece.text:
                    yield CandidatePiece(LABELS[index], piece.text)
        finally:
            for task in tasks:
                task.cancel()
        distinct = await self._distinct(drafts)
        stored = await asyncio.to_thread(self._store_several, prompt, distinct, rater_id)
        yield CandidatePiece(LABELS[len(drafts) - 1], "", stored)

    async def _pump(
        self,
        index: int,
        request: GenerationRequest,
        arrivals: "asyncio.Queue[tuple[int, Piece | Exception]]",
    ) -> None:
        try:
            async with aclosing(self._engine.stream(request)) as pieces:
                async for piece in pieces:
                    arrivals.put_nowait((index, piece))
        except Exception as exc:
            arrivals.put_nowait((index, exc))

    async def _distinct(self, drafts: Sequence["_Draft"]) -> list["_Draft"]:
        """The drafts, made anew where they repeat another; what stays a repetition is left out."""
        kept: dict[str, _Draft] = {}
        for draft in drafts:
            redraws = REDRAWS if draft.request.sampling.temperature else 0
            while draft.text.strip() in kept and redraws:
                draft, redraws = await self._redrawn(draft), redraws - 1
            kept.setdefault(draft.text.strip(), draft)
        return list(kept.values())

    async def _redrawn(self, old: "_Draft") -> "_Draft":
        draft = _Draft(replace(old.request, seed=new_seed()))
        async with aclosing(self._engine.stream(draft.request)) as pieces:
            async for piece in pieces:
                draft.add(piece)
        return draft

    def _store_several(
        self, prompt: Message, drafts: Sequence["_Draft"], rater_id: str
    ) -> Candidates:
        if len(drafts) == 1:
            return Candidates("", (self._store_reply(prompt, drafts[0], new_id()),))
        replies = [CandidateReply(draft.text, **draft.origin()) for draft in drafts]
        candidates_id, messages = self._store.add_candidates(prompt.id, replies, rater_id=rater_id)
        return Candidates(candidates_id, tuple(messages))

    async def _store_part(self, prompt: Message, draft: "_Draft", reply_id: str) -> None:
        """Store a reply that ended early, in a thread that a second cancellation leaves alone."""

        def store() -> None:
            try:
                self._store_reply(prompt, draft, reply_id)
            except Exception:
                log.exception("the part of reply %s that was made could not be stored", reply_id)

        # handed over at once: a task of its own could be cancelled before its first step
        await asyncio.shield(asyncio.get_running_loop().run_in_executor(None, store))

    def _store_reply(
        self, prompt: Message, draft: "_Draft", reply_id: str, *, retry_of: str | None = None
    ) -> Message:
        return self._store.add_message(
            prompt.conversation_id,
            "assistant",
            draft.text,
            parent_id=prompt.id,
            message_id=reply_id,
            retry_of=retry_of,
            **draft.origin(),
        )


class _Draft:
    """A reply on its way: its text so far and what its row will say about it."""

    def __init__(self, request: GenerationRequest) -> None:
        self.request = request
        self.text = ""
        self.last = Piece("")
        self.finish_reason: FinishReason | None = None

    def add(self, piece: Piece) -> None:
        self.text += piece.text
        self.finish_reason = piece.finish_reason
        self.last = piece

    def origin(self) -> dict[str, Any]:
        """What made the reply, as the store's columns."""
        return {
            "adapter": self.request.adapter,
            "sampling": asdict(self.request.sampling),
            "seed": self.request.seed,
            "finish_reason": self.finish_reason,
        }


def new_seed() -> int:
    """A seed that nothing else has, as good as surely."""
    return secrets.randbelow(2**31)
