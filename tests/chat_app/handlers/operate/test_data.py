"""What people said, page by page and filtered; a conversation is read, whoever's it is."""

import pytest

from chat_app.handlers.operate import data as module
from chat_app.handlers.operate.data import Data
from chat_app.service.chat import ChatService
from feedback_store.errors import InvalidFeedbackError, UnknownRecordError
from feedback_store.feedback.browsing import SaidFilter
from tests.chat_app.handlers.operate.conftest import ONE, choose


@pytest.fixture
def voted(service: ChatService) -> ChatService:
    """Two raters have voted three times each."""
    service.store.register_adapter(ONE, kind="policy", state="published")
    service.store.serve(ONE, by="operator", guard=True)
    choose(service, ONE, raters=2, each=3)
    return service


def test_pages_follow_each_other_without_gap_or_repetition(
    voted: ChatService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PAGE", 4)
    first = Data(voted).said(allowed=True)
    assert len(first.rows) == 4 and first.more is not None
    second = Data(voted).said(None, first.more, allowed=True)
    assert len(second.rows) == 2 and second.more is None
    times = [row.place for row in (*first.rows, *second.rows)]
    assert times == sorted(times, reverse=True) and len(set(times)) == 6


def test_a_filter_takes_one_rater(voted: ChatService) -> None:
    found = Data(voted).said(SaidFilter(rater_id=f"{ONE} 1", kind="choice"), allowed=True)
    assert len(found.rows) == 3 and {row.rater_id for row in found.rows} == {f"{ONE} 1"}
    assert found.rows[0].question == "question 1 2"


def test_a_conversation_shows_both_sides_and_which_was_chosen(voted: ChatService) -> None:
    (hit,) = Data(voted).search("question 1 2", allowed=True)
    found = Data(voted).conversation(hit.conversation_id, hit.rater_id, allowed=True)
    replies = [one for one in found.messages if one.role == "assistant"]
    assert [(one.label, one.chosen) for one in replies[-2:]] == [("a", True), ("b", False)]
    assert [one.number for one in replies[-2:]] == [2, 1]
    (newest, searched) = voted.store.audit_log(limit=2)
    assert (newest.action, newest.detail["rater_id"]) == ("conversation_read", hit.rater_id)
    assert (searched.action, searched.detail) == ("searched", {"by": "operator", "found": 1})
    with pytest.raises(UnknownRecordError, match="no such conversation"):
        Data(voted).conversation("nowhere", hit.rater_id, allowed=True)


def test_who_looked_through_votes_is_noted_once_a_look_and_whose_they_are(
    voted: ChatService,
) -> None:
    page = Data(voted).said(allowed=True)
    Data(voted).said(None, page.rows[0].place, allowed=True)  # goes on with the same look
    Data(voted).said(SaidFilter(rater_id=f"{ONE} 1"), allowed=True, by="key of Eve")
    looks = [entry.detail for entry in voted.store.audit_log(action="said_read")]
    assert [(look["by"], look.get("rater_id")) for look in looks] == [
        ("key of Eve", f"{ONE} 1"),
        ("operator", None),
    ]


def test_a_line_is_left_out_with_the_votes_behind_it_and_taken_in_again(
    voted: ChatService,
) -> None:
    data = Data(voted)
    line, *others = data.said(allowed=True).rows
    data.leave_out("vote", line.event_ids, " spam ", allowed=True, by="key of Eve")
    assert [row.id for row in data.said(allowed=True).rows] == [row.id for row in others]
    [item] = data.left_out(allowed=True).rows
    assert (item.reason, item.by, item.question) == ("spam", "key of Eve", line.question)
    data.take_in("vote", [item.id], allowed=True)
    assert len(data.said(allowed=True).rows) == len(others) + 1
    with pytest.raises(InvalidFeedbackError, match="reason"):
        data.leave_out("vote", line.event_ids, " ", allowed=True)


def test_an_opened_conversation_says_why_it_is_left_out(
    voted: ChatService, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = Data(voted)
    (hit,) = data.search("question 1 2", allowed=True)
    where = (hit.conversation_id, hit.rater_id)
    assert data.conversation(*where, allowed=True).left_out is None
    data.leave_out("conversation", [hit.conversation_id], "a joke", allowed=True)
    assert data.conversation(*where, allowed=True).left_out == "a joke"
    assert len(data.said(allowed=True).rows) == 3, "what the other rater said"
    monkeypatch.setattr(module, "PAGE", 1)
    page = data.left_out(allowed=True)
    assert len(page.rows) == 1 and page.more is None


def test_a_conversation_shows_why_a_reply_was_chosen_or_liked(voted: ChatService) -> None:
    (hit,) = Data(voted).search("question 1 2", allowed=True)
    read = Data(voted).conversation(hit.conversation_id, hit.rater_id, allowed=True)
    shown = voted.store.message(read.messages[-1].id)
    assert shown.candidates_id is not None
    voted.store.explain_choice(shown.candidates_id, hit.rater_id, tags=["clearer"], comment="so")
    voted.store.add_thumb(shown.id, hit.rater_id, -1, tags=["rude"], comment="no")
    a, b = Data(voted).conversation(hit.conversation_id, hit.rater_id, allowed=True).messages[-2:]
    assert (a.tags, a.comments) == (("clearer",), ("so",))
    assert (b.tags, b.comments) == (("rude",), ("no",))
    voted.store.add_choice(shown.candidates_id, hit.rater_id, "tie", comment="both are fine")
    a, b = Data(voted).conversation(hit.conversation_id, hit.rater_id, allowed=True).messages[-2:]
    assert (a.comments, b.comments) == (("both are fine",), ("no",))
