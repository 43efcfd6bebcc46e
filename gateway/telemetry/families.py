"""How our metrics are named, and moments as Prometheus wants them."""

from __future__ import annotations

from datetime import datetime

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily


def gauge(name: str, text: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"qsgw_{name}", text, labels=labels)


def counter(name: str, text: str, *labels: str) -> CounterMetricFamily:
    return CounterMetricFamily(f"qsgw_{name}", text, labels=labels)


def seconds(moment: str) -> float:
    """Unix seconds of an RFC 3339 moment."""
    return datetime.fromisoformat(moment).timestamp()
