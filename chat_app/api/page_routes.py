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
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from math import ceil
from typing import Any
from urllib.parse import parse_qs

from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chat_app.api.answers import refuse, wants_page
from chat_app.api.bodies import replayed
from chat_app.api.callers import address_of, visitor_of
from chat_app.api.proxies import path_of
from chat_app.identity import Identity
from chat_app.service.rates import Buckets

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
SESSIONS = 20_000  # that are remembered; with fewer, one who fills the list would free names
PAGES_PER_MINUTE = 30  # that one visitor opens
STREAMS = 32  # of one visitor at the same time; a tab has one while something happens in it
NOT_YOURS = "this session is another visitor's; reload the page"
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
        elif events:
            await self._event(scope, receive, send, who)
        elif stream:
            await self._stream(scope, receive, send, who)
        else:
            await self._app(scope, receive, send)

    def _who(self, request: HTTPConnection, *, operator: bool) -> str | None:
        if operator:
            headers, address = dict(request.headers), address_of(request)
            known = self._is_operator(headers, request.cookies, address)
            return "operator" if known else None
        return visitor_of(request, self._identity)

    async def _event(self, scope: Scope, receive: Receive, send: Send, who: str | None) -> None:
        message = await receive()  # the whole body: `BodyLimit` has read it
        session = _session_of(message.get("body", b""))
        if session is None:
            await refuse(send, 400, "the event has no session; reload the page")
        elif not self._sessions.take(session, str(who)):
            await refuse(send, 403, NOT_YOURS)
        elif seconds := self._sessions.too_many(session, str(who)):
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

    async def _stream(self, scope: Scope, receive: Receive, send: Send, who: str | None) -> None:
        query = parse_qs(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        session, *others = query.get("session_hash", [""])
        if others:  # which of them Gradio would take is not our guess to make
            await refuse(send, 400, "name one session")
        elif not self._sessions.has(session):
            await refuse(send, 404, "there is no such session; reload the page")
        elif not self._sessions.take(session, str(who)):
            await refuse(send, 403, NOT_YOURS)
        elif self._sessions.streams(str(who)) >= STREAMS:
            text = f"{STREAMS} streams are open for you already; close a tab"
            await refuse(send, 429, text, headers={"retry-after": "5"})
        else:
            with self._sessions.reading(session):
                await self._quietly(scope, receive, send)


class Sessions:
    """Whose each of Gradio's sessions is, and which ones nobody reads."""

    def __init__(self, *, now: Callable[[], float] = time.monotonic) -> None:
        self._owners: OrderedDict[str, tuple[str, float]] = OrderedDict()
        self._read: Counter[str] = Counter()
        self._begun = Buckets(PAGES_PER_MINUTE, 60.0, now=now)
        self._counted: OrderedDict[str, None] = OrderedDict()  # sessions that were paid for
        self._now = now

    def has(self, session: str) -> bool:
        """Whether somebody has begun an event in a session."""
        return session in self._owners

    def too_many(self, session: str, who: str) -> float:
        """Seconds to wait for somebody who begins many sessions; 0 if this one is well.

        Each page that is opened is a session, whose first event costs more than a request.
        """
        if session in self._counted:
            return 0.0
        seconds = self._begun.take(who)
        if not seconds:
            self._counted[session] = None
            while len(self._counted) > SESSIONS:
                self._counted.popitem(last=False)
        return seconds

    def take(self, session: str, who: str) -> bool:
        """Give a session to whoever comes first; returns whether it is this one's."""
        owner, _ = self._owners.setdefault(session, (who, self._now()))
        if owner != who:
            return False
        # an event is no sign that somebody reads: only a new session, or a stream, has a minute
        self._owners.move_to_end(session)
        while len(self._owners) > SESSIONS:
            self._owners.popitem(last=False)
        return True

    @contextmanager
    def reading(self, session: str) -> Iterator[None]:
        """While its results are read."""
        self._read[session] += 1
        try:
            yield
        finally:
            self._read[session] -= 1
            if not self._read[session]:
                del self._read[session]
            if session in self._owners:
                self._owners[session] = (self._owners[session][0], self._now())

    def streams(self, who: str) -> int:
        """How many streams somebody reads at present."""
        return sum(n for name, n in self._read.items() if self._owners.get(name, ("",))[0] == who)

    def is_unread(self, session: str) -> bool:
        """Whether nobody has read a session for a minute, however many events were begun in it."""
        _, then = self._owners.get(session, ("", -UNREAD_S))
        return not self._read[session] and self._now() - then >= UNREAD_S


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
