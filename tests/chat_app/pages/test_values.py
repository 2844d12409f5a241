"""The page ``/values`` in a real browser: what visitors see of whose values, and the operator."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from feedback_store.store import FeedbackStore
from tests.chat_app.handlers.progress.test_whose import SECRET, choose
from tests.chat_app.pages.browsing import violations
from tests.chat_app.serving import serving

TOKEN = "the-operators-token"
ARABIC = "ما هي عاصمة إيطاليا؟"


def fill(data: Path) -> None:
    """Eight people and six programs; they disagree on one question and agree on another."""
    data.mkdir()
    with FeedbackStore(data / "feedback.db") as store:
        choose(store, 8)
        choose(store, 6, question=ARABIC, choices="a")
        choose(store, 6, kind="simulated", choices="a")


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("values")
    fill(folder / "data")
    options = ("--model", str(tiny_model), "--quantization", "none")
    given = {"operator_token": TOKEN, "cycle__data__programs": '["simulated"]'}
    with serving(folder / "data", *options, log=folder / "log", **given) as (_, url):
        yield url


@pytest.fixture
def page(browser: Browser, url: str) -> Iterator[Page]:
    context = browser.new_context(bypass_csp=True)  # axe is a script, which the policy forbids
    page = context.new_page()
    page.goto(f"{url}/progress")
    page.get_by_role("link", name="More on whose values they are").click()
    expect(page.get_by_role("heading", name="Whose values", level=1)).to_be_visible()
    yield page
    context.close()


def test_it_says_who_votes_and_what_they_are(page: Page) -> None:
    who = page.get_by_role("region", name="Who votes")
    expect(who).to_contain_text("8 people and 6 programs")
    expect(who).to_contain_text("as if 13 voted equally much")
    expect(who.get_by_role("row")).to_have_count(2)
    kinds = page.get_by_role("region", name="What they are")
    expect(kinds.get_by_role("row", name="People 8")).to_be_visible()
    expect(kinds.get_by_role("row", name="Programs that simulate people 6")).to_be_visible()


def test_the_card_of_the_progress_page_says_the_same(page: Page) -> None:
    page.go_back()
    card = page.get_by_role("region", name="Whose values")
    expect(card).to_contain_text("8 people and 6 programs")
    expect(card).to_contain_text("as if 13 voted equally much")


def test_scripts_have_their_names_in_the_language_of_the_page(page: Page) -> None:
    scripts = page.get_by_role("region", name="In which scripts they ask")
    expect(scripts.get_by_role("row", name="Latin 14")).to_be_visible()
    expect(scripts.get_by_role("row", name="Arabic 6")).to_be_visible()


def test_it_says_where_voters_disagree_and_quotes_nobody(page: Page) -> None:
    agree = page.get_by_role("region", name="Where they disagree")
    expect(agree.get_by_role("row", name="All together")).to_be_visible()
    expect(agree.get_by_role("row", name="People, among themselves").first).to_be_visible()
    expect(page.get_by_text("Secret Street")).to_have_count(0)


@pytest.mark.parametrize("width", [320, 1280])
def test_nothing_lies_beside_the_window_and_everybody_can_read_it(page: Page, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    expect(page.get_by_role("region", name="Who else decides")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert violations(page) == []


def test_the_operator_sees_the_questions_on_which_voters_disagree(
    browser: Browser, url: str
) -> None:
    context = browser.new_context()
    page = context.new_page()
    page.goto(f"{url}/operator?token={TOKEN}")
    page.goto(f"{url}/operator/values")
    questions = page.get_by_role("region", name="Questions on which they agree least")
    expect(questions.get_by_role("row", name=SECRET)).to_be_visible()
    context.close()


def test_of_too_few_voters_it_says_nothing(
    browser: Browser, tmp_path: Path, tiny_model: Path
) -> None:
    options = ("--model", str(tiny_model), "--quantization", "none")
    with serving(tmp_path / "data", *options, log=tmp_path / "log") as (_, url):
        page = browser.new_context().new_page()
        page.goto(f"{url}/values")
        expect(page.get_by_role("region", name="Who votes")).to_contain_text("fewer than 5 people")
        expect(page.get_by_role("region", name="What it still gets wrong")).to_contain_text(
            "No round made the version"
        )
        page.context.close()


def test_the_operator_is_told_of_any_number_and_finds_the_page_from_the_raters(
    browser: Browser, tmp_path: Path, tiny_model: Path
) -> None:
    with FeedbackStore(tmp_path / "data" / "feedback.db") as store:
        choose(store, 2)
    options = ("--model", str(tiny_model), "--quantization", "none")
    given = {"operator_token": TOKEN}
    with serving(tmp_path / "data", *options, log=tmp_path / "log", **given) as (_, url):
        page = browser.new_context().new_page()
        page.goto(f"{url}/operator?token={TOKEN}")
        page.goto(f"{url}/operator/#raters")
        page.get_by_role("link", name="Whose values").click()
        expect(page.get_by_role("region", name="Who votes")).to_contain_text("2 people")
        page.goto(f"{url}/values")
        expect(page.get_by_role("region", name="Who votes")).to_contain_text("fewer than 5 people")
        page.context.close()
