"""Which routes of the mounted pages there are, and who may call them: on the whole application."""

import json
import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from chat_app.api.callers import OF_PROGRESS
from chat_app.api.languages import version_of_files
from chat_app.identity import Access, Identity
from chat_app.server import create_app
from feedback_store.store import FeedbackStore
from tests.chat_app.fakes import FakeEngine, fake_service
from tests.chat_app.pages.mounting import made, routes_of
from tests.chat_app.serving import UNLIMITED

HTML = {"accept": "text/html"}
# What Gradio would serve of each of its applications, by method.
OF_GRADIO = {
    "GET": (
        "/config",
        "/gradio_api/config",
        "/gradio_api/info",
        "/gradio_api/info?all_endpoints=true",
        "/gradio_api/openapi.json",
        "/gradio_api/file=/etc/passwd",
        "/gradio_api/file/etc/passwd",
        "/file=/etc/passwd",
        "/gradio_api/proxy=https://example.org",
        "/gradio_api/stream/abc/1/2/playlist.m3u8",
        "/gradio_api/upload_progress?upload_id=1",
        "/gradio_api/heartbeat/abc",
        "/gradio_api/call/chat_opened/abc",
        "/gradio_api/queue/status",
        "/gradio_api/queue/join",
        "/gradio_api/queue/data",
        "/gradio_api/queue/data?session_hash=pages",
        "/gradio_api/run/chat_newest",
        "/gradio_api/token",
        "/gradio_api/user",
        "/gradio_api/login_check",
        "/gradio_api/app_id",
        "/gradio_api/app_id/",
        "/gradio_api/dev/reload",
        "/gradio_api/startup-events",
        "/gradio_api/mcp/",
        "/gradio_api/mcp/sse",
        "/gradio_api/custom_component/a/client/component/index.js",
        "/svelte/svelte.js",
        "/static/img/logo.svg",
        "/static/fonts/IBMPlexMono/IBMPlexMono-Regular.woff2",
        "/assets/index.js",
        "/theme.css",
        "/manifest.json",
        "/monitoring",
        "/monitoring/summary",
        "/robots.txt",
        "/favicon.ico",
        "/login",
        "/logout",
        "/docs",
        "/openapi.json",
        "/some/page",
    ),
    "POST": (
        "/gradio_api/upload",
        "/upload",
        "/gradio_api/api/predict",
        "/gradio_api/api/chat_send",
        "/gradio_api/call/chat_send",
        "/gradio_api/call/v2/chat_send",
        "/gradio_api/component_server",
        "/gradio_api/cancel",
        "/gradio_api/reset",
        "/gradio_api/queue/join",
        "/gradio_api/queue/join?session_hash=pages",
        "/gradio_api/queue/data",
        "/follow/x",
        "/gradio_api/run/",
        "/gradio_api/run/a/b",
        "/gradio_api/process_recording",
        "/gradio_api/vibe-editor",
        "/gradio_api/mcp/messages",
        "/login",
        "/",
        "/compare",
        "/run/chat_newest",
    ),
    "PUT": ("/gradio_api/run/chat_newest",),
    "DELETE": ("/gradio_api/run/chat_newest",),
    "OPTIONS": ("/gradio_api/run/chat_newest",),
    "HEAD": ("/gradio_api/run/chat_newest", "/follow/x", "/config", "/assets/index.js"),
}


@dataclass(frozen=True)
class Site:
    """The whole application without its life, and what a browser with a cookie sends."""

    client: TestClient
    identity: Identity
    store: FeedbackStore

    def cookie(self) -> dict[str, str]:
        """The cookie of a new visitor."""
        return {"cookie": f"{self.identity.cookie}={self.identity.new_cookie()}"}

    def call(self, name: str, body: Any, **headers: str) -> tuple[int, Any]:
        """The status and the answer of a call of a function."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"content-type": "application/json", **headers}
        path = f"/gradio_api/run/{name}"
        answer = self.client.post(path, content=content, headers=headers)
        return answer.status_code, answer.json()


def open_site(data: Path, store: FeedbackStore, access: Access, **options: Any) -> Site:
    """A site on a store, that lets in whom `access` names."""
    service = fake_service(store, FakeEngine(), data, rates=UNLIMITED, **options)
    identity = Identity(data / "secrets", operator_token="right", access=access)
    app = made(lambda: create_app(service, identity))
    return Site(TestClient(app, base_url="http://127.0.0.1"), identity, store)


NO_CONVERSATIONS = {"conversations": [], "more": False, "passages": {}, "deleted": False}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    data = tmp_path_factory.mktemp("site")
    with FeedbackStore(data / "feedback.db") as store:
        yield open_site(data, store, Access())


def mounted(site: Site) -> list[tuple[str, Any]]:
    """Gradio's applications, and where each is."""
    routes = [one for one in site.client.app.routes if hasattr(one, "app")]  # type: ignore[attr-defined]
    return [(one.path, one.app) for one in routes if hasattr(one.app, "blocks")]


def test_no_route_of_gradio_exists_for_anybody_but_the_calls_of_our_functions(site: Site) -> None:
    own = [
        *("/", "/compare", "/votes", "/progress", "/values", "/brand.css", "/brand/logo"),
        *("/operator", "/operator/", "/operator/progress", "/operator/values"),
        *("/operator/login", "/operator/logout"),
    ]
    callers = ({}, site.cookie(), {**site.cookie(), "authorization": "Bearer right"})
    tried = 0
    for prefix, app in mounted(site):
        functions = {str(fn.api_name) for fn in app.blocks.fns.values()}
        for method, path in set(routes_of(app.routes, prefix)):
            for name in ("x", next(iter(functions))):
                plain = re.sub(r"{[^}]*}", name, path)
                if plain in own or (method, plain) == ("POST", f"{prefix}/gradio_api/run/{name}"):
                    continue
                for headers in callers:
                    answer = site.client.request(
                        method, plain, headers=headers, follow_redirects=False
                    )
                    assert answer.status_code == 404, f"{method} {plain}: {answer.status_code}"
                    assert method == "HEAD" or "no route" in answer.text, f"{method} {plain}"
                tried += 1
    assert tried > 200, "Gradio's routes were found"


@pytest.mark.parametrize("prefix", ["", "/operator"])
@pytest.mark.parametrize("method", OF_GRADIO)
def test_no_other_route_of_gradio_exists(site: Site, method: str, prefix: str) -> None:
    known = {**site.cookie(), "authorization": "Bearer right"}
    own = ("/operator/login", "/operator/logout") if prefix else ()
    for path in OF_GRADIO[method]:
        if f"{prefix}{path}" in own:
            continue
        for headers in ({}, known):
            answer = site.client.request(
                method, f"{prefix}{path}", headers=headers, follow_redirects=False
            )
            assert answer.status_code == 404, f"{method} {prefix}{path}: {answer.status_code}"
            assert method == "HEAD" or "no route" in answer.text, f"{method} {prefix}{path}"


@pytest.mark.parametrize("path", ["/../config", "/static/%2e%2e/config", "/static/..%2fconfig"])
def test_no_way_round_leads_to_them(site: Site, path: str) -> None:
    assert site.client.get(path, headers=site.cookie()).status_code == 404


@pytest.mark.parametrize("path", ["compare", "votes", "brand.css", "brand/logo", "static/x"])
def test_below_the_operators_path_are_the_operators_pages_only(site: Site, path: str) -> None:
    answer = site.client.get(f"/operator/{path}", headers={"authorization": "Bearer right"})
    assert answer.status_code == 404 and "no route" in answer.text


@pytest.mark.parametrize("path", ["/", "/compare", "/votes", "/brand.css", "/operator/"])
def test_a_program_can_look_whether_it_is_there_and_asks_nothing_of_gradio(
    site: Site, path: str
) -> None:
    headers = {**site.cookie(), "authorization": "Bearer right"}
    answer = site.client.head(path, headers=headers)
    assert (answer.status_code, answer.text) == (200, "")
    length = site.client.get(path, headers=headers).headers["content-length"]
    assert answer.headers["content-length"] == length


def test_a_page_that_only_operators_see_is_no_page_of_gradios_either(tmp_path: Path) -> None:
    with FeedbackStore(tmp_path / "feedback.db") as store:
        site = open_site(tmp_path, store, Access(), progress="operator")
        for method in ("GET", "HEAD"):
            for page in OF_PROGRESS:
                answer = site.client.request(method, page, headers=site.cookie())
                assert answer.status_code == 404 and "gradio" not in answer.text.lower()


def test_the_files_of_the_pages_are_open_and_kept_for_ever(site: Site) -> None:
    for file in ("chat/main.js", "theme/app.css", "vendor/preact.js", "words/en/page.json"):
        answer = site.client.get(f"/static/{version_of_files()}/{file}")
        assert answer.status_code == 200, file
        assert "immutable" in answer.headers["cache-control"]
        assert "set-cookie" not in answer.headers
    for path in (f"/static/{version_of_files()}/none.js", f"/static/{'0' * 16}/chat/main.js"):
        answer = site.client.get(path)
        assert (answer.status_code, answer.headers["cache-control"]) == (404, "no-store")


# Calls


def test_a_function_is_called_by_its_name_with_a_cookie_only(site: Site) -> None:
    status, answer = site.call("chat_conversations", {"data": ["", 100]}, **site.cookie())
    assert (status, answer["data"]) == (200, [{"ok": NO_CONVERSATIONS}])
    status, answer = site.call("chat_conversations", {"data": ["", 100]})
    assert status == 401 and "no cookie" in answer["error"]["message"]
    forged = {"cookie": site.cookie()["cookie"][:-2] + "xx"}
    assert site.call("chat_conversations", {"data": ["", 100]}, **forged)[0] == 401


def test_every_function_is_refused_to_who_may_not_come_in(site: Site) -> None:
    tried = 0
    for prefix, app in mounted(site):
        strangers = [{}, {"authorization": "Bearer wrong"}, {"cookie": "other=x"}]
        strangers += [site.cookie()] if prefix else [{"authorization": "Bearer right"}]
        for fn in app.blocks.fns.values():
            path = f"{prefix}/gradio_api/run/{fn.api_name}"
            for headers in strangers:
                answer = site.client.post(path, json={"data": []}, headers=headers)
                assert answer.status_code == 401, path
            tried += 1
    assert tried > 40


def test_no_function_waits_in_gradios_queue_or_is_described(site: Site) -> None:
    functions = [fn for _, app in mounted(site) for fn in app.blocks.fns.values()]
    assert functions and not any(fn.queue for fn in functions)
    assert {fn.api_visibility for fn in functions} == {"undocumented"}


def test_a_call_says_what_the_function_says_of_the_caller_alone(site: Site) -> None:
    ann, bob = site.cookie(), site.cookie()
    _, sent = site.call("chat_consent", {"data": [True]}, **ann)
    assert sent["data"] == [{"ok": True}]
    opened = [site.call("chat_opened", {"data": [None, None]}, **who)[1] for who in (ann, bob)]
    assert [one["data"][0]["ok"]["consented"] for one in opened] == [True, False]


@pytest.mark.parametrize(
    "body",
    [
        {"data": [""], "fn_index": 0},
        {"data": [""], "session_hash": "abc"},
        {"data": [""], "event_id": "x"},
        {"data": [""], "batched": True},
        {"data": [""], "api_name": "chat_opened"},
        {},
        {"fn_index": 0},
        [],
        [["data"]],
        "data",
        b"",
        b"{",
        b"[" * 20_000,
        b'{"data": ["\xff"]}',
    ],
)
def test_a_call_that_names_anything_but_its_arguments_is_refused(site: Site, body: Any) -> None:
    status, answer = site.call("chat_conversations", body, **site.cookie())
    assert (status, "cannot be read" in answer["error"]["message"]) == (400, True)


@pytest.mark.parametrize("name", ["nothing", "predict", "operate_now", "__init__", "chat_open"])
def test_a_function_that_is_unknown_or_gets_too_little_is_a_400_and_one_line_of_the_log(
    site: Site, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    status, answer = site.call(name, {"data": ["a secret"]}, **site.cookie())
    assert (status, "cannot be read" in answer["error"]["message"]) == (400, True)
    [entry] = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert entry.exc_info is None and "secret" not in entry.getMessage()


def test_the_operators_functions_are_for_operators_only(site: Site) -> None:
    for headers in ({}, site.cookie(), {"authorization": "Bearer wrong"}):
        for method, path in (("POST", "gradio_api/run/operate_now"), ("GET", "")):
            answer = site.client.request(method, f"/operator/{path}", headers=headers)
            assert answer.status_code == 401, path
    form = site.client.get("/operator/", headers=HTML, follow_redirects=False)
    assert (form.status_code, form.headers["location"]) == (303, "/operator/login")


def test_who_may_only_see_the_progress_calls_nothing_else(tmp_path: Path) -> None:
    access = Access(visitors=False, progress=True)
    with FeedbackStore(tmp_path / "feedback.db") as store:
        site = open_site(tmp_path, store, access, progress="public")
        for page in OF_PROGRESS:
            shown = site.client.get(page, headers=HTML, follow_redirects=False)
            assert shown.status_code == 200 and "set-cookie" not in shown.headers
            status, answer = site.call(f"{page[1:]}_view", {"data": []})
            assert (status, list(answer["data"][0])) == (200, ["ok"])
        assert site.call("chat_consent", {"data": [True]})[0] == 401
        for number in range(60):
            status, answer = site.call("progress_view", {"data": [True], "fn_index": number})
            assert status == 400
        assert site.client.get("/", headers=HTML).status_code == 401
        assert store.raters() == []
