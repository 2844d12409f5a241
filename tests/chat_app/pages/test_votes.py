"""My votes and my data in a real browser on a real server."""

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from chat_app.identity import Identity
from feedback_store.records import CandidateReply
from feedback_store.splits import is_held_out_question
from feedback_store.store import FeedbackStore
from tests.chat_app.pages.browsing import CHROMIUM
from tests.chat_app.serving import publish_copy, serving

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM.exists(), reason="no /usr/bin/chromium"),
]
expect.set_options(timeout=15_000)
VOTES = 40  # more than a page


@dataclass
class Site:
    """A running service, and its store, which the tests fill."""

    url: str
    identity: Identity
    store: FeedbackStore

    def visit(self, browser: Browser, rater: str, path: str = "/votes") -> tuple[Page, list[str]]:
        """A page of a visitor, and the errors of its scripts."""
        context: BrowserContext = browser.new_context(accept_downloads=True)
        name, value = self.identity.cookie, self.identity.new_cookie(rater)
        context.add_cookies([{"name": name, "value": value, "url": self.url}])
        page, errors = context.new_page(), list[str]()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda said: errors.append(said.text) if said.type == "error" else None)
        page.goto(f"{self.url}{path}")
        return page, errors


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("votes")
    options = ("--model", str(tiny_model), "--quantization", "none")
    with serving(folder / "data", *options, log=folder / "log") as (_, url):
        identity = Identity(folder / "data" / "secrets")
        with FeedbackStore(folder / "data" / "feedback.db") as store:
            yield Site(url, identity, store)
    assert "Traceback" not in (folder / "log").read_text()


def vote(store: FeedbackStore, rater: str, question: str) -> str:
    """A choice between two replies to a question that may be learnt from."""
    asked = next(q for n in range(50) if not is_held_out_question(q := f"{question} {n}"))
    message = store.add_message(store.add_conversation(rater, title=asked).id, "user", asked)
    replies = [CandidateReply("Lima."), CandidateReply("Rome.")]
    shown, _ = store.add_candidates(message.id, replies, rater_id=rater)
    return store.add_choice(shown, rater, "a").id


def test_who_has_not_voted_is_told_how_to_begin(site: Site, browser: Browser) -> None:
    page, errors = site.visit(browser, "browser-new")
    expect(page.get_by_text("No votes yet.")).to_be_visible()
    expect(page.get_by_role("link", name="Ask something and vote")).to_be_visible()
    page.get_by_role("tab", name="My data").click()
    expect(page.get_by_text("Nothing is stored of you yet.")).to_be_visible()
    expect(page.get_by_role("button", name="Erase everything")).to_be_disabled()
    assert page.url.endswith("#data") and not errors


def test_votes_are_counted_filtered_searched_and_paged(site: Site, browser: Browser) -> None:
    site.store.add_rater("browser-many", consent="1")
    for number in range(VOTES):
        vote(site.store, "browser-many", f"question-{number}. <b>bold</b>")
    page, errors = site.visit(browser, "browser-many")
    expect(page.locator(".vote")).to_have_count(30)
    expect(page.get_by_role("button", name=f"{VOTES} given")).to_have_attribute(
        "aria-pressed", "true"
    )
    expect(page.get_by_role("button", name="Newer")).to_be_disabled()
    page.get_by_role("button", name="Older").click()
    expect(page.locator(".vote")).to_have_count(VOTES - 30)
    expect(page.get_by_text("Page 2 of 2")).to_be_visible()
    page.get_by_label("Search").fill("Question-7.")
    expect(page.locator(".vote")).to_have_count(1)
    expect(page.locator(".vote .about")).to_contain_text("question-7. <b>bold</b>")
    page.get_by_label("Kind").select_option("Thumbs")
    expect(page.get_by_text("No vote matches.")).to_be_visible()
    page.get_by_role("button", name="Show all").click()
    page.get_by_role("button", name=f"{VOTES} waiting").click()
    expect(page.get_by_text(f"{VOTES} votes")).to_be_visible()
    assert not errors


def test_a_vote_is_taken_back_and_the_undo_brings_it_again(site: Site, browser: Browser) -> None:
    site.store.add_rater("browser-undo", consent="1")
    vote(site.store, "browser-undo", "capital of Peru?")
    page, errors = site.visit(browser, "browser-undo")
    take_back = page.get_by_role("button", name="Take back: Side by side: A was better")
    take_back.click()
    expect(page.get_by_text("No votes yet.")).to_be_visible()
    site.store.refresh_comparisons()
    assert site.store.counts()["choices"] == len(site.store.choices())
    assert "browser-undo" not in {choice.rater_id for choice in site.store.choices()}
    page.get_by_role("button", name="Undo").click()
    expect(take_back).to_be_visible()
    assert "browser-undo" in {choice.rater_id for choice in site.store.choices()}
    link = page.get_by_role("link", name="Open the conversation")
    conversation = site.store.conversations("browser-undo")[0].id
    assert f"c={conversation}" in str(link.get_attribute("href"))
    link.click()
    expect(page.get_by_text("capital of Peru?").first).to_be_visible()
    assert not errors


def test_a_ranking_shows_its_order_and_what_was_ranked(site: Site, browser: Browser) -> None:
    store, rater = site.store, "browser-ranks"
    store.add_rater(rater, consent="1")
    asked = store.add_message(store.add_conversation(rater, title="x").id, "user", "a colour?")
    replies = [CandidateReply(text) for text in ("blue", "<b>red</b>", "Tuesday")]
    shown, _ = store.add_candidates(asked.id, replies, rater_id=rater)
    store.add_ranking(shown, rater, [["b"], ["a", "c"]])
    chosen = vote(store, rater, "why")
    one = next(choice for choice in store.choices() if choice.id == chosen)
    store.explain_choice(one.candidates_id, rater, tags=["clearer"], comment="it is")
    page, errors = site.visit(browser, rater)
    ranking = page.locator(".vote", has_text="a colour?")
    expect(ranking.locator("p.number")).to_have_text(re.compile(r"B\s*>.*A\s*=.*C", re.S))
    expect(ranking.get_by_role("listitem")).to_have_text(
        [re.compile(r"B\s*<b>red</b>"), re.compile(r"A\s*blue"), re.compile(r"C\s*Tuesday")]
    )
    expect(ranking.get_by_role("link", name="Open the conversation")).to_be_visible()
    expect(page.get_by_text("Side by side: A was better · clearer")).to_be_visible()
    expect(page.get_by_text("You wrote: it is")).to_be_visible()
    assert not errors


def test_a_new_version_is_told_once_with_how_many_votes_taught_it(
    site: Site, browser: Browser, tiny_adapters: Path
) -> None:
    site.store.add_rater("browser-news", consent="1")
    for number in range(3):
        vote(site.store, "browser-news", f"news {number}")
    site.store.refresh_comparisons()
    publish_copy(tiny_adapters / "policy-000001", site.store._file.path.parent, "policy-000001")
    cycle = site.store.start_cycle({}, pid=os.getpid())
    mine = [c.id for c in site.store.comparisons() if c.rater_id == "browser-news"]
    site.store.use_comparisons(cycle.id, mine)
    site.store.register_adapter(
        "policy-000001", kind="policy", parent="policy-000000", cycle_id=cycle.id
    )
    site.store.finish_cycle(
        cycle.id, state="promoted", adapter="policy-000001", promotion="offline"
    )
    page, _ = site.visit(browser, "browser-news")
    expect(page.locator(".news")).to_have_text(re.compile("3 of your votes taught it"))
    page.reload()
    expect(page.locator(".vote")).to_have_count(3)
    expect(page.locator(".news")).to_have_count(0)


def test_everything_is_downloaded_and_then_erased_after_the_word(
    site: Site, browser: Browser
) -> None:
    site.store.add_rater("browser-gone")
    vote(site.store, "browser-gone", "what I said")
    page, errors = site.visit(browser, "browser-gone", "/votes#data")
    expect(page.get_by_text("At present your votes do not count.")).to_be_visible()
    page.get_by_role("button", name="Agree").click()
    expect(page.get_by_text("At present your votes count.").first).to_be_visible()
    with page.expect_download() as download:
        page.get_by_role("link", name="Download").click()
    document = json.loads(Path(download.value.path()).read_text())
    assert document["rater"]["id"] == "browser-gone" and len(document["votes"]) == 1
    page.get_by_role("button", name="Erase everything").click()
    dialog = page.get_by_role("dialog", name="Erase everything?")
    yes = dialog.get_by_role("button", name="Erase everything")
    expect(yes).to_be_disabled()
    dialog.get_by_role("textbox").fill("delet")
    expect(yes).to_be_disabled()
    page.keyboard.type("e")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Everything is erased")).to_be_focused()
    expect(page.get_by_text("One conversation")).to_be_visible()
    assert site.store.was_forgotten("browser-gone")
    page.goto(f"{site.url}/votes#data")
    page.reload()
    expect(page.locator("code.id")).to_have_text(site.identity.successor("browser-gone"))
    assert not errors


def test_who_erases_everything_while_a_round_runs_is_told_when_it_will_be_done(
    site: Site, browser: Browser
) -> None:
    site.store.add_rater("browser-later", consent="1")
    vote(site.store, "browser-later", "x")
    cycle = site.store.start_cycle({}, pid=os.getpid())
    page, errors = site.visit(browser, "browser-later", "/votes#data")
    expect(page.get_by_text(f"Round {cycle.id} is running")).to_be_visible()
    page.get_by_role("button", name="Erase everything").click()
    page.get_by_role("dialog").get_by_role("textbox").fill("delete")
    page.get_by_role("dialog").get_by_role("button", name="Erase everything").click()
    told = page.get_by_role("heading", name=f"It is erased when round {cycle.id} ends")
    expect(told).to_be_focused()
    assert site.store.is_being_forgotten("browser-later")
    assert site.store.rater("browser-later").consent is None
    assert not errors
    site.store.finish_cycle(cycle.id, state="failed")
