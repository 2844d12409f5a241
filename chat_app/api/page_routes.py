"""Which of Gradio's routes are open, and to whom.

Gradio brings sixty routes for each page: uploads, files, streams, recordings, API descriptions.
Our pages need one of them, the call of a function by its name; every other one does not exist here.
All calls have one session, which keeps nothing. Nothing of the operator's page is for anybody else,
not even its layout.
"""

import asyncio
import json
import logging
import re
from collections.abc import Callable, Mapping
from typing import Any

from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chat_app.api.answers import explain, refuse, wants_page
from chat_app.api.bodies import replayed
from chat_app.api.callers import address_of, sees_progress, visitor_of
from chat_app.api.proxies import path_of
from chat_app.identity import Identity

log = logging.getLogger(__name__)

OPERATOR = "/operator"
FORM = f"{OPERATOR}/login"
# Routes of ours; the pages take every other path.
OWN = re.compile(
    r"\S+ (/v1(/.*)?|/(healthz|readyz|metrics))|GET /operator|(GET|POST) /operator/login"
    r"|POST /operator/logout|GET /operator/export/\w+"
)
# What a browser loads. Gradio has files below `/static/`, too, but no folder with the name of a
# version.
FILE = r"/static/[0-9a-f]{16}/[\w./-]+"
LOADED = re.compile(rf"/(compare|votes|progress|values)?|{FILE}|/brand(\.css|/logo)")
OF_OPERATOR = re.compile(r"/(progress|values)?")  # the same, below `/operator`
CALL = re.compile(r"/gradio_api/run/\w+", re.ASCII)  # of one function of a page
FOLLOW = re.compile(r"/follow/[\w-]+", re.ASCII)  # the reply to a message, while it is written
# Gradio makes a state for each session that it does not know, which takes milliseconds; our
# functions have none, so one does for all.
SESSION = "pages"

IsOperator = Callable[[Mapping[str, str], Mapping[str, str], str], bool]


class PageRoutes:
    """Lets through what the pages need, from whom it is for.

    Args:
        app: The application.
        identity: Knows visitors.
        is_operator: Whether headers, cookies and address are an operator's.
    """

    def __init__(self, app: ASGIApp, *, identity: Identity, is_operator: IsOperator) -> None:
        self._app = app
        self._identity = identity
        self._is_operator = is_operator

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
        called = scope["method"] == "POST" and CALL.fullmatch(place)
        followed = scope["method"] == "GET" and FOLLOW.fullmatch(path)
        loaded = scope["method"] in ("GET", "HEAD") and (
            OF_OPERATOR if of_operator else LOADED
        ).fullmatch(place)
        if not (called or followed or loaded) or ".." in path:
            await self._missing(scope, send, path)
            return
        who = await asyncio.to_thread(self._who, request, operator=of_operator)
        if who is None and of_operator and wants_page(scope):
            await _to_form(scope, send)
        elif who is None and not loaded and not sees_progress(request, self._identity):
            text = "this is for operators only" if of_operator else "the request has no cookie"
            await refuse(send, 401, f"{text}; open the page first")
        elif who is None and of_operator:
            await refuse(send, 401, "this is for operators only; open the page first")
        elif called:
            await self._call(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _missing(self, scope: Scope, send: Send, path: str) -> None:
        if wants_page(scope):
            await explain(scope, send, 404, "missing")
        else:
            await refuse(send, 404, f"no route {path}; the routes are in /v1/openapi.json")

    def _who(self, request: HTTPConnection, *, operator: bool) -> str | None:
        if operator:
            headers, address = dict(request.headers), address_of(request)
            known = self._is_operator(headers, request.cookies, address)
            return "operator" if known else None
        return visitor_of(request, self._identity)

    async def _call(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on a call of the function that its path names, and of no other.

        Gradio calls another one, if the body has its number.
        """
        message = await receive()  # the whole body: `BodyLimit` has read it
        call = _object_of(message.get("body", b""))
        if call.keys() == {"data"} and isinstance(call["data"], list):
            body = json.dumps({**call, "session_hash": SESSION}).encode()
            await self._quietly(_of_length(scope, len(body)), replayed(body, receive), send)
        else:
            await refuse(send, 400, "the call cannot be read; reload the page")

    async def _quietly(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on an event that may be wrong: that is one line in the log, which quotes nothing."""
        begun = False

        async def noted(message: Message) -> None:
            nonlocal begun
            # Gradio calls every mistake of a caller an error of the server
            begun = begun or message.get("status", 500) != 500
            if begun:
                await send(message)

        try:
            await self._app(scope, receive, noted)
        except Exception as exc:
            log.warning("a wrong event of a page was refused: %s", type(exc).__name__)
        if not begun:
            await refuse(send, 400, "the event cannot be read; reload the page")


def _of_length(scope: Scope, length: int) -> Scope:
    """A request whose body has another length."""
    others = [item for item in scope["headers"] if item[0] != b"content-length"]
    return {**scope, "headers": [*others, (b"content-length", str(length).encode())]}


def _object_of(body: bytes) -> dict[str, Any]:
    try:
        found: Any = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


async def _to_form(scope: Scope, send: Send) -> None:
    place = f"{scope.get('root_path', '')}{FORM}".encode()
    headers = [(b"location", place), (b"content-length", b"0")]
    await send({"type": "http.response.start", "status": 303, "headers": headers})
    await send({"type": "http.response.body", "body": b""})
