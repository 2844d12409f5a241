"""Rounds: the cycles with their verdicts, a cycle's report, and what a cycle would do now."""

from dataclasses import dataclass
from typing import Any

from chat_app.cycles.status import cycle_facts, on_held_out_raters, skipped_sft
from chat_app.handlers.operate.guarded import require
from chat_app.handlers.report import Report, read_report
from chat_app.service.chat import ChatService
from feedback_store.records import Cycle

SHOWN = 50
LOOKS = (
    "mean_tokens",
    "mean_words",
    "unfinished_rate",
    "cut_rate",
    "repeated_rate",
    "empty_rate",
    "same_rate",
)


@dataclass(frozen=True, slots=True)
class CycleRow:
    """One cycle in the table; `seconds` is None unless it came to an end."""

    id: int
    state: str
    stage: str
    adapter: str | None
    number: int | None
    win_rate: float | None
    win_rate_low: float | None
    started_at: str
    seconds: float | None
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Look:
    """One measure of how replies look: of the served policy, and of the candidate."""

    name: str
    served: float
    candidate: float


@dataclass(frozen=True, slots=True)
class RoundReport:
    """A cycle's report; `report` is None if the cycle was not evaluated.

    `facts` says in words what else was found, such as on held-out raters.
    """

    round: CycleRow
    report: Report | None
    looks: tuple[Look, ...]
    facts: tuple[str, ...]


class Rounds:
    """The cycles of a service."""

    def __init__(self, service: ChatService) -> None:
        self._service = service

    def rounds(self, *, allowed: bool) -> tuple[CycleRow, ...]:
        """The latest cycles, newest first."""
        require(allowed)
        versions = self._service.store.versions()
        return tuple(_round(cycle, versions) for cycle in self._service.recent_cycles(SHOWN))

    def report(self, cycle_id: int, *, allowed: bool) -> RoundReport:
        """The report of one cycle."""
        require(allowed)
        store, data = self._service.store, self._service.settings.data
        shown = _round(store.cycle(cycle_id), store.versions())
        report = read_report(data, cycle_id)
        if report is None:
            return RoundReport(shown, None, (), ())
        return RoundReport(shown, report, _looks(report), _facts(report))

    def dry_run(self, *, allowed: bool) -> dict[str, Any]:
        """What a cycle would do now: the document of `cycle --dry-run --json`; takes seconds."""
        require(allowed)
        return self._service.cycles.dry_run()


def _round(cycle: Cycle, versions: dict[str, int]) -> CycleRow:
    return CycleRow(
        id=cycle.id,
        state=cycle.state,
        stage=cycle.stage,
        adapter=cycle.adapter,
        number=None if cycle.adapter is None else versions.get(cycle.adapter),
        win_rate=cycle.metrics.get("win_rate"),
        win_rate_low=cycle.metrics.get("win_rate_low"),
        started_at=cycle.started_at,
        seconds=cycle_facts(cycle)["seconds"],
        reasons=cycle.reasons,
    )


def _looks(report: Report) -> tuple[Look, ...]:
    found = []
    for name in LOOKS:
        served, candidate = (report.metrics.get(f"{who}/{name}") for who in ("served", "candidate"))
        if served is not None and candidate is not None:
            found.append(Look(name, served, candidate))
    return tuple(found)


def _facts(report: Report) -> tuple[str, ...]:
    skipped = skipped_sft(report.metrics)
    sft = () if skipped is None else (f"SFT {skipped}",)
    return (
        *sft,
        *report.remarks,
        *(f"held-out raters: {f}" for f in on_held_out_raters(report.metrics)),
    )
