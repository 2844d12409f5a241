"""The operator leaves a vote and a conversation out of training, on a desk and on a phone."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from feedback_store.records import CandidateReply
from feedback_store.store import FeedbackStore
from tests.chat_app.pages.browsing import CHROMIUM, TOKEN, Server, violations

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM.exists(), reason="no /usr/bin/chromium"),
]
SIZES = {"desk": (1280, 800), "phone": (390, 844)}


@pytest.fixture(params=SIZES)
def size(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def operator(browser: Browser, server: Server, size: str) -> Iterator[Page]:
    """The tab Data, with one vote of a rater of its own, and no error of the script."""
    with FeedbackStore(server.data / "feedback.db") as store:
        store.add_rater(size, consent="1")
        conversation = store.add_conversation(size, title=f"asked on a {size}").id
        asked = store.add_message(conversation, "user", f"What fits on a {size}?")
        pair = [CandidateReply(text, adapter="base") for text in ("a lot", "not much")]
        shown, _ = store.add_candidates(asked.id, pair, rater_id=size)
        store.add_choice(shown, size, "a")
    width, height = SIZES[size]
    context = browser.new_context(viewport={"width": width, "height": height})
    context.set_default_timeout(15_000)
    page, errors = context.new_page(), list[str]()
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda said: errors.append(said.text) if said.type == "error" else None)
    page.goto(f"{server.url}/operator?token={TOKEN}")
    page.get_by_role("tab", name="Data").click()
    yield page
    context.close()
    assert not errors


def row_of(page: Page, size: str) -> Locator:
    table = page.get_by_role("region", name="What people said")
    return table.get_by_role("row", name=re.compile(f"What fits on a {size}"))


def derived(data: Path, rater: str) -> int:
    """How many comparisons of a rater may be learnt from."""
    with FeedbackStore(data / "feedback.db") as store:
        store.refresh_comparisons()
        return sum(c.rater_id == rater for c in store.comparisons())


def test_a_vote_is_left_out_with_a_reason_and_taken_in_again(
    operator: Page, server: Server, size: str
) -> None:
    row = row_of(operator, size)
    row.get_by_role("button", name="Leave out").click()
    asked = operator.get_by_role("dialog")
    expect(asked).to_contain_text(f"What fits on a {size}?")
    assert violations(operator) == []
    asked.get_by_label("Reason, for the audit log").fill("a joke")
    asked.get_by_role("button", name="Leave out").click()
    expect(asked).to_have_count(0)
    expect(row).to_have_count(0)
    assert derived(server.data, size) == 0
    operator.get_by_label("Show").select_option("What is left out")
    expect(row).to_contain_text("a joke")
    assert violations(operator) == []
    assert operator.evaluate("document.documentElement.scrollWidth <= innerWidth")
    row.get_by_role("button", name="Take in again").click()
    expect(row).to_have_count(0)
    operator.get_by_label("Show").select_option("What counts")
    expect(row).to_be_visible()
    assert derived(server.data, size) == 1


def test_a_conversation_is_left_out_where_it_is_read(
    operator: Page, server: Server, size: str
) -> None:
    row = row_of(operator, size).first
    row.get_by_role("button", name="Open").click()
    opened = operator.get_by_role("dialog")
    opened.get_by_role("button", name="Leave out").click()
    opened.get_by_label("Reason, for the audit log").fill("a pasted secret")
    opened.get_by_role("button", name="Leave out").click()
    expect(opened).to_contain_text("Left out of training: a pasted secret")
    assert violations(operator) == []
    with FeedbackStore(server.data / "feedback.db") as store:
        [item] = store.left_out_items()
    assert (item.kind, item.reason, item.rater_id) == ("conversation", "a pasted secret", size)
    opened.get_by_role("button", name="Take in again").click()
    expect(opened.get_by_role("button", name="Leave out")).to_be_visible()
    opened.get_by_role("button", name="Close").click()
    expect(row).to_be_visible()
    with FeedbackStore(server.data / "feedback.db") as store:
        assert store.left_out_items() == []
