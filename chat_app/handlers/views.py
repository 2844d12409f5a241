"""What the chat page shows, as plain values made from the store's rows.

Invariant: a view depends on the stored rows alone, so a reload, a restart or a second tab shows the
same. The page sends back only ids that it was shown, and the service checks on every call whose
they are. A conversation is a tree; a page shows one branch of it, first that of its newest message.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from chat_app.errors import ChatAppError, text_for_visitor
from feedback_store.errors import FeedbackStoreError, Sentence, say
from feedback_store.feedback.conversation_list import Passage
from feedback_store.records import Conversation, ConversationView, Message

log = logging.getLogger(__name__)

Siblings = Mapping[tuple[str | None, str], tuple[str, ...]]
UNEXPECTED = say("That did not work: an error on the server. Its log has the details.")


@dataclass(frozen=True, slots=True)
class SaidSentence:
    """A sentence for the person: in English, and what it is made of, for other languages.

    A text that is no `Sentence`, such as a recorded one, has no template.
    """

    text: str
    template: str = ""
    values: Mapping[str, Any] = field(default_factory=dict)


def said(text: str, versions: Mapping[str, int] | None = None) -> SaidSentence:
    """A text as the pages get it; parts that are sentences themselves become `SaidSentence`, too.

    Args:
        text: The text.
        versions: Adapters that are called by their numbers (`FeedbackStore.versions`).
    """
    if not isinstance(text, Sentence):
        return SaidSentence(text)
    values = {name: _value(value, versions or {}) for name, value in text.values.items()}
    return SaidSentence(str(text), text.template, values)


def _value(value: Any, versions: Mapping[str, int]) -> Any:
    if isinstance(value, str) and value in versions:
        value = say("version {number}", number=versions[value])
    if isinstance(value, Sentence):
        return said(value, versions)
    return value if isinstance(value, int | float) else str(value)


@dataclass(frozen=True, slots=True)
class ShownThumb:
    """The person's present thumb on a reply: 1 or -1, with its reasons."""

    value: int
    tags: tuple[str, ...] = ()
    comment: str = ""


@dataclass(frozen=True, slots=True)
class Shown:
    """One message on the page.

    A message that is not stored has an empty id. `siblings` are the ids of all messages in its
    place, its own among them, oldest first; `candidates_id` is of those that were shown blind
    beside each other. `better` is the answer that the person wrote instead.
    `before` is the reply that it replaced, as long as the person has not compared the two.
    """

    id: str
    role: str
    content: str
    created_at: str = ""
    finish_reason: str | None = None
    siblings: tuple[str, ...] = ()
    candidates_id: str | None = None
    thumb: ShownThumb | None = None
    better: str | None = None
    before: str | None = None


@dataclass(frozen=True, slots=True)
class BlindPair:
    """Two blind replies to the last message that the person has not chosen between."""

    id: str
    a: Shown
    b: Shown


@dataclass(frozen=True, slots=True)
class ChatView:
    """One branch of a conversation.

    `newest` is the conversation's newest message on any branch: if another one comes, somebody
    wrote in another tab. `writing` is the message whose reply is being written, `two` whether that
    will be two blind ones.
    """

    conversation_id: str | None = None
    title: str = ""
    messages: tuple[Shown, ...] = ()
    pair: BlindPair | None = None
    newest: str | None = None
    writing: str | None = None
    two: bool = False


@dataclass(frozen=True, slots=True)
class Listed:
    """Conversations in a list, whether there are more, and whether deleted ones can be restored.

    `passages` says why a search found each, by its id; one found by its title has none.
    """

    conversations: tuple[Conversation, ...]
    more: bool
    passages: Mapping[str, Passage]
    deleted: bool


def view_of(found: ConversationView) -> ChatView:
    """The branch of the newest message, with any open pair."""
    return branch_of(found, found.messages[-1] if found.messages else None)


def branch_through(found: ConversationView, message_id: str) -> ChatView:
    """The branch that goes through a message, and below it on to the newest end.

    So the reply that was not chosen of two can be looked at, too, once the choice is made.
    """
    *_, asked = path = found.path(message_id)
    ends = _ends_below(found, asked)
    leaf = next(message for message in reversed(found.messages) if message.id in ends)
    if leaf == asked and asked.candidates_id in found.choices:
        return _shown(found, path)
    return branch_of(found, leaf)


def _ends_below(found: ConversationView, top: Message) -> set[str]:
    """The ids of the ends below a message; it is its own if nothing is below."""
    children: dict[str | None, list[str]] = {}
    for message in found.messages:
        children.setdefault(message.parent_id, []).append(message.id)
    waiting, ends = [top.id], set[str]()
    while waiting:
        one = waiting.pop()
        waiting += children.get(one, ())
        if one not in children:
            ends.add(one)
    return ends


def branch_to(found: ConversationView, message_id: str) -> ChatView:
    """The messages down to one, and none below it."""
    return _shown(found, found.path(message_id))


def branch_of(found: ConversationView, leaf: Message | None) -> ChatView:
    """The messages down to a leaf; if that is one of a pair, what the choice says about it."""
    if leaf is None or leaf.candidates_id is None:
        return _shown(found, found.path(leaf.id if leaf else None))
    siblings = found.candidates(leaf.candidates_id)
    choice = found.choices.get(leaf.candidates_id)
    if choice is not None:
        return _shown(found, found.path(chosen_of(siblings, choice.choice).id))
    places = _siblings(found)
    a, b = (_message(found, message, places) for message in siblings[:2])
    view = _shown(found, found.path(leaf.parent_id))
    return replace(view, pair=BlindPair(leaf.candidates_id, a, b))


def _shown(found: ConversationView, path: Sequence[Message]) -> ChatView:
    siblings = _siblings(found)
    return ChatView(
        conversation_id=found.conversation.id,
        title=found.conversation.title,
        messages=tuple(_message(found, m, siblings) for m in path if m.role != "system"),
        newest=found.messages[-1].id if found.messages else None,
    )


def _siblings(found: ConversationView) -> Siblings:
    """The ids of the messages in each place, oldest first: by what is above, and by role."""
    places: dict[tuple[str | None, str], list[str]] = {}
    for message in found.messages:
        places.setdefault((message.parent_id, message.role), []).append(message.id)
    return {place: tuple(ids) for place, ids in places.items()}


def _message(found: ConversationView, message: Message, siblings: Siblings) -> Shown:
    thumb = found.thumbs.get(message.id)
    better = found.demonstrations.get(message.id)
    return Shown(
        id=message.id,
        role=message.role,
        content=message.content,
        created_at=message.created_at,
        finish_reason=message.finish_reason,
        siblings=siblings[message.parent_id, message.role],
        candidates_id=message.candidates_id,
        thumb=ShownThumb(thumb.value, thumb.tags, thumb.comment) if thumb else None,
        better=better.content if better else None,
        before=before_of(found, message),
    )


def before_of(found: ConversationView, reply: Message) -> str | None:
    """What a reply replaced, if it was not compared with it yet and says something else."""
    retry = found.retries.get(reply.id)
    if retry is None or retry.than_before is not None or reply.finish_reason == "cancelled":
        return None
    old = next(message for message in found.messages if message.id == retry.retry_of)
    return None if old.content.strip() == reply.content.strip() else old.content


def chosen_of(siblings: Sequence[Message], choice: str) -> Message:
    """The reply after which the conversation goes on: the chosen one, else the first."""
    return next((message for message in siblings if message.label == choice), siblings[0])


def one_line(text: str, limit: int) -> str:
    """A text as one line, cut at ``limit`` characters with an ellipsis."""
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 1].rstrip() + "…"


def error_text(error: BaseException) -> str:
    """An error as one sentence for the person; the log gets the details of an unexpected one."""
    if isinstance(error, ChatAppError | FeedbackStoreError):
        return text_for_visitor(error)
    log.error("a page event failed", exc_info=error)
    return UNEXPECTED
