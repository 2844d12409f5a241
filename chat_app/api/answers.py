"""Refusals of the middleware, which answers before any route: OpenAI's shape, or a page in words.

Programs get JSON in English; a browser that wants a page gets one, in its language.

The middleware is plain ASGI, so these send their messages themselves.
"""

import html
import json
from collections.abc import Mapping
from math import ceil
from typing import Any

from starlette.datastructures import Headers
from starlette.requests import HTTPConnection
from starlette.types import Scope, Send

from chat_app.api.languages import direction_of, language_of, version_of_files, words_of
from chat_app.settings import BrandSettings

KIND = {  # of an error, by its status
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    429: "rate_limit_error",
}
PAGE = """<!doctype html>
<html lang="{lang}" dir="{direction}"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title} · {name}</title>
<link rel="icon" href="{logo}">
<link rel="stylesheet" href="{static}/theme/app.css">
<link rel="stylesheet" href="{root}/brand.css"></head>
<body class="plain"><main class="card stack">
<p class="brand"><img src="{logo}" alt="" width="26" height="26"> <span dir="auto">{name}</span></p>
<h1>{title}</h1>
{content}
</main></body></html>"""
POLICY = "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'"


def openai_error(
    message: str, kind: str, code: str | None = None, param: str | None = None
) -> dict[str, Any]:
    """An error in OpenAI's shape; ``param`` is the field of the request that is wrong."""
    return {"message": message, "type": kind, "param": param, "code": code}


async def refuse(
    send: Send,
    status: int,
    text: str,
    *,
    code: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> None:
    """Answer with an error as the API's."""
    error = openai_error(text, KIND.get(status, "invalid_request_error"), code)
    await _send(send, status, json.dumps({"error": error}), "application/json", headers or {})


async def explain(scope: Scope, send: Send, status: int, name: str) -> None:
    """Answer with a page that says why there is no other one, in the language of the request.

    It may stand in any frame, for it says nothing but that.

    Args:
        scope: The request.
        send: Sends the answer.
        status: Its status.
        name: Which page, as in the words ``page.error.NAME``.
    """
    page = error_page(HTTPConnection(scope), name)
    headers = {"content-security-policy": POLICY}
    await _send(send, status, page, "text/html; charset=utf-8", headers)


def error_page(request: HTTPConnection, name: str) -> str:
    """The HTML of such a page, with a link to the chat, which opens in a tab of its own."""
    words = words_of(language_of(request), "page")
    home = html.escape(f"{request.scope.get('root_path', '')}/")
    text, link = (html.escape(words[key]) for key in (f"page.error.{name}.text", "page.home"))
    content = f'<p>{text}</p><p><a class="button" href="{home}" target="_blank">{link}</a></p>'
    return plain_page(request, words[f"page.error.{name}"], content)


def plain_page(request: HTTPConnection, title: str, content: str) -> str:
    """A page without a script.

    Args:
        request: Says in which language it is, and under which path.
        title: Its heading.
        content: HTML, whose texts are escaped.
    """
    lang, root, brand = language_of(request), request.scope.get("root_path", ""), _brand(request)
    static = f"{root}/static/{version_of_files()}"
    return PAGE.format(
        lang=lang,
        direction=direction_of(lang),
        title=html.escape(title),
        name=html.escape(brand.name),
        logo=html.escape(f"{root}/brand/logo" if brand.logo else f"{static}/theme/icon.svg"),
        static=html.escape(static),
        root=html.escape(root),
        content=content,
    )


def _brand(request: HTTPConnection) -> BrandSettings:
    app = request.scope.get("app")
    service = getattr(getattr(app, "state", None), "service", None)
    return BrandSettings() if service is None else service.settings.brand


def wants_page(scope: Scope) -> bool:
    """Whether a browser wants to show the answer as a page."""
    return (
        scope["type"] == "http"
        and scope["method"] == "GET"
        and "text/html" in Headers(scope=scope).get("accept", "")
    )


async def _send(send: Send, status: int, text: str, kind: str, headers: Mapping[str, str]) -> None:
    body = text.encode()
    named = {"content-type": kind, "content-length": str(len(body)), **headers}
    pairs = [(name.encode(), value.encode()) for name, value in named.items()]
    await send({"type": "http.response.start", "status": status, "headers": pairs})
    await send({"type": "http.response.body", "body": body})


def retry_after(exc: Exception) -> dict[str, str]:
    """The header that says when to try again, if the error knows."""
    seconds = getattr(exc, "seconds", None)
    return {} if seconds is None else {"retry-after": str(max(1, ceil(seconds)))}
