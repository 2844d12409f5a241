"""The HTML of a page before its script draws it, and the files that it loads.

Invariant: a page loads nothing but our own files, which no text of a chat can change. So its
policy (`api/origins.py`) allows no other script, no style and no host. What the script has to know
stands in the page as data: the settings that visitors may know, and the words of one language.
"""

import html
import json
import re
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import fastapi
from fastapi.responses import HTMLResponse, Response
from starlette.staticfiles import StaticFiles

from chat_app.api.languages import (
    LANGUAGE_COOKIE,
    LANGUAGES,
    STATIC,
    direction_of,
    language_of,
    version_of_files,
    words_of,
)
from chat_app.pages.brand import logo_of, style_of, texts_of
from chat_app.settings import Settings

IMPORT = re.compile(r'\bfrom "(\.[\w./-]+)"')
PLACES = {
    "chat": "/",
    "compare": "/compare",
    "votes": "/votes",
    "progress": "/progress",
    "values": "/values",
}

SHELL = """<!doctype html>
<html lang="{lang}" dir="{direction}">
<head>
<meta charset="utf-8">
<meta name="viewport"
 content="width=device-width, initial-scale=1, interactive-widget=resizes-content">
<title>{title}</title>
<meta name="description" content="{description}">
<meta property="og:title" content="{title}">
<meta property="og:description" content="{description}">
<meta property="og:type" content="website">
<meta name="referrer" content="same-origin">
<link rel="icon" href="{logo}">
<link rel="stylesheet" href="{static}/theme/app.css">
<link rel="stylesheet" href="{static}/{page}/style.css">
<link rel="stylesheet" href="{root}/brand.css">
{preloads}
<script type="application/json" id="config">{config}</script>
<script type="application/json" id="words">{words}</script>
<script type="module" src="{static}/{page}/main.js"></script>
</head>
<body>
<div id="app"><noscript><p>{noscript}</p></noscript></div>
</body>
</html>
"""


@dataclass(frozen=True, slots=True)
class Shell:
    """Makes the pages."""

    settings: Settings
    pages: tuple[str, ...]
    events: str = "/gradio_api"

    def page(self, page: str, request: fastapi.Request) -> HTMLResponse:
        """The HTML of one page, in the language that the browser asks for."""
        root = str(request.scope.get("root_path", ""))
        lang = language_of(request)
        words, static = (
            words_of(lang, "page", page, "server"),
            f"{root}/static/{version_of_files()}",
        )
        brand = self.settings.brand
        logo = f"{root}/brand/logo" if brand.logo else f"{static}/theme/icon.svg"
        name = words[f"page.{page}"]
        filled = SHELL.format(
            lang=lang,
            direction=direction_of(lang),
            title=html.escape(brand.name if page == "chat" else f"{name} · {brand.name}"),
            description=html.escape(brand.about or words["page.about"]),
            root=html.escape(root),
            static=html.escape(static),
            logo=html.escape(logo),
            page=page,
            preloads="\n".join(
                f'<link rel="modulepreload" href="{html.escape(static)}/{file}">'
                for file in modules_of(page)
            ),
            config=_data(self._config(page, root, lang, logo)),
            words=_data(words_of_scripts(words)),
            noscript=html.escape(words["page.noscript"]),
        )
        return HTMLResponse(filled)

    def _config(self, page: str, root: str, lang: str, logo: str) -> dict[str, Any]:
        """What the page's script may know of the settings."""
        settings = self.settings
        return {
            "root": root,
            "page": page,
            "lang": lang,
            "languages": LANGUAGES,
            "language_cookie": LANGUAGE_COOKIE,
            "pages": self.pages,
            "events": self.events,
            "brand": texts_of(settings.brand) | {"logo": logo},
            "markdown": settings.shows_markdown,
            "starter": settings.is_starter,
            "message_chars": settings.limits.message_chars,
            # a text of no more characters fits, whatever it says; of a longer one the model decides
            "sure_chars": min(settings.limits.message_chars, settings.reply.prompt_tokens // 4),
        }


def add_pages(app: fastapi.FastAPI, shell: Shell) -> None:
    """Serve the pages of visitors, and their files below a name that changes with them."""
    for page in shell.pages:
        add = app.api_route(PLACES[page], methods=["GET", "HEAD"], include_in_schema=False)
        add(partial(_served, shell, page))
    style, logo = style_of(shell.settings.brand), logo_of(shell.settings.brand)

    @app.api_route("/brand.css", methods=["GET", "HEAD"], include_in_schema=False)
    async def brand() -> Response:
        return Response(style, media_type="text/css")

    @app.api_route("/brand/logo", methods=["GET", "HEAD"], include_in_schema=False)
    async def brand_logo() -> Response:
        return Response(status_code=404) if logo is None else Response(logo[0], media_type=logo[1])

    app.mount(f"/static/{version_of_files()}", StaticFiles(directory=STATIC), name="static")


async def _served(shell: Shell, page: str, request: fastapi.Request) -> HTMLResponse:
    return shell.page(page, request)


@cache
def modules_of(page: str) -> tuple[str, ...]:
    """The modules that a page imports, so that the browser fetches them all at once."""
    waiting, found = [STATIC / page / "main.js"], dict[Path, None]()
    while waiting:
        file = waiting.pop()
        for name in IMPORT.findall(file.read_text("utf-8")):
            module = (file.parent / name).resolve()
            if module not in found:
                found[module] = None
                waiting.append(module)
    return tuple(sorted(module.relative_to(STATIC.resolve()).as_posix() for module in found))


def words_of_scripts(words: dict[str, str]) -> dict[str, str]:
    """The words without those of error pages, which have no script."""
    return {key: text for key, text in words.items() if not key.startswith("page.error.")}


def _data(value: Any) -> str:
    """JSON that can stand in HTML."""
    return json.dumps(value, ensure_ascii=False).replace("<", "\\u003c")
