"""Who is calling: a bearer token, a signed cookie, or nobody in particular.

There are no accounts in this version and the service listens on loopback: any bearer token names a
rater (by a keyed hash, so that the store never holds a token), a browser gets a signed HttpOnly
cookie with a random rater id, and everybody else is one anonymous visitor. The operator's token is
the only thing that opens the operator's routes. The keys lie in ``DATA/secrets``, mode 0600.
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
from feedback_store.whole_files import new_file

COOKIE = "feedback_chat_rater"
ANONYMOUS = "anonymous"


@dataclass(frozen=True, slots=True)
class Caller:
    """The rater behind a request and how the request named it."""

    rater_id: str
    by: Literal["token", "cookie", "nobody"]


class Identity:
    """Names callers and recognises the operator."""

    def __init__(
        self, directory: Path, *, operator_token: str | None = None, anonymous: bool = True
    ) -> None:
        self._anonymous = anonymous
        self._key = _secret(directory / "key")
        self.operator_token = operator_token or _secret(directory / "operator-token")
        self._signer = URLSafeSerializer(self._key, salt="rater-cookie")

    def caller(self, headers: Mapping[str, str], cookies: Mapping[str, str]) -> Caller:
        """The caller of a request; a forged or foreign cookie counts as none.

        Raises:
            NotAllowedError: There is neither token nor cookie, and other machines can reach us.
        """
        token = bearer_token(headers)
        if token:
            digest = hmac.new(self._key.encode(), token.encode(), hashlib.sha256)
            return Caller(f"token-{digest.hexdigest()[:32]}", "token")
        rater_id = self.rater_of_cookie(cookies.get(COOKIE, ""))
        if rater_id:
            return Caller(rater_id, "cookie")
        if not self._anonymous:
            raise NotAllowedError("who are you? Send an Authorization: Bearer header, any token")
        return Caller(ANONYMOUS, "nobody")

    def new_cookie(self) -> str:
        """A signed cookie for a browser that has none, naming a new rater."""
        return str(self._signer.dumps(f"browser-{secrets.token_hex(16)}"))

    def rater_of_cookie(self, value: str) -> str | None:
        """The rater that a cookie names, if this installation signed it."""
        try:
            return str(self._signer.loads(value))
        except BadSignature:
            return None

    def require_operator(self, token: str | None) -> None:
        """Let the operator pass.

        Raises:
            NotAllowedError: The token is missing or not the operator's.
        """
        if not token or not hmac.compare_digest(token.encode(), self.operator_token.encode()):
            raise NotAllowedError("operators only: send the token that the server printed at start")


def is_this_machine(host: str | None) -> bool:
    """Whether a host, a name or an address, is a loopback one."""
    try:
        address = ip_address(host or "")
    except ValueError:
        return host == "localhost"
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return (mapped or address).is_loopback


def bearer_token(headers: Mapping[str, str]) -> str | None:
    """The token of an ``Authorization: Bearer`` header."""
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() or None if scheme.lower() == "bearer" else None


def _secret(path: Path) -> str:
    """Read a secret, or make it: never readable by others, never half written."""
    try:
        if not path.exists():
            with new_file(path) as partial:
                partial.write_text(secrets.token_urlsafe(24), encoding="utf-8")
        return path.read_text(encoding="utf-8").strip()
    except OSError as exc:
        raise StartError(f"cannot keep secrets in {path.parent}: {exc.strerror}") from exc
