import pytest

from rlhf_core.errors import DivergenceError
from rlhf_core.ppo.kl_control import require_bounded_kl


def test_a_kl_that_no_language_has_is_divergence():
    require_bounded_kl(80.0, 12.0)
    with pytest.raises(DivergenceError, match="130 nats a response of 12 tokens"):
        require_bounded_kl(130.0, 12.0)
