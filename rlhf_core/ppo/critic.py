"""The critic, a linear value head on the policy's own trunk, and the rows that it reads.

A rollout pads prompts on the left and responses on the right, all to the longest of the batch. A
pass through the network would spend much of its time on padding, so ``packed`` takes it out: rows
begin at position 0, and rows of similar length go together. None of this changes a number beyond
rounding.

The value of a token is read at the state before it, in which the policy chose it. TRL's pass never
returns hidden states, so a forward hook on the decoder takes them. The hook leaves out all states
but those before response tokens, because TRL's head would project every state onto the vocabulary.

Shapes: B responses in the rollout, P prompt tokens, T response tokens; b rows in a part of it, L
tokens in the longest of them, N response tokens in all of them, d numbers in a hidden state.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from rlhf_core.config import PolicySettings
from rlhf_core.model.base_model import Base
from rlhf_core.model.token_batches import token_batches


@dataclass(frozen=True, slots=True)
class Packed:
    """Some rows of a rollout, with padding only on the right."""

    ids: Tensor  # (b, L)
    attention: Tensor  # 1 on real tokens; (b, L)
    states: tuple[Tensor, Tensor]  # row and position of the state before each response token; (N,)
    targets: Tensor  # the response tokens; (N,)
    places: tuple[Tensor, Tensor]  # row and column of each response token in the rollout; (N,)


def packed(input_ids: Tensor, attention: Tensor, n_tokens: int, *, tokens: int) -> Iterator[Packed]:
    """Cut a rollout into parts of rows of similar length.

    Args:
        input_ids: Prompts, padded on the left, and responses, padded on the right. (B, P + T)
        attention: 1 on real tokens; every prompt has one. (B, P + T)
        n_tokens: T, the width of the responses.
        tokens: Most tokens of one part, with its padding.
    """
    # a stable sort by the mask moves padding to the end and keeps the order of real tokens
    real_first = attention.argsort(dim=1, descending=True, stable=True)  # (B, P + T)
    ids, mask = input_ids.gather(1, real_first), attention.gather(1, real_first)
    prompts, lengths = attention[:, :-n_tokens].sum(1), attention.sum(1)  # (B,)
    for rows in token_batches(lengths.tolist(), tokens=tokens):
        chosen = torch.tensor(rows, device=ids.device)  # (b,)
        width = int(lengths[chosen].max())  # L
        row, column = attention[chosen, -n_tokens:].nonzero(as_tuple=True)  # (N,)
        # a response begins where its prompt ends; the state before a token is one to the left
        position = prompts[chosen[row]] + column - 1  # (N,)
        part = ids[chosen, :width]  # (b, L)
        targets = part[row, position + 1]  # (N,)
        yield Packed(
            part, mask[chosen, :width], (row, position), targets, places=(chosen[row], column)
        )


def spread(values: Sequence[Tensor], parts: Sequence[Packed], shape: tuple[int, int]) -> Tensor:
    """Put what was found for each response token back into the rollout's shape.

    Args:
        values: For each part, a value or a vector for each of its response tokens. (N, ...) each
        parts: The parts.
        shape: Of the responses, ``(B, T)``.

    Returns:
        The values, zero on padding. (B, T, ...)
    """
    rows, columns = (torch.cat([part.places[k] for part in parts]) for k in (0, 1))
    flat = torch.cat(list(values))  # one value for each response token of the rollout
    return flat.new_zeros(*shape, *flat.shape[1:]).index_put((rows, columns), flat)  # (B, T, ...)


class Critic(nn.Module):
    """A value head for states of ``width`` numbers; it starts at zero, so it expects nothing."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.head = nn.Linear(width, 1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        self._places: tuple[Tensor, Tensor] | None = None
        self._states: Tensor | None = None

    @contextmanager
    def reading(self, rows: Tensor, positions: Tensor) -> Iterator[None]:
        """Within the block the decoder returns the states at these places only, in one row.

        Args:
            rows: Row of each state. (N,)
            positions: Its position within the row. (N,)
        """
        self._places, self._states = (rows, positions), None
        try:
            yield
        finally:
            self._places = None

    def hear(self, _module: nn.Module, _inputs: Any, output: Any) -> Any:
        """Forward hook of the decoder."""
        if self._places is None:
            return None  # nobody reads: the output stays as it is
        # In float32, so that TRL's head computes in float32, too: the network itself may be in
        # bfloat16, in which a log-probability of -5 is off by .02.
        self._states = output.last_hidden_state[self._places].float()  # (N, d) from (b, L, d)
        output.last_hidden_state = self._states[None]  # (1, N, d)
        return output

    def states(self) -> Tensor:
        """The states of the pass that was read last, in float32; (N, d)."""
        if self._states is None:
            raise RuntimeError("the critic read no pass through the decoder")
        states, self._states = self._states, None  # else they and their graph would stay in memory
        return states

    def values(self, states: Tensor) -> Tensor:
        """Value of each state; (...) from (..., d)."""
        values: Tensor = self.head(states).squeeze(-1)
        return values


@contextmanager
def attached_critic(base: Base, *, trained: bool = True) -> Iterator[Critic]:
    """A critic on the base, taken off again at the end of the block.

    It is a submodule of the model so that data-parallel training averages its gradients, too.

    Args:
        base: The shared base.
        trained: Whether its head learns; RLOO only needs the rows that a critic leaves.
    """
    critic = (
        Critic(base.model.config.get_text_config().hidden_size)
        .to(base.device)
        .requires_grad_(trained)
    )
    base.model.add_module("critic", critic)
    hook = base.model.get_decoder().register_forward_hook(critic.hear)
    try:
        yield critic
    finally:
        hook.remove()
        del base.model.critic


def optimizer_of(base: Base, critic: Critic, settings: PolicySettings) -> torch.optim.Optimizer:
    """Adam for the policy and the critic, each with its own learning rate."""
    head = [p for p in critic.parameters() if p.requires_grad]
    known = set(map(id, head))  # the critic is a part of the model and must not be counted twice
    policy = [p for p in base.model.parameters() if p.requires_grad and id(p) not in known]
    groups: list[dict[str, Any]] = [{"params": policy, "lr": settings.learning_rate}]
    if head:
        groups.append({"params": head, "lr": settings.value_learning_rate})
    return torch.optim.AdamW(
        groups,
        eps=1e-5,  # arXiv:2403.17031: larger than PyTorch's, so that the first steps are smaller
        weight_decay=0.0,
        fused=True,  # one kernel instead of a dozen for each of an adapter's many small tensors
    )
