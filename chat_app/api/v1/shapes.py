"""OpenAI's shapes of a completion, whole or as the events of a stream.

A choice is one reply; its `message_id` takes votes, and that of the first one is the completion's
``id``. A reply that is not stored says so, with the reason.
"""

import json
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping, Sequence
from contextlib import aclosing
from typing import Any

from fastapi.sse import format_sse_event

from chat_app.api.answers import openai_error
from chat_app.errors import ChatAppError, text_for_visitor
from chat_app.service.replies import NOT_STORED, ReplyPiece
from feedback_store.errors import FeedbackStoreError

Pieces = AsyncGenerator[tuple[int, ReplyPiece], None]  # of several replies, by their places


def completion(pieces: Sequence[ReplyPiece], unstored: str, *, begun: str) -> dict[str, Any]:
    """A whole completion of the last pieces of its replies, without what had ``begun`` them."""
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


async def events(
    first: tuple[int, ReplyPiece], pieces: Pieces, chunks: "Chunks", *, usage: bool
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


class Chunks:
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
