"""The view of the page, read from the store and the reports, and kept for some seconds.

The votes for the next round alone are counted anew for whoever has just voted, as in the chat.
"""

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace

from chat_app.cycles.round_ahead import Kept
from chat_app.errors import NotAllowedError
from chat_app.handlers.progress.kept import KeptForAll
from chat_app.handlers.progress.ladder import Rung, Step, against_first, step_of
from chat_app.handlers.progress.next_round import NextRound, next_round
from chat_app.handlers.progress.rounds import History, RoundView, round_of
from chat_app.handlers.progress.values import FEWEST, Values, values_of
from chat_app.handlers.report import read_report
from chat_app.handlers.versions import Version, served_version
from chat_app.service.chat import ChatService
from feedback_store.errors import StoreUnavailableError, say
from feedback_store.records import BASE_ADAPTER, Cycle

ROUNDS = 30  # the latest ones
ALL_ROUNDS = 1000  # that may have made a version
TRIALS = 200
CLOSED = say("The operator shows this page to nobody else.")


@dataclass(frozen=True, slots=True)
class ProgressView:
    """All that the page shows; `rounds` newest first, `ladder` from version 1."""

    version: Version
    rounds: tuple[RoundView, ...]
    ladder: tuple[Rung, ...]
    next: NextRound
    values: Values
    public: bool  # whether everybody sees this, not visitors alone


class Progress:
    """Shows how the model changes.

    Args:
        service: Its store and its data directory are read.
        now: A clock in seconds.
    """

    def __init__(self, service: ChatService, *, now: Callable[[], float] = time.monotonic) -> None:
        self._service = service
        self._for_all = KeptForAll(lambda: self._read(FEWEST), now=now)
        self._for_operator = KeptForAll(lambda: self._read(1), now=now)
        self._next = Kept(self._next_round, now=now)

    def view(self, *, operator: bool = False) -> ProgressView:
        """The present view, at most some seconds old.

        Raises:
            NotAllowedError: The page is for the operator alone.
        """
        if self._service.settings.progress == "operator" and not operator:
            raise NotAllowedError(CLOSED)
        kept = self._for_operator if operator else self._for_all
        return replace(kept.get(), next=self._next.get())

    def _read(self, fewest: int) -> ProgressView:
        store, settings = self._service.store, self._service.settings
        servings, cycles = store.servings(), store.cycles(limit=ALL_ROUNDS)
        history = History(store.versions(), servings, store.trials(limit=TRIALS))
        return ProgressView(
            version=served_version(store),
            rounds=tuple(
                round_of(store, cycle, read_report(settings.data, cycle.id), history)
                for cycle in cycles[:ROUNDS]
            ),
            ladder=_ladder(history, cycles),
            next=self._next.get(),
            values=values_of(store.vote_facts(), fewest=fewest),
            public=settings.progress == "public",
        )

    def _next_round(self) -> NextRound:
        store, settings = self._service.store, self._service.settings
        with suppress(StoreUnavailableError):  # a full disk: what was derived before can be read
            store.refresh_comparisons()  # cheap: only what was said since the last time
        return next_round(store, settings.schedule, since=store.servings()[0].since)


def _ladder(history: History, cycles: list[Cycle]) -> tuple[Rung, ...]:
    """Every version, by number, with the estimate of the chain that leads to it."""
    made_by = {cycle.adapter: cycle for cycle in cycles if cycle.adapter is not None}
    tests: dict[str, Step] = {}
    for name in history.versions:
        cycle = made_by.get(name)
        if cycle is not None:
            test = step_of(cycle.metrics, history.served_at(cycle.started_at))
            tests |= {} if test is None else {name: test}
    shares = against_first(BASE_ADAPTER, tests)
    first = {serving.adapter: serving.since for serving in reversed(history.servings)}
    now = history.servings[-1].adapter
    return tuple(
        Rung(number, first[name], name == now, shares.get(name))
        for name, number in history.versions.items()
    )
