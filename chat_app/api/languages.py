"""The languages of the pages: which one a request wants, and its words.

The words stand beside the scripts that say them, in `pages/static/words/`; pages without a script,
such as that of an error, say theirs from here.
"""

import hashlib
import json
from functools import cache
from pathlib import Path

from starlette.requests import HTTPConnection

STATIC = Path(__file__).parents[1] / "pages" / "static"
LANGUAGES = tuple(sorted(folder.name for folder in (STATIC / "words").iterdir()))
RIGHT_TO_LEFT = ("ar",)
LANGUAGE_COOKIE = "feedback_chat_language"


def language_of(request: HTTPConnection) -> str:
    """The language that the visitor chose, or the first that the browser asks for and we have."""
    chosen = request.cookies.get(LANGUAGE_COOKIE)
    if chosen in LANGUAGES:
        return str(chosen)
    for wanted in request.headers.get("accept-language", "").split(","):
        name = wanted.split(";")[0].strip().lower().split("-")[0]
        if name in LANGUAGES:
            return name
    return "en"


def direction_of(lang: str) -> str:
    """In which direction a language is written, as HTML says it."""
    return "rtl" if lang in RIGHT_TO_LEFT else "ltr"


@cache
def words_of(lang: str, *names: str) -> dict[str, str]:
    """The words of some files of a language, such as of a page and of what all pages share."""
    words: dict[str, str] = {}
    for name in names:
        words |= json.loads((STATIC / "words" / lang / f"{name}.json").read_text("utf-8"))
    return words


@cache
def version_of_files() -> str:
    """A name for the present contents of all files, so that a browser may keep them for ever."""
    digest = hashlib.sha256()
    for file in sorted(STATIC.rglob("*")):
        if file.is_file():
            digest.update(file.relative_to(STATIC).as_posix().encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()[:16]
