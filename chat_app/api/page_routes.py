"""Which of Gradio's routes are open, and to whom.

Gradio brings sixty routes for each page: uploads, files, streams, recordings, API descriptions.
Our pages need few of them; every other one does not exist here. An event's session belongs to who
began it: another visitor who knows its name can neither send to it nor read from it. Nothing of the
operator's page is for anybody else, not even its layout.
"""

import asyncio
import json
import logging
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from math import ceil
from typing import Any
from urllib.parse import parse_qs

from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chat_app.api.answers import refuse, wants_page
from chat_app.api.bodies import replayed
from chat_app.api.callers import address_of, visitor_of
from chat_app.api.proxies import path_of
from chat_app.errors import NotAllowedError
from chat_app.identity import Identity
from chat_app.service.rates import Buckets, Latest

log = logging.getLogger(__name__)

OPERATOR = "/operator"
FORM = f"{OPERATOR}/login"
# Routes of ours; the pages take every other path.
OWN = re.compile(
    r"\S+ (/v1(/.*)?|/(healthz|readyz|metrics))|GET /operator|(GET|POST) /operator/login"
    r"|POST /operator/logout"
)
# What a page loads, by method; a path below `/operator` is looked up without that.
LOADED = re.compile(r"/|/(assets|static)/[\w./@-]+|/(theme\.css|favicon\.ico|robots\.txt)")
STREAM = "/gradio_api/queue/data"
EVENTS = ("/gradio_api/queue/join", "/gradio_api/run/predict")
PAGES_PER_MINUTE = 30  # that one visitor opens
STREAMS = 32  # of one visitor at the same time; a tab has one while something happens in it
UNREAD_S = 60.0  # after which results that nobody fetches are dropped

IsOperator = Callable[[Mapping[str, str], Mapping[str, str], str], bool]


class PageRoutes:
    """Lets through what the pages need, from whom it is for.

    Args:
        app: The application.
        identity: Knows visitors.
        is_operator: Whether headers, cookies and address are an operator's.
        sessions: Remembers whose the sessions are.
    """

    def __init__(
        self, app: ASGIApp, *, identity: Identity, is_operator: IsOperator, sessions: "Sessions"
    ) -> None:
        self._app = app
        self._identity = identity
        self._is_operator = is_operator
        self._sessions = sessions

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer that there is no such route, or not for this caller."""
        if scope["type"] != "http" or OWN.fullmatch(
            f"{scope['method']} {(path := path_of(scope))}"
        ):
            await self._app(scope, receive, send)
            return
        request = HTTPConnection(scope)
        of_operator = path.startswith(f"{OPERATOR}/")
        place = path.removeprefix(OPERATOR) if of_operator else path
        events = scope["method"] == "POST" and place in EVENTS
        stream = scope["method"] == "GET" and place == STREAM
        loaded = scope["method"] in ("GET", "HEAD") and LOADED.fullmatch(place)
        if not (events or stream or loaded) or ".." in path:
            await refuse(send, 404, f"no route {path}; the routes are in /v1/openapi.json")
            return
        who = await asyncio.to_thread(self._who, request, operator=of_operator)
        if who is None and of_operator and wants_page(scope):
            await _to_form(scope, send)
        elif who is None and not loaded:
            text = "this is for operators only" if of_operator else "the request has no cookie"
            await refuse(send, 401, f"{text}; open the page first")
        elif who is None and of_operator:
            await refuse(send, 401, "this is for operators only; open the page first")
        elif loaded:
            await self._app(scope, receive, send)
        else:
            answer = self._event if events else self._stream
            try:
                await answer(scope, receive, send, str(who))
            except NotAllowedError as exc:
                await refuse(send, 403, str(exc))

    def _who(self, request: HTTPConnection, *, operator: bool) -> str | None:
        if operator:
            headers, address = dict(request.headers), address_of(request)
            known = self._is_operator(headers, request.cookies, address)
            return "operator" if known else None
        return visitor_of(request, self._identity)

    async def _event(self, scope: Scope, receive: Receive, send: Send, who: str) -> None:
        message = await receive()  # the whole body: `BodyLimit` has read it
        session = _session_of(message.get("body", b""))
        if session is None:
            await refuse(send, 400, "the event has no session; reload the page")
        elif seconds := self._sessions.begin(session, who):
            text = "too many pages were opened in a minute; wait, then reload"
            await refuse(send, 429, text, headers={"retry-after": str(ceil(seconds))})
        else:
            await self._quietly(scope, replayed(message.get("body", b""), receive), send)

    async def _quietly(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on an event that may be wrong: that is one line in the log, which quotes nothing."""
        begun = False

        async def noted(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._app(scope, receive, noted)
        except Exception as exc:
            log.warning("a wrong event of a page was refused: %s", type(exc).__name__)
            if not begun:
                await refuse(send, 400, "the event cannot be read; reload the page")

    async def _stream(self, scope: Scope, receive: Receive, send: Send, who: str) -> None:
        query = parse_qs(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        name, *others = query.get("session_hash", [""])
        if others:  # which of them Gradio would take is not our guess to make
            await refuse(send, 400, "name one session")
        elif (session := self._sessions.of(name, who)) is None:
            await refuse(send, 404, "there is no such session; reload the page")
        elif self._sessions.streams(who) >= STREAMS:
            text = f"{STREAMS} streams are open for you already; close a tab"
            await refuse(send, 429, text, headers={"retry-after": "5"})
        else:
            with self._sessions.reading(session):
                await self._quietly(scope, receive, send)


@dataclass
class PageSession:
    """One of Gradio's sessions: one page in one tab.

    Attributes:
        owner: Who began it.
        since: When its last stream ended, or when the first event came that nobody has read.
        unread: Whether an event came since that stream.
        streams: How many streams read it at present.
    """

    owner: str
    since: float
    unread: bool = False
    streams: int = 0


class Sessions:
    """Whose each session is, and which ones nobody reads; only the event loop uses it."""

    def __init__(self, *, now: Callable[[], float] = time.monotonic) -> None:
        self._sessions = Latest[PageSession]()
        self._begun = Buckets(PAGES_PER_MINUTE, 60.0, now=now)
        self._now = now

    def begin(self, name: str, who: str) -> float:
        """Begin an event; returns 0, or the seconds to wait for who opens too many pages.

        Each page that is opened is a session, whose first event costs more than a request.

        Raises:
            NotAllowedError: The session is another visitor's.
        """
        session = self.of(name, who)
        if session is None:
            if seconds := self._begun.take(who):
                return seconds
            session = PageSession(who, self._now())
        if not session.unread:
            session.since, session.unread = self._now(), True
        self._sessions[name] = session
        return 0.0

    def of(self, name: str, who: str) -> PageSession | None:
        """A session that somebody began; None if nobody did.

        Raises:
            NotAllowedError: It is another visitor's.
        """
        session = self._sessions.get(name)
        if session is not None and session.owner != who:
            raise NotAllowedError("this session is another visitor's; reload the page")
        return session

    def streams(self, who: str) -> int:
        """How many streams somebody reads at present."""
        return sum(one.streams for one in self._sessions.values() if one.owner == who)

    @contextmanager
    def reading(self, session: PageSession) -> Iterator[None]:
        """While the results of a session are read."""
        session.streams += 1
        try:
            yield
        finally:
            session.streams -= 1
            session.since, session.unread = self._now(), False

    def is_unread(self, name: str) -> bool:
        """Whether nobody reads a session and its minute is over; more events do not renew it."""
        session = self._sessions.get(name)
        if session is None:
            return True
        return not session.streams and self._now() - session.since >= UNREAD_S


def _session_of(body: bytes) -> str | None:
    try:
        found: Any = json.loads(body)
    except (ValueError, RecursionError):
        return None
    session = found.get("session_hash") if isinstance(found, dict) else None
    return session if isinstance(session, str) and 0 < len(session) <= 64 else None


async def _to_form(scope: Scope, send: Send) -> None:
    place = f"{scope.get('root_path', '')}{FORM}".encode()
    headers = [(b"location", place), (b"content-length", b"0")]
    await send({"type": "http.response.start", "status": 303, "headers": headers})
    await send({"type": "http.response.body", "body": b""})
