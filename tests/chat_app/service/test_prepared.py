"""The question that is prepared while a person judges: a real store around a fake engine."""

import asyncio
import itertools
import math
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chat_app.engine import GenerationRequest, Piece
from chat_app.service.chat import ChatService
from chat_app.service.choosing import DoubtedReplies, choose_of_all, propensities
from chat_app.service.erasure import VISITOR, erase_rater
from chat_app.service.prepared import MOST, TRIED, Prepared
from chat_app.service.replies import Candidates
from feedback_store.errors import FeedbackStoreError
from feedback_store.records import BASE_ADAPTER
from feedback_store.splits import is_held_out_question, is_held_out_rater
from feedback_store.store import FeedbackStore
from tests.chat_app.fakes import FakeEngine, fake_service

ONE = "policy-000001"
ANN = next(name for n in itertools.count() if not is_held_out_rater(name := f"ann-{n}"))
some_doubts = st.dictionaries(
    st.sampled_from([*itertools.combinations(range(4), 2)]), st.floats(0, 0.25), max_size=4
)


def questions(*, held_out: bool) -> Iterator[str]:
    """Prompts of one split."""
    texts = (f"what is {n}?" for n in itertools.count())
    return (text for text in texts if is_held_out_question(text) == held_out)


FIRST, SECOND = itertools.islice(questions(held_out=False), 2)
TESTED = next(questions(held_out=True))


class UnsureEngine(FakeEngine):
    """Says a new thing each time, and is as uncertain as a test says, by prompt."""

    def __init__(self, unsure: Mapping[str, float] | None = None) -> None:
        super().__init__()
        self.of = unsure or {}
        self.doubting = bool(unsure)
        self.says = [f"reply {n}" for n in range(500)]

    async def doubts(self, prompt: Any, replies: Sequence[str]) -> dict[tuple[int, int], float]:
        """The first two replies are in doubt, and nothing is known of others."""
        found = self.of.get(prompt[-1]["content"])
        return {} if found is None else {(0, 1): found, (1, 2): 0.0}


class SlowEngine(UnsureEngine):
    """Says nothing before a test lets it."""

    goes_on: asyncio.Event

    async def stream(self, request: GenerationRequest) -> AsyncGenerator[Piece, None]:
        """As always, but later."""
        await self.goes_on.wait()
        async for piece in super().stream(request):
            yield piece


@pytest.fixture
def store(tmp_path: Path) -> Iterator[FeedbackStore]:
    with FeedbackStore(tmp_path / "feedback.db") as store:
        yield store


def service_of(store: FeedbackStore, engine: FakeEngine, **options: Any) -> ChatService:
    return fake_service(store, engine, store._file.path.parent, **options)


def prepared(service: ChatService, *texts: str) -> Prepared:
    return Prepared(service, lambda rater_id: texts, "compare")


async def until(true: Callable[[], bool]) -> None:
    """Wait for something that comes soon."""
    async with asyncio.timeout(10):
        while not true():
            await asyncio.sleep(0.01)


async def begun(ahead: Prepared, *, n: int = 2, opponent: str | None = None) -> None:
    """Prepare something for Ann to its end."""
    ahead.begin(ANN, n, opponent)
    task = ahead._next[ANN].task
    assert task is not None
    await task


def kept(ahead: Prepared, text: str, *, n: int = 2, opponent: str | None = None) -> Candidates:
    """What Ann is shown when she asks for it."""
    ahead._service.visitor(ANN)
    found = ahead.take(ANN, text, n, opponent)
    assert found is not None
    shown = ahead.keep(ANN, found)
    assert shown is not None
    return shown


def shown_in(store: FeedbackStore) -> list[tuple[str, float, int | None]]:
    """Arm, propensity and trial of all candidates."""
    with store._file.read() as db:
        sql = "SELECT arm, propensity, trial_id FROM candidates ORDER BY rowid"
        return list(db.execute(sql).fetchall())


def played(scenario: Callable[[], Awaitable[None]]) -> None:
    async def play() -> None:
        await scenario()

    asyncio.run(play())


def test_nothing_is_stored_before_the_person_asks_and_then_all_of_it(store: FeedbackStore) -> None:
    service = service_of(store, UnsureEngine())
    ahead = prepared(service, FIRST, SECOND)

    async def scenario() -> None:
        await begun(ahead)
        assert ahead.offered(ANN) == FIRST
        assert store.counts()["messages"] == store.counts()["raters"] == 0
        shown = kept(ahead, FIRST)
        assert [message.content for message in shown.messages] == ["reply 0", "reply 1"]
        assert store.counts()["messages"] == 3 and shown_in(store) == [("random", 1.0, None)]
        [told] = service.conversations(ANN, page="compare")
        assert told.title == FIRST

    played(scenario)


def test_if_the_replies_cannot_be_stored_the_prompt_is_not_either(store: FeedbackStore) -> None:
    ahead = prepared(service_of(store, UnsureEngine()), FIRST)

    async def scenario() -> None:
        await begun(ahead)
        with store._file.write() as db:
            db.execute(
                "CREATE TRIGGER full BEFORE INSERT ON candidates"
                " BEGIN SELECT RAISE(ABORT, 'the disk is full'); END"
            )
        with pytest.raises(FeedbackStoreError, match="full"):
            kept(ahead, FIRST)
        assert store.counts()["messages"] == 0

    played(scenario)


@pytest.mark.parametrize(
    ("text", "n", "opponent"), [("other", 2, None), (FIRST, 3, None), (FIRST, 2, BASE_ADAPTER)]
)
def test_who_asks_something_else_gets_nothing_that_was_prepared(
    store: FeedbackStore, text: str, n: int, opponent: str | None
) -> None:
    ahead = prepared(service_of(store, UnsureEngine()), FIRST)

    async def scenario() -> None:
        await begun(ahead)
        assert ahead.take(ANN, text, n, opponent) is None
        assert ahead.take(ANN, FIRST, 2, None) is None and ahead.offered(ANN) is None
        assert store.counts()["messages"] == 0

    played(scenario)


def test_people_who_ask_go_first(store: FeedbackStore) -> None:
    service = service_of(store, engine := UnsureEngine())
    ahead = prepared(service, FIRST)

    async def scenario() -> None:
        room = service.rates.reserve("bob")
        ahead.begin(ANN, 2, None)
        await asyncio.sleep(0.3)
        assert engine.seeds == []  # somebody else's reply is being written
        room()
        await until(lambda: len(engine.seeds) == 2)
        await until(lambda: bool(ahead._next[ANN].found))
        engine.says, engine.waits = [], True
        ahead.begin(ANN, 2, None)
        await until(lambda: len(engine.seeds) == 4)
        room = service.rates.reserve("bob")
        task = ahead._next[ANN].task
        assert task is not None
        await asyncio.wait_for(task, 10)  # it gives way
        assert ahead.take(ANN, FIRST, 2, None) is None
        room()

    played(scenario)


def test_what_is_being_written_is_finished_for_whoever_asks_it(store: FeedbackStore) -> None:
    service = service_of(store, engine := SlowEngine())
    ahead = prepared(service, FIRST)

    async def scenario() -> None:
        engine.goes_on = asyncio.Event()
        ahead.begin(ANN, 2, None)
        await until(lambda: ahead._next[ANN].begun)
        assert ahead.offered(ANN) == FIRST
        found = ahead.take(ANN, FIRST, 2, None)
        assert found is not None
        room = service.rates.reserve(ANN, 2)  # as she asks; it does not give way to that
        await asyncio.sleep(0.3)
        engine.goes_on.set()
        await found.ended()
        service.visitor(ANN)
        assert ahead.keep(ANN, found) is not None
        room()

    played(scenario)


def test_who_erases_everything_before_it_is_stored_stays_erased(store: FeedbackStore) -> None:
    service = service_of(store, UnsureEngine())
    ahead = prepared(service, FIRST)

    async def scenario() -> None:
        service.visitor(ANN)
        await begun(ahead)
        found = ahead.take(ANN, FIRST, 2, None)
        assert found is not None
        erase_rater(store, service.settings, ANN, by=VISITOR)  # in another tab
        assert ahead.keep(ANN, found) is None
        assert store.counts()["raters"] == store.counts()["messages"] == 0

    played(scenario)


def test_another_adapter_or_trial_makes_it_worthless(store: FeedbackStore) -> None:
    service = service_of(store, UnsureEngine())
    store.register_adapter(ONE, kind="policy", state="published")
    ahead = prepared(service, FIRST)

    async def scenario() -> None:
        await begun(ahead)
        found = ahead._next[ANN]
        service.adapter = ONE
        assert ahead.offered(ANN) is None and ahead.keep(ANN, found) is None
        service.adapter = BASE_ADAPTER
        assert ahead.offered(ANN) == FIRST
        store.start_trial("canary", ONE, BASE_ADAPTER, by="operator")
        service.trial = store.open_trial()
        assert ahead.take(ANN, FIRST, 2, None) is None
        assert store.counts()["messages"] == 0

    played(scenario)


def test_tokens_count_once_the_person_asks(store: FeedbackStore) -> None:
    service = service_of(store, UnsureEngine())
    ahead = prepared(service, FIRST)

    async def scenario() -> None:
        before = service.rates._tokens._level(ANN)
        await begun(ahead)
        ahead.drop(ANN)
        assert service.rates._tokens._level(ANN) == pytest.approx(before, abs=0.01)
        await begun(ahead)
        kept(ahead, FIRST)
        assert before - service.rates._tokens._level(ANN) == pytest.approx(8, abs=1)

    played(scenario)


def test_replies_that_all_say_the_same_are_no_question(store: FeedbackStore) -> None:
    engine = UnsureEngine()
    engine.says = ["same"] * 2 + ["x", "y"]
    ahead = prepared(service_of(store, engine), FIRST, SECOND)

    async def scenario() -> None:
        await begun(ahead)
        assert ahead.offered(ANN) == SECOND
        assert len(kept(ahead, str(ahead.offered(ANN))).messages) == 2

    played(scenario)


def test_who_ranks_five_gets_five_though_some_repeat_at_first(store: FeedbackStore) -> None:
    engine = UnsureEngine()
    engine.says = ["same"] * 3 + [f"reply {n}" for n in range(9)]
    ahead = prepared(service_of(store, engine), FIRST)

    async def scenario() -> None:
        await begun(ahead, n=5)
        assert len(kept(ahead, FIRST, n=5).messages) == 5

    played(scenario)


def test_where_replies_repeat_little_is_written(store: FeedbackStore) -> None:
    engine = UnsureEngine()
    engine.says = []  # so all say the same
    ahead = prepared(service_of(store, engine), *(f"what is {n}?" for n in range(8)))

    async def scenario() -> None:
        await begun(ahead)
        assert len(engine.seeds) == 2 * TRIED
        assert ahead.take(ANN, str(ahead.offered(ANN)), 2, None) is None

    played(scenario)


def test_so_many_are_kept_and_none_after_the_end(store: FeedbackStore) -> None:
    ahead = prepared(service_of(store, UnsureEngine()), FIRST)

    async def scenario() -> None:
        for number in range(MOST + 20):
            ahead.begin(f"rater-{number}", 2, None)
        assert len(ahead._next) == MOST
        await ahead.close()
        assert len(ahead._next) == 0

    played(scenario)


# Doubt

DOUBTING = {"choices": "active", "active_share": 0.99999}


@pytest.mark.parametrize("unsure", [{FIRST: 0.1, SECOND: 0.2}, {FIRST: 0.2, SECOND: 0.1}])
def test_the_question_with_the_most_doubt_is_offered_and_it_is_stored_why(
    store: FeedbackStore, unsure: dict[str, float]
) -> None:
    engine = UnsureEngine(unsure)
    ahead = prepared(service_of(store, engine, **DOUBTING), FIRST, SECOND)

    async def scenario() -> None:
        await begun(ahead)
        best = max(unsure, key=unsure.__getitem__)
        assert ahead.offered(ANN) == best and len(engine.seeds) == 8
        place = 0 if best == FIRST else 4
        texts = {message.content for message in kept(ahead, best).messages}
        assert texts == {f"reply {place}", f"reply {place + 1}"}
        assert shown_in(store) == [("active", pytest.approx(1, abs=1e-4), None)]

    played(scenario)


def test_a_question_that_evaluates_is_not_passed_over_for_one_with_doubt(
    store: FeedbackStore,
) -> None:
    engine = UnsureEngine({FIRST: 0.2, TESTED: 0.2})
    ahead = prepared(service_of(store, engine, **DOUBTING), TESTED, FIRST)

    async def scenario() -> None:
        await begun(ahead)
        assert ahead.offered(ANN) == TESTED and len(engine.seeds) == 2
        kept(ahead, TESTED)
        assert shown_in(store) == [("random", 1.0, None)]

    played(scenario)


def test_a_pair_of_a_trial_is_not_passed_over_and_a_rival_is_in_none(store: FeedbackStore) -> None:
    service = service_of(store, UnsureEngine({FIRST: 0.1, SECOND: 0.2}), **DOUBTING)
    store.register_adapter(ONE, kind="policy", state="published")
    store.start_trial("canary", ONE, BASE_ADAPTER, by="operator")
    service.trial = store.open_trial()
    ahead = prepared(service, FIRST, SECOND)

    async def scenario() -> None:
        offered = Counter[tuple[str, str, bool]]()
        for _ in range(40):
            await begun(ahead)
            text = str(ahead.offered(ANN))
            kept(ahead, text)
            arm, _, trial_id = shown_in(store)[-1]
            offered[text, arm, trial_id is not None] += 1
        assert {*offered} == {(FIRST, "random", True), (SECOND, "active", False)}
        assert 8 <= offered[FIRST, "random", True] <= 32

    played(scenario)


def test_without_a_rival_in_time_the_pair_is_chosen_as_in_the_chat(store: FeedbackStore) -> None:
    service = service_of(store, engine := UnsureEngine({FIRST: 0.1, SECOND: 0.2}), **DOUBTING)
    ahead = prepared(service, FIRST, SECOND)

    async def scenario() -> None:
        engine.says = engine.says[:4]
        engine.waits = True  # the rival's replies never end
        ahead.begin(ANN, 2, None)
        await until(lambda: bool(ahead._next[ANN].found))
        assert ahead.offered(ANN) == FIRST
        task = ahead._next[ANN].task
        assert task is not None
        await asyncio.wait_for(task, 10)  # nobody waits for the rival any more
        kept(ahead, FIRST)
        assert shown_in(store) == [("active", pytest.approx(1, abs=1e-4), None)]

    played(scenario)


@given(st.lists(some_doubts, min_size=1, max_size=3), st.sampled_from([0.0, 0.5, 0.9]))
def test_what_is_chosen_of_all_has_the_probability_that_is_said(doubts, share):
    at, shown = choose_of_all([DoubtedReplies(4, one) for one in doubts], share=share)
    every = {(n, pair): v for n, one in enumerate(doubts) for pair, v in one.items()}
    if not every:
        assert (at, shown.arm) == (0, "random") and shown.propensity == pytest.approx(1 / 6)
        return
    chances = propensities(every, share)
    pair = (min(shown.places), max(shown.places))
    assert shown.propensity == pytest.approx(chances[at, pair])
    assert math.isclose(sum(chances.values()), 1)
    if shown.arm == "active":
        assert every[at, pair] == max(every.values())
