"""The chat page's events about messages: open a conversation, send, stop, try again, edit, follow.

The way of a token: the service yields it, `Writing` adds it to a text, and `follow` sends what is
new to each page that reads. Invariant: once nothing more comes, the view is rebuilt from the store,
so a page never goes on from a reply that is not stored.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace

from chat_app.errors import BehindError, InvalidRequestError, RefusedError
from chat_app.handlers.views import (
    ChatView,
    Listed,
    SaidSentence,
    Shown,
    branch_through,
    branch_to,
    said,
    view_of,
)
from chat_app.handlers.writing import Writing
from chat_app.service.chat import ChatService, Room
from chat_app.service.replies import NOT_STORED
from chat_app.service.voting import not_found
from feedback_store.errors import StoreUnavailableError, say
from feedback_store.records import ConversationView, Message, PromptMessage
from feedback_store.sqlite.ids import new_id

log = logging.getLogger(__name__)

LISTED, MOST_LISTED = 100, 10_000  # conversations that are listed at once
TOLD_S = 60.0  # for which a reply that failed, or is not stored, can be asked for
STILL_WRITING = say("The last reply is still being written. Wait for it, or stop it.")


@dataclass(frozen=True, slots=True)
class Told:
    """What came since the last piece of a reply.

    `added` is by label: "a", and "b" where two are written. The last piece has the `view` after the
    reply, and the `problem`, if there was one, with the `sentence` by which a page says it.
    """

    added: dict[str, str] | None = None
    view: ChatView | None = None
    problem: str = ""
    sentence: SaidSentence | None = None


class Talk:
    """What a person can do with conversations; ``rater_id`` comes from the signed cookie."""

    def __init__(self, service: ChatService) -> None:
        self._service = service
        self._writing: dict[str, Writing] = {}  # by the message that is answered
        self._asking: set[tuple[str, str]] = set()  # conversations in which one is being stored

    def open(
        self,
        rater_id: str,
        conversation_id: str,
        *,
        through: str | None = None,
        to: str | None = None,
    ) -> ChatView:
        """A conversation of the person.

        Args:
            rater_id: The person.
            conversation_id: The conversation.
            through: Show the branch that goes through this message.
            to: Show the messages down to this one, and none below.
        """
        found = self._service.conversation(rater_id, conversation_id=conversation_id)
        known = {message.id for message in found.messages}
        writing = self._writing_in(rater_id, conversation_id)
        if to in known:
            view = branch_to(found, to)
        elif through in known:
            view = branch_through(found, through)
        elif writing is not None and writing.prompt_id in known:
            view = branch_to(found, writing.prompt_id)
        else:
            view = view_of(found)
        return _with(writing, view)

    async def send(
        self, rater_id: str, text: str, *, below: str | None, newest: str | None
    ) -> ChatView:
        """Store a message, and begin to answer it.

        Args:
            rater_id: The person.
            text: The message.
            below: The message that it follows; None begins a conversation.
            newest: The newest message of the conversation that the page knows.

        Raises:
            BehindError: The conversation went on in another tab.
        """
        found = await asyncio.to_thread(self._around, rater_id, below)
        above = found.path(below) if found else []
        while above and above[-1].role == "user":  # this one replaces one without a reply
            above.pop()
        if found is not None and found.messages[-1].id != newest:
            raise BehindError(say("This conversation went on in another tab."))
        parent = above[-1].id if above else None
        conversation_id = found.conversation.id if found else None
        return await self._ask(rater_id, text, above, conversation_id, parent)

    async def edit(self, rater_id: str, message_id: str, text: str) -> ChatView:
        """Store a changed message beside the old one, and begin to answer it."""
        found = await asyncio.to_thread(self._service.conversation, rater_id, message_id=message_id)
        *above, old = found.path(message_id)
        if old.role != "user":
            raise InvalidRequestError(say("this is a reply; edit a message of your own"))
        return await self._ask(rater_id, text, above, old.conversation_id, old.parent_id)

    async def again(self, rater_id: str, message_id: str) -> ChatView:
        """Begin another reply in place of one, or the first to a message that has none."""
        found = await asyncio.to_thread(self._service.conversation, rater_id, message_id=message_id)
        path = found.path(message_id)
        old = path.pop() if path[-1].role == "assistant" else None
        self._require_free(rater_id, found.conversation.id)
        whole = old is not None and old.finish_reason in ("stop", "length")
        retry_of, room = old.id if old and whole else None, self._service.require_room(rater_id)
        return await self._begin(rater_id, path, retry_of=retry_of, room=room)

    async def follow(self, rater_id: str, prompt_id: str) -> AsyncIterator[Told]:
        """Read the reply to a message while it is written; then the view from the store."""
        writing = self._writing.get(prompt_id)
        if writing is None or writing.rater_id != rater_id:
            view = await asyncio.to_thread(self._after, rater_id, prompt_id)
            yield Told(view=view)
            return
        async for added in writing.follow():
            yield Told(added=added)
        if writing.lost:
            problem = writing.problem or NOT_STORED
            yield Told(problem=problem, sentence=said(problem))
            return
        view = await asyncio.to_thread(self._after, rater_id, prompt_id)
        problem = writing.problem
        yield Told(view=view, problem=problem, sentence=said(problem) if problem else None)

    async def stop(self, rater_id: str, prompt_id: str) -> None:
        """Stop the reply to a message; what is written of it stays."""
        writing = self._writing.get(prompt_id)
        if writing is not None and writing.rater_id == rater_id:
            writing.stop()
            await writing.ended()

    async def close(self) -> None:
        """Stop all replies, when the server stops; what is written of them is stored."""
        writing = list(self._writing.values())
        for one in writing:  # all of them first, so that none goes on while another one is stored
            one.stop()
        for one in writing:
            await one.ended()

    def newest(self, rater_id: str, conversation_id: str) -> str | None:
        """The newest message of a conversation, by which a page knows whether it is behind."""
        with not_found():
            return self._service.store.newest_message(rater_id, conversation_id)

    def listed(self, rater_id: str, query: str = "", *, most: int = LISTED) -> Listed:
        """The first of the person's conversations, or of those that a query finds."""
        most = max(1, min(most, MOST_LISTED))
        found = self._service.conversations(rater_id, query, limit=most + 1)
        shown = tuple(found[:most])
        store = self._service.store
        passages = store.passages(rater_id, query, [one.id for one in shown])
        deleted = bool(store.deleted_conversations(rater_id, limit=1))
        return Listed(shown, len(found) > most, passages, deleted)

    # Inside

    async def _ask(
        self,
        rater_id: str,
        text: str,
        above: Sequence[Message],
        conversation_id: str | None,
        parent_id: str | None,
    ) -> ChatView:
        """Store a message, with room for its answer: one reply, or two where they are due.

        Over a full disk the message is not stored, and gets one reply all the same.
        """
        place = (rater_id, conversation_id or "")
        self._require_free(*place)
        self._asking.add(place)
        try:
            turn = 1 + sum(message.role == "user" for message in above)
            two = await asyncio.to_thread(self._two_are_due, rater_id, turn)
            room = await self._service.room_to_answer(rater_id, text, above, n=2 if two else 1)
            try:
                said = await asyncio.to_thread(
                    self._store, rater_id, text, conversation_id, parent_id
                )
            except StoreUnavailableError as exc:  # which ends no chat; the last piece says so
                log.error("a message is not stored: %s", exc)
                said, two = (
                    self._service.unstored([PromptMessage(role="user", content=text)])[0],
                    False,
                )
            except BaseException:
                room()
                raise
            return await self._begin(rater_id, [*above, said], two=two, room=room)
        finally:
            self._asking.discard(place)

    async def _begin(
        self,
        rater_id: str,
        path: Sequence[Message],
        *,
        two: bool = False,
        room: Room,
        retry_of: str | None = None,
    ) -> ChatView:
        """Begin to write the reply to the last message of a path; ``room`` is given back."""
        said = path[-1]
        key = said.id or new_id()
        try:
            pieces = (
                self._service.candidates(rater_id, path, room=room)
                if two
                else self._service.reply(rater_id, path, retry_of=retry_of, room=room)
            )
        except BaseException:
            room()
            raise
        writing = self._writing[key] = Writing(rater_id, said.conversation_id, key, two=two)
        task = writing.start(pieces)
        task.add_done_callback(lambda _: self._end(writing, room))
        view = await asyncio.to_thread(self._branch, rater_id, path)
        return replace(view, writing=key, two=two)

    def _end(self, writing: Writing, room: Room) -> None:
        """Forget a reply that is complete; those who follow it hold it themselves.

        What the store does not say of it is kept for a while, for a page that asks a little late.
        """
        room()
        if writing.failure or writing.lost:
            asyncio.get_running_loop().call_later(TOLD_S, self._forget, writing)
        else:
            self._forget(writing)

    def _forget(self, writing: Writing) -> None:
        if self._writing.get(writing.prompt_id) is writing:
            del self._writing[writing.prompt_id]

    def _require_free(self, rater_id: str, conversation_id: str) -> None:
        """Refuse a second reply at once: two messages sent together would both be answered."""
        asking = (rater_id, conversation_id) in self._asking
        if asking or self._writing_in(rater_id, conversation_id) is not None:
            raise RefusedError(STILL_WRITING)

    def _writing_in(self, rater_id: str, conversation_id: str) -> Writing | None:
        """The reply that is being written in a conversation; any thread may ask."""
        for one in list(self._writing.values()):
            if (one.rater_id, one.conversation_id) == (rater_id, conversation_id) and not one.done:
                return one
        return None

    def _branch(self, rater_id: str, path: Sequence[Message]) -> ChatView:
        """The messages of a path, of which the last one may not be stored."""
        stored = [message for message in path if message.id]
        view = ChatView()
        try:
            if stored:
                found = self._service.conversation(rater_id, message_id=stored[-1].id)
                view = branch_to(found, stored[-1].id)
        except StoreUnavailableError as exc:  # the message is stored; the last piece has its view
            log.error("a conversation cannot be read: %s", exc)
            said = tuple(Shown(m.id, m.role, m.content) for m in stored)
            view = ChatView(stored[-1].conversation_id, messages=said, newest=stored[-1].id)
        lost = (Shown("", m.role, m.content) for m in path if not m.id)
        return replace(view, messages=(*view.messages, *lost))

    def _after(self, rater_id: str, prompt_id: str) -> ChatView:
        """The conversation after the reply to a message, from the store."""
        found = self._service.conversation(rater_id, message_id=prompt_id)
        return branch_through(found, prompt_id)

    def _two_are_due(self, rater_id: str, turn: int) -> bool:
        return self._service.shows_candidates(turn) and self._service.consented(rater_id)

    def _store(
        self, rater_id: str, text: str, conversation_id: str | None, parent_id: str | None
    ) -> Message:
        self._service.visitor(rater_id)
        return self._service.ask(
            rater_id, text, conversation_id=conversation_id, parent_id=parent_id
        )

    def _around(self, rater_id: str, message_id: str | None) -> ConversationView | None:
        """The conversation that has a message; None for none, or for a person who was forgotten."""
        if message_id is None or not self._service.knows(rater_id):
            return None
        return self._service.conversation(rater_id, message_id=message_id)


def _with(writing: Writing | None, view: ChatView) -> ChatView:
    """The view, and which reply of it is being written."""
    if writing is None or not view.messages or view.messages[-1].id != writing.prompt_id:
        return view
    return replace(view, writing=writing.prompt_id, two=len(writing.texts) > 1)
