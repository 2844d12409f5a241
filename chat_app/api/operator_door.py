"""The operator's door: who of the operators sends a request, by token, by key or by cookie.

The key of the cookie is made from the operator's token, so a new token ends all sessions; revoking
a key ends those that began with it. What operators do is in `chat_app.handlers.operate`.
"""

import logging
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import ceil

from itsdangerous import BadSignature, URLSafeTimedSerializer

from chat_app.errors import NotAllowedError, TooManyError
from chat_app.identity import OPERATOR, Identity, bearer_token, network_of
from chat_app.service.rates import Buckets
from feedback_store.raters.keys import AccessKey, is_key

log = logging.getLogger(__name__)

SESSION_S = 4 * 3600
TRIES, TRIES_S = 5, 900.0  # wrong tokens that an address may send, and the time in which


@dataclass(frozen=True, slots=True)
class Session:
    """What the cookie of a session says: its name, and the id of the key that it began with."""

    name: str
    key_id: str | None


class OperatorDoor:
    """Lets in whoever has the operator's token, a key with that role, or a cookie made from one.

    An address that sends too many wrong tokens has to wait, also with the right one; nobody guesses
    a key, so a wrong one is not counted. A session ends after some hours or by `close`; what was
    closed is remembered until the server stops.

    Args:
        identity: Knows the token and the keys.
        note: Notes a login or logout in the audit log.
    """

    def __init__(self, identity: Identity, *, note: Callable[..., None] | None = None) -> None:
        self._identity = identity
        self._note = note or (lambda act, *, by: None)
        self._tries = Buckets(TRIES, TRIES_S)
        self._closed: set[str] = set()

    def cookie(self, token: str | None, address: str) -> str:
        """A signed cookie in exchange for the token or a key.

        Raises:
            NotAllowedError: The token is not the operator's, or the key has another role.
            TooManyError: The address has sent too many wrong ones.
        """
        self._note("login", by=self.require(token, address))
        key = self._identity.key(token) if token and is_key(token) else None
        return str(self._signer().dumps([secrets.token_hex(8), key and key.id]))

    def require(self, token: str | None, address: str) -> str:
        """Check a token or a key and return who has it; raises as `cookie` does."""
        if token and is_key(token):
            key = self._identity.key(token)
            who = _signature(key)
            self._identity.note_use(key)
            return who
        address = network_of(address)
        seconds = self._tries.take(address, 0.0, at_least=1.0)
        if seconds:
            raise TooManyError(
                f"too many wrong tokens from your address; try again in {ceil(seconds / 60)} "
                "minutes",
                seconds=seconds,
            )
        try:
            self._identity.require_operator(token)
        except NotAllowedError:
            if token:
                self._tries.take(address)
                log.warning("a wrong operator's token came from %s", address)
            raise
        return OPERATOR

    def knows(self, token: str, address: str) -> bool:
        """Whether a token is an operator's; raises `TooManyError` as `require` does."""
        try:
            return bool(self.require(token, address))
        except NotAllowedError:
            return False

    def who(
        self, headers: Mapping[str, str], cookies: Mapping[str, str], address: str = ""
    ) -> str | None:
        """Who of the operators sends a request; None if nobody of them does."""
        session = self._session(cookies)
        try:
            if session is not None:
                return self._owner(session)
            return self.require(bearer_token(headers), address)
        except (NotAllowedError, TooManyError):
            return None

    def is_open(
        self, headers: Mapping[str, str], cookies: Mapping[str, str], address: str = ""
    ) -> bool:
        """Whether a request comes from an operator."""
        return self.who(headers, cookies, address) is not None

    def close(self, cookies: Mapping[str, str]) -> None:
        """End the session of a cookie."""
        who, session = self.who({}, cookies), self._session(cookies)
        if session is not None and who is not None:
            self._closed.add(session.name)
            self._note("logout", by=who)

    def _session(self, cookies: Mapping[str, str]) -> Session | None:
        cookie = cookies.get(self._identity.operator_cookie, "")
        try:
            name, key_id = self._signer().loads(cookie, max_age=SESSION_S)
        except (BadSignature, ValueError):  # or one of an earlier version
            return None
        return None if name in self._closed else Session(name, key_id)

    def _owner(self, session: Session) -> str:
        """Who began a session; the key of one that began with a key must still be in use."""
        if session.key_id is None:
            return OPERATOR
        return _signature(self._identity.key_in_use(session.key_id))

    def _signer(self) -> URLSafeTimedSerializer:
        return URLSafeTimedSerializer(self._identity.operator_token, salt="operator-cookie")


def _signature(key: AccessKey | None) -> str:
    """How the audit log names the owner of a key, who must be an operator."""
    if key is None:
        raise NotAllowedError("operators only: the key of this session was revoked; log in again")
    if key.role != "operator":
        raise NotAllowedError(f"operators only: the key of {key.name} has the role {key.role}")
    return key.signature
