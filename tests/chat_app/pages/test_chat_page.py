"""The chat page in a real browser, on a real server: what a visitor does, and finds again."""

import httpx
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Route, expect

from feedback_store.store import FeedbackStore
from tests.chat_app.pages.browsing import (
    CHROMIUM,
    GOLD,
    Server,
    agree,
    begin,
    box,
    open_chat,
    replies,
    say,
    violations,
    words,
)

pytestmark = pytest.mark.skipif(not CHROMIUM.exists(), reason="chromium is not installed")


def thumb_up(page: Page) -> None:
    page.get_by_role("button", name="Good reply").last.click()


def saved(server: Server) -> FeedbackStore:
    return FeedbackStore(server.data / "feedback.db")


def answer_one_more(page: Page) -> None:
    """Answer the gold question correctly."""
    asked = page.get_by_role("region", name="One more, please")
    expect(asked.get_by_text(GOLD["prompt"])).to_be_visible()
    first = asked.get_by_role("group", name="Reply A")
    right = "A" if GOLD["better"] in first.inner_text() else "B"
    asked.get_by_role("button", name=right, exact=True).click()
    expect(asked).to_have_count(0)


def test_a_person_chats_votes_chooses_and_finds_it_all_again(
    visitor: BrowserContext, server: Server
) -> None:
    requested: list[str] = []
    visitor.on("request", lambda request: requested.append(request.url))
    page = visitor.new_page()
    open_chat(page, server)
    say(page, "What is the capital of Italy?")
    page.get_by_role("button", name="Bad reply").click()
    agree(page)
    page.get_by_role("button", name="wrong", exact=True).click()
    comment = page.get_by_role("textbox", name="A comment, if you like")
    comment.fill("It is Rome.")
    comment.blur()
    say(page, "turn 2")
    say(page, "turn 3")
    better = words(page.get_by_role("group", name="Reply B").inner_text()).removeprefix("B ")
    expect(page.locator(".vote-bar")).to_be_focused()
    page.wait_for_timeout(500)  # a key within a burst is a letter
    page.keyboard.press("2")
    expect(page.locator("#main").get_by_text("Saved: B is better. Both were")).to_be_visible()
    answer_one_more(page)
    page.get_by_role("button", name="Write a better answer").last.click()
    page.get_by_role("textbox", name="Save as the better answer").fill("Ask about others.")
    page.get_by_role("button", name="Save as the better answer").click()
    expect(page.get_by_text("Your better answer")).to_be_visible()

    server.stop()
    server.start()
    page.reload()
    expect(replies(page)).to_have_count(3)
    assert better in words(replies(page).last.inner_text())
    expect(page.get_by_role("button", name="Bad reply", pressed=True)).to_have_count(1)
    expect(page.get_by_text("Ask about others.")).to_be_visible()
    with saved(server) as store:
        (thumb,), (choice, test) = store.thumbs(), store.choices()
        assert (thumb.value, thumb.tags, thumb.comment) == (-1, ("wrong",), "It is Rome.")
        right = [rater.id for rater in store.raters() if rater.gold_right]
        assert (choice.choice, len(store.demonstrations()), right) == ("b", 1, [test.rater_id])
    page.get_by_role("button", name="Bad reply", pressed=True).click()  # takes it back
    expect(page.get_by_role("button", name="Bad reply", pressed=True)).to_have_count(0)
    with saved(server) as store:
        assert [thumb.value for thumb in store.thumbs()] == []
    assert {httpx.URL(url).host for url in requested if url.startswith("http")} == {"127.0.0.1"}


def test_the_first_vote_waits_for_consent_and_is_kept(chat: Page, server: Server) -> None:
    say(chat, "hello")
    thumb_up(chat)
    expect(chat.get_by_text("Your vote will train the shared model.")).to_be_visible()
    chat.get_by_role("button", name="Not now").click()
    expect(chat.get_by_role("button", name="Good reply", pressed=True)).to_have_count(0)
    thumb_up(chat)
    agree(chat)
    expect(chat.get_by_role("button", name="Good reply", pressed=True)).to_have_count(1)
    expect(chat.get_by_role("group", name="Why?")).to_be_visible()


@pytest.mark.slow
def test_a_double_click_is_one_vote(chat: Page, server: Server) -> None:
    say(chat, "hello")
    thumb_up(chat)
    agree(chat)
    chat.get_by_role("button", name="Bad reply").dblclick()
    expect(chat.get_by_role("button", name="Bad reply", pressed=True)).to_be_visible()
    chat.reload()
    expect(chat.get_by_role("button", name="Bad reply", pressed=True)).to_be_visible()
    with saved(server) as store:
        rater = store.raters()[-1].id
        values = [thumb.value for thumb in store.thumbs() if thumb.rater_id == rater]
    assert values == [-1]


@pytest.mark.slow
def test_a_second_try_is_a_version_of_the_reply_and_may_be_better(chat: Page) -> None:
    say(chat, "Try this")
    first = replies(chat).inner_text()
    chat.get_by_role("button", name="Try again").click()
    expect(chat.get_by_text("2/2")).to_be_visible()
    expect(chat.get_by_text("Better than the reply before?")).to_be_visible()
    chat.get_by_role("button", name="No", exact=True).click()
    agree(chat)
    expect(chat.get_by_text("Better than the reply before?")).to_have_count(0)
    chat.get_by_role("button", name="Earlier version").click()
    expect(chat.get_by_text("1/2")).to_be_visible()
    assert first.split()[0] in replies(chat).inner_text()
    for _ in range(2):
        chat.reload()
        expect(chat.get_by_text("1/2")).to_be_visible()  # its address names the version


@pytest.mark.slow
def test_a_changed_question_keeps_the_old_branch(chat: Page) -> None:
    say(chat, "first")
    say(chat, "second")
    chat.get_by_role("button", name="Change this message").first.click()
    editor = chat.get_by_role("textbox", name="Send changed")
    editor.fill("first, changed")
    chat.get_by_role("button", name="Send changed").click()
    expect(chat.get_by_role("button", name="Stop", exact=True)).to_have_count(0)
    expect(replies(chat)).to_have_count(1)
    chat.get_by_role("button", name="Earlier version").first.click()
    expect(replies(chat)).to_have_count(2)
    expect(chat.get_by_text("second", exact=True)).to_be_visible()


@pytest.mark.slow
def test_both_bad_offers_another_try_and_my_own_words(chat: Page) -> None:
    say(chat, "one")
    thumb_up(chat)
    agree(chat)
    say(chat, "two")
    say(chat, "three")
    chat.get_by_role("button", name="Both bad").click()
    expect(chat.locator("#main").get_by_text("Saved: both bad.")).to_be_visible()
    chat.get_by_role("button", name="Write it").click()
    expect(chat.get_by_role("textbox", name="Save as the better answer")).to_be_focused()


@pytest.mark.slow
def test_a_key_chooses_once_though_one_more_comparison_waits(chat: Page, server: Server) -> None:
    asked = chat.get_by_role("region", name="One more, please")
    say(chat, "one")
    thumb_up(chat)
    agree(chat)
    say(chat, "two")
    say(chat, "three")
    chat.wait_for_timeout(500)
    chat.keyboard.press("1")
    expect(asked).to_be_visible()
    for text in ("four", "five", "six"):  # the sixth gets two replies again
        say(chat, text)
    with saved(server) as store:
        before = len(store.choices())
    expect(asked).to_have_count(0)
    chat.wait_for_timeout(500)
    chat.keyboard.press("1")
    expect(asked).to_be_visible()
    with saved(server) as store:
        assert len(store.choices()) == before + 1


@pytest.mark.slow
def test_a_skipped_pair_stores_nothing_and_frees_the_box(chat: Page, server: Server) -> None:
    say(chat, "one")
    thumb_up(chat)
    agree(chat)
    say(chat, "two")
    say(chat, "three")
    with saved(server) as store:
        before = len(store.choices())
    chat.keyboard.press("Enter")  # which means nothing there: it may be pressed twice
    chat.wait_for_timeout(500)
    chat.keyboard.press("s")
    expect(chat.get_by_text("Skipped; nothing was stored.")).to_be_visible()
    say(chat, "four")
    expect(replies(chat)).to_have_count(4)
    with saved(server) as store:
        assert len(store.choices()) == before


@pytest.mark.slow
def test_typing_ahead_and_a_click_on_a_reply_are_no_votes(chat: Page, server: Server) -> None:
    say(chat, "one")
    thumb_up(chat)
    agree(chat)
    say(chat, "two")
    with saved(server) as store:
        before = len(store.choices())
    begin(chat, "three")
    chat.keyboard.type("do I have 1 ", delay=30)
    expect(chat.get_by_role("heading", name="Which reply is better?")).to_be_visible()
    chat.get_by_role("button", name="A", exact=True).last.focus()
    chat.keyboard.type("or 2 more", delay=500)  # however slowly: a letter begins a text
    expect(box(chat)).to_have_value("do I have 1 or 2 more")
    box(chat).press("Enter")  # which sends nothing before the choice
    chat.get_by_role("group", name="Reply B").click()
    expect(chat.get_by_role("button", name="B", exact=True).last).to_be_focused()
    with saved(server) as store:
        assert len(store.choices()) == before
    expect(box(chat)).to_have_value("do I have 1 or 2 more")


@pytest.mark.slow
def test_conversations_are_found_renamed_pinned_and_deleted_with_undo(chat: Page) -> None:
    say(chat, "About apples")
    chat.get_by_role("button", name="New conversation").click()
    say(chat, "About pears")
    listed = chat.get_by_role("complementary", name="Conversations").get_by_role("listitem")
    expect(listed).to_have_count(2)
    search = chat.get_by_role("searchbox", name="Search conversations")
    search.fill("apples")
    expect(listed).to_have_count(1)
    search.fill("")
    listed.last.hover()
    chat.get_by_role("button", name="Rename: About apples").click()
    expect(chat.get_by_role("textbox", name="Rename")).to_be_focused()
    chat.keyboard.press("Control+A")
    chat.keyboard.type("Fruit")
    chat.keyboard.press("Enter")
    expect(listed.last).to_contain_text("Fruit")
    listed.last.hover()
    chat.get_by_role("button", name="Pin: Fruit").click()
    expect(listed.first).to_contain_text("Fruit")
    listed.first.hover()
    chat.get_by_role("button", name="Delete: Fruit").click()
    expect(listed).to_have_count(1)
    chat.get_by_role("button", name="Undo").click()
    expect(listed).to_have_count(2)


@pytest.mark.slow
def test_back_forward_and_reload_return_to_the_conversation(chat: Page) -> None:
    say(chat, "About apples")
    apples = chat.url
    chat.get_by_role("button", name="New conversation").click()
    say(chat, "About pears")
    pears = chat.url
    assert apples != pears and "?c=" in pears
    chat.go_back()
    chat.go_back()
    said = chat.get_by_role("article", name="You")
    expect(said).to_have_text("About apples")
    assert chat.url == apples
    chat.go_forward()
    chat.go_forward()
    expect(said).to_have_text("About pears")
    chat.reload()
    expect(replies(chat)).to_have_count(1)
    assert chat.url == pears


@pytest.mark.slow
def test_an_answer_that_comes_late_does_not_lead_back(chat: Page) -> None:
    say(chat, "About apples")
    chat.get_by_role("button", name="New conversation").click()
    say(chat, "About pears")
    pears, late = chat.url, list[Route]()

    def hold_the_first(route: Route) -> None:
        late.append(route)
        if len(late) > 1:
            route.continue_()

    chat.route("**/run/chat_open", hold_the_first)
    listed = chat.get_by_role("navigation", name="Conversations").get_by_role("listitem")
    listed.get_by_text("About apples").click()
    chat.wait_for_timeout(300)
    listed.get_by_text("About pears").click()
    expect(chat).to_have_url(pears)
    late[0].continue_()
    chat.wait_for_timeout(500)
    expect(chat.get_by_role("article", name="You")).to_have_text("About pears")
    assert chat.url == pears


@pytest.mark.slow
def test_a_draft_survives_a_reload_and_a_message_that_is_too_long_loses_nothing(chat: Page) -> None:
    say(chat, "hello")
    box(chat).fill("not sent yet")
    chat.reload()
    expect(box(chat)).to_have_value("not sent yet")
    long = "x" * 8_010
    box(chat).fill(long)
    expect(chat.get_by_role("alert")).to_contain_text("Too long by")
    box(chat).press("Enter")
    expect(box(chat)).to_have_value(long)


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_every_state_of_the_chat_is_accessible(
    browser: Browser, server: Server, scheme: str, width: int
) -> None:
    context = browser.new_context(
        viewport={"width": width, "height": 800},
        color_scheme="dark" if scheme == "dark" else "light",
        has_touch=width < 400,
        is_mobile=width < 400,
        bypass_csp=True,  # axe is a script, which the policy forbids
    )
    page = context.new_page()
    open_chat(page, server)
    found = violations(page)
    say(
        page,
        "hello **you**: `code`, [a link](https://example.org)\n\n| a | b |\n|---|---|\n| 1 | 2 |",
    )
    page.get_by_role("button", name="Bad reply").click()
    found += violations(page)
    agree(page)
    page.get_by_role("button", name="wrong", exact=True).hover()
    found += violations(page)
    page.get_by_role("button", name="Write a better answer").click()
    found += violations(page)
    page.get_by_role("button", name="Cancel").click()
    say(page, "two")
    say(page, "three")
    found += violations(page)
    page.get_by_role("button", name="Both bad").click()
    expect(page.locator("#main").get_by_text("Saved: both bad.")).to_be_visible()
    found += violations(page)
    if width < 400:
        page.get_by_role("button", name="Conversations").click()
        found += violations(page)
        width_of_page = page.evaluate("document.documentElement.scrollWidth")
        assert width_of_page <= width
    context.close()
    assert found == []


@pytest.mark.slow
def test_a_phone_has_large_targets_and_a_drawer_that_a_choice_closes(
    browser: Browser, server: Server
) -> None:
    context = browser.new_context(
        viewport={"width": 390, "height": 780}, has_touch=True, is_mobile=True
    )
    page = context.new_page()
    open_chat(page, server)
    say(page, "About apples")
    small = page.evaluate(
        """() => [...document.querySelectorAll("button, a, input, textarea")]
            .map((one) => [one.outerHTML.slice(0, 80), one.getBoundingClientRect()])
            .filter(([html, {width, height}]) => width && height && height < 44)
            .map(([html]) => html)"""
    )
    assert [one for one in small if "skip" not in one and "#data" not in one] == []
    assert page.evaluate("getComputedStyle(document.querySelector('textarea')).fontSize") == "16px"
    page.get_by_role("button", name="Conversations").click()
    drawer = page.get_by_role("dialog", name="Conversations")
    drawer.get_by_role("button", name="New conversation").click()
    expect(drawer).to_be_hidden()
    page.get_by_role("button", name="Conversations").click()
    expect(drawer).to_be_visible()
    page.keyboard.press("Escape")
    expect(drawer).to_be_hidden()
    context.close()


@pytest.mark.slow
def test_everything_is_done_with_the_keyboard_alone(chat: Page) -> None:
    def tab_to(name: str) -> None:
        for _ in range(60):
            chat.keyboard.press("Tab")
            focused = chat.evaluate(
                "[document.activeElement].map((it) => it.ariaLabel ?? it.textContent.trim())[0]"
            )
            outlined = chat.evaluate(
                "() => getComputedStyle(document.activeElement).outlineStyle !== 'none'"
            )
            assert outlined, f"{focused} shows no focus"
            if focused == name:
                return
        raise AssertionError(f"no way to {name}")

    begin(chat, "hello")
    expect(chat.get_by_role("button", name="Good reply")).to_be_visible()
    chat.keyboard.press("Shift+Tab")
    chat.evaluate("() => document.querySelector('.skip').focus()")
    tab_to("Good reply")
    chat.keyboard.press("Enter")
    tab_to("Agree and save")
    chat.keyboard.press("Enter")
    expect(chat.get_by_role("button", name="Good reply", pressed=True)).to_be_visible()
    chat.evaluate("() => document.querySelector('.skip').focus()")
    tab_to("friendly")
    chat.keyboard.press("Space")
    expect(chat.get_by_role("button", name="friendly", pressed=True)).to_be_visible()
