"""The pages in Arabic, which is written from right to left, in a real browser."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Locator, Page, expect

from chat_app.api.languages import LANGUAGE_COOKIE, STATIC
from chat_app.pages.shell import PLACES
from feedback_store.store import FeedbackStore
from tests.chat_app.pages.browsing import CHROMIUM, Server, violations

pytestmark = pytest.mark.skipif(not CHROMIUM.exists(), reason="chromium is not installed")

WORDS: dict[str, str] = {
    key: text
    for file in sorted((STATIC / "words" / "ar").glob("*.json"))
    for key, text in json.loads(file.read_text("utf-8")).items()
}
TABS = ("votes", "data")


@pytest.fixture
def arabic(browser: Browser) -> Iterator[BrowserContext]:
    """A new visitor whose browser asks for Arabic."""
    context = browser.new_context(viewport={"width": 1280, "height": 800}, locale="ar")
    context.set_default_timeout(15_000)
    yield context
    context.close()


@pytest.fixture
def page(arabic: BrowserContext, server: Server) -> Page:
    page = arabic.new_page()
    page.goto(server.url)
    expect(box(page)).to_be_visible()
    return page


def box(page: Page) -> Locator:
    return page.get_by_role("textbox", name=WORDS["chat.message"], exact=True)


def button(page: Page, key: str) -> Locator:
    return page.get_by_role("button", name=WORDS[key], exact=True)


def say(page: Page, text: str) -> None:
    """Send a message with the keyboard and wait until what follows it is complete."""
    said = page.get_by_role("article", name=WORDS["chat.you"], exact=True)
    asked = said.count()
    box(page).fill(text)
    box(page).press("Enter")
    expect(said).to_have_count(asked + 1)
    expect(button(page, "chat.stop")).to_have_count(0)


def like_and_agree(page: Page) -> None:
    button(page, "chat.up").click()
    button(page, "page.agree").click()
    expect(button(page, "page.agree")).to_have_count(0)


def place(element: Locator) -> dict[str, Any]:
    """Where an element is; it has to be shown."""
    found = element.bounding_box()
    assert found is not None
    return dict(found)


def test_a_browser_that_asks_for_arabic_gets_the_page_from_right_to_left(page: Page) -> None:
    root = page.locator("html")
    assert (root.get_attribute("lang"), root.get_attribute("dir")) == ("ar", "rtl")
    expect(page.get_by_role("heading", level=1)).to_have_text(WORDS["chat.welcome"])


def test_the_chosen_language_wins_over_the_browsers(arabic: BrowserContext, server: Server) -> None:
    arabic.add_cookies([{"name": LANGUAGE_COOKIE, "value": "zh", "url": server.url}])
    page = arabic.new_page()
    page.goto(server.url)
    root = page.locator("html")
    assert (root.get_attribute("lang"), root.get_attribute("dir")) == ("zh", "ltr")


def test_the_side_panel_is_at_the_right_and_send_at_the_left(page: Page) -> None:
    panel = place(page.get_by_role("complementary", name=WORDS["chat.conversations"]))
    main, send = place(page.get_by_role("main")), place(button(page, "chat.send"))
    assert panel["x"] >= main["x"] + main["width"] - 1
    assert send["x"] < place(box(page))["x"]


def test_the_drawer_of_a_phone_comes_from_the_right(page: Page) -> None:
    page.set_viewport_size({"width": 390, "height": 800})
    button(page, "chat.conversations").click()
    drawer = place(page.get_by_role("dialog", name=WORDS["chat.conversations"]))
    assert drawer["x"] > 0
    assert drawer["x"] + drawer["width"] == pytest.approx(390, abs=1)


def test_a_conversation_with_a_vote_and_its_receipt_works_in_arabic(
    page: Page, server: Server
) -> None:
    with FeedbackStore(server.data / "feedback.db") as store:
        before = store.thumbs()
    say(page, "ما عاصمة إيطاليا؟")
    like_and_agree(page)
    expect(button(page, "chat.up")).to_have_attribute("aria-pressed", "true")
    receipt = page.locator(".receipt")
    expect(receipt).to_contain_text(WORDS["receipt.kept"].split(" · ")[0])
    button(page, "page.undo").click()
    expect(page.get_by_text(WORDS["page.taken_back"])).to_be_visible()
    expect(receipt).to_have_count(0)
    with FeedbackStore(server.data / "feedback.db") as store:
        assert store.thumbs() == before


def test_a_choice_by_a_key_works_on_an_arabic_keyboard(page: Page) -> None:
    say(page, "واحد")
    like_and_agree(page)
    say(page, "اثنان")
    say(page, "ثلاثة")
    expect(page.get_by_role("heading", name=WORDS["chat.which"])).to_be_visible()
    first, second = page.locator(".choosing .card").all()
    assert place(first)["x"] > place(second)["x"]
    page.wait_for_timeout(500)  # a key within a burst is a letter
    page.evaluate(
        "document.body.dispatchEvent(new KeyboardEvent('keydown',"
        " {key: 'س', code: 'KeyS', bubbles: true}))"
    )
    expect(page.get_by_text(WORDS["chat.skipped"])).to_be_visible()


def test_the_arrow_keys_of_tabs_go_where_they_point(page: Page, server: Server) -> None:
    page.goto(f"{server.url}/votes")
    votes, data = (page.get_by_role("tab", name=WORDS[f"votes.tab.{tab}"]) for tab in TABS)
    assert place(votes)["x"] > place(data)["x"]
    votes.focus()
    page.keyboard.press("ArrowLeft")
    expect(data).to_be_focused()
    page.keyboard.press("ArrowRight")
    expect(votes).to_be_focused()


@pytest.mark.parametrize("at", PLACES.values())
def test_no_page_scrolls_sideways_or_breaks_a_rule_of_access(
    page: Page, server: Server, at: str
) -> None:
    page.goto(f"{server.url}{at}")
    expect(page.get_by_role("heading", level=1)).to_be_attached()
    expect(page.get_by_text(WORDS["page.loading"])).to_have_count(0)
    assert violations(page) == []
    for width in (390, 320):
        page.set_viewport_size({"width": width, "height": 780})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert violations(page) == []


def test_names_of_people_and_sizes_keep_their_own_order(page: Page) -> None:
    told = page.evaluate(
        """async () => {
          const module = document.querySelector("script[type=module]").src;
          const { t } = await import(new URL("../words.js", module));
          return t("chat.deleted", { title: "Hello (1)" });
        }"""
    )
    assert "\u2068Hello (1)\u2069" in told
