"""The page ``/progress`` in a real browser, on rounds that are in the store already."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from feedback_store.store import FeedbackStore
from tests.chat_app.handlers.progress.building import (
    ONE,
    THREE,
    TWO,
    choose,
    cycle_of,
    failed,
    write_report,
)
from tests.chat_app.serving import serving

TOKEN = "the-operators-token"
PLOTS = {"scores_served": [*range(20)], "scores_candidate": [*range(10, 30)]}
SAMPLES = [
    {
        "kind": kind,
        "prompt": [{"role": "user", "content": f"A question of {kind}?"}],
        "served": f"old {kind}",
        "candidate": f"new {kind}",
        "candidate_right": True,
    }
    for kind in ("flattery", "invention", "instructions")
]


def fill(data: Path) -> None:
    """Three rounds: promoted and compared by six people, rejected, promoted."""
    data.mkdir()
    with FeedbackStore(data / "feedback.db") as store:
        write_report(data, cycle_of(store, "promoted", ONE), plots=PLOTS, probe_samples=SAMPLES)
        for number in range(6):
            choose(store, store.open_trial(), f"rater-{number}", "a" if number else "b", times=2)
        store.end_trial(store.open_trial().id, "better", "people liked it", by="server")
        cycle = cycle_of(store, "rejected", TWO)
        write_report(data, cycle, plots=PLOTS, checks=failed("probe_invention"))
        write_report(data, cycle_of(store, "promoted", THREE), plots=PLOTS, probe_samples=[])
        store.serve("policy-000000", by="the test: the adapters have no files")


@contextmanager
def served(folder: Path, model: Path, **variables: str) -> Iterator[str]:
    options = ("--model", str(model), "--quantization", "none")
    with serving(folder / "data", *options, log=folder / "log", **variables) as (_, url):
        yield url


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("progress")
    fill(folder / "data")
    with served(folder, tiny_model) as address:
        yield address


@pytest.fixture
def page(browser: Browser, url: str) -> Iterator[Page]:
    context = browser.new_context()
    page = context.new_page()
    page.goto(f"{url}/progress")
    yield page
    context.close()


def test_each_round_says_what_came_of_it_and_what_people_chose(page: Page) -> None:
    rows = page.get_by_role("region", name="Rounds").get_by_role("row")
    expect(rows).to_have_count(4)
    expect(rows.nth(1)).to_contain_text("Better: it became Version 3.")
    expect(rows.nth(2)).to_contain_text("Preferred, but rejected: it made up answers")
    expect(rows.nth(3)).to_contain_text("70% (60% to 80%)")
    expect(rows.nth(3)).to_contain_text("12 choices, 6 voters")


def test_the_cards_say_who_answers_what_is_next_and_whose_values(page: Page) -> None:
    expect(page.get_by_role("region", name="Answers now")).to_contain_text("Version 1")
    expect(page.get_by_role("region", name="The next round")).to_contain_text(
        "The operator starts it."
    )
    expect(page.get_by_role("region", name="Whose values")).to_contain_text("6 people")


def test_the_versions_have_an_estimate_and_the_charts_a_text(page: Page) -> None:
    versions = page.get_by_role("region", name="Versions").get_by_role("row")
    expect(versions).to_have_count(4)
    expect(versions.nth(1)).to_contain_text("Version 3")
    expect(versions.nth(2)).to_contain_text("70% (")
    charts = page.get_by_role("region", name="Scores, round by round")
    expect(charts.get_by_role("img")).to_have_count(3)
    expect(charts.get_by_role("img", name="Round 1: the mean score moved by +1.7")).to_be_visible()
    charts.get_by_text("The same as a table").click()
    expect(charts.get_by_role("table").get_by_role("row")).to_have_count(4)


def test_the_replies_of_a_round_stand_beside_each_other(page: Page) -> None:
    samples = page.get_by_role("region", name="Before and after")
    expect(samples).to_contain_text("No replies of this round are kept.")
    samples.get_by_label("Round").select_option("1")
    articles = samples.get_by_role("article")
    expect(articles).to_have_count(3)
    expect(articles.first).to_contain_text("A question of instructions?")
    expect(articles.first).to_contain_text("old instructions")
    expect(articles.first).to_contain_text("new instructions")


@pytest.mark.parametrize("width", [320, 1280])
def test_nothing_lies_beside_the_window(page: Page, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    expect(page.get_by_role("region", name="Rounds")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_before_the_first_round_it_says_what_will_be_here(
    browser: Browser, tmp_path: Path, tiny_model: Path
) -> None:
    with served(tmp_path, tiny_model) as url:
        page = browser.new_context().new_page()
        page.goto(f"{url}/progress")
        expect(page.get_by_role("heading", name="No round has run yet")).to_be_visible()
        expect(page.get_by_role("region", name="Whose values")).to_contain_text("fewer than 5")
        page.context.close()


def test_everybody_sees_a_public_page_without_a_cookie_and_gets_nothing_else(
    browser: Browser, tmp_path: Path, tiny_model: Path
) -> None:
    with served(tmp_path, tiny_model, progress="public", pages="known") as url:
        context = browser.new_context()
        page = context.new_page()
        page.goto(f"{url}/progress")
        expect(page.get_by_text("Everybody can see this page.")).to_be_visible()
        assert context.cookies() == []
        context.close()
        with httpx.Client(base_url=url, trust_env=False) as client:
            assert client.get("/", headers={"accept": "text/html"}).status_code == 401
            for name in ("chat_opened", "progress_views", "progress_view/"):
                answer = client.post(f"/gradio_api/run/{name}", json={"data": []})
                assert answer.status_code in (401, 404), name
            wrong = client.post("/operator/gradio_api/run/progress_view", json={"data": []})
            assert wrong.status_code == 401


def test_a_page_for_the_operator_is_for_nobody_else(
    browser: Browser, tmp_path: Path, tiny_model: Path
) -> None:
    with (
        served(tmp_path, tiny_model, progress="operator", operator_token=TOKEN) as url,
        httpx.Client(base_url=url, trust_env=False, follow_redirects=True) as client,
    ):
        client.get("/", headers={"accept": "text/html"})  # for the cookie
        with httpx.Client(base_url=url, trust_env=False) as new:
            answer = new.get("/progress", headers={"accept": "text/html"})
            assert (answer.status_code, "private" in answer.text) == (403, True)
            assert answer.headers["content-type"].startswith("text/html")
            assert not new.cookies and "set-cookie" not in answer.headers
            assert new.get("/progress").json()["error"]["type"] == "permission_error"
        answer = client.post("/gradio_api/run/progress_view", json={"data": []})
        assert "nobody else" in answer.json()["data"][0]["problem"]
        login = client.get("/operator/progress", headers={"accept": "text/html"})
        assert login.url.path == "/operator/login"
        page = browser.new_page()
        page.goto(f"{url}/operator?token={TOKEN}")
        page.goto(f"{url}/operator/progress")
        expect(page.get_by_role("heading", name="No round has run yet")).to_be_visible()
        expect(page.get_by_role("link", name="Operate")).to_be_visible()
        page.close()
