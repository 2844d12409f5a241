"""Browsers and their cookie: who gets one, and what a browser sees that keeps none.

A browser without a cookie of ours is sent to the same page once more, with a cookie. If it comes
back without, it keeps none, and a page says so. A frame of another site gets no cookies either, and
a page that says so. Nothing is stored for a cookie before its visitor does something. Whom a named
proxy names needs no cookie, nor does a progress that everybody may see; where anonymous visitors
may not come, nobody else gets the page.
"""

import asyncio
import logging
from collections.abc import Callable
from urllib.parse import parse_qs

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chat_app.api.answers import explain, refuse, wants_page
from chat_app.api.callers import (
    LOOKS,
    OF_PROGRESS,
    VISITOR,
    is_kept,
    sees_progress,
    visitor_of,
)
from chat_app.api.proxies import path_of, user_of
from chat_app.identity import Identity
from feedback_store.errors import FeedbackStoreError

log = logging.getLogger(__name__)

YEAR = 365 * 24 * 3600
SENT = "visit"  # in the address of a page that was opened with a new cookie
PAGES = ("/", "/compare", "/votes", *OF_PROGRESS)
FRAMES = ("iframe", "frame", "embed", "object")
KEPT = "The operator of this service keeps the page of its progress private."


class VisitorCookie:
    """Gives a browser a signed cookie when it opens the chat page, if it needs one.

    Args:
        app: The application.
        identity: Signs the cookie.
        forgotten: Whether everything that a rater said was erased; such a visitor starts anew.
    """

    def __init__(
        self, app: ASGIApp, *, identity: Identity, forgotten: Callable[[str], bool]
    ) -> None:
        self._app = app
        self._identity = identity
        self._forgotten = forgotten

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, with the cookie of its visitor; or send the browser for one."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        identity, connection = self._identity, HTTPConnection(scope)
        cookies, rater_id = connection.cookies, visitor_of(connection, identity)
        if await _refused(scope, send, kept=is_kept(connection, identity)):
            return
        if user_of(connection):
            await self._app(scope, receive, send)
        elif rater_id is not None:
            present = await asyncio.to_thread(self._present, rater_id)
            if present == rater_id and identity.cookie in cookies:
                await self._app(scope, receive, send)
                return
            value = identity.new_cookie(present)
            given = self._giving(scope, send, value)
            await self._app(_named(scope, identity.cookie, value), receive, given)
        elif not _opens_page(scope) or sees_progress(connection, identity):
            await self._app(scope, receive, send)
        elif not identity.access.visitors:
            await explain(scope, send, 401, "closed")
        elif not wants_page(scope):  # a program looks whether there is a page
            value = identity.new_cookie()
            given = self._giving(scope, send, value)
            await self._app(_named({**scope, LOOKS: True}, identity.cookie, value), receive, given)
        elif SENT in parse_qs(scope["query_string"].decode("latin-1")):
            await explain(scope, send, 403, "cookies")
        else:
            await _redirect(self._giving(scope, send, identity.new_cookie()), _once_more(scope))

    def _present(self, rater_id: str) -> str:
        """The rater, or whoever came after if that one was forgotten.

        Requests that come together find the same one.
        """
        try:
            while self._forgotten(rater_id):
                rater_id = self._identity.successor(rater_id)
        except FeedbackStoreError as exc:  # the route says so, if it needs the store
            log.warning("who was forgotten cannot be read: %s", exc)
        return rater_id

    def _giving(self, scope: Scope, send: Send, value: str) -> Send:
        """Send an answer with the cookie."""
        secure = "; Secure" if scope["scheme"] == "https" else ""
        place = scope.get("root_path") or "/"
        cookie = f"{self._identity.cookie}={value}; Path={place}; Max-Age={YEAR}"
        cookie += "; HttpOnly; SameSite=Lax"

        async def with_cookie(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).append("set-cookie", cookie + secure)
            await send(message)

        return with_cookie


async def _refused(scope: Scope, send: Send, *, kept: bool) -> bool:
    """Refuse what nobody gets, for which nobody needs a cookie; returns whether it was."""
    framed = wants_page(scope) and _is_framed(scope)
    if framed:
        await explain(scope, send, 403, "framed")
    elif kept and wants_page(scope):
        await explain(scope, send, 403, "private")
    elif kept:
        await refuse(send, 403, KEPT)
    return framed or kept


def _opens_page(scope: Scope) -> bool:
    return path_of(scope) in PAGES and scope["method"] in ("GET", "HEAD")


def _is_framed(scope: Scope) -> bool:
    headers = Headers(scope=scope)
    elsewhere = headers.get("sec-fetch-site") in ("cross-site", "same-site")
    return elsewhere and headers.get("sec-fetch-dest") in FRAMES


def _named(scope: Scope, name: str, value: str) -> Scope:
    """The request as if it had come with this cookie too."""
    others = [item for item in scope["headers"] if item[0] != b"cookie"]
    kept = [f"{key}={old}" for key, old in HTTPConnection(scope).cookies.items() if key != name]
    cookie = "; ".join([f"{name}={value}", *kept]).encode("latin-1", "replace")
    named = {**scope, "headers": [*others, (b"cookie", cookie)]}
    named.pop(VISITOR, None)  # it was another one's, or nobody's
    return named


def _once_more(scope: Scope) -> str:
    """The same page, with the mark of a new cookie; `chat_app/pages` takes it off the address."""
    asked = scope["query_string"].decode("latin-1")
    query = f"{asked}&{SENT}=1" if asked else f"{SENT}=1"
    return f"{scope.get('root_path', '')}{path_of(scope)}?{query}"


async def _redirect(send: Send, place: str) -> None:
    headers = [(b"location", place.encode()), (b"content-length", b"0")]
    await send({"type": "http.response.start", "status": 303, "headers": headers})
    await send({"type": "http.response.body", "body": b""})
