"""The chat page's events about messages: open a conversation, send, stop, try again, edit.

The way of a token: `_write` puts a view with the longer text into a queue, `_answer` takes it out,
and the event's method (`send`, `again`, `edit`) yields it to the page.

Invariant: when a stream ends, for whatever reason, the view is rebuilt from the store, so the page
never shows a reply that is not stored, unless the disk is full, and then it says so. `Talk`
remembers only which task writes for which tab, so that the person can stop it.
"""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import replace

from chat_app.errors import ChatAppError, InvalidRequestError, RefusedError
from chat_app.handlers.views import ChatView, Shown, branch_of, error_text, titles, view_of
from chat_app.service.chat import ChatService, Room
from chat_app.service.replies import NOT_STORED, ReplyPiece
from feedback_store.errors import FeedbackStoreError, StoreUnavailableError
from feedback_store.records import Message, PromptMessage

log = logging.getLogger(__name__)

UPDATE_S = 0.1  # least time between two views of one stream; each costs about 1 ms of CPU
NO_REPLY = "There is no reply. Press “Try again”, or send another message."
STILL_WRITING = "The last reply is still being written. Wait for it, or stop it."
NOTHING_SAID = "There is nothing to answer yet. Write a message first."

Views = AsyncGenerator[ChatView, None]


class NotStoredError(Exception):
    """A reply that was written and could not be stored: the one that a view shows all the same."""

    def __init__(self, view: ChatView) -> None:
        super().__init__(NOT_STORED)
        self.view = view


class Talk:
    """What a person can do with conversations; ``rater_id`` comes from the signed cookie."""

    def __init__(self, service: ChatService) -> None:
        self._service = service
        self._writing: dict[tuple[str, str], asyncio.Task[None]] = {}  # by rater and tab
        self._asking: set[tuple[str, str]] = set()  # what is being stored, before that

    def opened(self, rater_id: str) -> ChatView:
        """The page when it is opened: the newest conversation, and the list of all."""
        try:
            self._service.visitor(rater_id)
            conversations = self._service.conversations(rater_id)
            view = self._view(rater_id, conversations[0].id if conversations else None)
        except Exception as exc:
            return ChatView(problem=error_text(exc))
        return replace(view, conversations=tuple(titles(conversations)))

    def open(self, rater_id: str, conversation_id: str | None, *, tab: str) -> ChatView:
        """Show another conversation of the person; None starts a new one.

        A reply that is being written in this tab goes on, and its conversation shows it later.
        """
        self._writing.pop((rater_id, tab), None)
        try:
            return self._view(rater_id, conversation_id)
        except Exception as exc:
            return ChatView(problem=error_text(exc))

    async def send(self, rater_id: str, text: str, *, last_id: str | None, tab: str) -> Views:
        """Store a message after the last one shown, and stream the answer."""
        try:
            with self._free((rater_id, tab)):
                last_id = await asyncio.to_thread(self._known, rater_id, last_id)
                conversation_id, above = await asyncio.to_thread(self._above, rater_id, last_id)
                parent_id = above[-1].id if above else None
                said, room, two = await self._say(rater_id, text, above, conversation_id, parent_id)
        except Exception as exc:
            view = await asyncio.to_thread(self._view_around, rater_id, last_id)
            # a text that is too long stays where it is: it is not sent back
            draft = text if len(text) <= self._service.settings.limits.message_chars else None
            yield replace(view, problem=error_text(exc), draft=draft)
            return
        answers = self._answer(rater_id, [*above, said], tab=tab, two=two, room=room)
        async with aclosing(answers) as views:
            async for view in views:
                yield view

    async def again(self, rater_id: str, *, last_id: str | None, tab: str) -> Views:
        """Answer the last user message again; the new reply is a sibling of the old one."""
        try:
            with self._free((rater_id, tab)):
                path = await asyncio.to_thread(self._path, rater_id, last_id)
            old = path[-1].id if path and path[-1].finish_reason in ("stop", "length") else None
            while path and path[-1].role != "user":
                path.pop()
            if not path:
                raise InvalidRequestError(NOTHING_SAID)
        except Exception as exc:
            yield ChatView(problem=error_text(exc))
            return
        answers = self._answer(rater_id, path, tab=tab, retry_of=old)
        async with aclosing(answers) as views:
            async for view in views:
                yield view

    async def edit(self, rater_id: str, message_id: str, text: str, *, tab: str) -> Views:
        """Store a changed message as a sibling of the old one, and stream its answer."""
        try:
            *above, old = await asyncio.to_thread(self._path, rater_id, message_id)
            if old.role == "assistant":
                raise InvalidRequestError(f"{message_id} is a reply; edit a message of your own")
            with self._free((rater_id, tab)):
                said, room, two = await self._say(
                    rater_id, text, above, old.conversation_id, old.parent_id
                )
        except Exception as exc:
            view = await asyncio.to_thread(self._view_around, rater_id, message_id)
            yield replace(view, problem=error_text(exc))
            return
        answers = self._answer(rater_id, [*above, said], tab=tab, two=two, room=room)
        async with aclosing(answers) as views:
            async for view in views:
                yield view

    async def stop(self, rater_id: str, *, tab: str) -> None:
        """Stop the reply that is being written in this tab of the person."""
        writing = self._writing.get((rater_id, tab))
        if writing is not None:
            writing.cancel()

    # Inside

    @contextmanager
    def _free(self, key: tuple[str, str]) -> Iterator[None]:
        """Keep a tab for one message while it is stored: two sent at once would both be answered.

        Raises:
            RefusedError: A reply for the tab is being written, or a message stored.
        """
        if key in self._writing or key in self._asking:
            raise RefusedError(STILL_WRITING)
        self._asking.add(key)
        try:
            yield
        finally:
            self._asking.discard(key)

    async def _say(
        self,
        rater_id: str,
        text: str,
        above: Sequence[Message],
        conversation_id: str | None,
        parent_id: str | None,
    ) -> tuple[Message, Room, bool]:
        """Store a message, and keep room for its answer: one reply, or two (then the last is true).

        Over a full disk the message is not stored, and gets one reply.
        """
        turn = 1 + sum(message.role == "user" for message in above)
        two = await asyncio.to_thread(self._two_are_due, rater_id, turn)
        room = await self._service.room_to_answer(rater_id, text, above, n=2 if two else 1)
        try:
            said = await asyncio.to_thread(self._store, rater_id, text, conversation_id, parent_id)
            return said, room, two
        except StoreUnavailableError as exc:  # which ends no chat; the last view says so
            log.error("a message is not stored: %s", exc)
            said = self._service.unstored([PromptMessage(role="user", content=text)])[0]
            return said, room, False
        except BaseException:
            room()
            raise

    async def _answer(
        self,
        rater_id: str,
        path: Sequence[Message],
        *,
        tab: str,
        two: bool = False,
        retry_of: str | None = None,
        room: Room | None = None,
    ) -> Views:
        """Stream one reply, or two blind ones where due; the last view is read from the store.

        A separate task writes. So it can be stopped while it waits, and it goes on when the tab
        shows another conversation.
        """
        key = (rater_id, tab)
        views: asyncio.Queue[ChatView | None] = asyncio.Queue()
        write = self._write(rater_id, path, views.put_nowait, two=two, retry_of=retry_of, room=room)
        writing = self._writing[key] = asyncio.create_task(write)
        writing.add_done_callback(lambda _: views.put_nowait(None))
        try:
            while (view := await views.get()) is not None:
                if self._writing.get(key) is writing:
                    yield view
        finally:  # also if the tab is closed
            watched = self._writing.get(key) is writing
            if watched:
                del self._writing[key]
            writing.cancel()
            await asyncio.wait({writing})
            if room is not None:
                room()
            failure = None if writing.cancelled() else writing.exception()
        if isinstance(failure, NotStoredError):
            yield replace(failure.view, busy=False, problem=f"Sorry: {NOT_STORED}.")
        elif watched:
            problem = error_text(failure) if failure else ""
            yield await asyncio.to_thread(self._answered, rater_id, path, problem)

    async def _write(
        self,
        rater_id: str,
        path: Sequence[Message],
        show: Callable[[ChatView], None],
        *,
        two: bool,
        retry_of: str | None,
        room: Room | None,
    ) -> None:
        """Show the user message alone, then the text of one reply or two as it arrives."""
        view = await asyncio.to_thread(self._asked, rater_id, path)
        show(replace(view, busy=True, draft=""))
        texts, shown_at = {"a": "", "b": ""}, 0.0
        pieces = (
            self._service.candidates(rater_id, path, room=room)
            if two
            else self._service.reply(rater_id, path, retry_of=retry_of, room=room)
        )
        async with aclosing(pieces) as arriving:
            async for piece in arriving:
                texts[piece.label] += piece.text
                if time.monotonic() - shown_at >= UPDATE_S:
                    shown_at = time.monotonic()
                    pair = view.writing_pair(texts["a"], texts["b"])
                    show(pair if two else view.writing(texts["a"]))
                if isinstance(piece, ReplyPiece) and not piece.stored:
                    raise NotStoredError(view.writing(texts["a"]))

    def _asked(self, rater_id: str, path: Sequence[Message]) -> ChatView:
        """The branch down to a user message that has no reply yet."""
        *above, said = path
        if not said.id:
            view = self._branch(rater_id, above)
            return replace(view, messages=(*view.messages, Shown("", said.role, said.content)))
        conversations = tuple(titles(self._service.conversations(rater_id)))
        return replace(self._branch(rater_id, path), conversations=conversations)

    def _answered(self, rater_id: str, path: Sequence[Message], problem: str) -> ChatView:
        """The conversation after a reply, or after a failed attempt at one."""
        *above, said = path
        try:
            if not said.id:
                return replace(self._branch(rater_id, above), problem=problem, draft=said.content)
            view = self._view(rater_id, said.conversation_id)
        except Exception as exc:
            return ChatView(problem=problem or error_text(exc))
        unanswered = view.pair is None and view.last_id == said.id
        return replace(view, problem=problem, note=NO_REPLY if unanswered else "")

    def _branch(self, rater_id: str, path: Sequence[Message]) -> ChatView:
        """The messages down to the end of a path; an empty view of an empty one."""
        if not path:
            return ChatView()
        found = self._service.conversation(rater_id, message_id=path[-1].id)
        return branch_of(found, path[-1])

    def _two_are_due(self, rater_id: str, turn: int) -> bool:
        return self._service.shows_candidates(turn) and self._service.consented(rater_id)

    def _store(
        self, rater_id: str, text: str, conversation_id: str | None, parent_id: str | None
    ) -> Message:
        self._service.visitor(rater_id)
        return self._service.ask(
            rater_id, text, conversation_id=conversation_id, parent_id=parent_id
        )

    def _known(self, rater_id: str, last_id: str | None) -> str | None:
        """The last message; None for a visitor who is new, or who was forgotten meanwhile."""
        return last_id if self._service.knows(rater_id) else None

    def _above(self, rater_id: str, last_id: str | None) -> tuple[str | None, list[Message]]:
        """The conversation that goes on, and what a new message follows in it.

        The new message replaces a user message that got no reply.
        """
        path = self._path(rater_id, last_id)
        conversation_id = path[-1].conversation_id if path else None
        while path and path[-1].role == "user":
            path.pop()
        return conversation_id, path

    def _path(self, rater_id: str, message_id: str | None) -> list[Message]:
        if message_id is None:
            return []
        return self._service.conversation(rater_id, message_id=message_id).path(message_id)

    def _view(self, rater_id: str, conversation_id: str | None) -> ChatView:
        if conversation_id is None:
            return ChatView()
        return view_of(self._service.conversation(rater_id, conversation_id=conversation_id))

    def _view_around(self, rater_id: str, message_id: str | None) -> ChatView:
        """The conversation that has a message; an empty view if it is not the person's."""
        if message_id is None:
            return ChatView()
        try:
            return view_of(self._service.conversation(rater_id, message_id=message_id))
        except (ChatAppError, FeedbackStoreError):
            return ChatView()
