"""What no text may do in a page, and which switches of Gradio make that so."""

import os
from itertools import product
from pathlib import Path

import fastapi
import gradio as gr
import httpx
import pytest
from playwright.sync_api import BrowserContext, Page, expect

from chat_app.pages import shared
from feedback_store.records import CandidateReply
from feedback_store.store import FeedbackStore
from tests.chat_app.pages.browsing import (
    CHROMIUM,
    TOKEN,
    Server,
    agree,
    open_chat,
    replies,
    say,
)
from tests.chat_app.pages.mounting import made

needs_chromium = pytest.mark.skipif(not CHROMIUM.exists(), reason="chromium is not installed")
EVIL = "http://elsewhere.example"
RUN = "document.title='run'"
# Ways to run a script or to ask another host, of each kind that sanitisers have missed before.
PAYLOADS = [
    *(f"<{tag} src=x onerror=\"{RUN}\">" for tag in ("img", "video", "audio", "input type=image")),
    *(f"<{tag} onload=\"{RUN}\">" for tag in ("svg", "body", "iframe", "style", "link href=x")),
    *(f"<{tag}>{RUN}</{tag}>" for tag in ("script", "SCRIPT", "scr<script>ipt", "svg><script")),
    *(f"<a href=\"{way}{RUN}\">go</a>" for way in ("javascript:", "JaVaScRiPt:", "java\tscript:",
      " javascript:", "&#106;avascript:", "data:text/html,<script>", "vbscript:")),
    *(f"[go]({way}{RUN})" for way in ("javascript:", "JAVASCRIPT:", "javascript&colon;",
      "data:text/html;base64,", "vbscript:", "\x01javascript:")),
    *(f"{mark}[p]({EVIL}/{n}.png)" for n, mark in enumerate(("!", "!!", "[!"))),
    f"![a]({EVIL}/a.png 'x' onerror=alert(1))",
    f"![p][1]\n\n[1]: {EVIL}/ref.png",
    f"<img src='{EVIL}/b.png'>", f"<img srcset='{EVIL}/c.png 2x'>",
    f"<svg><image href='{EVIL}/d.svg' /></svg>", f"<svg><use href='{EVIL}/e.svg#x' /></svg>",
    f"<style>@import '{EVIL}/f.css'</style>", f"<div style=\"background:url({EVIL}/g)\">x</div>",
    f"<link rel=stylesheet href='{EVIL}/h.css'>", f"<iframe src='{EVIL}/i'></iframe>",
    f"<object data='{EVIL}/j'></object>", f"<embed src='{EVIL}/k'>", f"<base href='{EVIL}/'>",
    f"<meta http-equiv=refresh content='0;url={EVIL}/l'>", f"<video poster='{EVIL}/m'></video>",
    f"<form action='{EVIL}/n'><button>Send</button></form>", f"<table background='{EVIL}/o'>",
    f"<a ping='{EVIL}/p' href='#'>x</a>", f"<link rel=dns-prefetch href='{EVIL}'>",
    f"<source src='{EVIL}/q'>", f"<track src='{EVIL}/r'>", f"<portal src='{EVIL}/s'></portal>",
    f"<math><mtext><img src=x onerror=\"{RUN}\"></mtext></math>",
    f"<math><mi href=\"javascript:{RUN}\">x</mi></math>",
    f"<svg><animate onbegin=\"{RUN}\" attributeName=x dur=1s>",
    f"<svg><a><animate attributeName=href values=javascript:{RUN} /><text>x</text></a></svg>",
    f"<details open ontoggle=\"{RUN}\">", f"<select autofocus onfocus=\"{RUN}\">",
    f"<input autofocus onfocus=\"{RUN}\">", f"<marquee onstart=\"{RUN}\">",
    f"<xmp><img src=x onerror=\"{RUN}\"></xmp>",
    f"<noscript><p title=\"</noscript><img src=x onerror={RUN}>\">",
    f"<template><script>{RUN}</script></template>", f"<!--><img src=x onerror=\"{RUN}\">-->",
    f"<![CDATA[><img src=x onerror=\"{RUN}\">]]>", f"<isindex action=javascript:{RUN} type=image>",
    f"<form><math><mtext></form><form><mglyph><style></math><img src onerror={RUN}>",
    f"<svg></p><style><a id=\"</style><img src=1 onerror={RUN}>\">",
    "<div id=app></div><div id=config>{}</div><script type=application/json id=words>{}</script>",
    "<img name=getElementById>", "<form id=location><input name=href></form>",
    f"```html\n<script>{RUN}</script>\n```", f"`<img src=x onerror={RUN}>`",
    f"$\\href{{javascript:{RUN}}}{{x}}$", f"$\\includegraphics{{{EVIL}/t.png}}$",
    f"$\\htmlData{{x=\"><img src=x onerror={RUN}>}}{{y}}$", f"$\\url{{javascript:{RUN}}}$",
    f"\\(\\unicode{{<img src=x onerror={RUN}>}}\\)", f"$$<img src=x onerror=\"{RUN}\">$$",
    f"| a |\n|---|\n| <img src=x onerror=\"{RUN}\"> |", f"> <script>{RUN}</script>",
    f"1. <img src=x onerror=\"{RUN}\">\n2. [x](javascript:{RUN})", f"# <svg onload=\"{RUN}\">",
    f"<{EVIL}/auto>", f"<javascript:{RUN}>", "${" + RUN + "}",
    "{{constructor.constructor('" + RUN + "')()}}",
    "</script><script>" + RUN + "</script>", "\"><script>" + RUN + "</script>", "'-" + RUN + "-'",
    *(f"<{tag} {event}=\"{RUN}\" tabindex=0>x</{tag}>" for tag, event in product(
        ("p", "b", "code"), ("onmouseover", "onclick", "onfocus", "onpointerenter"))),
]  # fmt: skip


def attacked(page: Page, server: Server) -> None:
    """Show every payload as a question, a reply and two blind replies, each in one conversation."""
    with FeedbackStore(server.data / "feedback.db") as store:
        rater = store.raters()[-1].id
        for at in range(0, len(PAYLOADS), 25):
            texts = PAYLOADS[at : at + 25]
            begun = store.add_conversation(rater, title=texts[0]).id
            above = None
            for text in texts:
                asked = store.add_message(begun, "user", text, parent_id=above)
                reply = store.add_message(begun, "assistant", text, parent_id=asked.id)
                store.add_thumb(reply.id, rater, -1, comment=text)
                store.add_demonstration(rater, f"{text} better", message_id=reply.id)
                above = reply.id
            last = store.add_message(begun, "user", "Once more", parent_id=above)
            pair = [CandidateReply("\n\n".join(texts), adapter="policy-000000")]
            store.add_candidates(last.id, [*pair, CandidateReply("Other.")], rater_id=rater)
    for conversation in store_ids(server, rater):
        page.goto(f"{server.url}/?c={conversation}")
        expect(page.get_by_role("heading", name="Which reply is better?")).to_be_visible()
        for tool in page.get_by_role("button", name="Write a better answer").all()[:3]:
            tool.click()
            page.keyboard.press("Escape")
        page.evaluate(
            """() => document.querySelectorAll('.text *:not(a)').forEach((one) => {
                for (const kind of ['mouseover', 'click', 'focus', 'pointerenter'])
                    one.dispatchEvent(new Event(kind, {bubbles: true}))})"""
        )


def store_ids(server: Server, rater: str) -> list[str]:
    with FeedbackStore(server.data / "feedback.db") as store:
        return [one.id for one in store.conversations(rater) if one.title in PAYLOADS]


@pytest.mark.slow
@needs_chromium
def test_no_text_runs_a_script_or_asks_another_host(
    visitor: BrowserContext, server: Server
) -> None:
    assert len(PAYLOADS) >= 100
    fetched: list[str] = []
    visitor.route(
        lambda url: "127.0.0.1" not in url,
        lambda route: (fetched.append(route.request.url), route.abort()),
    )
    page = visitor.new_page()
    ran: list[str] = []
    page.on("dialog", lambda dialog: (ran.append(dialog.message), dialog.dismiss()))
    open_chat(page, server)
    say(page, "hello")
    attacked(page, server)
    assert page.title() != "run"
    for path in ("/votes", f"/operator?token={TOKEN}", "/operator/#data", "/operator/#raters"):
        page.goto(f"{server.url}{path}")
        page.wait_for_timeout(700)
        assert page.title() != "run"
    scripts = page.evaluate("() => document.scripts.length")
    assert (fetched, ran) == ([], []) and scripts == 3  # two of data, one of ours


@pytest.mark.slow
@needs_chromium
def test_markdown_is_shown_and_plain_text_stays_as_it_is(chat: Page, server: Server) -> None:
    say(chat, "hello")
    with FeedbackStore(server.data / "feedback.db") as store:
        rater = store.raters()[-1].id
        begun = store.add_conversation(rater, title="Markdown").id
        asked = store.add_message(begun, "user", "**not bold** <b>&amp;</b>")
        text = (
            "**bold** and `code`\n\n```python\nprint(1 < 2)\n```\n\n| a | b |\n|---|---|\n| 1 | 2 |"
            "\n\n$x^2$ costs $5 and $6 [link](https://example.org)\n\n3. third\n\n$$y$$"
        )
        store.add_message(begun, "assistant", text, parent_id=asked.id)
    chat.goto(f"{server.url}/?c={begun}")
    reply = replies(chat).first
    expect(reply.locator("strong")).to_have_text("bold")
    expect(reply.locator("pre code")).to_have_text("print(1 < 2)")
    expect(reply.get_by_role("cell", name="2")).to_be_visible()
    expect(reply.locator("math")).to_have_count(2)
    expect(reply.locator("math").nth(1)).to_have_attribute("display", "block")
    expect(reply.locator("ol")).to_have_attribute("start", "3")
    expect(reply).to_contain_text("costs $5 and $6")
    link = reply.get_by_role("link", name="link")
    assert (link.get_attribute("rel") or "").split()[0] == "noopener"
    expect(link).to_have_attribute("target", "_blank")
    said = chat.get_by_role("article", name="You", exact=True)
    expect(said).to_have_text("**not bold** <b>&amp;</b>")


@pytest.mark.slow
@needs_chromium
def test_a_text_that_cannot_be_read_as_markdown_is_shown_as_it_is(
    chat: Page, server: Server
) -> None:
    say(chat, "hello")
    with FeedbackStore(server.data / "feedback.db") as store:
        rater = store.raters()[-1].id
        begun = store.add_conversation(rater, title="Deep").id
        asked = store.add_message(begun, "user", "deep")
        store.add_message(begun, "assistant", f"{'>' * 7000} deepest", parent_id=asked.id)
    chat.goto(f"{server.url}/?c={begun}")
    expect(replies(chat).first).to_contain_text("deepest")


@pytest.mark.slow
@needs_chromium
def test_no_page_breaks_the_policy_on_its_own_origin(
    visitor: BrowserContext, server: Server
) -> None:
    complaints: list[str] = []
    visitor.on("console", lambda line: complaints.append(line.text))
    page = visitor.new_page()
    open_chat(page, server)
    say(page, "hello")
    page.get_by_role("button", name="Good reply").click()
    agree(page)
    for path in ("/compare", "/votes", "/progress", "/values", f"/operator?token={TOKEN}"):
        page.goto(f"{server.url}{path}")
        expect(page.get_by_role("heading").first).to_be_attached()
        page.wait_for_timeout(300)
    assert complaints == []


@pytest.mark.parametrize(
    ("method", "path", "status", "says"),
    [
        ("GET", "/v1/nothing", 404, "no route /v1/nothing"),
        ("POST", "/v1/nothing/here", 404, "no route /v1/nothing/here"),
        ("GET", "/v1", 404, "no route /v1;"),
        ("GET", "/v1/feedback", 405, "/v1/feedback does not allow GET; use POST"),
        ("BREW", "/v1/feedback/me", 405, "use GET"),
        ("DELETE", "/v1/openapi.json", 405, "use GET or HEAD"),
    ],
)
def test_routes_and_methods_that_do_not_exist_are_refused_in_openais_shape_beside_the_pages(
    server: Server, method: str, path: str, status: int, says: str
) -> None:
    answer = httpx.request(method, f"{server.url}{path}", trust_env=False)
    assert answer.status_code == status
    error = answer.json()["error"]
    assert says in error["message"]
    assert error["type"] == {404: "not_found_error", 405: "invalid_request_error"}[status]
    assert (status == 405) == ("allow" in answer.headers)


def test_a_page_that_is_not_there_says_so_as_a_page(server: Server) -> None:
    answer = httpx.get(f"{server.url}/nothing", headers={"accept": "text/html"}, trust_env=False)
    assert answer.status_code == 404 and "text/html" in answer.headers["content-type"]
    assert "To the chat" in answer.text


def attached() -> gr.Blocks:
    """A page as the server mounts it."""
    blocks: gr.Blocks
    with gr.Blocks(**shared.BLOCKS) as blocks:
        pass
    shared.attach(fastapi.FastAPI(), blocks, "/", user=lambda _: "x", blocked=[Path("/data")])
    return blocks


def test_the_switches_of_gradio_are_as_reviewed(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GRADIO_SHARE", "GRADIO_ALLOWED_PATHS", "GRADIO_MCP_SERVER"):
        monkeypatch.setenv(name, "/")
    shared.scrub_environment()
    assert not [name for name in os.environ if name.startswith("GRADIO_")]
    blocks = made(attached)
    assert {
        "analytics": blocks.analytics_enabled,
        "api_open": blocks.api_open,
        "share": blocks.share,
        "ssr_mode": blocks.ssr_mode,
        "mcp_server": blocks.mcp_server,
        "run_history": blocks.run_history,
        "pwa": blocks.pwa,
        "monitoring": blocks.enable_monitoring,
        "show_error": blocks.show_error,
        "footer_links": blocks.footer_links,
        "allowed_paths": blocks.allowed_paths,
        "blocked_paths": blocks.blocked_paths,
        "max_file_size": blocks.max_file_size,
        "delete_cache": blocks.delete_cache,
        "queue_size": blocks._queue.max_size,
        "sessions": blocks.state_session_capacity,
    } == {
        "analytics": False,
        "api_open": False,
        "share": False,
        "ssr_mode": False,
        "mcp_server": False,
        "run_history": False,
        "pwa": False,
        "monitoring": False,
        "show_error": False,
        "footer_links": [],
        "allowed_paths": [],
        "blocked_paths": ["/data"],
        "max_file_size": 1024 * 1024,
        "delete_cache": (3600, 3600),
        "queue_size": 1,
        "sessions": 1000,
    }
