"""The pages in a real browser on a real server, and the switches that make them safe."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fastapi
import gradio as gr
import httpx
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from chat_app.commands.starter import stage_bar
from chat_app.handlers.report import parse_report
from chat_app.identity import Identity
from chat_app.pages import shared
from chat_app.pages.operator_parts import _verdict
from feedback_store.records import CandidateReply
from feedback_store.store import FeedbackStore
from tests.chat_app.cycles.test_cancel import begin
from tests.chat_app.pages.browsing import CHROMIUM, say
from tests.chat_app.serving import publish_copy

TOKEN = "the-operators-token"
PAGE = {"accept": "text/html"}
PICTURE = "![p](http://elsewhere.example/pixel.png)"
TRICKY = (
    f"Use <script> and <b>bold</b>, 5 < 6 > 2 &amp; ${{1 + 1}} {{{{x}}}}:\n\n    *it* {PICTURE}"
)
GOLD = {"prompt": f"Which <b>city</b> is it? {PICTURE}", "better": "It is Rome.", "worse": "Go."}
expect.set_options(timeout=15_000)

needs_chromium = pytest.mark.skipif(
    not CHROMIUM.exists(), reason="no /usr/bin/chromium; install it with apt-get install chromium"
)


def test_the_report_shows_each_alarm_as_text() -> None:
    alarms = [{"kind": "kl", "text": "the KL is <b>large</b>"}]
    page = _verdict(parse_report({"alarms": alarms}))
    assert '<p class="bad">Alarm: the KL is &lt;b&gt;large&lt;/b&gt;.</p>' in page


@pytest.mark.parametrize(
    ("metrics", "says"),
    [
        ({"sft": 0, "demonstrations": 3, "demonstrations_needed": 16}, "3 of 16 demonstrations"),
        ({"sft": 0, "demonstrations": 20, "demonstrations_needed": 16}, "turned off"),
        ({"sft": 1, "demonstrations": 20, "demonstrations_needed": 16}, None),
        ({"sft": 0, "demonstrations": 3}, None),  # a report of an earlier version
    ],
)
def test_a_stage_that_was_skipped_says_why_in_the_report_and_beside_its_bar(
    metrics: dict[str, float], says: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    page = _verdict(parse_report({"metrics": metrics}))
    with stage_bar() as bar:
        bar("sft", 1.0, metrics)
    for said in (page, capsys.readouterr().err):
        assert ("skipped" in said) == (says is not None)
        assert says is None or says in said


def test_the_report_says_what_was_found_on_held_out_raters_or_how_much_is_missing() -> None:
    found = {
        "votes": 42.0,
        "raters": 6.0,
        "reward_accuracy": 0.7,
        "reward_accuracy_low": 0.55,
        "reward_accuracy_high": 0.82,
        "reward_accuracy_drop": 0.05,
        "reward_accuracy_drop_low": -0.1,
        "reward_accuracy_drop_high": 0.2,
        "prompts": 3.0,
        "prompts_needed": 12.0,
    }
    metrics = {f"held_out_raters/{name}": value for name, value in found.items()}
    page = _verdict(parse_report({"metrics": metrics}))
    assert "predicts 70% (55% to 82%) of 42 votes of 6 raters" in page
    assert "a drop of 5% (-10% to 20%)" in page
    assert "no win rate: 3 new prompts of theirs, 12 are needed" in page
    few = {"votes": 4.0, "raters": 1.0, "votes_needed": 20.0, "raters_needed": 5.0}
    few |= {"prompts": 40.0, "win_rate": 0.6, "win_rate_low": 0.5, "win_rate_high": 0.7}
    metrics = {f"held_out_raters/{name}": value for name, value in few.items()}
    page = _verdict(parse_report({"metrics": metrics}))
    assert (
        "no reward accuracy: 4 decided votes of 1 raters; 20 votes of 5 raters are needed" in page
    )
    assert "wins 60% (50% to 70%) on 40 prompts of theirs" in page
    assert "Held-out raters" not in _verdict(parse_report({"metrics": {"win_rate": 0.5}}))


def test_the_report_says_how_long_the_replies_of_both_policies_are() -> None:
    looks = {"mean_tokens": (17.5, 41.25), "mean_words": (12.0, 30.0), "repeated_rate": (0.0, 0.02)}
    metrics = {
        f"{who}/{name}": values[n]
        for name, values in looks.items()
        for n, who in enumerate(("served", "candidate"))
    }
    page = _verdict(parse_report({"metrics": metrics}))
    assert "<td>mean length in tokens</td><td>17.5</td><td>41.2</td>" in page
    assert "<td>share that repeats itself</td><td>0</td><td>0.02</td>" in page
    assert "mean length" not in _verdict(parse_report({"metrics": {}}))


class Server:
    """A server process on a data directory; it can be stopped and started again."""

    def __init__(
        self,
        data: Path,
        model: Path | str,
        *,
        quantization: str = "none",
        tokens: int = 12,
        gold: Path | None = None,
        markdown: bool = False,
    ) -> None:
        self.data = data
        self._command = [sys.executable, "-m", "chat_app", "serve", "--data", str(data)]
        self._command += ["--model", str(model), "--quantization", quantization]
        self._port = 0
        self._options = {
            "FEEDBACK_CHAT_OPERATOR_TOKEN": TOKEN,
            "FEEDBACK_CHAT_REPLY__TOKENS": str(tokens),
            "FEEDBACK_CHAT_MARKDOWN": str(markdown),
            "GRADIO_SHARE": "True",  # which the pages ignore
        }
        if gold is not None:
            self._options |= {
                "FEEDBACK_CHAT_GOLD_ITEMS": str(gold),
                "FEEDBACK_CHAT_GOLD_EVERY": "1",
            }

    def start(self) -> None:
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

    def stop(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        self._process.communicate(timeout=60)


@pytest.fixture(scope="module")
def server(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("served")
    gold = folder / "gold.jsonl"
    gold.write_text(json.dumps(GOLD) + "\n")
    server = Server(folder / "data", tiny_model, gold=gold)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def visitor(browser: Browser) -> Iterator[BrowserContext]:
    context = browser.new_context(viewport={"width": 1280, "height": 860})
    context.set_default_timeout(15_000)
    yield context
    context.close()


def open_chat(visitor: BrowserContext, server: Server) -> Page:
    page = visitor.pages[0] if visitor.pages else visitor.new_page()
    page.goto(server.url)
    expect(page.get_by_role("button", name="Send")).to_be_visible()
    expect(page.locator("#chat")).not_to_contain_text("Loading")  # its first events have arrived
    return page


def replies(page: Page) -> Any:
    return page.locator("#chat [data-testid=bot]")


def answer_one_more(page: Page) -> None:
    """Answer the gold question correctly."""
    asked = page.locator("#asked")
    expect(asked.get_by_text(GOLD["prompt"])).to_be_visible()
    right = "A" if "It is Rome." in page.locator("#asked-a").inner_text() else "B"
    asked.get_by_role("button", name=f"{right} is better").click()
    expect(page.get_by_text("Saved, thank you.")).to_be_visible()
    expect(asked).to_have_count(0)


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


@needs_chromium
def test_a_person_chats_votes_chooses_and_finds_it_all_again(
    visitor: BrowserContext, server: Server
) -> None:
    requested: list[str] = []
    visitor.on("request", lambda request: requested.append(request.url))
    page = open_chat(visitor, server)
    page.get_by_role("button", name="I agree").click()
    expect(page.locator("#notice")).to_have_count(0)

    say(page, "What is the capital of Italy?")
    page.get_by_role("button", name="Dislike", exact=True).click()
    page.get_by_label("wrong").check()
    page.get_by_label("Comment (optional)").fill("It is Rome.")
    page.get_by_role("button", name="Save reasons").click()
    expect(page.get_by_text("Saved with your reasons, thank you.")).to_be_visible()

    for turn in (2, 3):
        say(page, f"turn {turn}")
        expect(replies(page)).to_have_count(2)
    better = page.locator("#reply-b").inner_text().removeprefix("B").strip()
    page.get_by_role("button", name="B is better").click()
    expect(page.get_by_text("Saved: B is better.")).to_be_visible()
    answer_one_more(page)

    page.get_by_role("button", name="Write a better answer").click()
    page.get_by_label("A better answer").fill("Ask about something else.")
    page.get_by_role("button", name="Save better answer").click()
    expect(page.get_by_text("Saved; see")).to_be_visible()

    page.close()  # its event stream would keep the server for the grace period
    server.stop()
    server.start()
    page = open_chat(visitor, server)
    expect(replies(page)).to_have_count(3)
    assert replies(page).last.inner_text().split() == better.split()
    expect(page.get_by_role("button", name="Disliked")).to_have_count(1)
    expect(page.locator("#notice")).to_have_count(0)
    with FeedbackStore(server.data / "feedback.db") as store:
        (thumb,), (choice, test) = store.thumbs(), store.choices()
        assert (thumb.value, thumb.tags, thumb.comment) == (-1, ("wrong",), "It is Rome.")
        right = [rater.id for rater in store.raters() if rater.gold_right]
        assert (choice.choice, len(store.demonstrations()), right) == ("b", 1, [test.rater_id])
    page.get_by_role("button", name="What became of your votes").click()
    expect(page.locator("#receipts li")).to_have_count(4)
    page.get_by_role("button", name="Disliked").click()
    expect(page.get_by_text("Vote withdrawn.")).to_be_visible()
    hosts = {httpx.URL(url).host for url in requested if url.startswith("http")}
    assert hosts == {"127.0.0.1"}


@pytest.mark.slow
@needs_chromium
def test_a_refused_vote_is_not_shown_as_a_vote(visitor: BrowserContext, server: Server) -> None:
    page = open_chat(visitor, server)
    say(page, "hello <img src=x onerror=\"document.title='run'\"> <b>there</b>")
    page.get_by_role("button", name="Like", exact=True).click()
    expect(page.get_by_text("Nothing was saved")).to_be_visible()
    expect(page.get_by_role("button", name="Liked")).to_have_count(0)
    assert page.title() == "feedback-chat"


def converse(visitor: BrowserContext, server: Server, text: str) -> Page:
    """Show a text as a question, a reply and two blind replies; their conversation is new."""
    page = open_chat(visitor, server)
    page.get_by_role("button", name="I agree").click()
    expect(page.locator("#notice")).to_have_count(0)
    say(page, text)
    with FeedbackStore(server.data / "feedback.db") as store:
        rater = store.raters()[-1].id
        conversation = store.conversations(rater)[0].id
        question = store.messages(conversation)[0].id
        reply = store.add_message(conversation, "assistant", text, parent_id=question)
        again = store.add_message(conversation, "user", "Once more", parent_id=reply.id)
        pair = [CandidateReply(each, adapter="policy-000000") for each in (text, "Other.")]
        store.add_candidates(again.id, pair, rater_id=rater)
    return open_chat(visitor, server)


def fetched_elsewhere(visitor: BrowserContext) -> list[str]:
    """A list that collects the requests of browsers to other hosts."""
    fetched: list[str] = []
    visitor.route(
        lambda url: "127.0.0.1" not in url,
        lambda route: (fetched.append(route.request.url), route.abort()),
    )
    return fetched


@pytest.mark.slow
@needs_chromium
def test_messages_are_shown_as_plain_text(visitor: BrowserContext, server: Server) -> None:
    fetched = fetched_elsewhere(visitor)
    page = converse(visitor, server, TRICKY)
    for place in ("#chat [data-testid=user] >> nth=0", "#chat [data-testid=bot]", "#pair"):
        assert TRICKY in page.locator(place).inner_text()
    expect(page.locator("#conversations")).to_contain_text("<script> and <b>bold")
    page.get_by_role("button", name="A is better").click()
    answer_one_more(page)
    page.get_by_role("button", name="Like", exact=True).last.click()
    expect(page.locator("#panel")).to_contain_text("Use <script> and <b>bold</b>, 5 < 6 > 2 &amp;")
    page.get_by_role("button", name="Edit").last.click()
    expect(page.locator("#chat textarea")).to_have_value(TRICKY)
    page.keyboard.press("Control+End")
    page.keyboard.type(" &lt;")
    page.get_by_role("button", name="Submit").click()
    expect(page.get_by_text("Saved; see")).to_be_visible()
    with FeedbackStore(server.data / "feedback.db") as store:
        assert store.demonstrations()[-1].content == f"{TRICKY} &lt;"
    page.get_by_role("button", name="What became of your votes").click()
    expect(page.locator("#receipts")).to_contain_text("Use <script>")
    assert fetched == []


@pytest.mark.slow
@needs_chromium
def test_an_operator_may_have_markdown_which_still_fetches_nothing(
    visitor: BrowserContext, tiny_model: Path, tmp_path: Path
) -> None:
    server = Server(tmp_path / "data", tiny_model, markdown=True)
    server.start()
    try:
        fetched = fetched_elsewhere(visitor)
        page = converse(visitor, server, PICTURE)
        for place in ("#chat [data-testid=user] >> nth=0", "#chat [data-testid=bot]", "#pair"):
            expect(page.locator(f"{place} >> img")).to_have_count(1)
        page.wait_for_timeout(500)
        assert fetched == []
        page.close()  # its event stream would keep the server for the grace period
    finally:
        server.stop()


@pytest.mark.slow
@needs_chromium
def test_no_page_breaks_the_policy_on_its_own_origin(
    visitor: BrowserContext, server: Server
) -> None:
    complaints: list[str] = []
    visitor.on("console", lambda line: complaints.append(line.text))
    open_chat(visitor, server)
    page = visitor.pages[0]
    page.goto(f"{server.url}/operator?token={TOKEN}")
    expect(page.get_by_text("serving: policy-000000")).to_be_visible()
    assert [line for line in complaints if "Content Security Policy" in line] == []


@pytest.mark.slow
@needs_chromium
def test_the_page_says_at_once_whether_votes_count(visitor: BrowserContext, server: Server) -> None:
    page = open_chat(visitor, server)
    notice, counting = page.locator("#notice"), page.locator("#counting")
    page.get_by_role("button", name="Your data").click()
    page.get_by_role("button", name="What became of your votes").click()
    expect(notice).to_be_visible()
    expect(counting).to_have_text("At present your votes do not count.")
    page.get_by_role("button", name="Let my votes count").click()
    expect(notice).to_have_count(0)
    expect(counting).to_have_text("At present your votes count.")
    say(page, "hello")
    page.get_by_role("button", name="Like", exact=True).click()
    expect(page.locator("#receipts")).to_contain_text("in the next cycle")
    page.get_by_role("button", name="Stop using my votes").click()
    expect(page.locator("#receipts")).to_contain_text("Counts for nothing now")
    expect(counting).to_have_text("At present your votes do not count.")
    expect(notice).to_be_visible()
    page.get_by_role("button", name="Let my votes count").click()
    expect(page.locator("#receipts")).to_contain_text("in the next cycle")
    expect(notice).to_have_count(0)
    page.reload()
    page.get_by_role("button", name="Your data").click()
    expect(counting).to_have_text("At present your votes count.")


@pytest.mark.slow
@needs_chromium
def test_a_phone_opens_the_page_at_its_top(visitor: BrowserContext, server: Server) -> None:
    page = visitor.new_page()
    page.set_viewport_size({"width": 390, "height": 780})
    open_chat(visitor, server)
    expect(page.get_by_role("textbox", name="Your message")).to_be_focused()
    page.wait_for_timeout(300)
    assert page.evaluate("window.scrollY") == 0
    expect(page.get_by_role("heading", name="feedback-chat")).to_be_in_viewport()


@pytest.mark.slow
@needs_chromium
def test_only_the_token_opens_the_operator_page(visitor: BrowserContext, server: Server) -> None:
    page = visitor.new_page()
    page.goto(f"{server.url}/operator?token=wrong")
    token = page.get_by_label("The operator's token")
    expect(token).to_be_visible()
    expect(page.get_by_role("button", name="Run a cycle")).to_have_count(0)
    token.fill(TOKEN)
    token.press("Enter")
    expect(page.get_by_role("button", name="Run a cycle")).to_be_visible()
    expect(page.get_by_text("serving: policy-000000")).to_be_visible()
    page.get_by_role("button", name="Roll back").is_disabled()
    assert "token" not in page.url
    cookies = {cookie["name"]: cookie for cookie in visitor.cookies()}
    assert cookies[Identity(server.data / "secrets").operator_cookie]["httpOnly"]


def test_no_function_of_the_operator_page_works_without_the_cookie(server: Server) -> None:
    with httpx.Client(base_url=f"{server.url}/operator", timeout=30, trust_env=False) as client:
        client.headers["cookie"] = httpx.get(server.url, headers=PAGE).headers["set-cookie"]
        assert client.get("/", headers=PAGE).headers["location"] == "/operator/login"
        for function in range(30):
            call = {"data": ["policy-000000"] * 3, "fn_index": function, "session_hash": "x"}
            for route in ("run/predict", "queue/join"):
                answer = client.post(f"/gradio_api/{route}", json=call)
                assert answer.status_code == 401 and "policy-" not in answer.text
        assert client.get("/gradio_api/queue/data?session_hash=x").status_code == 401
    with FeedbackStore(server.data / "feedback.db") as store:
        assert store.cycles() == [] and store.serving().by != "operator"


def test_the_switches_of_gradio_are_as_reviewed(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GRADIO_SHARE", "GRADIO_ALLOWED_PATHS", "GRADIO_MCP_SERVER"):
        monkeypatch.setenv(name, "/")
    shared.scrub_environment()
    assert not [name for name in os.environ if name.startswith("GRADIO_")]
    with gr.Blocks(**shared.BLOCKS) as blocks:
        button = gr.Button()
        button.click(lambda: None, None, None, **shared.EVENT)
    shared.attach(fastapi.FastAPI(), blocks, "/", user=lambda _: "x", blocked=[Path("/data")])
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
        "event": blocks.fns[0].api_visibility,
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
        "queue_size": 64,
        "sessions": 1000,
        "event": "private",
    }


@pytest.mark.slow
@needs_chromium
def test_a_running_cycle_is_cancelled_by_a_second_click(
    visitor: BrowserContext, server: Server
) -> None:
    process = begin(server.data, "hears")
    page = visitor.new_page()
    page.goto(f"{server.url}/operator?token={TOKEN}")
    asked = page.locator("#confirm-cancel")
    for answer in ("Let it run", "Yes, cancel it"):
        expect(page.get_by_text(re.compile("Cycle [0-9]+ is running"))).to_be_visible()
        page.get_by_role("button", name="Cancel the cycle").click()
        expect(asked).to_contain_text("Cancel the running cycle?")
        asked.get_by_role("button", name=answer).click()
        expect(asked).to_be_hidden()
    expect(page.get_by_text(re.compile("Cycle [0-9]+ is cancelled"))).to_be_visible()
    expect(page.get_by_role("button", name="Cancel the cycle")).to_be_hidden()
    expect(page.get_by_text("No cycle is running.")).to_be_visible()
    assert process.wait() == -signal.SIGTERM
    with FeedbackStore(server.data / "feedback.db") as store:
        last = store.last_cycle()
    assert last is not None and (last.state, last.reasons) == ("cancelled", ("by operator",))


@pytest.mark.slow
@needs_chromium
def test_a_rejected_adapter_is_served_only_after_the_warning_is_ticked(
    visitor: BrowserContext, server: Server, tiny_adapters: Path
) -> None:
    publish_copy(tiny_adapters / "policy-000002", server.data, "policy-000002")
    with FeedbackStore(server.data / "feedback.db") as store:
        _, key = store.make_key("olga", role="operator", by="operator")
        cycle = store.start_cycle({}, pid=os.getpid()).id
        store.register_adapter("policy-000002", kind="policy", state="rejected", cycle_id=cycle)
        why = "18% of replies end in <mid>-sentence"
        store.finish_cycle(cycle, state="rejected", reasons=[why], adapter="policy-000002")
    page = visitor.new_page()
    page.goto(f"{server.url}/operator?token={key}")
    page.get_by_label("Adapter to serve").click()
    page.get_by_role("option", name="policy-000002 (rejected)").click()
    for ticked in (False, True):
        page.get_by_role("button", name="Promote", exact=True).click()
        asked = page.locator("#confirm-promote")
        expect(asked).to_contain_text(f"was rejected by cycle {cycle}: {why}")
        expect(asked.get_by_role("checkbox")).not_to_be_checked()
        if ticked:
            asked.get_by_label("Serve it anyway").check()
        asked.get_by_role("button", name="Yes, promote").click()
        expect(asked).to_be_hidden()
        served = "policy-000002" if ticked else "policy-000000"
        expect(page.get_by_text(f"serving: {served}")).to_be_visible()
    page.get_by_role("button", name="Roll back").click()
    page.get_by_role("button", name="Yes, roll back").click()
    expect(page.get_by_text("serving: policy-000000")).to_be_visible()
    with FeedbackStore(server.data / "feedback.db") as store:
        assert store.serving().by == "key olga"
