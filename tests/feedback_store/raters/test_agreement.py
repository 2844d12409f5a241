import re
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feedback_store.raters.agreement import (
    PairVote,
    VoteArrays,
    agreement,
    judgement,
    opposing_camp,
    shares_agreeing,
)


def judged(verdicts):
    """Judgements from {rater: verdicts on subjects 0, 1, ...; None where there is none}."""
    return [
        PairVote(("prompt", f"{subject:03}", "other"), rater, verdict)
        for rater, given in verdicts.items()
        for subject, verdict in enumerate(given)
        if verdict is not None
    ]


def crowd(skills, *, subjects, each=3, seed=0):
    """Every subject judged by `each` of the raters, who are right as often as their skill says."""
    rng = np.random.default_rng(seed)
    names = sorted(skills)
    found = []
    for subject in range(subjects):
        truth = rng.choice([-1, 1])
        for rater in rng.choice(names, each, replace=False):
            verdict = truth if rng.random() < skills[rater] else -truth
            found.append(PairVote(("prompt", f"{subject:04}", "other"), str(rater), int(verdict)))
    return found


def krippendorff(found):
    """Nominal alpha from its definition: 1 - observed / expected disagreement."""
    units = {}
    for vote in found:
        units.setdefault(vote.subject, []).append(vote.verdict)
    units = [values for values in units.values() if len(values) > 1]
    everything = [value for values in units for value in values]

    def differing(values):
        return sum(a != b for a in values for b in values)

    n = len(everything)
    observed = sum(differing(values) / (len(values) - 1) for values in units) / n
    return 1 - observed / (differing(everything) / (n * (n - 1)))


def test_alpha_is_krippendorffs():
    found = judged(
        {
            "ann": [1, 1, -1, 0, 1, None, -1, 1],
            "bob": [1, -1, -1, 0, None, 1, -1, 1],
            "cleo": [1, 1, -1, 1, 0, None, None, -1],
        }
    )
    result = agreement(found)
    assert result.alpha == pytest.approx(krippendorff(found))
    assert result.low <= result.alpha <= result.high
    assert (result.subjects, result.raters) == (7, 3)  # one was judged by bob alone


def test_raters_of_known_skill_agree_as_much_as_they_should():
    # two raters right with probability .8 agree in .68 of cases: alpha = 2 * .68 - 1
    found = crowd({f"rater-{i}": 0.8 for i in range(10)}, subjects=2000)
    result = agreement(found)
    assert result.alpha == pytest.approx(0.36, abs=0.04)
    assert result.high - result.low < 0.1


@pytest.mark.parametrize(
    ("found", "says"),
    [
        ([], "no two raters"),
        (judged({"ann": [1, -1], "bob": [None, None, 1]}), "no two raters"),
        (judged({"ann": [1, 1], "bob": [1, 1]}), "judged only 2 of the pairs .* too few"),
        (judged({"ann": [1] * 40, "bob": [1, *[None] * 39]}), "judged only 1 of the pairs"),
        (judged({"ann": [1] * 9, "bob": [1] * 9}), "judged only 9 of the pairs"),
        (judged({"ann": [1] * 10, "bob": [1] * 10}), "all judgements are the same"),
    ],
)
def test_where_agreement_cannot_be_told_it_says_why(found, says):
    result = agreement(found)
    assert (result.alpha, result.low, result.high) == (None, None, None)
    assert re.search(says, result.reason)


def test_a_judgement_does_not_depend_on_the_side_of_a_text():
    assert judgement("ann", "p", ("x", "y"), "a") == judgement("ann", "p", ("y", "x"), "b")
    assert judgement("ann", "p", ("x", "y"), "a") != judgement("ann", "p", ("y", "x"), "a")
    assert judgement("ann", "p", ("x", "y"), "tie") == judgement("ann", "p", ("y", "x"), "tie")


def test_shares_count_every_meeting_with_another_rater():
    found = judged({"ann": [1, 1, 1, None], "bob": [1, -1, None, 1], "cleo": [1, 1, None, None]})
    shares = shares_agreeing(VoteArrays(found))
    assert shares == pytest.approx({"ann": 3 / 4, "bob": 2 / 4, "cleo": 3 / 4})


@settings(deadline=None, max_examples=20)
@given(st.randoms(use_true_random=False), st.integers(0, 50))
def test_the_order_of_judgements_does_not_matter(random, seed):
    skills = {f"rater-{i}": 0.8 for i in range(8)} | {f"sybil-{i}": 0.0 for i in range(4)}
    found = crowd(skills, subjects=60, seed=seed)
    shuffled = random.sample(found, len(found))
    assert agreement(shuffled) == agreement(found)
    assert opposing_camp(VoteArrays(shuffled)) == opposing_camp(VoteArrays(found))


def test_accounts_under_one_hand_are_found():
    honest = {f"honest-{i:02}": 0.75 for i in range(20)}
    sybils = {f"sybil-{i}": 0.02 for i in range(8)}
    found = crowd(honest | sybils, subjects=500)
    assert opposing_camp(VoteArrays(found)) == set(sybils)


@pytest.mark.parametrize("skill", [0.5, 0.55, 0.65, 0.95])
def test_raters_who_differ_only_by_accident_are_no_camp(skill):
    for seed in range(20):
        found = crowd({f"rater-{i}": skill for i in range(15)}, subjects=150, seed=seed)
        assert opposing_camp(VoteArrays(found)) == frozenset()


def test_another_taste_is_no_camp_as_long_as_it_shares_most_judgements():
    """A third of the raters find the opposite where taste decides: in a third of the subjects."""
    rng = np.random.default_rng(0)
    found = []
    for subject in range(600):
        truth, of_taste = rng.choice([-1, 1]), rng.random() < 1 / 3
        for number in rng.choice(30, 4, replace=False):
            mine = -truth if of_taste and number < 10 else truth
            verdict = mine if rng.random() < 0.8 else -mine
            found.append(PairVote(("p", f"{subject}", "y"), f"rater-{number}", int(verdict)))
    assert opposing_camp(VoteArrays(found)) == frozenset()


def test_raters_who_never_met_and_raters_who_cancel_out_are_no_camps():
    apart = {f"r{i:02}": [None] * i + [1] for i in range(12)}
    assert opposing_camp(VoteArrays(judged(apart))) == frozenset()
    even = {f"r{i:02}": [1, 1 if i % 2 else -1] for i in range(12)}
    assert opposing_camp(VoteArrays(judged(even))) == frozenset()


@settings(deadline=None)
@given(st.lists(st.lists(st.sampled_from([1, -1, None]), min_size=1, max_size=4), max_size=16))
def test_any_judgements_have_an_answer(verdicts):
    votes = VoteArrays(judged({f"r{i:02}": given for i, given in enumerate(verdicts)}))
    assert opposing_camp(votes) <= set(votes.raters)
    assert all(0 <= share <= 1 for share in shares_agreeing(votes).values())


def test_the_store_loads_no_statistics_until_they_are_asked_for_and_never_torch():
    heavy = "('torch', 'transformers', 'evalica', 'scipy', 'sklearn')"
    code = f"""import sys, feedback_store
print([name for name in {heavy} if name in sys.modules])
import feedback_store.raters.agreement, feedback_store.raters.reliability
print([name for name in {heavy} if name in sys.modules])"""
    words = [sys.executable, "-W", "ignore", "-c", code]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["[]", "['evalica', 'scipy', 'sklearn']"]
