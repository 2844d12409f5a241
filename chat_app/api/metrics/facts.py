"""What is read from the engine and the store when somebody asks for the metrics."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from chat_app.api.metrics.families import counter, counters, gauge, gauges
from chat_app.api.metrics.seldom import Seldom
from chat_app.api.metrics.training import cycles, next_cycle_of, trials
from chat_app.cycles.status import next_cycle
from chat_app.service.chat import ChatService
from feedback_store.records import VOTES
from feedback_store.store import FeedbackStore


class Facts(Collector):
    """Present values from the engine and the store."""

    def __init__(self, service: ChatService) -> None:
        self._service, store = service, service.store
        schedule = service.settings.schedule
        self._counts = Seldom(lambda: store.counts(apart=True))
        self._said_by = Seldom(store.said_by_kind)
        self._next_cycle = Seldom(lambda: next_cycle(store, schedule))
        self._trials = Seldom(lambda: [*trials(store)])

    def describe(self) -> Iterator[Metric]:
        """Nothing: so that registering it reads nothing."""
        yield from ()

    def collect(self) -> Iterator[Metric]:
        """Read every value once."""
        service, store = self._service, self._service.store
        yield from _engine(service)
        yield from _serving(service)
        yield from self._trials() or ()
        yield from cycles(service)
        if (waits := self._next_cycle()) is not None:
            yield from next_cycle_of(waits)
        yield from _votes(store)
        yield gauges("stored", "rows in the store", ["kind"], self._counts() or {})
        said_by = {one.kind: one.comparisons for one in self._said_by() or ()}
        text = "comparisons by the kind of their raters"
        yield gauges("comparisons_by", text, ["rater_kind"], said_by)
        yield counters("alarms", "alarms raised", ["kind"], store.alarm_counts())
        yield from _health(service)


def _engine(service: ChatService) -> Iterator[Metric]:
    health, settings = service.engine.health(), service.settings.engine
    yield gauge("ready", "whether replies are possible", float(service.ready))
    yield gauge("rows", "replies being decoded", health["rows"])
    yield gauge("rows_limit", "replies that can be decoded together", settings.rows)
    yield gauge("waiting", "requests waiting for a row", health["waiting"])
    yield gauge("waiting_limit", "requests that may wait; more are refused", settings.waiting)
    yield counter("new_tokens", "tokens decoded", health.get("new_tokens", 0))
    loaded = len(health.get("adapters", ()))
    yield gauge("adapters_loaded", "adapters that replies can use now", loaded)
    if replicas := health.get("replicas"):
        yield from _replicas(replicas)


def _replicas(replicas: Sequence[Mapping[str, Any]]) -> Iterator[Metric]:
    """Of each server that decodes: whether it is asked, and how many replies it writes."""
    up = {replica["url"]: float(not replica["fault"]) for replica in replicas}
    rows = {replica["url"]: replica["rows"] for replica in replicas}
    yield gauges("replica_up", "whether a replica gets requests", ["replica"], up)
    yield gauges("replica_rows", "replies that a replica decodes", ["replica"], rows)


def _serving(service: ChatService) -> Iterator[Metric]:
    adapter = service.adapter
    yield gauges("serving", "the adapter of new replies", ["adapter"], {adapter: 1})
    version = service.store.versions().get(adapter, 0)
    yield gauge("serving_version", "the number of the served version, from 1", version)
    base = service.engine.health().get("base") or ""
    about = (adapter, version, service.settings.model_name, base)
    names = ("adapter", "version", "model", "base")
    yield gauges("adapter_info", "what new replies come from", names, {about: 1})


def _votes(store: FeedbackStore) -> Iterator[Metric]:
    known = {(kind, said): 0 for kind, words in VOTES.items() for said in words}
    values = known | store.vote_counts()
    text = "votes ever given here, later erased ones too"
    yield counters("votes", text, ["kind", "said"], values)


def _health(service: ChatService) -> Iterator[Metric]:
    verified = service.store.last_verified_backup()
    yield gauge(
        "backup_verified_timestamp_seconds",
        "when the last verified backup was made; 0 = there is none",
        datetime.fromisoformat(verified).timestamp() if verified else 0.0,
    )
    every = service.settings.backups.every_hours * 3600
    yield gauge("backup_interval_seconds", "how often one is made; 0 = never", every)
    yield gauge("store_saves", "whether the last write was saved", float(service.store.saves))
