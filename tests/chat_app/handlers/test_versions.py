import os

import pytest

from chat_app.handlers.versions import Version, named, served_version
from feedback_store import BASE_ADAPTER, FeedbackStore

ONE, TWO = "policy-000001", "policy-000002"


@pytest.fixture
def store(tmp_path):
    with FeedbackStore(tmp_path / "feedback.db") as opened:
        yield opened


def promoted(store, name, metrics):
    cycle = store.start_cycle({}, pid=os.getpid())
    store.register_adapter(name, kind="policy", cycle_id=cycle.id)
    return store.finish_cycle(
        cycle.id, state="promoted", adapter=name, promotion="offline", metrics=metrics
    )


def test_version_1_was_in_no_test(store):
    assert served_version(store) == Version(1, BASE_ADAPTER, store.serving().since)


def test_a_version_says_since_when_it_answers_and_how_its_test_went(store):
    promoted(store, ONE, {"win_rate": 0.64})
    assert served_version(store) == Version(2, ONE, store.serving().since, 0.64)


def test_after_a_rollback_the_earlier_version_answers_since_then(store):
    first = served_version(store).since
    promoted(store, ONE, {"win_rate": 0.64})
    store.serve(BASE_ADAPTER, by="rollback")
    again = served_version(store)
    assert (again.number, again.preferred) == (1, None)
    assert again.since >= first and again.since == store.serving().since


def test_a_version_whose_round_measured_nothing_has_no_share(store):
    promoted(store, ONE, {})
    assert served_version(store).preferred is None


def test_an_adapter_that_was_never_served_keeps_its_name(store):
    promoted(store, ONE, {})
    assert [named(store.versions(), name) for name in (BASE_ADAPTER, ONE, TWO)] == [1, 2, TWO]
