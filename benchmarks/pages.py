"""What the page costs: 64 replies read at once through it, beside the same as plain events.

    python -m benchmarks.pages --json               # the streams
    python -m benchmarks.pages --browser --json     # and how soon the page can be used

A real service runs in a process of its own, on an engine without a model that says a word every
20 ms. Three ways to read it are taken in turn: plain server-sent events, the page, and, from a
second process, a `gr.Chatbot` with eight messages that gets an update for each token. The bars are
wall time through the page over plain events, CPU of the server for a token over that of the
chatbot's updates, and the time to the first words.
"""

import argparse
import asyncio
import json
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil

TOKENS, PAUSE_S, FIRST_S = 60, 0.02, 0.05  # of a reply; between two tokens; before the first
READERS, FEW = 64, 16
BARS = {"wall": 1.5, "cpu": 0.3, "first_ms": 150.0, "usable_s": 1.5}
TIMEOUT = httpx.Timeout(60.0)
LIMITS = httpx.Limits(max_connections=400)


class SteadyEngine:
    """Says a word every 20 ms, to anybody."""

    doubting = False

    async def stream(self, request: Any) -> AsyncGenerator[Any, None]:
        """The words of one reply."""
        from chat_app.engine import Piece

        await asyncio.sleep(FIRST_S)
        for number in range(TOKENS):
            if number:
                await asyncio.sleep(PAUSE_S)
            yield Piece(f"word{number} ", "stop" if number == TOKENS - 1 else None, 3, number + 1)

    async def check(self, request: Any) -> None:
        """Every prompt fits."""

    async def load(self, adapter: str, path: Path) -> None:
        """Nothing has to be loaded."""

    async def unload(self, adapter: str) -> None:
        """Nothing was loaded."""

    def drop_doubts(self) -> None:
        """Nothing is known."""

    def health(self) -> dict[str, Any]:
        """All is well."""
        return {
            "alive": True, "ready": True, "failure": None, "rows": 0, "waiting": 0, "adapters": [],
        }  # fmt: skip

    def close(self) -> None:
        """Nothing runs."""


def serve(data: Path, port: int) -> None:
    """The service with its pages, and one more route that has the engine's words as they come."""
    import uvicorn
    from fastapi.sse import EventSourceResponse, format_sse_event

    from chat_app.cycles.scheduler import CycleProcess
    from chat_app.server import create_app, identity_of
    from chat_app.service.chat import ChatService
    from chat_app.settings import RateSettings, load_settings
    from feedback_store.store import FeedbackStore

    unlimited = dict.fromkeys(RateSettings.model_fields, 10**6)
    settings = load_settings(data=data, rates=unlimited, engine={"waiting": 4 * READERS})
    store = FeedbackStore(settings.database)
    engine: Any = SteadyEngine()
    service = ChatService(store, engine, settings, cycles=CycleProcess(store, settings))
    service.ready = True  # there is no model to load
    app = create_app(service, identity_of(settings, store))

    async def words() -> AsyncIterator[bytes]:
        async for piece in engine.stream(None):
            yield format_sse_event(data_str=json.dumps(piece.text))

    @app.get("/v1/plain")
    async def plain() -> EventSourceResponse:
        return EventSourceResponse(words())

    app.router.routes.insert(0, app.router.routes.pop())  # before Gradio, which takes the rest
    uvicorn.run(app, port=port, log_level="error", access_log=False)


def serve_gradio(_: Path, port: int) -> None:
    """A chat of Gradio's components, with an update for each token."""
    import gradio as gr
    import uvicorn
    from fastapi import FastAPI
    from fastapi.responses import JSONResponse

    past = [{"role": role, "content": "some words " * 8} for role in ("user", "assistant") * 4]

    async def words(text: str) -> AsyncIterator[list[dict[str, str]]]:
        said = ""
        async for piece in SteadyEngine().stream(None):
            said += piece.text
            yield [*past, {"role": "assistant", "content": said}]

    app = FastAPI()
    app.get("/readyz")(lambda: JSONResponse({}))
    with gr.Blocks(analytics_enabled=False) as blocks:
        chat, box = gr.Chatbot(), gr.Textbox()
        box.submit(words, box, chat)
    blocks.queue(default_concurrency_limit=None)
    gr.mount_gradio_app(app, blocks, "/")
    uvicorn.run(app, port=port, log_level="error", access_log=False)


@dataclass(frozen=True, slots=True)
class Reading:
    """One way of reading: wall time over the ideal, first words, and CPU of the server a token."""

    wall: float
    first_ms: float  # 95% of the readers
    cpu_ms: float


async def plain(client: httpx.AsyncClient) -> float:
    """Read the plain events; returns the seconds to the first words."""
    begun, first = time.perf_counter(), 0.0
    async with client.stream("GET", "/v1/plain") as answer:
        async for line in answer.aiter_lines():
            if line.startswith("data:") and not first:
                first = time.perf_counter() - begun
    return first


async def page(client: httpx.AsyncClient) -> float:
    """Read as a page does: send a message, then follow its reply."""
    begun, first = time.perf_counter(), 0.0
    sent = await client.post("/gradio_api/run/chat_send", json={"data": ["hello", None, None]})
    view = sent.json()["data"][0]["ok"]
    async with client.stream("GET", f"/follow/{view['writing']}") as answer:
        async for line in answer.aiter_lines():
            if "word0" in line and not first:
                first = time.perf_counter() - begun
            if line == "event: end":
                break
    assert first, "no words came"
    return first


async def naive(client: httpx.AsyncClient) -> float:
    """Read Gradio's stream, as its own client does."""
    begun, first, session = time.perf_counter(), 0.0, os.urandom(8).hex()
    event = {"data": ["hello"], "fn_index": 0, "session_hash": session}
    await client.post("/gradio_api/queue/join", json=event)
    url = f"/gradio_api/queue/data?session_hash={session}"
    async with client.stream("GET", url) as answer:
        async for line in answer.aiter_lines():
            if "process_generating" in line and not first:
                first = time.perf_counter() - begun
            if "close_stream" in line:
                break
    return first


async def measure(url: str, pid: int, readers: int, read: Callable[..., Any]) -> Reading:
    """Let so many readers read at once, each with a cookie of its own."""
    server = psutil.Process(pid)
    clients = []
    for _ in range(readers):
        client = httpx.AsyncClient(base_url=url, timeout=TIMEOUT, limits=LIMITS, trust_env=False)
        if read is page:  # it was opened before
            await client.get("/", headers={"accept": "*/*"})
            await client.post("/gradio_api/run/chat_opened", json={"data": [None, None]})
        clients.append(client)
    used, begun = sum(server.cpu_times()[:2]), time.perf_counter()
    firsts = sorted(await asyncio.gather(*(read(client) for client in clients)))
    wall, cpu = time.perf_counter() - begun, sum(server.cpu_times()[:2]) - used
    for client in clients:
        await client.aclose()
    ideal = FIRST_S + (TOKENS - 1) * PAUSE_S
    first = firsts[min(readers - 1, int(0.95 * readers))]
    return Reading(wall / ideal, 1000 * first, 1000 * cpu / (readers * TOKENS))


def usable(url: str) -> list[float]:
    """Seconds until a warm browser can write a message."""
    from playwright.sync_api import sync_playwright

    seconds = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path="/usr/bin/chromium", args=["--no-sandbox", "--headless"]
        )
        page = browser.new_page()
        for _ in range(6):
            begun = time.perf_counter()
            page.goto(url)
            page.get_by_role("textbox", name="Message", exact=True).wait_for()
            seconds.append(time.perf_counter() - begun)
        browser.close()
    return seconds[1:]  # the first visit is cold


def started(target: Callable[[Path, int], None], data: Path, port: int) -> Any:
    """A server that answers."""
    process = multiprocessing.get_context("spawn").Process(
        target=target, args=(data, port), daemon=True
    )
    process.start()
    for _ in range(600):
        try:
            if httpx.get(f"http://127.0.0.1:{port}/readyz", trust_env=False).status_code == 200:
                return process
        except httpx.HTTPError:
            pass
        time.sleep(0.1)
    raise SystemExit("the server does not answer")


def main() -> None:
    """Read in turns, and print what it took."""
    cli = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    cli.add_argument("--rounds", type=int, default=5)
    cli.add_argument("--port", type=int, default=8720)
    cli.add_argument("--browser", action="store_true", help="also how soon the page can be used")
    cli.add_argument("--json", action="store_true", help="end with one line of JSON")
    options = cli.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        urls = [f"http://127.0.0.1:{options.port + n}" for n in range(2)]
        servers = [
            started(target, Path(folder) / str(n), options.port + n)
            for n, target in enumerate((serve, serve_gradio))
        ]
        ways: dict[str, tuple[int, int, Callable[..., Any]]] = {
            "plain": (0, READERS, plain),
            "page": (0, READERS, page),
            "gradio": (1, READERS, naive),
            "few": (0, FEW, page),
        }
        found: dict[str, list[Reading]] = {name: [] for name in ways}
        for turn in range(options.rounds):
            for name, (server, readers, read) in ways.items():
                pid = servers[server].pid or 0
                reading = asyncio.run(measure(urls[server], pid, readers, read))
                found[name].append(reading)
                print(f"{turn} {name:10} {reading}", flush=True)
        seconds = usable(urls[0]) if options.browser else []
        for server_process in servers:
            server_process.terminate()
    if options.json:
        print(json.dumps(summary(found, seconds)))


def summary(found: dict[str, list[Reading]], seconds: list[float]) -> dict[str, Any]:
    """Ratios, each the median over the rounds, beside their bars."""

    def middle(value: Callable[[int], float]) -> float:
        return round(statistics.median(value(n) for n in range(len(found["page"]))), 3)

    facts: dict[str, Any] = {
        "name": "pages",
        "wall": middle(lambda n: found["page"][n].wall / found["plain"][n].wall),
        "cpu": middle(lambda n: found["page"][n].cpu_ms / found["gradio"][n].cpu_ms),
        "cpu_ms_a_token": middle(lambda n: found["page"][n].cpu_ms),
        "first_ms": middle(lambda n: found["few"][n].first_ms - 1000 * FIRST_S),
        "usable_s": round(statistics.median(seconds), 2) if seconds else None,
        "bars": BARS,
        "load": os.getloadavg()[0],
    }
    facts["met"] = all(facts[name] is None or facts[name] <= bar for name, bar in BARS.items())
    return facts


if __name__ == "__main__":
    main()
