"""Long messages, long lists, and conversations that are searched, deleted and restored."""

import re

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from chat_app.identity import Identity
from feedback_store.store import FeedbackStore
from tests.chat_app.pages.browsing import (
    CHROMIUM,
    Server,
    box,
    open_chat,
    replies,
    say,
    violations,
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM.exists(), reason="chromium is not installed"),
]


class Sidebar:
    """The list of conversations of a page."""

    def __init__(self, page: Page) -> None:
        self.side = page.get_by_role("complementary", name="Conversations")
        self.rows = self.side.get_by_role("navigation").get_by_role("listitem")
        self.search = self.side.get_by_role("searchbox", name="Search conversations")


def test_a_message_that_the_model_cannot_read_says_how_much_fits_and_stays(chat: Page) -> None:
    text = "Tell me about the apples. " * 40
    box(chat).fill(text)
    alert = chat.get_by_role("alert")
    expect(alert).to_contain_text("Too long by")
    expect(chat.get_by_role("button", name="Send")).to_be_disabled()
    assert "--" not in alert.inner_text()
    chat.reload()
    expect(box(chat)).to_have_value(text)  # the draft is kept
    expect(alert).to_contain_text("Too long by")
    fits = re.search(r"that fit are ([\d,]+)", alert.inner_text())
    assert fits is not None
    most = int(fits[1].replace(",", ""))
    assert 100 < most < 300  # of 256 tokens, a byte each
    box(chat).fill(text[:most])
    expect(alert).to_have_count(0)
    box(chat).press("Enter")
    expect(replies(chat)).to_have_count(1)


def test_a_changed_message_that_is_refused_is_not_lost(chat: Page) -> None:
    say(chat, "short")
    chat.get_by_role("button", name="Change this message").click()
    editor = chat.get_by_role("textbox", name="Send changed")
    editor.fill("much too long " * 80)
    chat.get_by_role("button", name="Send changed").click()
    expect(chat.get_by_text("does not fit the model")).to_be_visible()
    expect(editor).to_have_value("much too long " * 80)


def test_a_deleted_conversation_says_so_at_its_address_and_comes_back(chat: Page) -> None:
    say(chat, "About apples")
    address = chat.url
    found = Sidebar(chat)
    found.rows.first.hover()
    chat.get_by_role("button", name="Delete: About apples").click()
    expect(found.rows).to_have_count(0)
    chat.goto(address)
    expect(chat.get_by_text("This conversation was deleted: About apples")).to_be_visible()
    expect(box(chat)).to_be_visible()
    assert violations(chat) == []
    chat.locator("#main").get_by_role("button", name="Restore").click()
    expect(replies(chat)).to_have_count(1)
    assert chat.url == address
    chat.goto(address.replace("c=", "c=0"))
    expect(chat.get_by_text("There is no such conversation.")).to_be_visible()
    say(chat, "a new one")
    expect(chat.get_by_text("There is no such conversation.")).to_have_count(0)


def test_what_was_deleted_is_restored_from_a_quiet_line(chat: Page) -> None:
    say(chat, "About pears")
    found = Sidebar(chat)
    found.rows.first.hover()
    chat.get_by_role("button", name="Delete: About pears").click()
    expect(found.rows).to_have_count(0)
    chat.reload()
    found.side.get_by_text("Recently deleted").click()
    found.side.get_by_role("button", name="Restore: About pears").click()
    expect(replies(chat)).to_have_count(1)
    expect(found.rows).to_have_count(1)
    expect(found.side.get_by_text("Recently deleted")).to_have_count(0)


def test_a_hit_shows_the_words_and_opens_the_branch_that_has_them(chat: Page) -> None:
    say(chat, "Where do <b>Äpfel</b> grow?")
    chat.get_by_role("button", name="Change this message").click()
    chat.get_by_role("textbox", name="Send changed").fill("And pears?")
    chat.get_by_role("button", name="Send changed").click()
    expect(chat.get_by_role("button", name="Stop", exact=True)).to_have_count(0)
    found = Sidebar(chat)
    found.search.fill("apf")
    expect(found.side.locator("mark")).to_have_text("Äpfel")
    expect(found.side.locator(".passage")).to_have_text("Where do <b>Äpfel</b> grow?")
    assert violations(chat) == []
    found.rows.first.locator("button.title").click()
    expect(chat.get_by_label("You", exact=True)).to_contain_text("Äpfel")


def test_after_a_look_at_what_another_tab_wrote_the_newest_message_has_the_focus(
    chat: Page, visitor: BrowserContext
) -> None:
    say(chat, "one")
    other = visitor.new_page()
    other.goto(chat.url)
    expect(replies(other)).to_have_count(1)
    say(other, "two")
    chat.bring_to_front()
    chat.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    chat.get_by_role("button", name="Show", exact=True).click()
    expect(replies(chat)).to_have_count(2)
    expect(replies(chat).last).to_be_focused()


@pytest.mark.parametrize("width", [390, 1280])
def test_a_long_list_comes_in_parts_and_a_search_finds_all(
    browser: Browser, server: Server, width: int
) -> None:
    rater = f"browser-{width}"
    with FeedbackStore(server.data / "feedback.db") as store:
        store.add_rater(rater)
        for number in range(130):
            words = "a needle" if number == 0 else f"question {number}"
            store.add_dialogue(rater, [{"role": "user", "content": words}], title=words)
    identity = Identity(server.data / "secrets")
    context = browser.new_context(viewport={"width": width, "height": 800})
    cookie = {"name": identity.cookie, "value": identity.new_cookie(rater), "url": server.url}
    context.add_cookies([cookie])
    page = context.new_page()
    open_chat(page, server)
    if width < 800:
        page.get_by_role("button", name="Conversations").click()
    side = page.get_by_role("dialog" if width < 800 else "complementary", name="Conversations")
    rows = side.get_by_role("navigation").get_by_role("listitem")
    expect(rows).to_have_count(100)
    side.get_by_role("searchbox").fill("needle")
    expect(rows).to_have_count(1)
    side.get_by_role("searchbox").fill("")
    side.get_by_role("button", name="Show more").click()
    expect(rows).to_have_count(130)
    expect(side.get_by_role("button", name="Show more")).to_have_count(0)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    context.close()
