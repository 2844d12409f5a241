"""Browsers and their cookie: who gets one, and what a browser sees that keeps none.

A browser without a cookie of ours is sent to the same page once more, with a cookie. If it comes
back without, it keeps none, and a page says so. A frame of another site gets no cookies either, and
a page that says so. Nothing is stored for a cookie before its visitor does something. Whom a named
proxy names needs no cookie; where anonymous visitors may not come, nobody else gets the page.
"""

import asyncio
import logging
from collections.abc import Callable
from urllib.parse import parse_qs

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chat_app.api.answers import explain, wants_page
from chat_app.api.callers import LOOKS, visitor_of
from chat_app.api.proxies import path_of, user_of
from chat_app.identity import Identity
from feedback_store.errors import FeedbackStoreError

log = logging.getLogger(__name__)

YEAR = 365 * 24 * 3600
SENT = "visit"  # in the address of a page that was opened with a new cookie
FRAMES = ("iframe", "frame", "embed", "object")
FRAMED = "This chat cannot be shown inside another site: there it could not tell who you are."
NO_COOKIES = (
    "Your browser kept no cookie, so your conversations could not be told from other people's. "
    "Allow cookies for this site, then open it again."
)
CLOSED = (
    "This service is not open to anonymous visitors. Its operator can let a proxy name the users "
    '(options user_header and proxies), or open the page to anyone (option pages = "anyone").'
)


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
        if wants_page(scope) and _is_framed(scope):
            await explain(send, 403, "feedback-chat", FRAMED, link=_root(scope))
        elif user_of(connection):
            await self._app(scope, receive, send)
        elif rater_id is not None:
            present = await asyncio.to_thread(self._present, rater_id)
            if present == rater_id and identity.cookie in cookies:
                await self._app(scope, receive, send)
                return
            value = identity.new_cookie(present)
            given = self._giving(scope, send, value)
            await self._app(_named(scope, identity.cookie, value), receive, given)
        elif path_of(scope) != "/" or scope["method"] not in ("GET", "HEAD"):
            await self._app(scope, receive, send)
        elif not identity.access.visitors:
            await explain(send, 401, "Not open to everybody", CLOSED)
        elif not wants_page(scope):  # a program looks whether there is a page
            value = identity.new_cookie()
            given = self._giving(scope, send, value)
            await self._app(_named({**scope, LOOKS: True}, identity.cookie, value), receive, given)
        elif SENT in parse_qs(scope["query_string"].decode("latin-1")):
            await explain(send, 403, "Cookies are needed", NO_COOKIES, link=_root(scope))
        else:
            await _redirect(
                self._giving(scope, send, identity.new_cookie()), f"{_root(scope)}?{SENT}=1"
            )

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


def _is_framed(scope: Scope) -> bool:
    headers = Headers(scope=scope)
    elsewhere = headers.get("sec-fetch-site") in ("cross-site", "same-site")
    return elsewhere and headers.get("sec-fetch-dest") in FRAMES


def _named(scope: Scope, name: str, value: str) -> Scope:
    """The request as if it had come with this cookie too."""
    others = [item for item in scope["headers"] if item[0] != b"cookie"]
    kept = [f"{key}={old}" for key, old in HTTPConnection(scope).cookies.items() if key != name]
    cookie = "; ".join([f"{name}={value}", *kept]).encode("latin-1", "replace")
    return {**scope, "headers": [*others, (b"cookie", cookie)]}


def _root(scope: Scope) -> str:
    return f"{scope.get('root_path', '')}/"


async def _redirect(send: Send, place: str) -> None:
    headers = [(b"location", place.encode()), (b"content-length", b"0")]
    await send({"type": "http.response.start", "status": 303, "headers": headers})
    await send({"type": "http.response.body", "body": b""})
