"""Prometheus metrics. Every label is bounded by the configuration or by the error codes; see docs/metrics.md."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TypeVar, cast

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
    multiprocess,
)
from prometheus_client.metrics import MetricWrapperBase

from gateway import __version__
from gateway.telemetry.events import CallRecord
from gateway.telemetry.limits import LimitMetrics
from gateway.telemetry.trace_metrics import TraceMetrics

CALL_BUCKETS_S = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 60, 120, 300, 900)
FIRST_EVENT_BUCKETS_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 10, 30, 60, 120)
GATEWAY_BUCKETS_S = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5)
M = TypeVar("M", bound=MetricWrapperBase)
MULTIPROCESS_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"


disable_created_metrics()  # type: ignore[no-untyped-call]  # prometheus-client has no annotation here


class PrometheusTelemetry:
    """Counts calls. With several workers, prometheus-client's multiprocess mode adds them up."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry = registry or CollectorRegistry()
        self._children: dict[tuple[object, ...], MetricWrapperBase] = {}
        # ≤ 4 surfaces × 50 models × 30 codes = 6,000 series.
        self._calls = Counter("gateway_calls_total", "Finished calls.", ["surface", "model", "code"], registry=registry)
        self._running = Gauge(
            "gateway_calls_in_flight", "Calls being answered.", registry=registry, multiprocess_mode="livesum"
        )
        # ≤ 4 × 50 × 16 buckets = 3,200 series each.
        self._seconds = Histogram(
            "gateway_call_seconds",
            "From the request's head to the answer's last byte.",
            ["surface", "model"],
            buckets=CALL_BUCKETS_S,
            registry=registry,
        )
        self._first_event = Histogram(
            "gateway_first_event_seconds",
            "From the request's head to the first event of a stream.",
            ["surface", "model"],
            buckets=FIRST_EVENT_BUCKETS_S,
            registry=registry,
        )
        self._overhead = Histogram(
            "gateway_overhead_seconds",
            "The gateway's own share of the time to a whole answer, or to the first event.",
            ["surface"],
            buckets=GATEWAY_BUCKETS_S,
            registry=registry,
        )
        # ≤ 50 models × 3 kinds = 150 series.
        self._tokens = Counter(
            "gateway_tokens_total", "Tokens, as containers count them.", ["model", "kind"], registry=registry
        )
        # ≤ 50 models × 4 endings = 200 series.
        self._endings = Counter(
            "gateway_stream_endings_total", "How streams ended.", ["model", "ending"], registry=registry
        )
        # ≤ 100 deployments × 30 codes = 3,000 series.
        self._attempts = Counter(
            "gateway_upstream_attempts_total",
            "Attempts on a deployment, by how they ended.",
            ["model", "deployment", "code"],
            registry=registry,
        )
        # ≤ 100 deployments = 100 series.
        self._resent = Counter(
            "gateway_upstream_resent_total",
            "Requests sent again because a kept-alive connection had been closed before they arrived.",
            ["deployment"],
            registry=registry,
        )
        self._dropped = Counter(
            "gateway_stream_records_dropped_total",
            "Records a container sent after the end of its stream.",
            ["model"],
            registry=registry,
        )
        # 9 outcomes; 3 results; ≤ 50 models.
        self._media_fetches = Counter(
            "gateway_media_fetches_total", "Fetches of URLs in prompts.", ["outcome"], registry=registry
        )
        self._media_seconds = Counter(
            "gateway_media_fetch_seconds_total", "What fetches of URLs in prompts took.", registry=registry
        )
        self._media_bytes = Counter(
            "gateway_media_fetched_bytes_total", "Bytes that URLs in prompts led to.", registry=registry
        )
        self._media_cache = Counter(
            "gateway_media_cache_total", "Looks into the cache of fetched URLs.", ["result"], registry=registry
        )
        self._media_scaled = Counter(
            "gateway_media_scaled_total", "Images scaled down so that a call fits.", ["model"], registry=registry
        )
        self.limits = LimitMetrics(registry)
        self.traces = TraceMetrics(registry)
        self._credentials = Gauge(
            "gateway_credentials_valid",
            "1 while AWS credentials are valid, by identity.",
            ["identity"],
            registry=registry,
            multiprocess_mode="livemin",
        )
        self._connections = Gauge(
            "gateway_upstream_connections",
            "Open connections to the upstream.",
            registry=registry,
            multiprocess_mode="livesum",
        )
        build = Gauge("gateway_build_info", "Always 1.", ["version"], registry=registry, multiprocess_mode="livemax")
        build.labels(__version__).set(1)

    def call_began(self) -> None:
        self._running.inc()

    def call_ended(self, record: CallRecord) -> None:
        self._running.dec()
        surface, model = record.surface, record.model or "none"
        self._child(self._calls, surface, model, record.code).inc()
        self._child(self._seconds, surface, model).observe(record.seconds)
        usage = record.usage
        if usage is not None:
            self._child(self._tokens, model, "prompt").inc(usage.prompt_tokens)
            self._child(self._tokens, model, "completion").inc(usage.completion_tokens)
            if usage.cached_tokens:
                self._child(self._tokens, model, "cached").inc(usage.cached_tokens)
        if record.stream:
            if record.first_event_s is not None:
                self._child(self._first_event, surface, model).observe(record.first_event_s)
                self._child(self._overhead, surface).observe(max(record.first_event_s - record.upstream_s, 0.0))
            if record.ending:
                self._child(self._endings, model, record.ending).inc()
            if record.dropped:
                self._child(self._dropped, model).inc(record.dropped)
        elif record.code == "ok":
            self._child(self._overhead, surface).observe(max(record.seconds - record.upstream_s, 0.0))

    def attempt(self, model: str, lane: str, code: str) -> None:
        self._child(self._attempts, model, lane, code).inc()

    def _child(self, metric: M, *labels: str) -> M:
        """Return one series; finding it through prometheus-client costs more than counting in it."""
        found = self._children.get((metric, *labels))
        if found is None:
            found = self._children[(metric, *labels)] = metric.labels(*labels)
        return cast("M", found)

    def resent(self, lane: str) -> None:
        self._resent.labels(lane).inc()

    def media_fetched(self, outcome: str, seconds: float, size: int) -> None:
        self._media_fetches.labels(outcome).inc()
        self._media_seconds.inc(seconds)
        self._media_bytes.inc(size)

    def media_cache(self, result: str) -> None:
        self._media_cache.labels(result).inc()

    def media_scaled(self, model: str) -> None:
        self._media_scaled.labels(model).inc()

    def upstream(self, connections: int, identities: dict[str, bool]) -> None:
        """Take note of the state of connections and credentials."""
        self._connections.set(connections)
        for identity, valid in identities.items():
            self._credentials.labels(identity).set(1 if valid else 0)

    def render(self) -> tuple[bytes, str]:
        """Return the exposition text and its content type."""
        registry = self.registry
        folder = os.environ.get(MULTIPROCESS_VARIABLE)
        if folder is not None:
            _forget_the_dead(folder)
            registry = CollectorRegistry()
            multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]  # prometheus-client has no annotation here
        return generate_latest(registry), CONTENT_TYPE_LATEST


def _forget_the_dead(folder: str) -> None:
    """Take workers that are gone out of the gauges; their counters stay counted."""
    for path in Path(folder).glob("gauge_live*_*.db"):
        pid = path.stem.rpartition("_")[2]
        if not Path("/proc", pid).exists() and Path("/proc/self").exists():
            multiprocess.mark_process_dead(int(pid))  # type: ignore[no-untyped-call]  # prometheus-client has no annotation here
