"""The operator's way in: the token, from the address or a form, becomes a signed cookie.

The redirect takes the token out of the address bar, so that it stays in no history or bookmark.
"""

import asyncio
from urllib.parse import parse_qs

import fastapi
from fastapi.responses import RedirectResponse, Response

from chat_app.errors import NotAllowedError
from chat_app.handlers.operator import COOKIE, SESSION_S, Door

HOME = "/operator/"
WRONG_TOKEN_S = 0.5  # what a wrong guess costs
FORM_BYTES = 4096


def add_login(app: fastapi.FastAPI, door: Door) -> None:
    """Add ``GET /operator`` (with or without ``?token=``) and ``POST /operator/login``."""

    @app.get("/operator", include_in_schema=False)
    async def enter(token: str | None = None) -> Response:
        return await _let_in(door, token) if token else RedirectResponse(HOME, 303)

    @app.post("/operator/login", include_in_schema=False)
    async def login(request: fastapi.Request) -> Response:
        body = await request.body()
        fields = parse_qs(body[:FORM_BYTES].decode("utf-8", "replace"))
        return await _let_in(door, fields.get("token", [""])[0].strip())


async def _let_in(door: Door, token: str | None) -> Response:
    try:
        cookie = door.cookie(token)
    except NotAllowedError:
        await asyncio.sleep(WRONG_TOKEN_S)
        return RedirectResponse(f"{HOME}?wrong=1", 303)
    response = RedirectResponse(HOME, 303)
    response.set_cookie(
        COOKIE, cookie, max_age=SESSION_S, path="/operator", httponly=True, samesite="lax"
    )
    return response
