import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhf_core.reproduction.measures.statistics import (
    Table,
    bootstrap,
    difference,
    ratio,
    share,
    share_within,
)

WINS = st.lists(st.sampled_from((0.0, 0.5, 1.0)), min_size=2, max_size=40)


@given(WINS)
def test_a_share_is_the_mean_and_lies_in_its_interval(values: list[float]) -> None:
    found = share(values)
    assert found.value == pytest.approx(np.mean(values))
    assert found.low is not None and found.high is not None
    assert found.low <= found.value <= found.high
    assert found.low >= -1e-9 and found.high <= 1 + 1e-9


def test_the_interval_of_a_share_is_wilsons() -> None:
    found = share([1.0] * 80 + [0.0] * 20)
    # hand-computed: p = .8, n = 100, z = 1.96; Student's t for 100 clusters is 1.98
    assert (found.low, found.high) == (
        pytest.approx(0.7112, abs=0.003),
        pytest.approx(0.8666, abs=0.003),
    )


@given(WINS)
def test_a_difference_from_itself_is_surely_nothing(values: list[float]) -> None:
    found = difference(values, values)
    assert (found.value, found.low, found.high) == (0, 0, 0)


def test_a_ratio_that_is_the_same_on_every_prompt_is_sure() -> None:
    found = ratio([0.5, 0.25, 1.0], [1.0, 0.5, 2.0])
    assert (found.low, found.value, found.high) == (
        pytest.approx(0.5),
        pytest.approx(0.5),
        pytest.approx(0.5),
    )


def test_a_ratio_to_nothing_is_no_number() -> None:
    assert math.isnan(ratio([0.0, 0.0], [0.0, 0.0]).value)


def test_a_ratio_to_nearly_nothing_has_no_upper_end() -> None:
    found = ratio([1.0, 1.0, 0.0, 1.0], [0.0, 1.0, 0.0, 0.0])
    assert found.value == 3.0 and found.high == math.inf


def test_prompts_are_drawn_together_for_all_quantities() -> None:
    rng = np.random.default_rng(0)
    hard = rng.random(300)  # the same prompts are hard for both
    paired = difference(hard + 0.1, hard)
    assert paired.low == pytest.approx(0.1) and paired.high == pytest.approx(0.1)


def test_seeds_that_differ_widen_the_interval_whatever_the_number_of_prompts() -> None:
    same = [[0.0, 1.0] * 500] * 3
    apart = [[0.0] * 1000, [1.0] * 1000, [0.0, 1.0] * 500]
    narrow, wide = (bootstrap([one], lambda means: means[0]) for one in (same, apart))
    assert narrow.high - narrow.low < 0.1  # type: ignore[operator]
    assert wide.high - wide.low > 0.6  # type: ignore[operator]


def test_a_share_within_looks_at_the_chosen_prompts_alone() -> None:
    found = share_within([[1.0, 0.0, 1.0, 1.0]], [[1.0, 1.0, 0.0, 0.0]])
    assert found.value == 0.5


def test_the_bootstrap_gives_the_same_numbers_each_time() -> None:
    values = [0.0, 1.0, 1.0, 0.5]
    first, second = (bootstrap([values], lambda means: means[0]) for _ in range(2))
    assert first == second


def subjects(rng: np.random.Generator, seeds: int = 1) -> Table:
    """600 replies about 30 subjects, some of which are easy; half are right in the long run."""
    names = rng.integers(30, size=(seeds, 600))
    easy = rng.beta(2, 2, size=30)
    return Table((rng.random((seeds, 600)) < easy[names]).astype(float), names.astype(str))


@pytest.mark.parametrize("seeds", [1, 3])
def test_intervals_hold_the_truth_when_subjects_come_again(seeds: int) -> None:
    """95% of the time; requests counted as if they were independent gave about 60%."""
    rng = np.random.default_rng(0)
    held = {"by subject": 0, "by request": 0}
    for _ in range(200 if seeds == 1 else 60):
        table = subjects(rng, seeds)
        for name, found in (("by subject", share(table)), ("by request", share(table.values))):
            assert found.low is not None and found.high is not None
            held[name] += found.low <= 0.5 <= found.high
    tried = 200 if seeds == 1 else 60
    assert held["by subject"] > 0.9 * tried > 0.8 * tried > held["by request"]


def test_a_figure_says_of_how_many_subjects_it_is() -> None:
    table = Table(np.array([[0.0, 1.0, 1.0]]), np.array([["Peru", "Peru", "Chile"]]))
    assert share(table, "about").about == "about; 3 replies, 2 subjects or texts"
    assert difference(table, table).about == "3 replies, 2 subjects or texts"
    assert share_within(table, [[1, 1, 0]]).about == "2 replies, 1 subjects or texts"


def test_one_text_asked_many_times_proves_nothing() -> None:
    table = Table(np.ones((1, 65)), np.full((1, 65), "List three cities."))
    assert (share(table).low, share(table).high) == (0, 1)
    assert difference(table, table).low is None


@pytest.mark.parametrize("seeds", [1, 3])
def test_what_never_happened_is_not_surely_impossible(seeds: int) -> None:
    clusters = np.tile(np.arange(60) // 6, (seeds, 1)).astype(str)
    never = Table(np.zeros((seeds, 60)), clusters)
    found = share_within(never, np.ones((seeds, 60)))
    assert found.low == 0 and found.high is not None and found.high > 0.2  # of 10 clusters


def test_a_share_within_is_wilsons_over_the_chosen_prompts() -> None:
    values = [1.0] * 40 + [0.0] * 10 + [1.0] * 50
    assert share_within(values, [1.0] * 50 + [0.0] * 50) == share(values[:50])


def test_nothing_chosen_is_no_number() -> None:
    assert math.isnan(share_within([1.0, 0.0], [0.0, 0.0]).value)
