"""Votes on the chat page: on a real store, the real service and a tiny real model."""

from collections.abc import Callable

import pytest

from chat_app.errors import (
    ConsentNeededError,
    InvalidRequestError,
    NotFoundError,
    RefusedError,
    TooManyError,
)
from chat_app.handlers.talk import Talk
from chat_app.handlers.views import ShownThumb
from chat_app.handlers.votes import Votes
from chat_app.service.chat import ChatService
from chat_app.service.voting import COMMENT_CHARS
from feedback_store.errors import FeedbackStoreError, InvalidFeedbackError
from tests.chat_app.handlers.talking import ANN, BOB, again, edit, last_id, say, side_by_side
from tests.chat_app.reading import receipts_of


def opened(talk: Talk, conversation_id: str | None) -> list[ShownThumb | None]:
    """The thumbs that a page finds that opens a conversation."""
    return [message.thumb for message in talk.open(ANN, str(conversation_id)).messages]


# Consent


def test_a_vote_needs_consent_and_says_so(talk: Talk, votes: Votes, service: ChatService) -> None:
    view = side_by_side(talk)
    reply = view.messages[1].id
    retry = str(last_id(again(talk, reply)))
    assert view.pair is not None
    pair = view.pair.id
    assert votes.consent(ANN, given=False) is False and not votes.consented(ANN)
    for refused in (
        lambda: votes.thumb(ANN, reply, 1),
        lambda: votes.choose(ANN, pair, "a"),
        lambda: votes.answer(ANN, pair, "a"),
        lambda: votes.compare_with_before(ANN, retry, "better"),
        lambda: votes.rewrite(ANN, reply, "mine"),
    ):
        with pytest.raises(ConsentNeededError, match="Nothing was saved"):
            refused()
    assert service.store.thumbs() == [] and service.store.choices() == []
    assert service.store.demonstrations() == []
    assert talk.open(ANN, str(view.conversation_id), through=view.messages[-1].id).pair
    assert votes.consent(ANN, given=True) is True and votes.consented(ANN)
    assert votes.thumb(ANN, reply, 1) == ShownThumb(1)


def test_whoever_did_nothing_yet_has_not_agreed_and_is_not_stored_by_that(
    votes: Votes, service: ChatService
) -> None:
    assert not votes.consented(BOB) and votes.asked(BOB) is None
    assert not service.knows(BOB)


def test_a_rater_cannot_judge_another_raters_replies(
    talk: Talk, votes: Votes, service: ChatService
) -> None:
    view = side_by_side(talk)
    reply, pair = view.messages[1].id, view.pair
    assert pair is not None
    votes.consent(BOB, given=True)
    for refused in (
        lambda: votes.thumb(BOB, reply, 1),
        lambda: votes.thumb(BOB, reply, 0),
        lambda: votes.thumb(BOB, reply, 1, tags=["correct"], comment="x"),
        lambda: votes.rewrite(BOB, reply, "mine"),
        lambda: votes.choose(BOB, pair.id, "a"),
        lambda: votes.answer(BOB, pair.id, "a"),
        lambda: votes.compare_with_before(BOB, reply, "worse"),
    ):
        with pytest.raises(NotFoundError):
            refused()
    assert service.store.thumbs() == [] and service.store.demonstrations() == []
    assert service.store.choices() == []


# Thumbs


def test_a_thumb_with_reasons_is_shown_again_later(
    talk: Talk, votes: Votes, service: ChatService
) -> None:
    view = say(talk, "hello")
    reply = str(last_id(view))
    assert votes.thumb(ANN, reply, -1) == ShownThumb(-1)
    shown = votes.thumb(ANN, reply, -1, tags=["wrong", "rude"], comment=" no ")
    assert shown == ShownThumb(-1, ("wrong", "rude"), "no")
    (thumb,) = service.store.thumbs()
    assert (thumb.value, thumb.tags, thumb.comment) == (-1, ("wrong", "rude"), "no")
    assert opened(Talk(service), view.conversation_id) == [None, shown]


def test_a_doubled_click_is_one_vote_and_keeps_the_reasons(
    talk: Talk, votes: Votes, service: ChatService
) -> None:
    reply = str(last_id(say(talk, "hello")))
    votes.thumb(ANN, reply, -1, tags=["wrong"], comment="")
    for _ in range(2):
        assert votes.thumb(ANN, reply, -1) == ShownThumb(-1, ("wrong",))
    (thumb,) = service.store.thumbs()
    assert thumb.tags == ("wrong",)
    assert len(service.receipts(ANN)) == 1


def test_reasons_can_be_taken_back_and_the_thumb_stays(
    talk: Talk, votes: Votes, service: ChatService
) -> None:
    reply = str(last_id(say(talk, "hello")))
    votes.thumb(ANN, reply, 1, tags=["correct"], comment="yes")
    assert votes.thumb(ANN, reply, 1, tags=[], comment="") == ShownThumb(1)
    assert votes.thumb(ANN, reply, -1) == ShownThumb(-1), "the other thumb has reasons of its own"


def test_a_withdrawn_thumb_is_no_thumb_down_and_can_be_given_again(
    talk: Talk, votes: Votes, service: ChatService
) -> None:
    view = say(talk, "hello")
    reply = str(last_id(view))
    votes.thumb(ANN, reply, 1)
    votes.consent(ANN, given=False)
    assert votes.thumb(ANN, reply, 0) is None, "which needs no consent"
    assert service.store.thumbs() == [] and opened(talk, view.conversation_id) == [None, None]
    votes.consent(ANN, given=True)
    assert votes.thumb(ANN, reply, 1) == ShownThumb(1)
    assert opened(talk, view.conversation_id) == [None, ShownThumb(1)]


@pytest.mark.parametrize(
    ("tags", "comment"), [(["made up"], ""), (["correct"], ""), ([], "x" * (COMMENT_CHARS + 1))]
)
def test_reasons_that_the_page_does_not_offer_are_refused(
    talk: Talk, votes: Votes, service: ChatService, tags: list[str], comment: str
) -> None:
    reply = str(last_id(say(talk, "hello")))
    with pytest.raises(InvalidRequestError):
        votes.thumb(ANN, reply, -1, tags=tags, comment=comment)
    assert service.store.thumbs() == []


@pytest.mark.parametrize("value", [2, -2, 10**30])
def test_a_thumb_is_up_down_or_taken_back(talk: Talk, votes: Votes, value: int) -> None:
    reply = str(last_id(say(talk, "hello")))
    with pytest.raises((InvalidRequestError, InvalidFeedbackError)):
        votes.thumb(ANN, reply, value)


# Choices


@pytest.mark.parametrize(("choice", "follows"), [("b", "b"), ("tie", "a"), ("both_bad", "a")])
def test_the_conversation_goes_on_from_the_chosen_reply(
    talk: Talk, votes: Votes, service: ChatService, choice: str, follows: str
) -> None:
    pair = side_by_side(talk).pair
    assert pair is not None
    chosen = votes.choose(ANN, pair.id, choice, seconds=1.5)
    assert votes.choose(ANN, pair.id, choice) == chosen, "a doubled click"
    [stored] = service.store.choices()
    assert (stored.choice, stored.seconds) == (choice, 1.5)
    assert len(service.receipts(ANN)) == 1
    reply = service.store.message(str(last_id(chosen.view)))
    assert (reply.label, reply.candidates_id) == (follows, pair.id)
    assert (chosen.a, chosen.b) == (1, 1), "the version that wrote both"
    assert chosen.view.pair is None
    assert talk.open(ANN, str(chosen.view.conversation_id)) == chosen.view
    onward = say(talk, "four", chosen.view)
    assert [m.id for m in onward.messages[:6]] == [m.id for m in chosen.view.messages]


@pytest.mark.parametrize("choice", ["", "c", "A", "both"])
def test_what_is_no_choice_is_refused(
    talk: Talk, votes: Votes, service: ChatService, choice: str
) -> None:
    pair = side_by_side(talk).pair
    assert pair is not None
    with pytest.raises(FeedbackStoreError):
        votes.choose(ANN, pair.id, choice)
    assert service.store.choices() == []


def test_a_choice_on_another_branch_than_the_newest_shows_its_own_branch(
    talk: Talk, votes: Votes
) -> None:
    view = side_by_side(talk)
    assert view.pair is not None
    newer = edit(talk, view.messages[0].id, "uno")
    chosen = votes.choose(ANN, view.pair.id, "b").view
    assert [m.id for m in chosen.messages[:-1]] == [m.id for m in view.messages]
    assert last_id(chosen) == view.pair.b.id and chosen.newest == newer.newest


def test_a_choice_that_another_tab_made_and_went_on_from_shows_all(
    talk: Talk, votes: Votes
) -> None:
    pair = side_by_side(talk).pair
    assert pair is not None
    onward = say(talk, "four", votes.choose(ANN, pair.id, "a").view)
    assert votes.choose(ANN, pair.id, "a").view == onward


# Retries


def test_a_retry_is_compared_with_what_it_replaced_once(
    talk: Talk, votes: Votes, service: ChatService
) -> None:
    first = say(talk, "hello")
    view = again(talk, last_id(first))
    old = first.messages[-1].content
    assert first.messages[-1].before is None and view.messages[-1].before == old
    assert votes.compare_with_before(ANN, str(last_id(view)), "worse") == "worse"
    assert talk.open(ANN, str(view.conversation_id)).messages[-1].before is None
    assert [one.said for one in receipts_of(service, ANN)] == ["Tried again: worse than before"]
    service.store.refresh_comparisons()
    [pair] = service.store.comparisons()
    assert {"a": pair.response_a, "b": pair.response_b}[pair.label] == old


def test_a_retry_with_the_same_text_is_not_compared(talk: Talk, service: ChatService) -> None:
    first = say(talk, "hello")
    asked, reply = service.store.path(str(last_id(first)))
    service.store.add_message(
        asked.conversation_id,
        "assistant",
        reply.content,
        parent_id=asked.id,
        finish_reason="stop",
        retry_of=reply.id,
    )
    shown = talk.open(ANN, str(first.conversation_id)).messages[-1]
    assert shown.before is None and len(shown.siblings) == 2


def test_a_reply_that_replaced_none_is_not_compared(talk: Talk, votes: Votes) -> None:
    reply = str(last_id(say(talk, "hello")))
    with pytest.raises(NotFoundError):
        votes.compare_with_before(ANN, reply, "better")
    retry = str(last_id(again(talk, reply)))
    with pytest.raises(FeedbackStoreError):
        votes.compare_with_before(ANN, retry, "much better")


# Better answers


def test_a_better_answer_is_stored_once_and_is_in_the_view(
    talk: Talk, votes: Votes, service: ChatService
) -> None:
    view = say(talk, "capital of Italy?")
    reply = str(last_id(view))
    for _ in range(2):
        assert votes.rewrite(ANN, reply, "Rome.") == "Rome."
    (demonstration,) = service.store.demonstrations()
    assert (demonstration.content, demonstration.message_id) == ("Rome.", reply)
    shown = talk.open(ANN, str(view.conversation_id)).messages
    assert [message.better for message in shown] == [None, "Rome."]
    assert shown[-1].content == view.messages[-1].content, "the reply itself does not change"
    for useless in (" ", f" {view.messages[-1].content}\n"):
        with pytest.raises(InvalidRequestError):
            votes.rewrite(ANN, reply, useless)
    assert len(service.store.demonstrations()) == 1


def test_the_last_better_answer_counts_even_if_it_equals_the_first(
    talk: Talk, votes: Votes, service: ChatService
) -> None:
    view = say(talk, "capital of Italy?")
    for text in ("Rome.", "It is Rome.", "Rome."):
        assert votes.rewrite(ANN, str(last_id(view)), text) == text
        assert [one.content for one in service.store.demonstrations()] == [text]
        assert talk.open(ANN, str(view.conversation_id)).messages[-1].better == text
    assert len(service.receipts(ANN)) == 3


def test_a_message_of_ones_own_takes_no_vote(
    talk: Talk, votes: Votes, service: ChatService
) -> None:
    question = say(talk, "hello").messages[0].id
    for refused in (
        lambda: votes.thumb(ANN, question, 1),
        lambda: votes.rewrite(ANN, question, "mine"),
        lambda: votes.compare_with_before(ANN, question, "better"),
    ):
        with pytest.raises((RefusedError, NotFoundError, FeedbackStoreError)):
            refused()
    assert service.store.thumbs() == [] and service.store.demonstrations() == []


# What goes wrong, and what became of a vote


def test_a_failing_store_gives_no_thanks(talk: Talk, votes: Votes, service: ChatService) -> None:
    view = side_by_side(talk)
    reply, pair = view.messages[1].id, view.pair
    assert pair is not None
    service.store.close()
    for failed in (
        lambda: votes.thumb(ANN, reply, 1),
        lambda: votes.thumb(ANN, reply, 0),
        lambda: votes.choose(ANN, pair.id, "a"),
        lambda: votes.answer(ANN, pair.id, "a"),
        lambda: votes.rewrite(ANN, reply, "Rome."),
        lambda: votes.consent(ANN, given=False),
    ):
        with pytest.raises(FeedbackStoreError):
            failed()


def test_receipts_say_what_became_of_each_vote(
    talk: Talk, votes: Votes, service: ChatService
) -> None:
    assert receipts_of(service, ANN) == []
    pair = side_by_side(talk).pair
    assert pair is not None
    view = votes.choose(ANN, pair.id, "a").view
    votes.thumb(ANN, view.messages[1].id, -1)
    alone, waiting = receipts_of(service, ANN)
    assert alone.said == "Thumb down" and "opposite thumb" in alone.became
    assert waiting.said == "Side by side: A was better" and waiting.about == "three"
    service.store.refresh_comparisons()
    used = service.store.comparisons()
    cycle = service.store.start_cycle({}, pid=1)
    service.store.use_comparisons(cycle.id, [comparison.id for comparison in used])
    service.store.finish_cycle(cycle.id, state="rejected")
    became = receipts_of(service, ANN)[1].became
    assert became == "Taught the reward model of round 1, which made no new version."


def test_deleting_and_restoring_have_the_limit_of_votes_and_consent_has_none(
    service: ChatService, talk: Talk
) -> None:
    conversation = str(say(talk, "hello").conversation_id)
    acts: list[Callable[[], object]] = [
        lambda: service.delete_conversation(ANN, conversation),
        lambda: service.restore_conversation(ANN, conversation),
    ]
    for act in acts:
        act()
    while True:
        try:
            service.rates.vote(ANN)
        except TooManyError:
            break
    for act in acts:
        with pytest.raises(TooManyError, match="votes"):
            act()
