"""Families of samples in one line each; every name begins with `feedback_chat_`."""

from collections.abc import Iterable, Mapping
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily


def gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    """A gauge without labels."""
    return GaugeMetricFamily(f"feedback_chat_{name}", text, value=value)


def gauges(
    name: str, text: str, labels: Iterable[str], values: Mapping[Any, float]
) -> GaugeMetricFamily:
    """A gauge with labels; each key has their values, one alone or a tuple."""
    family = GaugeMetricFamily(f"feedback_chat_{name}", text, labels=[*labels])
    for key, value in values.items():
        family.add_metric(_labels(key), value)
    return family


def counter(name: str, text: str, value: float) -> CounterMetricFamily:
    """A counter without labels; `_total` is added to its name."""
    return CounterMetricFamily(f"feedback_chat_{name}", text, value=value)


def counters(
    name: str, text: str, labels: Iterable[str], values: Mapping[Any, float]
) -> CounterMetricFamily:
    """A counter with labels, as `gauges`."""
    family = CounterMetricFamily(f"feedback_chat_{name}", text, labels=[*labels])
    for key, value in values.items():
        family.add_metric(_labels(key), value)
    return family


def one_of_these(
    name: str, text: str, label: str, known: Iterable[str], now: str | None
) -> GaugeMetricFamily:
    """A state: 1 for the present one, 0 for all others."""
    return gauges(name, text, [label], {state: float(state == now) for state in known})


def _labels(key: Any) -> list[str]:
    return [str(part) for part in key] if isinstance(key, tuple) else [str(key)]
