import pytest

from feedback_store import BASE_ADAPTER, FeedbackStore

ONE, TWO, THREE = (f"policy-{number:06d}" for number in (1, 2, 3))


@pytest.fixture
def adapters(store):
    for name in (ONE, TWO, THREE):
        store.register_adapter(name, kind="policy", state="published")
    return store


def test_the_starting_policy_is_version_1(store):
    assert store.versions() == {BASE_ADAPTER: 1}


def test_versions_are_numbered_by_when_they_were_first_served(adapters):
    adapters.serve(THREE, by="operator")
    adapters.serve(ONE, by="operator")
    assert adapters.versions() == {BASE_ADAPTER: 1, THREE: 2, ONE: 3}


def test_a_rejected_candidate_has_no_number_and_takes_none(adapters):
    adapters.set_adapter_state(ONE, "rejected")
    adapters.serve(TWO, by="operator")
    assert adapters.versions() == {BASE_ADAPTER: 1, TWO: 2}


def test_a_rollback_gives_no_new_number(adapters):
    adapters.serve(ONE, by="operator")
    adapters.serve(BASE_ADAPTER, by="operator: rollback")
    adapters.serve(ONE, by="operator")
    adapters.serve(TWO, by="operator")
    assert adapters.versions() == {BASE_ADAPTER: 1, ONE: 2, TWO: 3}


def test_a_canary_is_a_version_once_people_found_it_better(adapters):
    canary = adapters.start_trial("canary", TWO, BASE_ADAPTER, by="operator")
    assert TWO not in adapters.versions()
    adapters.end_trial(canary.id, "better", "people preferred it", by="server")
    assert adapters.versions() == {BASE_ADAPTER: 1, TWO: 2}


def test_a_version_that_people_found_worse_keeps_its_number(adapters):
    adapters.serve(ONE, by="operator", guard=True)
    adapters.end_trial(adapters.open_trial().id, "worse", "people preferred the other", by="server")
    adapters.serve(TWO, by="operator")
    assert adapters.versions() == {BASE_ADAPTER: 1, ONE: 2, TWO: 3}


def test_what_was_served_is_told_in_order_with_every_rollback(adapters):
    adapters.serve(ONE, by="operator")
    adapters.serve(BASE_ADAPTER, by="operator: rollback")
    served = adapters.servings()
    assert [one.adapter for one in served] == [BASE_ADAPTER, ONE, BASE_ADAPTER]
    assert [one.previous for one in served] == [None, BASE_ADAPTER, ONE]
    assert served[-1] == adapters.serving()


def test_numbers_are_the_same_after_the_store_was_opened_again(adapters, path):
    adapters.serve(THREE, by="operator")
    with FeedbackStore(path) as again:
        assert again.versions() == {BASE_ADAPTER: 1, THREE: 2}
