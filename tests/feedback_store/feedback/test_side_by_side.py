import pytest

from feedback_store import CandidateReply, InvalidFeedbackError


def test_candidates_are_labelled_siblings(store, ann):
    question = ann.ask("hello")
    replies = [CandidateReply("x", "policy-000001", {"top_p": 1.0}, 3, "stop"), CandidateReply("y")]
    candidates_id, messages = store.add_candidates(question.id, replies, rater_id=ann.rater)
    assert store.candidates(candidates_id) == messages
    assert [(m.label, m.content, m.parent_id) for m in messages] == [
        ("a", "x", question.id),
        ("b", "y", question.id),
    ]
    assert messages[0].sampling == {"top_p": 1.0}
    assert store.candidates(candidates_id, rater_id=ann.rater) == messages
    assert store.owner_of(messages[1].id) == ann.rater


def test_candidates_are_stored_all_or_none(store, ann):
    question = ann.ask("hello")
    wrong = [CandidateReply("x"), CandidateReply("y", finish_reason="tired")]
    with pytest.raises(InvalidFeedbackError):
        store.add_candidates(question.id, wrong, rater_id=ann.rater)
    with pytest.raises(InvalidFeedbackError, match="between 2 and 26"):
        store.add_candidates(question.id, wrong[:1], rater_id=ann.rater)
    assert store.messages(ann.conversation) == [question]
