"""Which rater sends a request, and whether it is the operator.

A key that the operator made names a rater, and so does a user whom a named proxy names. Where
`Access` lets them in, any other bearer token names one too, and a browser gets a signed HttpOnly
cookie with a random rater id. Raters of tokens, keys and users are keyed hashes, so the store holds
none of these, nor an address. A cookie's name has the installation's id in it, because cookies know
no ports: two services on one host keep their visitors. API calls with none of it belong to one
anonymous rater, if they come from this machine and through no proxy; the pages have no such rater.
What signs and hashes is in ``DATA/secrets``, mode 0600.
"""

import hashlib
import hmac
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Literal

from itsdangerous import BadSignature, URLSafeSerializer

from chat_app.errors import NotAllowedError, StartError, UnknownCallerError
from feedback_store.raters.keys import AccessKey, Keys, is_key
from feedback_store.whole_files import secret

COOKIES = "feedback_chat"  # begins the name of every cookie of this program
OLD_COOKIE = f"{COOKIES}_rater"  # its name in versions before 0.2.0, in every installation
ANONYMOUS = "anonymous"
OPERATOR = "operator"  # whoever has the operator's token, in the audit log
# 24 bits: strangers hardly ever share one, and 256 addresses of IPv4 fit each, so that not even
# the key tells which of them a rater had.
ORIGIN_DIGITS = 6
KNOWN = ("key-", "user-")  # begin the raters whom nobody can make up
NO_KEY = (
    "this service wants a key; send a header Authorization: Bearer KEY, which an operator makes "
    "with `feedback-chat keys make NAME`"
)
NOT_IN_USE = "the key is not in use, or was revoked; ask the operator for a new one"


@dataclass(frozen=True, slots=True)
class Access:
    """Whom the service lets in without knowing them.

    Attributes:
        tokens: Whether any bearer token names a rater; else the API wants a key.
        visitors: Whether anyone may open the page; else those whom a proxy names.
        anonymous: Whether calls of this machine need to name nobody.
        progress: Whether everybody sees the page of the progress, without a cookie.
        kept: Whether the operator keeps that page for operators.
    """

    tokens: bool = True
    visitors: bool = True
    anonymous: bool = True
    progress: bool = False
    kept: bool = False


@dataclass(frozen=True, slots=True)
class Caller:
    """The rater of a request, and how the request named the rater."""

    rater_id: str
    by: Literal["key", "user", "token", "cookie", "anonymous"]
    key: AccessKey | None = None


class Identity:
    """Finds the rater of a request and checks the operator's token.

    Attributes:
        access: Whom the service lets in without knowing them.
        installation: A short name of the data directory's keys, the same for ever.
        cookie: Name of the cookie that names a rater.
        operator_cookie: Name of the cookie that an operator gets for the token.
    """

    def __init__(
        self,
        directory: Path,
        *,
        operator_token: str | None = None,
        access: Access | None = None,
        keys: Keys | None = None,
    ) -> None:
        self.access = access or Access()
        self._keys = keys
        self._key = _secret(directory / "key")
        self.operator_token = operator_token or _secret(directory / "operator-token")
        self._signer = URLSafeSerializer(self._key, salt="rater-cookie")
        self.installation = self._hash("installation")[:8]
        self.cookie = f"{OLD_COOKIE}_{self.installation}"
        self.operator_cookie = f"{COOKIES}_operator_{self.installation}"

    def caller(
        self,
        headers: Mapping[str, str],
        cookies: Mapping[str, str],
        *,
        here: bool,
        user: str | None = None,
    ) -> Caller:
        """The caller of an API request.

        Args:
            headers: Of the request.
            cookies: Of the request, already parsed.
            here: Whether it comes from this machine, and not through a proxy.
            user: Whom a named proxy names as its sender.

        Raises:
            UnknownCallerError: There is no key, token or cookie that may come in, and the request
                is not one that may be anonymous.
        """
        token = bearer_token(headers)
        if user:
            return Caller(self.user(user), "user")
        if token and is_key(token):
            key = self.key(token)
            return Caller(self.of_key(key.name), "key", key)
        if not self.access.tokens:
            raise UnknownCallerError(NO_KEY)
        if token:
            return self.by_token(token)
        rater_id = self.visitor(cookies)
        if rater_id:
            return Caller(rater_id, "cookie")
        # whoever has a cookie of another installation, or of an old key, is somebody
        if not (self.access.anonymous and here) or any(n.startswith(COOKIES) for n in cookies):
            raise UnknownCallerError(
                "the request names no rater; send a header Authorization: Bearer TOKEN"
            )
        return Caller(ANONYMOUS, "anonymous")

    def by_token(self, token: str) -> Caller:
        """The caller whom a bearer token names that is no key."""
        return Caller(f"token-{self._hash(token)[:32]}", "token")

    def key(self, text: str) -> AccessKey:
        """The key with this text.

        Raises:
            UnknownCallerError: It was never made, or was revoked.
        """
        key = self._keys.key_of(text) if self._keys else None
        if key is None:
            raise UnknownCallerError(NOT_IN_USE)
        return key

    def key_in_use(self, key_id: str) -> AccessKey | None:
        """The key with this id, unless it was revoked."""
        return self._keys.key_in_use(key_id) if self._keys else None

    def note_use(self, key: AccessKey) -> None:
        """Note the day on which a key is used."""
        if self._keys:
            self._keys.note_use(key)

    def of_key(self, name: str) -> str:
        """The rater whom the key of this name names."""
        return self._rater("key", name)

    def user(self, name: str) -> str:
        """The rater of a user whom a named proxy names."""
        return self._rater("user", name)

    def person(self, gateway: AccessKey, name: str) -> str:
        """The rater of a person behind a gateway, as the gateway names the person."""
        return self._rater("key", f"{gateway.name} {name}")  # no name of a key has a space

    def visitor(self, cookies: Mapping[str, str]) -> str | None:
        """The rater that a browser's cookies name, if anyone may come; None if we signed none."""
        if not self.access.visitors:
            return None
        found = (self._signed(cookies.get(name, "")) for name in (self.cookie, OLD_COOKIE))
        return next((rater_id for rater_id in found if rater_id), None)

    def new_cookie(self, rater_id: str | None = None) -> str:
        """The value of a signed cookie that names a rater: a new one, if none is given."""
        return str(self._signer.dumps(rater_id or f"browser-{secrets.token_hex(16)}"))

    def successor(self, rater_id: str) -> str:
        """The rater that a browser gets after all that its rater said was erased."""
        return f"browser-{self._hash(f'after {rater_id}')[:32]}"

    def origin(self, address: str) -> str | None:
        """A short keyed hash of where a request comes from, see `network_of`.

        None for this machine, from which many visitors may come, and for what is no address.
        """
        try:
            here = _unmapped(ip_address(address)).is_loopback
        except ValueError:
            return None
        return None if here else self._hash(f"origin {network_of(address)}")[:ORIGIN_DIGITS]

    def _signed(self, value: str) -> str | None:
        try:
            return str(self._signer.loads(value))
        except BadSignature:
            return None

    def _rater(self, kind: str, name: str) -> str:
        return f"{kind}-{self._hash(f'{kind} {name}')[:32]}"

    def _hash(self, text: str) -> str:
        named = text.encode(errors="surrogatepass")  # JSON may hold half of a character
        return hmac.new(self._key.encode(), named, hashlib.sha256).hexdigest()

    def require_operator(self, token: str | None) -> None:
        """Check the operator's token.

        Raises:
            NotAllowedError: The token is missing or wrong.
        """
        if not token or not hmac.compare_digest(token.encode(), self.operator_token.encode()):
            raise NotAllowedError(
                "operators only: send the token that the server printed at start, or a key with "
                "the role operator"
            )


def network_of(address: str) -> str:
    """What counts as one address: in IPv6 the /64 network, which is one household."""
    try:
        found = _unmapped(ip_address(address))
    except ValueError:
        return address
    return str(found) if found.version == 4 else f"{int(found) >> 64:x}/64"


def is_this_machine(host: str | None) -> bool:
    """Whether a host, given as a name or an address, is this machine (loopback)."""
    try:
        address = ip_address(host or "")
    except ValueError:
        return host == "localhost"
    return _unmapped(address).is_loopback


def _unmapped(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """An address of IPv4 that is written as one of IPv6, as IPv4."""
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


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
