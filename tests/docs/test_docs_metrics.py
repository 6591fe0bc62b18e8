"""docs/metrics.md has every metric, its labels and its bound."""

from __future__ import annotations

import json
import re
from xml.etree import ElementTree

import pytest
from opentelemetry.semconv._incubating.metrics import gen_ai_metrics
from prometheus_client.parser import text_string_to_metric_families

from gateway.http.docs_document import callers_errors
from gateway.http.relay import Ending
from gateway.telemetry.calls import PHASES
from gateway.telemetry.events import CallRecord, Gaps
from gateway.telemetry.prometheus import PrometheusTelemetry
from tests.docs.reading import DOCS, page, table
from tests.docs.serving import served
from tests.docs.tables import NAMES, families, renewed

ROOT = DOCS.parent
PAGE = page("metrics.md")
ROWS = {row[0].strip("`"): row for row in table(PAGE, "metrics")}


def test_the_table_is_current_and_complete() -> None:
    assert renewed("metrics.md") == PAGE, "run `python -m tests.docs.tables`"
    assert [name for name, row in ROWS.items() if "?" in row] == []


def test_the_number_of_codes_is_the_one_the_bounds_are_made_of() -> None:
    codes = len(callers_errors()) + 2
    assert f"`code` has at most {codes} values: `ok`, `cancelled`, and" in PAGE
    assert ROWS["gateway_calls_total"][3] == f"4 × (*M* + 1) × {codes}"
    assert ROWS["gateway_upstream_attempts_total"][3] == f"*D* × {codes - 1}"
    assert ROWS["gateway_key_calls_total"][3] == f"*K* × {codes}"


def test_the_bounds_of_histograms_are_their_series() -> None:
    for metric in families():
        if metric.type == "histogram":
            one = {tuple(value for name, value in sample.labels.items() if name != "le") for sample in metric.samples}
            series = len(metric.samples) // len(one)
            bound = {
                "`surface`, `model`": f"4 × (*M* + 1) × {series}",
                "`surface`": f"{4 * series}",
                "`model`": f"*M* × {series}",
                "`model`, `phase`": f"*M* × {len(PHASES)} × {series}",
                "–": f"{series}",
            }
            assert ROWS[metric.name][3] == bound[ROWS[metric.name][2]], metric.name


def test_every_label_is_explained_and_every_ending_named() -> None:
    labels = set(re.findall(r"`(\w+)`", "".join(row[2] for row in ROWS.values()))) - {"version"}
    explained = dict(
        re.findall(
            r"^\| `(\w+)` \| (.+) \|$", PAGE.partition("| Label | Values |")[2].partition("\n\n")[0], re.MULTILINE
        )
    )
    assert set(explained) == labels
    assert set(re.findall(r"`(\w+)`", explained["ending"])) == set(Ending)
    assert tuple(re.findall(r"`(\w+)`", explained["phase"])) == PHASES
    phases = PAGE.partition("| Phase | Of | Is |")[2].partition("\n\n")[0]
    assert tuple(re.findall(r"^\| `(\w+)` \|", phases, re.MULTILINE)) == PHASES


def test_the_names_of_others_are_names_of_theirs() -> None:
    conventions = {name for name in vars(gen_ai_metrics).values() if isinstance(name, str)}
    recorded = json.loads((ROOT / "tests/recordings/vllm032-scripted-metrics.json").read_text())
    engines = set(re.findall(r"# TYPE (vllm:\w+) (?:counter|histogram|gauge)", json.dumps(recorded)))
    for name, (conventional, engine) in NAMES.items():
        assert name in ROWS
        assert set(conventional.split(", ")) - {""} <= conventions, name
        assert set(engine.split(", ")) <= engines, name


def test_the_picture_of_the_phases_has_all_of_them() -> None:
    picture = DOCS / "images" / "phases.svg"
    tree = ElementTree.parse(picture)
    kinds = {element.tag.rpartition("}")[2] for element in tree.iter()}
    assert {"title", "desc"} <= kinds
    assert not kinds & {"script", "image", "foreignObject"}
    assert "prefers-color-scheme: dark" in picture.read_text(encoding="utf-8")
    texts = {"".join(element.itertext()).strip() for element in tree.iter() if element.tag.endswith("}text")}
    assert set(PHASES) <= texts
    assert {"ModelLatency", "OverheadLatency", "FirstChunkLatency", "FirstChunkModelLatency"} <= texts


def test_the_metrics_with_examples_are_named() -> None:
    telemetry = PrometheusTelemetry()
    record = CallRecord("chat", "r", 0.0, model="m", stream=True, first_event_s=1.0, gaps=Gaps([0] * 18))
    telemetry.call_ended(record)
    section = PAGE.partition("## Examples for traces")[2].partition("\n## ")[0]
    assert {series.name for series in telemetry.marked} == set(re.findall(r"`(gateway_\w+)`", section))


@pytest.mark.anyio
async def test_a_scrape_holds_the_documented_metrics_and_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    async with served(monkeypatch) as gateway:
        for stream in (True, False):
            body = {
                "model": "lmi",
                "messages": [{"role": "user", "content": "hello"}],
                "max_tokens": 99,
                "stream": stream,
            }
            assert (await gateway.client.post("/v1/chat/completions", json=body)).status_code == 200
        assert (await gateway.client.post("/v1/completions", json={})).status_code == 400
        gateway.client.headers.pop("authorization")
        response = await gateway.client.get("/metrics")
    scraped = {metric.name: metric for metric in text_string_to_metric_families(response.text)}
    documented = {name.removesuffix("_total"): row for name, row in ROWS.items()}
    assert set(scraped) == set(documented)
    for name, metric in scraped.items():
        _, kind, labels, *_ = documented[name]
        assert metric.type == kind, name
        for sample in metric.samples:
            assert set(sample.labels) - {"le"} == set(re.findall(r"`(\w+)`", labels)), name
    values = {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for metric in scraped.values()
        for sample in metric.samples
    }
    assert values["gateway_calls_total", "chat", "lmi", "ok"] == 2
    assert values["gateway_calls_total", "completions", "missing_required_parameter", "none"] == 1
    assert values["gateway_stream_endings_total", "complete", "lmi"] == 1
    assert values["gateway_upstream_attempts_total", "lmi", "lmi", "ok"] == 2
    assert values["gateway_credentials_valid", "default"] == 1
    assert values["gateway_calls_in_flight",] == 0


@pytest.mark.anyio
async def test_without_metrics_there_is_no_such_url(monkeypatch: pytest.MonkeyPatch) -> None:
    async with served(monkeypatch, settings="{metrics_enabled: false}") as gateway:
        assert (await gateway.client.get("/metrics")).json()["error"]["code"] == "route_not_found"
