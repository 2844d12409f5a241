from dataclasses import replace
from itertools import combinations, count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedback_store.raters.whose import VoteFact
from feedback_store.records import PROGRAMS
from rlhf_core.cycle.whose.facts import FEWEST, OTHER, Portrait, agreement_rate, portrait

opinions = count()


def vote(rater, question="q", verdict=1, *, group="person", weight=1.0, script="Latn", **more):
    subject = more.pop("subject", f"{question}/pair")
    source, opinion = more.pop("source", "choice"), more.pop("opinion", str(next(opinions)))
    said = source, weight, question, question, script, subject, verdict, opinion
    return VoteFact(rater, group, *said)


def crowd(size, **more):
    return [vote(f"{more.get('group', 'person')}-{n}", **more) for n in range(size)]


def test_nothing_is_told_of_fewer_than_five_people():
    assert portrait(crowd(FEWEST - 1)) == Portrait()
    assert portrait(crowd(FEWEST)).raters == FEWEST


def test_of_programs_beside_too_few_people_only_their_number_is_told():
    assert portrait(crowd(3) + crowd(9, group="simulated")) == Portrait(programs=9)


def test_programs_alone_are_told_however_few_they_are():
    found = portrait(crowd(2, group="simulated"))
    assert (found.raters, found.programs) == (0, 2)
    assert [(part.name, part.raters) for part in found.groups] == [("simulated", 2)]


def test_equal_raters_are_as_many_as_they_are_and_a_busy_one_makes_them_fewer():
    equal = portrait(crowd(10))
    assert (equal.effective, [top.share for top in equal.tops]) == (10.0, [0.1, 0.5])
    busy = portrait([*crowd(9), vote("busy", weight=91.0)])
    assert busy.tops[0].share == 0.91
    assert busy.effective == pytest.approx(1.2, abs=0.05)


def test_what_has_no_weight_is_none_of_the_votes():
    found = portrait([*crowd(5), vote("ghost", weight=0.0)])
    assert (found.raters, found.votes) == (5, 5)


@pytest.mark.parametrize(
    ("raters", "told"), [(6, ["1"]), (9, ["1"]), (10, ["1", "5"]), (11, ["1", "5"])]
)
def test_the_most_active_ones_are_not_told_if_too_few_are_left(raters, told):
    assert [top.name for top in portrait(crowd(raters)).tops] == told


def test_the_most_active_ones_are_not_told_if_too_few_of_them_are_people():
    votes = [*crowd(20), vote("judge", group="judge", weight=20.0)]
    assert [(top.name, top.share) for top in portrait(votes).tops] == [("1", 0.5), ("10", 0.725)]


def test_kinds_of_fewer_than_five_people_are_told_together():
    votes = crowd(9) + crowd(3, group="imported") + crowd(2, group="operator")
    assert [(part.name, part.raters) for part in portrait(votes).groups] == [
        ("person", 9),
        (OTHER, 5),
    ]


def test_a_kind_of_one_person_hides_in_the_smallest_other_kind():
    votes = crowd(9) + crowd(6, group="imported") + crowd(1, group="operator")
    assert [(part.name, part.raters) for part in portrait(votes).groups] == [
        ("person", 9),
        (OTHER, 7),
    ]
    assert portrait(votes, fewest=1).groups[-1].name == "operator"


def test_one_judge_is_told_by_its_name_beside_the_people():
    found = portrait([*crowd(20), vote("judge", group="judge", weight=20.0)])
    assert (found.raters, found.programs) == (20, 1)
    assert [(part.name, part.raters, part.share) for part in found.groups] == [
        ("person", 20, 0.5),
        ("judge", 1, 0.5),
    ]
    assert {rate.name for rate in found.between} == {"person/person", "person/judge"}


def test_a_ranking_is_one_vote_and_agrees_as_one():
    pairs = [f"q/{n}" for n in range(36)]
    votes = [
        vote(f"r{n}", "ranked", subject=pair, opinion=f"ranking {n}", source="ranking")
        for n in range(5)
        for pair in pairs
    ]
    votes += [vote(f"r{n}", "split", 1 if n < 3 else -1) for n in range(5)]
    found = portrait(votes)
    assert found.votes == 10
    assert found.agreement.value == 0.7  # the ranking 1, the other pair 4 of 10: half each


def test_any_kind_of_rater_is_told_by_its_name():
    found = portrait(crowd(5) + crowd(5, group="something-new"))
    assert {part.name for part in found.groups} == {"person", "something-new"}
    assert {rate.name for rate in found.between} == {
        "person/person",
        "something-new/something-new",
        "person/something-new",
    }


def test_a_script_of_programs_alone_hides_among_those_of_people():
    votes = [*crowd(6), vote("judge", "q2", group="judge", script="Arab")]
    assert [(part.name, part.raters) for part in portrait(votes).scripts] == [(OTHER, 7)]


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
    assert rates == {"judge/judge": 1.0, "person/person": 1.0, "person/judge": 0.0}


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
        script=st.sampled_from(["Latn", "Arab", "Hani"]),
        source=st.sampled_from(["choice", "ranking", "thumbs"]),
        weight=st.floats(0.01, 4),
    ),
    max_size=60,
)


GROUPS = dict.fromkeys("abcdef", "person")
GROUPS |= {"g": "imported", "h": "operator", "i": "judge", "j": "simulated"}


@given(VOTES)
def test_no_part_tells_of_fewer_than_five_people(votes):
    votes = [replace(one, group=GROUPS[one.rater]) for one in votes]
    people = {one.rater for one in votes if one.group not in PROGRAMS}
    found = portrait(votes)
    if 0 < len(people) < FEWEST or not votes:
        assert found == Portrait(programs=found.programs)
        return
    assert (found.raters, len(found.groups) > 0) == (len(people), True)
    for part in found.groups:
        assert part.name in PROGRAMS or part.raters >= FEWEST
    for part in (*found.scripts, *found.by_source, *found.by_script, found.agreement):
        assert part is None or not people or part.raters >= FEWEST
    assert sum(part.share for part in found.groups) == pytest.approx(1, abs=0.001)
    assert sum(part.share for part in found.scripts) == pytest.approx(1, abs=0.001)
    assert 1 <= found.effective <= found.raters + found.programs + 0.05


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
