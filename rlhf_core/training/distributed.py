"""Several processes that train together, as `accelerate launch` or `torchrun` starts them.

They run the same program on the same data. The first of them alone writes files, decides and knows
the store; what it decides the others are told by `broadcast`.
"""

import os
from typing import TypeVar

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list

T = TypeVar("T")


def processes() -> int:
    """How many train together; 1 if nobody said so."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def first_process() -> bool:
    """Whether this is the one that writes and decides."""
    return int(os.environ.get("RANK", "0")) == 0


def broadcast(value: T) -> T:
    """The first process's value, in every process; all of them have to ask."""
    if processes() == 1:
        return value
    PartialState(cpu=not torch.cuda.is_available())  # joins the group, if nothing has yet
    told = [value]
    broadcast_object_list(told)
    return told[0]
