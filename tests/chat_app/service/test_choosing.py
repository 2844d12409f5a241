"""Which replies are shown: by lot or by doubt, on a real service and around a fake engine."""

import asyncio
import itertools
import math
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chat_app.service.chat import ChatService
from chat_app.service.choosing import ChosenReplies, choose, may_choose, propensities
from feedback_store.records import BASE_ADAPTER
from feedback_store.splits import is_held_out_question, is_held_out_rater
from feedback_store.store import FeedbackStore
from rlhf_core.cycle.signing import adapter_key
from rlhf_core.model.adapters import publish_adapter
from rlhf_core.records import Comparison
from rlhf_core.reward.acquisition import fit_uncertainty
from tests.chat_app.fakes import FakeEngine, fake_service
from tests.chat_app.serving import Running, publish_copy, running, tiny_base, until

ASKED = [{"role": "user", "content": "hello"}]
SURE = {"choices": "active", "active_share": 0.999}
some_doubts = st.dictionaries(
    st.sampled_from([*itertools.combinations(range(5), 2)]), st.floats(0, 0.25), min_size=1
)


def questions(held_out: bool) -> Iterator[str]:
    return (
        text for n in itertools.count() if is_held_out_question(text := f"what is {n}?") == held_out
    )


def of_training() -> str:
    """A rater whose votes may train."""
    return next(name for n in itertools.count() if not is_held_out_rater(name := f"ann{n}"))


@given(some_doubts, st.floats(0.01, 0.99))
def test_the_probabilities_of_all_pairs_are_one_and_none_is_nothing(doubts, share):
    found = propensities(doubts, share)
    assert math.isclose(sum(found.values()), 1)
    assert min(found.values()) > 0 and set(found) == set(doubts)
    assert doubts[max(found, key=found.__getitem__)] == max(doubts.values())


@given(some_doubts, st.sampled_from([0.0, 0.5, 0.9]))
def test_what_is_shown_has_the_probability_that_is_said(doubts, share):
    engine = FakeEngine()
    engine.unsure = doubts
    shown = asyncio.run(choose(engine, ASKED, ["1", "2", "3", "4", "5"], share=share))
    pair = (min(shown.places), max(shown.places))
    assert shown.propensity == pytest.approx(propensities(doubts, share)[pair])
    if shown.arm == "active":
        assert doubts[pair] == max(doubts.values())


def test_lots_and_doubt_choose_as_often_as_they_say() -> None:
    engine = FakeEngine()
    engine.unsure = {(0, 1): 0.01, (0, 2): 0.2, (1, 2): 0.1}

    async def many() -> list[ChosenReplies]:
        return [await choose(engine, ASKED, ["1", "2", "3"], share=0.5) for _ in range(2000)]

    shown = asyncio.run(many())
    pairs = Counter((min(s.places), max(s.places)) for s in shown)
    assert pairs[(0, 2)] / 2000 == pytest.approx(0.5 + 0.5 / 3, abs=0.05)
    assert sum(s.arm == "active" for s in shown) / 2000 == pytest.approx(0.5, abs=0.05)
    assert sum(s.places[0] < s.places[1] for s in shown) / 2000 == pytest.approx(0.5, abs=0.05)


def test_where_nothing_is_known_lots_choose_among_all_pairs() -> None:
    engine = FakeEngine()
    shown = asyncio.run(choose(engine, ASKED, ["1", "2", "3"], share=0.9))
    assert (shown.arm, shown.propensity) == ("random", pytest.approx(1 / 3))


def test_held_out_raters_and_questions_are_always_shown_what_lots_chose() -> None:
    rater = of_training()
    asked, kept = ([{"role": "user", "content": next(questions(h))}] for h in (False, True))
    assert may_choose(rater, asked) and not may_choose(rater, kept)
    held_out = next(f"r{n}" for n in itertools.count() if is_held_out_rater(f"r{n}"))
    assert not may_choose(held_out, asked)


def compare(service: ChatService, rater: str, text: str) -> list[str]:
    """Ask for two replies; returns the texts as they came."""
    said = service.ask(rater, text) if service.knows(rater) else None
    if said is None:
        service.visitor(rater, consent=True)
        said = service.ask(rater, text)

    async def read() -> list[str]:
        return [piece.text async for piece in service.candidates(rater, [said]) if piece.text]

    return asyncio.run(read())


def shown_in(store: FeedbackStore) -> tuple[str, float]:
    """The arm and propensity of the newest candidates."""
    with store._file.read() as db:
        sql = "SELECT arm, propensity FROM candidates ORDER BY rowid DESC LIMIT 1"
        return tuple(db.execute(sql).fetchone())


@pytest.fixture
def engine() -> FakeEngine:
    found = FakeEngine()
    found.doubting, found.unsure = True, {(0, 1): 0.01, (0, 2): 0.2, (2, 3): 0.1}
    return found


def test_the_most_uncertain_pair_is_stored_and_nothing_is_streamed(
    engine: FakeEngine, tmp_path: Path
) -> None:
    engine.says = ["w", "x", "y", "z"]
    with FeedbackStore(tmp_path / "feedback.db") as store:
        service = fake_service(store, engine, tmp_path, **SURE)
        texts = compare(service, of_training(), next(questions(False)))
        assert engine.asked == [["w", "x", "y", "z"]]
        assert sorted(texts) == ["w", "y"] and len(engine.seeds) == 4
        assert shown_in(store) == ("active", pytest.approx(0.999 + 0.001 / 3))
        [chat] = store.conversations(of_training())
        assert len(store.messages(chat.id)) == 3  # the others are forgotten


@pytest.mark.parametrize(
    "why", ["held out", "random", "no model", "no temperature", "two differ", "no room"]
)
def test_two_replies_are_sampled_and_shown_where_doubt_has_no_say(
    engine: FakeEngine, tmp_path: Path, why: str
) -> None:
    options = {"choices": "random"} if why == "random" else dict(SURE)
    engine.doubting = why != "no model"
    if why == "no temperature":
        options["reply"] = {"temperature": 0.0}
    if why == "no room":
        options["rates"] = {"replies_at_once": 2}
    engine.says = ["w", "w", "w", "z"] if why == "two differ" else ["w", "x"]
    with FeedbackStore(tmp_path / "feedback.db") as store:
        service = fake_service(store, engine, tmp_path, **options)
        compare(service, of_training(), next(questions(why == "held out")))
        assert len(engine.seeds) == (4 if why == "two differ" else 2)
        assert engine.asked == [] and shown_in(store) == ("random", 1.0)


def test_an_engine_that_cannot_tell_costs_nobody_a_reply(
    engine: FakeEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog
) -> None:
    async def fail(*_: object) -> None:
        raise RuntimeError("out of order")

    monkeypatch.setattr(engine, "doubts", fail)
    engine.says = ["w", "x", "y", "z"]
    with FeedbackStore(tmp_path / "feedback.db") as store:
        service = fake_service(store, engine, tmp_path, **SURE)
        assert len(compare(service, of_training(), next(questions(False)))) == 2
        assert shown_in(store) == ("random", pytest.approx(1 / 6))
        assert "lots choose" in caplog.text


# On a running service


@pytest.fixture
def active(tiny_model: Path, tiny_adapters: Path, tmp_path: Path) -> Iterator[Running]:
    """A service whose newest reward model has a posterior, and a policy to try out."""
    data = tmp_path / "data"
    trial = {"trial": {"canary_share": 1.0, "guard_share": 1.0}}
    with running(data, tiny_model, cycle=trial, **SURE) as service:
        base, staging = tiny_base(tiny_model), data / "staging"
        asked = [[{"role": "user", "content": f"why {n}"}] for n in range(12)]
        votes = [Comparison(p, f"kind {n}", f"rude {n}", "a") for n, p in enumerate(asked)]
        staging.mkdir()
        fit_uncertainty(base, votes).save(staging)
        options = {"kind": "reward", "base": base.fingerprint, "parent": None}
        name = "reward-000007"
        publish_adapter(staging, data / "adapters" / name, **options, key=adapter_key(data))
        service.service.store.register_adapter(name, kind="reward", state="published")
        publish_copy(tiny_adapters / "policy-000001", data, "policy-000001")
        service.service.store.register_adapter("policy-000001", kind="policy", state="published")
        until(lambda: service.service.engine.doubting)
        yield service


def training_token(active: Running) -> str:
    """A token whose rater's votes may train; each installation hashes tokens with a key of its own,
    so no token does everywhere.
    """
    tokens = (f"token{n}" for n in itertools.count())
    by_token = active.identity.by_token
    return next(token for token in tokens if not is_held_out_rater(by_token(token).rater_id))


def ask_for_two(active: Running, text: str) -> list[str | None]:
    with active.client(training_token(active)) as client:
        body = {"messages": [{"role": "user", "content": text}], "max_tokens": 16, "n": 2}
        answer = client.post("/v1/candidates", json=body | {"temperature": 1.0}).json()
    found = active.service.store.candidates(answer["candidates_id"])
    return [message.adapter for message in found]


def test_a_running_service_stores_how_each_pair_was_chosen(active: Running) -> None:
    store, seen = active.service.store, Counter[str]()
    texts = questions(False)
    for _ in range(6):
        assert ask_for_two(active, next(texts)) == [BASE_ADAPTER] * 2
        arm, propensity = shown_in(store)
        seen[arm] += 1
        assert 0 < propensity <= 1
    assert seen["active"]
    ask_for_two(active, next(questions(True)))
    assert shown_in(store) == ("random", 1.0)


def test_a_reward_model_that_learnt_from_a_forgotten_rater_is_asked_no_more(
    active: Running,
) -> None:
    with active.service.store._file.write() as db:
        db.execute("UPDATE adapters SET tainted_at = '2030-01-15' WHERE kind = 'reward'")
    until(lambda: not active.service.engine.doubting)
    ask_for_two(active, next(questions(False)))
    assert shown_in(active.service.store) == ("random", 1.0)


def test_the_pairs_of_a_trial_are_chosen_by_lot(active: Running) -> None:
    active.service.canary("policy-000001")
    until(lambda: active.service.trial is not None)
    texts = questions(False)
    for _ in range(4):
        assert set(ask_for_two(active, next(texts))) == {BASE_ADAPTER, "policy-000001"}
        assert shown_in(active.service.store) == ("random", 1.0)
