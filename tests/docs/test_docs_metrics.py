"""docs/metrics.md has every metric, its labels and its bound."""

from __future__ import annotations

import re

import pytest
from prometheus_client.parser import text_string_to_metric_families

from gateway.http.docs_document import callers_errors
from gateway.http.relay import Ending
from tests.docs.reading import page, table
from tests.docs.serving import served
from tests.docs.tables import families, renewed

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


def test_the_bounds_of_histograms_are_their_series() -> None:
    for metric in families():
        if metric.type == "histogram":
            one = {tuple(value for name, value in sample.labels.items() if name != "le") for sample in metric.samples}
            series = len(metric.samples) // len(one)
            surfaces = "4 × (*M* + 1) × " if "`model`" in ROWS[metric.name][2] else ""
            assert ROWS[metric.name][3] == (
                f"{surfaces}{series}"
                if surfaces
                else str(4 * series if "`surface`" in ROWS[metric.name][2] else series)
            )


def test_every_label_is_explained_and_every_ending_named() -> None:
    labels = set(re.findall(r"`(\w+)`", "".join(row[2] for row in ROWS.values()))) - {"version"}
    explained = dict(re.findall(r"^\| `(\w+)` \| (.+) \|$", PAGE.partition("| Label | Values |")[2], re.MULTILINE))
    assert set(explained) == labels
    assert set(re.findall(r"`(\w+)`", explained["ending"])) == set(Ending)


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
