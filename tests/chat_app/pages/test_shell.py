"""The HTML of the pages and their files: what they load, and that no text can become a script."""

import json
import re
import shutil
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import fastapi
import pytest
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st

from chat_app.api import languages
from chat_app.api.languages import STATIC, version_of_files
from chat_app.api.origins import FOR_EVER, OwnOriginOnly
from chat_app.pages.shell import PLACES, Shell, add_pages, words_of_scripts
from chat_app.settings import BrandSettings, Settings

PAGES = tuple(page for page in PLACES if (STATIC / page).is_dir())
TYPES = {
    ".js": "text/javascript",
    ".css": "text/css",
    ".svg": "image/svg+xml",
    ".json": "application/json",
}
IMPORTS = re.compile(r"""(?:\bfrom|\bimport)\s*\(?\s*["']([^"'\s]+)["']""")


class Elements(HTMLParser):
    """What a browser finds in a page: its elements, and the text of each script and title."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, str] = {}
        self._in = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        self._in = str(dict(attrs).get("id") or tag) if tag in ("script", "title") else ""

    def handle_endtag(self, tag: str) -> None:
        self._in = ""

    def handle_data(self, data: str) -> None:
        if self._in:
            self.texts[self._in] = self.texts.get(self._in, "") + data

    def of(self, tag: str) -> list[dict[str, str | None]]:
        """The attributes of all elements of a kind."""
        return [attributes for name, attributes in self.found if name == tag]

    @property
    def config(self) -> dict[str, Any]:
        """What the page's script knows of the settings."""
        return dict(json.loads(self.texts["config"]))

    @property
    def loaded(self) -> list[str]:
        """The addresses of everything that the page names."""
        named = [a.get("src") or a.get("href") for _, a in self.found]
        return [address for address in named if address is not None]


def served(settings: Settings, *, root_path: str = "") -> TestClient:
    """A server of the pages and their files, behind our own headers."""
    app = fastapi.FastAPI()
    add_pages(app, Shell(settings, PAGES))
    guarded = OwnOriginOnly(app, hosts=(), local=True)
    return TestClient(guarded, base_url="http://127.0.0.1", root_path=root_path)


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return Settings.model_validate({"data": tmp_path_factory.mktemp("data")})


@pytest.fixture(scope="module")
def client(settings: Settings) -> Iterator[TestClient]:
    with served(settings) as client:
        yield client


def page_of(shell: Shell, page: str = "chat", *, root: str = "", **headers: str) -> Elements:
    """A page as a browser reads it that sends these headers."""
    sent = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    request = fastapi.Request({"type": "http", "headers": sent, "root_path": root})
    return Elements(bytes(shell.page(page, request).body).decode())


# What a page loads


@pytest.mark.parametrize("page", PAGES)
def test_a_page_loads_nothing_but_our_own_files_and_each_is_there(
    client: TestClient, page: str
) -> None:
    answer = client.get(PLACES[page])
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["cache-control"] == "no-store"
    elements = Elements(answer.text)
    assert len(elements.loaded) > 5
    for address in elements.loaded:
        assert address.startswith((f"/static/{version_of_files()}/", "/brand")), address
        assert client.get(address).status_code == 200, address
    assert elements.loaded[-1].endswith(f"/{page}/main.js")


@pytest.mark.parametrize("page", PAGES)
def test_a_program_can_look_whether_a_page_is_there(client: TestClient, page: str) -> None:
    answer = client.head(PLACES[page])
    assert (answer.status_code, answer.text) == (200, "")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"


@pytest.mark.parametrize("page", PAGES)
def test_a_page_has_no_script_and_no_style_of_its_own(client: TestClient, page: str) -> None:
    answer = client.get(PLACES[page])
    elements = Elements(answer.text)
    kinds = [(one.get("type"), "src" in one) for one in elements.of("script")]
    assert kinds == [("application/json", False), ("application/json", False), ("module", True)]
    assert not elements.of("style") and not elements.of("base")
    for _, attributes in elements.found:
        assert "style" not in attributes and not [name for name in attributes if name[:2] == "on"]
    policy = answer.headers["content-security-policy"]
    assert "script-src 'self';" in policy and "style-src 'self';" in policy
    assert "unsafe" not in policy


@pytest.mark.parametrize("page", [*PAGES, "operator"])
def test_what_a_page_imports_is_ours_and_is_fetched_at_once(
    client: TestClient, settings: Settings, page: str
) -> None:
    names = page_of(Shell(settings, PAGES), page).of("link")
    loads = [str(one["href"]) for one in names if one.get("rel") == "modulepreload"]
    loaded = {address.partition(f"/static/{version_of_files()}/")[2] for address in loads}
    waiting, seen = [STATIC / page / "main.js"], set[Path]()
    while waiting:
        file = waiting.pop()
        seen.add(file)
        for name in IMPORTS.findall(file.read_text(encoding="utf-8")):
            assert name.startswith("."), f"{file} imports {name}"
            wanted = (file.parent / name).resolve()
            assert wanted.is_relative_to(STATIC) and wanted.is_file(), f"{file} imports {name}"
            if "vendor" not in wanted.parts and wanted not in seen:
                waiting.append(wanted)
    needed = {file.relative_to(STATIC).as_posix() for file in seen} - {f"{page}/main.js"}
    assert needed == {name for name in loaded if not name.startswith("vendor/")}


# Ways in which a script makes HTML, or a script, of a text.
ACTING = re.compile(
    r"innerHTML|outerHTML|insertAdjacentHTML|srcdoc|setHTML|DOMParser|createContextualFragment"
    r"|document\.write|\beval\b|\bnew Function|setTimeout\(\s*[\"'`]|javascript:"
)


def test_one_line_of_our_scripts_makes_html_of_a_text_and_it_was_sanitised() -> None:
    scripts = [file for file in STATIC.rglob("*.js") if "vendor" not in file.parts]
    found = {
        (file.relative_to(STATIC).as_posix(), line.partition("//")[0].strip())
        for file in scripts
        for line in file.read_text(encoding="utf-8").splitlines()
        if ACTING.search(line)
    }
    assert len(scripts) > 10 and found == {("markdown.js", "box.current.innerHTML = safe;")}
    text = (STATIC / "markdown.js").read_text(encoding="utf-8")
    assert 'useMemo(() => (plain ? "" : rendered(text))' in text
    assert "return DOMPurify.sanitize(marked.parse(text), ALLOWED);" in text


def test_every_file_has_its_type_and_is_kept_for_ever(client: TestClient) -> None:
    files = [file for file in STATIC.rglob("*") if file.is_file()]
    assert len(files) > 20
    for file in files:
        address = f"/static/{version_of_files()}/{file.relative_to(STATIC).as_posix()}"
        answer = client.get(address)
        assert answer.status_code == 200 and answer.content == file.read_bytes()
        assert answer.headers["content-type"].partition(";")[0] == TYPES[file.suffix], address
        assert answer.headers["cache-control"] == FOR_EVER and "immutable" in FOR_EVER
        tag = {"if-none-match": answer.headers["etag"]}
        again = client.get(address, headers=tag)
        assert (again.status_code, again.headers["cache-control"]) == (304, FOR_EVER)


@pytest.mark.parametrize(
    "path", ["/static/{}/none.js", "/static/{}/", "/static/{}/../shell.py", "/static/0/kit.js"]
)
def test_a_file_that_is_not_there_is_not_remembered_as_missing(
    client: TestClient, path: str
) -> None:
    answer = client.get(path.format(version_of_files()))
    assert (answer.status_code, answer.headers["cache-control"]) == (404, "no-store")


def test_the_name_of_the_files_changes_with_any_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "static"
    shutil.copytree(STATIC, copy)
    monkeypatch.setattr(languages, "STATIC", copy)
    read = version_of_files.__wrapped__
    assert read() == version_of_files()
    names = {read()}
    with (copy / "chat" / "main.js").open("a", encoding="utf-8") as file:
        file.write("\n")
    names.add(read())
    (copy / "chat" / "main.js").rename(copy / "chat" / "other.js")
    names.add(read())
    (copy / "theme" / "new.css").write_text("")
    names.add(read())
    assert len(names) == 4
    assert all(re.fullmatch("[0-9a-f]{16}", name) for name in names), "as `api/page_routes` knows"


@pytest.mark.parametrize("page", PAGES)
def test_below_a_path_of_a_proxy_every_address_is_below_it(settings: Settings, page: str) -> None:
    elements = page_of(Shell(settings, PAGES), page, root="/chat")
    assert all(address.startswith(("/chat/static/", "/chat/brand")) for address in elements.loaded)
    assert elements.config["root"] == "/chat"


# What stands in it


def test_the_page_knows_which_page_it_is_and_how_to_call_the_server(settings: Settings) -> None:
    config = page_of(Shell(settings, ("chat", "compare")), "compare").config
    assert (config["page"], config["pages"]) == ("compare", ["chat", "compare"])
    assert config["events"] == "/gradio_api"
    assert config["message_chars"] == settings.limits.message_chars
    assert str(settings.data) not in json.dumps(config), "nothing of the server's disk"


texts = st.text(min_size=1, max_size=60)
HOSTILE = ("</script><script>alert(1)</script>", "<!--<script>", '"><img src=x onerror=alert(1)>')


@given(name=texts | st.sampled_from(HOSTILE), about=texts | st.sampled_from(HOSTILE))
def test_no_text_of_the_settings_breaks_out_of_its_place(name: str, about: str) -> None:
    brand = BrandSettings.model_construct(name=name, about=about, notice=about)
    settings = Settings.model_construct(brand=brand, limits=Settings().limits)
    elements = page_of(Shell(settings, PAGES))
    assert len(elements.of("script")) == 3 and not elements.of("img")
    config = elements.config
    assert (config["brand"]["name"], config["brand"]["about"]) == (name, about)
    [described] = [one for one in elements.of("meta") if one.get("name") == "description"]
    assert described["content"] == about and elements.texts["title"] == name


@given(root=texts | st.sampled_from(HOSTILE))
def test_no_address_breaks_out_of_its_place(root: str) -> None:
    elements = page_of(Shell(Settings(), PAGES), root=root)
    assert len(elements.of("script")) == 3 and not elements.of("img")
    assert elements.config["root"] == root
    assert all(address.startswith(root) for address in elements.loaded)


# Languages


@pytest.mark.parametrize(
    ("asked", "cookie", "given"),
    [
        ("", "", "en"),
        ("de", "", "de"),
        ("DE-at,de;q=0.9,en;q=0.8", "", "de"),
        ("fr, en-GB;q=0.8, de;q=0.5", "", "en"),
        ("fr-FR,fr;q=0.9", "", "en"),
        ("*", "", "en"),
        (";;,q=1,,", "", "en"),
        ("de", "en", "en"),
        ("en", "de", "de"),
        ("de", "xx", "de"),
        ("en", "../../secrets", "en"),
        ("ar", "", "ar"),
    ],
)
def test_the_language_is_the_chosen_one_or_the_first_that_the_browser_asks_for(
    monkeypatch: pytest.MonkeyPatch, asked: str, cookie: str, given: str
) -> None:
    monkeypatch.setattr(languages, "LANGUAGES", ("ar", "de", "en"))
    chosen = f"other=1; {languages.LANGUAGE_COOKIE}={cookie}".encode() if cookie else b"other=de"
    headers = [(b"accept-language", asked.encode()), (b"cookie", chosen)]
    request = fastapi.Request({"type": "http", "headers": headers})
    assert languages.language_of(request) == given


def test_a_page_says_its_language_and_direction(settings: Settings) -> None:
    for lang in languages.LANGUAGES:
        elements = page_of(Shell(settings, PAGES), accept_language=lang)
        direction = "rtl" if lang == "ar" else "ltr"
        assert elements.of("html") == [{"lang": lang, "dir": direction}]
        assert elements.config["lang"] == lang
        assert json.loads(elements.texts["words"]) == words_of_scripts(
            languages.words_of(lang, "page", "chat", "server")
        )
