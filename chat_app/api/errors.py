"""Errors of the HTTP API: each has its HTTP status, and all have OpenAI's shape.

Only a browser that wants a page, beside the API, gets a page in words.

This module decides no error; it only turns the errors of the other layers into answers.
"""

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.routing import Match
from starlette.types import Receive, Scope, Send

from chat_app.api.answers import (
    KIND,
    POLICY,
    error_page,
    openai_error,
    retry_after,
    wants_page,
)
from chat_app.api.logs import HEADER, request_id
from chat_app.api.proxies import path_of
from chat_app.api.v1.completions import completions
from chat_app.api.v1.dialogue import NotSupportedError
from chat_app.api.v1.routes import operate, router
from chat_app.errors import (
    BusyError,
    ChatAppError,
    InvalidRequestError,
    NotAllowedError,
    NotFoundError,
    RefusedError,
    TooManyError,
    UnknownCallerError,
    text_for_visitor,
)
from feedback_store.errors import (
    ConflictError,
    CycleInProgressError,
    FeedbackStoreError,
    InvalidFeedbackError,
    StoreUnavailableError,
    UnknownRecordError,
)

STATUS: dict[type[Exception], int] = {
    InvalidRequestError: 400,
    InvalidFeedbackError: 400,
    UnknownCallerError: 401,  # before the error that it refines
    NotAllowedError: 403,
    NotFoundError: 404,
    UnknownRecordError: 404,
    RefusedError: 409,
    ConflictError: 409,
    CycleInProgressError: 409,
    TooManyError: 429,
    BusyError: 503,
    StoreUnavailableError: 503,
}
HEALTH = ("/healthz", "/readyz", "/metrics")
PAGES = {404: "missing", 429: "wait"}  # in the words, for a browser that wants a page
FASTAPI_UNREADABLE = "There was an error parsing the body"  # what FastAPI says of one
UNREADABLE = "the body cannot be read as JSON in UTF-8; send one plain JSON object"
SHOWN = 60  # characters of a wrong value


def add_error_handlers(app: FastAPI) -> None:
    """Answer errors of the routes and unknown routes under `/v1` in one shape.

    Call it after the API's routes are added and before the pages, which take every other path.
    """
    for path in ("/v1", "/v1/{path:path}", *HEALTH):
        app.add_route(path, _UnknownRoute(app))  # type: ignore[arg-type]  # Starlette takes an app

    @app.exception_handler(ChatAppError)
    @app.exception_handler(FeedbackStoreError)
    async def expected(request: Request, exc: Exception) -> Response:
        status = next((code for kind, code in STATUS.items() if isinstance(exc, kind)), 500)
        fault = Fault(
            text_for_visitor(exc), getattr(exc, "param", None), getattr(exc, "code", None)
        )
        return _error(request, status, fault, retry_after(exc))

    @app.exception_handler(RequestValidationError)
    async def malformed(request: Request, exc: RequestValidationError) -> Response:
        return _error(request, 400, _fault(exc.errors()[0]))

    @app.exception_handler(HTTPException)
    async def plain(request: Request, exc: HTTPException) -> Response:
        text = UNREADABLE if exc.detail == FASTAPI_UNREADABLE else str(exc.detail)
        return _error(request, exc.status_code, Fault(text), exc.headers)

    @app.exception_handler(Exception)
    async def unexpected(request: Request, exc: Exception) -> Response:
        text = "the server failed on this request; its log has the details"
        return _error(request, 500, Fault(text))


class _UnknownRoute:
    """Answers 404 or 405, and OPTIONS. As an ASGI application it gets every method."""

    def __init__(self, app: FastAPI) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path, methods = scope["path"], self._methods(scope)
        if methods and scope["method"] == "OPTIONS":
            allowed = {"Allow": ", ".join([*methods, "OPTIONS"])}
            await Response(status_code=204, headers=allowed)(scope, receive, send)
            return
        if methods:
            text = f"{path} does not allow {scope['method']}; use {' or '.join(methods)}"
            raise HTTPException(405, text, headers={"Allow": ", ".join(methods)})
        raise HTTPException(404, f"no route {path}; the routes are in {self._app.openapi_url}")

    def _methods(self, scope: Scope) -> list[str]:
        """The methods that a known path allows."""
        known = (*self._app.routes, *completions.routes, *router.routes, *operate.routes)
        fits = [route for route in known if route.matches(scope)[0] is Match.PARTIAL]
        found = {name for route in fits for name in getattr(route, "methods", None) or ()}
        return sorted(found | ({"HEAD"} if "GET" in found else set()))  # see `HeadAsGet`


class Fault(NamedTuple):
    """What is wrong with a request, for OpenAI's fields of an error."""

    message: str
    param: str | None = None
    code: str | None = None


def _fault(error: Mapping[str, Any]) -> Fault:
    """The fault of a request: the field, the rule, and the value if there is one."""
    if error["type"] == "json_invalid":
        place = f"at character {error['loc'][-1]}"
        return Fault(f"the body is not JSON: {error['ctx']['error']} {place}; send one JSON object")
    if error["type"] in ("model_attributes_type", "dict_type") and error["loc"] == ("body",):
        return Fault(f"the body is not a JSON object, got {_short(error['input'])}")
    param = ".".join(str(part) for part in error["loc"] if part != "body") or None
    cause = error.get("ctx", {}).get("error")  # of a check of ours, without pydantic's words
    text = f"{param or 'body'}: {cause if isinstance(cause, ValueError) else error['msg']}"
    if isinstance(cause, NotSupportedError):
        return Fault(text, param, "unsupported_parameter")
    if error["type"] == "missing":
        return Fault(text, param, "missing_required_parameter")
    return Fault(f"{text}, got {_short(error['input'])}", param, "invalid_value")


def _short(value: Any) -> str:
    """The start of a value as JSON, without unpaired surrogates, which no answer can hold."""
    if isinstance(value, bytes):  # a body that was sent as something else than JSON
        value = value[: 2 * SHOWN].decode(errors="replace")
    text = json.dumps(value, ensure_ascii=False, default=repr)
    text = text.encode(errors="replace").decode()
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


def _error(
    request: Request, status: int, fault: Fault, headers: Mapping[str, str] | None = None
) -> Response:
    named = {HEADER: request_id()} if status == 500 else {}  # `RequestIds` does not see its answer
    if wants_page(request.scope) and not path_of(request.scope).startswith("/v1"):
        page = error_page(request, PAGES.get(status, "failed"))
        about = {"content-security-policy": POLICY, **named}
        return HTMLResponse(page, status, {**about, **(headers or {})})
    kind = KIND.get(status, "server_error" if status >= 500 else "invalid_request_error")
    again = {"retry-after": "1"} if status == 503 else named
    error = openai_error(fault.message, kind, fault.code, fault.param)
    return JSONResponse({"error": error}, status, {**again, **(headers or {})})
