import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhf_core.reproduction.answering import test_set as asked_of
from rlhf_core.reproduction.claims import Found
from rlhf_core.reproduction.measures.judged import answers_stage
from rlhf_core.reproduction.measures.overoptimisation import (
    PENALTIES,
    _fall,
    _fit,
    _less_fall,
    _until,
    too_far,
)
from rlhf_core.reproduction.measures.statistics import Table, as_table
from tests.rlhf_core.reproduction.measures.written import SEED, N, bad, good, replies, written


@given(st.floats(0.5, 3), st.floats(0.1, 1))
def test_a_curve_of_the_papers_form_is_fitted_exactly(a: float, b: float) -> None:
    best_of = [(d, d * (a - b * d)) for d in (0.5, 1.0, 1.5, 2.0)]
    rl = [(d, d * (a - b * math.log(d))) for d in (0.5, 1.0, 2.0, 4.0)]
    assert _fit(best_of, lambda d: d * d) == pytest.approx(1)
    assert _fit(rl, lambda d: d * math.log(d)) == pytest.approx(1)


def test_too_few_points_are_no_fit() -> None:
    assert math.isnan(_fit([(0.0, 0.0), (1.0, 1.0), (2.0, 1.0)], lambda d: d))


def path(*golds: float) -> list[Table]:
    """A run of which every prompt has the same gold reward at a part."""
    return [as_table([gold] * 20) for gold in golds]


def test_a_run_that_only_rises_does_not_fall() -> None:
    found = _fall(path(0, 1, 2))
    assert (found.value, found.low) == (0, 0)


def test_a_fall_is_measured_from_the_best_point_to_the_end() -> None:
    found = _fall(path(0, 2, 1))
    assert (found.value, found.low, found.about) == (1, 1, "peak at part 1")


def test_noise_alone_is_no_fall() -> None:
    """The best of noisy points is above the last one; on other prompts it is not."""
    rng = np.random.default_rng(0)
    runs = [[as_table(rng.normal(size=200)) for _ in range(5)] for _ in range(100)]
    falls = [_fall(run).value for run in runs]
    assert abs(np.mean(falls)) < 0.03
    best = [max(part.mean for part in run) - run[-1].mean for run in runs]
    assert np.mean(best) > 0.05  # what it would be on the same prompts


def test_less_fall_has_a_sign_and_an_interval() -> None:
    found = _less_fall(path(0, 2, 1), path(0, 2, 1.75), "")
    assert (found.value, found.low) == (pytest.approx(0.75), pytest.approx(0.75))
    assert _less_fall(path(0, 2, 1.75), path(0, 2, 1), "").value == pytest.approx(-0.75)


def test_a_run_ends_where_it_passes_the_distance() -> None:
    cut = _until(1.5, [0.0, 1.0, 2.0, 3.0], path(0, 4, 2, 0))
    assert [part.mean for part in cut] == [0, 4, 3]
    assert [part.mean for part in _until(3.0, [0.0, 1.0, 3.0], path(0, 4, 2))] == [0, 4, 2]


def optimised(root: Path, *, one_kl: float, several_kl: float) -> Found:
    """One model's run gets good and then bad; the ensemble's gets good and stays so."""
    asked = asked_of("mixed", N, SEED)
    right, wrong = ({"mixed": replies(asked, write)} for write in (good, bad))

    def part(said: object, kl: float) -> dict[str, object]:
        return {"replies": said, "objective/kl": kl, "objective/scores": kl}

    stages = {
        "answers-sft": {"replies": wrong},
        "over-one-0": part(right, 1.0),
        "over-one-1": part(wrong, one_kl),
        "over-0": part(right, 1.0),
        "over-1": part(right, several_kl),
        **{f"over-one-{name}": part(right, 0.5) for name in PENALTIES},
        "best-of-reward-one": {
            "best of": [{"n": n, "score": n, "replies": right["mixed"]} for n in (1, 2, 4, 8)]
        },
    }
    return too_far(written(root, stages))


def test_the_fall_of_one_model_and_none_of_the_ensemble_are_found(tmp_path: Path) -> None:
    found = optimised(tmp_path, one_kl=4.0, several_kl=4.0).figures
    one = found["fall after the peak, one model"]
    assert one.value > 1 and one.low is not None and one.low > 0
    assert one.about.startswith("peak at part 1")
    assert found["fall after the peak, ensemble"].value == 0
    less = found["less fall with the ensemble"]
    assert less.value == pytest.approx(one.value) and less.low is not None and less.low > 0


def test_an_ensemble_that_went_less_far_is_compared_at_its_own_distance(tmp_path: Path) -> None:
    """Half of the way from distance 1 to 3, so half of the fall is not held against it."""
    found = optimised(tmp_path, one_kl=9.0, several_kl=4.0).figures
    less = found["less fall with the ensemble"]
    assert less.value == pytest.approx(found["fall after the peak, one model"].value / 2)
    assert "distance of 2.00" in less.about


@pytest.mark.parametrize(
    ("policy", "stage"),
    [
        ("ptx", "answers-ptx"),
        ("best-of-reward", "answers-best-of-reward"),
        ("small-ptx", "small-answers-ptx"),
        ("large-base", "large-answers-base"),
    ],
)
def test_a_policy_of_another_line_has_its_own_answers(policy: str, stage: str) -> None:
    assert answers_stage(policy) == stage
