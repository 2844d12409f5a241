"""What can go wrong in the store, as one small tree.

    FeedbackStoreError
    ├── StoreOpenError(OSError)            the file cannot be used at all
    ├── StoreUnavailableError(OSError)     it could be opened, but not read or written just now
    ├── UnknownRecordError(LookupError)    an id that is not there
    ├── ConflictError(ValueError)          it contradicts what is stored
    ├── InvalidFeedbackError(ValueError)   a value that the store does not take
    └── CycleInProgressError(RuntimeError) another cycle is running

Every message says what was wrong, the value, and what to do. Nothing is saved when one is raised.
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


class InvalidFeedbackError(FeedbackStoreError, ValueError):
    """A value that the store does not take, such as a thumb of 7."""


class CycleInProgressError(FeedbackStoreError, RuntimeError):
    """A cycle is running and its process is alive."""
