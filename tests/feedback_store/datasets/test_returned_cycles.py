"""A cycle that ran elsewhere: whose words were in it, and what the store says of it afterwards."""

from datetime import UTC, datetime

import pytest

from feedback_store import ConflictError, FeedbackStore
from feedback_store.datasets.evidence_copy import new_note
from feedback_store.datasets.returned_cycles import ReturnedCycle
from feedback_store.sqlite.ids import iso_utc

EVIDENCE = "0" * 64
LATE = "2099-01-01T00:00:00.000000Z"  # by a clock that is wrong


@pytest.fixture
def sent(store, ann, bob, tmp_path) -> FeedbackStore:
    """A store that wrote evidence with what ann and bob said."""
    for chat in (ann, bob):
        chat.choose(chat.shown(f"{chat.rater} asks", "one", "two"), "a")
    begun = store.begin_evidence("evidence.tar")
    people = store.copy_evidence(tmp_path / "copy.db", unvoted=10)
    note = new_note(EVIDENCE, "token", 0, people)
    store.note_evidence(note, "evidence.tar", begun=begun, publish=lambda: None)
    return store


def add(store: FeedbackStore, *, forgotten: int | None = None):
    """Add a cycle that was promoted elsewhere, with an adapter."""
    result = ReturnedCycle(
        evidence=EVIDENCE,
        digest="d",
        served="policy-000000",
        parent="policy-000000",
        state="promoted",
        reasons=(),
        metrics={},
        config={},
        promotion="offline",
        seen={},
        comparisons=(),
        prompts=(),
        finished_at=LATE,
    )
    if forgotten is None:
        forgotten = store.forgotten_since(EVIDENCE)
    return store.add_cycle(
        result, {"policy": "policy-000001"}, forgotten=forgotten, place=lambda number: None
    )


def test_who_was_forgotten_and_came_back_under_the_same_id_is_still_forgotten(sent):
    assert sent.forgotten_since(EVIDENCE) == 0
    sent.forget("bob")
    sent.add_rater("bob", consent="v1")
    assert sent.forgotten_since(EVIDENCE) == 1
    cycle = add(sent)
    assert (cycle.state, sent.serving().adapter) == ("rejected", "policy-000000")
    assert sent.adapter("policy-000001").tainted_at is not None
    assert sent.forget("bob").adapters == ()  # it learnt nothing from who came back
    assert sent.forget("ann").adapters == ("policy-000001",)


def test_who_waits_to_be_forgotten_counts_as_forgotten(sent):
    sent.forget_later("bob")
    assert sent.forgotten_since(EVIDENCE) == 1
    with pytest.raises(ConflictError, match="forgotten in this moment"):
        add(sent, forgotten=0)
    assert add(sent).state == "rejected"
    assert sent.adapter("policy-000001").tainted_at is not None


def test_who_came_back_before_the_evidence_is_in_it_as_anybody_else(store, ann, tmp_path):
    store.forget("ann")
    store.add_rater("ann", consent="v1")
    asked = store.add_message(store.add_conversation("ann").id, "user", "a question")
    reply = store.add_message(asked.conversation_id, "assistant", "a reply", parent_id=asked.id)
    store.add_thumb(reply.id, "ann", 1)
    begun = store.begin_evidence("evidence.tar")
    people = store.copy_evidence(tmp_path / "copy.db", unvoted=10)
    note = new_note(EVIDENCE, "token", 0, people)
    store.note_evidence(note, "evidence.tar", begun=begun, publish=lambda: None)
    assert len(people) == 1 and store.forgotten_since(EVIDENCE) == 0


def test_an_added_cycle_and_what_it_serves_are_in_the_feed(sent):
    before = sent.last_happening()
    cycle = add(sent)
    found = sent.happenings(before, ("cycle", "served"))
    assert [happening.kind for happening in found] == ["served", "cycle"]
    assert found[0].facts is not None and found[0].facts["adapter"] == "policy-000001"
    assert found[1].facts is not None and found[1].facts["id"] == cycle.id


def test_an_added_cycle_has_ended_by_the_clock_of_here(sent):
    cycle = add(sent)
    assert cycle.started_at <= cycle.finished_at <= iso_utc(datetime.now(UTC))
    assert sent.audit_log(action="cycle_added")[0].detail["finished_there"] == LATE
