import pytest

from rlhf_core.errors import DivergenceError
from rlhf_core.ppo.kl_control import KLController, require_bounded_kl


def test_without_a_target_the_penalty_stays_as_it_is():
    control = KLController(0.1, target=None, horizon=100)
    control.update(50.0, 64)
    assert control.coef == 0.1


@pytest.mark.parametrize(
    ("kl", "coef"),
    [
        (6.0, 0.1),  # on target
        (6.6, 0.1 * (1 + 0.1 * 64 / 10_000)),  # a tenth too much
        (60.0, 0.1 * (1 + 0.2 * 64 / 10_000)),  # far too much: the error is clipped to a fifth
        (0.0, 0.1 * (1 - 0.2 * 64 / 10_000)),
        (-1.0, 0.1 * (1 - 0.2 * 64 / 10_000)),  # an estimate may be below zero
    ],
)
def test_the_penalty_follows_the_kl_as_computed_by_hand(kl, coef):
    control = KLController(0.1, target=6.0, horizon=10_000)
    control.update(kl, 64)
    assert control.coef == pytest.approx(coef, rel=1e-9)


def test_a_kl_that_no_language_has_is_divergence():
    require_bounded_kl(80.0, 12.0)
    with pytest.raises(DivergenceError, match="130 nats a response of 12 tokens"):
        require_bounded_kl(130.0, 12.0)
