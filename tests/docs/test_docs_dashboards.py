"""docs/dashboards.md has every row of the dashboard and every alert."""

from __future__ import annotations

from pathlib import Path

import yaml

from deploy.stack.observability import dashboard
from tests.docs.reading import page, table

PAGE = page("dashboards.md")
FOLDER = Path(dashboard.__file__).parent


def test_each_row_of_the_dashboard_is_told() -> None:
    rows = [(title, "; ".join(panel.title for panel in panels)) for title, panels in dashboard.ROWS.items()]
    assert [tuple(row) for row in table(PAGE, "dashboard")] == rows


def test_each_alert_is_told() -> None:
    (group,) = yaml.safe_load((FOLDER / "prometheus-alerts.yaml").read_text())["groups"]
    told = {row[0].strip("`"): (row[1], row[2]) for row in table(PAGE, "alerts")}
    assert {name: severity for name, (severity, _) in told.items()} == {
        rule["alert"]: rule["labels"]["severity"] for rule in group["rules"]
    }
    assert all(meaning for _, meaning in told.values())


def test_each_recorded_series_is_told() -> None:
    (group,) = yaml.safe_load((FOLDER / "prometheus-rules.yaml").read_text())["groups"]
    for rule in group["rules"]:
        level, metric, operation = rule["record"].split(":")
        assert f"`{level}:{metric}:{operation}`" in PAGE or f"…{operation.removeprefix('ratio_rate')}`" in PAGE
        assert f"`{level}:{metric}:" in PAGE


def test_each_file_is_told() -> None:
    for path in FOLDER.iterdir():
        assert path.suffix == ".py" or path.name.startswith("__") or f"`{path.name}`" in PAGE
