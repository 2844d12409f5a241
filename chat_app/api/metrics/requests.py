"""API requests, counted by the template of their route and their status as they end."""

import time

from prometheus_client import CollectorRegistry, Counter, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chat_app.api.logs import note_route
from chat_app.api.proxies import path_of


class RequestMeasures:
    """How many API requests came, and how long each took."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.count = Counter(
            "feedback_chat_requests",
            "requests under /v1/",
            ["route", "status"],
            registry=registry,
        )
        self.seconds = Histogram(
            "feedback_chat_request_seconds",
            "time to the last byte under /v1/",
            ["route"],
            registry=registry,
        )


class CountRequests:
    """Middleware that counts API requests by route template and status."""

    def __init__(self, app: ASGIApp, *, measures: RequestMeasures) -> None:
        self._app = app
        self._measures = measures

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request through; count it at its end, and tell the log its route."""
        try:
            if scope["type"] == "http" and path_of(scope).startswith("/v1/"):
                await self._counted(scope, receive, send)
            else:
                await self._app(scope, receive, send)
        finally:
            note_route(scope)

    async def _counted(self, scope: Scope, receive: Receive, send: Send) -> None:
        status = "none"  # the connection was closed before an answer
        started = time.perf_counter()

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = str(message["status"])
            await send(message)

        try:
            await self._app(scope, receive, noting)
        except Exception:  # the outermost middleware answers it
            status = "500" if status == "none" else status
            raise
        finally:
            route = getattr(scope.get("route"), "path", "unknown")
            self._measures.count.labels(route, status).inc()
            self._measures.seconds.labels(route).observe(time.perf_counter() - started)
