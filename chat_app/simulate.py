"""Simulated visitors who use a running service over HTTP, exactly as other clients do.

Each visitor is one rater with a token of its own, talks one request at a time, and keeps its habits
for a seed; how many are busy at once is bounded. Their raters are marked "simulated" in the store.
Nothing is read from the data directory and no request is special.
"""

import asyncio
import json
import random
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import httpx
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from chat_app.errors import InvalidRequestError, StartError
from chat_app.identity import is_this_machine
from feedback_store.sqlite.ids import new_id
from rlhf_core.starter.raters import Visitor, visitors

# Share of the visits. About half of the events become choices, a third thumbs and a sixth
# demonstrations, for most visitors decline to write a better answer.
MIX = {"choices": 0.38, "thumbs": 0.30, "demonstrations": 0.32}
SECOND_REPLY = 0.5  # share of the thumbs visits that look at two replies to one prompt
VISITS_PER_EVENT = 20  # more, and there is nothing to judge: a collapsed policy says one thing
RETRIES = 5  # of a request that the service was too busy for
TIMEOUT_S = 90.0


@dataclass(frozen=True, slots=True)
class Plan:
    """Who comes, how often, and to where."""

    url: str = "http://127.0.0.1:7860"
    visitors: int = 40
    events: int = 800
    seed: int = 0
    kinds: tuple[str, ...] = tuple(MIX)
    at_once: int = 24
    remote: bool = False

    def check(self) -> None:
        """Refuse a plan that cannot be carried out.

        Raises:
            InvalidRequestError: An unknown kind, or an address on another machine.
        """
        unknown = set(self.kinds) - MIX.keys()
        if unknown or not self.kinds:
            raise InvalidRequestError(
                f"kinds of events {sorted(unknown)} are unknown; use {', '.join(MIX)}"
            )
        host = _host(self.url)
        if host is None:
            raise InvalidRequestError(f"url {self.url!r} is no http address; give http://host:port")
        if not self.remote and not is_this_machine(host):
            raise InvalidRequestError(
                f"url {self.url!r} is another machine; simulated votes belong on a test service, "
                "so give --remote if that is one"
            )


@dataclass(slots=True)
class Result:
    """What came of it."""

    asked: int
    stored: Counter[str] = field(default_factory=Counter)
    requests: int = 0
    failed: int = 0
    first_failure: str = ""
    seconds: float = 0.0
    adapters: Counter[str] = field(default_factory=Counter)

    @property
    def events(self) -> int:
        """Feedback events that the service has stored."""
        return self.stored.total()

    def facts(self) -> dict[str, Any]:
        """The result as plain values."""
        return {
            "events": self.events,
            "kinds": dict(self.stored),
            "requests": self.requests,
            "failed": self.failed,
            "seconds": round(self.seconds, 2),
            "events_per_second": round(self.events / max(self.seconds, 1e-9), 2),
            "adapters": dict(self.adapters),
        }

    def summary(self) -> str:
        """The result in two lines."""
        kinds = ", ".join(f"{count} {kind}" for kind, count in self.stored.most_common())
        return (
            f"{self.events} events ({kinds}) in {self.seconds:.1f} s, "
            f"{self.events / max(self.seconds, 1e-9):.1f} a second\n"
            f"{self.requests} requests, {self.failed} failed"
        )


def run_simulation(plan: Plan, *, show: bool = True) -> Result:
    """Carry out a plan.

    Raises:
        InvalidRequestError: The plan makes no sense.
        StartError: No service answers at the address.
    """
    plan.check()
    columns = (TextColumn("visitors"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), disable=not show) as bar:
        task = bar.add_task("events", total=plan.events)
        crowd = _Crowd(plan, lambda: bar.advance(task))
        return asyncio.run(crowd.visit())


class _Crowd:
    """All visitors of one run: they share the goal and the connection pool."""

    def __init__(self, plan: Plan, advance: Any) -> None:
        self._plan = plan
        self._advance = advance
        self._result = Result(plan.events)
        self._begun = 0  # events promised or stored, so that the goal is met exactly
        self._visits = 0

    async def visit(self) -> Result:
        """Let everybody in; return when all events are stored or nothing works any more."""
        plan, started = self._plan, time.monotonic()
        limits = httpx.Limits(max_connections=plan.at_once)
        async with httpx.AsyncClient(
            base_url=plan.url, timeout=TIMEOUT_S, limits=limits, trust_env=False
        ) as client:
            await _require_service(client, plan.url)
            room = asyncio.Semaphore(plan.at_once)
            people = visitors(plan.visitors, plan.seed)
            async with asyncio.TaskGroup() as group:
                for number, visitor in enumerate(people):
                    one = _Guest(self, client, visitor, number)
                    group.create_task(one.stay(room))
        self._result.seconds = time.monotonic() - started
        return self._result

    @property
    def plan(self) -> Plan:
        """What everybody is here for."""
        return self._plan

    @property
    def result(self) -> Result:
        """What has come of it so far."""
        return self._result

    def wants_more(self) -> bool:
        """Whether another event is needed, and the service still gives something to judge."""
        self._visits += 1
        hopeless = self._result.failed >= max(20, self._plan.events // 4)
        hopeless |= self._visits > VISITS_PER_EVENT * self._plan.events
        return self._begun < self._plan.events and not hopeless

    def begin(self) -> bool:
        """Promise one event, if one is still needed."""
        if self._begun >= self._plan.events:
            return False
        self._begun += 1
        return True

    def end(self, kind: str, *, stored: bool) -> None:
        """Keep a promise, or give it back."""
        if stored:
            self._result.stored[kind] += 1
            self._advance()
        else:
            self._begun -= 1


class _Guest:
    """One visitor at work."""

    def __init__(
        self, crowd: _Crowd, client: httpx.AsyncClient, visitor: Visitor, number: int
    ) -> None:
        plan = crowd.plan
        self._crowd = crowd
        self._client = client
        self._visitor = visitor
        self._rng = random.Random(f"visits/{plan.seed}/{number}")
        self._headers = {
            "Authorization": f"Bearer simulated-{plan.seed}-{number}",
            "X-Feedback-Chat-Simulated": "1",
        }

    async def stay(self, room: asyncio.Semaphore) -> None:
        """Come back until there are events enough."""
        visits = {"choices": self._compare, "thumbs": self._chat, "demonstrations": self._teach}
        kinds = self._crowd.plan.kinds
        weights = [MIX[kind] for kind in kinds]
        while self._crowd.wants_more():
            kind = self._rng.choices(kinds, weights)[0]
            async with room:
                try:
                    await visits[kind]()
                except _RequestFailedError as exc:
                    self._crowd.result.failed += 1
                    self._crowd.result.first_failure = self._crowd.result.first_failure or str(exc)

    async def _compare(self) -> None:
        """Ask, see two blind replies, choose."""
        prompt = self._visitor.ask()
        shown = await self._post("candidates", {"messages": _asked(prompt), "n": 2})
        if shown["candidates_id"] is None:
            return  # they said the same
        replies = {reply["label"]: reply["content"] for reply in shown["replies"]}
        choice = self._visitor.choose(prompt, replies["a"], replies["b"])
        body = {"candidates_id": shown["candidates_id"], "choice": choice}
        await self._store("choices", "choices", body)

    async def _chat(self) -> None:
        """Ask, read a reply (or a second try), thumb what one feels strongly about."""
        prompt = self._visitor.ask()
        for _ in range(2 if self._rng.random() < SECOND_REPLY else 1):
            message_id, reply = await self._reply(prompt)
            thumb = self._visitor.thumb(prompt, reply)
            if thumb is not None:
                await self._store("thumbs", "feedback", {"message_id": message_id, "thumb": thumb})

    async def _teach(self) -> None:
        """Ask, and write the better answer where one cares to."""
        prompt = self._visitor.ask()
        message_id, reply = await self._reply(prompt)
        better = self._visitor.rewrite(prompt, reply)
        if better is not None:
            body = {"message_id": message_id, "content": better}
            await self._store("demonstrations", "demonstrations", body)

    async def _reply(self, prompt: str) -> tuple[str, str]:
        body = {"model": "policy", "messages": _asked(prompt)}
        answer = await self._post("chat/completions", body)
        self._crowd.result.adapters[answer["model"]] += 1
        return answer["id"], answer["choices"][0]["message"]["content"]

    async def _store(self, kind: str, route: str, body: dict[str, Any]) -> None:
        if not self._crowd.begin():
            return
        stored = False
        try:
            await self._post(route, {**body, "idempotency_key": new_id()})
            stored = True
        finally:
            self._crowd.end(kind, stored=stored)

    async def _post(self, route: str, body: dict[str, Any]) -> Any:
        """One request; a service that is busy is asked again, as it wishes."""
        for attempt in range(RETRIES):
            self._crowd.result.requests += 1
            try:
                answer = await self._client.post(f"/v1/{route}", json=body, headers=self._headers)
            except httpx.HTTPError as exc:
                raise _RequestFailedError(f"{route}: {type(exc).__name__} {exc}") from exc
            if answer.status_code != 503 or attempt == RETRIES - 1:
                break
            await asyncio.sleep(0.5 * 2**attempt)
        if answer.status_code >= 400:
            raise _RequestFailedError(f"{route}: {answer.status_code} {_reason(answer)}")
        return answer.json()


class _RequestFailedError(Exception):
    """One request failed; counted, and the visitor goes on."""


async def _require_service(client: httpx.AsyncClient, url: str) -> None:
    try:
        answer = await client.get("/readyz")
    except httpx.HTTPError as exc:
        raise StartError(f"no service answers at {url}; start `feedback-chat serve`") from exc
    if answer.status_code != 200:
        raise StartError(f"the service at {url} is not ready ({answer.status_code}); try again")


def _asked(prompt: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": prompt}]


def _reason(answer: httpx.Response) -> str:
    try:
        return str(answer.json()["error"]["message"])
    except (json.JSONDecodeError, KeyError, TypeError):
        return answer.text[:200]


def _host(url: str) -> str | None:
    try:
        parts = urlsplit(url)
    except ValueError:
        return None
    return parts.hostname if parts.scheme in ("http", "https") else None
