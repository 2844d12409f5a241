"""The reply to a message while it is written, as server-sent events.

The functions of the pages go over Gradio; this does not: a reply through its queue took three times
the CPU, and the queue asks itself a thousand times a second whether there is something to do
(decision 0029). A piece is an answer as in `events.py`; the event ``end`` comes last.
"""

from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Annotated

import fastapi
from fastapi.responses import Response
from fastapi.sse import EventSourceResponse, format_sse_event

from chat_app.errors import TooManyError, UnknownCallerError
from chat_app.handlers.talk import Talk, Told
from chat_app.pages.events import answer_as_json
from feedback_store.errors import say

STREAMS = 32  # of one visitor at the same time; a tab has one while a reply is written in it


def add_follow(
    app: fastapi.FastAPI, talk: Talk, user: Callable[[fastapi.Request], str | None]
) -> None:
    """Add ``GET /follow/{message}``.

    Args:
        app: The application.
        talk: Writes the replies.
        user: Returns the rater who sends a request.
    """
    reading: Counter[str] = Counter()

    async def reader(request: fastapi.Request) -> AsyncIterator[str]:
        """The rater, who has one stream more until this one has ended, however it ends."""
        rater_id = user(request)
        if not rater_id:
            raise UnknownCallerError(say("the request has no cookie; open the page first"))
        if reading[rater_id] >= STREAMS:
            raise TooManyError(
                say("{most} streams are open for you already; close a tab", most=STREAMS)
            )
        reading[rater_id] += 1
        try:
            yield rater_id
        finally:
            reading[rater_id] -= 1
            if not reading[rater_id]:
                del reading[rater_id]

    @app.get("/follow/{prompt_id}", include_in_schema=False)
    async def follow(prompt_id: str, rater_id: Annotated[str, fastapi.Depends(reader)]) -> Response:
        return EventSourceResponse(_events(talk.follow(rater_id, prompt_id)))


async def _events(pieces: AsyncIterator[Told]) -> AsyncIterator[bytes]:
    try:
        async for piece in pieces:
            yield format_sse_event(data_str=answer_as_json(piece))
    except Exception as exc:
        yield format_sse_event(data_str=answer_as_json(exc))
    yield format_sse_event(data_str="", event="end")
