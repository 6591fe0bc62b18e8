"""Metrics of spans: what became of them."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter

from gateway.telemetry.silence import SilentTraces


class TraceMetrics(SilentTraces):
    """Counts spans."""

    def __init__(self, registry: CollectorRegistry) -> None:
        # 3 outcomes = 3 series.
        self._spans = Counter(
            "gateway_spans_total", "Spans of sampled calls, by what became of them.", ["outcome"], registry=registry
        )

    def spans(self, outcome: str, count: int) -> None:
        """`outcome` is `exported`, `dropped` for want of room or time, or `failed` to be sent."""
        self._spans.labels(outcome).inc(count)
