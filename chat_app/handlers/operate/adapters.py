"""Versions: every policy adapter with its stage, and the trials that people decided."""

from dataclasses import dataclass

from chat_app.cycles.status import forced_facts
from chat_app.handlers.operate.guarded import require
from chat_app.handlers.operate.now import Forced, forced_of, limits_of
from chat_app.handlers.operate.trials import TrialView, trial_view
from chat_app.handlers.versions import preferred
from chat_app.handlers.views import SaidSentence, said
from chat_app.service.chat import ChatService
from chat_app.service.promotion import warning_of

TRIALS = 12


@dataclass(frozen=True, slots=True)
class AdapterView:
    """One policy adapter.

    Attributes:
        name: Its name.
        number: The version that it is; None if it was never served.
        stage: Where it is on its way, as `FeedbackStore.stages` says.
        parent: What it was made from.
        cycle_id: The cycle that made it.
        created_at: When it was made.
        preferred: Its win rate by the gate.
        forced: When it was served against the gate's verdict, if it was.
        warning: Why it may be served only against the gate's verdict; None if it may.
        choosable: Whether it could be served in place of the present one.
        anchor: Whether the KL budget of cycles counts from it.
        tainted_at: When somebody was forgotten whose words it learnt.
    """

    name: str
    number: int | None
    stage: str
    parent: str | None
    cycle_id: int | None
    created_at: str
    preferred: float | None
    forced: Forced | None
    warning: SaidSentence | None
    choosable: bool
    anchor: bool
    tainted_at: str | None


@dataclass(frozen=True, slots=True)
class VersionsView:
    """All adapters, newest first, and the latest trials, of which the first may be open."""

    adapters: tuple[AdapterView, ...]
    trials: tuple[TrialView, ...]


class AdapterList:
    """The adapters of a service and their trials."""

    def __init__(self, service: ChatService) -> None:
        self._service = service

    def versions(self, *, allowed: bool) -> VersionsView:
        """All policy adapters and the latest trials."""
        require(allowed)
        store, limits = self._service.store, limits_of(self._service)
        stages, numbers, anchor = store.stages(), store.versions(), store.anchor()
        found = []
        for one in store.adapters(kind="policy"):
            forced, warning = forced_facts(store, one.name), warning_of(store, one.name)
            waits = one.state == "published" or warning is not None
            found.append(
                AdapterView(
                    name=one.name,
                    number=numbers.get(one.name),
                    stage=stages[one.name],
                    parent=one.parent,
                    cycle_id=one.cycle_id,
                    created_at=one.created_at,
                    preferred=preferred(store, one.name),
                    forced=None if forced is None else forced_of(forced),
                    warning=None if warning is None else said(warning),
                    choosable=waits and stages[one.name] not in ("served", "canary"),
                    anchor=one.name == anchor,
                    tainted_at=one.tainted_at,
                )
            )
        newest = sorted(found, key=lambda one: one.name, reverse=True)
        trials = (trial_view(store, trial, limits) for trial in store.trials(limit=TRIALS))
        return VersionsView(tuple(newest), tuple(trials))
