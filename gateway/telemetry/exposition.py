"""What a scrape is answered with: the text, made a little at a time so that it holds nobody up.

https://prometheus.io/docs/instrumenting/exposition_formats/
https://github.com/prometheus/OpenMetrics/blob/main/specification/OpenMetrics.md
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, cast

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry
from prometheus_client.metrics import MetricWrapperBase

from gateway.telemetry.values import Exemplar, written

TEXT = CONTENT_TYPE_LATEST
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
LINES_A_TURN = 300
"""Then others get a turn: these take less than a millisecond."""
REMEMBERED = 200_000

Labels = tuple[tuple[str, str], ...]
"""Sorted."""
Steps = Iterator[None]
"""Work in small pieces, with a pause after each."""


class Line(NamedTuple):
    """One sample."""

    name: str
    labels: Labels
    value: float


class Family(NamedTuple):
    """One metric with its samples, those of a series one after the other."""

    name: str
    kind: str
    help: str
    lines: list[Line]


Exemplars = dict[tuple[str, Labels], Exemplar]
"""Name and labels of a sample, `le` among them → its example."""
Source = Callable[[list[Family]], Steps]
"""Adds the families to a list."""

_heads: dict[tuple[str, Labels], str] = {}


def of_registry(registry: CollectorRegistry) -> Source:
    """Return the source of a process that is alone."""

    def gather(families: list[Family]) -> Steps:
        # As the registry's own `collect`, which however makes all samples of a metric at once.
        for metric in list(cast("dict[MetricWrapperBase, object]", registry._collector_to_names)):
            lines: list[Line] = []
            families.append(Family(metric._name, metric._type or "", metric._documentation, lines))
            for sample in metric._samples():
                labels = tuple(sorted(sample.labels.items()))
                lines.append(Line(metric._name + sample.name, labels, sample.value))
                if len(lines) % LINES_A_TURN == 0:
                    yield
            yield

    return gather


async def text(source: Source, exemplars: Callable[[], Exemplars], accept: str) -> tuple[bytes, str]:
    """Return the answer to a scrape and its content type, which the Accept header decides."""
    families: list[Family] = []
    await _in_turns(source(families))
    openmetrics = wants_openmetrics(accept)
    parts: list[str] = []
    await _in_turns(write(families, exemplars() if openmetrics else None, parts))
    return "".join(parts).encode(), OPENMETRICS if openmetrics else TEXT


def write(families: Iterable[Family], exemplars: Exemplars | None, parts: list[str]) -> Steps:
    """Append the text of metrics to `parts`: in OpenMetrics' format if there are `exemplars`, be it none of them."""
    count = 0
    for family in families:
        parts.append(_about(family, openmetrics=exemplars is not None))
        for line in family.lines:
            key = line.name, line.labels
            head = _heads.get(key)
            if head is None:
                head = _remember(key)
            example = exemplars.get(key) if exemplars else None
            parts.append(f"{head} {written(line.value)}{_example(example) if example else ''}\n")
            count += 1
            if count % LINES_A_TURN == 0:
                yield
    if exemplars is not None:
        parts.append("# EOF\n")


def wants_openmetrics(accept: str) -> bool:
    """Say whether a scraper prefers OpenMetrics' format (RFC 9110, 12.5.1); one who says nothing does not."""
    best = {"application/openmetrics-text": 0.0, "text/plain": 0.0}
    for part in accept.lower().split(","):
        kind, *parameters = (word.strip() for word in part.split(";"))
        weight = 1.0
        for parameter in parameters:
            name, _, value = parameter.partition("=")
            if name.strip() == "q":
                try:
                    weight = float(value)
                except ValueError:
                    weight = 0.0
        if kind in best:
            best[kind] = max(best[kind], weight)
    return best["application/openmetrics-text"] > best["text/plain"]


def _about(family: Family, *, openmetrics: bool) -> str:
    name = family.name if openmetrics or family.kind != "counter" else f"{family.name}_total"
    text = family.help.replace("\\", r"\\").replace("\n", r"\n")
    if openmetrics:
        text = text.replace('"', r"\"")
    return f"# HELP {name} {text}\n# TYPE {name} {family.kind}\n"


def _remember(key: tuple[str, Labels]) -> str:
    """Return how a sample's line begins, and keep it: labels are bounded by the configuration."""
    name, labels = key
    if len(_heads) >= REMEMBERED:
        _heads.clear()
    inside = ",".join([f'{label}="{_escaped(value)}"' for label, value in labels])
    head = _heads[key] = f"{name}{{{inside}}}" if inside else name
    return head


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def _example(example: Exemplar) -> str:
    return f' # {{trace_id="{_escaped(example.trace_id)}"}} {written(example.value)} {example.at:.3f}'


async def _in_turns(steps: Steps) -> None:
    for _ in steps:
        await asyncio.sleep(0)
