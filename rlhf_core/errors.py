"""Errors of the training library.

    RLHFError
    |-- ModelError (RuntimeError)        a base model or tokenizer cannot be loaded or used
    |-- AdapterError (ValueError)        an adapter directory is unsafe, incomplete or foreign
    |-- InvalidInputError (ValueError)   a record, prompt, score or argument makes no sense
    |-- NotEnoughDataError (ValueError)  too few comparisons, demonstrations or prompts
    |-- CheckpointError (ValueError)     a checkpoint belongs to another run
    |-- LaunchError (ValueError)         the settings do not fit the number of processes
    |-- MemoryExhaustedError (MemoryError) a stage needs more memory than there is
    |-- NoRoomError (MemoryError)        a cycle would need more memory than is free
    |-- ReplicaLostError (ConnectionError) a server that decodes does not answer, or lost a reply
    `-- DivergenceError (ArithmeticError) a loss, score, KL or weight is not finite, or too large

A message says what was wrong, the value, and what to do next.
"""


class RLHFError(Exception):
    """Base of every error this package raises on purpose."""


class ModelError(RLHFError, RuntimeError):
    """A base model or its tokenizer cannot be loaded or used."""


class AdapterError(RLHFError, ValueError):
    """An adapter is unknown, unsafe, incomplete, or made for another base."""


class InvalidInputError(RLHFError, ValueError):
    """A record, a prompt, a score or an argument makes no sense."""


class NotEnoughDataError(RLHFError, ValueError):
    """There is too little data to train on."""


class CheckpointError(RLHFError, ValueError):
    """A checkpoint was made from other data or settings, or by another number of processes."""


class LaunchError(RLHFError, ValueError):
    """The settings do not fit the number of processes that train together."""


class MemoryExhaustedError(RLHFError, MemoryError):
    """A stage needs more memory than there is.

    Attributes:
        by_rows: Whether a smaller micro-batch would need less.
    """

    def __init__(self, message: str, *, by_rows: bool = False) -> None:
        super().__init__(message)
        self.by_rows = by_rows


class NoRoomError(RLHFError, MemoryError):
    """A cycle would need more memory than is free; it has not begun."""


class ReplicaLostError(RLHFError, ConnectionError):
    """A server that decodes replies does not answer, or has ended in the middle of one."""


class DivergenceError(RLHFError, ArithmeticError):
    """Training diverged: a loss, score, KL or weight is not finite, or too large."""
