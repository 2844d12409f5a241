"""Middleware for every request: a body limit, a cookie for browsers, a content security policy.

It is plain ASGI, so streamed answers and disconnections pass unchanged.
"""

import json
from http.cookies import SimpleCookie
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chat_app.identity import COOKIE, Identity
from chat_app.settings import LimitSettings

YEAR = 365 * 24 * 3600
# Gradio needs these sources, all from this origin. So no text of a chat can make a browser send a
# request to another host.
POLICY = "; ".join(
    (
        "default-src 'self' data: blob:",
        "script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:",
        "style-src 'self' 'unsafe-inline'",
        "object-src 'none'",
        "base-uri 'self'",
        "form-action 'self'",
    )
)


class OwnOriginOnly:
    """Lets browsers load pictures, media, frames and everything else from this origin only."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Add the policy to every answer."""

        async def with_policy(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["content-security-policy"] = POLICY
            await send(message)

        await self._app(scope, receive, with_policy)


class BodyLimit:
    """Answers 413 to a body that is too large before it is parsed, also without a length header.

    Starlette's own limit answers in plain text and ignores the error handlers; the API promises
    OpenAI's shape.
    """

    def __init__(self, app: ASGIApp, *, limits: LimitSettings) -> None:
        self._app = app
        self._limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Read the body up to the limit, then pass it on as one message."""
        if scope["type"] != "http" or scope["method"] in ("GET", "HEAD", "OPTIONS"):
            await self._app(scope, receive, send)
            return
        api = scope["path"].startswith("/v1/")
        limit = self._limits.body_bytes if api else self._limits.page_body_bytes
        declared = Headers(scope=scope).get("content-length", "0")
        body = b""
        if declared.isdecimal() and int(declared) <= limit:
            more = True
            while more and len(body) <= limit:
                message = await receive()
                if message["type"] == "http.disconnect":
                    return
                body += message.get("body", b"")
                more = message.get("more_body", False)
            if len(body) <= limit:
                await self._app(scope, _replayed(body, receive), send)
                return
        await _refuse(send, f"the request body is larger than {limit} bytes; send less")


class VisitorCookie:
    """Gives a browser a signed cookie when it opens a page; that request has the cookie already."""

    def __init__(self, app: ASGIApp, *, identity: Identity) -> None:
        self._app = app
        self._identity = identity

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Add a new cookie to a page request without a valid one, and to its answer."""
        if not _opens_page(scope) or self._known(scope):
            await self._app(scope, receive, send)
            return
        cookie = self._identity.new_cookie()
        others = [item for item in scope["headers"] if item[0] != b"cookie"]
        named = {**scope, "headers": [*others, (b"cookie", f"{COOKIE}={cookie}".encode())]}

        async def with_cookie(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).append(
                    "set-cookie",
                    f"{COOKIE}={cookie}; HttpOnly; SameSite=Lax; Path=/; Max-Age={YEAR}",
                )
            await send(message)

        await self._app(named, receive, with_cookie)

    def _known(self, scope: Scope) -> bool:
        jar = SimpleCookie(Headers(scope=scope).get("cookie", ""))
        return COOKIE in jar and self._identity.rater_of_cookie(jar[COOKIE].value) is not None


def _opens_page(scope: Scope) -> bool:
    return (
        scope["type"] == "http"
        and scope["method"] == "GET"
        and not scope["path"].startswith("/v1/")
        and "text/html" in Headers(scope=scope).get("accept", "")
    )


def _replayed(body: bytes, receive: Receive) -> Receive:
    """Receive the body again, then what comes after it (a disconnection)."""
    messages: list[dict[str, Any]] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return messages.pop() if messages else await receive()

    return replay


async def _refuse(send: Send, text: str) -> None:
    error = {"message": text, "type": "invalid_request_error", "param": None, "code": "too_large"}
    body = json.dumps({"error": error}).encode()
    headers = [(b"content-type", b"application/json"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": 413, "headers": headers})
    await send({"type": "http.response.body", "body": body})
