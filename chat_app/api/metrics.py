"""The metrics of `/metrics`, in Prometheus' text format.

Gauges are read from the engine and the store at each request of `/metrics`; only API requests are
counted as they happen. Invariant: no label has text of a chat or a rater's id.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chat_app.api.proxies import path_of
from chat_app.cycles.status import next_cycle
from chat_app.cycles.trials import trial_facts
from chat_app.service.chat import ChatService


class Facts(Collector):
    """Present values from the engine and the store."""

    def __init__(self, service: ChatService) -> None:
        self._service = service

    def collect(self) -> Iterator[Metric]:
        """Read every value once."""
        health = self._service.engine.health()
        yield _gauge("ready", "whether replies are possible", float(self._service.ready))
        yield _gauge("rows", "replies being decoded", health["rows"])
        yield _gauge("waiting", "requests waiting for a row", health["waiting"])
        yield _counter("new_tokens", "tokens decoded", health["new_tokens"])
        yield _counter("replies", "replies ended", health["replies"])
        serving = GaugeMetricFamily(
            "feedback_chat_serving", "the adapter of new replies", labels=["adapter"]
        )
        serving.add_metric([self._service.adapter], 1)
        yield serving
        if replicas := health.get("replicas"):
            yield from _replicas(replicas)
        yield from _trial(trial_facts(self._service.store))
        yield from _next_cycle(self._service)
        verified = self._service.store.last_verified_backup()
        yield _gauge(
            "backup_verified_timestamp_seconds",
            "when the last verified backup was made; 0 = there is none",
            datetime.fromisoformat(verified).timestamp() if verified else 0.0,
        )
        stored = GaugeMetricFamily("feedback_chat_stored", "rows in the store", labels=["kind"])
        for kind, count in self._service.store.counts().items():
            stored.add_metric([kind], count)
        yield stored
        alarms = CounterMetricFamily("feedback_chat_alarms", "alarms raised", labels=["kind"])
        for kind, count in self._service.store.alarm_counts().items():
            alarms.add_metric([kind], count)
        yield alarms


def _replicas(replicas: Sequence[Mapping[str, Any]]) -> Iterator[Metric]:
    """Of each server that decodes: whether it is asked, and how many replies it writes."""
    up = GaugeMetricFamily(
        "feedback_chat_replica_up", "whether a replica gets requests", labels=["replica"]
    )
    rows = GaugeMetricFamily(
        "feedback_chat_replica_rows", "replies that a replica decodes", labels=["replica"]
    )
    for replica in replicas:
        up.add_metric([replica["url"]], float(not replica["fault"]))
        rows.add_metric([replica["url"]], replica["rows"])
    yield from (up, rows)


class Metrics:
    """The registry of one application."""

    def __init__(self, service: ChatService) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(Facts(service))
        self.requests = Counter(
            "feedback_chat_requests",
            "requests under /v1/",
            ["route", "status"],
            registry=self._registry,
        )
        self.seconds = Histogram(
            "feedback_chat_request_seconds",
            "time to the last byte under /v1/",
            ["route"],
            registry=self._registry,
        )

    def text(self) -> bytes:
        """The present values as text."""
        return generate_latest(self._registry)


class CountRequests:
    """Middleware that counts API requests by route template and status."""

    def __init__(self, app: ASGIApp, *, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request through and count it at its end."""
        if scope["type"] != "http" or not path_of(scope).startswith("/v1/"):
            await self._app(scope, receive, send)
            return
        status = "none"  # the connection was closed before an answer
        started = time.perf_counter()

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = str(message["status"])
            await send(message)

        try:
            await self._app(scope, receive, noting)
        finally:
            route = getattr(scope.get("route"), "path", "unknown")
            self._metrics.requests.labels(route, status).inc()
            self._metrics.seconds.labels(route).observe(time.perf_counter() - started)


def _trial(facts: Mapping[str, Any] | None) -> Iterator[Metric]:
    """What people's choices between two adapters show so far; nothing while there is no trial."""
    if facts is None:
        return
    names = ("kind", "adapter", "other")
    for name, text in (
        ("choices", "choices that count"),
        ("rate", "share of the choices that prefer the adapter; neither is half of one"),
        ("better", "evidence that the adapter is better; 20 is enough"),
        ("worse", "evidence that the adapter is worse; 20 is enough"),
    ):
        gauge = GaugeMetricFamily(f"feedback_chat_trial_{name}", text, labels=names)
        gauge.add_metric([str(facts[label]) for label in names], facts[name])
        yield gauge


def _next_cycle(service: ChatService) -> Iterator[Metric]:
    """How near the next cycle is."""
    facts = next_cycle(service.store, service.settings.schedule)
    for name, text in (
        ("new", "evidence since the last cycle, in comparisons"),
        ("needed", "evidence that starts a cycle"),
        ("rejections", "cycles in a row that were rejected"),
        ("due", "whether a cycle would begin, but for what it still waits for"),
    ):
        full = f"feedback_chat_next_cycle_{name}"
        yield GaugeMetricFamily(full, text, value=float(facts[name]))


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"feedback_chat_{name}", text, value=value)


def _counter(name: str, text: str, value: float) -> CounterMetricFamily:
    return CounterMetricFamily(f"feedback_chat_{name}", text, value=value)
