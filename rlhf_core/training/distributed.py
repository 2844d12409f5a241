"""Several processes that train together, as `accelerate launch` or `torchrun` starts them.

They run the same program on the same data. Only the first of them writes files, decides and uses
the store; `broadcast` tells the others what it decided.
"""

import os
from typing import TypeVar

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list

T = TypeVar("T")


def processes() -> int:
    """How many processes train together; 1 without a launcher."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank() -> int:
    """Which of them this process is, from 0."""
    return int(os.environ.get("RANK", "0"))


def first_process() -> bool:
    """Whether this process is the one that writes and decides."""
    return rank() == 0


def broadcast(value: T) -> T:
    """The first process's value, in every process; every process has to call it."""
    if processes() == 1:
        return value
    PartialState(cpu=not torch.cuda.is_available())  # joins the group, if not done yet
    values = [value]
    broadcast_object_list(values)
    return values[0]
