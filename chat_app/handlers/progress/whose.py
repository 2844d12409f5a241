"""Whose values the served version has, and what it gets wrong, for everybody who may see progress.

Invariant: visitors are told nothing of fewer than five people, and no text of anybody. The operator
sees the questions on which raters agree least, and parts of any size: the page of raters names them
anyway.
"""

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass

from chat_app.errors import NotAllowedError
from chat_app.handlers.progress.kept import KeptForAll
from chat_app.handlers.progress.shares import ShareInterval
from chat_app.handlers.progress.view import CLOSED
from chat_app.handlers.versions import Version, served_version
from chat_app.service.chat import ChatService
from feedback_store.errors import StoreUnavailableError
from feedback_store.raters.whose import MOST
from feedback_store.records import Cycle
from feedback_store.store import FeedbackStore
from rlhf_core.cycle.whose.facts import FEWEST, Portrait, portrait
from rlhf_core.gate.intervals import wilson_interval

LATEST = 200  # alarms that are looked through
# Alarms about a version; the others are about the service, and the page has no words for them.
ALARMS = (
    "length",
    "length_drift",
    "entropy",
    "kl",
    "over_optimised",
    "agreement",
    "one_rater",
    "live_win_rate",
)
Z = 1.96


@dataclass(frozen=True, slots=True)
class ProbeRate:
    """The share of replies to one kind of probe that pass, and how many were asked, if known."""

    kind: str
    share: ShareInterval
    asked: int | None


@dataclass(frozen=True, slots=True)
class Faults:
    """What the cycle measured that made the served version.

    Attributes:
        round: Its number.
        preferred: How often its replies were preferred to those of the version before.
        foretold: How many votes the reward model foretells that it did not learn from.
        probes: The kinds of probes, the one that it fails most first.
        alarms: Kinds of alarms about this round.
    """

    round: int
    preferred: ShareInterval | None
    foretold: ShareInterval | None
    probes: tuple[ProbeRate, ...]
    alarms: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class WhoseView:
    """All that the page shows; `faults` is None if no round made the served version.

    `newest` is how many votes of each kind are looked at, `fewest` of how many people it tells.
    """

    version: Version
    portrait: Portrait
    faults: Faults | None
    newest: int
    fewest: int
    public: bool


class WhoseValues:
    """Shows whose values the model has.

    Args:
        service: Its store is read.
        now: A clock in seconds.
    """

    def __init__(self, service: ChatService, *, now: Callable[[], float] = time.monotonic) -> None:
        self._service = service
        self._for_all = KeptForAll(lambda: self._read(operator=False), now=now)
        self._for_operator = KeptForAll(lambda: self._read(operator=True), now=now)

    def view(self, *, operator: bool = False) -> WhoseView:
        """The present view, at most some seconds old.

        Raises:
            NotAllowedError: The page is for the operator alone.
        """
        if operator:
            return self._for_operator.get()
        if self._service.settings.progress == "operator":
            raise NotAllowedError(CLOSED)
        return self._for_all.get()

    def _read(self, *, operator: bool) -> WhoseView:
        store = self._service.store
        with suppress(StoreUnavailableError):  # a full disk: what was derived before can be read
            store.refresh_comparisons()
        fewest = 1 if operator else FEWEST
        return WhoseView(
            version=served_version(store),
            portrait=portrait(
                store.vote_facts(),
                fewest=fewest,
                with_questions=operator,
            ),
            faults=_faults(store),
            newest=MOST,
            fewest=fewest,
            public=self._service.settings.progress == "public",
        )


def _faults(store: FeedbackStore) -> Faults | None:
    made_by = store.adapter(store.serving().adapter).cycle_id
    if made_by is None:
        return None
    cycle = store.cycle(made_by)
    found = cycle.metrics
    return Faults(
        round=cycle.id,
        preferred=_interval(found, "win_rate"),
        foretold=_interval(found, "reward_accuracy"),
        probes=_probes(found),
        alarms=_alarms(store, cycle),
    )


def _interval(metrics: Mapping[str, float], name: str) -> ShareInterval | None:
    if name not in metrics:
        return None
    low, high = metrics.get(f"{name}_low"), metrics.get(f"{name}_high")
    return ShareInterval(metrics[name], low, high)


def _probes(metrics: Mapping[str, float]) -> tuple[ProbeRate, ...]:
    """A cycle of an earlier version did not note how many were asked, so there is no interval."""
    prefix, found = "probe/", list[ProbeRate]()
    for name, share in metrics.items():
        if (kind := name.removeprefix(prefix)) != name:
            asked = metrics.get(f"probe_asked/{kind}")
            number = None if asked is None else int(asked)
            rate = ShareInterval(share) if number is None else _of_probes(share, number)
            found.append(ProbeRate(kind, rate, number))
    return tuple(sorted(found, key=lambda one: one.share.value))


def _of_probes(share: float, asked: int) -> ShareInterval:
    right = round(share * asked)
    values = [1.0] * right + [0.0] * (asked - right)
    each = [str(number) for number in range(asked)]
    low, value, high = wilson_interval(values, each, [1.0] * asked, z=Z)
    return ShareInterval(round(value, 4), round(low, 4), round(high, 4))


def _alarms(store: FeedbackStore, cycle: Cycle) -> tuple[str, ...]:
    """Their kinds alone: a text is for the operator."""
    raised = store.alarms(since=cycle.started_at, limit=LATEST)
    kinds = {alarm.kind for alarm in raised if alarm.cycle_id == cycle.id}
    return tuple(kind for kind in ALARMS if kind in kinds)
