"""The chat page and what comes between: a reload, another tab, a slow line, a killed server."""

import json
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from feedback_store.store import FeedbackStore
from tests.chat_app.pages.browsing import CHROMIUM, Server, begin, box, open_chat, replies

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM.exists(), reason="chromium is not installed"),
]
TOKENS = 7500  # of a reply that takes some seconds


@pytest.fixture(scope="module")
def server(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("slow")
    long = folder / "model"
    shutil.copytree(tiny_model, long)
    config = json.loads((long / "config.json").read_text())
    (long / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 8192}))
    server = Server(folder / "data", long, tokens=TOKENS, limits__new_tokens=str(TOKENS))
    server.start()
    yield server
    server.stop()


def writing(page: Page) -> None:
    """Wait until some of a reply is there, and more comes."""
    expect(page.locator("article[aria-busy=true] .text")).not_to_be_empty()
    expect(page.get_by_role("button", name="Stop", exact=True)).to_be_visible()


def stopped(page: Page) -> None:
    page.get_by_role("button", name="Stop", exact=True).click()
    expect(page.get_by_role("button", name="Stop", exact=True)).to_have_count(0, timeout=20_000)
    expect(page.get_by_text("Stopped.").last).to_be_visible()


def test_a_reload_in_mid_reply_finds_the_reply_and_goes_on_reading(chat: Page) -> None:
    begin(chat, "a long one")
    writing(chat)
    chat.reload()
    writing(chat)
    before = len(chat.locator("article[aria-busy=true]").inner_text())
    chat.wait_for_timeout(500)
    assert len(chat.locator("article[aria-busy=true]").inner_text()) > before
    stopped(chat)
    expect(replies(chat)).to_have_count(1)


def test_a_reply_outlives_its_tab(visitor: BrowserContext, chat: Page, server: Server) -> None:
    begin(chat, "a long one")
    writing(chat)
    url = chat.url
    chat.close()
    page = visitor.new_page()
    page.goto(url)
    writing(page)
    stopped(page)


def test_a_tab_that_is_behind_says_so_and_keeps_what_was_written(
    visitor: BrowserContext, chat: Page
) -> None:
    begin(chat, "first")
    writing(chat)
    stopped(chat)
    other = visitor.new_page()
    other.goto(chat.url)
    expect(replies(other)).to_have_count(1)
    begin(other, "from the other tab")
    writing(other)
    stopped(other)
    box(chat).fill("from here")
    box(chat).press("Enter")
    expect(chat.get_by_text("Continued in another tab.")).to_be_visible()
    expect(box(chat)).to_have_value("from here")
    chat.get_by_role("button", name="Show", exact=True).click()
    expect(chat.get_by_text("from the other tab")).to_be_visible()
    expect(box(chat)).to_have_value("from here")


def test_a_server_that_is_killed_in_mid_reply_leaves_a_question_to_ask_again(
    chat: Page, server: Server
) -> None:
    begin(chat, "will it be answered?")
    writing(chat)
    server.stop(by=signal.SIGKILL)
    expect(chat.get_by_text("The server does not answer. Trying again")).to_be_visible()
    box(chat).fill("a draft")
    server.start()
    expect(chat.get_by_text("Not answered.")).to_be_visible(timeout=30_000)
    expect(chat.get_by_role("button", name="Stop", exact=True)).to_have_count(0)
    expect(box(chat)).to_have_value("a draft")
    chat.get_by_role("button", name="Try again").click()
    writing(chat)
    stopped(chat)


def test_a_server_that_stops_in_order_keeps_what_was_written(chat: Page, server: Server) -> None:
    begin(chat, "a long one")
    writing(chat)
    server.stop()
    server.start()
    chat.reload()
    expect(replies(chat)).to_have_count(1)
    expect(replies(chat).locator(".text")).not_to_be_empty()  # whole, if there was time


def test_what_is_sent_while_the_server_is_away_stays_in_the_box(chat: Page, server: Server) -> None:
    server.stop(by=signal.SIGKILL)
    box(chat).fill("precious words")
    box(chat).press("Enter")
    expect(chat.get_by_text("The server does not answer.").first).to_be_visible()
    expect(box(chat)).to_have_value("precious words")
    server.start()
    box(chat).press("Enter")
    writing(chat)
    stopped(chat)


def test_a_slow_line_stores_one_message_for_one_that_is_sent(
    visitor: BrowserContext, server: Server
) -> None:
    page = visitor.new_page()
    line = visitor.new_cdp_session(page)
    line.send("Network.enable")
    slow = {"offline": False, "latency": 800, "downloadThroughput": 6000, "uploadThroughput": 3000}
    open_chat(page, server)
    line.send("Network.emulateNetworkConditions", slow)
    box(page).fill("once")
    for _ in range(4):
        box(page).press("Enter")
    writing(page)
    stopped(page)
    with FeedbackStore(server.data / "feedback.db") as store:
        rater = store.raters()[-1].id
        [one] = store.conversations(rater)
        assert [m.content for m in store.messages(one.id) if m.role == "user"] == ["once"]


def test_conversations_go_on_beside_each_other(chat: Page) -> None:
    begin(chat, "one")
    writing(chat)
    first = chat.url
    chat.get_by_role("button", name="New conversation").click()
    begin(chat, "two")
    writing(chat)
    stopped(chat)
    chat.goto(first)
    writing(chat)
    stopped(chat)
