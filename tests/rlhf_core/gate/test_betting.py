"""Evidence from choices: how often it errs, how soon it finds a difference, and what counts."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhf_core.gate.betting import BET, ENOUGH, MOST, live_evidence, stakes


def people(rng, rate, choices, raters=100, spread=0.1):
    """Choices of raters whose own rates differ around the rate."""
    own = np.clip(rng.normal(rate, spread, raters), 0, 1)
    who = rng.integers(raters, size=choices)
    return [(str(r), "first" if rng.random() < own[r] else "second") for r in who]


def shown(rate, choices, verdict, runs=300, **kinds):
    """Share of the runs with a verdict."""
    rng = np.random.default_rng(int(1000 * rate))
    found = [live_evidence(people(rng, rate, choices, **kinds)) for _ in range(runs)]
    return sum(one.verdict == verdict for one in found) / runs


def test_policies_that_are_equal_are_called_better_or_worse_once_in_twenty_times():
    for spread in (0.0, 0.2):
        assert shown(0.5, 600, "better", spread=spread) <= 0.06
        assert shown(0.5, 600, "worse", spread=spread) <= 0.06


def test_a_better_policy_is_found_within_300_choices_and_a_worse_one_within_400():
    assert shown(0.6, 300, "better") >= 0.8
    assert shown(0.4, 400, "worse") >= 0.9
    assert shown(0.8, 80, "better") >= 0.95


def test_ties_move_nothing_and_count_as_half():
    found = live_evidence([("ann", "neither")] * 3 + [("bob", "neither")])
    assert (found.better, found.worse, found.rate, found.verdict) == (1.0, 1.0, 0.5, "not shown")


def test_one_rater_alone_shows_nothing_however_often_they_choose():
    found = live_evidence([("ann", "first")] * 1000)
    assert found.choices == MOST and found.left_out == 1000 - MOST
    assert found.better == pytest.approx(1 + BET * MOST / 2) and found.better < 2


def test_what_was_shown_once_stays_shown():
    for_it = [(str(n), "first") for n in range(40)]
    against = [(str(n), "second") for n in range(100, 130)]
    assert live_evidence(for_it).better > ENOUGH
    later = live_evidence([*for_it, *against])
    assert later.better == live_evidence(for_it).better and later.verdict == "better"


def test_no_choices_show_nothing():
    assert live_evidence([]).verdict == "not shown"


choice = st.tuples(st.sampled_from("abcde"), st.sampled_from(["first", "second", "neither"]))


@given(st.lists(choice, max_size=60))
def test_stakes_are_positive_and_the_other_side_sees_the_mirror(choices):
    found = live_evidence(choices)
    assert found.better >= 1 and found.worse >= 1 and math.isfinite(found.better)
    mirror = {"first": "second", "second": "first", "neither": "neither"}
    other = live_evidence([(rater, mirror[kind]) for rater, kind in choices])
    assert (other.better, other.worse) == (found.worse, found.better)
    assert other.rate == pytest.approx(1 - found.rate)
    assert found.choices + found.left_out == len(choices)


def test_the_path_ends_where_the_evidence_is_and_leaves_out_what_does_not_count():
    choices = [("ann", "first")] * (MOST + 2) + [("bob", "second"), ("eve", "neither")]
    path = list(stakes(choices))
    assert [i for i, stake in enumerate(path) if stake is None] == [MOST, MOST + 1]
    counted = [stake for stake in path if stake is not None]
    found = live_evidence(choices)
    assert found.choices == len(counted) and found.left_out == 2
    assert found.better == max(first for first, _ in counted)
    assert found.worse == 1.0  # where it began: no stake on the second policy was higher
    assert counted[-1] == counted[-2]  # neither is better, so nothing moves
