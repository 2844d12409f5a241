"""A client votes by its own name of a reply, also when the reply has gone on."""

import pytest

from feedback_store import ConflictError, UnknownRecordError
from feedback_store.records import CLIENT_MESSAGE


def named(chat, prompt, text, name="m", finish_reason="stop"):
    return chat.store.add_message(
        chat.conversation,
        "assistant",
        text,
        parent_id=prompt.id,
        adapter="policy-000000",
        sampling={CLIENT_MESSAGE: name},
        finish_reason=finish_reason,
    )


def vote(chat, value, key, name="m", **more):
    return chat.store.add_thumb_by_client(name, chat.rater, value, idempotency_key=key, **more)


def standing(store):
    return [(thumb.message_id, thumb.value) for thumb in store.thumbs()]


def votes(store):
    return [votes for (kind, _), votes in store.vote_counts().items() if kind == "thumb"]


def test_a_name_of_two_replies_leaves_the_thumb_on_the_other_one(store, ann):
    first = named(ann, ann.ask("What is Peru's capital?"), "Lima")
    vote(ann, 1, "k1")
    second = named(ann, ann.ask("And of Italy?"), "Lima, too")
    vote(ann, -1, "k2")
    assert standing(store) == [(first.id, 1), (second.id, -1)]


def test_another_reply_to_the_same_question_keeps_its_thumb(store, ann):
    asked = ann.ask("What is Peru's capital?")
    first = named(ann, asked, "Lima")
    vote(ann, 1, "k1")
    second = named(ann, asked, "It is Lima")
    vote(ann, 1, "k2")
    assert standing(store) == [(first.id, 1), (second.id, 1)]


def test_a_thumb_on_a_beginning_gives_way_and_nothing_is_withdrawn(store, ann):
    asked = ann.ask("What is Peru's capital?")
    for text in ("It", "It is"):
        named(ann, asked, text)
    vote(ann, -1, "k1")
    whole = named(ann, asked, "It is Lima")
    vote(ann, 1, "k2")
    assert standing(store) == [(whole.id, 1)]
    assert sum(votes(store)) == 2, "and no withdrawal of what nobody gave"
    vote(ann, 0, "k3")
    assert standing(store) == []


@pytest.mark.parametrize("length", [1, 180, 200])
def test_a_key_of_any_length_serves_a_reply_that_went_on(store, ann, length):
    asked = ann.ask("What is Peru's capital?")
    named(ann, asked, "It")
    whole = named(ann, asked, "It is Lima")
    vote(ann, 1, "k" * length)
    assert standing(store) == [(whole.id, 1)]


def test_a_vote_that_is_refused_leaves_the_thumb_on_the_beginning(store, ann):
    asked = ann.ask("What is Peru's capital?")
    begun = named(ann, asked, "It")
    vote(ann, 1, "k1")
    named(ann, asked, "It is Lima")

    def refuse(reply):
        raise ValueError(reply.content)

    with pytest.raises(ValueError, match="It is Lima"):
        vote(ann, -1, "k2", check=refuse)
    with pytest.raises(ConflictError, match="another value"):
        vote(ann, -1, "k1")
    assert standing(store) == [(begun.id, 1)]


def test_a_request_that_comes_again_after_the_reply_went_on_is_answered_as_at_first(store, ann):
    asked = ann.ask("What is Peru's capital?")
    begun = named(ann, asked, "It")
    first = vote(ann, 1, "k1", tags=["correct"])
    named(ann, asked, "It is cut", finish_reason="cancelled")
    again = vote(ann, 1, "k1", tags=["correct"], check=lambda reply: pytest.fail("no new vote"))
    assert again == first
    assert standing(store) == [(begun.id, 1)] and votes(store) == [1]


def test_a_thumb_that_stands_already_changes_nothing_whatever_its_key(store, ann):
    asked = ann.ask("What is Peru's capital?")
    named(ann, asked, "It")
    first = vote(ann, 1, "k1", comment="good")
    assert vote(ann, 1, "k2", comment="good") == first
    assert vote(ann, 1, "k3", comment="better") != first
    assert votes(store) == [2]


def test_a_long_name_that_nobody_knows_is_not_shown_whole(store, ann):
    with pytest.raises(UnknownRecordError, match=r"'x{60}\.\.\.'") as missing:
        vote(ann, 1, "k", name="x" * 200)
    assert len(str(missing.value)) < 250
