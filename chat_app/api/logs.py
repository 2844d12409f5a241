"""The server's log: one line for each event, as text or as JSON, with the id of the request.

Invariants: every HTTP answer names its request, and so does each line that is written for it. No
line has the path, the query or the headers of a request, which may hold anything, nor the message
of an unexpected error, which may quote people: its type and the lines of code say where it was.
That holds for what nobody caught, too: in a task, a thread, or while an object was thrown away.
"""

import json
import logging
import os
import re
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextvars import ContextVar
from datetime import UTC, datetime
from types import TracebackType
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chat_app.settings import DEBUG_VARIABLE, LogSettings
from feedback_store.raters.keys import is_key
from feedback_store.sqlite.ids import iso_utc, new_id

HEADER = "x-request-id"
_ROUTE = "feedback_chat.route"  # in the scope: a list for the route, known further in
WELL_FORMED = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{7,63}", re.ASCII)
TEXT = "%(asctime)s %(levelname)s %(name)s: %(message)s%(about)s"
REQUESTS = "chat_app.requests"  # the logger of requests and replies

log = logging.getLogger(__name__)
_request: ContextVar[str] = ContextVar("request", default="")
_requests = logging.getLogger(REQUESTS)

_Error = tuple[type[BaseException], BaseException, TracebackType | None]
_Errors = _Error | tuple[None, None, None]


def request_id() -> str:
    """The id of the request that is being answered; empty outside of one."""
    return _request.get()


def begin_log(settings: LogSettings) -> None:
    """Write the log of this process to stderr: warnings of all, and what the service tells."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines() if settings.format == "json" else TextLines())
    handler.addFilter(_without_values)
    threading.excepthook = _log_thread
    sys.unraisablehook = _log_unraisable
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    logging.getLogger("chat_app").setLevel(logging.INFO)
    _requests.setLevel(logging.INFO if settings.requests else logging.WARNING)


class TextLines(logging.Formatter):
    """Lines for people."""

    def __init__(self) -> None:
        super().__init__(TEXT)

    def format(self, record: logging.LogRecord) -> str:
        """The line, with the request at its end."""
        record.about = f" (request {request_id()})" if request_id() else ""
        record.exc_text = None  # another handler's form of the error, with its message
        return super().format(record)

    def formatException(self, ei: _Errors) -> str:
        """An error as its type and place; with the variable for debugging all of it."""
        return super().formatException(ei) if _debugs() else "\n".join(_places(ei[1]))


class JsonLines(logging.Formatter):
    """One JSON object a line: time, level, logger, message, request; and more where it is known."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        moment = datetime.fromtimestamp(record.created, UTC)
        line: dict[str, Any] = {
            "time": iso_utc(moment),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if request_id():
            line["request"] = request_id()
        line |= getattr(record, "facts", {})
        if record.exc_info and record.exc_info[1] is not None:
            error = record.exc_info[1]
            line["error"] = [*_places(error)]
            if _debugs():
                line["error"] = "".join(traceback.format_exception(error)).splitlines()
        return json.dumps(line, ensure_ascii=False, default=str)


class RequestIds:
    """Middleware that gives each request an id, in its log lines and its answer.

    The sender's own is taken if it is well formed and no key of ours. Each request has a task of
    its own, so the id ends with it.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request through, and log it at its end."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get(HEADER, "")
        known = WELL_FORMED.fullmatch(given) and not is_key(given)
        _request.set(given if known else new_id())
        status, started = 0, time.perf_counter()
        scope = {**scope, _ROUTE: []}

        async def naming(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)[HEADER] = request_id()
            await send(message)

        try:
            await self._app(scope, receive, naming)
        except Exception:  # the outermost middleware answers it
            status = status or 500
            raise
        finally:
            _log_request(scope, status, time.perf_counter() - started)


def note_route(scope: Scope) -> None:
    """Tell the log which route has answered; middlewares between copy the scope."""
    if path := getattr(scope.get("route"), "path", ""):
        scope.get(_ROUTE, []).append(path)


def _log_request(scope: Scope, status: int, seconds: float) -> None:
    route = next(iter(scope[_ROUTE]), "unknown")
    facts = {"method": scope["method"], "route": route, "status": status or "none"}
    facts |= {"seconds": round(seconds, 4)}
    told = " ".join(f"{name}={value}" for name, value in facts.items())
    _requests.info("request %s", told, extra={"facts": facts})


def _without_values(record: logging.LogRecord) -> bool:
    """Leave out what asyncio shows of an error that nobody awaited: its message, the arguments."""
    if record.name == "asyncio" and not _debugs():
        record.msg, record.args = re.split(r"\n| in callback ", record.getMessage())[0], None
    return True


def _log_thread(failed: threading.ExceptHookArgs) -> None:
    """Log what has ended a thread, as any other unexpected error."""
    if failed.exc_value is not None and not isinstance(failed.exc_value, SystemExit):
        name = failed.thread.name if failed.thread else "without a name"
        log.error("the thread %s has ended", name, exc_info=failed.exc_value)


def _log_unraisable(failed: "sys.UnraisableHookArgs") -> None:
    """Log what went wrong where nobody can catch it, as while an object is thrown away."""
    log.error("an error was ignored", exc_info=failed.exc_value)


def _places(error: BaseException | None) -> Iterator[str]:
    """The types of an error and of what caused it, each with its way through the code."""
    while error is not None:
        yield type(error).__name__
        for frame in traceback.extract_tb(error.__traceback__):
            yield f"  {frame.filename}:{frame.lineno} in {frame.name}"
        for part in error.exceptions if isinstance(error, BaseExceptionGroup) else ():
            yield from (f"  {line}" for line in _places(part))
        error = error.__cause__ or error.__context__


def _debugs() -> bool:
    return bool(os.environ.get(DEBUG_VARIABLE))
