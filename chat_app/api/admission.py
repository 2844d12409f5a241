"""Whether a request is taken at all: limits of requests and new raters, before anything is done.

Every request that may cost something passes here: the API's, the pages', and their calls and
streams. So this is where it is noted from where a new rater comes. Votes, tokens and replies at
once are counted where they are known, in the service.
"""

import asyncio

from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Receive, Scope, Send

from chat_app.api.answers import explain, refuse, retry_after, wants_page
from chat_app.api.callers import LOOKS, address_of, caller_of, is_simulated, visitor_of
from chat_app.api.proxies import is_from_here, path_of, user_of
from chat_app.api.visitors import PAGES
from chat_app.errors import BusyError, NotAllowedError, TooManyError, text_for_visitor
from chat_app.identity import KNOWN, Identity, bearer_token, network_of
from chat_app.service.chat import ChatService
from feedback_store.errors import FeedbackStoreError
from feedback_store.raters.keys import is_key

REPLIES = ("/v1/chat/completions", "/v1/candidates")
COUNTED = ("/v1/", "/gradio_api/", "/follow/", "/operator")


class Admission:
    """Answers 429 to a rater, or an address, that asks for too much in a time."""

    def __init__(self, app: ASGIApp, *, service: ChatService, identity: Identity) -> None:
        self._app = app
        self._service = service
        self._identity = identity

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Count a request, and pass it on if there is room for it."""
        if scope["type"] == "http" and _counts(scope):
            try:
                await self._admit(HTTPConnection(scope), replies=path_of(scope) in REPLIES)
            except (FeedbackStoreError, BusyError) as exc:
                await refuse(send, 503, text_for_visitor(exc), headers={"retry-after": "1"})
                return
            except TooManyError as exc:
                if wants_page(scope):
                    await explain(scope, send, 429, "wait")
                else:
                    await refuse(send, 429, str(exc), code=exc.code, headers=retry_after(exc))
                return
        await self._app(scope, receive, send)

    async def _admit(self, request: HTTPConnection, *, replies: bool) -> None:
        simulated = is_simulated(request) and is_from_here(request)
        network = network_of(address_of(request))
        if not simulated:  # an address that asks too much is refused at once, without a thread
            named = user_of(request) or is_key(bearer_token(request.headers) or "")
            self._service.rates.address(network, replies=replies and not named)
        # in a thread, because it asks the store, for which no stream may wait
        await asyncio.to_thread(self._admit_rater, request, network, simulated=simulated)

    def _admit_rater(self, request: HTTPConnection, network: str, *, simulated: bool) -> None:
        rates, rater_id = self._service.rates, self._rater_of(request)
        if rater_id is None:
            return
        if simulated:
            rates.exempt(rater_id)
            return
        rates.request(rater_id, network)
        looks = request.scope.get(LOOKS, False)
        if looks or rater_id.startswith(KNOWN) or self._service.knows(rater_id):
            return
        rates.new_rater(rater_id, network)
        self._service.origins[rater_id] = self._identity.origin(address_of(request))

    def _rater_of(self, request: HTTPConnection) -> str | None:
        if not path_of(request.scope).startswith("/v1/"):
            return visitor_of(request, self._identity)
        try:
            caller = caller_of(request, self._identity)
        except NotAllowedError:  # the route says so
            return None
        # the limits of one rater are not meant for all persons behind a gateway
        return None if caller.key and caller.key.gateway else caller.rater_id


def _counts(scope: Scope) -> bool:
    path = path_of(scope)
    return path in PAGES or path.startswith(COUNTED)
