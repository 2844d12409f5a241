"""The errors of the app, as one small tree.

ChatAppError
├── InvalidRequestError (ValueError)     the request is wrong; HTTP 400
│   ├── TooLongError                     a message is longer than the model can read
│   └── RefusedQuestionError             an endpoint that a model judge is at refuses a question
├── NotFoundError (LookupError)          no such record, or another rater's; HTTP 404
│   └── UnknownModelError                no model of this name is served
├── NotAllowedError (PermissionError)    the caller may not do this; HTTP 403
│   └── UnknownCallerError               nobody knows who the caller is; HTTP 401
├── RefusedError (RuntimeError)          not possible at present; HTTP 409, exit code 3
│   ├── CycleRunsError                   a cycle runs already
│   ├── BehindError                      the conversation went on in another tab
│   └── ConsentNeededError               a vote of a visitor who has not agreed to training
├── TooManyError (RuntimeError)          the caller asks too much in a time; HTTP 429
├── BusyError (RuntimeError)             the queue is full; HTTP 503
└── StartError (OSError)                 the service cannot start; exit code 1

A message says what is wrong, the value, and what to do. Only the command line, the API's error
handler and the pages turn these errors into text for people.
"""

import logging

from feedback_store.errors import StoreUnavailableError, say, text_of

log = logging.getLogger(__name__)


class ChatAppError(Exception):
    """Base of every error that the app raises on purpose.

    Attributes:
        param: The field of a request that is wrong, as in ``messages.3.content.0``, if it is known.
        code: OpenAI's name of the fault, where it has one that clients look for.
    """

    param: str | None = None
    code: str | None = None


class InvalidRequestError(ChatAppError, ValueError):
    """A value in a request is missing, too long or unknown."""

    code = "invalid_value"

    def __init__(self, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


class TooLongError(InvalidRequestError):
    """A message is longer than the model can read.

    Attributes:
        fits: About how many characters of it fit.
    """

    code = "context_length_exceeded"

    def __init__(self, message: str, *, fits: int = 0) -> None:
        super().__init__(message, param="messages")
        self.fits = fits


class RefusedQuestionError(InvalidRequestError):
    """An endpoint refuses a question; it may take another one."""


class NotFoundError(ChatAppError, LookupError):
    """There is no such record, or it belongs to another rater."""


class UnknownModelError(NotFoundError):
    """No model of this name is served."""

    param = "model"
    code = "model_not_found"


class NotAllowedError(ChatAppError, PermissionError):
    """The caller has no right to this: not an operator, or not known at all."""


class UnknownCallerError(NotAllowedError):
    """The request has no key, token or cookie of those that may come in."""

    code = "invalid_api_key"


class RefusedError(ChatAppError, RuntimeError):
    """The request is valid, but not possible at present."""


class CycleRunsError(RefusedError):
    """A cycle runs already, perhaps one that has only just started."""


class BehindError(RefusedError):
    """The caller does not know the newest message of the conversation."""


class ConsentNeededError(RefusedError):
    """A vote trains the model, and the visitor has not agreed to that."""


class TooManyError(ChatAppError, RuntimeError):
    """One caller asks for more than a rater, or an address, may in a time.

    Attributes:
        seconds: When it makes sense to try again.
    """

    code = "rate_limit_exceeded"

    def __init__(self, message: str, *, seconds: float = 1.0) -> None:
        super().__init__(message)
        self.seconds = seconds


class BusyError(ChatAppError, RuntimeError):
    """Too many requests are waiting for the engine."""


class StartError(ChatAppError, OSError):
    """The service or a command cannot start: port, data directory, model, files."""


NOT_SAVED = say("the service can save nothing at present, and nothing was saved; try again later")


def is_ours(error: BaseException) -> bool:
    """Whether one of the three packages raised it on purpose, so that its text is known."""
    return type(error).__module__.split(".")[0] in ("chat_app", "feedback_store", "rlhf_core")


def log_fault(log: logging.Logger, said: str, error: Exception) -> None:
    """Log a fault: with its text if it is ours; else that may quote people, and its place is told.

    Args:
        log: Whose line it is.
        said: What cannot be done.
        error: Why.
    """
    if is_ours(error):
        log.error("%s: %s", said, error)
    else:
        log.error("%s", said, exc_info=error)


def text_for_visitor(error: Exception) -> str:
    """An error's text for people who may not know the server's disk: no path of it, and no cause.

    The log gets the text itself.
    """
    if isinstance(error, StoreUnavailableError):
        log.error("%s", error)
        return NOT_SAVED
    return text_of(error)
