"""A reply while the server writes it: it goes on without a reader, and any number may follow it.

A reply belongs to the conversation and not to the tab that asked for it. So a task of the server
writes it to its end, and a page that is closed, reloaded or opened again finds it.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

from chat_app.handlers.views import error_text
from chat_app.service.replies import CandidatePiece, ReplyPiece

UPDATE_S = 0.1  # least time between two pieces for one reader
QUIET_S = 15.0  # longest time without any: proxies give up on a line that says nothing

Pieces = AsyncGenerator[ReplyPiece | CandidatePiece, None]


class Writing:
    """One reply, or two blind ones, to a message of a conversation.

    Attributes:
        rater_id: Who asked.
        conversation_id: Where; empty if the message could not be stored.
        prompt_id: The message that is answered, by which readers find this.
        texts: What is written so far, by label.
        unstored: Whether the reply is complete and could not be stored.
    """

    def __init__(self, rater_id: str, conversation_id: str, prompt_id: str, *, two: bool) -> None:
        self.rater_id = rater_id
        self.conversation_id = conversation_id
        self.prompt_id = prompt_id
        self.texts = {"a": "", "b": ""} if two else {"a": ""}
        self.unstored = False
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._problem: str | None = None

    @property
    def done(self) -> bool:
        """Whether nothing more will come."""
        return self._task is not None and self._task.done()

    @property
    def failure(self) -> BaseException | None:
        """What went wrong, once it has ended; a stop is no failure."""
        if self._task is None or not self._task.done() or self._task.cancelled():
            return None
        return self._task.exception()

    @property
    def problem(self) -> str:
        """What went wrong, in one sentence for people; the log gets it once, however many ask."""
        if self._problem is None and (failure := self.failure) is not None:
            self._problem = error_text(failure)
        return self._problem or ""

    @property
    def lost(self) -> bool:
        """Whether the store has nothing of it, because the message or the reply is not stored."""
        return self.unstored or not self.conversation_id

    def start(self, pieces: Pieces) -> asyncio.Task[None]:
        """Write the pieces in a task of their own."""
        self._task = asyncio.create_task(self._write(pieces))
        self._task.add_done_callback(self._ended)
        return self._task

    def stop(self) -> None:
        """Stop here; what is written is stored as cut off."""
        if self._task is not None:
            self._task.cancel()

    async def follow(self) -> AsyncIterator[dict[str, str]]:
        """What was added to each text since the piece before; the first has all so far."""
        seen = dict.fromkeys(self.texts, 0)
        quiet = False
        while True:
            changed, done = self._changed, self.done
            added = {label: text[seen[label] :] for label, text in self.texts.items()}
            if any(added.values()) or quiet:
                seen = {label: len(text) for label, text in self.texts.items()}
                yield added
            if done:
                return
            shown_at = time.monotonic()
            quiet = False
            try:
                await asyncio.wait_for(changed.wait(), QUIET_S)
            except TimeoutError:
                quiet = True  # a piece without text keeps the line open
            if any(seen.values()):  # the first words go out at once
                await asyncio.sleep(max(0.0, UPDATE_S - (time.monotonic() - shown_at)))

    async def ended(self) -> None:
        """Wait until nothing more will come."""
        if self._task is not None:
            await asyncio.wait({self._task})

    async def _write(self, pieces: Pieces) -> None:
        async with aclosing(pieces) as arriving:
            async for piece in arriving:
                if piece.text:
                    self.texts[piece.label] += piece.text
                    self._tell()
                if isinstance(piece, ReplyPiece) and not piece.stored:
                    self.unstored = True

    def _tell(self) -> None:
        """Wake all readers."""
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled():
            task.exception()  # which asyncio would log if nobody asked for it
        self._tell()
