"""The operator page in a real browser on a real server."""

import json
import os
import re
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from chat_app.identity import Identity
from feedback_store.records import BASE_ADAPTER
from feedback_store.store import FeedbackStore
from tests.chat_app.cycles.test_cancel import begin
from tests.chat_app.pages.browsing import CHROMIUM, violations
from tests.chat_app.serving import publish_copy, serving

TOKEN = "the-operators-token"
PAGE = {"accept": "text/html"}
TWO = "policy-000002"
WHY = "18% of replies end in <mid>-sentence"
expect.set_options(timeout=15_000)

needs_chromium = pytest.mark.skipif(
    not CHROMIUM.exists(), reason="no /usr/bin/chromium; install it with apt-get install chromium"
)


@dataclass
class Served:
    """A server process: its data directory and its address."""

    data: Path
    url: str


@pytest.fixture(scope="module")
def server(
    tiny_model: Path, tiny_adapters: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    """A service with an adapter that the gate of its only cycle rejected."""
    folder = tmp_path_factory.mktemp("operated")
    data = folder / "data"
    options = ["--model", str(tiny_model), "--quantization", "none"]
    with serving(data, *options, log=folder / "log.txt", operator_token=TOKEN) as (_, url):
        publish_copy(tiny_adapters / TWO, data, TWO)
        with FeedbackStore(data / "feedback.db") as store:
            cycle = store.start_cycle({}, pid=os.getpid()).id
            store.register_adapter(TWO, kind="policy", cycle_id=cycle)
            store.finish_cycle(cycle, state="rejected", reasons=[WHY], adapter=TWO)
        report = data / "cycles" / f"{cycle:06d}" / "report.json"
        report.parent.mkdir(parents=True)
        report.write_text(json.dumps(REPORT))
        yield Served(data, url)


REPORT = {
    "metrics": {"win_rate": 0.6, "win_rate_low": 0.52, "win_rate_high": 0.7},
    "reasons": [WHY],
    "checks": [{"name": "kl", "value": 2.5, "limit": 9.0, "passed": True, "text": "kl 2.5 <= 9"}],
    "alarms": [{"kind": "kl", "text": "the KL is <b>large</b>"}],
    "samples": [{"prompt": "<i>Hi</i>", "served": "no", "candidate": "yes"}],
    "plots": {
        "scores_served": [0.1, 0.2, 0.4],
        "scores_candidate": [0.3, 0.5, 0.9],
        "kl_per_iteration": [0.0, 1.5],
        "score_per_iteration": [0.1, 0.4],
    },
}


@pytest.fixture
def operator(browser: Browser, server: Served) -> Iterator[Page]:
    """The page of an operator who has logged in, and who heard of no error of the script."""
    context = browser.new_context(viewport={"width": 1280, "height": 860})
    context.set_default_timeout(15_000)
    page, errors = context.new_page(), list[str]()
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda said: errors.append(said.text) if said.type == "error" else None)
    page.goto(f"{server.url}/operator?token={TOKEN}")
    expect(page.get_by_role("button", name="Run a round")).to_be_visible()
    yield page
    context.close()
    assert not errors


def version(page: Page) -> str:
    """Which version the first screen says is served."""
    return page.get_by_role("region", name="Served now").locator(".large").inner_text()


@pytest.mark.slow
@needs_chromium
def test_only_the_token_opens_the_page_and_a_wrong_one_is_called_wrong_at_once(
    browser: Browser, server: Served
) -> None:
    visitor: BrowserContext = browser.new_context()
    page = visitor.new_page()
    page.goto(f"{server.url}/operator?token=wrong")
    expect(page.get_by_role("alert")).to_contain_text("That is no token or key of an operator")
    token = page.get_by_label("The operator's token")
    expect(token).to_be_focused()
    expect(page.get_by_role("button", name="Run a round")).to_have_count(0)
    assert not violations(page)
    token.fill(TOKEN)
    token.press("Enter")
    expect(page.get_by_role("button", name="Run a round")).to_be_visible()
    assert "token" not in page.url
    cookies = {cookie["name"]: cookie for cookie in visitor.cookies()}
    assert cookies[Identity(server.data / "secrets").operator_cookie]["httpOnly"]
    page.get_by_role("button", name="Log out").click()
    expect(page.get_by_label("The operator's token")).to_be_visible()
    page.goto(f"{server.url}/operator/")
    expect(page.get_by_label("The operator's token")).to_be_visible()
    visitor.close()


@pytest.mark.slow
def test_no_function_and_no_export_of_the_page_works_without_the_cookie(server: Served) -> None:
    from chat_app.pages.operator_events import OperatorEvents

    names = [name for name in dir(OperatorEvents) if name.startswith("operate_")]
    assert len(names) > 20
    with httpx.Client(base_url=f"{server.url}/operator", timeout=30, trust_env=False) as client:
        client.headers["cookie"] = httpx.get(server.url, headers=PAGE).headers["set-cookie"]
        assert client.get("/", headers=PAGE).headers["location"] == "/operator/login"
        for name in names:
            answer = client.post(f"/gradio_api/run/{name}", json={"data": [BASE_ADAPTER, False]})
            assert answer.status_code == 401 and "policy-" not in answer.text
            outside = httpx.post(f"{server.url}/gradio_api/run/{name}", json={"data": []})
            assert outside.status_code >= 400
        for form in ("events", "preference", "nothing"):
            assert client.get(f"/export/{form}").status_code == 401
    with FeedbackStore(server.data / "feedback.db") as store:
        assert len(store.cycles()) == 1 and store.serving().by == "installation"


@pytest.mark.slow
@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_no_page_of_others_has_an_operators_browser_download_an_export(
    server: Served, site: str
) -> None:
    headers = {"authorization": f"Bearer {TOKEN}"}
    with httpx.Client(base_url=server.url, headers=headers, trust_env=False) as client:
        refused = client.get("/operator/export/events", headers={"sec-fetch-site": site})
        assert refused.status_code == 403 and refused.json()["error"]["type"] == "permission_error"
        for own in ("same-origin", "none"):
            taken = client.get("/operator/export/events", headers={"sec-fetch-site": own})
            assert taken.status_code == 200
    with FeedbackStore(server.data / "feedback.db") as store:
        noted = store.audit_log(action="downloaded")
    assert {entry.detail["by"] for entry in noted} == {"operator"}


@pytest.mark.slow
@needs_chromium
def test_a_running_cycle_is_cancelled_after_a_question(operator: Page, server: Served) -> None:
    process = begin(server.data, "hears")
    card = operator.get_by_role("region", name="Round")
    for answer in ("Let it run", "Cancel it"):
        expect(card).to_contain_text(re.compile("Round [0-9]+ is running"))
        card.get_by_role("button", name="Cancel the round").click()
        asked = operator.get_by_role("dialog")
        expect(asked).to_contain_text("Cancel the running round?")
        asked.get_by_role("button", name=answer).click()
        expect(asked).to_have_count(0)
    expect(operator.get_by_text(re.compile("Round [0-9]+ is cancelled"))).to_be_visible()
    expect(card).to_contain_text("No round is running.")
    assert process.wait() == -signal.SIGTERM
    with FeedbackStore(server.data / "feedback.db") as store:
        last = store.last_cycle()
    assert last is not None and (last.state, last.reasons) == ("cancelled", ("by operator",))


@pytest.mark.slow
@needs_chromium
def test_a_rejected_adapter_is_served_only_after_the_warning_is_ticked_and_is_marked(
    operator: Page, server: Served
) -> None:
    operator.get_by_role("tab", name="Versions").click()
    promote = operator.get_by_role("button", name="Promote", exact=True)
    expect(promote).to_be_disabled()  # nothing is chosen
    operator.get_by_label("Version to serve").select_option(TWO)
    promote.click()
    asked = operator.get_by_role("dialog")
    expect(asked).to_contain_text(f"was rejected by round 1: {WHY}")
    tick = asked.get_by_role("checkbox", name="Serve it anyway")
    expect(tick).not_to_be_checked()
    asked.get_by_role("button", name="Serve it").click()
    expect(asked).to_contain_text("Tick the box first")
    tick.check()
    asked.get_by_role("button", name="Serve it").click()
    expect(asked).to_have_count(0)
    row = operator.get_by_role("row", name=re.compile("Version 2"))
    expect(row).to_contain_text("forced")
    operator.get_by_role("tab", name="Now").click()
    expect(operator.get_by_text("Served against the gate's verdict.")).to_be_visible()
    assert version(operator) == "Version 2"
    operator.get_by_role("button", name="Roll back to version 1").click()
    expect(asked).to_contain_text("A rollback starts no new comparison")
    asked.get_by_role("button", name="Serve version 1").click()
    expect(operator.get_by_role("region", name="Served now")).to_contain_text("Version 1")
    with FeedbackStore(server.data / "feedback.db") as store:
        assert (store.serving().adapter, store.serving().by) == (BASE_ADAPTER, "operator")
    # the guard has ended, and what became of it stays on the first screen
    expect(operator.get_by_text("It was stopped without a verdict.")).to_be_visible()


@pytest.mark.slow
@needs_chromium
def test_a_report_has_its_checks_in_words_and_plots_with_their_numbers(operator: Page) -> None:
    operator.get_by_role("tab", name="Rounds").click()
    operator.get_by_role("link", name="Round 1").click()
    expect(operator.get_by_text(WHY).first).to_be_visible()
    expect(operator.get_by_text("the KL is <b>large</b>")).to_be_visible()
    expect(operator.get_by_role("row", name=re.compile("Near the anchor"))).to_contain_text(
        "2.5 nats a reply; at most 9 allowed"
    )
    wins = operator.get_by_role("img", name="The candidate wins 60%, between 52% and 70%")
    expect(wins).to_be_visible()
    assert operator.get_by_role("img").count() == 4
    operator.get_by_text("Show the numbers").first.click()
    expect(operator.get_by_role("cell", name="52%")).to_be_visible()
    expect(operator.get_by_text("<i>Hi</i>")).to_be_visible()
    operator.reload()
    expect(operator.get_by_role("heading", name=re.compile("Report of round 1"))).to_be_visible()


@pytest.mark.slow
@needs_chromium
def test_a_rater_is_put_in_quarantine_with_a_reason_and_released(
    operator: Page, server: Served
) -> None:
    with FeedbackStore(server.data / "feedback.db") as store:
        store.add_rater("ann", consent="1")
    operator.get_by_role("tab", name="Raters").click()
    operator.get_by_role("button", name="Quarantine ann").click()
    operator.get_by_role("dialog").get_by_label("Reason").fill("always the left")
    operator.get_by_role("dialog").get_by_role("button", name="Quarantine").click()
    row = operator.get_by_role("row", name=re.compile("ann"))
    expect(row).to_contain_text("always the left")
    row.get_by_role("button", name="Release").click()
    operator.get_by_role("dialog").get_by_role("button", name="Release").click()
    expect(row).not_to_contain_text("in quarantine")
    operator.get_by_role("tab", name="Audit").click()
    expect(operator.get_by_role("row", name=re.compile("Rater quarantined"))).to_be_visible()


@pytest.mark.slow
@needs_chromium
def test_what_people_said_is_searched_opened_and_exported(operator: Page, server: Served) -> None:
    with FeedbackStore(server.data / "feedback.db") as store:
        store.add_rater("bob", consent="1")
        conversation = store.add_conversation("bob", title="cities").id
        asked = store.add_message(conversation, "user", "Which <b>city</b>?")
        reply = store.add_message(conversation, "assistant", "Rome.", parent_id=asked.id)
        store.add_thumb(reply.id, "bob", 1, tags=["friendly"], comment="<b>nice</b>")
    operator.get_by_role("tab", name="Data").click()
    operator.get_by_label("Words that a message has").fill("city")
    operator.get_by_role("button", name="Search").click()
    hits = operator.locator("section[aria-labelledby=search]")  # the list below it has a row, too
    hits.get_by_role("row").filter(has_text="Which").get_by_role("button", name="Open").click()
    expect(operator.get_by_role("dialog")).to_contain_text("Which <b>city</b>?")
    for said in ("thumb up", "friendly", "Comment: <b>nice</b>"):
        expect(operator.get_by_role("dialog")).to_contain_text(said)
    operator.get_by_role("dialog").get_by_role("button", name="Close").click()
    with operator.expect_download() as download:
        operator.get_by_role("link", name="All events").click()
    lines = Path(download.value.path()).read_text().splitlines()
    assert any("city" in line for line in lines) and all(json.loads(line) for line in lines)


@pytest.mark.slow
@needs_chromium
def test_every_tab_fits_a_phone_and_keeps_the_policy(browser: Browser, server: Served) -> None:
    context = browser.new_context(viewport={"width": 320, "height": 700})
    page, errors = context.new_page(), list[str]()
    page.on("console", lambda said: errors.append(said.text) if said.type == "error" else None)
    page.goto(f"{server.url}/operator?token={TOKEN}")
    tabs = page.get_by_role("tab")
    expect(tabs).to_have_count(9)
    for tab in tabs.all():
        tab.click()
        expect(page.get_by_role("heading", level=2).first).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth") <= 320, tab.inner_text()
    assert not errors
    context.close()


FAILED = {"data": [{"problem": "The disk is gone.", "kind": "OSError"}]}


@pytest.mark.slow
@needs_chromium
def test_a_server_that_does_not_answer_is_not_well_and_a_rejection_is_no_trouble(
    operator: Page,
) -> None:
    health = operator.get_by_role("region", name="Health")
    expect(health).to_contain_text("All is well")
    operator.route("**/operator/gradio_api/**", lambda route: route.fulfill(json=FAILED))
    expect(health).to_contain_text("The server does not answer")
    operator.unroute_all()
    expect(health).to_contain_text("All is well")


@pytest.mark.slow
@needs_chromium
def test_the_report_is_in_the_operators_language(browser: Browser, server: Served) -> None:
    context = browser.new_context(locale="de", viewport={"width": 1280, "height": 860})
    page = context.new_page()
    page.goto(f"{server.url}/operator?token=wrong")
    expect(page.get_by_role("alert")).to_contain_text("Das ist kein Token")
    assert page.locator("html").get_attribute("lang") == "de" and not violations(page)
    page.goto(f"{server.url}/operator?token={TOKEN}")
    page.goto(f"{server.url}/operator/#rounds/1")
    row = page.get_by_role("row").filter(has_text="Nats")
    expect(row).to_contain_text("2,5 Nats je Antwort; erlaubt sind höchstens 9")
    context.close()
