"""The check that every method of an operator begins with."""

from chat_app.errors import NotAllowedError
from feedback_store.errors import say


def require(allowed: bool) -> None:
    """Refuse whoever is no operator.

    Raises:
        NotAllowedError: The request is not an operator's.
    """
    if not allowed:
        raise NotAllowedError(
            say("operators only: open the page with the token that the server printed")
        )
