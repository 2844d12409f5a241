"""The browser and the server of the page tests, and what a person does in a page."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Locator, Page, expect

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = [
    "--no-sandbox",
    "--headless",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
TOKEN = "the-operators-token"
GOLD = {
    "prompt": "Test question: what is the capital of Italy?",
    "better": "It is Rome.",
    "worse": "It is Paris.",
}


class Server:
    """A server process on a data directory; it can be stopped, killed and started again."""

    def __init__(
        self,
        data: Path,
        model: Path | str,
        *,
        quantization: str = "none",
        tokens: int = 12,
        gold: Path | None = None,
        **options: str,
    ) -> None:
        self.data = data
        self._command = [sys.executable, "-m", "chat_app", "serve", "--data", str(data)]
        self._command += ["--model", str(model), "--quantization", quantization]
        self._port = 0
        self._options = {
            "FEEDBACK_CHAT_OPERATOR_TOKEN": TOKEN,
            "FEEDBACK_CHAT_REPLY__TOKENS": str(tokens),
            "GRADIO_SHARE": "True",  # which the pages ignore
        } | {f"FEEDBACK_CHAT_{name.upper()}": value for name, value in options.items()}
        if gold is not None:
            self._options |= {
                "FEEDBACK_CHAT_GOLD_ITEMS": str(gold),
                "FEEDBACK_CHAT_GOLD_EVERY": "1",
            }

    def start(self) -> None:
        """Start it, on the same port as before, and wait until replies are possible."""
        with (self.data.parent / "log.txt").open("a") as log:
            self._process = subprocess.Popen(
                [*self._command, "--port", str(self._port)],
                env={**os.environ, **self._options},
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if address := re.search(r"Chat:\s+(http://\S+:(\d+))", line):
                self.url, self._port = address[1], int(address[2])
                return
        raise AssertionError((self.data.parent / "log.txt").read_text())

    def stop(self, *, by: int = signal.SIGTERM) -> None:
        """End it by a signal."""
        self._process.send_signal(by)
        self._process.communicate(timeout=60)


def open_chat(page: Page, server: Server) -> None:
    """Open the chat in a tab."""
    page.goto(server.url)
    expect(box(page)).to_be_visible()
    expect(page.get_by_role("heading", level=1)).to_be_attached()


def box(page: Page) -> Locator:
    """The box for a message."""
    return page.get_by_role("textbox", name="Message", exact=True)


def begin(page: Page, text: str) -> None:
    """Send a message with the keyboard alone, and do not wait for the reply."""
    said = page.get_by_role("article", name="You", exact=True)
    asked = said.count()
    box(page).fill(text)
    box(page).press("Enter")
    expect(said).to_have_count(asked + 1)


def say(page: Page, text: str) -> None:
    """Send a message with the keyboard alone and wait until the reply is complete."""
    begin(page, text)
    expect(page.get_by_role("button", name="Stop", exact=True)).to_have_count(0)


def replies(page: Page) -> Locator:
    """The replies on the page, without those to choose between."""
    return page.get_by_role("article", name="Reply", exact=True)


def words(shown: str) -> str:
    """A text with single spaces: a random model writes any kind of them."""
    return " ".join(shown.split())


def agree(page: Page) -> None:
    """Agree to training, where a vote asks for it."""
    page.get_by_role("button", name="Agree and save").click()
    expect(page.get_by_role("button", name="Agree and save")).to_have_count(0)


def violations(page: Page) -> list[Any]:
    """What axe-core finds serious or critical on the page, as it is now."""
    found = Axe().run(page).response["violations"]
    return [
        (one["id"], [node["target"] for node in one["nodes"]])
        for one in found
        if one["impact"] in ("serious", "critical")
    ]
