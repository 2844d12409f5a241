"""Rollout rows without their padding: what a forward pass needs of them, and no more.

A rollout pads prompts on the left and responses on the right, all to the longest of the batch. Here
rows begin at position 0, similar lengths go through the network together, and only the states
before response tokens are projected onto the vocabulary. None of this changes a number beyond
rounding; which rows go together is free.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


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
