"""What the page Compare does: a real store, the real service, a tiny model or a scripted engine."""

import asyncio
import json
import os
import random
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chat_app.cycles.scheduler import CycleProcess
from chat_app.engine.local import LocalEngine
from chat_app.errors import InvalidRequestError, NotFoundError, RefusedError
from chat_app.handlers.compare import Compare
from chat_app.handlers.compare_views import BlindReplies, Written
from chat_app.handlers.my_votes import MyVotes
from chat_app.handlers.suggestions import GENERAL, suggested
from chat_app.service.chat import ChatService
from chat_app.service.erasure import VISITOR, erase_rater
from chat_app.settings import EngineSettings, Settings
from feedback_store.errors import StoreUnavailableError
from feedback_store.records import BASE_ADAPTER, StoredComparison
from feedback_store.store import FeedbackStore
from rlhf_core.model.loading import load_base
from rlhf_core.worlds.starter.facts import facts
from tests.chat_app.fakes import FakeEngine, fake_service
from tests.chat_app.service.test_prepared import SlowEngine
from tests.chat_app.serving import full_disk

ANN, BOB = "browser-ann", "browser-bob"
ONE = "policy-000001"
GOLD = {"prompt": "Capital of Italy?", "better": "It is Rome.", "worse": "Go away."}


@pytest.fixture(scope="module")
def tiny_engine(tiny_model: Path) -> Iterator[LocalEngine]:
    engine = LocalEngine(
        lambda: load_base(str(tiny_model), quantization="none", device="cpu"),
        EngineSettings(rows=9, waiting=9),
        key=None,
    )
    while not engine.health()["ready"]:
        time.sleep(0.01)
    yield engine
    engine.close()


@pytest.fixture
def real(tiny_engine: LocalEngine, tmp_path: Path) -> Iterator[ChatService]:
    """A service on the tiny model; its replies practically never say the same."""
    settings = Settings.model_validate({"data": tmp_path, "reply": {"tokens": 12}})
    with FeedbackStore(settings.database) as store:
        service = ChatService(store, tiny_engine, settings, cycles=CycleProcess(store, settings))
        service.ready = True
        yield service


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


@pytest.fixture
def service(engine: FakeEngine, tmp_path: Path) -> Iterator[ChatService]:
    """A service on an engine that says what a test wants."""
    gold = tmp_path / "gold.jsonl"
    gold.write_text(json.dumps(GOLD) + "\n", encoding="utf-8")
    options = {"gold_items": gold, "gold_every": 2, "model": "elsewhere/model"}
    with FeedbackStore(tmp_path / "feedback.db") as store:
        yield fake_service(store, engine, tmp_path, **options)


async def finished(compare: Compare, rater: str = ANN) -> Written:
    """Follow the replies to their end, as the page does."""
    seen = 0
    while (found := await compare.follow(rater, seen)).writing is not None:
        seen = found.writing.done
    return found


async def prepared(compare: Compare, rater: str = ANN) -> None:
    """Wait until the next question has its replies."""
    found = compare._ahead._next[rater]
    async with asyncio.timeout(10):
        while not found.found:
            await asyncio.sleep(0.01)


def written(
    compare: Compare, text: str = "hello", n: int = 2, opponent: str | None = None
) -> Written:
    async def scenario() -> Written:
        await compare.ask(ANN, text, n, opponent)
        return await finished(compare)

    return asyncio.run(scenario())


def shown(compare: Compare, engine: FakeEngine, *texts: str, **asked: Any) -> BlindReplies:
    """Blind replies with these texts."""
    engine.says = list(texts)
    found = written(compare, n=len(texts), **asked).shown
    assert found is not None
    return found


def comparisons(service: ChatService) -> list[StoredComparison]:
    service.store.refresh_comparisons()
    return service.store.comparisons()


# Asking


def test_nine_blind_replies_come_from_a_real_model_and_can_be_ranked(real: ChatService) -> None:
    compare = Compare(real)
    found = written(compare, "tell me something", n=9).shown
    assert found is not None and found.prompt == (("user", "tell me something"),)
    labels = [reply.label for reply in found.replies]
    assert labels == list("abcdefghi")[: len(labels)] and len(labels) > 2
    order = [[label] for label in reversed(labels)]
    told = compare.rank(ANN, found.id, order, agree=True)
    assert told.saved and [author.label for author in told.authors] == labels
    [ranking] = real.receipts(ANN)
    assert ranking["event"] == "ranking"


def test_nothing_tells_who_wrote_a_reply_before_it_is_judged(
    service: ChatService, engine: FakeEngine
) -> None:
    service.adapter, service.opponents = ONE, (BASE_ADAPTER,)
    compare = Compare(service)
    found = shown(compare, engine, "x", "y", opponent=BASE_ADAPTER)
    assert "policy" not in repr(found) and ONE not in repr(compare.opened(ANN).shown)
    told = compare.choose(ANN, found.id, "a", agree=True)
    assert {author.version for author in told.authors} == {ONE, 1}  # ONE was never served


@pytest.mark.parametrize(("text", "n"), [("", 2), ("  ", 2), ("x" * 8_001, 2), ("a", 1), ("a", 10)])
def test_a_prompt_that_cannot_be_asked_is_refused_and_not_stored(
    service: ChatService, text: str, n: int
) -> None:
    compare = Compare(service)
    with pytest.raises(InvalidRequestError):
        asyncio.run(compare.ask(ANN, text, n, None))
    assert service.store.counts()["messages"] == 0
    assert compare.opened(ANN).writing is None


def test_no_more_replies_are_offered_than_the_engine_decodes_together(
    service: ChatService, engine: FakeEngine, tmp_path: Path
) -> None:
    assert Compare(service).most == 9
    small = fake_service(service.store, engine, tmp_path, engine={"rows": 3})
    assert Compare(small).most == 3


def test_replies_are_stored_and_shown_again_though_the_tab_was_closed(
    service: ChatService, engine: FakeEngine
) -> None:
    compare = Compare(service)
    engine.says = ["x", "y"]

    async def scenario() -> None:
        await compare.ask(ANN, "hello", 2, None)
        while compare.opened(ANN).writing is not None:
            await asyncio.sleep(0.01)

    asyncio.run(scenario())
    for reader in (compare, Compare(service)):  # the second one after a restart
        found = reader.opened(ANN).shown
        assert found is not None and {reply.content for reply in found.replies} == {"x", "y"}
    assert Compare(service).opened(BOB).shown is None


def test_a_second_prompt_waits_for_the_first_one_which_can_be_stopped(
    service: ChatService, engine: FakeEngine
) -> None:
    compare = Compare(service)
    engine.waits = True

    async def scenario() -> None:
        await compare.ask(ANN, "hello", 2, None)
        with pytest.raises(RefusedError, match="still being written"):
            await compare.ask(ANN, "again", 2, None)
        await compare.stop(ANN)
        assert await compare.follow(ANN, 0) == Written()
        engine.waits, engine.says = False, ["x", "y"]
        await compare.ask(ANN, "again", 2, None)
        assert (await finished(compare)).shown is not None

    asyncio.run(scenario())


def test_replies_that_are_stopped_before_they_begin_leave_their_room(service: ChatService) -> None:
    compare = Compare(service)

    async def scenario() -> None:
        for _ in range(20):  # far more than there is room for
            await compare.ask(ANN, "hello", 2, None)
            await compare.stop(ANN)  # at once, so the task has not begun

    asyncio.run(scenario())


def test_how_many_replies_have_ended_is_told_meanwhile(
    service: ChatService, engine: FakeEngine
) -> None:
    compare = Compare(service)
    engine.waits, engine.says = True, ["x"]  # the other two never end

    async def scenario() -> None:
        asked = (await compare.ask(ANN, "hello", 3, None)).writing
        assert asked is not None and (asked.done, asked.n) == (0, 3)
        found = await compare.follow(ANN, 0)
        assert found.writing is not None and found.writing.done == 1
        assert compare.opened(ANN).writing == found.writing
        await compare.stop(ANN)

    asyncio.run(scenario())


def test_a_failure_is_told_once_and_the_next_prompt_goes_on(
    service: ChatService, engine: FakeEngine
) -> None:
    compare = Compare(service)

    def fail() -> None:
        raise InvalidRequestError("the prompt does not fit")

    engine.starts = fail
    with pytest.raises(InvalidRequestError, match="does not fit"):
        written(compare)
    engine.starts = lambda: None
    assert shown(compare, engine, "x", "y")


def test_replies_that_all_say_the_same_are_no_comparison(service: ChatService) -> None:
    found = written(Compare(service), n=3)
    assert (found.shown, found.alike) == (None, "one two")


def test_what_is_asked_here_is_not_in_the_list_of_the_chat(
    service: ChatService, engine: FakeEngine
) -> None:
    shown(Compare(service), engine, "x", "y", text="only here")
    assert service.conversations(ANN) == []
    assert [c.title for c in service.conversations(ANN, page="compare")] == ["only here"]


# Opponents


@pytest.mark.parametrize("n", [2, 5])
def test_half_of_the_replies_come_from_the_opponent_at_places_by_lot(
    service: ChatService, engine: FakeEngine, n: int
) -> None:
    service.adapter, service.opponents = ONE, (BASE_ADAPTER,)
    compare, sides = Compare(service), Counter[tuple[str | None, ...]]()
    for turn in range(20):
        texts = [f"{turn} {place}" for place in range(n)]
        found = shown(compare, engine, *texts, opponent=BASE_ADAPTER)
        wrote = [message.adapter for message in service.store.candidates(found.id)]
        assert wrote.count(ONE) in (n // 2, n - n // 2)
        sides[tuple(wrote)] += 1
        compare.skip(ANN, found.id)
    assert len(sides) > 1


def test_an_opponent_that_the_operator_does_not_allow_is_refused(service: ChatService) -> None:
    with pytest.raises(InvalidRequestError, match="opponent"):
        asyncio.run(Compare(service).ask(ANN, "hello", 2, ONE))


def test_votes_between_adapters_are_comparisons_and_belong_to_no_trial(
    service: ChatService, engine: FakeEngine
) -> None:
    service.store.register_adapter(ONE, kind="policy", state="published")
    service.store.start_trial("canary", ONE, BASE_ADAPTER, by="operator")
    service.trial, service.opponents = service.store.open_trial(), (ONE,)
    assert service.trial is not None
    found = shown(compare := Compare(service), engine, "x", "y", opponent=ONE)
    compare.choose(ANN, found.id, "a", agree=True)
    [comparison] = comparisons(service)
    assert {comparison.adapter_a, comparison.adapter_b} == {ONE, BASE_ADAPTER}
    assert service.store.trial_choices(service.trial.id) == []


# Judging


def test_a_vote_without_consent_is_stored_once_the_person_agrees(
    service: ChatService, engine: FakeEngine
) -> None:
    compare = Compare(service)
    found = shown(compare, engine, "x", "y")
    told = compare.choose(ANN, found.id, "b", strength=3.0, seconds=4.5)
    assert (told.saved, told.authors) == (False, ()) and service.store.choices() == []
    assert compare.choose(ANN, found.id, "b", strength=3.0, seconds=4.5, agree=True).saved
    [choice] = service.store.choices()
    assert (choice.choice, choice.strength, choice.seconds) == ("b", 3.0, 4.5)
    assert service.consented(ANN)


def test_a_judgement_does_not_change_once_the_authors_are_known(
    service: ChatService, engine: FakeEngine
) -> None:
    compare = Compare(service)
    found = shown(compare, engine, "x", "y")
    compare.choose(ANN, found.id, "a", agree=True)
    again = compare.choose(ANN, found.id, "b")
    assert again.earlier and again.authors
    assert [choice.choice for choice in service.store.choices()] == ["a"]


def test_replies_whose_judgement_was_taken_back_are_not_judged_anew(
    service: ChatService, engine: FakeEngine
) -> None:
    compare = Compare(service)
    found = shown(compare, engine, "x", "y")
    compare.choose(ANN, found.id, "a", agree=True)
    [choice] = service.store.choices()
    service.withdraw(ANN, "choice", choice.id)
    assert compare.opened(ANN).shown is None
    again = compare.choose(ANN, found.id, "b")
    assert again.earlier and not again.vote
    assert service.store.choices() == []


@pytest.mark.parametrize("n", [2, 3])
def test_a_judgement_is_taken_back_by_its_id_and_given_again(
    service: ChatService, engine: FakeEngine, n: int
) -> None:
    compare, mine = Compare(service), MyVotes(service)
    found = shown(compare, engine, *"xyz"[:n])
    if n == 2:
        told, kind = compare.choose(ANN, found.id, "a", agree=True), "choice"
    else:
        told, kind = compare.rank(ANN, found.id, [["b"], ["a", "c"]], agree=True), "ranking"
    before = comparisons(service)
    mine.undo(ANN, kind, told.vote)
    assert comparisons(service) == [] and mine.found(ANN).given == 0
    mine.redo(ANN, kind, told.vote)
    assert comparisons(service) == before != []


def test_a_ranking_with_ties_becomes_all_its_pairs(
    service: ChatService, engine: FakeEngine
) -> None:
    compare = Compare(service)
    found = shown(compare, engine, "x", "y", "z")
    compare.rank(ANN, found.id, [["b"], ["a", "c"]], agree=True)
    texts = {reply.label: reply.content for reply in found.replies}
    pairs = {(c.response_a, c.response_b): c.label for c in comparisons(service)}
    assert pairs == {
        (texts["a"], texts["b"]): "b",
        (texts["a"], texts["c"]): "tie",
        (texts["b"], texts["c"]): "a",
    }


@pytest.mark.parametrize("strength", [0.0, 1.5, 4.0, float("nan")])
def test_a_strength_is_one_of_three(
    service: ChatService, engine: FakeEngine, strength: float
) -> None:
    found = shown(compare := Compare(service), engine, "x", "y")
    with pytest.raises(InvalidRequestError, match="strength"):
        compare.choose(ANN, found.id, "a", strength=strength, agree=True)
    assert service.store.choices() == []


@pytest.mark.parametrize("choice", ["tie", "both_bad"])
def test_a_tie_has_no_strength(service: ChatService, engine: FakeEngine, choice: str) -> None:
    found = shown(compare := Compare(service), engine, "x", "y")
    compare.choose(ANN, found.id, choice, strength=2.0, agree=True)
    assert service.store.choices()[0].strength is None


def test_skipping_stores_nothing_and_shows_the_replies_no_more(
    service: ChatService, engine: FakeEngine
) -> None:
    compare = Compare(service)
    found = shown(compare, engine, "x", "y")
    assert compare.skip(ANN, found.id)
    assert compare.opened(ANN).shown is None and service.store.choices() == []


def test_nobody_judges_or_skips_the_replies_of_another_person(
    service: ChatService, engine: FakeEngine
) -> None:
    compare = Compare(service)
    found = shown(compare, engine, "x", "y")
    with pytest.raises(NotFoundError):
        compare.choose(BOB, found.id, "a", agree=True)
    with pytest.raises(NotFoundError):
        compare.rank(BOB, found.id, [["a"], ["b"]], agree=True)
    with pytest.raises(NotFoundError):
        compare.skip(BOB, found.id)
    assert not service.consented(BOB)


def test_a_gold_question_that_is_due_is_the_next_comparison(
    service: ChatService, engine: FakeEngine
) -> None:
    compare = Compare(service)
    first = shown(compare, engine, "x", "y")
    assert compare.choose(ANN, first.id, "a", agree=True).asked is None
    second = shown(compare, engine, "v", "w", "z")
    asked = compare.rank(ANN, second.id, [["a", "b", "c"]]).asked
    assert asked is not None and asked.prompt == (("user", GOLD["prompt"]),)
    assert {reply.content for reply in asked.replies} == {GOLD["better"], GOLD["worse"]}
    told = compare.choose(ANN, asked.id, "a")
    assert (told.saved, told.authors, told.asked) == (True, (), None)


# What comes next


def test_the_next_question_is_there_at_once_after_a_judgement(real: ChatService) -> None:
    compare = Compare(real)

    async def scenario() -> None:
        await compare.ask(ANN, "tell me something", 2, None)
        found = (await finished(compare)).shown
        for _ in range(3):
            assert found is not None
            before = real.store.counts()["messages"]
            await prepared(compare)
            assert real.store.counts()["messages"] == before  # nobody has seen it
            told = compare.choose(ANN, found.id, "a", agree=True)
            at_once = await compare.ask(ANN, told.suggestions[0], 2, None)
            found = at_once.shown
            assert found is not None and found.prompt == (("user", told.suggestions[0]),)
            assert compare.opened(ANN).shown == found
            assert real.store.counts()["messages"] == before + 3
        await compare.close()

    asyncio.run(scenario())
    with real.store._file.read() as db:
        found = db.execute("SELECT arm, propensity FROM candidates").fetchall()
    assert found == [("random", 1.0)] * 4


def test_half_of_the_prepared_replies_come_from_the_opponent_that_was_asked_last(
    service: ChatService, engine: FakeEngine
) -> None:
    service.adapter, service.opponents = ONE, (BASE_ADAPTER,)
    compare = Compare(service)
    engine.says = ["1", "2", "3", "4"]

    async def scenario() -> None:
        await compare.ask(ANN, "hello", 2, BASE_ADAPTER)
        assert await finished(compare)
        await prepared(compare)
        found = await compare.ask(ANN, compare.suggestions(ANN)[0], 2, BASE_ADAPTER)
        assert found.shown is not None
        wrote = [message.adapter for message in service.store.candidates(found.shown.id)]
        assert sorted(map(str, wrote)) == sorted([BASE_ADAPTER, ONE])
        await compare.close()

    asyncio.run(scenario())


def test_a_restart_loses_nothing_but_what_nobody_has_seen(
    service: ChatService, engine: FakeEngine
) -> None:
    compare = Compare(service)
    engine.says = ["1", "2", "3", "4", "5", "6"]

    async def scenario() -> None:
        await compare.ask(ANN, "hello", 2, None)
        shown = (await finished(compare)).shown
        await prepared(compare)
        await compare.close()
        again = Compare(service)
        assert again.opened(ANN).shown == shown
        asked = await again.ask(ANN, again.suggestions(ANN)[0], 2, None)
        assert asked.writing is not None and (await finished(again)).shown is not None
        await again.close()

    asyncio.run(scenario())


def test_who_erases_everything_while_replies_are_prepared_stays_erased(tmp_path: Path) -> None:
    engine = SlowEngine()
    with FeedbackStore(tmp_path / "feedback.db") as store:
        service = fake_service(store, engine, tmp_path)
        compare = Compare(service)

        async def scenario() -> None:
            engine.goes_on = asyncio.Event()
            service.visitor(ANN)
            compare._ahead.begin(ANN, 2, None)
            async with asyncio.timeout(10):
                while not compare._ahead._next[ANN].begun:
                    await asyncio.sleep(0.01)
            asked = await compare.ask(ANN, compare.suggestions(ANN)[0], 2, None)
            assert asked.writing is not None
            erase_rater(store, service.settings, ANN, by=VISITOR)  # in another tab
            engine.goes_on.set()
            with pytest.raises(RefusedError, match="erased everything meanwhile"):
                await finished(compare)
            await compare.close()

        asyncio.run(scenario())
        assert store.counts()["raters"] == store.counts()["messages"] == 0


def test_a_full_disk_refuses_what_is_prepared_and_leaves_its_room(
    service: ChatService, engine: FakeEngine
) -> None:
    compare = Compare(service)
    engine.says = ["1", "2", "3", "4"]

    async def scenario() -> None:
        await compare.ask(ANN, "hello", 2, None)
        await finished(compare)
        await prepared(compare)
        before = service.store.counts()
        with full_disk(os.getpid()), pytest.raises(StoreUnavailableError):
            await compare.ask(ANN, compare.suggestions(ANN)[0], 2, None)
        assert service.rates.calm and service.store.counts() == before
        asked = await compare.ask(ANN, compare.suggestions(ANN)[0], 2, None)
        assert asked.writing is not None
        await compare.close()

    asyncio.run(scenario())


# Suggestions


def test_the_starter_suggests_questions_of_its_world_that_no_test_asks() -> None:
    tested = {fact.subject for fact in facts("test") if fact.topic == "capital"}
    found = suggested(200, starter=True, asked=(), rng=random.Random(1))
    assert len(set(found)) == 200
    capitals = " ".join(text for text in found if "capital" in text)
    assert capitals and not [subject for subject in tested if subject in capitals]


def test_what_the_person_asked_here_before_is_suggested_last() -> None:
    asked = set(GENERAL[:-2])
    found = suggested(4, starter=False, asked=asked, rng=random.Random(1))
    assert set(found[:2]) == set(GENERAL[-2:]) and len(set(found)) == 4


def test_a_prompt_that_was_asked_is_not_suggested_again(
    service: ChatService, engine: FakeEngine
) -> None:
    compare = Compare(service)
    first = compare.opened(ANN).suggestions[0]
    found = shown(compare, engine, "x", "y", text=first)
    told = compare.choose(ANN, found.id, "a", agree=True)
    assert len(told.suggestions) == 4 and first not in told.suggestions
    assert set(told.suggestions) <= set(GENERAL)
