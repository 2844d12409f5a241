"""The metrics of `/metrics`, in Prometheus' text format; docs/monitoring.md has all of them.

Gauges are read from the engine and the store at each request of `/metrics`; what replies and API
requests take is counted as they happen. Invariants: no label has text of a chat or a rater's id,
and only counters of replies and requests begin at 0 with the process; all others are in the store.
"""

from prometheus_client import CollectorRegistry, generate_latest

from chat_app.api.metrics.facts import Facts
from chat_app.api.metrics.requests import RequestMeasures
from chat_app.service.chat import ChatService

__all__ = ["Facts", "Metrics", "RequestMeasures"]


class Metrics:
    """The registry of one application."""

    def __init__(self, service: ChatService) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(Facts(service))
        self._registry.register(service.engine.measures)
        self.requests = RequestMeasures(self._registry)

    def text(self) -> bytes:
        """The present values as text."""
        return generate_latest(self._registry)
