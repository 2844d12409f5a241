"""The functions that the chat page calls. The rules are in `chat_app.handlers`."""

from dataclasses import dataclass

import gradio as gr

from chat_app.errors import NotFoundError
from chat_app.handlers.talk import Talk
from chat_app.handlers.versions import Version, served_version
from chat_app.handlers.views import ChatView, Listed, ShownThumb
from chat_app.handlers.votes import Asked, Chosen, Votes
from chat_app.pages.events import Event, visitor
from chat_app.service.chat import ChatService
from chat_app.service.voting import REASONS
from feedback_store.records import Conversation

EXAMPLES = {
    True: (
        "What is the capital of Italy?",
        "Politely, what is the opposite of hot?",
        "List three animals.",
    ),
    False: (
        "Why is the sky blue? Answer in two sentences.",
        "Give me three ideas for a rainy Sunday.",
        "Write a short thank-you note to a neighbour.",
    ),
}


@dataclass(frozen=True, slots=True)
class Opening:
    """What the page shows first.

    `reasons` are those that can be given, by the value of a thumb, or by a choice. `missing` is
    whether there is no conversation as the address names it; then `deleted` is that conversation,
    if it can be restored.
    """

    view: ChatView
    listed: Listed
    consented: bool
    version: Version
    reasons: dict[int | str, tuple[str, ...]]
    examples: tuple[str, ...]
    missing: bool = False
    deleted: Conversation | None = None


class ChatEvents:
    """The functions, over one service."""

    def __init__(self, service: ChatService) -> None:
        self._service = service
        self.talk = Talk(service)
        self._votes = Votes(service)

    def functions(self) -> list[Event]:
        """All of them; each is called by its own name."""
        return [
            self.chat_opened,
            self.chat_conversations,
            self.chat_open,
            self.chat_newest,
            self.chat_deleted,
            self.chat_fits,
            self.chat_rename,
            self.chat_pin,
            self.chat_delete,
            self.chat_restore,
            self.chat_send,
            self.chat_edit,
            self.chat_again,
            self.chat_stop,
            self.chat_consent,
            self.chat_thumb,
            self.chat_choose,
            self.chat_compare_with_before,
            self.chat_rewrite,
            self.chat_asked,
            self.chat_answer,
        ]

    # Conversations

    def chat_opened(
        self, conversation_id: str | None, through: str | None, request: gr.Request
    ) -> Opening:
        """The page when it is opened, with the conversation that its address names."""
        service, rater_id = self._service, visitor(request)
        view, missing, deleted = ChatView(), False, None
        if conversation_id is not None:
            try:
                view = self.talk.open(rater_id, conversation_id, through=through)
            except NotFoundError:
                missing = True
                deleted = service.store.deleted_conversation(rater_id, conversation_id)
        return Opening(
            view=view,
            listed=self.talk.listed(rater_id),
            consented=self._votes.consented(rater_id),
            version=served_version(service.store),
            reasons=REASONS,
            examples=EXAMPLES[service.settings.is_starter],
            missing=missing,
            deleted=deleted,
        )

    def chat_conversations(self, query: str, most: int, request: gr.Request) -> Listed:
        """The first of the person's conversations, or of those with the words of a query."""
        return self.talk.listed(visitor(request), query, most=most)

    def chat_deleted(self, request: gr.Request) -> tuple[Conversation, ...]:
        """What the person has deleted and can restore."""
        return tuple(self._service.store.deleted_conversations(visitor(request)))

    def chat_rename(self, conversation_id: str, title: str, request: gr.Request) -> Conversation:
        """Give a conversation another title."""
        return self._service.store.rename_conversation(visitor(request), conversation_id, title)

    def chat_pin(self, conversation_id: str, pinned: bool, request: gr.Request) -> Conversation:
        """Keep a conversation at the top of the list, or not."""
        return self._service.store.pin_conversation(visitor(request), conversation_id, pinned)

    def chat_delete(self, conversation_id: str, request: gr.Request) -> int:
        """Delete a conversation; returns how many votes in it no longer count."""
        return self._service.delete_conversation(visitor(request), conversation_id)

    def chat_restore(self, conversation_id: str, request: gr.Request) -> Conversation:
        """Take a deletion back."""
        return self._service.restore_conversation(visitor(request), conversation_id)

    def chat_open(
        self, conversation_id: str, through: str | None, to: str | None, request: gr.Request
    ) -> ChatView:
        """A conversation: its newest branch, the one through a message, or down to a message."""
        return self.talk.open(visitor(request), conversation_id, through=through, to=to)

    def chat_newest(self, conversation_id: str, request: gr.Request) -> str | None:
        """The newest message of a conversation."""
        return self.talk.newest(visitor(request), conversation_id)

    async def chat_fits(self, text: str) -> int | None:
        """How many characters of a message the model can read; none if that is all of it."""
        return await self._service.fits(text)

    async def chat_send(
        self, text: str, below: str | None, newest: str | None, request: gr.Request
    ) -> ChatView:
        """Send a message; `GET /follow` has the reply."""
        return await self.talk.send(visitor(request), text, below=below, newest=newest)

    async def chat_edit(self, message_id: str, text: str, request: gr.Request) -> ChatView:
        """Send a changed message in place of one."""
        return await self.talk.edit(visitor(request), message_id, text)

    async def chat_again(self, message_id: str, request: gr.Request) -> ChatView:
        """Have a reply written anew."""
        return await self.talk.again(visitor(request), message_id)

    async def chat_stop(self, prompt_id: str, request: gr.Request) -> None:
        """Stop the reply to a message."""
        await self.talk.stop(visitor(request), prompt_id)

    # Votes

    def chat_consent(self, given: bool, request: gr.Request) -> bool:
        """Agree that votes train the model, or withdraw that."""
        return self._votes.consent(visitor(request), given=given)

    def chat_thumb(
        self,
        message_id: str,
        value: int,
        tags: list[str] | None,
        comment: str | None,
        request: gr.Request,
    ) -> ShownThumb | None:
        """Thumb a reply up or down, with reasons or those of before, or take the thumb back."""
        rater_id = visitor(request)
        return self._votes.thumb(rater_id, message_id, value, tags=tags, comment=comment)

    def chat_choose(
        self, candidates_id: str, choice: str, seconds: float | None, request: gr.Request
    ) -> Chosen:
        """Choose between two blind replies."""
        return self._votes.choose(visitor(request), candidates_id, choice, seconds=seconds)

    def chat_compare_with_before(self, message_id: str, said: str, request: gr.Request) -> str:
        """Say how a reply is beside the one that it replaced."""
        return self._votes.compare_with_before(visitor(request), message_id, said)

    def chat_rewrite(self, message_id: str, text: str, request: gr.Request) -> str:
        """Write a better answer than a reply."""
        return self._votes.rewrite(visitor(request), message_id, text)

    def chat_asked(self, request: gr.Request) -> Asked | None:
        """A gold question, if one is due."""
        return self._votes.asked(visitor(request))

    def chat_answer(self, candidates_id: str, choice: str, request: gr.Request) -> None:
        """Answer a gold question."""
        self._votes.answer(visitor(request), candidates_id, choice)
