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

# Of new prompts, in one pass with a step of replies that people read meanwhile. Short ones go
# together: each of them decodes with the others from then on. A long one goes in parts: on a CPU 10
# tokens make a step of 8 rows 1.2 times as long for a model of 2M parameters, 1.6 times for one of
# 135M (docs/results.md, "Decoding"). On a GPU this was not measured.
CPU_PROMPTS, GPU_PROMPTS = 128, 2048
CPU_PROMPT, GPU_PROMPT = 10, 512

# A layer of width d has about 10 d^2 weights, so 20 d^2 operations for a token; attention to n
# tokens has 4 n d. So a token costs twice as much behind 5 d others.
TWICE_AS_DEAR = 5  # widths

# Of a long text whose states are kept for reward heads.
CPU_PART, GPU_PART = 64, 512


def pass_tokens(device: torch.device) -> int:
    """Most tokens of one pass on a device."""
    return CPU_TOKENS if device.type == "cpu" else GPU_TOKENS


def part_tokens(device: torch.device) -> int:
    """Most tokens of one text that are read at once on a device, where other work waits."""
    return CPU_PART if device.type == "cpu" else GPU_PART


def together_tokens(device: torch.device) -> int:
    """Most tokens of new prompts that go through a device together with a step of other rows."""
    return CPU_PROMPTS if device.type == "cpu" else GPU_PROMPTS


def next_tokens(device: torch.device, *, unread: int, read: int, rows: int, width: int) -> int:
    """How many next tokens of a prompt go through a device together with a step of other rows.

    A short rest goes at once. Of a longer one it is a part: the more rows wait for the step, the
    smaller. Behind many tokens that were read, both are fewer.

    Args:
        device: Where.
        unread: Tokens of the prompt that are left.
        read: Those before them.
        rows: That wait for the step.
        width: Of the model's layers.
    """
    together, fewest = together_tokens(device), CPU_PROMPT if device.type == "cpu" else GPU_PROMPT
    dear = 1 + read / (TWICE_AS_DEAR * width)
    part = int(max(fewest, together // (1 + 2 * rows)) / dear)
    return unread if unread <= max(part, together / 2 / dear) else max(1, part)


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
