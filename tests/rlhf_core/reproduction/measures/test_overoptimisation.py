import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhf_core.reproduction.measures.judged import answers_stage
from rlhf_core.reproduction.measures.overoptimisation import _fall, _fit


@given(st.floats(0.5, 3), st.floats(0.1, 1))
def test_a_curve_of_the_papers_form_is_fitted_exactly(a: float, b: float) -> None:
    best_of = [(d, d * (a - b * d)) for d in (0.5, 1.0, 1.5, 2.0)]
    rl = [(d, d * (a - b * math.log(d))) for d in (0.5, 1.0, 2.0, 4.0)]
    assert _fit(best_of, lambda d: d * d) == pytest.approx(1)
    assert _fit(rl, lambda d: d * math.log(d)) == pytest.approx(1)


def test_too_few_points_are_no_fit() -> None:
    assert math.isnan(_fit([(0.0, 0.0), (1.0, 1.0), (2.0, 1.0)], lambda d: d))


def test_a_run_that_only_rises_does_not_fall() -> None:
    found = _fall([[[0.0] * 20], [[1.0] * 20], [[2.0] * 20]])
    assert (found.value, found.low) == (0, 0)


def test_a_fall_is_measured_from_the_best_point_to_the_end() -> None:
    found = _fall([[[0.0] * 20], [[2.0] * 20], [[1.0] * 20]])
    assert (found.value, found.low, found.about) == (1, 1, "peak at part 1")


@pytest.mark.parametrize(
    ("policy", "stage"),
    [
        ("ptx", "answers-ptx"),
        ("best-of-n", "answers-best-of-n"),
        ("small-ptx", "small-answers-ptx"),
        ("large-base", "large-answers-base"),
    ],
)
def test_a_policy_of_another_line_has_its_own_answers(policy: str, stage: str) -> None:
    assert answers_stage(policy) == stage
