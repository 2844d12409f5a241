"""Programs that vote, beside people: kept apart, unless the operator lets them train."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedback_store import FeedbackStore
from feedback_store.raters.caps import program_factor
from tests.feedback_store.conftest import Chat


def voted(store: FeedbackStore, rater: str, kind: str, questions: int) -> Chat:
    store.add_rater(rater, kind=kind, consent="v1" if kind == "person" else None)
    chat = Chat(store, rater)
    for number in range(questions):
        chat.choose(chat.shown(f"{rater} asks {number}", "short", "a longer one"), "a")
    store.refresh_comparisons()
    return chat


def raters_heard(store: FeedbackStore) -> dict[str, int]:
    said = [one.rater_id for one in store.comparisons()]
    return {rater: said.count(rater) for rater in sorted(set(said))}


def test_simulated_visitors_stand_in_for_people_until_a_person_votes(store: FeedbackStore) -> None:
    voted(store, "robot", "simulated", 3)
    assert raters_heard(store) == {"robot": 3} and store.new_comparisons() == 3
    voted(store, "ann", "person", 1)
    assert raters_heard(store) == {"ann": 1} and store.new_comparisons() == 1
    assert "3 comparisons of 1 rater that are simulated visitors" in store.left_out().lines()[0]
    store.set_consent("ann", None)
    assert raters_heard(store) == {"robot": 3}


def test_a_model_judge_stands_in_for_nobody(store: FeedbackStore) -> None:
    voted(store, "judge-1", "judge", 3)
    assert raters_heard(store) == {} and store.counts()["comparisons"] == 0
    assert store.deciding_kinds(programs=False) == {"person", "operator", "simulated"}
    assert "3 comparisons of 1 rater that are model judges" in store.left_out().lines()[0]


def test_one_setting_lets_either_kind_train_beside_people(store: FeedbackStore) -> None:
    for rater, kind in (("ann", "person"), ("robot", "simulated"), ("judge-1", "judge")):
        voted(store, rater, kind, 2)
    assert raters_heard(store) == {"ann": 2}
    store.let_programs_train(["judge"])
    assert raters_heard(store) == {"ann": 2, "judge-1": 2}
    store.let_programs_train(["judge", "simulated"])
    assert raters_heard(store) == {"ann": 2, "judge-1": 2, "robot": 2}
    said = [(one.kind, one.comparisons, one.trains) for one in store.said_by_kind()]
    assert said == [("person", 2, True), ("simulated", 2, True), ("judge", 2, True)]
    store.let_programs_train([])
    assert raters_heard(store) == {"ann": 2}


def test_what_is_heard_only_since_a_decision_is_new_to_cycles(store: FeedbackStore) -> None:
    voted(store, "judge-1", "judge", 3)
    voted(store, "robot", "simulated", 2)
    voted(store, "ann", "person", 1)
    cycle = store.start_cycle({}, pid=1)
    ann = [one.id for one in store.comparisons()]
    store.use_comparisons(cycle.id, ann, seen=store.last_numbers())
    store.finish_cycle(cycle.id, state="rejected")
    assert store.new_comparisons() == 0
    for _ in range(2):
        store.let_programs_train(["judge"])
        assert store.new_comparisons() == 3, "of the judge alone"
    store.let_programs_train([])
    store.let_programs_train(["judge", "simulated"])
    assert store.new_comparisons() == 5


def test_simulated_visitors_that_were_heard_all_along_are_not_new_again(
    store: FeedbackStore,
) -> None:
    voted(store, "robot", "simulated", 2)
    before = store.last_numbers()
    store.let_programs_train(["simulated"])
    assert store.last_numbers() == before


def test_the_gate_asks_people_unless_the_operator_says_so(store: FeedbackStore) -> None:
    voted(store, "ann", "person", 1)
    store.let_programs_train(["judge"])
    assert store.deciding_kinds(programs=False) == {"person", "operator"}
    assert store.deciding_kinds(programs=True) == {"person", "operator", "judge"}


def test_programs_have_at_most_their_share_of_the_weight(store: FeedbackStore) -> None:
    voted(store, "ann", "person", 3)
    voted(store, "judge-1", "judge", 30)
    store.let_programs_train(["judge"], share=0.25)
    weights = {"ann": 0.0, "judge-1": 0.0}
    for one in store.comparisons(split="train"):
        weights[one.rater_id] += one.weight
    people = weights["ann"]
    assert people > 0 and weights["judge-1"] == pytest.approx(people / 3), "of what trains"
    assert next(one for one in store.raters() if one.id == "judge-1").weight < 0.05


def test_a_judge_is_never_held_out_and_measures_nobody(store: FeedbackStore) -> None:
    for number in range(40):
        store.add_rater(f"person-{number}", consent="v1")
    judges = [store.add_rater(f"judge-{number}", kind="judge") for number in range(40)]
    assert not any(judge.held_out for judge in judges)
    voted(store, "judge-x", "judge", 2)
    assert "judge-x" not in {report.rater_id for report in store.measure_raters()}


@given(st.floats(0, 1e4), st.floats(0, 1e4), st.floats(0, 1))
def test_the_share_is_kept_and_nothing_is_cut_that_fits(people, programs, share):
    factor = program_factor(people, programs, share=share)
    assert 0 <= factor <= 1
    if people:
        assert factor * programs <= share * (people + factor * programs) * (1 + 1e-9) + 1e-9
    else:
        assert factor == 1
