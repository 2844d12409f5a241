"""Errors of the training library.

    RLHFError
    |-- ModelError (RuntimeError)        a base model or tokenizer cannot be loaded or used
    |-- AdapterError (ValueError)        an adapter directory is unsafe, incomplete or foreign
    |-- NotEnoughDataError (ValueError)  too few comparisons, demonstrations or prompts
    `-- DivergenceError (ArithmeticError) training produced a loss or score that is no number

A message says what was wrong, the value, and what to do next.
"""


class RLHFError(Exception):
    """Base of every error this package raises on purpose."""


class ModelError(RLHFError, RuntimeError):
    """A base model or its tokenizer cannot be loaded or used."""


class AdapterError(RLHFError, ValueError):
    """An adapter is unknown, unsafe, incomplete, or made for another base."""


class NotEnoughDataError(RLHFError, ValueError):
    """There is too little data to train on."""


class DivergenceError(RLHFError, ArithmeticError):
    """Training left the numbers: a loss, score or KL is not finite."""
