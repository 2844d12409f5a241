"""The operator's login: a token, from the address or a form, becomes a signed cookie.

The redirect removes the token from the address bar, so it is in no history or bookmark. A wrong
token leads to a plain page that says so at once, without a script. The check of the token is in
`chat_app.handlers.operator`.
"""

import asyncio
from urllib.parse import parse_qs

import fastapi
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from chat_app.errors import NotAllowedError
from chat_app.handlers.operator import COOKIE, SESSION_S, OperatorDoor

HOME = "/operator/"
FORM = "/operator/login"
WRONG_TOKEN_S = 0.5  # delay of the answer to a wrong token
FORM_BYTES = 4096
WRONG = "That token was wrong. The server printed the right one at its last start."
LOGIN = """<form method="post" action="/operator/login" class="login">
<label for="token">The operator's token, which the server printed at its start</label>
<input id="token" name="token" type="password" autocomplete="current-password" required>
<button type="submit">Enter</button></form>"""
PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>feedback-chat operator</title><style>
:root {{ color-scheme: light dark; }}
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 32rem; margin: 3rem auto;
  padding: 0 1rem; }}
form {{ display: flex; flex-wrap: wrap; gap: 10px; }}
input, button {{ font: inherit; padding: .4rem .8rem; }}
</style></head><body><h1>feedback-chat · operator</h1>{problem}{form}</body></html>"""


def add_login(app: fastapi.FastAPI, door: OperatorDoor) -> None:
    """Add ``GET /operator`` (with or without ``?token=``) and ``/operator/login``."""

    @app.get("/operator", include_in_schema=False)
    async def enter(token: str | None = None) -> Response:
        return await _let_in(door, token) if token else RedirectResponse(HOME, 303)

    @app.get(FORM, include_in_schema=False)
    async def form(wrong: str | None = None) -> Response:
        problem = f'<p role="alert"><b>{WRONG}</b></p>' if wrong else ""
        return HTMLResponse(PAGE.format(problem=problem, form=LOGIN), 403 if wrong else 200)

    @app.post(FORM, include_in_schema=False)
    async def login(request: fastapi.Request) -> Response:
        body = await request.body()
        fields = parse_qs(body[:FORM_BYTES].decode("utf-8", "replace"))
        return await _let_in(door, fields.get("token", [""])[0].strip())


async def _let_in(door: OperatorDoor, token: str | None) -> Response:
    try:
        cookie = door.cookie(token)
    except NotAllowedError:
        await asyncio.sleep(WRONG_TOKEN_S)
        return RedirectResponse(f"{FORM}?wrong=1", 303)
    response = RedirectResponse(HOME, 303)
    response.set_cookie(
        COOKIE, cookie, max_age=SESSION_S, path="/operator", httponly=True, samesite="lax"
    )
    return response
