"""Who sends a request, from all that it carries: headers, cookies, its address, its proxy.

The first functions only look. Those for routes refuse, note that a key was used, and store a rater
who is new. Who may come in is decided in `chat_app.identity`.
"""

import re
from typing import Annotated

from fastapi import Depends, Request
from starlette.requests import HTTPConnection

from chat_app.api.operator_door import OperatorDoor
from chat_app.api.proxies import is_from_here, path_of, user_of
from chat_app.errors import InvalidRequestError, NotAllowedError, UnknownCallerError
from chat_app.identity import Caller, Identity, bearer_token
from chat_app.service.chat import ChatService

# A key of a scope: a program looks whether there is a page, which makes no new rater.
LOOKS = "feedback_chat.looks"
OF_PROGRESS = ("/progress", "/values")  # its pages
PROGRESS = (*OF_PROGRESS, *(f"/gradio_api/run{page}_view" for page in OF_PROGRESS))
VISITOR = "feedback_chat.visitor"  # another: the rater of a request of the page, once it is known
SIMULATED_HEADER = "x-feedback-chat-simulated"
# Of a gateway, by which it names a person, the first that is there: ours, and Open WebUI's.
PERSON_HEADERS = ("x-feedback-chat-user", "x-openwebui-user-id")
# What a client says of a request: its own name for the reply, and which chore it is.
MESSAGE_HEADER, TASK_HEADER = "x-feedback-chat-message", "x-feedback-chat-task"
# What a client sends that was told to fill a template in and does not know how, or has nothing.
UNFILLED = re.compile(r"\{\{.*\}\}|\$\{.*\}|^(None|null|undefined)$")
SHOWN = 60  # characters of it


def caller_of(connection: HTTPConnection, identity: Identity) -> Caller:
    """The caller of an API request; raises as `Identity.caller` does."""
    return identity.caller(
        connection.headers,
        connection.cookies,
        here=is_from_here(connection),
        user=user_of(connection),
    )


def visitor_of(connection: HTTPConnection, identity: Identity) -> str | None:
    """The rater of a request of the chat page; None for one that may not come in.

    Several parts of the middleware ask, so the answer is kept with the request.
    """
    if VISITOR not in connection.scope:
        user = user_of(connection)
        rater_id = identity.user(user) if user else identity.visitor(connection.cookies)
        connection.scope[VISITOR] = rater_id
    found: str | None = connection.scope[VISITOR]
    return found


def address_of(connection: HTTPConnection) -> str:
    """The address that a request comes from, as far as it is known."""
    return connection.client.host if connection.client else ""


def is_simulated(request: HTTPConnection) -> bool:
    """Whether a request says that no person sends it."""
    return request.headers.get(SIMULATED_HEADER) == "1"


def sees_progress(connection: HTTPConnection, identity: Identity) -> bool:
    """Whether a request asks for the progress where everybody sees it, whoever sends it."""
    return identity.access.progress and path_of(connection.scope) in PROGRESS


def is_kept(connection: HTTPConnection, identity: Identity) -> bool:
    """Whether a request asks for a page of the progress where the operator keeps it."""
    return identity.access.kept and path_of(connection.scope) in OF_PROGRESS


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


def known_or_visitor(request: Request) -> Caller | None:
    """The caller; None for a visitor of the pages, whom a browser's cookie names."""
    identity: Identity = request.app.state.identity
    if bearer_token(request.headers) is None and visitor_of(request, identity) is not None:
        return None
    return known_caller(request)


def said_in(request: Request, header: str) -> str:
    """What a header of a client says, without spaces around it; empty if it is not there.

    Its bytes are UTF-8, as of a JSON body; those that are not are Latin-1, as HTTP had it.

    Raises:
        InvalidRequestError: The client was to fill a template in, and did not.
    """
    text = request.headers.get(header, "").strip()
    _require_filled(header, text)
    try:
        return text.encode("latin-1").decode().strip()
    except UnicodeDecodeError:
        return text


def _require_filled(header: str, text: str) -> None:
    """Refuse what would pass for a name: all people would be one, or nothing would be learnt."""
    if UNFILLED.search(text):
        raise InvalidRequestError(
            f"the header {header.title()} is {text[:SHOWN]!r}: your client did not fill it in; "
            "update the client (Open WebUI: 0.12 or later), or take the header out of its settings"
        )


async def person_of(request: Request) -> str | None:
    """The person whom a request names by its header or by OpenAI's ``user``.

    Whether a caller may name one is not checked here.

    Raises:
        InvalidRequestError: The header is a template that the client did not fill in.
    """
    for header in PERSON_HEADERS:
        if header in request.headers:
            person = request.headers[header].strip()
            _require_filled(header, person)
            return person or None
    if request.method != "POST":
        return None
    try:
        body = await request.json()
    except ValueError:  # the route says what is wrong
        return None
    user = body.get("user") if isinstance(body, dict) else None
    return user if isinstance(user, str) and user else None


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


def me_of(
    request: Request,
    caller: Annotated[Caller | None, Depends(known_or_visitor)],
    person: Annotated[str | None, Depends(person_of)],
) -> str:
    """The caller's rater id, also of a visitor of the pages where the API wants a key.

    It is for what people may do with their own data. A rater who is new is not stored.
    """
    identity: Identity = request.app.state.identity
    if caller is None:
        return str(visitor_of(request, identity))
    if caller.key is not None and caller.key.gateway and person is not None:
        return identity.person(caller.key, person)
    return caller.rater_id


def require_key(request: Request) -> None:
    """Refuse callers without a key, where the API wants one."""
    identity: Identity = request.app.state.identity
    if not identity.access.tokens:
        known_caller(request)


def operator(request: Request) -> str:
    """Which operator sends a request; others are refused."""
    door: OperatorDoor = request.app.state.door
    return door.require(bearer_token(request.headers), address_of(request))
