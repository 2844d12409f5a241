"""One browser and one server for the tests of a module, and a visitor for each test."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from tests.chat_app.pages.browsing import CHROMIUM, FLAGS, GOLD, Server, open_chat

expect.set_options(timeout=15_000)  # a busy machine takes its time


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def server(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("served")
    gold = folder / "gold.jsonl"
    gold.write_text(json.dumps(GOLD) + "\n")
    server = Server(folder / "data", tiny_model, gold=gold, markdown="true")
    server.start()
    yield server
    server.stop()


@pytest.fixture
def visitor(browser: Browser) -> Iterator[BrowserContext]:
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    context.set_default_timeout(15_000)
    yield context
    context.close()


@pytest.fixture
def chat(visitor: BrowserContext, server: Server) -> Page:
    """The chat, opened by a new visitor."""
    page = visitor.new_page()
    open_chat(page, server)
    return page
