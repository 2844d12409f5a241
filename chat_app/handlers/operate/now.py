"""The first screen: what is served, whether all is well, and the cycle that runs or comes next."""

import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from chat_app.cycles.readiness import Readiness, readiness
from chat_app.cycles.status import forced_facts, seconds_left
from chat_app.handlers.operate.guarded import require
from chat_app.handlers.operate.live import Iteration, curve_of, last_line
from chat_app.handlers.operate.trials import TrialView, trial_view
from chat_app.handlers.versions import preferred
from chat_app.handlers.views import SaidSentence, said
from chat_app.service.chat import ChatService
from feedback_store.records import CYCLE_STAGES, Cycle, RaisedAlarm

LOW_DISK = 1 << 30  # bytes that are free; with fewer the page warns


@dataclass(frozen=True, slots=True)
class Forced:
    """A promotion against the gate's verdict: when, by whom, and what the gate had said."""

    at: str
    by: str
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ServedNow:
    """The served version; `back` is what a rollback serves, as adapter and number."""

    adapter: str
    number: int
    since: str
    by: str
    preferred: float | None
    forced: Forced | None
    back: tuple[str, int] | None


@dataclass(frozen=True, slots=True)
class Condition:
    """Whether all is well.

    Attributes:
        alarms: Those since the last cycle began, oldest first.
        saves: Whether the last write was saved; a full disk says no.
        disk_free: Bytes that are free on the disk of the data.
        disk_low: Whether that is little.
        database: Bytes of the database, with what is not folded into its file yet.
        alive: Whether the engine's thread is alive.
        ready: Whether replies are possible.
        rows: Replies that are written at this moment.
        waiting: Requests that wait for one.
    """

    alarms: tuple[RaisedAlarm, ...]
    saves: bool
    disk_free: int
    disk_low: bool
    database: int
    alive: bool
    ready: bool
    rows: int
    waiting: int


@dataclass(frozen=True, slots=True)
class RunCard:
    """The running cycle; `left` is None while nobody can tell."""

    id: int
    stage: str
    stages: tuple[str, ...]
    progress: float
    elapsed: float
    left: float | None
    curve: tuple[Iteration, ...]
    log: str


@dataclass(frozen=True, slots=True)
class LastCycle:
    """How the last cycle ended."""

    id: int
    state: str
    finished_at: str | None
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class NextCycle:
    """When the next cycle begins, and what it waits for; None if it begins now.

    `votes` says whether that is votes.
    """

    by_itself: bool
    waits_for: SaidSentence | None
    votes: bool
    new: float
    needed: int


@dataclass(frozen=True, slots=True)
class NowView:
    """The first screen.

    `state` is "running", "starting" (or ending: a process without a running cycle), or "idle".
    `trial` is the open one, or the last that ended, with its verdict.
    """

    served: ServedNow
    condition: Condition
    state: str
    run: RunCard | None
    last: LastCycle | None
    next: NextCycle
    trial: TrialView | None
    raters: int
    comparisons: int


class Now:
    """What the operator sees first."""

    def __init__(self, service: ChatService) -> None:
        self._service = service

    def now(self, *, allowed: bool) -> NowView:
        """The first screen; the page asks for it every few seconds."""
        require(allowed)
        store = self._service.store
        store.refresh_comparisons()
        cycle, counts = store.last_cycle(), store.counts()
        running = cycle if cycle is not None and cycle.state == "running" else None
        busy = self._service.cycles.running() is not None
        return NowView(
            served=self._served(),
            condition=self._condition(cycle),
            state="running" if running else "starting" if busy else "idle",
            run=self._run(running) if running else None,
            last=None if cycle is None or running else _last(cycle),
            next=self._next(),
            trial=self._trial(),
            raters=counts["raters"],
            comparisons=counts["comparisons"],
        )

    def _served(self) -> ServedNow:
        store = self._service.store
        serving, versions = store.serving(), store.versions()
        forced = forced_facts(store, serving.adapter)
        before = store.served_before()
        return ServedNow(
            adapter=serving.adapter,
            number=versions[serving.adapter],
            since=serving.since,
            by=serving.by,
            preferred=preferred(store, serving.adapter),
            forced=None if forced is None else forced_of(forced),
            back=(before[0], versions[before[0]]) if before else None,
        )

    def _condition(self, cycle: Cycle | None) -> Condition:
        service, health = self._service, self._service.engine.health()
        free = shutil.disk_usage(service.settings.data).free
        since = "" if cycle is None else cycle.started_at
        stored = service.store.condition()
        return Condition(
            alarms=tuple(service.store.alarms(since=since)),
            saves=service.store.saves,
            disk_free=free,
            disk_low=free < LOW_DISK,
            database=stored["file_bytes"] + stored["wal_bytes"],
            alive=bool(health["alive"]),
            ready=bool(service.ready and health["ready"]),
            rows=int(health["rows"]),
            waiting=int(health["waiting"]),
        )

    def _run(self, cycle: Cycle) -> RunCard:
        data, began = self._service.settings.data, datetime.fromisoformat(cycle.started_at)
        return RunCard(
            id=cycle.id,
            stage=cycle.stage,
            stages=CYCLE_STAGES[:-1],
            progress=min(1.0, max(0.0, cycle.progress)),
            elapsed=(datetime.now(UTC) - began).total_seconds(),
            left=seconds_left(cycle),
            curve=curve_of(data, cycle.id),
            log=last_line(data, cycle.id, cycle.started_at),
        )

    def _next(self) -> NextCycle:
        schedule = self._service.settings.schedule
        found: Readiness = readiness(self._service.store, schedule)
        versions = self._service.store.versions()
        waits_for = said(found.waits_for, versions) if found.waits_for else None
        return NextCycle(schedule.enabled, waits_for, found.votes, found.new, found.needed)

    def _trial(self) -> TrialView | None:
        trials = self._service.store.trials(limit=1)
        return (
            trial_view(self._service.store, trials[0], limits_of(self._service)) if trials else None
        )


def limits_of(service: ChatService) -> tuple[int, int, float]:
    """The most choices of a canary and of a guard, and the most days of either."""
    found = service.settings.cycle.trial
    return found.canary_choices, found.guard_choices, found.days


def forced_of(facts: dict[str, Any]) -> Forced:
    """The same as a record."""
    return Forced(facts["at"], facts["by"], tuple(facts["reasons"]))


def _last(cycle: Cycle) -> LastCycle:
    return LastCycle(cycle.id, cycle.state, cycle.finished_at, cycle.reasons)
