"""What the chat page shows, as plain values derived from the store.

Invariant: a view is a function of the stored rows alone, so that a reload, a restart or a second
tab shows the same thing. The page sends back the ids that it was shown and nothing else; whose
they are is checked on every call.
Rows: a conversation is a tree; the page shows the branch of its newest message.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

from chat_app.errors import ChatAppError
from chat_app.service.chat import ChatService
from feedback_store.errors import FeedbackStoreError
from feedback_store.records import Conversation, Message

log = logging.getLogger(__name__)

TITLE_CHARS = 42
UNEXPECTED = "Something went wrong on the server, and that did not work. Its log has the details."


@dataclass(frozen=True, slots=True)
class Shown:
    """One message on the page; ``thumb`` is the viewer's own present vote (0 = none)."""

    id: str
    role: str
    content: str
    thumb: int = 0
    finish_reason: str | None = None


@dataclass(frozen=True, slots=True)
class BlindPair:
    """Two blind replies to the last message; the id is empty while they are being written."""

    id: str
    a: str
    b: str


@dataclass(frozen=True, slots=True)
class ChatView:
    """The conversation after an event, and what to tell the person about the event."""

    messages: tuple[Shown, ...] = ()
    pair: BlindPair | None = None
    conversation_id: str | None = None
    busy: bool = False
    note: str = ""  # a quiet line under the conversation
    problem: str = ""  # a warning; nothing was saved beyond what it says
    draft: str | None = None  # what the text box holds now; None leaves it alone
    conversations: tuple[tuple[str, str], ...] | None = None  # (title, id); None = as before

    @property
    def last_id(self) -> str | None:
        """The message that the next turn follows."""
        return self.messages[-1].id if self.messages else None

    def writing(self, text: str) -> "ChatView":
        """The same view with a reply being written under it."""
        reply = Shown("", "assistant", text)
        return replace(self, messages=(*self.messages, reply), busy=True)

    def writing_pair(self, a: str, b: str) -> "ChatView":
        """The same view with two blind replies being written under it."""
        return replace(self, pair=BlindPair("", a, b), busy=True)


@dataclass(frozen=True, slots=True)
class Panel:
    """The feedback panel of one reply: the person's vote so far, to be explained or improved."""

    message_id: str
    content: str
    value: int
    tags: tuple[str, ...] = ()
    comment: str = ""


@dataclass(frozen=True, slots=True)
class Asked:
    """A comparison beside the conversation: other people's words, which of two replies is better.

    `prompt` is ``(role, content)`` of each message.
    """

    id: str
    prompt: tuple[tuple[str, str], ...]
    a: str
    b: str


def view_of(service: ChatService, rater_id: str, conversation_id: str | None) -> ChatView:
    """The branch of the newest message, with the viewer's votes and any open pair."""
    messages = service.messages(rater_id, conversation_id) if conversation_id else []
    if not messages:
        return ChatView()
    newest = messages[-1]
    if newest.candidates_id is None:
        return _branch(service, rater_id, newest)
    siblings = service.candidates_of(rater_id, newest.candidates_id).messages
    choice = service.choice_of(rater_id, newest.candidates_id)
    if choice is not None:
        return _branch(service, rater_id, chosen_of(siblings, choice.choice))
    above = next(message for message in messages if message.id == newest.parent_id)
    view = _branch(service, rater_id, above)
    return replace(
        view, pair=BlindPair(newest.candidates_id, siblings[0].content, siblings[1].content)
    )


def chosen_of(siblings: Sequence[Message], choice: str) -> Message:
    """The reply that the conversation goes on from: the chosen one, else the first."""
    return next((message for message in siblings if message.label == choice), siblings[0])


def titles(conversations: list[Conversation]) -> list[tuple[str, str]]:
    """``(title, id)`` of each conversation, in the order given, for the list of the page."""
    return [(short(c.title) or "Untitled", c.id) for c in conversations]


def short(text: str, limit: int = TITLE_CHARS) -> str:
    """The first line of a text, cut with an ellipsis."""
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 1].rstrip() + "…"


def _branch(service: ChatService, rater_id: str, leaf: Message) -> ChatView:
    shown = tuple(
        Shown(m.id, m.role, m.content, _thumb(service, rater_id, m), m.finish_reason)
        for m in service.path(rater_id, leaf.id)
        if m.role != "system"
    )
    return ChatView(messages=shown, conversation_id=leaf.conversation_id)


def _thumb(service: ChatService, rater_id: str, message: Message) -> int:
    return service.thumb_of(rater_id, message.id) if message.role == "assistant" else 0


def view_at(service: ChatService, rater_id: str, message_id: str | None) -> ChatView:
    """The conversation around a message, or an empty view if it is not the person's."""
    try:
        path = service.path(rater_id, message_id) if message_id else []
    except (ChatAppError, FeedbackStoreError):
        path = []
    return view_of(service, rater_id, path[-1].conversation_id if path else None)


def told(error: Exception) -> str:
    """An error as one sentence for the person; what is no one's business goes to the log."""
    if isinstance(error, ChatAppError | FeedbackStoreError):
        return str(error)
    log.error("an event of a page failed", exc_info=error)
    return UNEXPECTED
