"""What the operator page's events do: show the state, run or cancel a cycle, serve, try, roll back.

Invariant: every public method first checks that the request is the operator's. A hidden button is
no protection, because each event function is a public endpoint. The audit log says who did it: the
operator, or the owner of a key with that role. Whether a request is an operator's is decided in
`chat_app.api.operator_door`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from chat_app.api.operator_door import OPERATOR
from chat_app.cycles.trials import told
from chat_app.errors import NotAllowedError
from chat_app.handlers.report import Report, read_report
from chat_app.service.chat import ChatService
from chat_app.service.promotion import warning_of
from feedback_store.records import Adapter, Cycle


@dataclass(frozen=True, slots=True)
class Overview:
    """The state of the service, for the operator page."""

    serving: str
    previous: str | None
    counts: Mapping[str, int]
    cycles: tuple[Cycle, ...]
    adapters: tuple[Adapter, ...]
    stages: Mapping[str, str]  # of each adapter, by its name
    trial: str | None  # what the open trial shows so far, in words
    needed: int  # comparisons that a cycle needs, ties not counted
    busy: bool  # whether a cycle's process is alive; a killed one leaves its row at "running"

    @property
    def running(self) -> Cycle | None:
        """The cycle that is running, if any."""
        unfinished = (cycle for cycle in self.cycles if cycle.state == "running")
        return next(unfinished, None) if self.busy else None

    @property
    def before_the_first(self) -> str:
        """The text shown before the first cycle: what it needs."""
        have = self.counts["comparisons"]
        return (
            f"No cycle has run yet. Comparisons so far: {have}; "
            f"a cycle needs {self.needed}, not counting ties."
        )

    @property
    def promotable(self) -> tuple[str, ...]:
        """The adapters that could be served instead of the present one."""
        return tuple(
            adapter.name
            for adapter in self.adapters
            if adapter.state == "published" and adapter.name != self.serving
        )

    @property
    def rejected(self) -> tuple[str, ...]:
        """The adapters that can be served only against the gate's verdict."""
        return tuple(adapter.name for adapter in self.adapters if adapter.state == "rejected")


class Operator:
    """What the operator can see and do.

    ``allowed`` is the door's answer for a request, and ``by`` says who sends it.
    """

    def __init__(self, service: ChatService) -> None:
        self._service = service

    def overview(self, *, allowed: bool) -> Overview:
        """The served adapter, counts, recent cycles, adapters."""
        _require(allowed)
        status: dict[str, Any] = self._service.status()
        return Overview(
            serving=status["serving"],
            previous=status["previous"],
            counts=status["counts"],
            cycles=tuple(self._service.recent_cycles()),
            adapters=tuple(self._service.store.adapters(kind="policy")),
            stages=self._service.store.stages(),
            trial=None if status["trial"] is None else told(status["trial"]),
            needed=self._service.settings.cycle.min_comparisons,
            busy=self._service.cycles.running() is not None,
        )

    def report(self, cycle_id: int | None, *, allowed: bool) -> Report | None:
        """The report of a cycle; None if it wrote none."""
        _require(allowed)
        if cycle_id is None:
            return None
        return read_report(self._service.settings.data, int(cycle_id))

    def run_cycle(self, *, allowed: bool, by: str = OPERATOR) -> str:
        """Start a cycle in a separate process, so that no chat waits for it."""
        _require(allowed)
        pid = self._service.start_cycle(by=by)
        return f"Cycle started as process {pid}."

    def cancel_cycle(self, *, allowed: bool, by: str = OPERATOR) -> str:
        """Cancel the running cycle; serving is as it was before."""
        _require(allowed)
        cycle = self._service.cancel_cycle(by=by)
        return f"Cycle {cycle.id} is cancelled. The served adapter is as before."

    def warning(self, name: str, *, allowed: bool) -> str | None:
        """Why the gate rejected an adapter; None for one that it did not reject."""
        _require(allowed)
        return warning_of(self._service.store, name)

    def promote(self, name: str, *, allowed: bool, force: bool = False, by: str = OPERATOR) -> str:
        """Serve another published adapter, or with ``force`` a rejected one."""
        _require(allowed)
        serving = self._service.promote(name, force=force, by=by)
        return f"{serving.adapter} is served now. “Roll back” serves {serving.previous} again."

    def canary(self, name: str, *, allowed: bool, force: bool = False, by: str = OPERATOR) -> str:
        """Let people compare an adapter with the served one before it is served."""
        _require(allowed)
        trial = self._service.canary(name, force=force, by=by)
        return (
            f"People compare {trial.adapter} with {trial.other} now. It is served once they find "
            "it better."
        )

    def stop_trial(self, *, allowed: bool, by: str = OPERATOR) -> str:
        """Let people compare adapters no more."""
        _require(allowed)
        trial = self._service.stop_trial(by=by)
        return f"People do not compare {trial.adapter} with {trial.other} any more."

    def roll_back(self, *, allowed: bool, by: str = OPERATOR) -> str:
        """Serve the adapter that was served before, and say which could not be, and why."""
        _require(allowed)
        done = self._service.rollback(by=by)
        now, before = done.serving.adapter, done.serving.previous
        said = (f"Rolled back: {now} is served now instead of {before}", *done.remarks())
        return " ".join(f"{sentence[0].upper()}{sentence[1:]}." for sentence in said)


def _require(allowed: bool) -> None:
    if not allowed:
        raise NotAllowedError(
            "operators only: open the page with the token that the server printed"
        )
