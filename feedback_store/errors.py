"""The errors of the store, as one tree.

    FeedbackStoreError
    ├── StoreOpenError(OSError)            the file cannot be opened
    ├── StoreUnavailableError(OSError)     it was opened, but cannot be read or written now
    ├── UnknownRecordError(LookupError)    no record has this id
    ├── ConflictError(ValueError)          it contradicts what is stored
    │   └── CycleEndedError                a cycle that has ended writes no more
    ├── InvalidFeedbackError(ValueError)   a value that the store does not accept
    └── CycleInProgressError(RuntimeError) another cycle is running

Each message says what is wrong, the value, and what to do. A call that raises saves nothing.

What may be shown to people is made by `say`, here and above: in English, as everywhere in the code,
with what it is made of, so that a page can say it in another language.
"""

from collections.abc import Mapping
from typing import Any


class Sentence(str):
    """An English text that knows its template and what was put into it.

    Attributes:
        template: The text with gaps, such as ``{most}``; translations are found by it.
        values: What fills the gaps; a sentence may be part of another one.
    """

    template: str
    values: Mapping[str, Any]


def say(template: str, *, one: str | None = None, **values: Any) -> Sentence:
    """A text for people.

    Args:
        template: English, with gaps; always a literal, since a test looks for all of them.
        one: The same for ``n`` of 1, if the text depends on a number ``n``.
        **values: Whole numbers, fractions, names, or parts that were made by `say`.
    """
    shown = template if one is None or values["n"] != 1 else one
    text = shown.format_map({name: _written(value) for name, value in values.items()})
    sentence = Sentence(text)
    sentence.template, sentence.values = template, values
    return sentence


def text_of(error: BaseException) -> str:
    """The text of an error; a `Sentence` stays one."""
    said = error.args[0] if error.args else None
    return said if isinstance(said, Sentence) else str(error)


def _written(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


class FeedbackStoreError(Exception):
    """Base of every error that the store raises on purpose."""


class StoreOpenError(FeedbackStoreError, OSError):
    """The database cannot be opened: old SQLite, newer schema, unwritable, not a database."""


class StoreUnavailableError(FeedbackStoreError, OSError):
    """The database was opened but does not answer: disk full, locked too long, closed."""


class UnknownRecordError(FeedbackStoreError, LookupError):
    """No record has this id."""


class ConflictError(FeedbackStoreError, ValueError):
    """The request contradicts what is stored, such as an idempotency key used twice."""


class CycleEndedError(ConflictError):
    """A cycle that was cancelled, or that another one has replaced, tries to write."""


class InvalidFeedbackError(FeedbackStoreError, ValueError):
    """A value that the store does not accept, such as a thumb of 7."""


class CycleInProgressError(FeedbackStoreError, RuntimeError):
    """A cycle is running and its process is alive."""
