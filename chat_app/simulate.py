"""Simulated visitors that use a running service over HTTP, like any other client.

A world gives the visitors: what they ask, how they vote, what they write. Each is one rater with
its own token, sends one request at a time, and behaves the same for the same seed. The number of
busy visitors is bounded. The store marks their raters as "simulated". This module does not read the
data directory and uses only public routes.
"""

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import urlsplit

import httpx
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from chat_app.errors import InvalidRequestError, StartError
from chat_app.identity import is_this_machine
from feedback_store.sqlite.ids import new_id
from rlhf_core.worlds.starter.habits import ChoiceLabel, ThumbLabel
from rlhf_core.worlds.starter.raters import visitors as starter_visitors

# Shares of the visits. About half of the events are choices, a third thumbs and a sixth
# demonstrations, because most visitors do not write a better answer.
MIX = {"choices": 0.38, "thumbs": 0.30, "demonstrations": 0.32}
SECOND_REPLY = 0.5  # share of the thumb visits that read two replies to one prompt
VISITS_PER_EVENT = 20  # most; a collapsed policy always says the same and gets no votes
RETRIES = 5  # of a request when the service is busy
TIMEOUT_S = 90.0


class SimulatedVisitor(Protocol):
    """What a world's visitor can do; prompts and replies are plain text."""

    def ask(self) -> str:
        """The next request."""

    def choose(self, prompt: str, a: str, b: str) -> ChoiceLabel:
        """The better of two replies to something they asked, or a tie, or both bad."""

    def rank(self, prompt: str, replies: Sequence[str]) -> list[list[str]]:
        """Different replies to something they asked in an order, best first, ties in one group."""

    def thumb(self, prompt: str, reply: str) -> ThumbLabel | None:
        """A thumb on a reply to something they asked, or none."""

    def rewrite(self, prompt: str, reply: str) -> str | None:
        """A better answer to something they asked, or none."""


World = Callable[[int, int], Sequence[SimulatedVisitor]]  # from (how many, seed) to the visitors


@dataclass(frozen=True, slots=True)
class Plan:
    """How many visitors and events, the address of the service, and where visitors come from."""

    url: str = "http://127.0.0.1:7860"
    visitors: int = 40
    events: int = 800
    seed: int = 0
    kinds: tuple[str, ...] = tuple(MIX)
    at_once: int = 24
    remote: bool = False
    world: World = starter_visitors
    starter_only: bool = False  # refuse a service of another model, on which they say nothing
    ranked: int = 2  # replies that those who rank put in an order; with 2 everybody chooses
    rankers: float = 0.5  # share of the visitors who rank where the others choose

    def check(self) -> None:
        """Refuse a plan that is not possible.

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
            raise InvalidRequestError(
                f"url {self.url!r} is not an http address; give http://host:port"
            )
        if not self.remote and not is_this_machine(host):
            raise InvalidRequestError(
                f"url {self.url!r} is on another machine; simulated votes are for test "
                "services; give --remote if it is one"
            )


@dataclass(slots=True)
class Result:
    """What the visitors did."""

    asked: int
    stored: Counter[str] = field(default_factory=Counter)
    requests: int = 0
    failed: int = 0
    first_failure: str = ""
    seconds: float = 0.0
    adapters: Counter[str] = field(default_factory=Counter)

    @property
    def events(self) -> int:
        """Number of feedback events that the service stored."""
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
    """Let the visitors of a plan use the service.

    Raises:
        InvalidRequestError: The plan is not possible.
        StartError: No service answers at the address.
    """
    plan.check()
    columns = (TextColumn("visitors"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), disable=not show) as bar:
        task = bar.add_task("events", total=plan.events)
        crowd = _Crowd(plan, lambda: bar.advance(task))
        return asyncio.run(crowd.visit())


class _Crowd:
    """All visitors of one run; they share the number of events and the connections."""

    def __init__(self, plan: Plan, advance: Any) -> None:
        self.plan = plan
        self.result = Result(plan.events)
        self._advance = advance
        self._begun = 0  # events reserved or stored, so that their number is exact
        self._visits = 0

    async def visit(self) -> Result:
        """Start all visitors; return when all events are stored, or when too many requests fail."""
        plan, started = self.plan, time.monotonic()
        limits = httpx.Limits(max_connections=plan.at_once)
        async with httpx.AsyncClient(
            base_url=plan.url, timeout=TIMEOUT_S, limits=limits, trust_env=False
        ) as client:
            await _require_service(client, plan)
            room = asyncio.Semaphore(plan.at_once)
            people = plan.world(plan.visitors, plan.seed)
            async with asyncio.TaskGroup() as group:
                for number, visitor in enumerate(people):
                    one = _Guest(self, client, visitor, number)
                    group.create_task(one.stay(room))
        self.result.seconds = time.monotonic() - started
        return self.result

    def wants_more(self) -> bool:
        """Whether another event is needed and further visits make sense."""
        self._visits += 1
        hopeless = self.result.failed >= max(20, self.plan.events // 4)
        hopeless |= self._visits > VISITS_PER_EVENT * self.plan.events
        return self._begun < self.plan.events and not hopeless

    def begin(self) -> bool:
        """Reserve one event, if one is still needed."""
        if self._begun >= self.plan.events:
            return False
        self._begun += 1
        return True

    def end(self, kind: str, *, stored: bool) -> None:
        """Count a reserved event as stored, or release it."""
        if stored:
            self.result.stored[kind] += 1
            self._advance()
        else:
            self._begun -= 1


class _Guest:
    """One visitor and its requests."""

    def __init__(
        self, crowd: _Crowd, client: httpx.AsyncClient, visitor: SimulatedVisitor, number: int
    ) -> None:
        plan = crowd.plan
        self._crowd = crowd
        self._client = client
        self._visitor = visitor
        self._rng = random.Random(f"visits/{plan.seed}/{number}")
        lot = random.Random(f"ranks/{plan.seed}/{number}").random()
        self._ranks = plan.ranked > 2 and lot < plan.rankers
        self._headers = {
            "Authorization": f"Bearer simulated-{plan.seed}-{number}",
            "X-Feedback-Chat-Simulated": "1",
        }

    async def stay(self, room: asyncio.Semaphore) -> None:
        """Visit again and again until there are enough events."""
        compare = self._rank if self._ranks else self._choose
        visits = {"choices": compare, "thumbs": self._chat, "demonstrations": self._teach}
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

    async def _choose(self) -> None:
        """Ask, read two blind replies, choose."""
        prompt = self._visitor.ask()
        shown = await self._post("candidates", {"messages": _asked(prompt), "n": 2})
        if shown["candidates_id"] is None:
            return  # both replies are the same
        replies = {reply["label"]: reply["content"] for reply in shown["replies"]}
        choice = self._visitor.choose(prompt, replies["a"], replies["b"])
        body = {"candidates_id": shown["candidates_id"], "choice": choice}
        await self._store("choices", "choices", body)

    async def _rank(self) -> None:
        """Ask, read several blind replies, put them in an order."""
        prompt = self._visitor.ask()
        body = {"messages": _asked(prompt), "n": self._crowd.plan.ranked}
        shown = await self._post("candidates", body)
        if shown["candidates_id"] is None:
            return  # all replies are the same
        labels = {reply["content"]: reply["label"] for reply in shown["replies"]}
        groups = self._visitor.rank(prompt, list(labels))
        order = [[labels[reply] for reply in group] for group in groups]
        body = {"candidates_id": shown["candidates_id"], "order": order}
        await self._store("rankings", "rankings", body)

    async def _chat(self) -> None:
        """Ask, read one reply or two, and give a thumb to those with a strong opinion."""
        prompt = self._visitor.ask()
        for _ in range(2 if self._rng.random() < SECOND_REPLY else 1):
            message_id, reply = await self._reply(prompt)
            thumb = self._visitor.thumb(prompt, reply)
            if thumb is not None:
                await self._store("thumbs", "feedback", {"message_id": message_id, "thumb": thumb})

    async def _teach(self) -> None:
        """Ask, read the reply, and write a better answer if the visitor wants to."""
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
        """Send one request; repeat it while the service is busy."""
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
    """One request failed; it is counted, and the visitor goes on."""


async def _require_service(client: httpx.AsyncClient, plan: Plan) -> None:
    try:
        answer = await client.get("/readyz")
    except httpx.HTTPError as exc:
        raise StartError(f"no service answers at {plan.url}; start `feedback-chat serve`") from exc
    if answer.status_code != 200:
        raise StartError(
            f"the service at {plan.url} is not ready ({answer.status_code}); try again"
        )
    if plan.starter_only and not answer.json().get("starter", True):
        raise InvalidRequestError(
            f"the service at {plan.url} serves another model than the starter, whose visitors "
            "would vote without meaning; give --world checkable"
        )


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
