"""How much of a request is read, and for how long: whoever sends half a request holds nothing.

A body is read before the routes see it, up to a limit and a deadline. Starlette's own limit answers
in plain text and ignores the error handlers; the API promises OpenAI's shape. Uvicorn waits for
headers for ever, so its protocol gets a timer here.
"""

import asyncio
from typing import Any

import h11
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from chat_app.api.answers import refuse
from chat_app.api.proxies import path_of
from chat_app.settings import LimitSettings

UNREAD = 16 * 1024 * 1024  # bytes of a refused body that are read all the same, see `_read`
STREAMS = ("/follow/", "/gradio_api/")
HEADER_S = 10.0  # to send the headers of a request


class BodyLimit:
    """Answers 413 to a body that is too large before it is parsed, 408 to one that is too slow."""

    def __init__(self, app: ASGIApp, *, limits: LimitSettings) -> None:
        self._app = app
        self._limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Read the body up to the limit, then pass it on as one message."""
        if scope["type"] != "http" or scope["method"] in ("GET", "HEAD", "OPTIONS"):
            await self._app(scope, receive, send)
            return
        api = path_of(scope).startswith("/v1/")
        limit = self._limits.body_bytes if api else self._limits.page_body_bytes
        seconds = self._limits.body_seconds
        try:
            async with asyncio.timeout(seconds):
                body = await _read(scope, receive, limit)
        except TimeoutError:
            text = f"the request body did not arrive within {seconds:g} s; send it at once"
            await refuse(send, 408, text, code="too_slow", headers={"connection": "close"})
        except ConnectionResetError:
            pass
        except _TooLargeError:
            text = f"the request body is larger than {limit} bytes; send less"
            await refuse(send, 413, text, code="too_large", headers={"connection": "close"})
        else:
            await self._app(scope, replayed(body, receive), send)


class HeadAsGet:
    """Answers HEAD as GET. The server that carries the application sends no body of either.

    A stream is no page that somebody looks for, so its HEAD stays one.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, as a GET if it is a HEAD."""
        if (
            scope["type"] == "http"
            and scope["method"] == "HEAD"
            and not path_of(scope).startswith(STREAMS)
        ):
            scope = {**scope, "method": "GET"}
        await self._app(scope, receive, send)


class _TooLargeError(Exception):
    """The body is larger than the limit."""


class TimedProtocol(H11Protocol):
    """Uvicorn's protocol, which closes a connection whose headers do not arrive in time."""

    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start to wait for the first request."""
        super().connection_made(transport)
        self._timer = self.loop.call_later(HEADER_S, transport.close)

    def data_received(self, data: bytes) -> None:
        """Wait for the rest of the headers; or no longer, if they are complete."""
        super().data_received(data)
        answered = self.cycle is None or self.cycle.response_complete
        # the rest of a body that was refused is no beginning of a request
        waiting = answered and self.conn.their_state is h11.IDLE
        if self._timer is not None and not waiting:
            self._timer.cancel()
            self._timer = None
        elif self._timer is None and waiting:
            self._timer = self.loop.call_later(HEADER_S, self.transport.close)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        if self._timer is not None:
            self._timer.cancel()
        super().connection_lost(exc)


async def _read(scope: Scope, receive: Receive, limit: int) -> bytes:
    """A whole body.

    One that is too large is read on before it is refused, up to `UNREAD`: a connection that is
    closed over unread bytes loses the answer.
    """
    headers = Headers(scope=scope)
    declared = headers.get("content-length", "0")
    large = not declared.isdecimal() or int(declared) > limit
    if large and "expect" in headers:  # nothing of it was sent yet
        raise _TooLargeError
    parts, size, more = [], 0, True
    while more and not (large and size >= UNREAD):
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ConnectionResetError("the caller has gone")
        part = message.get("body", b"")
        size += len(part)
        large = large or size > limit
        if not large:
            parts.append(part)
        more = message.get("more_body", False)
    if large:
        raise _TooLargeError
    return b"".join(parts)


def replayed(body: bytes, receive: Receive) -> Receive:
    """Receive the body again, then what comes after it (a disconnection)."""
    messages: list[dict[str, Any]] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return messages.pop() if messages else await receive()

    return replay
