"""Generate replies to a stored prompt, stream their text, and store them.

Invariants: the last piece goes out only after the row is stored, so a reply that was shown in full
can be voted on; if the disk is full, the piece says that it is not stored. A stopped reply is
stored up to there, as "cancelled". Blind candidates are stored together or not at all, and all
their texts differ; drafts of them may wait in memory until somebody is shown them. This module
checks no request: `chat.py` has done that.
"""

import asyncio
import logging
import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any, TypeVar

from chat_app.engine import Engine, FinishReason, GenerationRequest, Piece
from chat_app.service.choosing import ChosenReplies
from feedback_store.errors import StoreUnavailableError, say
from feedback_store.records import CLIENT_MESSAGE, CandidateReply, Message
from feedback_store.sqlite.ids import new_id
from feedback_store.store import FeedbackStore

log = logging.getLogger(__name__)
requests_log = logging.getLogger("chat_app.requests")  # on by `log.requests`

Result = TypeVar("Result")
Item = TypeVar("Item")

LABELS = "abcdefghi"
NOT_STORED = say(
    "the reply could not be stored, so nobody can vote on it, and it will not be there later"
)
UNSTORED = "unstored-"  # begins the id of a reply that nobody wants stored
REDRAWS = 3  # new attempts at a candidate that repeats another


@dataclass(frozen=True, slots=True)
class ReplyPiece:
    """New text of a single reply; the last piece has the stored message and the token counts."""

    message_id: str
    adapter: str
    text: str
    message: Message | None = None
    prompt_tokens: int = 0
    new_tokens: int = 0
    label: str = LABELS[0]
    stored: bool = True


@dataclass(frozen=True, slots=True)
class Candidates:
    """Stored blind replies to one prompt, labelled "a", "b", ... in the order shown.

    If all texts were the same, there is one message, an ordinary reply, and the id is empty.
    """

    id: str
    messages: tuple[Message, ...]


@dataclass(frozen=True, slots=True)
class CandidatePiece:
    """New text of the candidate ``label``; the very last piece has the stored candidates."""

    label: str
    text: str
    candidates: Candidates | None = None


Choose = Callable[[Sequence[str]], Awaitable[ChosenReplies]]  # which of several texts are shown
_ALL = ChosenReplies(())
Spent = Callable[[int], None]  # is told the tokens of a prompt and a reply when the reply ends


class Draft:
    """A reply while it is generated: its text so far, and the origin for its row."""

    def __init__(self, request: GenerationRequest, client_message: str | None = None) -> None:
        self.request = request
        self.client_message = client_message
        self.text = request.begun
        self.last = Piece("")
        self.finish_reason: FinishReason | None = None

    def add(self, piece: Piece) -> None:
        """Take the engine's next piece."""
        self.text += piece.text
        self.finish_reason = piece.finish_reason
        self.last = piece

    @property
    def tokens(self) -> int:
        """Of the prompt and the reply so far."""
        return self.last.prompt_tokens + self.last.new_tokens

    def unstored(self, prompt: Message, reply_id: str) -> Message:
        """The message that could not be stored."""
        origin, now = self.origin(), datetime.now(UTC).isoformat()
        return Message(
            reply_id,
            prompt.conversation_id,
            prompt.id,
            "assistant",
            self.text,
            **origin,
            candidates_id=None,
            label=None,
            created_at=now,
        )

    def origin(self) -> dict[str, Any]:
        """How the reply was generated, by the names of the store's columns."""
        more: dict[str, Any] = {"stop": list(self.request.stop)} if self.request.stop else {}
        if self.client_message:
            more[CLIENT_MESSAGE] = self.client_message
        return {
            "adapter": self.request.adapter,
            "sampling": asdict(self.request.sampling)
            | {"system_prompt": self.request.system_prompt}
            | more,
            "seed": self.request.seed,
            "finish_reason": self.finish_reason,
        }


class Replies:
    """Generates replies and stores them."""

    def __init__(self, store: FeedbackStore, engine: Engine) -> None:
        self._store = store
        self._engine = engine

    async def one(
        self,
        prompt: Message,
        request: GenerationRequest,
        *,
        spent: Spent,
        retry_of: str | None = None,
        reply_id: str | None = None,
        client_message: str | None = None,
    ) -> AsyncGenerator[ReplyPiece, None]:
        """Stream and store one reply to ``prompt``; ``retry_of`` is the reply it replaces.

        ``client_message`` is what the client calls the reply, which it names it by when it votes.
        A prompt that could not be stored has an empty id; its reply is not stored either.
        """
        draft = Draft(request, client_message)
        reply_id = reply_id or new_id()
        try:
            async with aclosing(self._engine.stream(request)) as pieces:
                async for piece in pieces:
                    draft.add(piece)
                    if piece.finish_reason is None:
                        yield ReplyPiece(reply_id, request.adapter, piece.text)
        except BaseException as exc:
            draft.finish_reason = "error" if isinstance(exc, Exception) else "cancelled"
            if draft.text and prompt.id:
                await _to_the_end(partial(self._store_part, prompt, draft, reply_id))
            raise
        finally:
            spent(draft.tokens)
        stored, last = bool(prompt.id), draft.last
        message = draft.unstored(prompt, reply_id)
        try:
            if stored:
                message = await _to_the_end(
                    partial(self._store_reply, prompt, draft, reply_id, retry_of=retry_of)
                )
        except StoreUnavailableError as exc:  # a full disk; the reply is there all the same
            log.error("reply %s is not stored: %s", reply_id, exc)
            stored = False
        facts = {"reply": reply_id, "adapter": request.adapter, "tokens": last.new_tokens}
        told = (reply_id, request.adapter, last.new_tokens)
        requests_log.info("reply %s of %s, tokens=%d", *told, extra={"facts": facts})
        yield ReplyPiece(
            reply_id,
            request.adapter,
            last.text,
            message,
            last.prompt_tokens,
            last.new_tokens,
            stored=stored,
        )

    async def several(
        self,
        prompt: Message,
        requests: Sequence[GenerationRequest],
        *,
        rater_id: str,
        spent: Spent,
        trial_id: int | None = None,
        whole: bool = False,
        choose: Choose | None = None,
    ) -> AsyncGenerator[CandidatePiece, None]:
        """Stream several replies at the same time, then store those that differ, together.

        With ``whole``, their texts come at the end. If there is ``choose`` and more than two
        differ, it says which of them are stored, and the others are forgotten.

        In a trial a reply that repeats the other one is not generated again: what is rare would
        be shown too often, and of the surer adapter most of all.
        """
        drafts = [Draft(request) for request in requests]
        texts = as_they_come([self._texts(draft, spent) for draft in drafts])
        async with aclosing(texts):
            async for place, text in texts:
                if not whole:
                    yield CandidatePiece(LABELS[place], text)
        enough = choose is not None and len({draft.text.strip() for draft in drafts}) > 1
        redraws = 0 if trial_id or enough else REDRAWS
        distinct, shown = await self._distinct(drafts, spent, most=redraws), _ALL
        if choose is not None and len(distinct) > 2:
            shown = await choose([draft.text for draft in distinct])
            distinct = [distinct[place] for place in shown.places]
        store = partial(
            self.keep, prompt, distinct, rater_id=rater_id, trial_id=trial_id, shown=shown
        )
        stored = await _to_the_end(store)
        if whole:
            for draft, label in zip(distinct, LABELS, strict=False):
                yield CandidatePiece(label, draft.text)
        yield CandidatePiece(LABELS[len(distinct) - 1], "", stored)

    async def _texts(self, draft: Draft, spent: Spent) -> AsyncGenerator[str, None]:
        """The texts of a reply as they come from the engine, to its end."""
        try:
            async with aclosing(self._engine.stream(draft.request)) as pieces:
                async for piece in pieces:
                    draft.add(piece)
                    if piece.text:
                        yield piece.text
        finally:
            spent(draft.tokens)

    async def drafts(
        self,
        requests: Sequence[GenerationRequest],
        *,
        spent: Spent,
        redraws: int = 0,
    ) -> list[Draft]:
        """Write several replies at the same time, and store nothing.

        Returns those whose texts differ; one that repeats another is tried ``redraws`` times more.
        """
        drafts = [Draft(request) for request in requests]
        texts = as_they_come([self._texts(draft, spent) for draft in drafts])
        async with aclosing(texts):
            async for _ in texts:
                pass
        return await self._distinct(drafts, spent, most=redraws)

    async def _distinct(self, drafts: Sequence[Draft], spent: Spent, *, most: int) -> list[Draft]:
        """Generate a draft that repeats another again; leave it out if it repeats one still."""
        kept: dict[str, Draft] = {}
        for draft in drafts:
            redraws = most if draft.request.sampling.temperature else 0
            while draft.text.strip() in kept and redraws:
                draft, redraws = Draft(replace(draft.request, seed=new_seed())), redraws - 1
                async for _ in self._texts(draft, spent):
                    pass
            kept.setdefault(draft.text.strip(), draft)
        return list(kept.values())

    def keep(
        self,
        prompt: Message,
        drafts: Sequence[Draft],
        *,
        rater_id: str,
        trial_id: int | None = None,
        shown: ChosenReplies = _ALL,
    ) -> Candidates:
        """Store drafts from left to right; ``shown`` says how they came to be these."""
        if len(drafts) == 1:
            return Candidates("", (self._store_reply(prompt, drafts[0], new_id()),))
        replies = [CandidateReply(draft.text, **draft.origin()) for draft in drafts]
        candidates_id, messages = self._store.add_candidates(
            prompt.id,
            replies,
            rater_id=rater_id,
            trial_id=trial_id,
            arm=shown.arm,
            propensity=shown.propensity,
        )
        return Candidates(candidates_id, tuple(messages))

    def _store_part(self, prompt: Message, draft: Draft, reply_id: str) -> None:
        """Store a reply that ended early; a failure goes to the log, for the reader is gone."""
        try:
            self._store_reply(prompt, draft, reply_id)
        except Exception:
            log.exception("the part of reply %s that was generated is not stored", reply_id)

    def _store_reply(
        self, prompt: Message, draft: Draft, reply_id: str, *, retry_of: str | None = None
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


async def as_they_come(
    streams: Sequence[AsyncGenerator[Item, None]],
) -> AsyncGenerator[tuple[int, Item], None]:
    """What several streams give, each with the place of its stream, until all have ended.

    An error of one ends them all.
    """
    arrivals: asyncio.Queue[tuple[int, Item] | asyncio.Task[None]] = asyncio.Queue()

    async def read(place: int, items: AsyncGenerator[Item, None]) -> None:
        """Read one stream to its end."""
        async with aclosing(items):
            async for item in items:
                arrivals.put_nowait((place, item))

    readers = [asyncio.create_task(read(*stream)) for stream in enumerate(streams)]
    for reader in readers:
        reader.add_done_callback(arrivals.put_nowait)
    try:
        reading = len(readers)
        while reading:
            arrived = await arrivals.get()
            if isinstance(arrived, tuple):
                yield arrived
            else:
                arrived.result()  # raises the error of a stream that failed
                reading -= 1
    finally:
        for reader in readers:
            reader.cancel()
        await asyncio.gather(*readers, return_exceptions=True)


async def _to_the_end(work: Callable[[], Result]) -> Result:
    """Run blocking work in a thread; whoever is cancelled meanwhile waits until it has ended.

    So the store says after a stop what it will say later. An executor starts at once; a task could
    be cancelled before its first step.
    """
    running = asyncio.get_running_loop().run_in_executor(None, work)
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait({running})
        raise


def new_seed() -> int:
    """A random seed, practically always unused."""
    return secrets.randbelow(2**31)
