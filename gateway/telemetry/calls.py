"""Metrics of calls and attempts, counted when each ends. Every label is bounded by the configuration or the codes."""

from __future__ import annotations

from functools import cached_property

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from gateway.telemetry.events import GAP_BUCKETS_S, CallRecord, shares_s
from gateway.telemetry.silence import Silence
from gateway.telemetry.values import Distribution, Distributions, Slot, Slots, slot

CALL_BUCKETS_S = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 60, 120, 300, 900)
FIRST_TOKEN_BUCKETS_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 10, 30, 60, 120)
TOKEN_BUCKETS_S = (0.002, 0.005, 0.01, 0.015, 0.02, 0.025, 0.03, 0.04, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1)
GATEWAY_BUCKETS_S = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5)
PHASE_BUCKETS_S = (0.0005, 0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
PHASES = ("gateway", "queue", "sagemaker", "first_token", "decoding", "reply")


class CallMetrics(Silence):
    """Counts calls."""

    wants_gaps = True

    def __init__(self, registry: CollectorRegistry) -> None:
        # ≤ 4 surfaces × 50 models × 30 codes = 6,000 series.
        self.calls = Counter("gateway_calls_total", "Finished calls.", ["surface", "model", "code"], registry=registry)
        self.running = slot(
            Gauge("gateway_calls_in_flight", "Calls being answered.", registry=registry, multiprocess_mode="livesum")
        )
        # ≤ 4 × 50 × 17 = 3,400 series each.
        self.seconds = Histogram(
            "gateway_call_seconds",
            "From the request's head to the answer's last byte.",
            ["surface", "model"],
            buckets=CALL_BUCKETS_S,
            registry=registry,
        )
        self.first_token = Histogram(
            "gateway_time_to_first_token_seconds",
            "From the request's head to the first event of a stream.",
            ["surface", "model"],
            buckets=FIRST_TOKEN_BUCKETS_S,
            registry=registry,
        )
        # ≤ 50 × 20 series; ≤ 50 × 19; ≤ 50 × 6 phases × 19 = 5,700.
        self.inter_token = Histogram(
            "gateway_inter_token_seconds",
            "Between two events of a stream, as they come from SageMaker.",
            ["model"],
            buckets=GAP_BUCKETS_S,
            registry=registry,
        )
        self.per_token = Histogram(
            "gateway_time_per_output_token_seconds",
            "From the first event of a stream to its last, for each token after the first.",
            ["model"],
            buckets=TOKEN_BUCKETS_S,
            registry=registry,
        )
        self.phases = Histogram(
            "gateway_phase_seconds",
            "What the time of calls went into.",
            ["model", "phase"],
            buckets=PHASE_BUCKETS_S,
            registry=registry,
        )
        self.overhead = Distributions(
            Histogram(
                "gateway_overhead_seconds",
                "The gateway's own share of the time to a whole answer, or to the first event.",
                ["surface"],
                buckets=GATEWAY_BUCKETS_S,
                registry=registry,
            )
        )
        # ≤ 50 models × 3 kinds = 150 series.
        self.tokens = Counter(
            "gateway_tokens_total", "Tokens, as containers count them.", ["model", "kind"], registry=registry
        )
        # ≤ 50 models × 4 endings; ≤ 50 × 4 stages; ≤ 50.
        self.endings = Counter(
            "gateway_stream_endings_total", "How streams ended.", ["model", "ending"], registry=registry
        )
        self.cancellations = Counter(
            "gateway_cancellations_total",
            "Calls whose callers left, by how far they had come.",
            ["model", "stage"],
            registry=registry,
        )
        self.avoided = Slots(
            Counter(
                "gateway_tokens_avoided_total",
                "Tokens asked for and not generated, because the caller had left.",
                ["model"],
                registry=registry,
            )
        )
        self.dropped = Slots(
            Counter(
                "gateway_stream_records_dropped_total",
                "Records a container sent after the end of its stream.",
                ["model"],
                registry=registry,
            )
        )
        # ≤ 100 deployments × 30 codes = 3,000 series; ≤ 100; ≤ 50 models × 2.
        self.attempts = Counter(
            "gateway_upstream_attempts_total",
            "Attempts on a deployment, by how they ended.",
            ["model", "deployment", "code"],
            registry=registry,
        )
        self.in_flight = Gauge(
            "gateway_upstream_in_flight",
            "Attempts and streams that a deployment is working on.",
            ["model", "deployment"],
            registry=registry,
            multiprocess_mode="livesum",
        )
        self.retries = Counter(
            "gateway_upstream_retries_total",
            "Attempts after a call's first, at the same deployment or another.",
            ["model", "kind"],
            registry=registry,
        )
        # Keys that ask for it: × 30 codes, and × 3 kinds.
        self.key_calls = Counter(
            "gateway_key_calls_total", "Finished calls of a key.", ["key", "code"], registry=registry
        )
        self.key_tokens = Counter(
            "gateway_key_tokens_total", "Tokens of a key's calls.", ["key", "kind"], registry=registry
        )
        self._surfaces: dict[tuple[str, str], SurfaceSeries] = {}
        self._models: dict[str, ModelSeries] = {}
        self._keys: dict[str, tuple[Slots, Slots]] = {}

    @property
    def marked(self) -> list[Distribution]:
        """The histograms with examples."""
        found: list[Distribution] = []
        for surface in list(self._surfaces.values()):
            found += (surface.seconds, surface.first_token) if surface.streamed else (surface.seconds,)
        return found + [model.inter_token for model in list(self._models.values()) if model.streamed]

    def call_began(self) -> None:
        self.running.add(1.0)

    def call_ended(self, record: CallRecord) -> None:
        self.running.add(-1.0)
        name = record.model or "none"
        found = self._surfaces.get((record.surface, name))
        if found is None:
            found = self._surfaces[record.surface, name] = SurfaceSeries(self, record.surface, self._model(name))
        series = found.model
        code = record.code
        found.codes[code].add(1.0)
        found.seconds.observe(record.seconds)
        usage = record.usage
        if usage is not None:
            _count_tokens(series.tokens, usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens)
        if record.stream:
            self._stream_ended(record, found)
        elif code == "ok":
            self.overhead[record.surface].observe(max(record.seconds - record.queue_s - record.upstream_s, 0.0))
        if record.tries or record.queue_s:
            _divide(record, series.phases)
        if code == "cancelled":
            self._left(record, series)
        if record.measured:
            self._count_key(record)
        trace = record.trace
        if trace is not None and trace.sampled:
            found.seconds.mark(record.seconds, trace.trace_id)

    def attempt_began(self, model: str, lane: str) -> None:
        self._lane(model, lane).in_flight.add(1.0)

    def attempt(self, model: str, lane: str, code: str, *, lasts: bool = False) -> None:
        series = self._lane(model, lane)
        if code != "cancelled":
            series.codes[code].add(1.0)
        if not lasts:
            series.in_flight.add(-1.0)

    def retried(self, model: str, kind: str) -> None:
        self._model(model).retries[kind].add(1.0)

    def _model(self, name: str) -> ModelSeries:
        found = self._models.get(name)
        if found is None:
            found = self._models[name] = ModelSeries(self, name)
        return found

    def _lane(self, model: str, lane: str) -> LaneSeries:
        lanes = self._model(model).lanes
        found = lanes.get(lane)
        if found is None:
            found = lanes[lane] = LaneSeries(self, model, lane)
        return found

    def _stream_ended(self, record: CallRecord, found: SurfaceSeries) -> None:
        series = found.model
        if record.ending:
            series.endings[record.ending].add(1.0)
        if record.tries and record.tries[-1].code == "ok":
            series.lanes[record.lane].in_flight.add(-1.0)
        first_s, gaps, usage = record.first_event_s, record.gaps, record.usage
        if first_s is not None:
            found.first_token.observe(first_s)
            found.streamed = True
            self.overhead[record.surface].observe(max(first_s - record.queue_s - record.upstream_s, 0.0))
            if gaps is not None:
                series.inter_token.merge(gaps.counts, gaps.total_s)
                series.streamed = True
            if usage is not None and usage.completion_tokens > 1:
                series.per_token.observe(record.decoding_s / (usage.completion_tokens - 1))
            trace = record.trace
            if trace is not None and trace.sampled:
                found.first_token.mark(first_s, trace.trace_id)
                if gaps is not None and any(gaps.counts):
                    series.inter_token.mark(gaps.longest_s, trace.trace_id)
        if record.dropped:
            self.dropped[series.name].add(record.dropped)

    def _left(self, record: CallRecord, series: ModelSeries) -> None:
        if record.first_event_s is not None:
            stage = "streaming"
        elif record.tries:
            stage = "before_first_token" if record.stream else "whole"
        else:
            stage = "waiting"
        series.stages[stage].add(1.0)
        if record.stops and record.tries and record.asked_tokens is not None:
            delivered = record.events if record.usage is None else record.usage.completion_tokens
            self.avoided[series.name].add(max(record.asked_tokens - delivered, 0))

    def _count_key(self, record: CallRecord) -> None:
        found = self._keys.get(record.key_id)
        if found is None:
            key = record.key_id
            found = self._keys[key] = Slots(self.key_calls, key), Slots(self.key_tokens, key)
        found[0][record.code].add(1.0)
        usage = record.usage
        if usage is not None:
            _count_tokens(found[1], usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens)


class SurfaceSeries:
    """The series of one model on one surface."""

    def __init__(self, metrics: CallMetrics, surface: str, model: ModelSeries) -> None:
        self.model = model
        self.streamed = False
        """There are series of streams."""
        self.codes = Slots(metrics.calls, surface, model.name)
        self.seconds = Distribution(metrics.seconds.labels(surface, model.name))
        self._metrics, self._surface = metrics, surface

    @cached_property
    def first_token(self) -> Distribution:
        return Distribution(self._metrics.first_token.labels(self._surface, self.model.name))


class ModelSeries:
    """The series of one model."""

    def __init__(self, metrics: CallMetrics, name: str) -> None:
        self.name = name
        self.streamed = False
        self.lanes: dict[str, LaneSeries] = {}
        self.tokens = Slots(metrics.tokens, name)
        self.endings = Slots(metrics.endings, name)
        self.stages = Slots(metrics.cancellations, name)
        self.retries = Slots(metrics.retries, name)
        self.phases = Distributions(metrics.phases, name)
        self._metrics = metrics

    @cached_property
    def inter_token(self) -> Distribution:
        return Distribution(self._metrics.inter_token.labels(self.name))

    @cached_property
    def per_token(self) -> Distribution:
        return Distribution(self._metrics.per_token.labels(self.name))


class LaneSeries:
    """The series of one deployment of a model."""

    __slots__ = ("codes", "in_flight")

    def __init__(self, metrics: CallMetrics, model: str, lane: str) -> None:
        self.codes = Slots(metrics.attempts, model, lane)
        self.in_flight: Slot = slot(metrics.in_flight.labels(model, lane))


def _divide(record: CallRecord, phases: Distributions) -> None:
    """Give each phase its part of a call's time; together they are all of it."""
    own_s = record.seconds
    if record.queue_s:
        phases["queue"].observe(record.queue_s)
        own_s -= record.queue_s
    if not record.stream:
        if record.tries:
            phases["reply"].observe(record.upstream_s)
            own_s -= record.upstream_s
    elif record.tries:
        to_head_s, from_head_s = shares_s(record.tries)
        phases["sagemaker"].observe(to_head_s)
        own_s -= to_head_s + from_head_s
        if record.first_event_s is not None:
            decoding_s = record.seconds - record.first_event_s
            phases["first_token"].observe(from_head_s)
            phases["decoding"].observe(decoding_s)
            own_s -= decoding_s
        elif from_head_s:
            phases["first_token"].observe(from_head_s)
    phases["gateway"].observe(max(own_s, 0.0))


def _count_tokens(series: Slots, prompt: int, completion: int, cached: int) -> None:
    series["prompt"].add(prompt)
    series["completion"].add(completion)
    if cached:
        series["cached"].add(cached)
