"""How much evidence opinions are: what one number may and may not say."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedback_store import CandidateReply, FeedbackStore, Said, amount_of

WEIGHTS = st.floats(0, 50)
ONE = st.builds(Said, st.sampled_from("abcdef"), WEIGHTS, WEIGHTS)
MANY = st.lists(ONE, max_size=20)


def effective(*said):
    return amount_of(said).effective


def test_decided_votes_on_different_questions_are_counted():
    assert effective(*(Said(f"question {i}", 1.0, 0.0) for i in range(34))) == 34.0


def test_a_tie_is_half_a_vote_and_ties_alone_are_nothing():
    decided = [Said(f"question {i}", 1.0, 0.0) for i in range(10)]
    ties = [Said(f"other {i}", 0.0, 1.0) for i in range(60)]
    assert effective(*ties) == 0.0
    assert effective(*decided, *ties[:8]) == 14.0
    assert effective(*decided, *ties) == 20.0, "at most as much as the decided ones"


def test_many_votes_on_one_question_are_no_more_than_ten():
    assert effective(Said("one", 10.0, 0.0)) == pytest.approx(10 / 1.9, abs=0.01)
    assert 9 < effective(Said("one", 1000.0, 0.0)) < 10


def test_the_weights_of_one_question_add_up_before_they_count():
    assert effective(Said("one", 2.0, 0.0), Said("one", 3.0, 0.0)) == effective(
        Said("one", 5.0, 0.0)
    )
    assert amount_of([Said("one", 1.0, 0.0), Said("one", 0.0, 1.0)]).questions == 1


@given(MANY, ONE)
def test_one_more_opinion_never_makes_it_less(said, one):
    assert effective(*said, one) >= effective(*said)


@given(MANY, st.sampled_from("abcdef"), WEIGHTS)
def test_a_tie_never_counts_more_than_a_decided_vote(said, question, weight):
    tie, decided = Said(question, 0.0, weight), Said(question, weight, 0.0)
    assert effective(*said, tie) <= effective(*said, decided)


@given(MANY, st.randoms(use_true_random=False))
def test_the_order_changes_nothing(said, random):
    assert amount_of(random.sample(said, len(said))).effective == pytest.approx(
        effective(*said), abs=0.011
    )


def choose(store, number, choice):
    asked = store.add_message(store.add_conversation("ann").id, "user", f"What is {number}?")
    replies = [CandidateReply("one thing"), CandidateReply("another")]
    shown, _ = store.add_candidates(asked.id, replies, rater_id="ann")
    store.add_choice(shown, "ann", choice, idempotency_key=shown)


def test_new_evidence_is_what_came_since_the_last_cycle_ended(tmp_path):
    with FeedbackStore(tmp_path / "feedback.db") as store:
        store.add_rater("ann", kind="simulated")
        for number, choice in enumerate(("a", "b", "a", "tie", "both_bad")):
            choose(store, number, choice)
        store.refresh_comparisons()
        assert store.new_evidence(at_most=99).effective == 4.0
        assert store.new_evidence(at_most=2).effective < 4.0
        cycle = store.start_cycle({}, pid=1)
        store.finish_cycle(cycle.id, state="refused", reasons=("too little",))
        assert store.new_evidence(at_most=99).effective == 0.0
        choose(store, 9, "b")
        store.refresh_comparisons()
        assert store.new_evidence(at_most=99).effective == 1.0


@pytest.mark.parametrize(("state", "new"), [("failed", 1.0), ("refused", 1.0), ("cancelled", 0.0)])
def test_votes_that_a_cycle_has_not_looked_at_start_the_next_unless_somebody_cancelled_it(
    tmp_path, state, new
):
    with FeedbackStore(tmp_path / "feedback.db") as store:
        store.add_rater("ann", kind="simulated")
        choose(store, 0, "a")
        store.refresh_comparisons()
        cycle = store.start_cycle({}, pid=1)
        ids = [comparison.id for comparison in store.comparisons()]
        store.use_comparisons(cycle.id, ids, seen=store.last_numbers())
        choose(store, 1, "b")  # while the cycle runs
        store.refresh_comparisons()
        if state == "cancelled":
            store.cancel_cycle(by="operator")
        else:
            store.finish_cycle(cycle.id, state=state, reasons=("a test",))
        assert store.new_evidence(at_most=99).effective == new


def test_the_last_message_is_the_newest_and_not_an_old_one_that_was_imported(tmp_path):
    with FeedbackStore(tmp_path / "feedback.db") as store:
        assert store.last_message_at() is None
        store.add_rater("ann", kind="simulated")
        said = store.add_message(store.add_conversation("ann").id, "user", "hello")
        old = store.add_message(store.add_conversation("ann").id, "user", "hi")
        with store._file.write() as db:
            db.execute("UPDATE messages SET created_at = '2020-01-01' WHERE id = ?", [old.id])
        assert store.last_message_at() == said.created_at


def test_a_rater_who_counts_for_half_gives_half_of_the_evidence(tmp_path):
    with FeedbackStore(tmp_path / "feedback.db") as store:
        store.add_rater("ann", kind="simulated")
        choose(store, 0, "a")
        store.refresh_comparisons()
        with store._file.write() as db:
            db.execute("UPDATE raters SET reliability = 0.5")
        assert store.new_evidence(at_most=99).effective == 0.5
