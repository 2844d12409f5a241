"""Talking: open a conversation, send, stop, retry, edit.

Invariant: views are rebuilt from the store when a stream ends, however it ends, so that the page
never shows a reply that is not kept. Nothing is remembered here except which replies are being
written for which tab, so that the person who started one can stop it.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import replace

from chat_app.errors import ChatAppError, InvalidRequestError, RefusedError
from chat_app.handlers.views import ChatView, branch_of, error_text, titles, view_of
from chat_app.service.chat import ChatService
from feedback_store.errors import FeedbackStoreError
from feedback_store.records import Message

UPDATE_S = 0.1  # least time between two updates of one stream; each costs about 1 ms of CPU
NO_REPLY = "No reply was kept. Press “Try again”, or send something else."
STILL_WRITING = "The last reply is still being written: wait for it, or stop it."
NOTHING_SAID = "There is nothing to answer yet: write something first."

Views = AsyncGenerator[ChatView, None]


class Talk:
    """What a person can say and see; every call names the rater of the signed cookie."""

    def __init__(self, service: ChatService) -> None:
        self._service = service
        self._writing: dict[tuple[str, str], asyncio.Task[None]] = {}  # by rater and tab

    def opened(self, rater_id: str) -> ChatView:
        """The page as the person left it: the newest conversation and the list of all."""
        try:
            self._service.visitor(rater_id)
            conversations = self._service.conversations(rater_id)
            view = self._view(rater_id, conversations[0].id if conversations else None)
        except Exception as exc:
            return ChatView(problem=error_text(exc))
        return replace(view, conversations=tuple(titles(conversations)))

    def open(self, rater_id: str, conversation_id: str | None, *, tab: str) -> ChatView:
        """Another conversation of the person's; None starts a new one.

        A reply that the tab was showing goes on unseen and is found in its conversation later.
        """
        self._writing.pop((rater_id, tab), None)
        try:
            return self._view(rater_id, conversation_id)
        except Exception as exc:
            return ChatView(problem=error_text(exc))

    def served(self) -> str:
        """The adapter that new replies use."""
        return self._service.adapter

    async def send(self, rater_id: str, text: str, *, last_id: str | None, tab: str) -> Views:
        """Say something after the last message shown, and stream the answer."""
        try:
            if (rater_id, tab) in self._writing:
                raise RefusedError(STILL_WRITING)
            await self._service.check_fits(text)
            path = await asyncio.to_thread(self._ask_after, rater_id, last_id, text)
        except Exception as exc:
            view = await asyncio.to_thread(view_around, self._service, rater_id, last_id)
            yield replace(view, problem=error_text(exc), draft=text)
            return
        async with aclosing(self._answer(rater_id, path, tab=tab)) as views:
            async for view in views:
                yield view

    async def again(self, rater_id: str, *, last_id: str | None, tab: str) -> Views:
        """Answer the last question once more; the new reply is a sibling of the old one."""
        try:
            path = await asyncio.to_thread(self._path, rater_id, last_id)
            old = path[-1].id if path and path[-1].finish_reason in ("stop", "length") else None
            while path and path[-1].role != "user":
                path.pop()
            if not path:
                raise InvalidRequestError(NOTHING_SAID)
        except Exception as exc:
            yield ChatView(problem=error_text(exc))
            return
        answers = self._answer(rater_id, path, tab=tab, blind=False, retry_of=old)
        async with aclosing(answers) as views:
            async for view in views:
                yield view

    async def edit(self, rater_id: str, message_id: str, text: str, *, tab: str) -> Views:
        """Reword an own message; the new one is a sibling of the old and answered anew."""
        try:
            *above, old = await asyncio.to_thread(self._path, rater_id, message_id)
            if old.role == "assistant":
                raise InvalidRequestError(f"{message_id} is a reply; only questions are reworded")
            await self._service.check_fits(text)
            said = await asyncio.to_thread(
                self._service.ask,
                rater_id,
                text,
                conversation_id=old.conversation_id,
                parent_id=old.parent_id,
            )
        except Exception as exc:
            view = await asyncio.to_thread(view_around, self._service, rater_id, message_id)
            yield replace(view, problem=error_text(exc))
            return
        async with aclosing(self._answer(rater_id, [*above, said], tab=tab)) as views:
            async for view in views:
                yield view

    async def stop(self, rater_id: str, *, tab: str) -> None:
        """End the reply that is being written for this person's tab."""
        writing = self._writing.get((rater_id, tab))
        if writing is not None:
            writing.cancel()

    # Inside

    async def _answer(
        self,
        rater_id: str,
        path: Sequence[Message],
        *,
        tab: str,
        blind: bool | None = None,
        retry_of: str | None = None,
    ) -> Views:
        """Stream one reply, or two when it is their turn; the last view is read from the store.

        A task of its own writes, so that it can be stopped while it waits, and so that it goes on
        when the tab turns to something else.
        """
        key = (rater_id, tab)
        views: asyncio.Queue[ChatView | None] = asyncio.Queue()
        write = self._write(rater_id, path, views.put_nowait, blind=blind, retry_of=retry_of)
        writing = self._writing[key] = asyncio.create_task(write)
        writing.add_done_callback(lambda _: views.put_nowait(None))
        try:
            while (view := await views.get()) is not None:
                if self._writing.get(key) is writing:
                    yield view
        finally:  # also when the tab is closed
            watched = self._writing.get(key) is writing
            if watched:
                del self._writing[key]
            writing.cancel()
            await asyncio.wait({writing})
            failure = None if writing.cancelled() else writing.exception()
        if watched:
            problem = error_text(failure) if failure else ""
            yield await asyncio.to_thread(self._answered, rater_id, path[-1], problem)

    async def _write(
        self,
        rater_id: str,
        path: Sequence[Message],
        show: Callable[[ChatView], None],
        *,
        blind: bool | None,
        retry_of: str | None,
    ) -> None:
        """Show the question alone, then what is written under it."""
        view = await asyncio.to_thread(self._asked, rater_id, path[-1])
        if blind is None:
            blind = await asyncio.to_thread(self._turn_for_two, rater_id, view)
        show(replace(view, busy=True, draft=""))
        texts, shown_at = {"a": "", "b": ""}, 0.0
        pieces = (
            self._service.candidates(rater_id, path)
            if blind
            else self._service.reply(path, retry_of=retry_of)
        )
        async with aclosing(pieces) as arriving:
            async for piece in arriving:
                texts[getattr(piece, "label", "a")] += piece.text
                if time.monotonic() - shown_at >= UPDATE_S:
                    shown_at = time.monotonic()
                    pair = view.writing_pair(texts["a"], texts["b"])
                    show(pair if blind else view.writing(texts["a"]))

    def _asked(self, rater_id: str, said: Message) -> ChatView:
        """The branch down to a question that has no answer yet."""
        found = self._service.conversation(rater_id, conversation_id=said.conversation_id)
        conversations = tuple(titles(self._service.conversations(rater_id)))
        return replace(branch_of(found, said), conversations=conversations)

    def _answered(self, rater_id: str, said: Message, problem: str) -> ChatView:
        """The conversation after an answer, or after the attempt at one."""
        try:
            view = self._view(rater_id, said.conversation_id)
        except Exception as exc:
            return ChatView(problem=problem or error_text(exc))
        unanswered = view.pair is None and view.last_id == said.id
        return replace(view, problem=problem, note=NO_REPLY if unanswered else "")

    def _turn_for_two(self, rater_id: str, view: ChatView) -> bool:
        turn = sum(message.role == "user" for message in view.messages)
        return self._service.shows_candidates(turn) and self._service.consented(rater_id)

    def _ask_after(self, rater_id: str, last_id: str | None, text: str) -> list[Message]:
        """Store what the person says; it replaces a question that never got an answer."""
        path = self._path(rater_id, last_id)
        conversation_id = path[-1].conversation_id if path else None
        while path and path[-1].role == "user":
            path.pop()
        parent_id = path[-1].id if path else None
        said = self._service.ask(
            rater_id, text, conversation_id=conversation_id, parent_id=parent_id
        )
        return [*path, said]

    def _path(self, rater_id: str, message_id: str | None) -> list[Message]:
        if message_id is None:
            return []
        return self._service.conversation(rater_id, message_id=message_id).path(message_id)

    def _view(self, rater_id: str, conversation_id: str | None) -> ChatView:
        if conversation_id is None:
            return ChatView()
        return view_of(self._service.conversation(rater_id, conversation_id=conversation_id))


def view_around(service: ChatService, rater_id: str, message_id: str | None) -> ChatView:
    """The conversation around a message, or an empty view if it is not the person's."""
    try:
        return view_of(service.conversation(rater_id, message_id=message_id))
    except (ChatAppError, FeedbackStoreError):
        return ChatView()
