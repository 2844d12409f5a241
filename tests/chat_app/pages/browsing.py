"""The browser of the tests, and what a person does in it."""

from pathlib import Path

from playwright.sync_api import Page, expect

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


def say(page: Page, text: str) -> None:
    """Send a message with the keyboard alone and wait until the reply is complete."""
    box = page.get_by_role("textbox", name="Your message")
    expect(box).to_be_enabled()
    asked = page.locator("#chat [data-testid=user]").count()
    box.fill(text)
    box.press("Enter")
    expect(page.locator("#chat [data-testid=user]")).to_have_count(asked + 1)
    expect(page.get_by_role("button", name="Stop", exact=True)).to_have_count(0)
    expect(page.get_by_role("button", name="Send")).to_be_visible()
