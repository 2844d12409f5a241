"""Which rows go through the network together: as many as a number of tokens allows.

A pass needs memory for each of its tokens, also for padding. So long rows go in small batches, and
rows of like length go together. None of this changes a number beyond rounding.
"""

from collections.abc import Sequence

import torch

# Of one pass: rows times the longest of them. On a CPU more rows only add padding, and their states
# leave its caches: at 4096 an iteration of PPO took 1.2 to 1.6 times as long. A GPU wants more;
# how much was not measured.
CPU_TOKENS, GPU_TOKENS = 640, 8192

# Of new prompts, between two steps of replies that people read meanwhile. On a CPU, 64 tokens of a
# model of 135M take as long as 5 steps of one row or 2 of 8, and a long prompt takes 1.2 times as
# long as with 640 (docs/results.md, "Long prompts"). On a GPU this was not measured.
CPU_PART, GPU_PART = 64, 512


def pass_tokens(device: torch.device) -> int:
    """Most tokens of one pass on a device."""
    return CPU_TOKENS if device.type == "cpu" else GPU_TOKENS


def part_tokens(device: torch.device) -> int:
    """Most tokens of one long new prompt that are read between two steps on a device."""
    return CPU_PART if device.type == "cpu" else GPU_PART


def together_tokens(device: torch.device) -> int:
    """Most tokens of short new prompts that are read as wholes between two steps on a device.

    Twice as many as of a long one: each of them decodes with the others from then on, and when many
    people begin at once, fewer rows would decode for longer.
    """
    return 2 * part_tokens(device)


def token_batches(lengths: Sequence[int], *, tokens: int) -> list[list[int]]:
    """Cut rows into batches of at most ``tokens`` tokens, with their padding.

    Args:
        lengths: Tokens of each row.
        tokens: Most tokens of a batch; a longer row is a batch of its own.

    Returns:
        The places of each batch's rows, from the shortest row to the longest.
    """
    batches: list[list[int]] = []
    for place in sorted(range(len(lengths)), key=lengths.__getitem__):
        # rows come by length, so this one is the longest of the batch that it would join
        if not batches or (len(batches[-1]) + 1) * lengths[place] > tokens:
            batches.append([])
        batches[-1].append(place)
    return batches
