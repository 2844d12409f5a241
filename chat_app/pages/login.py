"""The operator's login: a token or key, from the address or a form, becomes a signed cookie.

The redirect removes the token from the address bar, so it is in no history or bookmark. A wrong
token leads to a plain page that says so at once, without a script, and its address has no
token. The check is in `chat_app.api.operator_door`.
"""

import asyncio
import html
from collections.abc import Mapping
from math import ceil
from urllib.parse import parse_qs

import fastapi
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from chat_app.api.answers import plain_page
from chat_app.api.callers import address_of
from chat_app.api.languages import language_of, words_of
from chat_app.api.operator_door import SESSION_S, OperatorDoor
from chat_app.api.origins import of_another_page
from chat_app.errors import NotAllowedError, TooManyError

HOME = "/operator/"
FORM, OUT = "/operator/login", "/operator/logout"
WRONG_TOKEN_S = 0.5  # delay of the answer to a wrong token
FORM_BYTES = 4096
CONTENT = """{problem}<form method="post" action="{place}" class="stack">
<label class="field" for="token">{token}
<input id="token" name="token" type="password" autocomplete="current-password" required
 autofocus{wrong}></label>
<button type="submit" class="button primary">{enter}</button></form>
<p class="quiet"><a href="{home}">{chat}</a></p>"""


def add_login(app: fastapi.FastAPI, door: OperatorDoor, cookie: str) -> None:
    """Add ``GET /operator`` (with or without ``?token=``), its login and its logout.

    Args:
        app: The application.
        door: Checks the token.
        cookie: Name of the operator's cookie.
    """

    @app.get("/operator", include_in_schema=False)
    async def enter(request: fastapi.Request, token: str | None = None) -> Response:
        if token is None or of_another_page(request.headers):
            return RedirectResponse(_place(request, HOME), 303)
        return await let_in(request, token)

    @app.get(FORM, include_in_schema=False)
    async def form(request: fastapi.Request, wrong: int = 0, wait: int = 0) -> Response:
        words = words_of(language_of(request), "page", "operator")
        if wait:
            minutes = words["operator.minutes"].replace("{count}", str(wait))
            problem = words["operator.login.wait"].replace("{time}", minutes)
            return _page(request, words, problem, 429)
        problem = words["operator.login.wrong"] if wrong else ""
        return _page(request, words, problem, 403 if wrong else 200)

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


def _page(
    request: fastapi.Request, words: Mapping[str, str], problem: str, status: int
) -> Response:
    shown = f'<p role="alert" id="problem" class="bad">{html.escape(problem)}</p>'
    token, enter, chat = (
        html.escape(words[key])
        for key in ("operator.login.token", "operator.login.enter", "page.home")
    )
    content = CONTENT.format(
        problem=shown if problem else "",
        wrong=' aria-invalid="true" aria-describedby="problem"' if problem else "",
        place=html.escape(_place(request, FORM)),
        home=html.escape(_place(request, "/")),
        token=token,
        enter=enter,
        chat=chat,
    )
    return HTMLResponse(plain_page(request, words["operator.login"], content), status)


def _place(request: fastapi.Request, path: str) -> str:
    """A path of ours as the browser knows it."""
    return str(request.scope.get("root_path", "")) + path
