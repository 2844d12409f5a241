"""The critic: a linear value head on the policy's own trunk.

TRL's log-probability pass never returns hidden states, so they are taken by a forward hook on the
decoder while ``listening``. The value of a token is read before it, at the state in which the
policy chose it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from rlhf_core.base_model import Base


class Critic(nn.Module):
    """Value head that starts at zero: without experience it predicts nothing."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.head = nn.Linear(width, 1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        self._hidden: list[Tensor] | None = None

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Keep the hidden states of all passes within the block."""
        self._hidden = []
        try:
            yield
        finally:
            self._hidden = None

    def hear(self, _module: nn.Module, _inputs: Any, output: Any) -> None:
        """Forward hook of the decoder."""
        if self._hidden is not None:
            self._hidden.append(output.last_hidden_state)

    def values(self, n_tokens: int) -> Tensor:
        """Value before each of the last ``n_tokens`` tokens of what was heard; (B, T)."""
        if not self._hidden:
            raise RuntimeError("the critic heard no pass through the decoder")
        hidden = torch.cat(self._hidden)[:, -n_tokens - 1 : -1]  # (B, T, d)
        values: Tensor = self.head(hidden.float()).squeeze(-1)
        return values


@contextmanager
def attached_critic(base: Base) -> Iterator[Critic]:
    """A critic on the base, taken off again at the end.

    It is a submodule of the model so that data-parallel training reduces its gradients too.
    """
    critic = Critic(base.model.config.hidden_size).to(base.device)
    base.model.add_module("critic", critic)
    hook = base.model.get_decoder().register_forward_hook(critic.hear)
    try:
        yield critic
    finally:
        hook.remove()
        del base.model.critic
