"""What other origins, other hosts and other people's cookies can do: nothing."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st

from chat_app.api.origins import OwnOriginOnly
from chat_app.identity import OLD_COOKIE, Identity
from chat_app.server import create_app
from feedback_store.store import FeedbackStore
from tests.chat_app.fakes import FakeEngine, fake_service

PAGE = {"accept": "text/html"}
# What other applications of the same host may have left in a browser.
FOREIGN = (
    'prefs={"a": 1}',
    "user[id]=1",
    "flag",
    "nom=é",
    'q="abc',
    "q=a b",
    "path=x",
    "expires=x",
    "domain=x; secure; httponly",
    "a/b=1",
    "a(b)=1",
    "a@b=1",
    "a{b}=1",
    "a,b=1",
    "a?b=1",
    "=empty",
    ";;;",
    "x=" + "y" * 3000,
    'x="a;b"',
    "x=%00%ff",
)


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient]:
    with FeedbackStore(tmp_path / "feedback.db") as store:
        service = fake_service(store, FakeEngine(), tmp_path, hosts=("chat.example.org",))
        service.ready = True
        app = create_app(service, Identity(tmp_path / "secrets"), pages=False)
        yield TestClient(app, base_url="http://127.0.0.1:7860")


@pytest.fixture
def identity(tmp_path: Path) -> Identity:
    return Identity(tmp_path / "secrets")


def ask(client: TestClient, **headers: str) -> int:
    """The status of a request that stores something."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    body = {"messages": [{"role": "user", "content": "hi"}]}
    named = {"authorization": "Bearer alice", **named}
    return client.post("/v1/chat/completions", json=body, headers=named).status_code


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://127.0.0.1:9999"},  # another port of this machine
        {"origin": "http://localhost:7860"},  # another name of it
        {"origin": "https://127.0.0.1:7860"},
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"sec_fetch_site": "cross-site"},
        {"sec_fetch_site": "same-site"},
        {"origin": "http://127.0.0.1:7860", "sec_fetch_site": "same-site"},
    ],
)
def test_a_request_from_another_origins_page_is_refused(
    client: TestClient, headers: dict[str, str]
) -> None:
    assert ask(client, **headers) == 403


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"origin": "http://127.0.0.1:7860"},
        {"origin": "http://127.0.0.1:7860", "sec_fetch_site": "same-origin"},
        {"sec_fetch_site": "none"},
    ],
)
def test_our_own_pages_and_programs_that_are_no_browsers_are_served(
    client: TestClient, headers: dict[str, str]
) -> None:
    assert ask(client, **headers) == 200


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:7860", 200),
        ("localhost", 200),
        ("[::1]:7860", 200),
        ("chat.example.org", 200),
        ("CHAT.example.org:443", 200),
        ("evil.example", 400),
        ("chat.example.org.evil.example", 400),
        ("192.0.2.1", 400),  # the service listens on this machine alone
        ("", 400),
        ("[::1", 400),
    ],
)
def test_only_the_services_own_names_are_answered(
    client: TestClient, host: str, status: int
) -> None:
    assert ask(client, host=host) == status


def test_beyond_this_machine_numeric_addresses_and_named_domains_are_answered() -> None:
    async def nothing(*_: object) -> None:
        """An application."""

    guard = OwnOriginOnly(nothing, hosts=(".example.org",), local=False)
    ours = {h: guard._is_ours(h) for h in ("192.0.2.1:80", "a.example.org", "example.com")}
    assert ours == {"192.0.2.1:80": True, "a.example.org": True, "example.com": False}


def test_answers_forbid_frames_guesses_and_copies(client: TestClient) -> None:
    headers = client.get("/v1/models", headers={"origin": "http://127.0.0.1:9999"}).headers
    assert headers["content-security-policy"].split("; ") == [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'self'",
    ]
    assert headers["x-content-type-options"] == "nosniff"
    assert (headers["referrer-policy"], headers["cache-control"]) == ("same-origin", "no-store")
    assert not [name for name in headers if name.startswith("access-control")]


def test_a_host_with_the_schemes_own_port_is_the_same_origin(client: TestClient) -> None:
    assert ask(client, host="localhost:80", origin="http://localhost") == 200
    assert ask(client, host="localhost:80", origin="http://localhost:8080") == 403


def test_an_answer_that_gives_a_cookie_is_never_kept(
    client: TestClient, identity: Identity
) -> None:
    old = {"cookie": f"{OLD_COOKIE}={identity.new_cookie()}"}
    file = "/static/0123456789abcdef/kit.js"
    answer = client.get(file, headers=old)
    assert "set-cookie" in answer.headers and answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    ("path", "status", "cookie", "kept"),
    [
        ("/static/0/kit.js", 200, False, True),
        ("/static/0/kit.js", 304, False, True),
        ("/static/0/kit.js", 200, True, False),
        ("/static/0/kit.js", 404, False, False),
        ("/static/0/kit.js", 500, False, False),
        ("/statics/kit.js", 200, False, False),
        ("/", 200, False, False),
        ("/brand.css", 200, False, False),
    ],
)
def test_only_a_file_that_is_found_is_kept(
    path: str, status: int, cookie: bool, kept: bool
) -> None:
    async def answers(scope: Any, receive: Any, send: Any) -> None:
        scope["root_path"] = scope["path"]  # as a mounted application does
        headers = [(b"set-cookie", b"x=1")] if cookie else []
        start = {"type": "http.response.start", "status": status, "headers": headers}
        await send(start)
        await send({"type": "http.response.body", "body": b""})

    client = TestClient(OwnOriginOnly(answers, hosts=(), local=True), base_url="http://127.0.0.1")
    control = client.get(path).headers["cache-control"]
    assert control == ("public, max-age=31536000, immutable" if kept else "no-store")


def test_a_browser_gets_a_cookie_and_one_that_keeps_none_is_told_why(client: TestClient) -> None:
    with client:
        client.cookies.clear()
        first = client.get("/", headers=PAGE, follow_redirects=False)
        assert (first.status_code, first.headers["location"]) == (303, "/?visit=1")
        cookie = first.headers["set-cookie"]
        assert "HttpOnly" in cookie and "SameSite=Lax" in cookie and "Secure" not in cookie
        client.cookies.clear()
        none = client.get("/?visit=1", headers=PAGE)
    assert none.status_code == 403 and "Allow cookies for this site" in none.text


def test_the_cookie_is_for_https_alone_where_the_browser_uses_it(tmp_path: Path) -> None:
    with FeedbackStore(tmp_path / "feedback.db") as store:
        service = fake_service(store, FakeEngine(), tmp_path)
        app = create_app(service, Identity(tmp_path / "secrets"), pages=False)
        client = TestClient(app, base_url="https://127.0.0.1")
        answer = client.get("/", headers=PAGE, follow_redirects=False)
    assert "; Secure" in answer.headers["set-cookie"]


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_a_frame_of_another_site_is_told_why_it_shows_no_chat(
    client: TestClient, site: str
) -> None:
    headers = {**PAGE, "sec-fetch-site": site, "sec-fetch-dest": "iframe"}
    answer = client.get("/", headers=headers)
    assert answer.status_code == 403 and "inside another site" in answer.text
    assert "set-cookie" not in answer.headers
    assert "frame-ancestors" not in answer.headers["content-security-policy"]


@pytest.mark.parametrize("foreign", FOREIGN)
def test_our_cookie_is_found_whatever_stands_beside_it(
    client: TestClient, identity: Identity, foreign: str
) -> None:
    ours = f"{identity.cookie}={identity.new_cookie()}"
    for cookie in (f"{foreign}; {ours}", f"{ours}; {foreign}", f"{foreign}; {ours}; {foreign}"):
        answer = client.get("/", headers={**PAGE, "cookie": cookie.encode()})
        assert answer.status_code == 404, "the page is not mounted here, and its visitor is known"
        assert "set-cookie" not in answer.headers


@given(foreign=st.binary(max_size=60).filter(lambda b: not set(b) & {0, 10, 13}))
def test_no_cookie_is_ever_an_error(foreign: bytes) -> None:
    from starlette.requests import HTTPConnection

    scope = {"type": "http", "headers": [(b"cookie", foreign)]}
    assert isinstance(HTTPConnection(scope).cookies, dict)


def test_a_visitor_who_was_forgotten_starts_anew_with_another_cookie(
    client: TestClient, identity: Identity, tmp_path: Path
) -> None:
    value = identity.new_cookie()
    rater_id = identity.visitor({identity.cookie: value})
    assert rater_id is not None
    with FeedbackStore(tmp_path / "feedback.db") as store:
        store.add_rater(rater_id)
        store.forget(rater_id)
    cookie = {"cookie": f"{identity.cookie}={value}"}
    answers = [client.get("/v1/feedback/me", headers=cookie) for _ in range(2)]
    new = answers[0].json()["rater"]
    assert new != rater_id and [answer.json()["rater"] for answer in answers] == [new, new]
    assert answers[0].headers["set-cookie"].startswith(identity.cookie)


# Origins that the operator names


APP = "https://app.example.org"
PREFLIGHT = {
    "origin": APP,
    "access-control-request-method": "POST",
    "access-control-request-headers": "authorization, content-type, x-stainless-os",
}


@pytest.fixture
def invited(tmp_path: Path) -> Iterator[TestClient]:
    """A service whose operator named one origin."""
    with FeedbackStore(tmp_path / "feedback.db") as store:
        service = fake_service(store, FakeEngine(), tmp_path, origins=(APP,))
        app = create_app(service, Identity(tmp_path / "secrets"), pages=False)
        yield TestClient(app, base_url="http://127.0.0.1:7860")


def allowed(answer: Any) -> str | None:
    return dict(answer.headers).get("access-control-allow-origin")


def test_the_page_of_a_named_origin_may_call_the_api_and_read_the_answer(
    invited: TestClient,
) -> None:
    may = invited.options("/v1/chat/completions", headers=PREFLIGHT)
    assert (may.status_code, allowed(may)) == (204, APP)
    assert (
        may.headers["access-control-allow-headers"] == PREFLIGHT["access-control-request-headers"]
    )
    assert "POST" in may.headers["access-control-allow-methods"]
    body = {"messages": [{"role": "user", "content": "hi"}]}
    named = {"authorization": "Bearer alice", "origin": APP, "sec-fetch-site": "cross-site"}
    answer = invited.post("/v1/chat/completions", json=body, headers=named)
    assert (answer.status_code, allowed(answer)) == (200, APP)
    assert "access-control-allow-credentials" not in answer.headers
    wrong = invited.post("/v1/chat/completions", json={}, headers=named)
    assert (wrong.status_code, allowed(wrong)) == (400, APP), "a page can read what is wrong"


def test_our_cookie_is_worth_nothing_on_the_page_of_a_named_origin(
    invited: TestClient, identity: Identity
) -> None:
    invited.cookies.set(identity.cookie, identity.new_cookie())
    mine = invited.get("/v1/feedback/me").json()["rater"]
    theirs = invited.get("/v1/feedback/me", headers={"origin": APP})
    assert mine.startswith("browser-")
    assert theirs.status_code == 401 or theirs.json()["rater"] != mine


@pytest.mark.parametrize(
    ("origin", "path"),
    [
        ("https://app.example.org:8443", "/v1/models"),
        ("http://app.example.org", "/v1/models"),
        ("https://app.example.org.evil.example", "/v1/models"),
        ("null", "/v1/models"),
        (APP, "/v1/operate/status"),
        (APP, "/healthz"),
    ],
)
def test_no_other_origin_and_no_other_route_is_opened(
    invited: TestClient, origin: str, path: str
) -> None:
    assert allowed(invited.get(path, headers={"origin": origin})) is None
    preflight = invited.options(path, headers={**PREFLIGHT, "origin": origin})
    assert (preflight.status_code, allowed(preflight)) == (403, None)


def test_no_origin_is_named_unless_the_operator_does(client: TestClient) -> None:
    preflight = client.options("/v1/chat/completions", headers=PREFLIGHT)
    assert (preflight.status_code, allowed(preflight)) == (403, None)


# Methods


@pytest.mark.parametrize("path", ["/healthz", "/metrics", "/v1/models", "/v1/models/x"])
def test_a_head_is_answered_as_a_get(client: TestClient, path: str) -> None:
    get, head = client.get(path), client.head(path)
    assert head.status_code == get.status_code
    assert head.headers["content-type"] == get.headers["content-type"]


@pytest.mark.parametrize(
    ("path", "methods"),
    [
        ("/v1/chat/completions", "POST, OPTIONS"),
        ("/v1/models", "GET, HEAD, OPTIONS"),
        ("/v1/me", "DELETE, GET, HEAD, OPTIONS"),
        ("/healthz", "GET, HEAD, OPTIONS"),
    ],
)
def test_options_names_the_methods_of_a_route(client: TestClient, path: str, methods: str) -> None:
    answer = client.options(path)
    assert (answer.status_code, answer.headers["allow"]) == (204, methods)
    assert client.options("/v1/nothing").status_code == 404
