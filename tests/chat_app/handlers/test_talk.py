"""Conversations on the chat page: on a real store, the real service and a tiny real model."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from chat_app.errors import (
    BehindError,
    BusyError,
    InvalidRequestError,
    NotFoundError,
    RefusedError,
    TooManyError,
)
from chat_app.handlers.talk import Talk
from chat_app.handlers.views import ChatView
from chat_app.handlers.votes import Votes
from chat_app.service.chat import ChatService
from feedback_store.errors import FeedbackStoreError, StoreUnavailableError
from feedback_store.records import ConversationView
from tests.chat_app.handlers.talking import (
    ANN,
    BOB,
    Heard,
    again,
    ask,
    edit,
    exchange,
    hear,
    last_id,
    opened,
    questions,
    say,
)
from tests.chat_app.serving import full_disk


def roles(view: ChatView) -> list[str]:
    return [message.role for message in view.messages]


def long_replies(service: ChatService) -> None:
    """From now on, replies are long enough to be stopped."""
    long = service.settings.reply.model_copy(update={"tokens": 400})
    service.settings = service.settings.model_copy(update={"reply": long})


async def first_words(talk: Talk, asked: ChatView) -> str:
    """What a page is told first of a reply; then it is closed."""
    reader = talk.follow(ANN, str(asked.writing))
    async for piece in reader:
        assert piece.added is not None
        return piece.added["a"]
    raise AssertionError("nothing was told")


def ran(act: Callable[[], Awaitable[ChatView]]) -> ChatView:
    """What an event returns."""

    async def scenario() -> ChatView:
        return await act()

    return asyncio.run(scenario())


# Sending


def test_a_reply_follows_the_question_word_by_word_and_is_stored(talk: Talk) -> None:
    asked, heard = exchange(talk, "hello")
    assert [(m.role, m.content) for m in asked.messages] == [("user", "hello")]
    assert (asked.writing, asked.two) == (asked.messages[0].id, False)
    assert asked.newest == asked.messages[0].id and asked.title == "hello"
    assert not heard.problem and heard.view.writing is None
    assert roles(heard.view) == ["user", "assistant"]
    assert heard.texts == {"a": heard.view.messages[-1].content}
    assert heard.view.newest == heard.view.messages[-1].id
    assert opened(talk, heard.view) == heard.view


@pytest.mark.parametrize("text", ["", "   ", "x" * 8_001, "half \ud83d"])
def test_an_unusable_message_is_refused_in_a_short_sentence_and_not_stored(
    talk: Talk, service: ChatService, text: str
) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        say(talk, text)
    assert len(str(refused.value)) < 200
    assert ("shorten it" in str(refused.value)) == (len(text) > 8_000)
    assert service.store.counts()["messages"] == 0


def test_a_message_that_the_model_cannot_read_leaves_the_chat_as_it_was(
    talk: Talk, service: ChatService
) -> None:
    before, long = say(talk, "hello"), "too long " * 80
    with pytest.raises(InvalidRequestError, match="does not fit the model"):
        say(talk, long, before)
    with pytest.raises(InvalidRequestError, match="does not fit the model"):
        edit(talk, before.messages[0].id, long)
    assert service.store.counts()["messages"] == 2
    assert opened(talk, before) == before
    assert len(say(talk, "and now", before).messages) == 4


def test_whoever_is_new_or_was_forgotten_meanwhile_gets_a_new_start(
    talk: Talk, service: ChatService
) -> None:
    before = say(talk, "my secret")
    service.store.forget(ANN)
    view = say(talk, "hello", before, rater="browser-new")
    assert roles(view) == ["user", "assistant"] and view.messages[0].content == "hello"
    assert view.conversation_id != before.conversation_id
    assert service.consented("browser-new") is False


def test_a_question_without_an_answer_is_replaced_by_the_next(
    talk: Talk, service: ChatService
) -> None:
    view = say(talk, "hello")
    service.ask(ANN, "lost", parent_id=last_id(view))
    shown = opened(talk, view)
    assert questions(shown) == ["hello", "lost"]
    after = say(talk, "next", shown)
    assert questions(after) == ["hello", "next"]
    assert len(after.messages[-2].siblings) == 2, "the other one is not lost"


def test_a_page_that_does_not_know_the_newest_message_is_told_so_and_stores_nothing(
    talk: Talk, service: ChatService
) -> None:
    first = say(talk, "one")
    assert talk.newest(ANN, str(first.conversation_id)) == first.newest
    second = say(talk, "two", first)
    assert talk.newest(ANN, str(first.conversation_id)) == second.newest != first.newest
    with pytest.raises(BehindError, match="went on in another tab"):
        say(talk, "three", first)
    assert service.store.counts()["messages"] == 4
    assert questions(say(talk, "three", opened(talk, first))) == ["one", "two", "three"]


def test_of_two_messages_sent_at_once_one_is_refused(talk: Talk, service: ChatService) -> None:
    async def scenario(after: ChatView | None) -> list[Any]:
        sent = await asyncio.gather(
            ask(talk, "one", after), ask(talk, "two", after), return_exceptions=True
        )
        begun = [one for one in sent if isinstance(one, ChatView)]
        for one in begun:
            await hear(talk, one)
        assert len(begun) == 1
        return [one for one in sent if not isinstance(one, ChatView)]

    assert [type(one) for one in asyncio.run(scenario(None))] == [RefusedError]
    view = opened(talk, ChatView(service.conversations(ANN)[0].id))
    assert [type(one) for one in asyncio.run(scenario(view))] == [RefusedError]
    assert service.store.counts()["messages"] == 4


def test_while_a_reply_is_written_no_other_begins_in_its_conversation(
    talk: Talk, service: ChatService
) -> None:
    first = say(talk, "hello")
    long_replies(service)

    async def scenario() -> None:
        asked = await ask(talk, "and then?", first)
        for act in (
            ask(talk, "more", asked),
            talk.again(ANN, first.messages[-1].id),
            talk.edit(ANN, first.messages[0].id, "hallo"),
        ):
            with pytest.raises(RefusedError, match="still being written"):
                await act
        elsewhere = await ask(talk, "another conversation")
        for one in (elsewhere, asked):
            assert await first_words(talk, one)
            await talk.stop(ANN, str(one.writing))

    asyncio.run(scenario())
    assert service.store.counts()["messages"] == 6


def test_tabs_that_send_together_store_no_message_that_is_refused(
    talk: Talk, service: ChatService
) -> None:
    most = service.settings.rates.replies_at_once
    views = [say(talk, f"tab {number}") for number in range(2 * most)]
    long_replies(service)

    async def scenario() -> tuple[list[ChatView], list[Any]]:
        sent = await asyncio.gather(
            *(ask(talk, "hello", view) for view in views), return_exceptions=True
        )
        begun = [one for one in sent if isinstance(one, ChatView)]
        for one in begun:
            await talk.stop(ANN, str(one.writing))
        return begun, [one for one in sent if not isinstance(one, ChatView)]

    begun, refused = asyncio.run(scenario())
    assert (len(begun), len(refused)) == (most, most)
    assert all(isinstance(one, TooManyError) for one in refused)
    assert all("being written for you" in str(one) for one in refused)
    stored = [questions(opened(talk, view)) for view in views]
    assert sum(len(asked) == 2 for asked in stored) == most
    service.require_room(ANN, most)()


# Following


def test_a_reply_outlives_its_reader(talk: Talk, service: ChatService) -> None:
    async def scenario() -> Heard:
        asked = await ask(talk, "hello")
        assert await first_words(talk, asked)  # then the tab is closed
        assert talk.open(ANN, str(asked.conversation_id)).writing == asked.writing
        return await hear(talk, asked)

    view = asyncio.run(scenario()).view
    reply = service.store.messages(str(view.conversation_id))[-1]
    assert (reply.role, reply.finish_reason) == ("assistant", "length")


def test_two_readers_of_one_reply_get_the_same_text_and_a_late_one_gets_all(talk: Talk) -> None:
    async def scenario() -> list[Heard]:
        asked = await ask(talk, "hello")
        early = [asyncio.create_task(hear(talk, asked)) for _ in range(2)]
        assert await first_words(talk, asked)
        return [await hear(talk, asked), *[await one for one in early]]

    late, *early = asyncio.run(scenario())
    assert late.texts["a"]
    for one in (late, *early):
        assert (one.texts, one.view) == ({"a": late.view.messages[-1].content}, late.view)


def test_who_comes_after_the_reply_gets_the_conversation(talk: Talk) -> None:
    asked, heard = exchange(talk, "hello")
    after = asyncio.run(hear(talk, asked))
    assert (after.view, after.texts, after.problem) == (heard.view, {}, "")


def test_a_follower_of_another_rater_gets_nothing(talk: Talk, service: ChatService) -> None:
    service.visitor(BOB)

    async def scenario() -> None:
        asked = await ask(talk, "my secret")
        for known in (True, False):  # while it is written, and after it
            with pytest.raises(NotFoundError):
                await hear(talk, asked, rater=BOB)
            if known:
                await hear(talk, asked)

    asyncio.run(scenario())


def test_a_page_that_is_opened_while_two_replies_or_another_try_are_written_finds_them(
    talk: Talk, votes: Votes
) -> None:
    view = say(talk, "two", say(talk, "one"))

    async def scenario() -> ChatView:
        asked = await ask(talk, "three", view)
        assert asked.two
        assert opened(talk, view) == asked
        pair = (await hear(talk, asked)).view
        assert pair.pair is not None
        assert {"a": pair.pair.a.content, "b": pair.pair.b.content}.keys() == {"a", "b"}
        asked = await talk.again(ANN, view.messages[-1].id)
        found = opened(talk, view)
        assert found == asked and found.writing == view.messages[-2].id
        assert opened(talk, view, through=str(pair.newest)).writing is None
        return (await hear(talk, asked)).view

    assert [m.id for m in asyncio.run(scenario()).messages[:3]] == [m.id for m in view.messages[:3]]


@pytest.mark.usefixtures("votes")
def test_two_replies_come_by_label_and_wait_for_a_choice(talk: Talk) -> None:
    view = say(talk, "two", say(talk, "one"))
    asked, heard = exchange(talk, "three", view)
    assert asked.two and not heard.problem
    pair = heard.view.pair
    assert pair is not None
    assert heard.texts == {"a": pair.a.content, "b": pair.b.content}
    assert roles(heard.view) == ["user", "assistant"] * 2 + ["user"]
    assert "policy" not in repr(heard.view), "nobody sees which adapter wrote what"
    assert opened(talk, view) == heard.view


def test_without_consent_there_is_nothing_to_choose(talk: Talk) -> None:
    view = say(talk, "one")
    for text in ("two", "three"):
        view = say(talk, text, view)
    assert view.pair is None and len(view.messages) == 6


# Stopping


def test_a_stopped_reply_is_stored_and_takes_no_vote(
    service: ChatService, talk: Talk, votes: Votes
) -> None:
    long_replies(service)

    async def scenario() -> tuple[str, Heard]:
        asked = await ask(talk, "hello")
        said = await first_words(talk, asked)
        await talk.stop(BOB, str(asked.writing))
        assert opened(talk, asked).writing, "another rater stops nothing"
        await talk.stop(ANN, str(asked.writing))
        assert opened(talk, asked).writing is None
        await talk.stop(ANN, str(asked.writing))  # once more changes nothing
        return said, await hear(talk, asked)

    said, heard = asyncio.run(scenario())
    last = heard.view.messages[-1]
    assert (last.role, last.finish_reason) == ("assistant", "cancelled") and not heard.problem
    assert last.content.startswith(said)
    with pytest.raises(RefusedError, match="cut off"):
        votes.thumb(ANN, last.id, 1)
    assert service.store.thumbs() == []


def test_a_stop_before_the_first_word_leaves_the_question_and_gives_its_room_back(
    talk: Talk, service: ChatService
) -> None:
    async def scenario() -> Heard:
        asked = await ask(talk, "hello")
        follower = asyncio.create_task(hear(talk, asked))
        await talk.stop(ANN, str(asked.writing))
        return await follower

    most = service.settings.rates.replies_at_once
    heard = asyncio.run(scenario())
    assert heard.view.writing is None and roles(heard.view)[0] == "user"
    service.require_room(ANN, most)()
    assert roles(again(talk, heard.view.messages[0].id)) == ["user", "assistant"]


def test_a_server_that_stops_stores_what_is_written(talk: Talk, service: ChatService) -> None:
    views = [say(talk, text) for text in ("one", "two")]
    long_replies(service)

    async def scenario() -> list[Heard]:
        asked = [await ask(talk, "go on", view) for view in views]
        followers = [asyncio.create_task(hear(talk, one)) for one in asked]
        for one in asked:
            assert await first_words(talk, one)
        await talk.close()
        ends = [service.store.messages(str(one.conversation_id))[-1] for one in asked]
        assert [end.finish_reason for end in ends] == ["cancelled"] * 2
        return [await one for one in followers]

    for heard in asyncio.run(scenario()):
        assert heard.view.messages[-1].content.startswith(heard.texts["a"]) and heard.texts["a"]


# What goes wrong


def test_a_store_that_fails_for_a_moment_locks_no_conversation(
    talk: Talk, service: ChatService, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> Any:
        raise StoreUnavailableError("the database is locked; try again")

    view = say(talk, "hello")

    async def send() -> ChatView:
        return await ask(talk, "and now", view)

    async def retry() -> ChatView:
        return await talk.again(ANN, view.messages[-1].id)

    fails = [("rater", send), ("conversation_view", send), ("conversation_view", retry)]
    for name, act in fails:
        with monkeypatch.context() as failing:
            failing.setattr(service.store, name, fail)
            with pytest.raises(StoreUnavailableError):
                ran(act)
    assert service.store.counts()["messages"] == 2
    assert len(say(talk, "once more", view).messages) == 4


def test_a_conversation_that_cannot_be_read_once_its_message_is_stored_is_answered_all_the_same(
    talk: Talk, service: ChatService, monkeypatch: pytest.MonkeyPatch
) -> None:
    view, read = say(talk, "hello"), service.store.conversation_view
    tries: list[None] = []

    def fail_second(*args: Any, **named: Any) -> ConversationView:
        tries.append(None)
        if len(tries) == 2:
            raise StoreUnavailableError("the database is locked; try again")
        return read(*args, **named)

    monkeypatch.setattr(service.store, "conversation_view", fail_second)
    asked, heard = exchange(talk, "and now", view)
    assert questions(asked) == ["hello", "and now"] and asked.newest == asked.writing
    assert asked.conversation_id == view.conversation_id
    assert not heard.problem and len(heard.view.messages) == 4


def test_what_can_be_refused_before_a_reply_begins_locks_no_conversation(
    talk: Talk, service: ChatService
) -> None:
    view = say(talk, "hello")
    service.ready = False
    for act in (
        lambda: ask(talk, "and now", view),
        lambda: talk.again(ANN, view.messages[-1].id),
        lambda: talk.edit(ANN, view.messages[0].id, "hallo"),
    ):
        with pytest.raises(BusyError, match="still being loaded"):
            ran(act)
    service.ready = True
    assert opened(talk, view) == view
    assert len(again(talk, view.messages[-1].id).messages) == 2
    service.require_room(ANN, service.settings.rates.replies_at_once)()


def test_a_reply_that_fails_at_once_says_why_to_a_page_that_asks_a_little_late(
    talk: Talk, service: ChatService
) -> None:
    view = say(talk, "hello")
    [asked] = [m for m in service.store.messages(str(view.conversation_id)) if m.role == "user"]
    long = service.store.add_message(
        asked.conversation_id, "user", "too long " * 80, parent_id=view.messages[-1].id
    )

    async def scenario() -> Heard:
        begun = await talk.again(ANN, long.id)
        await asyncio.sleep(0.5)  # it has failed by now
        assert opened(talk, view).writing is None
        return await hear(talk, begun)

    heard = asyncio.run(scenario())
    assert "does not fit the model" in heard.problem
    assert roles(heard.view) == ["user", "assistant", "user"]


@pytest.mark.parametrize("late", [0.0, 1.0])
@pytest.mark.parametrize("known", [True, False])
def test_over_a_full_disk_the_page_answers_and_says_that_nothing_is_kept(
    talk: Talk, service: ChatService, known: bool, late: float
) -> None:
    rater, shown = (ANN, say(talk, "hello")) if known else (BOB, ChatView())

    async def scenario() -> tuple[ChatView, Heard]:
        asked = await ask(talk, "how are you", shown, rater=rater)
        await asyncio.sleep(late)
        return asked, await hear(talk, asked, rater=rater)

    with full_disk(os.getpid()):
        asked, lost = asyncio.run(scenario())
    assert [m.content for m in asked.messages[-1:]] == ["how are you"]
    assert len(asked.messages) == len(shown.messages) + 1, "what was said before is there"
    assert lost.texts["a"] and "could not be stored" in lost.problem
    assert lost.pieces[-1].view is None, "the page keeps what it shows"
    assert last_id(asked) == last_id(shown), "the next message follows what is stored"
    later = say(talk, "and now", asked, rater=rater)
    assert len(later.messages) == len(shown.messages) + 2


def test_an_edit_over_a_full_disk_shows_its_own_branch(talk: Talk) -> None:
    first = say(talk, "q1")
    say(talk, "q2", first)

    async def scenario() -> tuple[ChatView, Heard]:
        asked = await talk.edit(ANN, first.messages[0].id, "q1 edited")
        return asked, await hear(talk, asked)

    with full_disk(os.getpid()):
        asked, lost = asyncio.run(scenario())
    assert questions(asked) == ["q1 edited"]
    assert "could not be stored" in lost.problem


def test_a_rater_cannot_reach_another_raters_conversation(talk: Talk, service: ChatService) -> None:
    view = say(talk, "secret plans")
    question, reply = (message.id for message in view.messages)
    service.visitor(BOB)
    conversation_id = str(view.conversation_id)

    async def tries(rater: str) -> None:
        with pytest.raises(NotFoundError):
            talk.open(rater, conversation_id)
        with pytest.raises(NotFoundError):
            talk.open(rater, conversation_id, through=reply)
        with pytest.raises(NotFoundError):
            talk.newest(rater, conversation_id)
        with pytest.raises(NotFoundError):
            await talk.again(rater, reply)
        with pytest.raises(NotFoundError):
            await talk.edit(rater, question, "mine")

    for rater in (BOB, "browser-new"):
        asyncio.run(tries(rater))
    with pytest.raises(NotFoundError):
        say(talk, "and?", view, rater=BOB)
    assert service.store.counts()["messages"] == 2


def test_a_closed_store_begins_nothing(talk: Talk, service: ChatService) -> None:
    view = say(talk, "hello")
    service.store.close()
    with pytest.raises(FeedbackStoreError):
        opened(talk, view)
    for act in (
        lambda: ask(talk, "and?", view),
        lambda: talk.again(ANN, view.messages[-1].id),
        lambda: talk.edit(ANN, view.messages[0].id, "x"),
    ):
        with pytest.raises(FeedbackStoreError):
            ran(act)
