"""Grafana's dashboard, written down once: `python -m deploy.stack.observability.dashboard` makes the JSON anew.

Panels are a title, a unit and what to ask Prometheus; where they stand follows from their order.
https://grafana.com/docs/grafana/latest/dashboards/build-dashboards/view-dashboard-json-model/
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PATH = Path(__file__).with_name("grafana-dashboard.json")
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
WIDTH, HEIGHT = 24, 8
OURS = 'job=~"$job"'
MODELS = f'{OURS}, model=~"$model"'
FAILED = 'code=~"upstream_.*|internal_error|model_not_ready|gateway_busy|limits_unavailable"'
"""Calls that failed for reasons that are not their caller's."""


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel. `queries` are pairs of an expression and a legend."""

    title: str
    unit: str
    queries: tuple[tuple[str, str], ...]
    kind: str = "timeseries"
    width: int = 8
    about: str = ""
    stacked: bool = False
    thresholds: tuple[tuple[float | None, str], ...] = ()


def rate(metric: str, selector: str, by: str = "") -> str:
    return f"sum{f' by ({by})' if by else ''} (rate({metric}{{{selector}}}[$__rate_interval]))"


def quantile(share: str, metric: str, selector: str, by: str = "") -> str:
    return f"histogram_quantile({share}, {rate(f'{metric}_bucket', selector, ', '.join(filter(None, ['le', by])))})"


def percentiles(metric: str, selector: str = MODELS) -> tuple[tuple[str, str], ...]:
    return tuple((quantile(share, metric, selector, "model"), f"{{{{model}}}} {name}") for share, name in SHARES)


def mean(metric: str, selector: str, by: str) -> str:
    return f"{rate(f'{metric}_sum', selector, by)} / {rate(f'{metric}_count', selector, by)}"


SHARES = (("0.5", "p50"), ("0.95", "p95"), ("0.99", "p99"))
GOOD_BAD = ((None, "green"), (0.01, "orange"), (0.05, "red"))
CACHED, PROMPTS = f'{MODELS}, kind="cached"', f'{MODELS}, kind="prompt"'
UP_DOWN = ((None, "red"), (1, "green"))
FAILED_SHARE = (
    f"({rate('gateway_calls_total', f'{MODELS}, {FAILED}')} or vector(0)) / {rate('gateway_calls_total', MODELS)}"
)

ROWS: dict[str, tuple[Panel, ...]] = {
    "At a glance": (
        Panel("Calls", "reqps", ((rate("gateway_calls_total", MODELS), ""),), "stat", 4),
        Panel("Failed, not by their callers", "percentunit", ((FAILED_SHARE, ""),), "stat", 4, thresholds=GOOD_BAD),
        Panel(
            "First token, p95", "s", ((quantile("0.95", "gateway_time_to_first_token_seconds", MODELS), ""),), "stat", 4
        ),
        Panel("Between tokens, p95", "s", ((quantile("0.95", "gateway_inter_token_seconds", MODELS), ""),), "stat", 4),
        Panel(
            "Tokens generated",
            "short",
            ((rate("gateway_tokens_total", f'{MODELS}, kind="completion"'), ""),),
            "stat",
            4,
            "Per second.",
        ),
        Panel("Calls in flight", "short", ((f"sum(gateway_calls_in_flight{{{OURS}}})", ""),), "stat", 4),
    ),
    "Calls": (
        Panel("Calls by model", "reqps", ((rate("gateway_calls_total", MODELS, "model"), "{{model}}"),)),
        Panel(
            "What they ended with",
            "reqps",
            ((rate("gateway_calls_total", f'{MODELS}, code!="ok"', "code"), "{{code}}"),),
            about="By the error's code, as the docs list them; `cancelled` callers have left.",
        ),
        Panel(
            "Failed, not by their callers", "percentunit", ((FAILED_SHARE, "failed"),), about="The share of all calls."
        ),
        Panel("Time of whole calls", "s", percentiles("gateway_call_seconds")),
        Panel(
            "Calls in flight by deployment",
            "short",
            ((f"sum by (deployment) (gateway_upstream_in_flight{{{MODELS}}})", "{{deployment}}"),),
        ),
        Panel("Calls by API", "reqps", ((rate("gateway_calls_total", MODELS, "surface"), "{{surface}}"),)),
    ),
    "How fast": (
        Panel("Time to the first token", "s", percentiles("gateway_time_to_first_token_seconds")),
        Panel("Time between tokens", "s", percentiles("gateway_inter_token_seconds")),
        Panel("Time per output token", "s", percentiles("gateway_time_per_output_token_seconds")),
        Panel(
            "Where the time goes",
            "s",
            ((mean("gateway_phase_seconds", MODELS, "phase"), "{{phase}}"),),
            about="Means by phase. `sagemaker` ends with the head of its reply, `first_token` with the first event;"
            " whole replies are `reply`.",
            stacked=True,
        ),
        Panel(
            "Standing in line",
            "s",
            ((quantile("0.95", "gateway_phase_seconds", f'{MODELS}, phase="queue"', "model"), "{{model}} p95"),),
        ),
        Panel(
            "The gateway's own time",
            "s",
            tuple((quantile(share, "gateway_overhead_seconds", OURS), name) for share, name in SHARES),
        ),
        Panel(
            "First tokens over time",
            "s",
            ((rate("gateway_time_to_first_token_seconds_bucket", MODELS, "le"), "{{le}}"),),
            "heatmap",
            24,
        ),
    ),
    "Tokens": (
        Panel(
            "Tokens by kind",
            "short",
            ((rate("gateway_tokens_total", MODELS, "kind"), "{{kind}}"),),
            about="Per second.",
        ),
        Panel(
            "Generated, by model",
            "short",
            ((rate("gateway_tokens_total", f'{MODELS}, kind="completion"', "model"), "{{model}}"),),
            about="Per second.",
        ),
        Panel(
            "Prompts from the prefix cache",
            "percentunit",
            (
                (
                    f"{rate('gateway_tokens_total', CACHED, 'model')}"
                    f" / {rate('gateway_tokens_total', PROMPTS, 'model')}",
                    "{{model}}",
                ),
            ),
        ),
        Panel("Callers who left", "reqps", ((rate("gateway_cancellations_total", MODELS, "stage"), "{{stage}}"),)),
        Panel(
            "Tokens that their leaving spared",
            "short",
            ((rate("gateway_tokens_avoided_total", MODELS, "model"), "{{model}}"),),
        ),
        Panel("How streams ended", "reqps", ((rate("gateway_stream_endings_total", MODELS, "ending"), "{{ending}}"),)),
    ),
    "Deployments": (
        Panel(
            "Attempts that failed",
            "reqps",
            (
                (
                    rate("gateway_upstream_attempts_total", f'{MODELS}, code!="ok"', "deployment, code"),
                    "{{deployment}} {{code}}",
                ),
            ),
        ),
        Panel(
            "Share of attempts that failed",
            "percentunit",
            (
                (
                    f"({rate('gateway_upstream_attempts_total', f'{MODELS}, {FAILED}', 'deployment')}"
                    f" or 0 * {rate('gateway_upstream_attempts_total', MODELS, 'deployment')})"
                    f" / {rate('gateway_upstream_attempts_total', MODELS, 'deployment')}",
                    "{{deployment}}",
                ),
            ),
        ),
        Panel(
            "Throttled",
            "reqps",
            (
                (
                    rate("gateway_upstream_attempts_total", f'{MODELS}, code="upstream_throttled"', "deployment"),
                    "{{deployment}}",
                ),
            ),
        ),
        Panel(
            "Further attempts",
            "reqps",
            ((rate("gateway_upstream_retries_total", MODELS, "kind"), "{{kind}} deployment"),),
        ),
        Panel("Sent again", "reqps", ((rate("gateway_upstream_resent_total", OURS, "deployment"), "{{deployment}}"),)),
        Panel("Connections to SageMaker", "short", ((f"sum(gateway_upstream_connections{{{OURS}}})", "open"),)),
    ),
    "Limits": (
        Panel(
            "Decisions",
            "reqps",
            (
                (
                    rate("gateway_limit_decisions_total", OURS, "scope, limit, decision"),
                    "{{scope}} {{limit}} {{decision}}",
                ),
            ),
        ),
        Panel("Standing in line", "short", ((f"sum by (model) (gateway_limit_waiting{{{MODELS}}})", "{{model}}"),)),
        Panel(
            "Round trips to Redis",
            "s",
            tuple((quantile(share, "gateway_redis_seconds", OURS), name) for share, name in SHARES),
        ),
        Panel("Redis decides", "short", ((f"min(gateway_redis_up{{{OURS}}})", ""),), "stat", thresholds=UP_DOWN),
        Panel("Redis failed", "short", ((rate("gateway_redis_failures_total", OURS, "reason"), "{{reason}}"),)),
        Panel("Judged without Redis", "reqps", ((rate("gateway_limit_decided_alone_total", OURS), "calls"),)),
    ),
    "The gateway": (
        Panel(
            "Credentials",
            "short",
            ((f"min by (identity) (gateway_credentials_valid{{{OURS}}})", "{{identity}}"),),
            "stat",
            thresholds=UP_DOWN,
        ),
        Panel(
            "Credentials last for",
            "s",
            (
                (
                    f"min by (identity) (gateway_credentials_expire_timestamp_seconds{{{OURS}}} > 0) - time()",
                    "{{identity}}",
                ),
            ),
        ),
        Panel("Workers", "short", ((f"sum by (instance) (gateway_workers{{{OURS}}})", "{{instance}}"),)),
        Panel(
            "Workers replaced",
            "short",
            ((f"sum by (instance) (increase(gateway_worker_restarts_total{{{OURS}}}[1h]))", "{{instance}}"),),
        ),
        Panel(
            "Dropped on the way out",
            "short",
            (
                (rate("gateway_log_lines_dropped_total", OURS), "log lines"),
                (rate("gateway_usage_records_total", f'{OURS}, outcome!="written"', "sink"), "usage records, {{sink}}"),
                (rate("gateway_spans_total", f'{OURS}, outcome!="exported"'), "spans"),
            ),
            about="Per second. Calls never wait for logs, records or spans.",
        ),
        Panel("Versions", "short", ((f"count by (version) (gateway_build_info{{{OURS}}})", "{{version}}"),), "stat"),
    ),
    "Keys that have series of their own": (
        Panel("Calls", "reqps", ((rate("gateway_key_calls_total", OURS, "key"), "{{key}}"),), width=12),
        Panel(
            "Tokens", "short", ((rate("gateway_key_tokens_total", OURS, "key, kind"), "{{key}} {{kind}}"),), width=12
        ),
    ),
    "Media in prompts": (
        Panel("Fetches", "reqps", ((rate("gateway_media_fetches_total", OURS, "outcome"), "{{outcome}}"),)),
        Panel(
            "Time and bytes of a fetch",
            "s",
            (
                (
                    f"{rate('gateway_media_fetch_seconds_total', OURS)} / {rate('gateway_media_fetches_total', OURS)}",
                    "time",
                ),
                (
                    f"{rate('gateway_media_fetched_bytes_total', OURS)} / {rate('gateway_media_fetches_total', OURS)}",
                    "bytes",
                ),
            ),
        ),
        Panel("The cache", "reqps", ((rate("gateway_media_cache_total", OURS, "result"), "{{result}}"),)),
    ),
}


def dashboard() -> dict[str, Any]:
    """Return the dashboard as Grafana imports it."""
    panels: list[dict[str, Any]] = []
    y = 0
    for title, row in ROWS.items():
        panels.append(
            _placed({"type": "row", "title": title, "collapsed": False, "panels": []}, 0, y, WIDTH, 1, len(panels))
        )
        y, x = y + 1, 0
        height = HEIGHT if row[0].kind != "stat" or row[0].width > 4 else 4
        for panel in row:
            if x + panel.width > WIDTH:
                x, y = 0, y + height
            panels.append(_placed(_panel(panel), x, y, panel.width, height, len(panels)))
            x += panel.width
        y += height
    return {
        "uid": "lmi-gateway",
        "title": "lmi-gateway",
        "tags": ["lmi-gateway", "llm", "sagemaker"],
        "schemaVersion": 39,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "templating": {"list": _variables()},
        "panels": panels,
    }


def _panel(panel: Panel) -> dict[str, Any]:
    steps = [{"value": value, "color": color} for value, color in panel.thresholds or ((None, "blue"),)]
    defaults: dict[str, Any] = {"unit": panel.unit, "min": 0, "thresholds": {"mode": "absolute", "steps": steps}}
    if panel.kind == "timeseries":
        stacking = {"mode": "normal" if panel.stacked else "none"}
        fill = 60 if panel.stacked else 10
        defaults["custom"] = {"lineWidth": 1, "fillOpacity": fill, "showPoints": "never", "stacking": stacking}
    if panel.kind == "stat":
        defaults["color"] = {"mode": "thresholds"}
    heat = panel.kind == "heatmap"
    return {
        "type": panel.kind,
        "title": panel.title,
        **({"description": panel.about} if panel.about else {}),
        "datasource": SOURCE,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": _options(panel.kind),
        "targets": [
            {
                "refId": chr(ord("A") + at),
                "datasource": SOURCE,
                "expr": expression,
                "legendFormat": legend or "__auto",
                "format": "heatmap" if heat else "time_series",
            }
            for at, (expression, legend) in enumerate(panel.queries)
        ],
    }


def _options(kind: str) -> dict[str, Any]:
    if kind == "stat":
        return {"reduceOptions": {"calcs": ["lastNotNull"]}, "colorMode": "value", "graphMode": "area"}
    if kind == "heatmap":
        return {"calculate": False, "yAxis": {"unit": "s"}, "color": {"mode": "scheme", "scheme": "Blues"}}
    return {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi", "sort": "desc"}}


def _placed(panel: dict[str, Any], x: int, y: int, width: int, height: int, number: int) -> dict[str, Any]:
    return {"id": number + 1, "gridPos": {"x": x, "y": y, "w": width, "h": height}, **panel}


def _variables() -> list[dict[str, Any]]:
    def of_label(name: str, query: str, label: str) -> dict[str, Any]:
        return {
            "name": name,
            "label": label,
            "type": "query",
            "datasource": SOURCE,
            "query": {"query": query, "refId": name},
            "refresh": 2,
            "multi": True,
            "includeAll": True,
            "allValue": ".*",
            "current": {"text": "All", "value": "$__all"},
        }

    return [
        {"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus", "current": {}},
        of_label("job", "label_values(gateway_build_info, job)", "Job"),
        of_label("model", 'label_values(gateway_calls_total{job=~"$job"}, model)', "Model"),
    ]


def text() -> str:
    """Return the JSON file's content."""
    return json.dumps(dashboard(), indent=2) + "\n"


if __name__ == "__main__":
    PATH.write_text(text())
