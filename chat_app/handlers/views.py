"""What the chat page shows, as plain values made from the store's rows.

Invariant: a view depends on the stored rows alone, so a reload, a restart or a second tab shows the
same. The page sends back only ids that it was shown, and the service checks on every call whose
they are. A conversation is a tree; the page shows the branch of its newest message.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

from chat_app.errors import ChatAppError, text_for_visitor
from feedback_store.errors import FeedbackStoreError
from feedback_store.records import Conversation, ConversationView, Message

log = logging.getLogger(__name__)

TITLE_CHARS = 42
UNEXPECTED = "That did not work: an error on the server. Its log has the details."


@dataclass(frozen=True, slots=True)
class Shown:
    """One message on the page; ``thumb`` is the person's own present thumb (0 = none).

    A message that is not stored, or not yet, has an empty id.
    """

    id: str
    role: str
    content: str
    thumb: int = 0
    finish_reason: str | None = None


@dataclass(frozen=True, slots=True)
class BlindPair:
    """Two blind replies to the last message; the id is empty until they are stored."""

    id: str
    a: str
    b: str


@dataclass(frozen=True, slots=True)
class ChatView:
    """The conversation after an event, and a message to the person about the event."""

    messages: tuple[Shown, ...] = ()
    pair: BlindPair | None = None
    conversation_id: str | None = None
    busy: bool = False
    note: str = ""  # a quiet line under the conversation
    problem: str = ""  # a warning; nothing was saved unless it says so
    draft: str | None = None  # the new content of the text box; None leaves it as it is
    conversations: tuple[tuple[str, str], ...] | None = None  # (title, id); None = no change

    @property
    def last_id(self) -> str | None:
        """The message that the next turn follows: the last one that is stored."""
        return next((message.id for message in reversed(self.messages) if message.id), None)

    def writing(self, text: str) -> "ChatView":
        """The same view with the text so far of a reply."""
        reply = Shown("", "assistant", text)
        return replace(self, messages=(*self.messages, reply), busy=True)

    def writing_pair(self, a: str, b: str) -> "ChatView":
        """The same view with the text so far of two blind replies."""
        return replace(self, pair=BlindPair("", a, b), busy=True)


@dataclass(frozen=True, slots=True)
class Panel:
    """The feedback panel of one reply: the person's thumb, with its reasons and comment."""

    message_id: str
    content: str
    value: int
    tags: tuple[str, ...] = ()
    comment: str = ""


@dataclass(frozen=True, slots=True)
class Asked:
    """A gold question: a prompt from outside the conversation, and two replies to compare.

    `prompt` is ``(role, content)`` of each message.
    """

    id: str
    prompt: tuple[tuple[str, str], ...]
    a: str
    b: str


def view_of(found: ConversationView) -> ChatView:
    """The branch of the newest message, with the person's thumbs and any open pair."""
    newest = found.messages[-1] if found.messages else None
    if newest is None or newest.candidates_id is None:
        return branch_of(found, newest)
    siblings = found.candidates(newest.candidates_id)
    choice = found.choices.get(newest.candidates_id)
    if choice is not None:
        return branch_of(found, chosen_of(siblings, choice.choice))
    view = branch_of(found, found.path(newest.parent_id)[-1])
    pair = BlindPair(newest.candidates_id, siblings[0].content, siblings[1].content)
    return replace(view, pair=pair)


def branch_of(found: ConversationView, leaf: Message | None) -> ChatView:
    """The messages down to ``leaf``, with the person's thumbs."""
    thumbs = {message_id: thumb.value for message_id, thumb in found.thumbs.items()}
    shown = tuple(
        Shown(m.id, m.role, m.content, thumbs.get(m.id, 0), m.finish_reason)
        for m in found.path(leaf.id if leaf else None)
        if m.role != "system"
    )
    return ChatView(messages=shown, conversation_id=found.conversation.id)


def panel_of(found: ConversationView, message_id: str) -> Panel | None:
    """The feedback panel of a reply; None for other messages."""
    message = found.path(message_id)[-1]
    if message.role != "assistant":
        return None
    thumb = found.thumbs.get(message_id)
    if thumb is None:
        return Panel(message.id, message.content, 0)
    return Panel(message.id, message.content, thumb.value, thumb.tags, thumb.comment)


def chosen_of(siblings: Sequence[Message], choice: str) -> Message:
    """The reply after which the conversation goes on: the chosen one, else the first."""
    return next((message for message in siblings if message.label == choice), siblings[0])


def titles(conversations: list[Conversation]) -> list[tuple[str, str]]:
    """``(title, id)`` of each conversation, in the order given, for the page's list."""
    return [(short(c.title) or "Untitled", c.id) for c in conversations]


def short(text: str, limit: int = TITLE_CHARS) -> str:
    """A text as one line, cut at ``limit`` characters with an ellipsis."""
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 1].rstrip() + "…"


def error_text(error: BaseException) -> str:
    """An error as one sentence for the person; the log gets the details of an unexpected one."""
    if isinstance(error, ChatAppError | FeedbackStoreError):
        return text_for_visitor(error)
    log.error("a page event failed", exc_info=error)
    return UNEXPECTED
