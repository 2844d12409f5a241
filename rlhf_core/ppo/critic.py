"""The critic: a linear value head on the policy's own trunk.

TRL's log-probability pass never returns hidden states, so they are taken by a forward hook on the
decoder while ``reading``. The value of a token is read before it, at the state in which the policy
chose it. The hook also leaves the decoder's other states out, since nothing else is read from them.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from rlhf_core.config import PolicySettings
from rlhf_core.model.base_model import Base


@dataclass(frozen=True, slots=True)
class Packed:
    """Some rows of a rollout, right-padded; N counts their response tokens."""

    ids: Tensor  # (b, L)
    attention: Tensor  # (b, L)
    states: tuple[Tensor, Tensor]  # row and position of the state before each response token; (N,)
    targets: Tensor  # the response tokens; (N,)
    places: tuple[Tensor, Tensor]  # row and column of each response token in the rollout; (N,)


def packed(input_ids: Tensor, attention: Tensor, n_tokens: int, *, rows: int) -> Iterator[Packed]:
    """Cut a rollout into parts of at most ``rows`` rows of similar length.

    Args:
        input_ids: Prompts, padded on the left, and responses, padded on the right. (B, P + T)
        attention: 1 on real tokens; every prompt has one. (B, P + T)
        n_tokens: T, the width of the responses.
        rows: Rows of one part.
    """
    real_first = attention.argsort(dim=1, descending=True, stable=True)
    ids, mask = input_ids.gather(1, real_first), attention.gather(1, real_first)
    prompts, lengths = attention[:, :-n_tokens].sum(1), attention.sum(1)  # (B,)
    for chosen in torch.split(lengths.argsort(), rows):
        width = int(lengths[chosen].max())
        row, column = attention[chosen, -n_tokens:].nonzero(as_tuple=True)  # (N,)
        places = chosen[row], column
        position = prompts[places[0]] + column - 1
        part = ids[chosen, :width]
        targets = part[row, position + 1]
        yield Packed(part, mask[chosen, :width], (row, position), targets, places)


def spread(values: Sequence[Tensor], parts: Sequence[Packed], shape: tuple[int, int]) -> Tensor:
    """What was found for each response token, back in the rollout's shape, zero on padding.

    Args:
        values: One value for each response token of each part. (N,)
        parts: The parts.
        shape: (B, T)
    """
    rows, columns = (torch.cat([part.places[k] for part in parts]) for k in (0, 1))
    flat = torch.cat(list(values))
    return flat.new_zeros(shape).index_put((rows, columns), flat)  # (B, T)


class Critic(nn.Module):
    """Value head for states of ``width`` numbers; it starts at zero and so predicts nothing."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.head = nn.Linear(width, 1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        self._places: tuple[Tensor, Tensor] | None = None
        self._states: Tensor | None = None

    @contextmanager
    def reading(self, rows: Tensor, positions: Tensor) -> Iterator[None]:
        """Within the block the decoder gives the states at these places alone, in one row.

        Args:
            rows: (N,)
            positions: (N,)
        """
        self._places, self._states = (rows, positions), None
        try:
            yield
        finally:
            self._places = None

    def hear(self, _module: nn.Module, _inputs: Any, output: Any) -> Any:
        """Forward hook of the decoder."""
        if self._places is None:
            return None
        self._states = output.last_hidden_state[self._places]  # (N, d)
        output.last_hidden_state = self._states[None]
        return output

    def values(self) -> Tensor:
        """Value in each of the states that were read last; (N,)."""
        if self._states is None:
            raise RuntimeError("the critic read no pass through the decoder")
        values: Tensor = self.head(self._states.float()).squeeze(-1)
        self._states = None  # else the graph behind it would outlive the loss
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


def optimizer_of(base: Base, critic: Critic, settings: PolicySettings) -> torch.optim.Optimizer:
    """Adam for the policy and the critic, which learn at rates of their own."""
    head = list(critic.parameters())
    known = set(map(id, head))  # the critic is a part of the model, too
    policy = [p for p in base.model.parameters() if p.requires_grad and id(p) not in known]
    return torch.optim.AdamW(
        [
            {"params": policy, "lr": settings.learning_rate},
            {"params": head, "lr": settings.value_learning_rate},
        ],
        eps=1e-5,  # arXiv:2403.17031: a larger epsilon than PyTorch's tames the first steps
        weight_decay=0.0,
        fused=True,  # one kernel instead of a dozen for each of an adapter's many small tensors
    )
