"""Two people in real browsers, two services on one host, and another site on a port beside them."""

import json
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from chat_app.identity import Identity
from feedback_store.store import FeedbackStore
from tests.chat_app.api.test_origins import FOREIGN
from tests.chat_app.pages.browsing import CHROMIUM, box, say
from tests.chat_app.serving import serving

TOKEN = "the-operators-token"
RELOADS = 50
# What a page of another port may try with the cookies that a browser sends along.
ATTACK = """<script>
const at = TARGET;
const MINE = new URLSearchParams(location.search).get("mine");  // a message of the visitor's
const calls = {
    chat_send: ["attacked", null, null], chat_consent: [true], chat_thumb: [MINE, 1, null, null],
    chat_opened: [null, null], compare_ask: ["attacked", 2, null], votes_consent: [true],
    votes_erase: [true], operate_now: [], operate_run: [], operate_promote: ["policy-000000"],
    operate_roll_back: [],
};
const tries = [];
for (const mode of ["cors", "no-cors", "same-origin"]) for (const type of ["text/plain",
    "application/json"]) for (const [method, path, body] of [
    ["POST", "/v1/chat/completions", '{"messages":[{"role":"user","content":"attacked"}]}'],
    ["POST", "/v1/consent", '{"given":true}'],
    ["POST", "/v1/operate/cycle", "{}"],
    ["POST", "/operator/login", "token=wrong"],
    ["POST", "/operator/logout", ""],
    ["GET", "/v1/feedback/me", null],
    ["GET", "/", null],
    ["GET", "/operator/", null],
    ["GET", "/operator/export/events", null],
    ["GET", "/follow/" + MINE, null],
    ...Object.entries(calls).flatMap(([name, data]) => ["", "/operator"].map(page =>
        ["POST", `${page}/gradio_api/run/${name}`, JSON.stringify({data})])),
]) tries.push(fetch(at + path, {method, mode, credentials: "include", body,
        signal: AbortSignal.timeout(20000),
        headers: body === null ? {} : {"content-type": type}})
    .then(async answer => answer.type === "opaque" ? null : [path, (await answer.text()).length])
    .catch(() => null));
Promise.all(tries).then(found => { window.read = found.filter(one => one !== null) });
</script>"""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM.exists(), reason="no /usr/bin/chromium"),
]


class OtherSite(BaseHTTPRequestHandler):
    """Another application on this host: it sets cookies, frames the chat, attacks it."""

    chat = ""

    def do_GET(self) -> None:
        """Answer with what the path names."""
        self.send_response(200)
        self.send_header("content-type", "text/html")
        page = "<p>another site</p>"
        if self.path.startswith("/cookie/"):
            value = FOREIGN[int(self.path.rpartition("/")[2])]
            self.send_header("set-cookie", f"{value}; Path=/".encode().decode("latin-1"))
        elif self.path == "/frame":
            page = f'<iframe src="{self.chat}/" width="800" height="600"></iframe>'
        elif self.path.startswith("/attack?"):
            page = ATTACK.replace("TARGET", json.dumps(self.chat))
        self.end_headers()
        self.wfile.write(page.encode())

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@dataclass
class Host:
    """Two services and another site, all on one host."""

    first: str
    second: str
    other: str
    data: Path
    identity: Identity


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Iterator[Host]:
    folder = tmp_path_factory.mktemp("host")
    options = ("--model", str(tiny_model), "--quantization", "none")
    # the attack is no test of the limits
    given = {"operator_token": TOKEN, "rates__requests_per_minute": "100000"}
    with ExitStack() as stack:
        urls = [
            stack.enter_context(
                serving(folder / name, *options, log=folder / f"{name}.log", **given)
            )
            for name in ("first", "second")
        ]
        site = type("Site", (OtherSite,), {"chat": urls[0][1]})
        server = ThreadingHTTPServer(("127.0.0.1", 0), site)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        data = folder / "first"
        other = f"http://127.0.0.1:{server.server_port}"
        yield Host(urls[0][1], urls[1][1], other, data, Identity(data / "secrets"))
        server.shutdown()
        server.server_close()


def opened(context: BrowserContext, url: str) -> Page:
    page = context.new_page()
    page.set_default_timeout(15_000)
    page.goto(url)
    expect(box(page)).to_be_enabled()
    return page


def rater_of(context: BrowserContext, url: str) -> str:
    """Who the service thinks that a browser is."""
    return str(context.request.get(f"{url}/v1/feedback/me").json()["rater"])


def test_two_people_stay_themselves_whatever_else_runs_on_the_host(
    host: Host, browser: Browser
) -> None:
    ann, bob = browser.new_context(), browser.new_context()
    known: dict[tuple[str, str], str] = {}
    for name, context in (("ann", ann), ("bob", bob)):
        for url in (host.first, host.second):
            page = opened(context, url)
            say(page, f"words of {name} for {url}")
            known[name, url] = rater_of(context, url)
            page.close()
        visit = context.new_page()
        for number in range(len(FOREIGN)):
            visit.goto(f"{host.other}/cookie/{number}")
        visit.close()
    assert len(set(known.values())) == 4
    lost = 0
    for _ in range(RELOADS):
        for name, context in (("ann", ann), ("bob", bob)):
            for url in (host.first, host.second):
                answer = context.request.get(f"{url}/", headers={"accept": "text/html"})
                lost += answer.status != 200 or rater_of(context, url) != known[name, url]
    assert lost == 0
    for name, context, stranger in (("ann", ann, "bob"), ("bob", bob, "ann")):
        for url in (host.first, host.second):
            page = opened(context, url)
            expect(page.get_by_role("complementary")).to_contain_text(f"words of {name} for {url}")
            assert f"words of {stranger}" not in page.content()
            page.close()
    ann.close()
    bob.close()


def test_a_browser_without_cookies_and_a_foreign_frame_are_told_why(
    host: Host, browser: Browser
) -> None:
    context = browser.new_context()
    opened(context, host.first).close()
    page = context.new_page()
    page.goto(f"{host.other}/frame")
    expect(page.frame_locator("iframe").locator("body")).to_contain_text("inside another site")
    bare = browser.new_context()
    page = bare.new_page()
    page.route("**/*", lambda route: route.continue_(headers={
        name: value for name, value in route.request.headers.items() if name != "cookie"
    }))  # fmt: skip
    bare.on("response", lambda _: bare.clear_cookies())
    page.goto(host.first)
    bare.clear_cookies()
    page.goto(f"{host.first}/?visit=1")
    expect(page.locator("body")).to_contain_text("Allow cookies for this site")
    for one in (context, bare):
        one.close()


def test_a_page_on_another_port_of_this_host_can_do_nothing(host: Host, browser: Browser) -> None:
    context = browser.new_context()
    page = opened(context, host.first)
    say(page, "words that another site may not read")
    [conversation_id] = parse_qs(urlsplit(page.url).query)["c"]
    page.goto(f"{host.first}/operator?token={TOKEN}")
    expect(page.get_by_role("button", name="Run a round")).to_be_visible()
    rater = rater_of(context, host.first)
    with FeedbackStore(host.data / "feedback.db") as store:
        before, mine = store.counts(), store.messages(conversation_id)[0].id
        page.goto(f"{host.other}/attack?mine={mine}")
        page.wait_for_function("window.read !== undefined", timeout=60_000)
        assert page.evaluate("window.read") == []
        assert store.counts() == before and store.cycles() == []
        assert store.rater(rater).consent is None
    page.goto(f"{host.first}/operator/")
    expect(page.get_by_role("button", name="Run a round")).to_be_visible()
    context.close()
