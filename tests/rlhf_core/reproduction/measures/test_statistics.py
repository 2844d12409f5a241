import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhf_core.reproduction.measures.statistics import (
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
    # hand-computed: p = .8, n = 100, z = 1.96
    assert (found.low, found.high) == (
        pytest.approx(0.7112, abs=0.002),
        pytest.approx(0.8666, abs=0.002),
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
