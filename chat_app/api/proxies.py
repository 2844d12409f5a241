"""Under which address a browser knows the service, and from which address a request comes.

Headers such as `X-Forwarded-For` are believed from the proxies that the operator names, and are
removed from every request, so nothing behind this module can believe them by mistake. That a
request had one is kept: it did not come straight from a program on this machine. So is the user
whom a named proxy names, if an option says in which header.
"""

import logging
import re
from collections.abc import Sequence

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from chat_app.identity import is_this_machine
from chat_app.settings import FORWARDING

log = logging.getLogger(__name__)

# Keys of a scope: whether a proxy brought the request, and whom a named proxy names as its sender.
MARK, USER = "feedback_chat.forwarded", "feedback_chat.user"
PREFIX = re.compile(r"(/[\w.~-]+)+", re.ASCII)  # a path; what else a proxy passes on is not its own


class NamedProxies:
    """Applies what a named proxy says of a request, and removes what anybody says of it.

    Args:
        app: The application.
        proxies: Addresses and networks of proxies.
        root_path: The path below which browsers find the service, such as `/chat`; a named proxy
            may say it instead, by `X-Forwarded-Prefix`.
        user_header: The header in which a named proxy says who sends a request, if it does.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        proxies: Sequence[str],
        root_path: str,
        user_header: str | None = None,
    ) -> None:
        self._app = app
        self._user_header = (user_header or "").lower()
        self._removed = {name.encode() for name in (*FORWARDING, self._user_header)}
        self._root_path = root_path
        self._client_of = ProxyHeadersMiddleware(self._plain, list(proxies))  # type: ignore[arg-type]
        self._named = self._client_of.trusted_hosts
        self._warned = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on as if the browser had sent it to this process."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers, sender = Headers(scope=scope), (scope.get("client") or (None,))[0]
        said = [name for name in (*FORWARDING, self._user_header) if name in headers]
        scope = {**scope, "headers": list(scope["headers"]), MARK: bool(said), USER: None}
        prefix = self._root_path
        if sender in self._named:
            scope[USER] = _only(headers, self._user_header)
            said_prefix = _last(headers, "x-forwarded-prefix").rstrip("/")
            if PREFIX.fullmatch(said_prefix) and "/.." not in said_prefix:
                prefix = said_prefix
            if host := _last(headers, "x-forwarded-host"):
                MutableHeaders(scope=scope)["host"] = host
        elif "x-forwarded-for" in headers:
            self._warn(sender)
        if prefix:
            _put_below(scope, prefix)
        await self._client_of(scope, receive, send)  # type: ignore[arg-type]

    async def _plain(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["headers"] = [item for item in scope["headers"] if item[0] not in self._removed]
        await self._app(scope, receive, send)

    def _warn(self, sender: str | None) -> None:
        if not self._warned:
            self._warned = True
            log.warning(
                "a request from %s says for whom it was forwarded and is not believed; if %s is "
                "your proxy, name it in the option proxies",
                sender,
                sender,
            )


def is_from_here(connection: HTTPConnection) -> bool:
    """Whether a request comes from a program on this machine, and not through a proxy."""
    client = connection.client.host if connection.client else None
    return is_this_machine(client) and not connection.scope.get(MARK, False)


def user_of(connection: HTTPConnection) -> str | None:
    """The user whom a named proxy names as the sender of a request, if one does."""
    user: str | None = connection.scope.get(USER)
    return user


def path_of(scope: Scope) -> str:
    """The path of a request below the service's root."""
    return str(scope["path"]).removeprefix(scope.get("root_path", "")) or "/"


def _last(headers: Headers, name: str) -> str:
    """The last value of a header: the one that the nearest proxy wrote."""
    return headers.get(name, "").rpartition(",")[2].strip()


def _only(headers: Headers, name: str) -> str | None:
    """The value of a header that is there once; of two, one may be the sender's own."""
    values = headers.getlist(name)
    return values[0].strip() or None if len(values) == 1 else None


def _put_below(scope: Scope, prefix: str) -> None:
    """Make a path one below a prefix, as ASGI wants it, whether or not the proxy removed that."""
    path = scope["path"]
    if path != prefix and not path.startswith(f"{prefix}/"):
        scope["path"] = prefix + path
        scope["raw_path"] = prefix.encode() + scope.get("raw_path", path.encode())
    scope["root_path"] = prefix
