"""Who sends a request, from all that it carries: headers, cookies, its address, its proxy.

The first functions only look. Those for routes refuse, note that a key was used, and store a rater
who is new. Who may come in is decided in `chat_app.identity`.
"""

from typing import Annotated

from fastapi import Depends, Request
from starlette.requests import HTTPConnection

from chat_app.api.operator_door import OperatorDoor
from chat_app.api.proxies import is_from_here, user_of
from chat_app.errors import NotAllowedError, UnknownCallerError
from chat_app.identity import Caller, Identity, bearer_token
from chat_app.service.chat import ChatService

# A key of a scope: a program looks whether there is a page, which makes no new rater.
LOOKS = "feedback_chat.looks"
SIMULATED_HEADER, PERSON_HEADER = "x-feedback-chat-simulated", "x-feedback-chat-user"


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


def is_simulated(request: HTTPConnection) -> bool:
    """Whether a request says that no person sends it."""
    return request.headers.get(SIMULATED_HEADER) == "1"


# For routes


def service_of(request: Request) -> ChatService:
    """The application's service."""
    service: ChatService = request.app.state.service
    return service


def known_caller(request: Request) -> Caller:
    """The caller of a request; where a key is wanted, the operator's token will do as well.

    A wrong token counts at the operator's door, or it could be guessed here.
    """
    identity: Identity = request.app.state.identity
    door: OperatorDoor = request.app.state.door
    try:
        caller = caller_of(request, identity)
    except UnknownCallerError:
        token = bearer_token(request.headers)
        if token is None or not door.knows(token, address_of(request)):
            raise
        return identity.by_token(token)
    if caller.key is not None:
        identity.note_use(caller.key)
    return caller


async def person_of(request: Request) -> str | None:
    """The person whom a request names by its header or by OpenAI's ``user``; nothing is checked."""
    if PERSON_HEADER in request.headers:
        return request.headers[PERSON_HEADER].strip() or None
    if request.method != "POST":
        return None
    try:
        body = await request.json()
    except ValueError:  # the route says what is wrong
        return None
    person = body.get("user") if isinstance(body, dict) else None
    return person if isinstance(person, str) and person else None


def rater_of(
    request: Request,
    caller: Annotated[Caller, Depends(known_caller)],
    person: Annotated[str | None, Depends(person_of)],
) -> str:
    """The caller's rater id. A program's call, unlike a browser's, accepts the present notice.

    Raises:
        NotAllowedError: A caller on another machine claims to be simulated.
    """
    identity: Identity = request.app.state.identity
    simulated = is_simulated(request)
    if simulated and not is_from_here(request):
        raise NotAllowedError("simulated visitors must run on the service's own machine")
    rater_id = caller.rater_id
    if caller.key is not None and caller.key.gateway and person is not None:
        rater_id = identity.person(caller.key, person)
    service_of(request).visitor(
        rater_id,
        kind="simulated" if simulated else "person",
        consent=caller.by not in ("cookie", "user") and not simulated,
    )
    return rater_id


def require_key(request: Request) -> None:
    """Refuse callers without a key, where the API wants one."""
    identity: Identity = request.app.state.identity
    if not identity.access.tokens:
        known_caller(request)


def operator(request: Request) -> str:
    """Which operator sends a request; others are refused."""
    door: OperatorDoor = request.app.state.door
    return door.require(bearer_token(request.headers), address_of(request))
