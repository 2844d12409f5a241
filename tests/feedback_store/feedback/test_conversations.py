import pytest

from feedback_store import (
    CandidateReply,
    ConflictError,
    FeedbackStore,
    InvalidFeedbackError,
    PromptMessage,
    UnknownRecordError,
)
from feedback_store.feedback import conversations
from feedback_store.feedback.gold_questions import GoldItem
from feedback_store.feedback.messages import stored_path


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
        lambda: store.conversation_view("ann", conversation_id="nobody"),
        lambda: store.owner_of("nobody"),
        lambda: store.candidates("nobody", rater_id="ann"),
    ]
    for ask in unknown:
        with pytest.raises(UnknownRecordError, match="'nobody'"):
            ask()


# A conversation as its rater sees it


def test_a_view_holds_every_branch_and_what_its_rater_says_of_it_now(store, ann, bob):
    asked = ann.ask("hello")
    first, second = ann.reply(asked, "hi"), ann.reply(asked, "good day")
    shown, (a, b) = store.add_candidates(
        asked.id, [CandidateReply("x"), CandidateReply("y")], rater_id=ann.rater
    )
    store.add_thumb(first.id, ann.rater, 1)
    store.add_thumb(second.id, ann.rater, -1)
    store.add_thumb(second.id, ann.rater, 0)
    store.add_thumb(second.id, bob.rater, 1)
    store.add_choice(shown, ann.rater, "b")
    view = store.conversation_view(ann.rater, conversation_id=ann.conversation)
    assert view.messages == tuple(store.messages(ann.conversation))
    assert {key: thumb.value for key, thumb in view.thumbs.items()} == {first.id: 1}
    assert {key: choice.choice for key, choice in view.choices.items()} == {shown: "b"}
    assert view.path(b.id) == store.path(b.id) and view.path(None) == []
    assert view.candidates(shown) == [a, b]
    assert store.conversation_view(ann.rater, message_id=second.id) == view
    assert store.conversation_view(ann.rater, candidates_id=shown) == view


def test_nobody_sees_the_conversation_of_another_by_any_id(store, ann, bob):
    asked = ann.ask("hello")
    shown, _ = store.add_candidates(
        asked.id, [CandidateReply("x"), CandidateReply("y")], rater_id=ann.rater
    )
    for look in (
        lambda: store.conversation_view(bob.rater, conversation_id=ann.conversation),
        lambda: store.conversation_view(bob.rater, message_id=asked.id),
        lambda: store.conversation_view(bob.rater, candidates_id=shown),
        lambda: store.conversation_view(bob.rater),
        lambda: store.message(asked.id, rater_id=bob.rater),
        lambda: store.candidates(shown, rater_id=bob.rater),
        lambda: store.add_dialogue(bob.rater, said("x"), conversation_id=ann.conversation),
        lambda: store.add_dialogue(bob.rater, said("x"), parent_id=asked.id),
    ):
        with pytest.raises(UnknownRecordError):
            look()


# Dialogues that a client brings along


def said(*texts):
    return [
        {"role": "assistant" if number % 2 else "user", "content": text}
        for number, text in enumerate(texts)
    ]


def answered(store, path, text):
    last = path[-1]
    return store.add_message(
        last.conversation_id, "assistant", text, parent_id=last.id, adapter="policy-000000"
    )


def test_a_dialogue_goes_on_below_the_stored_reply_that_it_ends_with(store, ann):
    first = store.continue_dialogue(ann.rater, said("one"))
    reply = answered(store, first, "A reply.\n")
    path = store.continue_dialogue(ann.rater, said("one", "A reply.", "two"), title="unused")
    assert path[:2] == [*first, reply] and path[2].parent_id == reply.id
    again = store.continue_dialogue(ann.rater, said("one", "A reply.", "two"))
    assert again == path  # a request that is sent again


def test_a_reworded_history_branches_off_where_it_differs(store, ann):
    first = store.continue_dialogue(ann.rater, said("one"))
    reply = answered(store, first, "yes")
    second = store.continue_dialogue(ann.rater, said("one", "yes", "two"))
    answered(store, second, "no")
    path = store.continue_dialogue(ann.rater, said("one", "yes", "Two!", "no", "three"))
    assert path[1] == reply and path[2].id != second[2].id
    assert {message.conversation_id for message in path} == {first[0].conversation_id}


@pytest.mark.parametrize(
    "dialogue",
    [
        said("one"),  # many ask it
        said("one", "another's words", "two"),  # no policy said that here
        said("ONE", "yes", "two"),  # the same path to a hash, not to a model
    ],
)
def test_a_dialogue_without_a_stored_reply_begins_a_conversation(store, ann, dialogue):
    first = store.continue_dialogue(ann.rater, said("one"))
    answered(store, first, "yes")
    path = store.continue_dialogue(ann.rater, dialogue, title="new")
    assert [message.content for message in path] == [item["content"] for item in dialogue]
    assert path[0].conversation_id != first[0].conversation_id


def test_another_raters_dialogue_is_no_place_to_go_on(store, ann, bob):
    first = store.continue_dialogue(ann.rater, said("one"))
    answered(store, first, "yes")
    path = store.continue_dialogue(bob.rater, said("one", "yes", "two"))
    assert store.owner_of(path[0].id) == bob.rater


def test_a_dialogue_that_cannot_be_stored_whole_is_not_stored_at_all(store, ann):
    wrong = [*said("one", "yes"), {"role": "wizard", "content": "two"}]
    with pytest.raises(InvalidFeedbackError, match="wizard"):
        store.continue_dialogue(ann.rater, wrong, title="half")
    assert store.conversations(ann.rater)[0].id == ann.conversation
    assert store.counts()["messages"] == 0


# The newest message


def test_the_newest_message_is_the_last_of_the_conversation_and_its_raters_alone(store, ann, bob):
    assert store.newest_message("ann", ann.conversation) is None
    asked = ann.ask("hello")
    for text in ("x", "y", "z"):
        ann.reply(asked, text)
    newest = store.messages(ann.conversation)[-1].id
    assert store.newest_message("ann", ann.conversation) == newest
    item = GoldItem((PromptMessage(role="user", content="sky?"),), "blue", "green")
    ann.choose(ann.shown("2 + 2?", "4", "5"), "a")
    gold = store.candidates(store.gold_question("ann", [item], every=1))[0].conversation_id
    for rater, conversation in (("bob", ann.conversation), ("ann", "none"), ("ann", gold)):
        with pytest.raises(UnknownRecordError):
            store.newest_message(rater, conversation)
    store.delete_conversation("ann", ann.conversation)
    with pytest.raises(UnknownRecordError):
        store.newest_message("ann", ann.conversation)


def test_to_find_the_newest_message_takes_as_much_however_many_there_are(store, ann):
    def steps():
        counted = []
        store._file._reader.conn.set_progress_handler(lambda: counted.append(1), 1)
        store.newest_message("ann", ann.conversation)
        store._file._reader.conn.set_progress_handler(None, 0)
        return len(counted)

    ann.ask("hello")
    steps()  # the statement is prepared
    before = steps()
    for number in range(200):
        ann.ask(f"and {number}")
    assert steps() == before


@pytest.mark.parametrize(("empty", "times"), [(False, 1), (True, 2)])
def test_a_new_dialogue_is_looked_up_once_while_everybody_waits(
    store, ann, monkeypatch, empty, times
):
    looked = []

    def counting(*given):
        looked.append(given)
        return stored_path(*given)

    monkeypatch.setattr(conversations, "stored_path", counting)
    said = [PromptMessage(role="user", content=f"question {place}") for place in range(2)]
    reply = PromptMessage(role="assistant", content="" if empty else "yes")
    assert store.continue_dialogue(ann.rater, [said[0], reply, said[1]])
    assert len(looked) == times, "an empty reply may be known by its place, or left out"
