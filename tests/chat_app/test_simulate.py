"""Simulated visitors use the service like people, and every event that they count is stored."""

from collections import Counter
from dataclasses import replace

import pytest

from chat_app.errors import InvalidRequestError, StartError
from chat_app.simulate import Plan, run_simulation
from rlhf_core.worlds.checkable.world import CheckableWorld
from tests.chat_app.serving import Running


def stored(served: Running) -> Counter[str]:
    store = served.service.store
    return Counter(
        thumbs=len(store.thumbs()),
        choices=len(store.choices()),
        rankings=sum(event["event"] == "ranking" for event in store.export_events()),
        demonstrations=len(store.demonstrations()),
    )


def test_a_mixed_crowd_stores_exactly_the_events_it_reports(served: Running) -> None:
    before = stored(served)
    plan = Plan(served.url, visitors=6, events=40, seed=3, at_once=4)
    result = run_simulation(plan, show=False)
    assert (result.failed, result.events) == (0, 40)
    assert stored(served) - before == result.stored
    assert set(result.stored) == {"thumbs", "choices", "demonstrations"}
    store = served.service.store
    raters = {event.rater_id for event in store.choices()}
    assert {store.rater(rater).kind for rater in raters} == {"simulated"}
    assert store.refresh_comparisons() > 0, "simulated votes may be learnt from"


def test_a_crowd_can_make_one_kind_of_event(served: Running) -> None:
    plan = Plan(served.url, visitors=3, events=9, seed=1, kinds=("choices",), at_once=3)
    result = run_simulation(plan, show=False)
    assert dict(result.stored) == {"choices": 9}
    assert result.facts()["events"] == 9


def test_some_visitors_rank_as_many_replies_as_they_are_told_to(served: Running) -> None:
    before = stored(served)
    plan = Plan(*(served.url, 8, 12, 1, ("choices",)), at_once=3, ranked=6, rankers=0.5)
    result = run_simulation(plan, show=False)
    assert (result.failed, result.events) == (0, 12)
    assert stored(served) - before == result.stored
    assert set(result.stored) == {"choices", "rankings"}


def test_visitors_of_the_checkable_world_ask_ordinary_things_and_teach_their_tastes(
    served: Running,
) -> None:
    world = CheckableWorld.of(["at-most-words:3", "ends-as-a-sentence"])
    store = served.service.store
    before = {demonstration.id for demonstration in store.demonstrations()}
    plan = Plan(served.url, visitors=6, events=20, seed=2, at_once=3, world=world.visitors)
    result = run_simulation(plan, show=False)
    assert (result.failed, result.events) == (0, 20)
    taught = [one for one in store.demonstrations() if one.id not in before]
    assert len(taught) == result.stored["demonstrations"] > 0
    assert all(taste.met(one.content) for one in taught for taste in world.tastes)


def test_identical_replies_give_no_event_and_no_failure(
    served: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    sampling = served.service.default_sampling
    surest = replace(sampling, temperature=0.0)
    monkeypatch.setattr(type(served.service), "default_sampling", property(lambda _: surest))
    plan = Plan(served.url, visitors=2, events=2, seed=1, kinds=("choices",), at_once=2)
    result = run_simulation(plan, show=False)  # and it ends, though there never is a choice
    assert (result.failed, result.events) == (0, 0)


def test_an_address_without_a_service_is_refused_at_once() -> None:
    with pytest.raises(StartError, match="no service answers"):
        run_simulation(Plan("http://127.0.0.1:9"), show=False)


def test_the_starters_visitors_refuse_a_service_of_another_model(served: Running) -> None:
    plan = Plan(served.url, visitors=1, events=1, starter_only=True)
    with pytest.raises(InvalidRequestError, match="give --world checkable"):
        run_simulation(plan, show=False)
