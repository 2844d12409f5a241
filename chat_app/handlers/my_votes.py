"""The page "My votes": what a person said, what became of it, taking it back, and saying why.

Invariant: the list depends on the stored rows alone, and has the person's own standing votes; not
those in conversations that the person deleted. The rater comes from the signed cookie.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from chat_app.cycles.round_ahead import RoundAhead
from chat_app.errors import ConsentNeededError, InvalidRequestError
from chat_app.handlers.sayings import (
    STATES,
    Became,
    Saying,
    State,
    about,
    became,
    is_test,
    said,
    short,
    stands,
)
from chat_app.handlers.views import one_line
from chat_app.service.chat import ChatService
from feedback_store.comparisons.receipts import LEFT_OUT
from feedback_store.errors import say
from feedback_store.feedback.search import MOST_WORDS, folded
from feedback_store.records import Place

PAGE = 30  # votes on one page
EXCERPT_CHARS = 140
RANKED_CHARS = 80
KINDS = ("thumb", "choice", "ranking", "demonstration", "retry")


@dataclass(frozen=True, slots=True)
class RankedReply:
    """One reply of a ranking, by its label; `content` is the beginning of it."""

    label: str
    content: str = ""


@dataclass(frozen=True, slots=True)
class Receipt:
    """One vote: what was said, about what, what became of it, and where it was said.

    `order` is that of a ranking, best first, those that are as good as each other in one group.
    `conversation_id` is None for an answer that was written to no conversation, and for one that
    the chat does not show: a test, or what another page compares.
    """

    id: str
    kind: str
    at: str
    said: Saying
    reasons: tuple[str, ...]
    comment: str
    about: str
    state: State
    became: tuple[Saying, ...]
    conversation_id: str | None
    message_id: str | None
    can_undo: bool
    candidates_id: str | None = None
    order: tuple[tuple[RankedReply, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class ShownReasons:
    """Why the person chose so, as it is stored."""

    tags: tuple[str, ...]
    comment: str


@dataclass(frozen=True, slots=True)
class VotesFound:
    """A page of votes, newest first.

    Attributes:
        votes: Those on this page.
        page: Its number, from 0.
        pages: How many there are of what was found.
        found: How many votes match.
        given: How many there are in all.
    """

    votes: tuple[Receipt, ...]
    page: int
    pages: int
    found: int
    given: int


@dataclass(frozen=True, slots=True)
class VoteTotals:
    """How many of a person's votes are in each state, and the round that votes wait for.

    `ahead` counts the votes of everybody, as in the chat and on the page of the progress.
    """

    by_state: dict[State, int]
    ahead: RoundAhead


@dataclass(frozen=True, slots=True)
class News:
    """The version that answers now, and how many of the person's votes taught it."""

    version: int
    taught: int


@dataclass(frozen=True, slots=True)
class InPlace:
    """The receipt of a vote, to be shown where the vote was given.

    `decides` is whether it is a choice between two versions, whose names the person was told then:
    so there it stays counted when it is taken back; one that the operator has left out is not.
    """

    id: str
    kind: str
    message_id: str | None
    candidates_id: str | None
    state: State
    receipt: Saying
    can_undo: bool
    decides: bool


class MyVotes:
    """What a person can see and take back of their votes."""

    def __init__(self, service: ChatService) -> None:
        self._service = service

    def found(
        self,
        rater_id: str,
        *,
        kind: str | None = None,
        state: str | None = None,
        query: str = "",
        page: int = 0,
    ) -> VotesFound:
        """The person's votes of a kind and in a state, with all words of a query.

        A page beyond the last is the last one.

        Raises:
            InvalidRequestError: The query has too many words.
        """
        if len(words := folded(query).split()) > MOST_WORDS:
            raise InvalidRequestError(
                say(
                    "a search for {count} words; give at most {most}.",
                    count=len(words),
                    most=MOST_WORDS,
                )
            )
        store = self._service.store
        counts = store.standing_count(rater_id)
        if state is None and not words:
            found = counts.get(kind, 0) if kind else sum(counts.values())
            page, pages = _page_of(found, page)
            lines = store.standing_votes(rater_id, kind, limit=PAGE, offset=page * PAGE)
            ids = [line["id"] for line in lines]
        else:
            matching = self._matching(rater_id, kind, state, words)
            found = len(matching)
            page, pages = _page_of(found, page)
            ids = matching[page * PAGE : (page + 1) * PAGE]
        votes = self._receipts(rater_id, ids)
        return VotesFound(votes, page, pages, found, sum(counts.values()))

    def totals(self, rater_id: str) -> VoteTotals:
        """How many of the person's votes are in each state; it reads what became of all of them."""
        counts = Counter(self._states(rater_id).values())
        by_state = {name: counts[name] for name in STATES}
        return VoteTotals(by_state, self._service.round_ahead.get())

    def news(self, rater_id: str) -> News:
        """What the page tells once: the version that answers now, and who taught it."""
        store = self._service.store
        adapter = store.serving().adapter
        return News(store.versions()[adapter], store.taught(rater_id, adapter))

    def in_place(self, rater_id: str, conversation_id: str) -> tuple[InPlace, ...]:
        """The receipts of the votes in one conversation; reads nothing of the others."""
        ahead, versions = self._service.round_ahead.get(), self._service.store.versions()
        return tuple(
            InPlace(
                id=event["id"],
                kind=event["event"],
                message_id=event.get("message_id"),
                candidates_id=event.get("candidates_id"),
                state=became(event, versions).state,
                receipt=short(event, versions, ahead),
                can_undo=not is_test(event),
                decides=event.get("trial", {}).get("counts", False)
                and event["left_out"] != LEFT_OUT,
            )
            for event in self._events(rater_id, conversation_id=conversation_id)
        )

    def undo(self, rater_id: str, kind: str, vote_id: str) -> None:
        """Take a vote back."""
        self._service.withdraw(rater_id, kind, vote_id)

    def redo(self, rater_id: str, kind: str, vote_id: str) -> None:
        """Undo that; refused if the person has said something else meanwhile."""
        self._service.say_again(rater_id, kind, vote_id)

    def explain(
        self, rater_id: str, candidates_id: str, tags: Sequence[str], comment: str
    ) -> ShownReasons:
        """Say why one chose so; the choice stays what it is."""
        if not self._service.consented(rater_id):
            raise ConsentNeededError(
                say("Nothing was saved: votes train the model, so agree first.")
            )
        made = self._service.explain(
            rater_id, candidates_id, tags=tuple(tags), comment=comment.strip()
        )
        return ShownReasons(made.tags, made.comment)

    def _events(
        self,
        rater_id: str,
        *,
        conversation_id: str | None = None,
        ids: Sequence[str] | None = None,
    ) -> list[dict[str, Any]]:
        if not self._service.knows(rater_id):
            return []
        events = self._service.receipts(rater_id, conversation_id=conversation_id, ids=ids)
        return [event for event in events if stands(event)]

    def _states(self, rater_id: str) -> dict[str, State]:
        """The state of each standing vote, by its id."""
        versions = self._service.store.versions()
        return {event["id"]: became(event, versions).state for event in self._events(rater_id)}

    def _matching(
        self, rater_id: str, kind: str | None, state: str | None, words: Sequence[str]
    ) -> list[str]:
        """The ids of the votes of a kind and in a state that have all words, newest first."""
        store = self._service.store
        lines = store.standing_votes(rater_id, kind)
        if state is not None:
            states = self._states(rater_id)
            lines = [line for line in lines if states.get(line["id"]) == state]
        if words:
            places = store.places_of([line["about"] for line in lines if not line["content"]])
            lines = [line for line in lines if _has(line, places.get(line["about"]), words)]
        return [line["id"] for line in lines]

    def _receipts(self, rater_id: str, ids: Sequence[str]) -> tuple[Receipt, ...]:
        """These votes, in this order."""
        store, versions = self._service.store, self._service.store.versions()
        events = {event["id"]: event for event in self._events(rater_id, ids=ids)}
        shown = [events[name] for name in ids if name in events]  # one may be taken back meanwhile
        places = store.places_of([about(event) for event in shown])
        return tuple(
            self._with_texts(_receipt(event, places.get(about(event)), became(event, versions)))
            for event in shown
        )

    def _with_texts(self, receipt: Receipt) -> Receipt:
        """The receipt with the beginnings of the replies that were ranked."""
        if not receipt.order or receipt.candidates_id is None:
            return receipt
        said = self._service.store.candidates(receipt.candidates_id)
        texts = {reply.label: one_line(reply.content, RANKED_CHARS) for reply in said}
        order = tuple(
            tuple(replace(one, content=texts.get(one.label, "")) for one in group)
            for group in receipt.order
        )
        return replace(receipt, order=order)


def _receipt(event: Mapping[str, Any], place: Place | None, result: Became) -> Receipt:
    test = is_test(event)
    linked = place if place is not None and place.page is None and not test else None
    return Receipt(
        id=event["id"],
        kind=event["event"],
        at=event["created_at"],
        said=said(event),
        reasons=tuple(event.get("tags", ())),
        comment=event.get("comment", ""),
        about=one_line(event.get("content") or (place.content if place else ""), EXCERPT_CHARS),
        state=result.state,
        became=result.sayings,
        conversation_id=linked.conversation_id if linked else None,
        message_id=linked.message_id if linked else None,
        can_undo=not test,
        candidates_id=event.get("candidates_id"),
        order=tuple(
            tuple(RankedReply(label) for label in group) for group in event.get("order", ())
        ),
    )


def _page_of(found: int, page: int) -> tuple[int, int]:
    """The page that is shown of what was found, and how many there are."""
    pages = max(1, -(-found // PAGE))
    return min(max(0, page), pages - 1), pages


def _has(line: Mapping[str, Any], place: Place | None, words: Sequence[str]) -> bool:
    about = line["content"] or (place.content if place else "")
    text = folded(f"{about} {line['comment']}")
    return all(word in text for word in words)
