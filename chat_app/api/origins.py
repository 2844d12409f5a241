"""What other origins may do with this service: nothing, unless the operator names them.

The pages of a named origin may call the API, but for the operator's routes. They send a key or a
token, never our cookies: whoever opens such a page has not come to us.

A page on another port of this machine counts as the same site: a browser sends our cookies with its
requests. So what changes something is taken from our own pages only, and from programs that are no
browsers. A name that is not the service's is refused, because a hostile page can let its own name
point to this machine (DNS rebinding).
"""

import re
from collections.abc import Mapping, Sequence
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chat_app.api.answers import refuse
from chat_app.api.proxies import path_of

API, OPERATE = "/v1/", "/v1/operate/"
METHODS = "GET, HEAD, POST, DELETE, OPTIONS"
HEADER_NAMES = re.compile(r"[\w-]+(\s*,\s*[\w-]+)*", re.ASCII)
PREFLIGHT_S = 600  # how long a browser may remember that it has asked
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
LOCAL_NAMES = ("localhost", "127.0.0.1", "::1")
# No text of a chat can run as a script, look like a part of the page, or make a browser send a
# request to another host.
POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'self'",
    )
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",  # an address may have the operator's token in it
}
STATIC = "/static/"  # has no person's words, and another address after each change
FOR_EVER = "public, max-age=31536000, immutable"


class OwnOriginOnly:
    """Answers 403 to requests of other origins and 400 to names of other hosts.

    Args:
        app: The application.
        hosts: Names of the service, beside those of this machine; a name that begins with a dot
            stands for all below it.
        local: Whether the service listens on this machine only. Otherwise it is also reached by
            any numeric address: no name points to that one.
        origins: Whose pages may call the API from a browser, exactly as browsers write them.
    """

    def __init__(
        self, app: ASGIApp, *, hosts: Sequence[str], local: bool, origins: Sequence[str] = ()
    ) -> None:
        self._app = app
        self._origins = {_plain(origin) for origin in origins}
        self._hosts = tuple(host.lower() for host in hosts)
        self._local = local

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse, or answer with the headers that keep other origins out."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        is_file = path_of(scope).startswith(STATIC)  # now: a mounted application changes the scope
        headers = Headers(scope=scope)
        host, invited = headers.get("host", ""), self._invited(scope, headers)

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                found = is_file and message["status"] in (200, 304)
                _guard(MutableHeaders(scope=message), for_ever=found)
                MutableHeaders(scope=message).update(invited)
            await send(message)

        if not self._is_ours(host):
            said = f"the host {_name(host)!r} is not this service"
            await refuse(guarded, 400, f"{said}; if it is, name it in the option hosts")
        elif invited and _is_preflight(scope, headers):
            invited |= _may_send(headers)
            await Response(status_code=204)(scope, receive, guarded)
        elif invited:
            kept = [item for item in scope["headers"] if item[0] != b"cookie"]
            await self._app({**scope, "headers": kept}, receive, guarded)
        elif (scope["method"] not in SAFE_METHODS or _is_preflight(scope, headers)) and not _is_own(
            headers, scope["scheme"], host
        ):
            text = "the request comes from a page of another origin; only our own pages may send it"
            text += ", and for the API those that the option origins names"
            await refuse(guarded, 403, text)
        else:
            await self._app(scope, receive, guarded)

    def _invited(self, scope: Scope, headers: Headers) -> dict[str, str]:
        """The headers with which the page of a named origin may read an answer; none for others."""
        origin, path = headers.get("origin", ""), path_of(scope)
        if _plain(origin) not in self._origins or not path.startswith(API):
            return {}
        if path.startswith(OPERATE):
            return {}
        return {
            "access-control-allow-origin": origin,
            "access-control-expose-headers": "retry-after",
            "vary": "origin",
        }

    def _is_ours(self, host: str) -> bool:
        name = _name(host)
        if name in LOCAL_NAMES or name in self._hosts:
            return True
        if any(host.startswith(".") and name.endswith(host) for host in self._hosts):
            return True
        return not self._local and _is_address(name)


def _name(host: str) -> str:
    """The name in a Host header, without the port; the whole header, if it is wrong."""
    try:
        return (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:
        return host


def of_another_page(headers: Mapping[str, str]) -> bool:
    """Whether a browser says that a page of others sent a request, be it one that only reads."""
    return headers.get("sec-fetch-site") not in (None, "same-origin", "none")


def _is_preflight(scope: Scope, headers: Headers) -> bool:
    """Whether a browser asks if a page may send a request."""
    return scope["method"] == "OPTIONS" and "access-control-request-method" in headers


def _may_send(headers: Headers) -> dict[str, str]:
    """What the page of a named origin may send: our methods, and whichever headers it wants."""
    wanted = headers.get("access-control-request-headers", "")
    found = {"access-control-allow-methods": METHODS, "access-control-max-age": str(PREFLIGHT_S)}
    if HEADER_NAMES.fullmatch(wanted):
        found["access-control-allow-headers"] = wanted
    return found


def _is_own(headers: Headers, scheme: str, host: str) -> bool:
    """Whether a request is one of our own pages', or no page's at all."""
    origin = headers.get("origin")
    own = origin is None or _plain(origin) == _plain(f"{scheme}://{host}")
    return own and not of_another_page(headers)


def _plain(origin: str) -> str:
    """An origin as browsers write it: in lower case, without the scheme's own port."""
    own = {"http": ":80", "https": ":443"}.get(origin.lower().partition("://")[0], "")
    return origin.lower().removesuffix(own) if own else origin.lower()


def _guard(headers: MutableHeaders, *, for_ever: bool) -> None:
    for name in list(headers.keys()):
        if name.startswith("access-control-"):  # Gradio lets every page of this machine read
            del headers[name]
    for name, value in HEADERS.items():
        headers.setdefault(name, value)
    stored = for_ever and "set-cookie" not in headers
    headers["cache-control"] = FOR_EVER if stored else "no-store"
    if headers.get("content-type", "").startswith("text/event-stream"):
        headers["x-accel-buffering"] = "no"  # nginx would keep a reply until it is complete


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True
