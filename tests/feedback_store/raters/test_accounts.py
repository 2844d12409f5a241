import pytest

from feedback_store import InvalidFeedbackError


def test_the_same_rater_id_gives_the_same_row(store):
    first = store.add_rater("ann", kind="simulated")
    assert store.add_rater("ann") == first == store.rater("ann")
    assert store.add_rater().id != store.add_rater().id


def test_consent_is_given_kept_and_taken_back(store):
    assert store.add_rater("ann").consent is None
    assert store.add_rater("ann", consent="v2").consent == "v2"
    assert store.add_rater("ann").consent == "v2"
    assert store.set_consent("ann", None).consent is None


def test_a_kind_of_rater_that_does_not_exist_is_refused(store):
    with pytest.raises(InvalidFeedbackError, match=r"'robot'.*'simulated'"):
        store.add_rater(kind="robot")
