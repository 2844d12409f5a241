import pytest

from feedback_store import (
    CandidateReply,
    ConflictError,
    FeedbackStore,
    InvalidFeedbackError,
    UnknownRecordError,
)


def test_the_same_rater_id_gives_the_same_row(store):
    first = store.add_rater("ann", kind="simulated")
    assert store.add_rater("ann") == first == store.rater("ann")
    assert store.add_rater().id != store.add_rater().id


def test_consent_is_given_kept_and_taken_back(store):
    assert store.add_rater("ann").consent is None
    assert store.add_rater("ann", consent="v2").consent == "v2"
    assert store.add_rater("ann").consent == "v2"
    assert store.set_consent("ann", None).consent is None


def test_a_kind_of_rater_that_does_not_exist_is_refused(store):
    with pytest.raises(InvalidFeedbackError, match=r"'robot'.*'simulated'"):
        store.add_rater(kind="robot")


def test_messages_make_a_tree_and_a_path_leads_through_it(store, ann):
    question = ann.ask("capital of France?")
    first, second = ann.reply(question, "Lyon"), ann.reply(question, "Paris")
    thanks = store.add_message(ann.conversation, "user", "thanks", parent_id=second.id)
    assert store.path(thanks.id) == [question, second, thanks]
    assert store.messages(ann.conversation) == [question, first, second, thanks]
    assert store.message(second.id) == second


def test_an_assistant_message_keeps_how_it_was_made(store, ann):
    made = {"adapter": "policy-000001", "sampling": {"temperature": 0.7}, "seed": 2**62}
    reply = store.add_message(
        ann.conversation, "assistant", "hi", finish_reason="length", message_id="m", **made
    )
    assert store.message("m") == reply
    assert (reply.adapter, reply.sampling, reply.seed) == tuple(made.values())


def test_a_message_stored_twice_is_one_and_stored_differently_is_refused(store, ann):
    same = [store.add_message(ann.conversation, "user", "x", message_id="m") for _ in range(2)]
    assert same[0] == same[1]
    with pytest.raises(ConflictError, match="'m'"):
        store.add_message(ann.conversation, "user", "y", message_id="m")
    assert store.counts()["messages"] == 1


def test_a_message_cannot_answer_another_conversation(store, ann, bob):
    with pytest.raises(ConflictError, match="another conversation"):
        store.add_message(ann.conversation, "assistant", "hi", parent_id=bob.ask("hello").id)


@pytest.mark.parametrize(
    "wrong",
    [
        {"role": "robot"},
        {"finish_reason": "tired"},
        {"seed": 2**64},
        {"content": "\ud800"},
        {"sampling": {"temperature": float("nan")}},
    ],
)
def test_a_message_with_a_wrong_value_is_refused(store: FeedbackStore, ann, wrong):
    with pytest.raises(InvalidFeedbackError):
        store.add_message(ann.conversation, **{"role": "user", "content": "x", **wrong})
    assert store.counts()["messages"] == 0


def test_conversations_are_the_raters_own_and_newest_first(store, ann, bob):
    later = store.add_conversation(ann.rater, title="later", conversation_id="c")
    assert [item.id for item in store.conversations(ann.rater)] == ["c", ann.conversation]
    assert store.add_conversation(ann.rater, conversation_id="c") == later
    with pytest.raises(ConflictError, match="another rater"):
        store.add_conversation(bob.rater, conversation_id="c")


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
    assert store.owner_of_candidates(candidates_id) == ann.rater == store.owner_of(messages[1].id)


def test_candidates_are_stored_all_or_none(store, ann):
    question = ann.ask("hello")
    wrong = [CandidateReply("x"), CandidateReply("y", finish_reason="tired")]
    with pytest.raises(InvalidFeedbackError):
        store.add_candidates(question.id, wrong, rater_id=ann.rater)
    with pytest.raises(InvalidFeedbackError, match="between 2 and 26"):
        store.add_candidates(question.id, wrong[:1], rater_id=ann.rater)
    assert store.messages(ann.conversation) == [question]


def test_ids_that_are_not_there_are_named(store, ann):
    unknown = [
        lambda: store.rater("nobody"),
        lambda: store.set_consent("nobody", "v1"),
        lambda: store.add_conversation("nobody"),
        lambda: store.add_message("nobody", "user", "x"),
        lambda: store.add_message(ann.conversation, "user", "x", parent_id="nobody"),
        lambda: store.add_message(ann.conversation, "user", "x", candidates_id="nobody"),
        lambda: store.add_candidates("nobody", [CandidateReply("x")] * 2, rater_id=ann.rater),
        lambda: store.messages("nobody"),
        lambda: store.message("nobody"),
        lambda: store.path("nobody"),
        lambda: store.candidates("nobody"),
        lambda: store.conversation("nobody"),
        lambda: store.owner_of("nobody"),
        lambda: store.owner_of_candidates("nobody"),
    ]
    for ask in unknown:
        with pytest.raises(UnknownRecordError, match="'nobody'"):
            ask()
