"""Take the README's pictures: ``python -m tests.screenshots --data DIR [--model MODEL]``.

``DIR`` is the data directory of a service that is not running now and whose last cycle has a
report. It is copied first, so that the pictures leave nothing in it.
"""

import argparse
import shutil
import tempfile
from pathlib import Path

from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.chat_app.pages.browsing import CHROMIUM, FLAGS, say
from tests.chat_app.pages.test_pages import TOKEN, Server

IMAGES = Path(__file__).parents[1] / "docs" / "images"
WIDTH, HEIGHT = 1280, 860
QUESTIONS = (
    "What is the capital of Italy?",
    "Politely, what is the opposite of hot?",
    "List three animals.",
)


def main() -> None:
    """Serve a copy of the data and take both pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="data directory to show; default: an empty one")
    parser.add_argument("--model", default="starter")
    options = parser.parse_args()
    IMAGES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as directory, sync_playwright() as playwright:
        data = Path(directory) / "data"
        if options.data:
            shutil.copytree(options.data, data)
        server = Server(data, options.model, quantization="nf4", tokens=64)
        server.start()
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        try:
            take_chat(browser, server)
            take_operator(browser, server)
        finally:
            browser.close()
            server.stop()


def take_chat(browser: Browser, server: Server) -> None:
    """A short conversation that has come to its side-by-side turn, one reply voted on."""
    page = new_page(browser)
    page.goto(server.url)
    page.get_by_role("button", name="I agree").click()
    expect(page.locator("#notice")).to_have_count(0)
    for question in QUESTIONS:
        say(page, question)
        if question == QUESTIONS[0]:
            page.get_by_role("button", name="Like", exact=True).click()
            page.locator("#panel").get_by_role("button", name="Close").click()
    expect(page.locator("#pair")).to_be_visible()
    page.wait_for_timeout(11_000)  # until the toast has gone
    page.screenshot(path=IMAGES / "chat.png")


def take_operator(browser: Browser, server: Server) -> None:
    """The operator page from its top down to the plots."""
    page = new_page(browser)
    page.goto(f"{server.url}/operator?token={TOKEN}")
    expect(page.get_by_role("button", name="Run a cycle")).to_be_visible()
    page.wait_for_timeout(3_000)  # plots
    page.screenshot(path=IMAGES / "operator.png", full_page=True)


def new_page(browser: Browser) -> Page:
    """A window of the pictures' size, sharp on a dense screen."""
    return browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})


if __name__ == "__main__":
    main()
