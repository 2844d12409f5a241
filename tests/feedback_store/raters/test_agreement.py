import re
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feedback_store.raters.agreement import (
    PairVote,
    agreement,
    judgement,
    shares_agreeing,
    vote_arrays,
)


def judged(verdicts):
    """Judgements from {rater: verdicts on subjects 0, 1, ...; None where there is none}."""
    return [
        PairVote((f"prompt {subject:03}", "one", "other"), rater, verdict)
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
            about = (f"prompt {subject:04}", "one", "other")
            found.append(PairVote(about, str(rater), int(verdict)))
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


def test_alpha_of_krippendorffs_own_example():
    # 4 of 10 units differ; of 20 verdicts 14 are one way: 1 - .4 / (2 * 14 * 6 / (20 * 19))
    meg, owen = [-1, 1, -1, -1, -1, -1, -1, -1, 1, -1], [1, 1, 1, -1, -1, 1, -1, -1, -1, -1]
    result = agreement(judged({"meg": meg, "owen": owen}))
    assert result.alpha == pytest.approx(0.0952, abs=1e-4)


def test_alpha_is_what_its_definition_says_where_judgements_are_missing():
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


def test_the_interval_holds_what_is_true_nineteen_times_in_twenty():
    skills = {f"rater-{i}": 0.8 for i in range(10)}
    results = [agreement(crowd(skills, subjects=100, seed=seed)) for seed in range(300)]
    assert np.mean([one.low <= 0.36 <= one.high for one in results]) == pytest.approx(
        0.95, abs=0.03
    )


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
    shares = shares_agreeing(vote_arrays(found, ["ann", "bob", "cleo", "dan"]), 4)
    assert shares == [3 / 4, 2 / 4, 3 / 4, None]


@settings(deadline=None, max_examples=20)
@given(st.randoms(use_true_random=False), st.integers(0, 50))
def test_the_order_of_judgements_does_not_matter(random, seed):
    found = crowd({f"rater-{i}": 0.8 for i in range(8)}, subjects=60, seed=seed)
    assert agreement(random.sample(found, len(found))) == agreement(found)


def test_the_store_never_loads_torch():
    heavy = "('torch', 'transformers')"
    code = f"import sys, feedback_store; print([n for n in {heavy} if n in sys.modules])"
    words = [sys.executable, "-W", "ignore", "-c", code]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
