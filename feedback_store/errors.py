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
"""


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
