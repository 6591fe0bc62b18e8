"""Metrics of limits and of the Redis that counts them."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from gateway.telemetry.silence import SilentLimits
from gateway.telemetry.values import Distribution

REDIS_BUCKETS_S = (0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1)


class LimitMetrics(SilentLimits):
    """Counts decisions, and what becomes of Redis."""

    def __init__(self, registry: CollectorRegistry) -> None:
        # 4 scopes × 6 limits × 3 decisions = 72 series.
        self._decisions = Counter(
            "gateway_limit_decisions_total",
            "Limits that refused a call, would have refused it, or made it wait.",
            ["scope", "limit", "decision"],
            registry=registry,
        )
        # ≤ 50 models = 50 series.
        self._waiting = Gauge(
            "gateway_limit_waiting",
            "Calls that stand in line for a model.",
            ["model"],
            registry=registry,
            multiprocess_mode="livesum",
        )
        self._latency = Distribution(
            Histogram(
                "gateway_redis_seconds",
                "Round trips to Redis before calls.",
                buckets=REDIS_BUCKETS_S,
                registry=registry,
            )
        )
        # 15 reasons = 15 series.
        self._failures = Counter(
            "gateway_redis_failures_total",
            "Connections to Redis that failed or were given up.",
            ["reason"],
            registry=registry,
        )
        self._up = Gauge(
            "gateway_redis_up", "1 while Redis decides about limits.", registry=registry, multiprocess_mode="livemin"
        )
        self._alone = Counter(
            "gateway_limit_decided_alone_total", "Calls judged without Redis, by the policy.", registry=registry
        )

    def limit_decision(self, scope: str, limit: str, decision: str) -> None:
        self._decisions.labels(scope, limit, decision).inc()

    def limit_waiting(self, model: str, waiting: int) -> None:
        self._waiting.labels(model).set(waiting)

    def redis_latency(self, seconds: float) -> None:
        self._latency.observe(seconds)

    def redis_failed(self, reason: str) -> None:
        self._failures.labels(reason).inc()

    def redis_state(self, up: bool) -> None:
        self._up.set(1 if up else 0)

    def decided_alone(self) -> None:
        self._alone.inc()
