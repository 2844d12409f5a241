"""Refusals of the middleware, which answers before any route: OpenAI's shape, or a page in words.

The middleware is plain ASGI, so these send their messages themselves.
"""

import html
import json
from collections.abc import Mapping
from math import ceil
from typing import Any

from starlette.datastructures import Headers
from starlette.types import Scope, Send

KIND = {  # of an error, by its status
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    429: "rate_limit_error",
}
PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>feedback-chat</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><style>
:root {{ color-scheme: light dark; }}
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 32rem; margin: 3rem auto;
  padding: 0 1rem; }}
</style></head><body><h1>{title}</h1><p>{text}</p>{link}</body></html>"""


def openai_error(message: str, kind: str, code: str | None = None) -> dict[str, Any]:
    """An error in OpenAI's shape."""
    return {"message": message, "type": kind, "param": None, "code": code}


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


async def explain(send: Send, status: int, title: str, text: str, *, link: str = "") -> None:
    """Answer with a small page that says why there is no other one.

    It may stand in any frame, for it says nothing but that. ``link`` opens in a tab of its own.
    """
    shown = f'<p><a href="{html.escape(link)}" target="_blank">Open the chat.</a></p>'
    page = PAGE.format(title=html.escape(title), text=html.escape(text), link=shown if link else "")
    headers = {"content-security-policy": "default-src 'none'; style-src 'unsafe-inline'"}
    await _send(send, status, page, "text/html; charset=utf-8", headers)


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
