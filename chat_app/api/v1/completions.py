"""``POST /v1/chat/completions`` and ``GET /v1/models``, whole and streamed.

A dialogue is checked, then stored, then answered; `shapes.py` has the answers. What a client does
not want stored (``store: false``) and its chores are answered beside the store: no row of them
exists, so nothing of them can be learnt or exported.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.sse import EventSourceResponse

from chat_app.api.callers import (
    MESSAGE_HEADER,
    TASK_HEADER,
    rater_of,
    require_key,
    said_in,
    service_of,
)
from chat_app.api.v1.chores import is_chore, shortened
from chat_app.api.v1.dialogue import dialogue_of
from chat_app.api.v1.requests import CompletionIn, client_name
from chat_app.api.v1.shapes import Chunks, Pieces, completion, events
from chat_app.errors import InvalidRequestError, UnknownModelError
from chat_app.service.chat import ChatService, Room
from chat_app.service.replies import UNSTORED, ReplyPiece, as_they_come
from feedback_store.errors import StoreUnavailableError
from feedback_store.feedback.messages import without_empty_replies
from feedback_store.records import Message, PromptMessage
from feedback_store.sqlite.ids import new_id

log = logging.getLogger(__name__)

POLICY = "policy"  # the name of whichever adapter is served
ON_REQUEST = "not stored, because of store: false; nobody can vote on it"
NOT_OURS = "not stored, because the served adapter did not begin this reply; nobody can vote on it"
CHORE = "not stored, because it is a client's chore and no question; nobody can vote on it"

completions = APIRouter(prefix="/v1")
Service = Annotated[ChatService, Depends(service_of)]


@completions.get("/models", dependencies=[Depends(require_key)])
def models(service: Service) -> dict[str, Any]:
    """The served policy, under both of its names."""
    return {"object": "list", "data": [_model(name) for name in (POLICY, service.adapter)]}


@completions.get("/models/{name}", dependencies=[Depends(require_key)])
def model(name: str, service: Service) -> dict[str, Any]:
    """One of these names."""
    return _model(_served(name, service))


@completions.post("/chat/completions", response_model=None)
async def complete(
    body: CompletionIn,
    request: Request,
    rater_id: Annotated[str, Depends(rater_of)],
    service: Service,
) -> dict[str, Any] | EventSourceResponse:
    """Answer a dialogue; ``id`` is the stored message, ``model`` the exact adapter."""
    _served(body.model, service)
    named, n = _named(request), _number(body, service)
    sampling = body.over(service.default_sampling)
    asked = await _asked(body, said_in(request, TASK_HEADER), rater_id, service)
    chars = sum(len(message["content"]) for message in asked.dialogue)
    room = service.require_room(rater_id, n, chars=chars)
    try:
        await service.check_dialogue(asked.dialogue, sampling, begun=asked.begun)
        path, unstored = await _path(asked, body.retry_of, rater_id, service)
        ids = [f"{UNSTORED if unstored else ''}{new_id()}" for _ in range(n)]
        replies = [
            service.reply(
                rater_id,
                path,
                sampling=sampling,
                seed=None if body.seed is None else body.seed + place,
                stop=body.stop,
                retry_of=body.retry_of if path[-1].id else None,
                reply_id=reply_id,
                client_message=named if place == 0 else None,
                begun=asked.begun,
                room=_kept_by_the_request,
            )
            for place, reply_id in enumerate(ids)
        ]
        pieces = _side_by_side(replies, room)
        if body.stream:
            return await _streamed(pieces, body, ids, unstored)
        return completion(await _last_pieces(pieces, request), unstored, begun=asked.begun)
    except BaseException:
        room()
        raise


# What is asked


@dataclass(frozen=True, slots=True)
class _Asked:
    """A dialogue as it was sent, and as the model reads it: with what begins the reply apart.

    `above` is the stored path of that beginning, if it is stored. `unstored` says why nothing of
    the dialogue is to be stored.
    """

    sent: list[PromptMessage]
    dialogue: list[PromptMessage]
    begun: str = ""
    above: tuple[Message, ...] = ()
    unstored: str = ""


async def _asked(body: CompletionIn, task: str, rater_id: str, service: ChatService) -> _Asked:
    """Read a request, in which nothing has been checked but the texts."""
    sent = dialogue_of(body.messages, service.settings.limits, empty_replies=True)
    dialogue = without_empty_replies(sent)
    unstored = ON_REQUEST if body.store is False else ""
    if is_chore(dialogue, body.metadata, task):
        dialogue, unstored = await shortened(dialogue, service), unstored or CHORE
    if [message["role"] for message in dialogue[-2:]] != ["user", "assistant"]:
        return _Asked(sent, dialogue, unstored=unstored)
    above = await asyncio.to_thread(service.stored_reply, rater_id, dialogue)
    begun = above[-1].content if above else dialogue[-1]["content"]
    return _Asked(sent, dialogue[:-1], begun, tuple(above), unstored)


async def _path(
    asked: _Asked, retry_of: str | None, rater_id: str, service: ChatService
) -> tuple[list[Message], str]:
    """The path to answer, stored if it is to be, and why it is not, or nothing."""
    if not asked.unstored and not asked.begun:
        return await asyncio.to_thread(_stored, asked, rater_id, service, retry_of), ""
    path = list(asked.above[:-1])
    if asked.begun and retry_of is not None:
        path = await asyncio.to_thread(service.retried, rater_id, retry_of, asked.dialogue)
    # The adapter may be swapped at each `await`: between this line and the reply there is none.
    ours = not asked.begun or (asked.above and asked.above[-1].adapter == service.adapter)
    unstored = asked.unstored or ("" if ours else NOT_OURS)
    return service.unstored(asked.dialogue) if unstored else path, unstored


def _stored(
    asked: _Asked, rater_id: str, service: ChatService, retry_of: str | None
) -> list[Message]:
    """Store a dialogue that was checked; returns its path. That of a retry is there."""
    try:
        if retry_of is not None:
            return service.retried(rater_id, retry_of, asked.dialogue)
        return service.continue_dialogue(rater_id, asked.sent)
    except StoreUnavailableError as exc:  # a full disk ends no chat; the answer says so
        log.error("a dialogue is not stored: %s", exc)
        return service.unstored(asked.dialogue)


def _named(request: Request) -> str | None:
    """What the client calls the reply, so that it can vote by that name."""
    named = said_in(request, MESSAGE_HEADER)
    try:
        return client_name(named) if named else None
    except ValueError as exc:
        raise InvalidRequestError(f"the header {MESSAGE_HEADER.title()}: {exc}") from exc


def _number(body: CompletionIn, service: ChatService) -> int:
    """How many replies are asked for."""
    n, most = 1 if body.n is None else body.n, service.settings.limits.candidates
    if not 1 <= n <= most:
        raise InvalidRequestError(f"n is {n}; ask for 1 to {most} replies", param="n")
    if body.retry_of is not None and (n > 1 or body.store is False):
        text = "retry_of goes with one stored reply; leave out n and store"
        raise InvalidRequestError(text, param="retry_of")
    return n


def _served(name: str, service: ChatService) -> str:
    if name not in (POLICY, service.adapter):
        raise UnknownModelError(f"no model {name!r} is served; ask for {POLICY!r}")
    return name


# Answering


def _kept_by_the_request() -> None:
    """The room of one of several replies: the request gives back that of all."""


async def _side_by_side(replies: Sequence[AsyncGenerator[ReplyPiece, None]], room: Room) -> Pieces:
    """The pieces of all replies as they come; the room is given back when all have ended."""
    pieces = as_they_come(replies)
    try:
        async with aclosing(pieces):
            async for piece in pieces:
                yield piece
    finally:
        room()


async def _streamed(
    pieces: Pieces, body: CompletionIn, ids: Sequence[str], unstored: str
) -> EventSourceResponse:
    """The replies as a stream; an error of the request shows here, before the headers."""
    first = await anext(pieces)
    usage = body.stream_options is not None and bool(body.stream_options.include_usage)
    return EventSourceResponse(
        events(first, pieces, Chunks(ids, first[1].adapter, unstored), usage=usage),
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


async def _last_pieces(pieces: Pieces, request: Request) -> list[ReplyPiece]:
    ended: dict[int, ReplyPiece] = {}
    async with aclosing(pieces):
        async for place, piece in pieces:
            if piece.message is not None:
                ended[place] = piece
            elif await request.is_disconnected():
                text = "the connection was closed before the reply was complete"
                raise InvalidRequestError(text)
    return [ended[place] for place in sorted(ended)]


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "feedback-chat"}
