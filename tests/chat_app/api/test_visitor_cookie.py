"""Who gets a cookie from which page, and that the address is kept on the way."""

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import pytest
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st

from chat_app.api.callers import OF_PROGRESS
from chat_app.api.visitors import PAGES, SENT
from chat_app.identity import Access, Identity
from chat_app.pages.shell import PLACES
from chat_app.server import create_app
from feedback_store.store import FeedbackStore
from tests.chat_app.fakes import FakeEngine, fake_service
from tests.chat_app.serving import UNLIMITED

HTML = {"accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


def open_app(data: Path, store: FeedbackStore, access: Access, **options: object) -> TestClient:
    """The application without pages, whose visitors are known and then find none."""
    service = fake_service(store, FakeEngine(), data, rates=UNLIMITED, **options)
    app = create_app(service, Identity(data / "secrets", access=access), pages=False)
    return TestClient(app, base_url="http://127.0.0.1", follow_redirects=False)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def store(data: Path) -> Iterator[FeedbackStore]:
    with FeedbackStore(data / "feedback.db") as store:
        yield store


@pytest.fixture(scope="module")
def client(data: Path, store: FeedbackStore) -> TestClient:
    return open_app(data, store, Access())


@pytest.fixture(autouse=True)
def no_cookies(client: TestClient) -> None:
    client.cookies.clear()


def test_the_pages_that_give_a_cookie_are_those_of_visitors() -> None:
    assert set(PAGES) == set(PLACES.values()) == {"/", "/compare", "/votes", *OF_PROGRESS}


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("query", ["", "c=0195f0aa", "c=a&m=b%20c", "c=%C3%BC&c=", "x", "a=1&&b"])
def test_a_page_gives_a_cookie_and_keeps_what_its_address_asks_for(
    client: TestClient, page: str, query: str
) -> None:
    first = client.get(f"{page}?{query}" if query else page, headers=HTML)
    assert first.status_code == 303 and first.headers["cache-control"] == "no-store"
    place = urlsplit(first.headers["location"])
    kept, _, mark = place.query.rpartition("&")
    assert (place.path, kept, mark) == (page, query, f"{SENT}=1")
    assert not place.netloc and not place.scheme
    second = client.get(first.headers["location"], headers=HTML)  # with the cookie
    assert second.status_code == 404 and "set-cookie" not in second.headers


@given(values=st.dictionaries(st.sampled_from(["c", "m", "q"]), st.text(max_size=20), max_size=3))
def test_whatever_is_asked_for_comes_back_unchanged(
    client: TestClient, values: dict[str, str]
) -> None:
    client.cookies.clear()
    first = client.get("/", params=values, headers=HTML)
    asked = parse_qsl(urlsplit(first.headers["location"]).query, keep_blank_values=True)
    assert dict(asked) == {**values, SENT: "1"}


@pytest.mark.parametrize("page", PAGES)
def test_a_browser_that_keeps_no_cookie_is_told_so_on_every_page(
    client: TestClient, page: str
) -> None:
    answer = client.get(f"{page}?c=x&{SENT}=1", headers=HTML)
    assert answer.status_code == 403 and "kept no cookie" in answer.text


@pytest.mark.parametrize("path", ["/operator/", "/votes/", "/static/x.js", "/other", "/brand.css"])
def test_no_other_address_gives_a_cookie(client: TestClient, path: str) -> None:
    assert "set-cookie" not in client.get(path, headers=HTML).headers


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_only_opening_a_page_gives_a_cookie(client: TestClient, page: str, method: str) -> None:
    answer = client.request(method, page, headers=HTML)
    assert answer.status_code == 404 and "set-cookie" not in answer.headers


@pytest.mark.parametrize("page", PAGES)
def test_a_program_that_looks_for_a_page_gets_a_cookie_and_makes_no_rater(
    client: TestClient, store: FeedbackStore, page: str
) -> None:
    for method in ("GET", "HEAD"):
        answer = client.request(method, page)
        assert answer.status_code == 404 and "HttpOnly" in answer.headers["set-cookie"]
        client.cookies.clear()
    assert store.raters() == []


@pytest.mark.parametrize("page", PAGES)
def test_where_anonymous_visitors_may_not_come_no_page_is_open(
    data: Path, store: FeedbackStore, page: str
) -> None:
    client = open_app(data, store, Access(visitors=False))
    answer = client.get(page, headers=HTML)
    assert answer.status_code == 401 and "not open to anonymous" in answer.text
    assert "set-cookie" not in answer.headers


def test_a_progress_that_everybody_may_see_needs_no_cookie_and_opens_nothing_else(
    data: Path, store: FeedbackStore
) -> None:
    client = open_app(data, store, Access(visitors=False, progress=True), progress="public")
    for page in OF_PROGRESS:
        shown = client.get(page, headers=HTML)
        assert shown.status_code == 404 and "set-cookie" not in shown.headers, "not mounted here"
    for page in PAGES:
        if page not in OF_PROGRESS:
            assert client.get(page, headers=HTML).status_code == 401


def test_below_a_path_of_a_proxy_the_way_back_is_below_it(data: Path, store: FeedbackStore) -> None:
    options = {"root_path": "/chat", "proxies": ("127.0.0.1",)}
    service = fake_service(store, FakeEngine(), data, rates=UNLIMITED, **options)
    app = create_app(service, Identity(data / "secrets"), pages=False)
    client = TestClient(
        app, base_url="http://127.0.0.1", client=("127.0.0.1", 5), follow_redirects=False
    )
    answer = client.get("/votes?c=x", headers=HTML)
    assert answer.headers["location"] == f"/chat/votes?c=x&{SENT}=1"
    assert "; Path=/chat;" in answer.headers["set-cookie"]
