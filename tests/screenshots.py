"""Take the pictures of the documents, by doing what the tutorial says.

``python -m tests.screenshots [--folder FOLDER] [--rounds N]`` serves the starter on an empty data
directory, chats, votes, lets simulated visitors vote, waits for a round (some minutes) and runs a
second one. A folder keeps its rounds, so that a later call with it takes the pictures soon.
"""

import argparse
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import (
    Browser,
    BrowserContext,
    Page,
    ViewportSize,
    expect,
    sync_playwright,
)

from tests.chat_app.pages.browsing import (
    CHROMIUM,
    FLAGS,
    TOKEN,
    Server,
    agree,
    open_chat,
    replies,
    say,
)

IMAGES = Path(__file__).parents[1] / "docs" / "images"
MOST_BYTES = 150_000
COLOURS = 128
WIDE, PHONE = ViewportSize(width=1280, height=800), ViewportSize(width=390, height=844)
QUESTIONS = (
    "What is the capital of Italy?",
    "Politely, what is the opposite of hot?",
    "List three animals.",
)
WAIT_MS, ROUND_MS = 60_000, 30 * 60_000


def main() -> None:
    """Serve, walk through the tutorial, and write the pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, help="where data and cookie stay; default: nowhere")
    parser.add_argument("--rounds", type=int, default=2, help="how many the pictures show")
    options = parser.parse_args()
    IMAGES.mkdir(parents=True, exist_ok=True)
    expect.set_options(timeout=WAIT_MS)
    with tempfile.TemporaryDirectory() as temporary, sync_playwright() as playwright:
        folder = options.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        data, cookie = folder / "data", folder / "visitor.json"
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        with serving(Path(temporary) / "fresh" if cookie.exists() else data) as server:
            visit(browser, server, cookie)
        with serving(data) as server:
            operate(browser, server, rounds=options.rounds)
            come_back(browser, server, cookie)
        browser.close()


@contextmanager
def serving(data: Path) -> Iterator[Server]:
    """The starter on a data directory."""
    server = Server(data, "starter", quantization="nf4", tokens=64)
    server.start()
    try:
        yield server
    finally:
        server.stop()


def visit(browser: Browser, server: Server, cookie: Path) -> None:
    """A new visitor chats, votes and ranks, before any round."""
    context = new_context(browser)
    page = context.new_page()
    take_chat(page, server)
    take_compare(page, server)
    if not cookie.exists():
        context.storage_state(path=cookie)


def operate(browser: Browser, server: Server, *, rounds: int) -> None:
    """An operator lets rounds run, and looks."""
    page = new_context(browser).new_page()
    page.goto(f"{server.url}/operator?token={TOKEN}")
    expect(page.get_by_role("heading", name="Health", exact=True)).to_be_visible()
    while (there := ended(page, server)) < rounds:
        run_round(page, server, seed=there)
    take_operator(page, server)


def come_back(browser: Browser, server: Server, cookie: Path) -> None:
    """The first visitor sees what became of the votes, at a desk, on a phone and in the dark."""
    page = new_context(browser, storage_state=cookie).new_page()
    page.goto(f"{server.url}/votes")
    expect(page.get_by_text("Take back").first).to_be_visible()
    take(page, "votes")
    page.goto(f"{server.url}/progress")
    expect(page.get_by_role("heading", name="Rounds", exact=True)).to_be_visible()
    take(page, "progress")
    page.get_by_role("link", name="More on whose values they are").click()
    expect(page.get_by_role("heading", name="Who else decides", exact=True)).to_be_attached()
    take(page, "values")
    phone = new_context(browser, storage_state=cookie, size=PHONE, has_touch=True, is_mobile=True)
    dark = new_context(browser, storage_state=cookie, color_scheme="dark")
    for name, context in (("phone", phone), ("dark", dark)):
        page = context.new_page()
        open_chat(page, server)
        say(page, QUESTIONS[0])
        page.get_by_role("button", name="Good reply").last.click()
        expect(page.get_by_role("group", name="Why?")).to_be_visible()
        take(page, name)


def take_chat(page: Page, server: Server) -> None:
    """A reply with a thumb and a better answer; two replies to choose between."""
    open_chat(page, server)
    say(page, QUESTIONS[0])
    right = "Rome" in replies(page).last.inner_text()
    page.get_by_role("button", name="Good reply" if right else "Bad reply").click()
    expect(page.get_by_role("button", name="Agree and save")).to_be_visible()
    take(page, "consent")
    agree(page)
    reasons = page.get_by_role("group", name="Why?")
    reasons.get_by_role("button", name="correct" if right else "wrong", exact=True).click()
    take(page, "chat")
    say(page, QUESTIONS[1])
    say(page, QUESTIONS[2])
    expect(page.get_by_text("Which reply is better?")).to_be_visible()
    take(page, "pair")
    page.keyboard.press("2")
    expect(page.locator("#main").get_by_text("Saved: B is better.")).to_be_visible()
    page.get_by_role("button", name="Write a better answer").first.click()
    page.get_by_role("textbox", name="Save as the better answer").fill("It is Rome.")
    page.get_by_role("button", name="Save as the better answer").click()
    expect(page.get_by_text("Your better answer")).to_be_visible()
    page.get_by_role("button", name="Try again").last.click()
    page.get_by_text("Better than the reply before?").scroll_into_view_if_needed()
    take(page, "again")
    page.get_by_role("button", name="Same", exact=True).click()
    expect(page.get_by_text("Better than the reply before?")).to_have_count(0)


def take_compare(page: Page, server: Server) -> None:
    """Four replies, two of them in order."""
    page.goto(f"{server.url}/compare")
    page.get_by_label("Replies").select_option("4")
    page.get_by_label("Your question").fill("What is the capital of Spain?")
    page.get_by_label("Your question").press("Enter")
    expect(page.get_by_role("button", name="Skip")).to_be_visible()
    page.keyboard.press("b")
    page.keyboard.press("a")
    take(page, "compare")
    page.get_by_role("button", name=re.compile("^Save")).click()
    expect(page.locator(".thanks")).to_be_visible()


def ended(page: Page, server: Server) -> int:
    """How many rounds have ended."""
    page.goto(f"{server.url}/operator/#rounds")
    page.reload()
    table = page.get_by_role("table", name="Rounds")
    expect(table.or_(page.get_by_text("No round has run yet."))).to_be_visible()
    return table.get_by_role("link", name="Round").count()


def run_round(page: Page, server: Server, *, seed: int) -> None:
    """Let visitors vote and a round begin, and wait until it has ended."""
    command = [sys.executable, "-m", "chat_app", "simulate", "--url", server.url]
    subprocess.run([*command, "--seed", str(seed)], check=True)
    page.goto(f"{server.url}/operator/#now")
    page.reload()
    begin = page.get_by_role("button", name="Run a round")
    running = page.get_by_text(re.compile(r"Round \d+ is running"))
    expect(begin.or_(running)).to_be_visible()
    if begin.count():  # it begins by itself only some time after the one before
        begin.click()
    expect(running).to_be_visible(timeout=ROUND_MS)
    late = page.get_by_text(re.compile(r"iterations \d\d"))  # by then the curves say something
    expect(late).to_be_visible(timeout=ROUND_MS)
    take(page, "operator-running", whole=True)
    expect(begin).to_be_visible(timeout=ROUND_MS)


def take_operator(page: Page, server: Server) -> None:
    """What is served, the newest report that has one, the versions."""
    page.goto(f"{server.url}/operator/#now")
    page.reload()
    expect(page.get_by_role("heading", name="Health", exact=True)).to_be_visible()
    # a round that has ended frees its place a moment later
    expect(page.get_by_role("button", name="Run a round")).to_be_enabled(timeout=ROUND_MS)
    take(page, "operator-now")
    page.goto(f"{server.url}/operator/#versions")
    expect(page.get_by_role("button", name="Promote").first).to_be_visible()
    take(page, "operator-versions")
    page.goto(f"{server.url}/operator/#rounds/1")
    expect(page.get_by_role("heading", name="Checks", exact=True)).to_be_visible()
    take(page, "operator-rounds")


def new_context(browser: Browser, *, size: ViewportSize = WIDE, **options: Any) -> BrowserContext:
    """A browser of its own, whose clock and words do not depend on the machine."""
    context = browser.new_context(
        viewport=size, locale="en-GB", timezone_id="UTC", reduced_motion="reduce", **options
    )
    context.set_default_timeout(WAIT_MS)
    return context


def take(page: Page, name: str, *, whole: bool = False) -> None:
    """Write what the window shows, or the whole page, in few colours."""
    page.wait_for_timeout(700)  # until what moves stands still
    path = IMAGES / f"{name}.png"
    page.screenshot(path=path, full_page=whole)
    picture = Image.open(path).convert("RGB").quantize(COLOURS)
    picture.save(path, optimize=True)
    if path.stat().st_size > MOST_BYTES:
        raise SystemExit(f"{path} has {path.stat().st_size} bytes; at most {MOST_BYTES} are wanted")


if __name__ == "__main__":
    main()
