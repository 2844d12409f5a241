"""Branches of a conversation: retries, edits and pairs, and which of them a page shows."""

import time

import pytest

from chat_app.errors import InvalidRequestError
from chat_app.handlers.talk import Talk
from chat_app.handlers.views import ChatView, branch_through
from chat_app.handlers.votes import Votes
from chat_app.service.chat import ChatService
from feedback_store.records import Message, PromptMessage
from tests.chat_app.handlers.talking import (
    ANN,
    again,
    edit,
    last_id,
    opened,
    questions,
    say,
    side_by_side,
)


def test_trying_again_makes_a_sibling_and_shows_it(talk: Talk, service: ChatService) -> None:
    view = say(talk, "hello")
    second = again(talk, last_id(view))
    replies = service.store.messages(str(view.conversation_id))[1:]
    assert [m.parent_id for m in replies] == [view.messages[0].id] * 2
    assert [m.id for m in second.messages] == [view.messages[0].id, replies[-1].id]
    assert second.messages[-1].siblings == (replies[0].id, replies[1].id)
    assert second.messages[0].siblings == (view.messages[0].id,)


def test_trying_again_is_noted_as_a_retry_of_the_reply_it_replaces(
    talk: Talk, service: ChatService
) -> None:
    first = say(talk, "hello")
    second = again(talk, last_id(first))
    [retry] = [event for event in service.receipts(ANN) if event["event"] == "retry"]
    assert (retry["retry_of"], retry["message_id"]) == (last_id(first), last_id(second))


def test_an_edited_question_is_a_sibling_with_its_own_answer(
    talk: Talk, service: ChatService
) -> None:
    view = say(talk, "helo")
    edited = edit(talk, view.messages[0].id, "hello")
    assert questions(edited) == ["hello"] and len(edited.messages) == 2
    assert edited.conversation_id == view.conversation_id
    assert edited.messages[0].siblings == (view.messages[0].id, edited.messages[0].id)
    assert len(edited.messages[1].siblings) == 1
    assert len(service.store.messages(str(view.conversation_id))) == 4
    with pytest.raises(InvalidRequestError, match="edit a message of your own"):
        edit(talk, edited.messages[1].id, "your words")


def test_a_branch_is_shown_through_any_of_its_messages_down_to_the_newest(talk: Talk) -> None:
    old = say(talk, "two", say(talk, "one"))
    new = edit(talk, old.messages[0].id, "uno")
    newer = again(talk, last_id(new))
    assert opened(talk, old) == newer
    for message in old.messages:
        shown = opened(talk, old, through=message.id)
        assert shown.messages[1:] == old.messages[1:] and shown.newest == newer.newest
    assert opened(talk, old, through=new.messages[0].id) == newer
    assert opened(talk, old, through=str(last_id(new))).messages[-1].id == last_id(new)
    assert questions(say(talk, "three", opened(talk, old, through=str(last_id(old))))) == [
        "one",
        "two",
        "three",
    ]


def test_a_conversation_is_shown_down_to_a_message(talk: Talk) -> None:
    view = say(talk, "two", say(talk, "one"))
    for count, message in enumerate(view.messages, start=1):
        shown = opened(talk, view, to=message.id)
        assert (shown.messages, shown.newest) == (view.messages[:count], view.newest)


@pytest.mark.parametrize("where", ["through", "to"])
def test_a_message_that_is_unknown_or_of_another_conversation_shows_the_newest_branch(
    talk: Talk, votes: Votes, where: str
) -> None:
    other, view = say(talk, "elsewhere"), side_by_side(talk)
    for message_id in ("", "nothing", str(last_id(other))):
        assert opened(talk, view, **{where: message_id}) == view


def test_an_empty_conversation_can_be_opened(talk: Talk, service: ChatService) -> None:
    service.visitor(ANN)
    empty = ChatView(service.store.add_conversation(ANN, title="nothing yet").id, "nothing yet")
    for where in ({}, {"through": "x"}, {"to": "x"}):
        assert opened(talk, empty, **where) == empty


@pytest.mark.parametrize("choice", ["a", "b", "tie"])
def test_what_was_said_before_a_choice_leads_to_what_was_said_after_it(
    talk: Talk, votes: Votes, choice: str
) -> None:
    pair = side_by_side(talk).pair
    assert pair is not None
    after = say(talk, "four", votes.choose(ANN, pair.id, choice).view)
    assert opened(talk, after) == after
    for message in after.messages:
        assert opened(talk, after, through=message.id) == after


def test_the_reply_that_was_not_chosen_can_be_looked_at_after_the_choice(
    talk: Talk, votes: Votes
) -> None:
    view = side_by_side(talk)
    assert view.pair is not None
    for reply in (view.pair.a, view.pair.b):
        assert opened(talk, view, through=reply.id).pair == view.pair, "until then both are blind"
    chosen = votes.choose(ANN, view.pair.id, "a").view
    assert chosen.messages[-1].siblings == (view.pair.a.id, view.pair.b.id)
    other = opened(talk, view, through=view.pair.b.id)
    assert other.pair is None and last_id(other) == view.pair.b.id
    assert opened(talk, view) == chosen


def test_the_way_down_does_not_depend_on_the_clock(talk: Talk, service: ChatService) -> None:
    view = say(talk, "two", say(talk, "one"))
    messages: list[Message] = service.store.messages(str(view.conversation_id))
    with service.store._file.write() as db:  # as if the clock had been set back
        for place, message in enumerate(reversed(messages)):
            at = f"2026-01-01T00:00:0{place}.000000+00:00"
            db.execute("UPDATE messages SET created_at = ? WHERE id = ?", [at, message.id])
    assert last_id(opened(talk, view, through=view.messages[0].id)) == last_id(view)


def test_a_very_long_conversation_with_many_branches_is_shown_quickly(
    talk: Talk, service: ChatService
) -> None:
    store = service.store
    store.add_rater(ANN)
    turns: list[PromptMessage] = [
        {"role": ("user", "assistant")[place % 2], "content": str(place)} for place in range(3000)
    ]
    told = store.add_dialogue(ANN, turns)
    conversation_id = told[0].conversation_id
    for _ in range(300):
        store.add_dialogue(ANN, turns[:1], conversation_id=conversation_id, parent_id=told[0].id)
    found = store.conversation_view(ANN, conversation_id=conversation_id)
    began = time.process_time()
    view = branch_through(found, told[1].id)
    assert time.process_time() - began < 0.5  # it takes 20 ms
    assert view.messages[-1].id == told[-1].id
