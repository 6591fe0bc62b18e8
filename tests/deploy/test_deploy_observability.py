"""The dashboard and the rules: every series they name exists, and a real Prometheus answers with data."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from deploy.local.engine import build
from deploy.stack.observability import dashboard
from tests.docs.tables import families
from tests.support.processes import until
from tests.support.prometheus_server import Prometheus, program, running_prometheus
from tests.support.redis_server import running_redis
from tests.support.stack import KEY, Gateway, config, model, running_gateway, running_local

FOLDER = Path(dashboard.__file__).parent
RULES = (FOLDER / "prometheus-rules.yaml", FOLDER / "prometheus-alerts.yaml")
BY_PROMETHEUS = {"job", "instance", "le"}
"""Labels that Prometheus adds, or that histograms have."""
_SERIES = re.compile(r"\bgateway_\w+\b")
_SELECTOR = re.compile(r"\b(gateway_\w+)(?:\{([^}]*)\})?")


def expressions() -> Iterator[tuple[str, str]]:
    """Yield where each expression stands, and the expression."""
    for panel in json.loads(dashboard.PATH.read_text())["panels"]:
        for target in panel.get("targets", ()):
            yield f"panel {panel['title']}", target["expr"]
    for path in RULES:
        for group in yaml.safe_load(path.read_text())["groups"]:
            for rule in group["rules"]:
                yield rule.get("record") or rule["alert"], rule["expr"]


def known() -> dict[str, set[str]]:
    """Return the labels of every series that the gateway has."""
    return {
        sample.name: {label for other in metric.samples for label in other.labels if other.name == sample.name}
        for metric in families()
        for sample in metric.samples
    }


RECORDED = {rule["record"] for rule in yaml.safe_load(RULES[0].read_text())["groups"][0]["rules"]}


def test_every_series_and_label_in_a_question_exists() -> None:
    series = known()
    named = set()
    for where, expression in expressions():
        plain = expression
        for name in RECORDED:
            plain = plain.replace(name, "recorded")
        for name, selector in _SELECTOR.findall(plain):
            assert name in series, f"{where}: there is no {name}"
            named.add(name)
            labels = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", selector))
            assert labels <= series[name] | BY_PROMETHEUS, f"{where}: {name} has no {labels - series[name]}"
        grouped = set(re.findall(r"\w+", " ".join(re.findall(r"\bby \(([^)]*)\)", plain))))
        reached = set().union(*(series[name] for name, _ in _SELECTOR.findall(plain)), BY_PROMETHEUS)
        if "recorded" not in plain:
            assert grouped <= reached, f"{where}: nothing has {grouped - reached}"
    shown = {re.sub("_(bucket|sum|count)$", "", name) for name in named}
    unseen = {metric.name + ("_total" if metric.type == "counter" else "") for metric in families()} - shown
    assert unseen == {"gateway_stream_records_dropped_total", "gateway_media_scaled_total"}, "nobody would see them"


def test_every_recorded_series_that_an_alert_names_is_recorded() -> None:
    named = set(re.findall(r"\b(?:model|deployment):\w+:\w+", RULES[1].read_text()))
    assert named <= RECORDED


def test_the_dashboard_is_what_its_description_makes() -> None:
    assert dashboard.PATH.read_text() == dashboard.text(), "run `python -m deploy.stack.observability.dashboard`"


def test_panels_have_places_of_their_own() -> None:
    taken: set[tuple[int, int]] = set()
    panels = dashboard.dashboard()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    for panel in panels:
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < dashboard.WIDTH
        taken |= cells


COMMANDS = {
    "the rules are valid": ("check", "rules", *(path.name for path in RULES)),
    "the configuration is valid": ("check", "config", "prometheus.yaml"),
    "alerts fire when they should": ("test", "rules", "prometheus-alerts.test.yaml"),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_promtool_is_content(command: str) -> None:
    ran = subprocess.run(
        [program("promtool"), *COMMANDS[command]], cwd=FOLDER, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_each_alert_is_tried() -> None:
    tried = {
        case["alertname"]
        for test in yaml.safe_load((FOLDER / "prometheus-alerts.test.yaml").read_text())["tests"]
        for case in test.get("alert_rule_test", ())
        if case["exp_alerts"]
    }
    (group,) = yaml.safe_load(RULES[1].read_text())["groups"]
    assert {rule["alert"] for rule in group["rules"]} == tried


# With a real gateway and a real Prometheus

MEASURED_KEY = "sk-lmi-" + "m" * 43
SELDOM = {
    "panel Throttled": "needs an account at its quota",
    "panel Dropped on the way out": "has series only where there are sinks and spans",
    "panel Redis failed": "needs a Redis that fails",
    "panel Standing in line": "is empty while nobody waits",
    "panel Credentials last for": "credentials of the environment do not expire",
    "panel Sent again": "needs a connection that SageMaker has closed",
    "panel Fetches": "needs a public host: what is on this machine is refused before it is fetched",
    "panel Time and bytes of a fetch": "likewise",
    "panel The cache": "likewise",
    "panel Prompts from the prefix cache": "the stand-in engine has none",
    "panel Further attempts": "needs a failure that may be tried again",
}
"""Panels that are empty unless something happens that this traffic does not make happen."""


@contextlib.contextmanager
def busy_gateway() -> Iterator[Gateway]:
    """Run a gateway that has had calls of every kind."""
    endpoints = {"good": build("vllm"), "slow": build("vllm", token_delay_s=0.02)}
    with running_redis() as redis, running_local(endpoints) as local:
        settings = {"limits_store": "redis", "redis_url": redis.url, "redis_timeout_s": 1}
        given = config(
            local.url,
            model("good", "vllm", "0.33", limits={"concurrent_requests": 50}),
            model("slow", "vllm", "0.33"),
            model("gone", "vllm", "0.33"),
            **settings,
        )
        digest = f"sha256:{hashlib.sha256(MEASURED_KEY.encode()).hexdigest()}"
        limits = {"requests_per_minute": 1, "requests_burst": 2}
        given["keys"].append({"id": "measured", "digest": digest, "models": ["*"], "metrics": True, "limits": limits})
        with running_gateway(given) as gateway:
            yield gateway


def call(gateway: Gateway, name: str, key: str = KEY, **fields: Any) -> httpx.Response:
    body = {"model": name, "messages": [{"role": "user", "content": "hello"}], "max_tokens": 30, **fields}
    headers = {"authorization": f"Bearer {key}"}
    return httpx.post(f"{gateway.base_url}/chat/completions", json=body, headers=headers, trust_env=False, timeout=20)


def traffic(gateway: Gateway) -> None:
    assert call(gateway, "good").status_code == 200
    for _ in range(3):
        assert call(gateway, "good", stream=True).text.endswith("data: [DONE]\n\n")
    assert call(gateway, "gone").status_code >= 500
    assert {call(gateway, "good", MEASURED_KEY).status_code for _ in range(3)} <= {200, 429}
    body = {"model": "slow", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 500, "stream": True}
    headers = {"authorization": f"Bearer {KEY}"}
    with httpx.stream(
        "POST", f"{gateway.base_url}/chat/completions", json=body, headers=headers, trust_env=False
    ) as left:
        next(left.iter_lines())


def ask(prometheus: Prometheus, expression: str) -> list[dict[str, Any]]:
    for variable, value in (("$__rate_interval", "1m"), ("$job", ".*"), ("$model", ".*")):
        expression = expression.replace(variable, value)
    return prometheus.query(expression)


def answered(prometheus: Prometheus, expression: str) -> bool:
    return bool(ask(prometheus, expression))


def total(prometheus: Prometheus, name: str) -> float:
    return sum(float(one["value"][1]) for one in prometheus.query(name))


def agreed(prometheus: Prometheus, gateway: Gateway, name: str) -> bool:
    """Say whether Prometheus has what the gateway says; the last call may have ended since the last scrape."""
    text = httpx.get(f"{gateway.url}/metrics", trust_env=False).text
    told = sum(float(value) for value in re.findall(rf"^{name}\{{.*\}} (\S+)$", text, re.MULTILINE))
    return told > 0 and total(prometheus, name) == told


def test_a_real_prometheus_scrapes_the_gateway_and_answers_the_dashboard_with_data(tmp_path: Path) -> None:
    often = tmp_path / "rules.yaml"
    often.write_text(RULES[0].read_text().replace("interval: 30s", "interval: 200ms"))
    with busy_gateway() as gateway:
        traffic(gateway)
        address = gateway.url.removeprefix("http://")
        job = {"job_name": "lmi-gateway", "static_configs": [{"targets": [address]}]}
        with running_prometheus([job], [often, RULES[1]]) as prometheus:
            # Two scrapes make a rate, and they have to differ.
            assert until(lambda: bool(prometheus.query("gateway_calls_total")), 20)
            traffic(gateway)
            assert until(lambda: total(prometheus, "gateway_calls_total") >= 16, 20)
            empty = {}
            for where, expression in expressions():
                asked = functools.partial(answered, prometheus, expression)
                if where in SELDOM:
                    asked()  # it may be empty, but has to be a question that Prometheus takes
                elif where.startswith("panel ") and not until(asked, 5):
                    empty[where] = expression
            assert empty == {}
            assert [target["health"] for target in prometheus.targets()] == ["up"]
            assert until(lambda: bool(prometheus.query("model:gateway_calls_failed:ratio_rate5m")), 10)
            for name in ("gateway_calls_total", "gateway_time_to_first_token_seconds_count", "gateway_tokens_total"):
                assert until(functools.partial(agreed, prometheus, gateway, name), 10), name
