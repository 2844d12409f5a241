"""Choosing in the chat, and what follows: reasons, Undo, and the branch that is shown."""

import re

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from feedback_store.records import CandidateReply, Choice
from feedback_store.store import FeedbackStore
from tests.chat_app.pages.browsing import (
    CHROMIUM,
    Server,
    agree,
    open_chat,
    replies,
    say,
    violations,
    words,
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM.exists(), reason="chromium is not installed"),
]


def choices(server: Server) -> list[Choice]:
    with FeedbackStore(server.data / "feedback.db") as store:
        return store.choices()


def two_replies(page: Page, server: Server) -> None:
    """Talk until two replies wait for a choice."""
    open_chat(page, server)
    say(page, "one")
    page.get_by_role("button", name="Good reply").click()
    agree(page)
    say(page, "two")
    say(page, "three")
    expect(page.get_by_role("heading", name="Which reply is better?")).to_be_visible()


def phone_or_desktop(browser: Browser, width: int) -> BrowserContext:
    context = browser.new_context(
        viewport={"width": width, "height": 844},
        has_touch=width < 400,
        is_mobile=width < 400,
        bypass_csp=True,  # axe is a script, which the policy forbids
    )
    context.set_default_timeout(15_000)
    return context


@pytest.mark.parametrize("width", [1280, 390])
def test_a_choice_is_explained_by_taps_and_a_comment_and_stays_one_choice(
    browser: Browser, server: Server, width: int
) -> None:
    context, before = phone_or_desktop(browser, width), len(choices(server))
    page = context.new_page()
    two_replies(page, server)
    page.get_by_role("button", name="B", exact=True).click()  # there is one button of that name
    note = page.locator("#main").get_by_text("Saved: B is better.")
    expect(note).to_be_visible()
    why = page.get_by_role("article", name="Reply").last.get_by_role("group", name="Why?")
    for name in ("more correct", "shorter"):
        why.get_by_role("button", name=name).click()
        expect(why.get_by_role("button", name=name, pressed=True)).to_be_visible()
    why.get_by_role("button", name="shorter").click()
    why.get_by_role("textbox", name="A comment, if you like").fill("It answers.")
    why.get_by_role("textbox", name="A comment, if you like").press("Enter")
    expect(page.get_by_role("status").first).to_contain_text("Saved")
    assert violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    made = choices(server)[before:]
    assert [one.choice for one in made] == ["b"] and made[0].seconds
    page.get_by_role("link", name="My votes").click()
    expect(page.get_by_text("Side by side: B was better · more correct")).to_be_visible()
    expect(page.get_by_text("You wrote: It answers.")).to_be_visible()
    page.go_back()
    page.get_by_role("button", name="Undo").last.click()
    expect(page.get_by_role("heading", name="Which reply is better?")).to_be_visible()
    expect(page.get_by_role("group", name="Why?")).to_have_count(0)
    assert len(choices(server)) == before
    context.close()


def test_a_vote_and_a_text_wait_where_they_are_while_the_chat_goes_on(
    chat: Page, server: Server
) -> None:
    open_chat(chat, server)
    say(chat, "one")
    chat.get_by_role("button", name="Good reply").click()
    expect(chat.get_by_role("button", name="Agree and save")).to_be_visible()
    chat.get_by_role("button", name="Write a better answer").click()
    mine = chat.get_by_role("textbox", name="Save as the better answer")
    mine.fill("Not saved yet.")
    say(chat, "two")
    expect(mine).to_have_value("Not saved yet.")
    agree(chat)
    expect(chat.get_by_role("button", name="Good reply", pressed=True)).to_have_count(1)


def test_a_phone_shows_long_replies_under_two_tabs_and_short_ones_together(
    browser: Browser, server: Server
) -> None:
    context = phone_or_desktop(browser, 390)
    page = context.new_page()
    two_replies(page, server)
    both = [page.get_by_role("group", name=f"Reply {label}", exact=True) for label in "AB"]
    for reply in both:
        expect(reply).to_be_visible()
    with FeedbackStore(server.data / "feedback.db") as store:
        rater = store.raters()[-1].id
        long = store.add_conversation(rater, title="long").id
        asked = store.add_message(long, "user", "Tell me all.")
        replies = [CandidateReply("A long reply. " * 50), CandidateReply("A short one.")]
        store.add_candidates(asked.id, replies, rater_id=rater)
    page.goto(f"{server.url}/?c={long}")
    for label, reply in zip("BA", reversed(both), strict=True):
        page.get_by_role("button", name=f"Reply {label}", exact=True).click()
        expect(reply).to_be_visible()
    expect(both[1]).to_be_hidden()
    assert violations(page) == []
    context.close()


@pytest.mark.parametrize(("choice", "reason"), [("Both bad", "too long"), ("Tie", None)])
def test_what_can_be_said_of_a_choice_fits_it(
    chat: Page, server: Server, choice: str, reason: str | None
) -> None:
    two_replies(chat, server)
    chat.get_by_role("button", name=choice).click()
    why = chat.get_by_role("article", name="Reply").last.get_by_role("group", name="Why?")
    expect(why.get_by_role("textbox")).to_be_visible()
    expect(why.get_by_role("button", name="clearer")).to_have_count(0)
    if reason is None:
        expect(why.get_by_role("button")).to_have_count(0)
    else:
        expect(why.get_by_role("button", name=reason)).to_be_visible()


def test_a_reload_shows_the_chosen_reply_though_a_newer_one_is_beside_it(
    chat: Page, server: Server
) -> None:
    two_replies(chat, server)
    better = words(chat.get_by_role("group", name="Reply B").inner_text()).removeprefix("B ")
    chat.get_by_role("button", name="Both bad").click()
    expect(chat.locator("#main").get_by_text("Saved: both bad.")).to_be_visible()
    chat.get_by_role("button", name="Try again").last.click()
    expect(chat.get_by_text("3/3")).to_be_visible()
    for place in ("2/3", "1/3"):
        chat.get_by_role("button", name="Earlier version").click()
        expect(chat.get_by_text(place)).to_be_visible()
    chat.get_by_role("button", name="Undo").last.click()
    chat.wait_for_timeout(500)  # a key within a burst is a letter
    chat.get_by_role("button", name="B", exact=True).click()
    for _ in range(2):
        expect(chat.get_by_text("2/3")).to_be_visible()
        assert better in words(replies(chat).last.inner_text())
        chat.reload()
    expect(chat).to_have_url(re.compile("&m="))
