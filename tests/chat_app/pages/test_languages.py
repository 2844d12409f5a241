"""What the server says, in the language of the page: refusals, and pages that are not there."""

from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from chat_app.api.languages import LANGUAGES, words_of
from tests.chat_app.pages.browsing import CHROMIUM, Server, violations

pytestmark = pytest.mark.skipif(not CHROMIUM.exists(), reason="chromium is not installed")

# The page's own way to a function, with what no page sends.
CALL = """async ([name, ...data]) => {
  const main = document.querySelector("script[type=module]").src;
  const { call } = await import(new URL("../call.js", main));
  try { return await call(name, ...data); } catch (problem) { return problem.message; }
}"""
TOO_LONG = {
    "de": "Die Nachricht hat 100.000 Zeichen, mehr als ",
    "es": "El mensaje tiene 100.000 caracteres, más de ",
    "zh": "消息有 100,000 个字符",
    "ar": "في الرسالة ",
    "en": "the message has 100000 characters, more than ",
}


def opened(browser: Browser, server: Server, lang: str) -> tuple[BrowserContext, Page]:
    context = browser.new_context(locale=lang)
    page = context.new_page()
    page.goto(server.url)
    expect(page.locator("textarea")).to_be_visible()
    return context, page


def called(page: Page, *call: Any) -> Any:
    """What a call brings the page, or what the page says if it was refused."""
    return page.evaluate(CALL, list(call))


@pytest.mark.parametrize("lang", LANGUAGES)
def test_a_message_that_is_too_long_is_refused_in_the_language_of_the_page(
    browser: Browser, server: Server, lang: str
) -> None:
    context, page = opened(browser, server, lang)
    assert TOO_LONG[lang] in called(page, "chat_send", "a" * 100_000, None, None)
    context.close()


@pytest.mark.parametrize(
    ("lang", "text"),
    [
        ("de", "Dieses Gespräch ging in einem anderen Tab weiter."),
        ("ar", "تابعت هذه المحادثة في علامة تبويب أخرى."),
    ],
)
def test_who_is_behind_hears_it_in_the_language_of_the_page(
    browser: Browser, server: Server, lang: str, text: str
) -> None:
    context, page = opened(browser, server, lang)
    begun = called(page, "chat_send", "Hi", None, None)
    below = begun["messages"][-1]["id"]
    assert called(page, "chat_send", "And?", below, "an older one") == text
    context.close()


def test_what_cannot_be_read_is_refused_in_the_language_of_the_page(
    browser: Browser, server: Server
) -> None:
    context, page = opened(browser, server, "de")
    assert called(page, "chat_send", 1, None, None).startswith("Das ging nicht: Die Seite")
    assert called(page, "nothing", 1) == words_of("de", "page")["page.status.400"]
    context.close()


@pytest.mark.parametrize("lang", LANGUAGES)
def test_a_page_that_is_not_there_looks_like_ours(
    browser: Browser, server: Server, lang: str
) -> None:
    context = browser.new_context(locale=lang, viewport={"width": 320, "height": 700})
    page, errors = context.new_page(), list[str]()
    page.on("console", lambda said: errors.append(said.text) if said.type == "error" else None)
    answer = page.goto(f"{server.url}/nothing")
    assert answer is not None and answer.status == 404
    words = words_of(lang, "page")
    expect(page.get_by_role("heading", level=1)).to_have_text(words["page.error.missing"])
    expect(page.get_by_role("link", name=words["page.home"])).to_have_attribute("href", "/")
    html = page.locator("html")
    assert html.get_attribute("lang") == lang
    assert html.get_attribute("dir") == ("rtl" if lang == "ar" else "ltr")
    assert page.evaluate("document.documentElement.scrollWidth") <= 320
    assert page.evaluate("getComputedStyle(document.querySelector('.card')).borderRadius") == "12px"
    assert not violations(page) and all("404" in error for error in errors)
    context.close()
