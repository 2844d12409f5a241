"""A base whose replies two stand-ins of vLLM decode."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rlhf_core.model.base_model import Base
from rlhf_core.training.vllm.replica import Servers
from rlhf_core.training.vllm.rollouts import Rollouts
from tests.chat_app.engine.vllm.stand_in import StandIn, standing_in


@pytest.fixture
def servers(base: Base) -> Iterator[list[StandIn]]:
    """Two servers of vLLM."""
    with standing_in(base.tokenizer.get_vocab(), 2) as both:
        yield both


@pytest.fixture
def make_rollouts(servers: list[StandIn], tmp_path: Path) -> Callable[..., Rollouts]:
    def make(owner: str = "here", cycle: int = 1, part: int = 0) -> Rollouts:
        where = Servers(tuple(server.url for server in servers))
        folder = tmp_path / f"{owner}-{cycle}-{part}"
        return Rollouts(where, folder, owner=owner, cycle=cycle, part=part)

    return make


@pytest.fixture
def remote(base: Base, make_rollouts: Callable[..., Rollouts]) -> Base:
    base.attach("policy", trainable=True)
    base.elsewhere = make_rollouts()
    return base
