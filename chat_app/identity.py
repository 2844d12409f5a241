"""Which rater sends a request, and whether it is the operator.

There are no accounts. Any bearer token names a rater, by a keyed hash, so the store never holds a
token. A browser gets a signed HttpOnly cookie with a random rater id. On loopback, all other
requests belong to one anonymous rater. Only the operator's token opens the operator's routes. The
keys are in ``DATA/secrets``, mode 0600.
"""

import hashlib
import hmac
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from pathlib import Path
from typing import Literal

from itsdangerous import BadSignature, URLSafeSerializer

from chat_app.errors import NotAllowedError, StartError
from feedback_store.whole_files import secret

COOKIE = "feedback_chat_rater"
ANONYMOUS = "anonymous"


@dataclass(frozen=True, slots=True)
class Caller:
    """The rater of a request, and how the request named the rater."""

    rater_id: str
    by: Literal["token", "cookie", "anonymous"]


class Identity:
    """Finds the rater of a request and checks the operator's token."""

    def __init__(
        self, directory: Path, *, operator_token: str | None = None, anonymous: bool = True
    ) -> None:
        self._anonymous = anonymous
        self._key = _secret(directory / "key")
        self.operator_token = operator_token or _secret(directory / "operator-token")
        self._signer = URLSafeSerializer(self._key, salt="rater-cookie")

    def caller(self, headers: Mapping[str, str], cookies: Mapping[str, str]) -> Caller:
        """The caller of a request; a cookie that this service did not sign is ignored.

        Raises:
            NotAllowedError: There is no token and no cookie, and anonymous callers are off.
        """
        token = bearer_token(headers)
        if token:
            digest = hmac.new(self._key.encode(), token.encode(), hashlib.sha256)
            return Caller(f"token-{digest.hexdigest()[:32]}", "token")
        rater_id = self.rater_of_cookie(cookies.get(COOKIE, ""))
        if rater_id:
            return Caller(rater_id, "cookie")
        if not self._anonymous:
            raise NotAllowedError(
                "the request names no rater; send a header Authorization: Bearer TOKEN"
            )
        return Caller(ANONYMOUS, "anonymous")

    def new_cookie(self) -> str:
        """A signed cookie that names a new rater, for a browser that has none."""
        return str(self._signer.dumps(f"browser-{secrets.token_hex(16)}"))

    def rater_of_cookie(self, value: str) -> str | None:
        """The rater that a cookie names; None if this service did not sign it."""
        try:
            return str(self._signer.loads(value))
        except BadSignature:
            return None

    def require_operator(self, token: str | None) -> None:
        """Check the operator's token.

        Raises:
            NotAllowedError: The token is missing or wrong.
        """
        if not token or not hmac.compare_digest(token.encode(), self.operator_token.encode()):
            raise NotAllowedError("operators only: send the token that the server printed at start")


def is_this_machine(host: str | None) -> bool:
    """Whether a host, given as a name or an address, is this machine (loopback)."""
    try:
        address = ip_address(host or "")
    except ValueError:
        return host == "localhost"
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return (mapped or address).is_loopback


def bearer_token(headers: Mapping[str, str]) -> str | None:
    """The token of an ``Authorization: Bearer`` header, if there is one."""
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() or None if scheme.lower() == "bearer" else None


def _secret(path: Path) -> str:
    """A secret of the service; see `feedback_store.whole_files.secret`."""
    try:
        return secret(path)
    except OSError as exc:
        raise StartError(
            f"cannot keep secrets in {path.parent}: {exc.strerror}; choose another with --data"
        ) from exc
