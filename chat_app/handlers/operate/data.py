"""Data: what people said, with filters; search; one conversation; leaving out and taking in again.

The audit log says who read or searched, and of whom, but never the words that were searched for: a
name or a secret would stay there after its person was erased.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from chat_app.handlers.operate.guarded import require
from chat_app.identity import OPERATOR
from chat_app.service.chat import ChatService
from feedback_store.comparisons.leaving_out import LeftOutItem
from feedback_store.errors import UnknownRecordError
from feedback_store.feedback.browsing import KINDS, SaidFilter, SaidLine
from feedback_store.feedback.search import SearchHit
from feedback_store.records import SPLITS, ConversationView, Message

PAGE = 40
HITS = 50


@dataclass(frozen=True, slots=True)
class SaidPage:
    """A page of opinions; `more` is where the next one begins, None at the end."""

    rows: tuple[SaidLine, ...]
    more: str | None
    kinds: tuple[str, ...] = KINDS
    splits: tuple[str, ...] = SPLITS


@dataclass(frozen=True, slots=True)
class LeftOutPage:
    """A page of what is left out; `more` is where the next one begins, None at the end."""

    rows: tuple[LeftOutItem, ...]
    more: str | None


@dataclass(frozen=True, slots=True)
class ReadMessage:
    """One message; `chosen` is whether its side-by-side was decided for it, None if there is none.

    `thumb` is the rater's present one, 0 without. `tags` and `comments` say why: of the thumb, and
    of the choice at the reply that it was made for, at the first one if it was made for neither.
    """

    id: str
    role: str
    content: str
    adapter: str | None
    number: int | None
    created_at: str
    thumb: int
    label: str | None
    chosen: bool | None
    tags: tuple[str, ...] = ()
    comments: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ReadConversation:
    """A conversation with all its branches, oldest message first.

    `left_out` is why it is left out of training; None if it is not.
    """

    id: str
    rater_id: str
    title: str
    created_at: str
    messages: tuple[ReadMessage, ...]
    left_out: str | None


class Data:
    """What people said."""

    def __init__(self, service: ChatService) -> None:
        self._service = service

    def said(
        self,
        wanted: SaidFilter | None = None,
        before: str | None = None,
        *,
        allowed: bool,
        by: str = OPERATOR,
    ) -> SaidPage:
        """Opinions, newest first, page by page; the audit log says who looked, and at whom."""
        require(allowed)
        store = self._service.store
        if before is None:
            whose = {} if wanted is None else {"rater_id": wanted.rater_id}
            store.note_act("said_read", by=by, **whose)
        store.refresh_comparisons()
        rows = store.said(wanted, before=before, limit=PAGE + 1)
        more = rows[PAGE - 1].place if len(rows) > PAGE else None
        return SaidPage(tuple(rows[:PAGE]), more)

    def search(self, query: str, *, allowed: bool, by: str = OPERATOR) -> tuple[SearchHit, ...]:
        """Messages with all words of a query, best first."""
        require(allowed)
        hits = tuple(self._service.store.search(query, limit=HITS))
        self._service.store.note_act("searched", by=by, found=len(hits))
        return hits

    def conversation(
        self, conversation_id: str, rater_id: str, *, allowed: bool, by: str = OPERATOR
    ) -> ReadConversation:
        """One conversation, whoever's it is; the audit log says who read whose."""
        require(allowed)
        try:
            found = self._service.store.conversation_view(rater_id, conversation_id=conversation_id)
        except UnknownRecordError as exc:
            raise UnknownRecordError("there is no such conversation; it was erased.") from exc
        self._service.store.note_act("conversation_read", by=by, rater_id=rater_id)
        versions, conversation = self._service.store.versions(), found.conversation
        return ReadConversation(
            id=conversation.id,
            rater_id=conversation.rater_id,
            title=conversation.title,
            created_at=conversation.created_at,
            messages=tuple(_message(found, one, versions) for one in found.messages),
            left_out=self._service.store.why_left_out("conversation", conversation.id),
        )

    def left_out(self, before: str | None = None, *, allowed: bool) -> LeftOutPage:
        """What is left out of training, the latest first, page by page."""
        require(allowed)
        rows = self._service.store.left_out_items(before=before, limit=PAGE + 1)
        more = rows[PAGE - 1].place if len(rows) > PAGE else None
        return LeftOutPage(tuple(rows[:PAGE]), more)

    def leave_out(
        self, kind: str, ids: Sequence[str], reason: str, *, allowed: bool, by: str = OPERATOR
    ) -> None:
        """Leave conversations or votes out of training, until they are taken in again."""
        require(allowed)
        self._service.store.leave_out(kind, ids, by=by, reason=reason)

    def take_in(self, kind: str, ids: Sequence[str], *, allowed: bool, by: str = OPERATOR) -> None:
        """Let them count again."""
        require(allowed)
        self._service.store.take_in(kind, ids, by=by)


def _message(found: ConversationView, one: Message, versions: dict[str, int]) -> ReadMessage:
    thumb = found.thumbs.get(one.id)
    choice = found.choices.get(one.candidates_id) if one.candidates_id else None
    at = None if choice is None else choice.choice if choice.choice in ("a", "b") else "a"
    whys = [why for why in (thumb, choice if at == one.label else None) if why is not None]
    return ReadMessage(
        id=one.id,
        role=one.role,
        content=one.content,
        adapter=one.adapter,
        number=None if one.adapter is None else versions.get(one.adapter),
        created_at=one.created_at,
        thumb=thumb.value if thumb else 0,
        label=one.label,
        chosen=None if choice is None else choice.choice == one.label,
        tags=tuple(tag for why in whys for tag in why.tags),
        comments=tuple(why.comment for why in whys if why.comment),
    )
