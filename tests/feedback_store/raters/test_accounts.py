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


def origin_of(store, rater_id):
    with store._file.read() as db:
        return next(db.query("SELECT origin FROM raters WHERE id = ?", [rater_id]))["origin"]


def test_the_origin_of_a_rater_is_that_of_the_first_visit(store):
    store.add_rater("ann", origin="home")
    store.add_rater("ann", origin="work")
    store.add_rater("bob")
    store.add_rater("bob", origin="work")
    assert (origin_of(store, "ann"), origin_of(store, "bob")) == ("home", None)
