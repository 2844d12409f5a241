"""Pages over Gradio inside the process of a test: made, asked for their routes, followed."""

import asyncio
import json
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

Made = TypeVar("Made")
HERE = ("127.0.0.1", 1)


def made(make: Callable[[], Made]) -> Made:
    """Make Gradio's objects in a running event loop; outside one, it leaves loops open.

    The loop is in a thread of its own, since a browser of the same process has one, too.
    """

    async def within() -> Made:
        return make()

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, within()).result()


def routes_of(routes: Iterable[Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """The methods and paths of routes, also of those that are mounted below others."""
    for route in routes:
        for method in getattr(route, "methods", None) or ():
            yield method, prefix + route.path
        inner = getattr(route, "original_router", None)  # FastAPI's, for a router
        below = inner.routes if inner else getattr(route, "routes", None)
        yield from routes_of(below or (), prefix + ("" if inner else getattr(route, "path", "")))


@dataclass
class Stream:
    """One answer that comes in pieces, as the server sends it."""

    app: Any
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    sent: asyncio.Queue[bytes | None] = field(default_factory=asyncio.Queue)

    async def run(self, path: str, headers: dict[str, str]) -> None:
        """Ask, and take what comes until it ends."""
        pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
        scope = {
            "type": "http",
            "method": "GET",
            "scheme": "http",
            "path": path,
            "root_path": "",
            "query_string": b"",
            "headers": [(b"host", b"127.0.0.1"), *pairs],
            "client": HERE,
            "server": HERE,
            "asgi": {"version": "3.0", "spec_version": "2.3"},
        }
        await self.app(scope, self._receive, self._send)

    async def _receive(self) -> dict[str, Any]:
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = {name.decode(): value.decode() for name, value in message["headers"]}
        elif body := message.get("body"):
            self.sent.put_nowait(body)
        if message["type"] == "http.response.body" and not message.get("more_body"):
            self.sent.put_nowait(None)

    async def event(self, seconds: float = 10) -> dict[str, str]:
        """The next event."""
        sent = await asyncio.wait_for(self.sent.get(), seconds)
        assert sent is not None, "the stream has ended"
        lines = [line.partition(": ") for line in sent.decode().rstrip("\n").split("\n")]
        return {name: value for name, _, value in lines}

    async def piece(self) -> Any:
        """The next piece as the page reads it."""
        return json.loads((await self.event())["data"])

    async def text(self) -> str:
        """Everything that is still to come."""
        found = b""
        while (sent := await asyncio.wait_for(self.sent.get(), 10)) is not None:
            found += sent
        return found.decode()
