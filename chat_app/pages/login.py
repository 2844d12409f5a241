"""The operator's login: a token or key, from the address or a form, becomes a signed cookie.

The redirect removes the token from the address bar, so it is in no history or bookmark. A wrong
token leads to a plain page that says so at once, without a script, and its address has no
token. The check is in `chat_app.api.operator_door`.
"""

import asyncio
import html
from math import ceil
from urllib.parse import parse_qs

import fastapi
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from chat_app.api.callers import address_of
from chat_app.api.operator_door import SESSION_S, OperatorDoor
from chat_app.errors import NotAllowedError, TooManyError

HOME = "/operator/"
FORM, OUT = "/operator/login", "/operator/logout"
WRONG_TOKEN_S = 0.5  # delay of the answer to a wrong token
FORM_BYTES = 4096
WRONG = (
    "That is no token or key of an operator. The server printed the token at its last start; a key "
    "needs the role operator."
)
TOO_MANY = "Too many wrong tokens came from your address. Try again in {minutes} minutes."
LOGIN = """<form method="post" action="{place}" class="login">
<label for="token">The operator's token, which the server printed at its start, or a key</label>
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


def add_login(app: fastapi.FastAPI, door: OperatorDoor, cookie: str) -> None:
    """Add ``GET /operator`` (with or without ``?token=``), its login and its logout.

    Args:
        app: The application.
        door: Checks the token.
        cookie: Name of the operator's cookie.
    """

    @app.get("/operator", include_in_schema=False)
    async def enter(request: fastapi.Request, token: str | None = None) -> Response:
        if token is None or _is_of_another_page(request):
            return RedirectResponse(_place(request, HOME), 303)
        return await let_in(request, token)

    @app.get(FORM, include_in_schema=False)
    async def form(request: fastapi.Request, wrong: int = 0, wait: int = 0) -> Response:
        if wait:
            return _page(request, TOO_MANY.format(minutes=wait), 429)
        return _page(request, WRONG if wrong else "", 403 if wrong else 200)

    @app.post(FORM, include_in_schema=False)
    async def login(request: fastapi.Request) -> Response:
        body = await request.body()
        fields = parse_qs(body[:FORM_BYTES].decode("utf-8", "replace"))
        return await let_in(request, fields.get("token", [""])[0].strip())

    @app.post(OUT, include_in_schema=False)
    async def logout(request: fastapi.Request) -> Response:
        await asyncio.to_thread(door.close, request.cookies)
        response = RedirectResponse(_place(request, FORM), 303)
        response.delete_cookie(cookie, path=_place(request, "/operator"))
        return response

    async def let_in(request: fastapi.Request, token: str) -> Response:
        """A cookie in exchange for a token, or the form with what was wrong."""
        try:
            value = await asyncio.to_thread(door.cookie, token, address_of(request))
        except TooManyError as exc:
            minutes = ceil(exc.seconds / 60)
            return RedirectResponse(f"{_place(request, FORM)}?wait={minutes}", 303)
        except NotAllowedError:
            await asyncio.sleep(WRONG_TOKEN_S)
            return RedirectResponse(f"{_place(request, FORM)}?wrong=1", 303)
        response = RedirectResponse(_place(request, HOME), 303)
        response.set_cookie(
            cookie,
            value,
            max_age=SESSION_S,
            path=_place(request, "/operator"),
            secure=request.url.scheme == "https",
            httponly=True,
            samesite="lax",
        )
        return response


def _is_of_another_page(request: fastapi.Request) -> bool:
    """Whether a page of others sent this: it may send wrong tokens, to have the operator wait."""
    return request.headers.get("sec-fetch-site") not in (None, "none", "same-origin")


def _page(request: fastapi.Request, problem: str, status: int) -> Response:
    shown = f'<p role="alert"><b>{html.escape(problem)}</b></p>' if problem else ""
    return HTMLResponse(
        PAGE.format(problem=shown, form=LOGIN.format(place=_place(request, FORM))), status
    )


def _place(request: fastapi.Request, path: str) -> str:
    """A path of ours as the browser knows it."""
    return str(request.scope.get("root_path", "")) + path
