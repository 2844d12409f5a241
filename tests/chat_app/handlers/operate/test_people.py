"""Raters: measured without a change, put in quarantine with a reason, and released."""

import pytest

from chat_app.handlers.operate.people import People
from chat_app.service.chat import ChatService
from feedback_store.errors import ConflictError, InvalidFeedbackError
from tests.chat_app.handlers.operate.conftest import ONE, choose


@pytest.fixture
def voted(service: ChatService) -> ChatService:
    """Three raters have voted."""
    service.store.register_adapter(ONE, kind="policy", state="published")
    service.store.serve(ONE, by="operator", guard=True)
    choose(service, ONE, raters=3)
    return service


def test_raters_are_measured_and_nothing_is_changed(voted: ChatService) -> None:
    before = voted.store.audit_log()
    found = People(voted).raters(allowed=True)
    assert (found.all, found.quarantined, len(found.raters)) == (3, 0, 3)
    assert all(one.said == 5 and one.votes == 5 for one in found.raters)
    assert found.agreement.alpha is None and found.agreement.reason
    assert voted.store.audit_log() == before


def test_a_quarantine_needs_a_reason_and_the_audit_log_says_who(voted: ChatService) -> None:
    people, rater = People(voted), f"{ONE} 1"
    with pytest.raises(InvalidFeedbackError, match="needs a reason"):
        people.quarantine(rater, "  ", allowed=True)
    people.quarantine(rater, " always the left ", allowed=True, by="key olga")
    first = people.raters(allowed=True).raters[0]
    assert (first.id, first.reason, first.decided_by) == (rater, "always the left", "key olga")
    assert first.weight == 0
    people.release(rater, allowed=True, by="key olga")
    assert people.raters(allowed=True).quarantined == 0
    newest = voted.store.audit_log(limit=1)[0]
    assert (newest.action, newest.detail["by"]) == ("release", "key olga")
    with pytest.raises(ConflictError):
        people.release(rater, allowed=True)


def test_raters_are_found_by_a_part_of_their_id(voted: ChatService) -> None:
    found = People(voted).raters("000001 2", allowed=True)
    assert [one.id for one in found.raters] == [f"{ONE} 2"] and found.all == 3


def test_an_assessment_says_how_many_it_measured(voted: ChatService) -> None:
    said = People(voted).assess(allowed=True)
    assert said == "3 raters were assessed; the rules put 0 of them in quarantine."
