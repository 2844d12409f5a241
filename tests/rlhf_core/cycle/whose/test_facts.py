from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedback_store.raters.whose import VoteFact
from rlhf_core.cycle.whose.facts import FEWEST, OTHER, Portrait, agreement_rate, portrait


def vote(rater, question="q", verdict=1, *, group="person", weight=1.0, script="Latn", **more):
    subject = more.pop("subject", f"{question}/pair")
    source = more.pop("source", "choice")
    return VoteFact(rater, group, source, weight, question, question, script, subject, verdict)


def crowd(count, **more):
    return [vote(f"{more.get('group', 'person')}-{n}", **more) for n in range(count)]


def test_nothing_is_told_of_fewer_than_five_raters():
    assert portrait(crowd(FEWEST - 1)) == Portrait()
    assert portrait(crowd(FEWEST)).raters == FEWEST


def test_equal_raters_are_as_many_as_they_are_and_a_busy_one_makes_them_fewer():
    equal = portrait(crowd(8))
    assert (equal.effective, [top.share for top in equal.tops]) == (8.0, [0.125, 0.625])
    busy = portrait([*crowd(9), vote("busy", weight=91.0)])
    assert busy.tops[0].share == 0.91
    assert busy.effective == pytest.approx(1.2, abs=0.05)


def test_what_has_no_weight_is_none_of_the_votes():
    found = portrait([*crowd(5), vote("ghost", weight=0.0)])
    assert (found.raters, found.votes) == (5, 5)


def test_kinds_of_fewer_than_five_are_told_together():
    votes = crowd(9) + crowd(3, group="simulated") + crowd(2, group="judge")
    assert [(part.name, part.raters) for part in portrait(votes).groups] == [
        ("person", 9),
        (OTHER, 5),
    ]


def test_a_kind_of_one_rater_hides_in_the_smallest_other_kind():
    votes = crowd(9) + crowd(6, group="simulated") + crowd(1, group="judge")
    assert [(part.name, part.raters) for part in portrait(votes).groups] == [
        ("person", 9),
        (OTHER, 7),
    ]
    assert portrait(votes, fewest=1).groups[-1].name == "judge"


def test_any_kind_of_rater_is_told_by_its_name():
    found = portrait(crowd(5) + crowd(5, group="something-new"))
    assert {part.name for part in found.groups} == {"person", "something-new"}
    assert {rate.name for rate in found.between} == {
        "person/person",
        "something-new/something-new",
        "person/something-new",
    }


def test_half_the_raters_against_the_other_half_agree_less_than_half_the_time():
    votes = [vote(f"r{n}", verdict=1 if n < 3 else -1) for n in range(6)]
    rate = portrait(votes).agreement
    assert rate.value == 0.4  # of 15 pairs of raters 6 agree
    assert (rate.raters, rate.pairs) == (6, 1)


def test_raters_who_all_say_the_same_agree_but_one_question_is_no_proof():
    rate = portrait(crowd(6)).agreement
    assert (rate.value, rate.high) == (1.0, 1.0)
    assert rate.low < 0.5


def test_kinds_that_disagree_with_each_other_can_agree_among_themselves():
    votes = [
        vote(f"{group}-{n}", f"q{q}", verdict, group=group)
        for group, verdict in (("person", 1), ("judge", -1))
        for n in range(5)
        for q in range(10)
    ]
    rates = {rate.name: rate.value for rate in portrait(votes).between}
    assert rates == {"judge/judge": 1.0, "person/person": 1.0, "judge/person": 0.0}


def test_the_questions_on_which_raters_surely_disagree_come_first():
    votes = [vote(f"r{n}", "split", 1 if n % 2 else -1) for n in range(12)]
    votes += [vote(f"r{n}", "few", 1 if n else -1) for n in range(5)]
    votes += [vote(f"r{n}", "clear") for n in range(12)]
    assert portrait(votes).questions == ()
    found = portrait(votes, with_questions=True).questions
    assert [rate.name for rate in found] == ["split", "few"]
    assert found[0].value < 0.5


def test_a_rater_who_judges_the_same_texts_twice_agrees_with_nobody_by_that():
    votes = [vote("ann", verdict=1), vote("ann", verdict=1, source="thumbs")]
    assert agreement_rate("", votes, 1) is None


VOTES = st.lists(
    st.builds(
        vote,
        st.sampled_from("abcdefghij"),
        st.sampled_from(["q1", "q2", "q3"]),
        st.sampled_from([-1, 0, 1]),
        group=st.sampled_from(["person", "simulated", "judge", "imported"]),
        script=st.sampled_from(["Latn", "Arab", "Hani"]),
        source=st.sampled_from(["choice", "ranking", "thumbs"]),
        weight=st.floats(0.01, 4),
    ),
    max_size=60,
)


@given(VOTES)
def test_no_part_has_fewer_than_five_raters(votes):
    found = portrait(votes)
    for part in (*found.groups, *found.scripts):
        assert part.raters >= FEWEST
    for rate in (*found.by_source, *found.by_script, *found.between):
        assert rate.raters >= FEWEST
    if found.raters is not None:
        assert sum(part.share for part in found.groups) == pytest.approx(1, abs=0.001)
        assert sum(part.share for part in found.scripts) == pytest.approx(1, abs=0.001)
        assert 1 <= found.effective <= found.raters + 0.05


@given(VOTES)
def test_the_rate_is_the_mean_over_pairs_of_raters(votes):
    said = {}
    for one in votes:
        said.setdefault(one.subject, {})[one.rater] = one.verdict
    means = [
        sum(1 - abs(a - b) / 2 for a, b in pairs) / len(pairs)
        for verdicts in said.values()
        if (pairs := list(combinations(verdicts.values(), 2)))
    ]
    rate = agreement_rate("", votes, 1)
    if means:
        assert rate.value == pytest.approx(sum(means) / len(means), abs=1e-4)
        assert rate.low <= rate.value <= rate.high
    else:
        assert rate is None
