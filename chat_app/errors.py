"""Everything that the app refuses, as one small tree.

ChatAppError
├── InvalidRequestError (ValueError)     the request is wrong; HTTP 400
├── NotFoundError (LookupError)          no such thing, or not the caller's; HTTP 404
├── NotAllowedError (PermissionError)    an operator's route without the operator's token; HTTP 403
├── RefusedError (RuntimeError)          right request, wrong moment; HTTP 409, exit code 3
├── BusyError (RuntimeError)             every place in the queue is taken; HTTP 503
└── StartError (OSError)                 the service cannot start or go on; exit code 1

A message says what was wrong, the value, and what to do. Only the command line, the API's error
handler and the pages turn these into text for people.
"""


class ChatAppError(Exception):
    """Base of everything the app raises on purpose."""


class InvalidRequestError(ChatAppError, ValueError):
    """A value in a request is missing, too long or unknown."""


class NotFoundError(ChatAppError, LookupError):
    """No such record, or one that belongs to somebody else."""


class NotAllowedError(ChatAppError, PermissionError):
    """The caller is not an operator."""


class RefusedError(ChatAppError, RuntimeError):
    """The request is fine but cannot be done now."""


class BusyError(ChatAppError, RuntimeError):
    """Too many requests are waiting for the engine."""


class StartError(ChatAppError, OSError):
    """The service cannot start: port, data directory, configuration."""
