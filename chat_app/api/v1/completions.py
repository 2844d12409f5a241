"""``POST /v1/chat/completions`` and ``GET /v1/models``: OpenAI's shapes, whole and streamed.

A choice is one stored reply; its `message_id` takes votes, and that of the first one is the
completion's ``id``. What a client does not want stored (``store: false``) and its chores are
answered beside the store: no row of them exists, so nothing of them can be learnt or exported.
"""

import asyncio
import json
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping, Sequence
from contextlib import aclosing
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.sse import EventSourceResponse, format_sse_event

from chat_app.api.answers import openai_error
from chat_app.api.callers import (
    MESSAGE_HEADER,
    TASK_HEADER,
    rater_of,
    require_key,
    service_of,
)
from chat_app.api.v1.chores import is_chore, shortened
from chat_app.api.v1.dialogue import dialogue_of
from chat_app.api.v1.requests import CompletionIn
from chat_app.errors import (
    ChatAppError,
    InvalidRequestError,
    UnknownModelError,
    text_for_visitor,
)
from chat_app.service.chat import ChatService, Room
from chat_app.service.replies import NOT_STORED, UNSTORED, ReplyPiece, as_they_come
from feedback_store.errors import FeedbackStoreError, StoreUnavailableError
from feedback_store.records import Message, PromptMessage
from feedback_store.sqlite.ids import new_id

log = logging.getLogger(__name__)

CLIENT_CHARS = 200  # of a client's name for a reply
POLICY = "policy"  # the name of whichever adapter is served
ON_REQUEST = "not stored, because of store: false; nobody can vote on it"
NOT_OURS = "not stored, because the served adapter did not begin this reply; nobody can vote on it"
CHORE = "not stored, because it is a client's chore and no question; nobody can vote on it"

completions = APIRouter(prefix="/v1")
Service = Annotated[ChatService, Depends(service_of)]
Pieces = AsyncGenerator[tuple[int, ReplyPiece], None]  # of several replies, by their places


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
    named = _named(request)
    n, sampling = _number(body, service), body.over(service.default_sampling)
    dialogue = dialogue_of(body.messages, service.settings.limits)
    task = request.headers.get(TASK_HEADER, "")
    unstored = CHORE if is_chore(dialogue, body.metadata, task) else ""
    if unstored:
        dialogue = await shortened(dialogue, service)
    unstored = ON_REQUEST if body.store is False else unstored
    dialogue, begun, above = await _begun(dialogue, rater_id, service)
    if begun and not above:
        unstored = unstored or NOT_OURS
    ids = [f"{UNSTORED if unstored else ''}{new_id()}" for _ in range(n)]
    chars = sum(len(message["content"]) for message in dialogue)
    room = service.require_room(rater_id, n, chars=chars)
    try:
        await service.check_dialogue(dialogue, sampling, begun=begun)
        if unstored or above:
            path = service.unstored(dialogue) if unstored else above
        else:
            if body.retry_of is None:
                dialogue = dialogue_of(body.messages, service.settings.limits, empty_replies=True)
            path = await asyncio.to_thread(_stored, dialogue, rater_id, service, body.retry_of)
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
                begun=begun,
                room=_kept_by_the_request,
            )
            for place, reply_id in enumerate(ids)
        ]
        pieces = _side_by_side(replies, room)
        if not body.stream:
            last = await _last_pieces(pieces, request)
            return _completion(last, unstored, begun=begun)
        first = await anext(pieces)  # an error of the request shows here, before the headers
    except BaseException:
        room()
        raise
    usage = body.stream_options is not None and bool(body.stream_options.include_usage)
    return EventSourceResponse(
        _events(first, pieces, _Chunks(ids, first[1].adapter, unstored), usage=usage),
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


def _named(request: Request) -> str | None:
    """What the client calls the reply, so that it can vote by that name."""
    named = request.headers.get(MESSAGE_HEADER, "").strip()
    if len(named) > CLIENT_CHARS:
        text = f"{MESSAGE_HEADER} has {len(named)} characters; at most {CLIENT_CHARS} fit"
        raise InvalidRequestError(text)
    return named or None


def _number(body: CompletionIn, service: ChatService) -> int:
    """How many replies are asked for."""
    n, most = 1 if body.n is None else body.n, service.settings.limits.candidates
    if not 1 <= n <= most:
        raise InvalidRequestError(f"n is {n}; ask for 1 to {most} replies", param="n")
    if body.retry_of is not None and (n > 1 or body.store is False):
        text = "retry_of goes with one stored reply; leave out n and store"
        raise InvalidRequestError(text, param="retry_of")
    return n


async def _begun(
    dialogue: list[PromptMessage], rater_id: str, service: ChatService
) -> tuple[list[PromptMessage], str, list[Message]]:
    """A dialogue, and the reply at its end that is to go on, with the stored path above that."""
    if [message["role"] for message in dialogue[-2:]] != ["user", "assistant"]:
        return dialogue, "", []
    path = await asyncio.to_thread(service.begun_by, rater_id, dialogue)
    begun = path[-1].content if path else dialogue[-1]["content"]
    return dialogue[:-1], begun, path[:-1]


def _stored(
    dialogue: Sequence[PromptMessage], rater_id: str, service: ChatService, retry_of: str | None
) -> list[Message]:
    """Store a dialogue that was checked; returns its path. That of a retry is there."""
    try:
        if retry_of is not None:
            return service.retried(rater_id, retry_of, dialogue)
        return service.continue_dialogue(rater_id, dialogue)
    except StoreUnavailableError as exc:  # a full disk ends no chat; the answer says so
        log.error("a dialogue is not stored: %s", exc)
        return service.unstored(dialogue)


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


# OpenAI's shapes


def _served(name: str, service: ChatService) -> str:
    if name not in (POLICY, service.adapter):
        raise UnknownModelError(f"no model {name!r} is served; ask for {POLICY!r}")
    return name


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "feedback-chat"}


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


def _completion(pieces: Sequence[ReplyPiece], unstored: str, *, begun: str) -> dict[str, Any]:
    choices = []
    for index, piece in enumerate(pieces):
        assert piece.message is not None, "the last piece has the message"
        message = {"role": "assistant", "content": piece.message.content[len(begun) :]}
        about = {"message_id": piece.message_id, "finish_reason": _reason(piece), "logprobs": None}
        choices.append({"index": index, "message": message, **about})
    return {
        "id": pieces[0].message_id,
        "object": "chat.completion",
        "created": int(time.time()),
        "model": pieces[0].adapter,
        "choices": choices,
        "usage": _usage(pieces),
        **_kept(pieces, unstored),
    }


async def _events(
    first: tuple[int, ReplyPiece], pieces: Pieces, chunks: "_Chunks", *, usage: bool
) -> AsyncIterator[bytes]:
    """The replies as server-sent events; the last one is ``[DONE]``."""
    async with aclosing(pieces):
        try:
            for chunk in chunks.of(*first):
                yield _sent(chunk)
            async for place, piece in pieces:
                for chunk in chunks.of(place, piece):
                    yield _sent(chunk)
        except (ChatAppError, FeedbackStoreError) as exc:  # too late for a status code
            yield _sent({"error": openai_error(text_for_visitor(exc), "server_error")})
        else:
            if usage:
                yield _sent(chunks.usage())
        yield format_sse_event(data_str="[DONE]")


def _sent(data: Any) -> bytes:
    return format_sse_event(data_str=json.dumps(data, ensure_ascii=False))


class _Chunks:
    """OpenAI's chunks of one streamed completion."""

    def __init__(self, ids: Sequence[str], adapter: str, unstored: str) -> None:
        self._ids, self._unstored = ids, unstored
        self._head = {
            "id": ids[0],
            "object": "chat.completion.chunk",
            "created": int(time.time()),
            "model": adapter,
        }
        self._begun, self._ended = set[int](), list[ReplyPiece]()

    def of(self, index: int, piece: ReplyPiece) -> Iterator[dict[str, Any]]:
        """What one piece adds to its choice."""
        if index not in self._begun:
            self._begun.add(index)
            yield self._chunk(index, {"role": "assistant", "content": piece.text})
        elif piece.text:
            yield self._chunk(index, {"content": piece.text})
        if piece.message is not None:
            self._ended.append(piece)
            yield self._chunk(index, {}, _reason(piece)) | _kept([piece], self._unstored)

    def usage(self) -> dict[str, Any]:
        """The last chunk, if the client wants it."""
        return {**self._head, "choices": [], "usage": _usage(self._ended)}

    def _chunk(
        self, index: int, delta: Mapping[str, str], reason: str | None = None
    ) -> dict[str, Any]:
        about = {"finish_reason": reason, "logprobs": None, "message_id": self._ids[index]}
        return {**self._head, "choices": [{"index": index, "delta": delta, **about}]}


def _kept(pieces: Sequence[ReplyPiece], unstored: str) -> dict[str, Any]:
    """What an answer adds if a reply of it is not stored."""
    stored = all(piece.stored for piece in pieces)
    return {} if stored else {"stored": False, "note": unstored or NOT_STORED}


def _reason(piece: ReplyPiece) -> str:
    cut = piece.message is not None and piece.message.finish_reason == "length"
    return "length" if cut else "stop"


def _usage(pieces: Sequence[ReplyPiece]) -> dict[str, int]:
    prompt, new = pieces[0].prompt_tokens, sum(piece.new_tokens for piece in pieces)
    return {"prompt_tokens": prompt, "completion_tokens": new, "total_tokens": prompt + new}
