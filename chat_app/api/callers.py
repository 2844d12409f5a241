"""Who sends a request, from all that it carries: headers, cookies, its address, its proxy."""

from starlette.requests import HTTPConnection

from chat_app.api.proxies import is_from_here, user_of
from chat_app.identity import Caller, Identity


def caller_of(connection: HTTPConnection, identity: Identity) -> Caller:
    """The caller of an API request; raises as `Identity.caller` does."""
    return identity.caller(
        connection.headers,
        connection.cookies,
        here=is_from_here(connection),
        user=user_of(connection),
    )


def visitor_of(connection: HTTPConnection, identity: Identity) -> str | None:
    """The rater of a request of the chat page; None for one that may not come in."""
    user = user_of(connection)
    return identity.user(user) if user else identity.visitor(connection.cookies)


def address_of(connection: HTTPConnection) -> str:
    """The address that a request comes from, as far as it is known."""
    return connection.client.host if connection.client else ""
