"""A rater says whether a retry is better than the response that it replaced."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from feedback_store import ConflictError, FeedbackStore, InvalidFeedbackError, UnknownRecordError
from feedback_store.comparisons import receipts
from tests.feedback_store.conftest import Chat


def retried(chat, old="x", new="y"):
    """The message of a retry; the old response is above it in age."""
    asked = chat.ask("hello")
    before = chat.reply(asked, old)
    return chat.store.add_message(
        chat.conversation,
        "assistant",
        new,
        parent_id=asked.id,
        adapter="policy-000000",
        retry_of=before.id,
    )


def learnt(store):
    """Of each comparison the better text (None for a tie), its source and its weight."""
    store.refresh_comparisons()
    texts = [
        {"a": c.response_a, "b": c.response_b, "tie": None}[c.label] for c in store.comparisons()
    ]
    return [(t, c.source, c.weight) for t, c in zip(texts, store.comparisons(), strict=True)]


@pytest.mark.parametrize(("said", "better"), [("better", "y"), ("worse", "x"), ("same", None)])
def test_a_retry_that_was_compared_is_one_whole_comparison(store, ann, said, better):
    new = retried(ann)
    assert learnt(store) == []
    found = store.compare_with_before(new.id, ann.rater, said)
    assert (found.message_id, found.than_before) == (new.id, said)
    assert learnt(store) == [(better, "than_before", 1.0)]


def test_what_is_said_outranks_what_the_rater_does_and_the_last_word_counts(store, ann):
    new = retried(ann)
    store.add_message(ann.conversation, "user", "thanks", parent_id=new.id)
    assert learnt(store) == [("y", "retry", pytest.approx(0.4))]
    for said, better in (("worse", "x"), ("better", "y"), ("better", "y")):
        store.compare_with_before(new.id, ann.rater, said)
        assert learnt(store) == [(better, "than_before", 1.0)]
    events = [e for e in store.feedback_of(ann.rater) if e["event"] == "retry"]
    assert [e["than_before"] for e in events if e["left_out"] is None] == ["better"]
    assert store.left_out().counts["changed"] == (1, 1)  # "worse"; the retry itself was no vote


def test_one_key_is_one_answer(store, ann):
    new = retried(ann)
    one = store.compare_with_before(new.id, ann.rater, "worse", idempotency_key="k")
    assert store.compare_with_before(new.id, ann.rater, "worse", idempotency_key="k") == one
    with pytest.raises(ConflictError, match="than_before"):
        store.compare_with_before(new.id, ann.rater, "same", idempotency_key="k")


def test_only_a_retry_of_ones_own_is_compared(store, ann, bob):
    new = retried(ann)
    with pytest.raises(UnknownRecordError):
        store.compare_with_before(new.id, bob.rater, "better")
    plain = ann.reply(ann.ask("hello again"), "z")
    with pytest.raises(UnknownRecordError, match="replaced no other"):
        store.compare_with_before(plain.id, ann.rater, "better")
    with pytest.raises(InvalidFeedbackError, match="'best'"):
        store.compare_with_before(new.id, ann.rater, "best")


def test_a_retry_that_says_the_same_teaches_nothing_whatever_is_said(store, ann):
    new = retried(ann, "x", "x")
    store.compare_with_before(new.id, ann.rater, "better")
    assert learnt(store) == []
    [event] = [
        e for e in store.feedback_of(ann.rater) if e["event"] == "retry" and e["than_before"]
    ]
    assert event["left_out"] == receipts.IDENTICAL


def test_the_view_of_a_conversation_has_what_was_said(store, ann):
    new = retried(ann)
    assert store.conversation_view(ann.rater, message_id=new.id).retries[new.id].than_before is None
    store.compare_with_before(new.id, ann.rater, "same")
    view = store.conversation_view(ann.rater, message_id=new.id)
    assert view.retries[new.id].than_before == "same"


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(said=st.lists(st.sampled_from(["better", "same", "worse"]), min_size=1, max_size=4))
def test_events_go_into_another_store_with_what_was_said(tmp_path_factory, said):
    folder = tmp_path_factory.mktemp("stores")
    with FeedbackStore(folder / "one.db") as one, FeedbackStore(folder / "two.db") as two:
        new = retried(Chat(one))
        for word in said:
            one.compare_with_before(new.id, "ann", word)
        two.import_events(one.export_events())
        assert learnt(two) == learnt(one)
        assert [*two.export_events()] == [*one.export_events()]
