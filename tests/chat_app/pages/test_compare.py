"""The page Compare in a real browser on a real server with a tiny model."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from feedback_store.records import Choice
from feedback_store.store import FeedbackStore
from tests.chat_app.pages.browsing import CHROMIUM, violations
from tests.chat_app.serving import publish_copy, serving

ONE = "policy-000001"
GOLD = {"prompt": "Which <b>city</b> is it?", "better": "It is Rome.", "worse": "Go."}
OPTIONS = {
    "compare__opponents": "adapters",
    "reply__tokens": "12",
    "gold_every": "2",
    "quantization": "none",
}

pytestmark = pytest.mark.skipif(not CHROMIUM.exists(), reason="no /usr/bin/chromium")


class Served:
    """A server's address and its data directory."""

    def __init__(self, url: str, data: Path) -> None:
        self.url, self.data = url, data

    def choices(self) -> list[Choice]:
        """What was stored, oldest first."""
        with FeedbackStore(self.data / "feedback.db") as store:
            return store.choices()


@pytest.fixture(scope="module")
def server(
    tiny_model: Path, tiny_adapters: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    """A service with one adapter to compare with, and a gold question after two judgements."""
    folder = tmp_path_factory.mktemp("compared")
    data, gold = folder / "data", folder / "gold.jsonl"
    gold.write_text(json.dumps(GOLD) + "\n", encoding="utf-8")
    data.mkdir()
    with FeedbackStore(data / "feedback.db") as store:
        store.register_adapter(ONE, kind="policy", state="published")
    publish_copy(tiny_adapters / ONE, data, ONE)
    options = OPTIONS | {"gold_items": str(gold), "model": str(tiny_model)}
    with serving(data, log=folder / "log.txt", **options) as (_, url):
        yield Served(url, data)


@pytest.fixture
def page(browser: Browser, server: Served) -> Iterator[Page]:
    """The page of a new visitor, whose scripts make no mistake."""
    context = browser.new_context(viewport={"width": 1280, "height": 860})
    context.set_default_timeout(15_000)
    page, wrong = context.new_page(), list[str]()
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda said: wrong.append(said.text) if said.type == "error" else None)
    page.goto(f"{server.url}/compare")
    expect(page.get_by_label("Your question")).to_be_visible()
    yield page
    context.close()
    assert wrong == []


def ask(page: Page, text: str, *, replies: int = 2) -> None:
    """Ask a question with the keyboard and wait for the replies."""
    page.get_by_label("Replies").select_option(str(replies))
    page.get_by_label("Your question").fill(text)
    page.get_by_label("Your question").press("Enter")
    expect(page.get_by_role("button", name="Skip")).to_be_visible()


def test_a_vote_by_a_key_is_stored_once_the_person_agrees_and_then_shows_who_wrote_what(
    page: Page, server: Served
) -> None:
    before = len(server.choices())
    page.get_by_label("Written by").select_option(label=f"Half by {ONE}")
    ask(page, "hello")
    expect(page.get_by_role("article")).to_have_count(2)
    assert "Version" not in page.inner_text("main") and ONE not in page.inner_text("main")
    page.get_by_role("button", name="clearly").click()
    page.keyboard.press("2")
    expect(page.get_by_text("Your vote will train the shared model.")).to_be_visible()
    assert len(server.choices()) == before
    page.get_by_role("button", name="Agree and save").click()
    expect(page.locator(".thanks")).to_contain_text("Saved, thank you.")
    choice = server.choices()[-1]
    assert (choice.choice, choice.strength) == ("b", 2.0) and choice.seconds
    authors = sorted(page.locator(".author").all_inner_texts())
    assert authors == ["Version 1", ONE]


@pytest.mark.parametrize("width", [1280, 390])
def test_a_choice_is_explained_where_the_authors_are_shown_and_taken_back(
    browser: Browser, server: Served, width: int
) -> None:
    context = browser.new_context(viewport={"width": width, "height": 860}, bypass_csp=True)
    context.set_default_timeout(15_000)
    page = context.new_page()
    page.goto(f"{server.url}/compare")
    ask(page, "why?")
    page.keyboard.press("1")
    page.get_by_role("button", name="Agree and save").click()
    expect(page.locator(".thanks")).to_contain_text("Saved, thank you.")
    page.get_by_role("button", name="clearer").click()
    expect(page.get_by_role("button", name="clearer", pressed=True)).to_be_visible()
    page.get_by_role("textbox", name="A comment, if you like").fill("no news, u")
    page.get_by_role("textbox", name="A comment, if you like").press("Enter")
    expect(page.get_by_role("status").first).to_contain_text("Saved")
    assert violations(page) == []
    page.keyboard.press("u")
    expect(page.locator(".thanks")).to_contain_text("Taken back: it no longer counts.")
    expect(page.get_by_role("group", name="Why?")).to_have_count(0)
    assert ("clearer",) not in [choice.tags for choice in server.choices()]
    page.get_by_role("button", name="Let it count again").click()
    expect(page.get_by_role("button", name="clearer", pressed=True)).to_be_visible()
    made = server.choices()[-1]
    assert (made.choice, made.tags, made.comment) == ("a", ("clearer",), "no news, u")
    page.keyboard.press("u")  # so that the next test finds none of it
    expect(page.get_by_role("button", name="Let it count again")).to_be_visible()
    page.keyboard.press("n")
    expect(page.get_by_role("button", name="Skip")).to_be_visible()
    context.close()


def test_replies_are_ranked_by_keys_and_taps_with_a_tie(page: Page, server: Served) -> None:
    ask(page, "three", replies=3)
    expect(page.get_by_role("article")).to_have_count(3)
    page.keyboard.press("c")
    page.keyboard.press("1")
    page.keyboard.press("Backspace")
    page.get_by_role("article", name="Reply B").click()
    page.keyboard.press("a")
    page.get_by_role("button", name="Same as the one before").click()
    expect(page.locator(".order")).to_have_text(re.compile(r"C\s*>.*B\s*=.*A", re.S))
    page.get_by_role("heading", name="Compare replies").focus()
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Agree and save").click()
    expect(page.locator(".thanks")).to_contain_text("Saved, thank you.")
    with FeedbackStore(server.data / "feedback.db") as store:
        told = [event for event in store.export_events() if event["event"] == "ranking"]
    assert [list(group) for group in told[-1]["order"]] == [["c"], ["a", "b"]]
    expect(page.get_by_role("group", name="Why?")).to_have_count(0)
    page.get_by_role("button", name="Undo").click()
    expect(page.locator(".thanks")).to_contain_text("Taken back: it no longer counts.")
    page.goto(f"{server.url}/votes")
    expect(page.get_by_text("No votes yet.")).to_be_visible()


def test_nine_replies_are_ranked_on_a_phone_by_taps_and_keys(page: Page, server: Served) -> None:
    page.set_viewport_size({"width": 320, "height": 640})
    ask(page, "nine of them", replies=9)
    expect(page.get_by_role("article")).to_have_count(9)
    for label in "IHGFE":
        page.get_by_role("article", name=f"Reply {label}").get_by_role("button").click()
    for key in "4c":
        page.keyboard.press(key)
    page.keyboard.press("=")
    for key in "2a":
        page.keyboard.press(key)
    wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert page.evaluate(wide) <= 0
    assert violations(page) == []
    page.get_by_role("button", name="Save").click()
    page.get_by_role("button", name="Agree and save").click()
    expect(page.locator(".thanks")).to_contain_text("Saved, thank you.")
    with FeedbackStore(server.data / "feedback.db") as store:
        told = [event for event in store.export_events() if event["event"] == "ranking"]
    assert ["".join(group) for group in told[-1]["order"]] == [*"ihgfe", "cd", "b", "a"]


def test_replies_wait_for_their_judgement_through_a_reload_and_a_skipped_one_is_gone(
    page: Page, server: Served
) -> None:
    before = len(server.choices())
    ask(page, "reloaded")
    texts = page.get_by_role("article").all_inner_texts()
    page.reload()
    expect(page.get_by_role("article")).to_have_count(2)
    assert page.get_by_role("article").all_inner_texts() == texts
    page.keyboard.press("s")
    expect(page.get_by_label("Your question")).to_be_visible()
    page.reload()
    expect(page.get_by_label("Your question")).to_be_visible()
    expect(page.get_by_role("article")).to_have_count(0)
    assert len(server.choices()) == before


def test_five_more_are_asked_by_one_key_with_a_gold_question_among_them(
    page: Page, server: Served
) -> None:
    page.get_by_role("listitem").first.get_by_role("button").click()
    expect(page.get_by_role("button", name="Skip")).to_be_visible()
    page.keyboard.press("1")
    page.get_by_role("button", name="Agree and save").click()
    expect(page.locator(".thanks")).to_contain_text("Saved, thank you.")
    page.keyboard.press("n")
    expect(page.get_by_text("1 of 5")).to_be_visible()
    expect(page.get_by_role("button", name="Skip")).to_be_visible()
    page.keyboard.press("3")
    expect(page.get_by_role("button", name="One more, please")).to_be_visible()
    page.keyboard.press("n")
    expect(page.get_by_text(GOLD["prompt"])).to_be_visible()  # as text, not as HTML
    page.keyboard.press("1")
    expect(page.locator(".thanks")).to_contain_text("Saved, thank you.")
    expect(page.locator(".author")).to_have_count(0)
    page.keyboard.press("n")
    expect(page.get_by_text("2 of 5")).to_be_visible()
    expect(page.get_by_role("button", name="Skip")).to_be_visible()


def test_a_phone_shows_the_page_without_scrolling_sideways(page: Page) -> None:
    page.set_viewport_size({"width": 320, "height": 640})
    for replies in (2, 4):
        ask(page, "narrow", replies=replies)
        wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        assert page.evaluate(wide) <= 0
        page.keyboard.press("s")
        expect(page.get_by_label("Your question")).to_be_visible()


def test_after_five_the_page_says_how_far_the_round_is_and_one_key_goes_on(page: Page) -> None:
    best = page.locator(".choices .button")
    page.get_by_role("listitem").first.get_by_role("button").click()
    best.first.click()
    page.get_by_role("button", name="Agree and save").click()
    for _ in range(9):  # more than five: gold questions among them do not count
        expect(page.locator(".thanks")).to_contain_text("Saved, thank you.")
        if page.get_by_text("Those were five").count():
            break
        page.locator(".bar .primary").click()
        expect(page.locator(".thanks")).to_have_count(0)
        expect(page.get_by_role("button", name="Skip")).to_be_visible()
        best.first.click()
    said = re.compile(r"Those were five.*Round 1 .* votes")
    expect(page.get_by_text(said)).to_be_visible()
    page.wait_for_timeout(500)
    page.keyboard.press("n")
    expect(page.get_by_text("1 of 5")).to_be_visible()
    expect(page.get_by_role("button", name="Skip")).to_be_visible()
