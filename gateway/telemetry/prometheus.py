"""Prometheus metrics. Every label is bounded by the configuration or by the error codes; see docs/metrics.md."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, disable_created_metrics

from gateway import __version__
from gateway.telemetry.calls import CallMetrics
from gateway.telemetry.exposition import of_registry, text
from gateway.telemetry.limits import LimitMetrics
from gateway.telemetry.shared import (
    MULTIPROCESS_VARIABLE,
    RESTARTS,
    exemplars_in,
    exemplars_of,
    keep_exemplars,
    of_folder,
)
from gateway.telemetry.trace_metrics import TraceMetrics
from gateway.telemetry.values import Slots, slot

disable_created_metrics()  # type: ignore[no-untyped-call]  # prometheus-client has no annotation here


class PrometheusTelemetry(CallMetrics):
    """Everything that is counted. With several workers each has files of its own, which `shared.py` adds up."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry = registry or CollectorRegistry()
        super().__init__(registry)
        # ≤ 100 deployments = 100 series.
        self._resent = Slots(
            Counter(
                "gateway_upstream_resent_total",
                "Requests sent again because a kept-alive connection had been closed before they arrived.",
                ["deployment"],
                registry=registry,
            )
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
        # Each 1 + assumed roles.
        self._credentials = Gauge(
            "gateway_credentials_valid",
            "1 while AWS credentials are valid, by identity.",
            ["identity"],
            registry=registry,
            multiprocess_mode="livemin",
        )
        self._expires = Gauge(
            "gateway_credentials_expire_timestamp_seconds",
            "When AWS credentials expire, in Unix time; none for those that do not.",
            ["identity"],
            registry=registry,
            multiprocess_mode="livemin",
        )
        self._credentials_failed = Counter(
            "gateway_credentials_refresh_failures_total",
            "Attempts at new AWS credentials that failed, by identity.",
            ["identity"],
            registry=registry,
        )
        self._connections = Gauge(
            "gateway_upstream_connections",
            "Open connections to the upstream.",
            registry=registry,
            multiprocess_mode="livesum",
        )
        workers = Gauge(
            "gateway_workers", "Worker processes that serve.", registry=registry, multiprocess_mode="livesum"
        )
        slot(workers).set(1.0)
        # Its one series is the supervisor's.
        Counter(*RESTARTS, registry=registry)
        self._log_lines_dropped = Counter(
            "gateway_log_lines_dropped_total", "Log lines that nobody took in time.", registry=registry
        )
        # 4 sinks × 3 outcomes = 12 series.
        self._usage_records = Counter(
            "gateway_usage_records_total", "Records of usage.", ["sink", "outcome"], registry=registry
        )
        build = Gauge("gateway_build_info", "Always 1.", ["version"], registry=registry, multiprocess_mode="livemax")
        build.labels(__version__).set(1)

    def resent(self, lane: str) -> None:
        self._resent[lane].add(1.0)

    def media_fetched(self, outcome: str, seconds: float, size: int) -> None:
        self._media_fetches.labels(outcome).inc()
        self._media_seconds.inc(seconds)
        self._media_bytes.inc(size)

    def media_cache(self, result: str) -> None:
        self._media_cache.labels(result).inc()

    def media_scaled(self, model: str) -> None:
        self._media_scaled.labels(model).inc()

    def log_lines_dropped(self, lines: int) -> None:
        self._log_lines_dropped.inc(lines)

    def usage_records(self, sink: str, outcome: str, records: int) -> None:
        self._usage_records.labels(sink, outcome).inc(records)

    def credentials_failed(self, identity: str) -> None:
        self._credentials_failed.labels(identity).inc()

    def upstream(self, connections: int, identities: dict[str, tuple[bool, float | None]]) -> None:
        """Take note of the state of connections and credentials: whether they are valid, and until when (Unix time)."""
        self._connections.set(connections)
        for identity, (valid, expires_at) in identities.items():
            self._credentials.labels(identity).set(1 if valid else 0)
            if expires_at is not None:
                self._expires.labels(identity).set(expires_at)

    def share_exemplars(self) -> None:
        """Let other workers' scrapes see this one's examples; writes a file."""
        folder = os.environ.get(MULTIPROCESS_VARIABLE)
        if folder is not None and any(series.exemplars for series in self.marked):
            keep_exemplars(Path(folder), self.marked)

    async def scrape(self, accept: str = "") -> tuple[bytes, str]:
        """Return the exposition text and its content type, as the Accept header would have it."""
        folder = os.environ.get(MULTIPROCESS_VARIABLE)
        if folder is None:
            return await text(of_registry(self.registry), lambda: exemplars_in(self.marked), accept)
        await asyncio.to_thread(self.share_exemplars)
        return await scrape_folder(Path(folder), accept)


async def scrape_folder(folder: Path, accept: str = "") -> tuple[bytes, str]:
    """Likewise for all workers whose files are in a folder, from whichever process."""
    return await text(of_folder(folder), lambda: exemplars_of(folder), accept)
