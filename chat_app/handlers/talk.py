"""Talking: open a conversation, send, stop, retry, edit.

Invariant: views are rebuilt from the store when a stream ends, however it ends, so that the page
never shows a reply that is not kept. Nothing is remembered here except which streams are running,
so that the person who started one can stop it.
"""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace

from chat_app.errors import InvalidRequestError, RefusedError
from chat_app.handlers.views import ChatView, titles, told, view_at, view_of
from chat_app.service.chat import ChatService
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
        self._stops: dict[tuple[str, str], asyncio.Event] = {}

    def opened(self, rater_id: str) -> ChatView:
        """The page as the person left it: the newest conversation and the list of all."""
        try:
            self._service.visitor(rater_id)
            conversations = self._service.conversations(rater_id)
            newest = conversations[0].id if conversations else None
            view = view_of(self._service, rater_id, newest)
        except Exception as exc:
            return ChatView(problem=told(exc))
        return replace(view, conversations=tuple(titles(conversations)))

    def open(self, rater_id: str, conversation_id: str | None, *, tab: str) -> ChatView:
        """Another conversation of the person's; None starts a new one.

        A reply that the tab was showing goes on unseen and is found in its conversation later.
        """
        self._stops.pop((rater_id, tab), None)
        try:
            return view_of(self._service, rater_id, conversation_id)
        except Exception as exc:
            return ChatView(problem=told(exc))

    def served(self) -> str:
        """The adapter that new replies use."""
        return self._service.adapter

    async def send(self, rater_id: str, text: str, *, last_id: str | None, tab: str) -> Views:
        """Say something after the last message shown, and stream the answer."""
        try:
            if (rater_id, tab) in self._stops:
                raise RefusedError(STILL_WRITING)
            await self._service.check_fits(text)
            said = await asyncio.to_thread(self._ask_after, rater_id, last_id, text)
        except Exception as exc:
            view = await asyncio.to_thread(view_at, self._service, rater_id, last_id)
            yield replace(view, problem=told(exc), draft=text)
            return
        async with aclosing(self._answer(rater_id, said, tab=tab)) as views:
            async for view in views:
                yield view

    async def again(self, rater_id: str, *, last_id: str | None, tab: str) -> Views:
        """Answer the last question once more; the new reply is a sibling of the old one."""
        try:
            path = await asyncio.to_thread(self._path, rater_id, last_id)
            said = next(message for message in reversed(path) if message.role == "user")
            old = path[-1].id if path[-1].finish_reason in ("stop", "length") else None
        except StopIteration:
            yield ChatView(problem=NOTHING_SAID)
            return
        except Exception as exc:
            yield ChatView(problem=told(exc))
            return
        answers = self._answer(rater_id, said, tab=tab, blind=False, retry_of=old)
        async with aclosing(answers) as views:
            async for view in views:
                yield view

    async def edit(self, rater_id: str, message_id: str, text: str, *, tab: str) -> Views:
        """Reword an own message; the new one is a sibling of the old and answered anew."""
        try:
            old = (await asyncio.to_thread(self._path, rater_id, message_id))[-1]
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
            view = await asyncio.to_thread(view_at, self._service, rater_id, message_id)
            yield replace(view, problem=told(exc))
            return
        async with aclosing(self._answer(rater_id, said, tab=tab)) as views:
            async for view in views:
                yield view

    async def stop(self, rater_id: str, *, tab: str) -> None:
        """End the stream that this person's tab is showing."""
        stop = self._stops.get((rater_id, tab))
        if stop is not None:
            stop.set()

    # Inside

    async def _answer(
        self,
        rater_id: str,
        said: Message,
        *,
        tab: str,
        blind: bool | None = None,
        retry_of: str | None = None,
    ) -> Views:
        """Stream one reply, or two when it is their turn; the last view is read from the store."""
        key, stop = (rater_id, tab), asyncio.Event()
        self._stops[key] = stop
        problem = ""
        try:
            views = self._writing(rater_id, said, blind=blind, retry_of=retry_of)
            async with aclosing(_until(stop, views)) as shown:
                async for writing in shown:
                    if self._stops.get(key) is stop:  # else the tab shows something else by now
                        yield writing
        except Exception as exc:
            problem = told(exc)
        finally:
            watched = self._stops.get(key) is stop
            if watched:
                del self._stops[key]
        if watched:
            yield await asyncio.to_thread(self._answered, rater_id, said, problem)

    async def _writing(
        self, rater_id: str, said: Message, *, blind: bool | None, retry_of: str | None
    ) -> Views:
        """The question alone, then what is written under it."""
        view = await asyncio.to_thread(self._asked, rater_id, said)
        if blind is None:
            blind = await asyncio.to_thread(self._turn_for_two, rater_id, view)
        yield replace(view, busy=True, draft="")
        if blind:
            views = self._two(rater_id, said, view)
        else:
            views = self._one(rater_id, said, view, retry_of=retry_of)
        async with aclosing(views) as shown:
            async for writing in shown:
                yield writing

    async def _one(
        self, rater_id: str, said: Message, view: ChatView, *, retry_of: str | None
    ) -> Views:
        text, shown_at = "", 0.0
        reply = self._service.reply(rater_id, said.id, retry_of=retry_of)
        async with aclosing(reply) as pieces:
            async for piece in pieces:
                text += piece.text
                if time.monotonic() - shown_at >= UPDATE_S:
                    shown_at = time.monotonic()
                    yield view.writing(text)

    async def _two(self, rater_id: str, said: Message, view: ChatView) -> Views:
        texts, shown_at = {"a": "", "b": ""}, 0.0
        async with aclosing(self._service.candidates(rater_id, said.id)) as pieces:
            async for piece in pieces:
                texts[piece.label] = texts.get(piece.label, "") + piece.text
                if time.monotonic() - shown_at >= UPDATE_S:
                    shown_at = time.monotonic()
                    yield view.writing_pair(texts["a"], texts["b"])

    def _asked(self, rater_id: str, said: Message) -> ChatView:
        """The branch down to a question that has no answer yet."""
        view = view_at(self._service, rater_id, said.id)
        conversations = tuple(titles(self._service.conversations(rater_id)))
        return replace(view, conversations=conversations)

    def _answered(self, rater_id: str, said: Message, problem: str) -> ChatView:
        """The conversation after an answer, or after the attempt at one."""
        try:
            view = view_of(self._service, rater_id, said.conversation_id)
        except Exception as exc:
            return ChatView(problem=problem or told(exc))
        unanswered = view.pair is None and view.last_id == said.id
        return replace(view, problem=problem, note=NO_REPLY if unanswered else "")

    def _turn_for_two(self, rater_id: str, view: ChatView) -> bool:
        turn = sum(message.role == "user" for message in view.messages)
        return self._service.shows_candidates(turn) and self._service.consented(rater_id)

    def _ask_after(self, rater_id: str, last_id: str | None, text: str) -> Message:
        """Store what the person says; it replaces a question that never got an answer."""
        path = self._path(rater_id, last_id)
        conversation_id = path[-1].conversation_id if path else None
        while path and path[-1].role == "user":
            path.pop()
        parent_id = path[-1].id if path else None
        return self._service.ask(
            rater_id, text, conversation_id=conversation_id, parent_id=parent_id
        )

    def _path(self, rater_id: str, message_id: str | None) -> list[Message]:
        return self._service.path(rater_id, message_id) if message_id else []


async def _until(stop: asyncio.Event, views: Views) -> Views:
    """Pass views on until the event is set, also while waiting for the next one."""
    stopped = asyncio.ensure_future(stop.wait())
    try:
        while not stop.is_set():
            coming = asyncio.ensure_future(anext(views, None))
            try:
                await asyncio.wait({coming, stopped}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                if not coming.done():
                    coming.cancel()
                    await asyncio.wait({coming})
            if coming.cancelled() or (view := coming.result()) is None:
                return
            yield view
    finally:
        stopped.cancel()
        await views.aclose()
