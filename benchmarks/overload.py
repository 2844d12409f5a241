"""What people who ask too much cost the others: first token, refusals, memory, counted raters.

    python -m benchmarks.overload --json                 # the starter, every attack
    python -m benchmarks.overload --attack prompts       # one of them
    python -m benchmarks.overload --seconds 5            # a short round, to see that it works

A real service runs behind a named proxy that this program plays, so that attackers and the other
visitors have different addresses. Two visitors go on chatting, one request each second. Their
first tokens alone are compared with those beside each attack, which another process sends.
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import psutil

from benchmarks.loop import service_process
from feedback_store import FeedbackStore

SECONDS = 30.0  # of each attack, and of the time alone; then twice as long, and memory is read
PAUSE_S = 1.0  # between two requests of a visitor
BARS = {"first_token_ratio": 1.5, "refusal_p95_ms": 200.0, "memory_mb": 100.0}
TIMEOUT = httpx.Timeout(60.0)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one attack did."""

    attack: str
    sent: dict[str, int]  # answers to the attacker, by status
    refusal_p95_ms: float | None
    visitors: int  # requests of the others ...
    failed: int
    first_token_ms: list[float]  # ... and how long they waited: median, 95%
    first_token_ratio: list[float]  # over the same alone
    memory_mb: float  # above the beginning, at most
    memory_after_mb: float  # after twice the time of the attack
    new_raters: int


def percentile(values: list[float], share: float = 0.95) -> float:
    """A percentile of at least one value."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


# Attacks: each sends until it is stopped and notes (status, seconds) of every answer

Note = Callable[[int | str, float], None]


async def send(client: httpx.AsyncClient, note: Note, path: str, body: Any, who: str) -> None:
    """One request, and what came of it."""
    began = time.monotonic()
    try:
        answer = await client.post(path, json=body, headers=named(who))
        note(answer.status_code, time.monotonic() - began)
    except httpx.HTTPError as exc:
        note(type(exc).__name__, time.monotonic() - began)


def named(who: str, address: str = "203.0.113.9") -> dict[str, str]:
    """The headers that a proxy adds for a caller."""
    return {"authorization": f"Bearer {who}", "x-forwarded-for": address}


def asked(text: str = "What is the capital of France?", tokens: int = 64) -> dict[str, Any]:
    """The body of a request for one reply."""
    return {"messages": [{"role": "user", "content": text}], "max_tokens": tokens}


async def crowd(client: httpx.AsyncClient, note: Note) -> None:
    """Ten times as many callers as there are rows, each once a second, all of one rater.

    They are bare sockets, because 320 clients of httpx would wait for one another.
    """
    where, body = urlsplit(str(client.base_url)), json.dumps(asked()).encode()
    kind = {"content-type": "application/json", "content-length": str(len(body))}
    headers = {"host": where.netloc, **kind, **named("crowd")}
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    request = f"POST /v1/chat/completions HTTP/1.1\r\n{lines}\r\n".encode() + body

    async def ask(number: int) -> None:
        """One caller, who keeps its connection."""
        await asyncio.sleep(number / 320)
        reader, writer = await asyncio.open_connection(where.hostname, where.port)
        while True:
            began = time.monotonic()
            writer.write(request)
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            note(int(head.split()[1]), time.monotonic() - began)
            await reader.readexactly(int(head.partition("content-length:")[2].split()[0]))
            await asyncio.sleep(1.0)

    await forever(320, ask)


async def prompts(client: httpx.AsyncClient, note: Note) -> None:
    """Conversations of 199 long messages, four at once."""
    turns = ["user", "assistant"] * 100
    said = [{"role": turns[n], "content": f"{n} " + "word " * 239} for n in range(199)]
    body = {"messages": said, "max_tokens": 8}
    await forever(4, lambda n: send(client, note, "/v1/chat/completions", body, f"long-{n}"))


async def cookie_of(client: httpx.AsyncClient) -> dict[str, str]:
    """The headers of a new visitor of the page."""
    first = await client.get("/", headers={"accept": "text/html", **named("nobody")})
    cookie = first.headers["set-cookie"].partition(";")[0]
    return {"x-forwarded-for": "203.0.113.9", "cookie": cookie}


async def calls(client: httpx.AsyncClient, note: Note) -> None:
    """One visitor calls functions of the pages, 200 at once: sends, searches, opens, mistakes."""
    headers = await cookie_of(client)
    every: tuple[tuple[str, list[Any]], ...] = (
        ("chat_send", ["hello", None, None]),
        ("chat_conversations", ["hello", 100]),
        ("compare_open", []),
        ("compare_follow", [0]),
        ("votes_found", [None, None, "hello", 0]),
        ("nothing", ["hello"]),
    )

    async def call(number: int) -> None:
        """One call."""
        name, data = every[number % len(every)]
        began = time.monotonic()
        path = f"/gradio_api/run/{name}"
        answer = await client.post(path, json={"data": data}, headers=headers)
        note(told(name, answer), time.monotonic() - began)

    await forever(200, call)


def told(name: str, answer: httpx.Response) -> int | str:
    """The status of a call, or what the page tells of a refusal; a function has to be there."""
    if answer.status_code in (400, 404) and name != "nothing":
        raise SystemExit(f"the pages have no function {name}; this attack is out of date")
    if answer.status_code != 200:
        return answer.status_code
    found = answer.json()["data"][0]
    return 200 if "ok" in found else f"problem: {found['kind']}"


async def follows(client: httpx.AsyncClient, note: Note) -> None:
    """One visitor follows its replies 400 times at once, and reads nothing of them."""
    headers = await cookie_of(client)
    place = "/follow/nothing"

    async def follow(number: int) -> None:
        """One stream, which is left after a while; the first has the replies written."""
        nonlocal place
        if number == 0:
            body = {"data": ["Tell me a long story.", None, None]}
            asked = await client.post("/gradio_api/run/chat_send", json=body, headers=headers)
            if asked.status_code == 200 and "ok" in asked.json()["data"][0]:
                place = f"/follow/{asked.json()['data'][0]['ok']['writing']}"
        began = time.monotonic()
        async with client.stream("GET", place, headers=headers) as answer:
            note(answer.status_code, time.monotonic() - began)
            if answer.status_code == 200:
                await asyncio.sleep(5.0)

    await forever(400, follow)


async def raters(client: httpx.AsyncClient, note: Note) -> None:
    """Five hundred new names, and a choice by each that gets in."""
    number = iter(range(10**6))

    async def choose(_: int) -> None:
        """A new name, two replies, a choice."""
        who, body = f"fresh-{next(number)}", {**asked(tokens=4), "n": 2}
        began = time.monotonic()
        answer = await client.post("/v1/candidates", json=body, headers=named(who))
        note(answer.status_code, time.monotonic() - began)
        found = answer.json().get("candidates_id") if answer.status_code == 200 else None
        if found:
            vote = {"candidates_id": found, "choice": "a", "idempotency_key": who}
            await send(client, note, "/v1/choices", vote, who)

    await forever(20, choose)


async def halves(client: httpx.AsyncClient, note: Note) -> None:
    """Two hundred requests whose bodies never end, and as many whose headers do not."""
    where = urlsplit(str(client.base_url))
    head = f"POST /v1/feedback HTTP/1.1\r\nHost: {where.netloc}\r\n"
    whole = head + "X-Forwarded-For: 203.0.113.9\r\nContent-Length: 1000\r\n\r\n{"

    async def half(number: int) -> None:
        """One connection that says too little, until it is closed."""
        began = time.monotonic()
        reader, writer = await asyncio.open_connection(where.hostname, where.port)
        writer.write((whole if number % 2 else head).encode())
        with suppress(ConnectionError):
            await reader.read()
        note("closed", time.monotonic() - began)
        writer.close()

    await forever(400, half)


async def leavers(client: httpx.AsyncClient, note: Note) -> None:
    """Two hundred who ask for 500 tokens and leave after the first."""

    async def leave(number: int) -> None:
        """One long reply, of which only the beginning is read."""
        began = time.monotonic()
        body = {**asked("Tell me a long story.", 500), "stream": True}
        path, who = "/v1/chat/completions", named(f"leaver-{number % 20}")
        async with client.stream("POST", path, json=body, headers=who) as answer:
            note(answer.status_code, time.monotonic() - began)
            async for _ in answer.aiter_raw():
                break

    await forever(200, leave)


ATTACKS = {f.__name__: f for f in (crowd, prompts, calls, follows, raters, halves, leavers)}


async def forever(at_once: int, act: Callable[[int], Coroutine[Any, Any, None]]) -> None:
    """So many at once, each again and again, until it is stopped; a refusal ends no attack."""

    async def repeat(number: int) -> None:
        """One of those who act at once."""
        while True:
            with suppress(httpx.HTTPError, OSError):
                await act(number)
            await asyncio.sleep(0.02)

    await asyncio.gather(*(repeat(number) for number in range(at_once)))


async def attack(name: str, url: str, seconds: float) -> dict[str, Any]:
    """Run one attack for so long; what the attacker was told."""
    found: Counter[str] = Counter()
    refused: list[float] = []

    def note(status: int | str, seconds: float) -> None:
        found[str(status)] += 1
        if status in (413, 429, 503):
            refused.append(seconds)

    limits = httpx.Limits(max_connections=500)
    async with httpx.AsyncClient(
        base_url=url, timeout=TIMEOUT, limits=limits, trust_env=False
    ) as client:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await ATTACKS[name](client, note)
    p95 = round(1000 * percentile(refused), 1) if refused else None
    return {"sent": dict(found), "refusal_p95_ms": p95}


# The other visitors


async def visit(url: str, seconds: float) -> tuple[list[float], int]:
    """Two visitors who chat; the seconds to each first token, and how many requests failed."""
    waited: list[float] = []
    failed, path, body = 0, "/v1/chat/completions", {**asked(), "stream": True}

    async def one(number: int) -> None:
        """One visitor, with an address of its own."""
        nonlocal failed
        end = time.monotonic() + seconds
        who = named(f"visitor-{number}", f"198.51.100.{number}")
        async with httpx.AsyncClient(base_url=url, timeout=TIMEOUT, trust_env=False) as client:
            while time.monotonic() < end:
                began = time.monotonic()
                try:
                    async with client.stream("POST", path, json=body, headers=who) as answer:
                        answer.raise_for_status()
                        first = True
                        async for _ in answer.aiter_raw():
                            if first:
                                waited.append(time.monotonic() - began)
                            first = False
                except httpx.HTTPError:
                    failed += 1
                await asyncio.sleep(max(0.0, PAUSE_S - (time.monotonic() - began)))

    await asyncio.gather(one(1), one(2))
    return waited, failed


def measure(name: str, url: str, process: psutil.Process, data: Path, *, seconds: float) -> Outcome:
    """The visitors alone, then beside an attack, then the memory after twice that time."""
    alone, _ = asyncio.run(visit(url, seconds))
    before, known = process.memory_info().rss, _raters(data)
    command = [sys.executable, "-m", "benchmarks.overload", "--attack", name, "--url", url]
    command += ["--seconds", str(seconds)]
    attacker = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    waited, failed = asyncio.run(visit(url, seconds))
    peak = process.memory_info().rss
    told = json.loads(attacker.communicate()[0].splitlines()[-1])
    peak = max(peak, process.memory_info().rss)
    time.sleep(2 * seconds)
    beside, usual = ([percentile(v, q) for q in (0.5, 0.95)] for v in (waited, alone))
    return Outcome(
        attack=name,
        **told,
        visitors=len(waited) + failed,
        failed=failed,
        first_token_ms=[round(1000 * seconds, 1) for seconds in beside],
        first_token_ratio=[round(a / b, 2) for a, b in zip(beside, usual, strict=True)],
        memory_mb=round((peak - before) / 1e6, 1),
        memory_after_mb=round((process.memory_info().rss - before) / 1e6, 1),
        new_raters=_raters(data) - known,
    )


def _raters(data: Path) -> int:
    with FeedbackStore(data / "feedback.db") as store:
        return store.counts()["raters"]


def serve_and_measure(names: list[str], *, seconds: float) -> list[Outcome]:
    """One service for all attacks, one after the other."""
    found = []
    with tempfile.TemporaryDirectory() as scratch:
        data = Path(scratch) / "data"
        with service_process(data, FEEDBACK_CHAT_PROXIES='["127.0.0.1"]') as (url, pid):
            asyncio.run(visit(url, 5.0))  # warm
            for name in names:
                process = psutil.Process(pid)
                found.append(measure(name, url, process, data, seconds=seconds))
                print(json.dumps(asdict(found[-1])), file=sys.stderr, flush=True)
    return found


def main() -> None:
    """Print each attack's figures, and whether all bars are met."""
    cli = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    cli.add_argument("--attack", choices=ATTACKS, help="one attack; all, if not given")
    cli.add_argument("--url", help="only send the attack, to this service")
    cli.add_argument("--seconds", type=float, default=SECONDS, help="of each attack")
    cli.add_argument("--json", action="store_true", help="end with one line of JSON")
    options = cli.parse_args()
    if options.url:
        print(json.dumps(asyncio.run(attack(options.attack, options.url, options.seconds))))
        return
    names = [options.attack] if options.attack else list(ATTACKS)
    outcomes = serve_and_measure(names, seconds=options.seconds)
    for one in outcomes:
        print(
            f"{one.attack:8} first token, median and 95%: {one.first_token_ms} ms "
            f"({one.first_token_ratio}x), {one.failed} of {one.visitors} failed; refusals "
            f"{one.refusal_p95_ms} ms; memory +{one.memory_mb} MB, then "
            f"+{one.memory_after_mb}; {one.new_raters} new raters; {one.sent}"
        )
    summary = {"attacks": [asdict(one) for one in outcomes], "bars": BARS}
    print(json.dumps({**summary, "load": os.getloadavg()[0]}))


if __name__ == "__main__":
    main()
