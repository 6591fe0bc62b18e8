"""The console over HTTP: its files, who may ask for its data, and what the data are."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from gateway.admin import live
from gateway.admin.live import MAX_CALLS, SERIES, Live, newest
from gateway.admin.pages import POLICY, Assets
from gateway.admin.server import admin_app, reached
from gateway.auth.keys import digest, new_key
from gateway.config.load import parse
from gateway.http.inside import Inside
from gateway.limits.memory import MemoryLimits
from gateway.limits.setup import wall_ms
from gateway.telemetry.recent import RecentCalls
from gateway.telemetry.shared import Note, note_of

KEY = new_key()
OPEN = {"authorization": f"Bearer {KEY}"}
FOLDER = Path(__file__).parents[2] / "gateway" / "admin" / "console"
FILES = sorted(path.name for path in FOLDER.iterdir() if path.suffix in (".html", ".css", ".js", ".svg"))
DATA = ["/admin/about", "/admin/live", "/admin/live/history", "/admin/limits", "/admin/usage"]


def application(settings: str = "", more: str = "", inside: Inside | None = None) -> Any:
    text = f"""
settings: {{admin_port: 0, admin_key_digest: '{digest(KEY)}'{settings and ", " + settings}}}
models: [{{name: llama, aliases: [gpt], deployments: [
  {{endpoint: e, region: us-east-1, container: lmi, version: 27, inference_component: part}},
  {{endpoint: f, region: eu-west-1, container: vllm, version: 0.11, role_arn: 'arn:aws:iam::111122223333:role/r'}}]}}]
{more}
"""
    return admin_app(parse(text.encode(), "gateway.yaml", {}), inside=inside)


def ask(
    app: Any, path: str, headers: Mapping[str, str] = OPEN, method: str = "GET", body: bytes | None = None
) -> httpx.Response:
    async def main() -> httpx.Response:
        transport = httpx.ASGITransport(app, client=("127.0.0.1", 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://admin") as client:
            return await client.request(method, path, headers=dict(headers), content=body)

    return asyncio.run(main())


@pytest.fixture(scope="module")
def app() -> Any:
    return application()


# Files


@pytest.mark.parametrize("name", ["", *FILES])
def test_a_file_needs_no_key_and_is_kept_by_its_tag(app: Any, name: str) -> None:
    path = f"/console/{name}".removesuffix("/")
    response = ask(app, path, {})
    assert response.status_code == 200
    assert response.content == (FOLDER / (name or "index.html")).read_bytes()
    assert response.headers["content-security-policy"] == POLICY
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["x-frame-options"] == "DENY"
    assert response.headers["referrer-policy"] == "no-referrer"
    assert response.headers["cache-control"] == "no-cache"
    tag = response.headers["etag"]
    for given in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        again = ask(app, path, {"if-none-match": given})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    assert ask(app, path, {"if-none-match": '"other"'}).status_code == 200


@pytest.mark.parametrize(
    ("name", "media_type"),
    [
        ("index.html", "text/html; charset=utf-8"),
        ("console.css", "text/css; charset=utf-8"),
        ("app.js", "text/javascript; charset=utf-8"),
        ("icon.svg", "image/svg+xml"),
    ],
)
def test_a_file_says_what_it_is(app: Any, name: str, media_type: str) -> None:
    assert ask(app, f"/console/{name}", {}).headers["content-type"] == media_type


@pytest.mark.parametrize("name", ["__init__.py", "nothing.js", "..%2fapp.py", "%2e%2e/app.py", "app.js%00", "app.js/x"])
def test_there_is_no_other_file(app: Any, name: str) -> None:
    response = ask(app, f"/console/{name}", {})
    assert (response.status_code, response.json()["error"]["code"]) == (404, "route_not_found")


def test_files_are_read_only(app: Any) -> None:
    assert ask(app, "/console", OPEN, "POST", b"{}").status_code == 405


def test_the_policy_lets_nothing_in_from_elsewhere_or_inline() -> None:
    rules = dict(rule.strip().split(" ", 1) for rule in POLICY.split(";"))
    assert rules["default-src"] == "'none'"
    assert rules["script-src"] == rules["style-src"] == rules["connect-src"] == "'self'"
    assert rules["frame-ancestors"] == rules["base-uri"] == rules["form-action"] == "'none'"
    assert "unsafe" not in POLICY
    assert rules["require-trusted-types-for"] == "'script'"


@pytest.mark.parametrize("name", FILES)
def test_no_file_asks_for_anything_elsewhere_or_makes_markup_of_text(name: str) -> None:
    text = (FOLDER / name).read_text(encoding="utf-8")
    code = re.sub(r"^\s*//.*$", "", text, flags=re.MULTILINE).replace("http://www.w3.org/2000/svg", "")
    assert not re.search(r"https?://|//cdn|@import|\burl\(", code)
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function", code)
    if name.endswith(".html"):
        assert not re.search(r"<style|\bstyle=|\bon\w+=|<script(?![^>]*\bsrc=)", code)


def test_every_file_that_is_imported_exists() -> None:
    imported = {
        found
        for name in FILES
        for found in re.findall(r"(?:from '\./|/console/)([\w.-]+\.\w+)", (FOLDER / name).read_text(encoding="utf-8"))
    }
    assert imported <= set(FILES)
    assert set(FILES) - imported == {"index.html"}, "no file is left over"
    assert Assets().names == FILES


# Who may ask


@pytest.mark.parametrize("path", [*DATA, "/console/api/chat"])
@pytest.mark.parametrize(
    ("headers", "code"),
    [
        pytest.param({}, "missing_api_key", id="no key"),
        pytest.param({"authorization": f"Bearer {new_key()}"}, "invalid_api_key", id="another key"),
        pytest.param({"x-console-key": KEY}, "missing_api_key", id="in the header of callers' keys"),
        pytest.param({"cookie": f"key={KEY}"}, "missing_api_key", id="in a cookie"),
    ],
)
def test_data_need_the_administrations_key(app: Any, path: str, headers: dict[str, str], code: str) -> None:
    response = ask(app, path, headers, "POST" if path.startswith("/console") else "GET", b"{}")
    assert (response.status_code, response.json()["error"]["code"]) == (401, code)


@pytest.mark.parametrize("path", DATA)
def test_data_are_kept_by_nobody(path: str) -> None:
    response = ask(application(inside=Inside(limits=MemoryLimits(wall_ms))), path)
    assert response.status_code == 200
    assert response.headers["cache-control"] == "no-store"
    assert "access-control-allow-origin" not in response.headers


# What the data are


def test_the_configuration_without_its_secrets() -> None:
    inside = Inside("http://127.0.0.1:8080")
    response = ask(application("workers: 3", inside=inside), "/admin/about")
    told = response.json()
    assert (told["workers"], told["url"], told["limits_store"]) == (3, "http://127.0.0.1:8080", "memory")
    (model,) = told["models"]
    assert (model["name"], model["aliases"]) == ("llama", ["gpt"])
    assert [(each["name"], each["identity"]) for each in model["deployments"]] == [("e/part", "default"), ("f", "r")]
    assert "sha256" not in response.text
    assert "arn:" not in response.text


def test_metrics_are_told_under_the_pages_names_and_those_there_are_not_left_out() -> None:
    registry = CollectorRegistry()
    calls = Counter("gateway_calls_total", "c", ["surface", "model", "code"], registry=registry)
    calls.labels("chat", "llama", "ok").inc(3)
    Counter("gateway_other_total", "o", registry=registry).inc()
    Gauge("gateway_calls_in_flight", "g", registry=registry).set(2)
    times = Histogram(
        "gateway_time_to_first_token_seconds", "h", ["surface", "model"], buckets=(0.1, 1), registry=registry
    )
    times.labels("chat", "llama").observe(0.5)
    times.labels("chat", "llama").observe(7)
    metrics = ask(application(inside=Inside(registry=registry)), "/admin/live").json()["metrics"]
    assert metrics == {
        "calls": {"labels": ["code", "model", "surface"], "series": [[["ok", "llama", "chat"], 3.0]]},
        "in_flight": {"labels": [], "series": [[[], 2.0]]},
        "first_token_seconds": {
            "labels": ["model", "surface"],
            "le": ["0.1", "1.0", "+Inf"],
            "series": [[["llama", "chat"], [0.0, 1.0, 2.0], 7.5]],
        },
    }


@pytest.mark.parametrize(
    "value", ["</script><script>alert(1)</script>", 'a"b\\c\n', "\u2028\x00\x1b[31m", "é😀", "x" * 10_000]
)
def test_a_hostile_label_stays_a_value(value: str) -> None:
    registry = CollectorRegistry()
    Counter("gateway_calls_total", "c", ["surface", "model", "code"], registry=registry).labels(
        "chat", value, "ok"
    ).inc()
    response = ask(application(inside=Inside(registry=registry)), "/admin/live")
    assert response.headers["content-type"] == "application/json"
    assert response.json()["metrics"]["calls"]["series"] == [[["ok", value, "chat"], 1.0]]


def test_without_a_process_that_serves_there_is_nothing_to_tell(app: Any) -> None:
    told = ask(app, "/admin/live").json()
    assert (told["metrics"], told["calls"], told["cursor"], told["missed"]) == ({}, [], "", 0)
    assert abs(told["at"] - time.time()) < 5


def test_calls_are_told_once_to_who_asks_with_the_cursor() -> None:
    calls = RecentCalls(slots=8)
    app = application(inside=Inside(recent=calls.memory))
    calls.put(b'{"time":"1","model":"a"}')
    first = ask(app, "/admin/live").json()
    assert first["calls"] == [{"time": "1", "model": "a"}]
    calls.put(b'{"time":"2","model":"b"}')
    assert ask(app, f"/admin/live?cursor={first['cursor']}").json()["calls"] == [{"time": "2", "model": "b"}]
    assert len(ask(app, "/admin/live?cursor=%00nonsense").json()["calls"]) == 2
    for _ in range(20):
        calls.put(b'{"time":"3"}')
    late = ask(app, f"/admin/live?cursor={first['cursor']}").json()
    assert (len(late["calls"]), late["missed"]) == (8, 13)


def test_calls_of_before_the_page_was_opened_are_not_missed() -> None:
    calls = RecentCalls(slots=MAX_CALLS + 12)
    app = application(inside=Inside(recent=calls.memory))
    for _ in range(MAX_CALLS + 12):
        calls.put(b'{"time":"1"}')
    first = ask(app, "/admin/live").json()
    assert (len(first["calls"]), first["missed"]) == (MAX_CALLS, 0)


def test_of_many_calls_the_newest_are_told() -> None:
    lines = [b'{"time":"%04d"}' % number for number in range(MAX_CALLS + 10, 0, -1)]
    chosen = newest(lines, MAX_CALLS)
    assert (chosen[0], chosen[-1], len(chosen)) == (b'{"time":"0011"}', b'{"time":"0510"}', MAX_CALLS)


def test_the_last_minutes_are_told_to_a_page_that_was_just_opened() -> None:
    registry = CollectorRegistry()
    counted = Counter("gateway_calls_total", "c", ["surface", "model", "code"], registry=registry)
    counted.labels("chat", "llama", "ok").inc()

    async def main() -> list[bytes]:
        live = Live(Inside(registry=registry), time.time)
        await live.start()
        await asyncio.sleep(0)  # one turn of the loop, in which the first sample is taken
        await live.stop()
        return live.history

    (sample,) = asyncio.run(main())
    assert json.loads(sample)["metrics"]["calls"]["series"] == [[["ok", "llama", "chat"], 1.0]]


def test_every_series_of_the_page_is_a_metric_of_its_own() -> None:
    assert len(set(SERIES.values())) == len(SERIES)


@pytest.mark.parametrize(
    ("url", "there"),
    [
        ("http://0.0.0.0:80", "http://127.0.0.1:80"),
        ("http://[::]:80", "http://[::1]:80"),
        ("http://10.0.0.7:80", "http://10.0.0.7:80"),
        ("http://[fe80::1]:80", "http://[fe80::1]:80"),
    ],
)
def test_where_the_gateway_is_reached(url: str, there: str) -> None:
    assert reached(url) == there


def test_workers_are_added_up_and_the_dead_ones_gauges_left_out(tmp_path: Path) -> None:
    script = """
import os, sys
from gateway.telemetry.prometheus import PrometheusTelemetry
telemetry = PrometheusTelemetry()
telemetry.call_began()
telemetry.attempt("llama", "e", "ok")
if sys.argv[1] == "stay":
    print("ready", flush=True)
    sys.stdin.read()
"""
    environ = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    subprocess.run([sys.executable, "-c", script, "go"], check=True, env=environ)
    with subprocess.Popen(
        [sys.executable, "-c", script, "stay"], env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as alive:
        assert alive.stdout is not None
        assert alive.stdout.readline() == b"ready\n"
        metrics = ask(application("workers: 2", inside=Inside(folder=tmp_path)), "/admin/live").json()["metrics"]
        alive.communicate()
    assert metrics["attempts"]["series"] == [[["ok", "e", "llama"], 2.0]]
    assert metrics["in_flight"]["series"] == [[[], 1.0]]


def test_a_worker_that_just_begins_its_files_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    began = tmp_path / "counter_4000001.db"
    began.touch()
    looks: list[Path] = []

    def noting(folder: Path) -> Note:
        looks.append(folder)
        if len(looks) == 2:  # the first look at its files is over
            began.unlink()
        return note_of(folder)

    monkeypatch.setattr(live, "note_of", noting)
    found = list(live.families(Inside(folder=tmp_path)))
    assert found == []
    assert len(looks) > 2
