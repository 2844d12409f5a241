import math

import pytest

from chat_app.handlers.progress.shares import BINS, scores_of

SERVED = [float(n) for n in range(100)]


def test_scores_are_told_in_deviations_of_the_served_policys():
    found = scores_of(SERVED, [score + 28.866 for score in SERVED])
    assert found.shift == pytest.approx(1.0, abs=0.01)
    assert found.above == pytest.approx(0.79, abs=0.01)
    assert len(found.served) == len(found.candidate) == BINS
    assert sum(found.served) == pytest.approx(1) and sum(found.candidate) == pytest.approx(1)


def test_the_scale_of_the_reward_model_does_not_matter():
    candidate = [score + 9 for score in SERVED]
    ten = scores_of([10 * s + 3 for s in SERVED], [10 * s + 3 for s in candidate])
    assert ten == scores_of(SERVED, candidate)


def test_scores_beyond_the_last_bins_are_in_these():
    found = scores_of(SERVED, [1e9] * 10)
    assert found.candidate[-1] == 1.0 and found.above == 1.0


@pytest.mark.parametrize("served", [[], [1.0] * 9, [1.0] * 100, [math.nan] * 20])
def test_too_few_scores_or_scores_without_a_spread_are_not_told(served):
    assert scores_of(served, SERVED) is None
