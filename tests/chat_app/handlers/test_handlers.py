"""What the pages' events do: on a real store, the real service and a tiny real model."""

import asyncio
import inspect
import json
import math
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import fastapi
import pytest
from fastapi.testclient import TestClient

from chat_app.api.operator_door import TRIES, OperatorDoor
from chat_app.cycles.scheduler import CycleProcess
from chat_app.engine.local import LocalEngine
from chat_app.errors import ChatAppError, NotAllowedError, RefusedError, TooManyError
from chat_app.handlers.operator import Operator
from chat_app.handlers.receipts import receipts_of
from chat_app.handlers.report import parse_report, read_report
from chat_app.handlers.talk import UPDATE_S, Talk, Views
from chat_app.handlers.views import ChatView
from chat_app.handlers.votes import Votes
from chat_app.identity import Identity
from chat_app.pages.chat_parts import Turns
from chat_app.pages.login import add_login
from chat_app.pages.plots import score_plot, training_plot, win_plot
from chat_app.service.chat import ChatService
from chat_app.service.voting import COMMENT_CHARS
from chat_app.settings import EngineSettings, Settings
from feedback_store.errors import StoreUnavailableError
from feedback_store.records import Conversation
from feedback_store.store import FeedbackStore
from rlhf_core.model.loading import load_base
from tests.chat_app.serving import full_disk

ANN, BOB = "browser-ann", "browser-bob"


@pytest.fixture(scope="module")
def engine(tiny_model: Path) -> Iterator[LocalEngine]:
    engine = LocalEngine(
        lambda: load_base(str(tiny_model), quantization="none", device="cpu"),
        EngineSettings(rows=8, waiting=8, updates_per_second=1000),
        key=None,
        reply_seconds=60.0,
    )
    while not engine.health()["ready"]:
        time.sleep(0.01)
    yield engine
    engine.close()


@pytest.fixture
def service(engine: LocalEngine, tmp_path: Path) -> Iterator[ChatService]:
    settings = Settings.model_validate({"data": tmp_path, "reply": {"tokens": 12}})
    with FeedbackStore(settings.database) as store:
        cycles = CycleProcess(store, settings)
        service = ChatService(store, engine, settings, cycles=cycles)
        service.ready = True
        yield service


@pytest.fixture
def talk(service: ChatService) -> Talk:
    talk = Talk(service)
    talk.opened(ANN)
    return talk


@pytest.fixture
def votes(service: ChatService) -> Votes:
    votes = Votes(service)
    votes.consent(ANN, given=True)
    return votes


def watch(views: Views) -> list[ChatView]:
    async def scenario() -> list[ChatView]:
        return [view async for view in views]

    return asyncio.run(scenario())


def say(talk: Talk, text: str, after: ChatView | None = None) -> ChatView:
    last_id = after.last_id if after else None
    return watch(talk.send(ANN, text, last_id=last_id, tab="t"))[-1]


def side_by_side(talk: Talk) -> ChatView:
    """Talk until two replies wait for a choice."""
    view = say(talk, "one")
    for text in ("two", "three"):
        view = say(talk, text, view)
    assert view.pair is not None
    return view


# Talking


def test_a_reply_streams_after_the_question_and_is_stored(talk: Talk) -> None:
    first, *writing, last = watch(talk.send(ANN, "hello", last_id=None, tab="t"))
    assert [(m.role, m.content) for m in first.messages] == [("user", "hello")]
    assert (first.busy, first.draft, first.conversations) == (
        True,
        "",
        (("hello", first.conversation_id),),
    )
    assert writing and all(view.messages[-1].role == "assistant" for view in writing)
    assert [m.role for m in last.messages] == ["user", "assistant"] and not last.busy
    assert talk.opened(ANN).messages == last.messages


def test_a_stream_updates_at_most_ten_times_a_second(talk: Talk, service: ChatService) -> None:
    started = time.monotonic()
    views = watch(talk.send(ANN, "hello", last_id=None, tab="t"))
    pieces = len(service.store.messages(str(views[-1].conversation_id))[-1].content)
    assert pieces > 5
    assert len(views) <= 3 + (time.monotonic() - started) / UPDATE_S


@pytest.mark.parametrize("text", ["", "   ", "x" * 8_001])
def test_an_unusable_message_comes_back_and_is_not_stored(
    talk: Talk, service: ChatService, text: str
) -> None:
    (view,) = watch(talk.send(ANN, text, last_id=None, tab="t"))
    assert view.problem and view.draft == (text if len(text) <= 8_000 else None)
    assert service.store.counts()["messages"] == 0


def test_a_message_that_the_model_cannot_read_leaves_the_chat_as_it_was(
    talk: Talk, service: ChatService
) -> None:
    before, long = say(talk, "hello"), "too long " * 80
    sent = say(talk, long, before)
    (edited,) = watch(talk.edit(ANN, before.messages[0].id, long, tab="t"))
    for view in (sent, edited):
        assert "does not fit the model" in view.problem and view.note == ""
        assert view.messages == before.messages
    assert sent.draft == long
    assert service.store.counts()["messages"] == 2
    assert talk.opened(ANN).messages == before.messages


def test_a_stopped_reply_is_stored_and_takes_no_vote(
    service: ChatService, talk: Talk, votes: Votes
) -> None:
    async def scenario() -> ChatView:
        async for view in talk.send(ANN, "hello", last_id=None, tab="t"):
            await talk.stop(BOB, tab="t")
            if view.messages[-1].role == "assistant":
                await talk.stop(ANN, tab="t")
        return view

    long = service.settings.reply.model_copy(update={"tokens": 400})
    service.settings = service.settings.model_copy(update={"reply": long})
    last = asyncio.run(scenario()).messages[-1]
    assert (last.role, last.finish_reason) == ("assistant", "cancelled")
    view, panel = votes.thumb(ANN, last.id, 1)
    assert "cut off" in view.problem and panel is None
    assert service.store.thumbs() == []


def test_whoever_is_new_or_was_forgotten_meanwhile_gets_a_new_start(
    talk: Talk, service: ChatService
) -> None:
    before = say(talk, "my secret")
    service.store.forget(ANN)
    views = watch(talk.send("browser-new", "hello", last_id=before.last_id, tab="t"))
    assert views[-1].problem == "" and views[-1].messages[0].content == "hello"
    assert len(views[-1].messages) == 2
    assert service.consented("browser-new") is False


def test_a_text_that_is_too_long_is_not_sent_back(talk: Talk, service: ChatService) -> None:
    text = "x" * (service.settings.limits.message_chars + 1)
    (view,) = watch(talk.send(ANN, text, last_id=None, tab="t"))
    assert view.draft is None and "shorten it" in view.problem and len(view.problem) < 200


def test_a_store_that_fails_for_a_moment_does_not_lock_the_tab(
    talk: Talk, service: ChatService, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(rater_id: str) -> list[Conversation]:
        raise StoreUnavailableError("the database is locked; try again")

    with monkeypatch.context() as failing:
        failing.setattr(service.store, "conversations", fail)
        failed = watch(talk.send(ANN, "hello", last_id=None, tab="t"))[-1]
    assert "nothing was saved" in failed.problem and not failed.busy
    again = say(talk, "once more", failed)
    assert not again.problem and again.messages[-1].role == "assistant"


@pytest.mark.parametrize("known", [True, False])
def test_over_a_full_disk_the_page_answers_and_says_that_nothing_is_kept(
    talk: Talk, service: ChatService, known: bool
) -> None:
    rater, shown = (ANN, say(talk, "hello")) if known else (BOB, ChatView())
    with full_disk(os.getpid()):
        *_, lost = watch(talk.send(rater, "how are you", last_id=shown.last_id, tab="t"))
    said = [(message.role, message.content) for message in lost.messages]
    assert said[-2] == ("user", "how are you") and said[-1][0] == "assistant" and said[-1][1]
    assert len(said) == len(shown.messages) + 2, "what was said before is there"
    assert "could not be stored" in lost.problem and not lost.busy
    follows = Turns(Turns.written(lost.messages)).last_id  # what the page sends
    assert follows == lost.last_id == shown.last_id, "the next message follows what is stored"
    *_, later = watch(talk.send(rater, "and now", last_id=follows, tab="t"))
    assert not later.problem and len(later.messages) == len(shown.messages) + 2


def test_an_edit_over_a_full_disk_shows_its_own_branch(talk: Talk) -> None:
    first = say(talk, "q1")
    say(talk, "q2", first)
    with full_disk(os.getpid()):
        *_, lost = watch(talk.edit(ANN, first.messages[0].id, "q1 edited", tab="t"))
    assert [m.content for m in lost.messages if m.role == "user"] == ["q1 edited"]
    assert "could not be stored" in lost.problem


def test_tabs_that_send_together_store_no_message_that_is_refused(
    talk: Talk, service: ChatService
) -> None:
    most = service.settings.rates.replies_at_once

    async def send(tab: str) -> ChatView:
        return [view async for view in talk.send(ANN, "hello", last_id=None, tab=tab)][-1]

    async def scenario() -> list[ChatView]:
        return await asyncio.gather(*(send(f"tab {n}") for n in range(3 * most)))

    views = asyncio.run(scenario())
    refused = [view for view in views if "being written for you" in view.problem]
    assert len(refused) == 2 * most and all(view.draft == "hello" for view in refused)
    assert len(service.conversations(ANN)) == most
    service.require_room(ANN)()


def test_a_reply_goes_on_when_its_tab_shows_another_conversation(
    talk: Talk, service: ChatService
) -> None:
    async def scenario() -> list[ChatView]:
        views = []
        async for view in talk.send(ANN, "hello", last_id=None, tab="t"):
            views.append(view)
            assert talk.open(ANN, None, tab="t") == ChatView()
        return views

    (view,) = asyncio.run(scenario())
    reply = service.store.messages(str(view.conversation_id))[-1]
    assert (reply.role, reply.finish_reason) == ("assistant", "length")


def test_trying_again_makes_a_sibling_and_shows_it(talk: Talk, service: ChatService) -> None:
    view = say(talk, "hello")
    again = watch(talk.again(ANN, last_id=view.last_id, tab="t"))[-1]
    replies = service.store.messages(str(view.conversation_id))[1:]
    assert [m.parent_id for m in replies] == [view.messages[0].id] * 2
    assert [m.id for m in again.messages] == [view.messages[0].id, replies[-1].id]


def test_trying_again_is_noted_as_a_retry_of_the_reply_it_replaces(
    talk: Talk, service: ChatService
) -> None:
    first = say(talk, "hello")
    again = watch(talk.again(ANN, last_id=first.last_id, tab="t"))[-1]
    [retry] = [event for event in service.receipts(ANN) if event["event"] == "retry"]
    assert (retry["retry_of"], retry["message_id"]) == (first.last_id, again.last_id)


def test_an_edited_question_is_a_sibling_with_its_own_answer(
    talk: Talk, service: ChatService
) -> None:
    view = say(talk, "helo")
    edited = watch(talk.edit(ANN, view.messages[0].id, "hello", tab="t"))[-1]
    assert [m.content for m in edited.messages][:1] == ["hello"] and len(edited.messages) == 2
    assert edited.conversation_id == view.conversation_id
    assert len(service.store.messages(str(view.conversation_id))) == 4


def test_a_question_without_an_answer_is_replaced_by_the_next(
    talk: Talk, service: ChatService
) -> None:
    view = say(talk, "hello")
    unanswered = service.ask(ANN, "lost", parent_id=view.last_id)
    after = watch(talk.send(ANN, "next", last_id=unanswered.id, tab="t"))[-1]
    assert [m.content for m in after.messages if m.role == "user"] == ["hello", "next"]


def test_a_rater_cannot_reach_another_raters_conversation(
    talk: Talk, votes: Votes, service: ChatService
) -> None:
    view = say(talk, "secret plans")
    reply = view.messages[-1].id
    votes.consent(BOB, given=True)
    tries = [
        talk.open(BOB, view.conversation_id, tab="t"),
        watch(talk.send(BOB, "and?", last_id=reply, tab="t"))[-1],
        watch(talk.again(BOB, last_id=reply, tab="t"))[-1],
        watch(talk.edit(BOB, view.messages[0].id, "mine", tab="t"))[-1],
        votes.thumb(BOB, reply, 1)[0],
        votes.explain(BOB, reply, 1, tags=[], comment="x")[0],
        votes.rewrite(BOB, reply, "mine"),
    ]
    assert all(view.problem and not view.messages for view in tries)
    assert votes.panel(BOB, reply) is None
    assert service.store.counts()["messages"] == 2
    assert service.store.thumbs() == [] and service.store.demonstrations() == []


# Voting


def test_a_vote_needs_consent_and_says_so(talk: Talk, service: ChatService) -> None:
    view = say(talk, "hello")
    refused, panel = Votes(service).thumb(ANN, str(view.last_id), 1)
    assert "Nothing was saved" in refused.problem and panel is None
    assert refused.messages == view.messages and not refused.note
    assert service.store.thumbs() == []


def test_a_thumb_with_reasons_is_shown_again_later(
    talk: Talk, votes: Votes, service: ChatService
) -> None:
    reply = str(say(talk, "hello").last_id)
    view, panel = votes.thumb(ANN, reply, -1)
    assert panel is not None and panel.value == view.messages[-1].thumb == -1
    votes.explain(ANN, reply, -1, tags=["wrong", "rude"], comment=" no ")
    (thumb,) = service.store.thumbs()
    assert (thumb.value, thumb.tags, thumb.comment) == (-1, ("wrong", "rude"), "no")
    assert Talk(service).opened(ANN).messages[-1].thumb == -1
    reopened = votes.panel(ANN, reply)
    assert reopened is not None and reopened.tags == ("wrong", "rude")


def test_a_doubled_click_is_one_vote_and_keeps_the_reasons(
    talk: Talk, votes: Votes, service: ChatService
) -> None:
    reply = str(say(talk, "hello").last_id)
    votes.explain(ANN, reply, -1, tags=["wrong"], comment="")
    for _ in range(2):
        votes.thumb(ANN, reply, -1)
    (thumb,) = service.store.thumbs()
    assert thumb.tags == ("wrong",)
    assert len(service.receipts(ANN)) == 1


def test_a_withdrawn_thumb_is_no_thumb_down_and_can_be_given_again(
    talk: Talk, votes: Votes, service: ChatService
) -> None:
    reply = str(say(talk, "hello").last_id)
    votes.thumb(ANN, reply, 1)
    votes.consent(ANN, given=False)
    view, panel = votes.thumb(ANN, reply, 0)
    assert panel is None and view.messages[-1].thumb == 0 and service.store.thumbs() == []
    votes.consent(ANN, given=True)
    assert votes.thumb(ANN, reply, 1)[0].messages[-1].thumb == 1


@pytest.mark.parametrize(
    ("tags", "comment"), [(["made up"], ""), (["correct"], ""), ([], "x" * (COMMENT_CHARS + 1))]
)
def test_reasons_that_the_page_does_not_offer_are_refused(
    talk: Talk, votes: Votes, service: ChatService, tags: list[str], comment: str
) -> None:
    reply = str(say(talk, "hello").last_id)
    view, _ = votes.explain(ANN, reply, -1, tags=tags, comment=comment)
    assert view.problem and service.store.thumbs() == []


@pytest.mark.usefixtures("votes")
def test_every_third_turn_shows_two_blind_replies_that_wait_for_a_choice(talk: Talk) -> None:
    view = side_by_side(talk)
    assert [m.role for m in view.messages] == ["user", "assistant"] * 2 + ["user"]
    assert "policy" not in repr(view)
    assert talk.opened(ANN).pair == view.pair


def test_without_consent_there_is_nothing_to_choose(talk: Talk) -> None:
    view = say(talk, "one")
    for text in ("two", "three"):
        view = say(talk, text, view)
    assert view.pair is None and len(view.messages) == 6


@pytest.mark.parametrize(("choice", "follows"), [("b", "b"), ("tie", "a"), ("both_bad", "a")])
def test_the_conversation_goes_on_from_the_chosen_reply(
    talk: Talk, votes: Votes, service: ChatService, choice: str, follows: str
) -> None:
    pair = side_by_side(talk).pair
    assert pair is not None
    view = votes.choose(ANN, pair.id, choice)
    votes.choose(ANN, pair.id, choice)
    assert [c.choice for c in service.store.choices()] == [choice]
    assert len(service.receipts(ANN)) == 1
    reply = service.store.message(str(view.last_id))
    assert (reply.label, reply.candidates_id) == (follows, pair.id)
    assert ("goes on from A" in view.note) == (choice != "b") and "policy-000000" in view.note
    onward = say(talk, "four", view)
    assert [m.id for m in onward.messages[:6]] == [m.id for m in view.messages]


def test_a_better_answer_is_stored_once(talk: Talk, votes: Votes, service: ChatService) -> None:
    reply = str(say(talk, "capital of Italy?").last_id)
    for _ in range(2):
        view = votes.rewrite(ANN, reply, "Rome.")
    assert "Saved" in view.note and not view.problem
    (demonstration,) = service.store.demonstrations()
    assert (demonstration.content, demonstration.message_id) == ("Rome.", reply)
    for useless in (" ", view.messages[-1].content):
        assert votes.rewrite(ANN, reply, useless).problem
    assert len(service.store.demonstrations()) == 1


def test_the_last_better_answer_counts_even_if_it_equals_the_first(
    talk: Talk, votes: Votes, service: ChatService
) -> None:
    reply = str(say(talk, "capital of Italy?").last_id)
    for text in ("Rome.", "It is Rome.", "Rome."):
        assert "Saved" in votes.rewrite(ANN, reply, text).note
        assert [one.content for one in service.store.demonstrations()] == [text]
    assert len(service.receipts(ANN)) == 3


def test_a_failing_store_gives_no_thanks_and_loses_no_text(
    talk: Talk, votes: Votes, service: ChatService
) -> None:
    view = side_by_side(talk)
    reply = view.messages[1].id
    assert view.pair is not None
    service.store.close()
    (sent,) = watch(talk.send(ANN, "hello", last_id=reply, tab="t"))
    assert sent.draft == "hello"
    failed = [
        sent,
        talk.opened(ANN),
        votes.thumb(ANN, reply, 1)[0],
        votes.choose(ANN, view.pair.id, "a"),
        votes.rewrite(ANN, reply, "Rome."),
    ]
    assert all(view.problem and not view.note for view in failed)
    assert votes.consent(ANN, given=False)


def test_receipts_say_what_became_of_each_vote(
    talk: Talk, votes: Votes, service: ChatService
) -> None:
    assert receipts_of(service, ANN) == []
    pair = side_by_side(talk).pair
    assert pair is not None
    votes.choose(ANN, pair.id, "a")
    first = talk.opened(ANN).messages[1].id
    votes.thumb(ANN, first, -1)
    alone, waiting = receipts_of(service, ANN)
    assert alone.said == "Thumb down" and "opposite thumb" in alone.became
    assert waiting.said == "Side by side: A was better" and waiting.about == "three"
    service.store.refresh_comparisons()
    used = service.store.comparisons()
    cycle = service.store.start_cycle({}, pid=1)
    service.store.use_comparisons(cycle.id, [comparison.id for comparison in used])
    service.store.finish_cycle(cycle.id, state="rejected")
    became = receipts_of(service, ANN)[1].became
    assert became == "Trained the reward model of cycle 1, which made no new policy."


# Operating


@pytest.fixture
def door(tmp_path: Path) -> OperatorDoor:
    return OperatorDoor(Identity(tmp_path / "secrets", operator_token="right"))


def test_every_operation_is_refused_to_visitors(service: ChatService) -> None:
    operator = Operator(service)
    given = {"cycle_id": 1, "name": "policy-000000"}
    methods = [name for name in dir(Operator) if not name.startswith("_")]
    assert len(methods) == 9
    for name in methods:
        method = getattr(operator, name)
        needed = {key: given[key] for key in inspect.signature(method).parameters if key in given}
        with pytest.raises(NotAllowedError, match="operators only"):
            method(**needed, allowed=False)
    assert service.store.cycles() == [] and service.cycles.running() is None


def test_the_door_opens_for_the_token_and_its_cookie_only(
    door: OperatorDoor, tmp_path: Path
) -> None:
    name = Identity(tmp_path / "secrets").operator_cookie
    cookie = door.cookie("right", "here")
    assert door.is_open({}, {name: cookie})
    assert door.is_open({"authorization": "Bearer right"}, {})
    assert not door.is_open({}, {})
    assert not door.is_open({"authorization": "Bearer wrong"}, {name: cookie[:-1]})
    changed = OperatorDoor(Identity(tmp_path / "secrets", operator_token="new"))
    assert not changed.is_open({}, {name: cookie})
    with pytest.raises(NotAllowedError):
        door.cookie("wrong", "here")


def test_a_session_ends_when_the_operator_logs_out(door: OperatorDoor, tmp_path: Path) -> None:
    name = Identity(tmp_path / "secrets").operator_cookie
    one, other = door.cookie("right", "here"), door.cookie("right", "here")
    door.close({name: one})
    assert not door.is_open({}, {name: one}) and door.is_open({}, {name: other})


def test_an_address_with_too_many_wrong_tokens_waits_also_with_the_right_one(
    door: OperatorDoor,
) -> None:
    for _ in range(TRIES):
        with pytest.raises(NotAllowedError):
            door.require("wrong", "203.0.113.9")
    for token in ("wrong", "right"):
        with pytest.raises(TooManyError, match="wrong tokens from your address; try again in"):
            door.require(token, "203.0.113.9")
    assert not door.is_open({"authorization": "Bearer right"}, {}, "203.0.113.9")
    door.require("right", "203.0.113.10")


def test_a_household_of_ipv6_has_the_same_few_tries(door: OperatorDoor) -> None:
    for number in range(TRIES):
        with pytest.raises(NotAllowedError):
            door.require("wrong", f"2001:db8::{number}")
    with pytest.raises(TooManyError):
        door.require("wrong", "2001:db8::ffff")


def test_a_page_of_others_cannot_have_the_operator_wait(door: OperatorDoor, tmp_path: Path) -> None:
    app, name = fastapi.FastAPI(), Identity(tmp_path / "secrets").operator_cookie
    add_login(app, door, name)
    picture = {"sec-fetch-site": "cross-site", "sec-fetch-dest": "image"}
    with TestClient(app) as client:
        for _ in range(2 * TRIES):
            client.get("/operator?token=bad", headers=picture, follow_redirects=False)
        right = client.get("/operator?token=right", follow_redirects=False)
    assert right.headers["location"] == "/operator/"


def test_a_wrong_token_is_called_wrong_and_leaves_the_address(
    door: OperatorDoor, tmp_path: Path
) -> None:
    app, name = fastapi.FastAPI(), Identity(tmp_path / "secrets").operator_cookie
    add_login(app, door, name)
    with TestClient(app) as client:
        for answer in (
            client.get("/operator?token=bad"),
            client.post("/operator/login", data={"token": "bad"}),
        ):
            assert (
                answer.status_code == 403
                and "That is no token or key of an operator" in answer.text
            )
            assert 'name="token"' in answer.text and "bad" not in str(answer.url)
        assert "wrong" not in client.get("/operator/login").text
        right = client.get("/operator?token=right", follow_redirects=False)
        assert right.headers["location"] == "/operator/" and name in right.cookies
        out = client.post("/operator/logout", follow_redirects=False)
        assert not door.is_open({}, {name: right.cookies[name]})
        assert f'{name}=""' in out.headers["set-cookie"]
        for _ in range(TRIES):
            client.get("/operator?token=bad")
        late = client.get("/operator?token=right")
    assert late.status_code == 429 and "Try again in" in late.text and "right" not in str(late.url)


def test_the_operator_promotes_and_rolls_back(service: ChatService, tiny_adapters: Path) -> None:
    service.store.register_adapter("policy-000001", kind="policy", state="published")
    shutil.copytree(tiny_adapters, service.settings.adapters)
    operator = Operator(service)
    assert operator.overview(allowed=True).promotable == ("policy-000001",)
    assert "policy-000001 is served" in operator.promote("policy-000001", allowed=True)
    assert operator.overview(allowed=True).serving == "policy-000001"
    assert "policy-000000 is served" in operator.roll_back(allowed=True, by="key olga")
    assert service.store.serving().by == "key olga"
    with pytest.raises((ChatAppError, LookupError)):
        operator.promote("policy-000099", allowed=True)
    (service.settings.adapters / "policy-000001" / "manifest.json").unlink()
    with pytest.raises(ChatAppError, match="no manifest"):
        operator.promote("policy-000001", allowed=True)
    assert operator.overview(allowed=True).serving == "policy-000000"


def test_a_rollback_says_what_it_skipped(service: ChatService, tiny_adapters: Path) -> None:
    shutil.copytree(tiny_adapters, service.settings.adapters)
    operator = Operator(service)
    for name in ("policy-000001", "policy-000002"):
        service.store.register_adapter(name, kind="policy", state="published")
    for name in ("policy-000001", "policy-000002"):
        operator.promote(name, allowed=True)
    (service.settings.adapters / "policy-000001" / "notes.json").write_text("{}")
    said = operator.roll_back(allowed=True)
    assert said.startswith("Rolled back: policy-000000 is served now instead of policy-000002. ")
    assert "Skipped policy-000001: " in said and "notes.json" in said


def test_the_operator_serves_a_rejected_adapter_after_a_warning(
    service: ChatService, tiny_adapters: Path
) -> None:
    shutil.copytree(tiny_adapters, service.settings.adapters)
    operator, store = Operator(service), service.store
    store.start_cycle({}, pid=os.getpid())
    store.register_adapter("policy-000001", kind="policy", state="rejected", cycle_id=1)
    store.finish_cycle(1, state="rejected", reasons=("KL <b>",), adapter="policy-000001")
    overview = operator.overview(allowed=True)
    assert (overview.promotable, overview.rejected) == ((), ("policy-000001",))
    warning = operator.warning("policy-000001", allowed=True)
    assert warning == "adapter 'policy-000001' was rejected by cycle 1: KL <b>"
    assert operator.warning("policy-000000", allowed=True) is None
    with pytest.raises(NotAllowedError):
        operator.warning("policy-000001", allowed=False)
    with pytest.raises(NotAllowedError):
        operator.promote("policy-000001", allowed=False, force=True)
    with pytest.raises(RefusedError, match="rejected by cycle 1"):
        operator.promote("policy-000001", allowed=True)
    assert operator.overview(allowed=True).serving == "policy-000000"
    assert "policy-000001 is served" in operator.promote("policy-000001", allowed=True, force=True)
    assert operator.overview(allowed=True).rejected == ()
    assert "policy-000000 is served" in operator.roll_back(allowed=True)


def test_only_an_operator_cancels_and_the_audit_log_says_who(service: ChatService) -> None:
    operator, store = Operator(service), service.store
    store.start_cycle({}, pid=os.getpid())
    with pytest.raises(NotAllowedError):
        operator.cancel_cycle(allowed=False)
    assert operator.overview(allowed=True).busy
    assert "Cycle 1 is cancelled" in operator.cancel_cycle(allowed=True, by="key olga")
    overview = operator.overview(allowed=True)
    assert not overview.busy and overview.running is None
    assert (overview.cycles[0].state, overview.cycles[0].reasons) == ("cancelled", ("by key olga",))
    with pytest.raises(RefusedError, match="no cycle is running"):
        operator.cancel_cycle(allowed=True)


def test_a_fresh_service_says_what_a_first_cycle_needs(service: ChatService) -> None:
    overview = Operator(service).overview(allowed=True)
    assert overview.cycles == () and overview.needed == 80
    assert overview.before_the_first.startswith("No cycle has run yet. Comparisons so far: 0;")
    assert "needs 80" in overview.before_the_first


def test_a_killed_cycle_is_not_shown_as_running(service: ChatService) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    service.store.start_cycle({}, pid=dead.pid)
    overview = Operator(service).overview(allowed=True)
    assert overview.cycles[0].state == "failed"
    assert not overview.busy and overview.running is None


def test_a_report_is_read_as_far_as_it_is_well_formed(tmp_path: Path) -> None:
    assert read_report(tmp_path, 1) is None
    directory = tmp_path / "cycles" / "000001"
    directory.mkdir(parents=True)
    for broken in ("", "[1]", "{"):
        (directory / "report.json").write_text(broken)
        assert read_report(tmp_path, 1) is None
    content = {
        "metrics": {"win_rate": 0.8, "note": "x"},
        "checks": [{"name": "kl", "value": 1, "passed": "yes"}, 3],
        "plots": {"scores_served": [1, math.nan, "x"]},
        "alarms": [{"kind": "kl", "text": "the KL is large", "value": 0.9}, "x"],
    }
    (directory / "report.json").write_text(json.dumps(content))
    report = read_report(tmp_path, 1)
    assert report is not None and report.metrics == {"win_rate": 0.8}
    assert report.alarms == ("the KL is large",)
    (check,) = report.checks
    assert (check.name, check.value, check.limit, check.passed) == ("kl", 1.0, None, False)
    assert report.scores_served[0] == 1.0 and len(report.scores_served) == 2


def test_plots_draw_the_numbers_and_work_without_them() -> None:
    empty = parse_report({})
    for plot in (score_plot, win_plot, training_plot):
        assert plot(empty).axes[0].texts[0].get_text() == "no numbers in this report"
    report = parse_report(
        {
            "metrics": {"win_rate": 0.8, "win_rate_low": 0.7, "win_rate_high": 0.9},
            "plots": {
                "scores_served": [0.0, 0.0, 1.0, math.nan],
                "scores_candidate": [1.0, 2.0],
                "kl_per_iteration": [0.1, 0.2, 0.4],
                "score_per_iteration": [0.0, 1.0],
            },
        }
    )
    bars = score_plot(report).axes[0].patches
    assert sum(bar.get_height() for bar in bars) == 3 + 2
    assert [float(x) for x in training_plot(report).axes[0].lines[0].get_ydata()] == [0.1, 0.2, 0.4]
    assert win_plot(report).axes[0].texts[0].get_text() == "80%"
