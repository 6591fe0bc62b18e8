"""The page in a browser: it opens offline, loads nothing, and shows its charts in light and dark."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from deploy.bench.charts import nice_ticks
from deploy.bench.page import page
from tests.deploy.bench.runs import made_up

NASTY = "</script><img src=x onerror=alert(1)>&\"'"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        yield browser
        browser.close()


@contextmanager
def opened(browser: Browser, file: Path, html: str, scheme: str = "light") -> Iterator[Page]:
    """Open the page; fail at its first error, message or request."""
    file.write_text(html, encoding="utf-8")
    context = browser.new_context(color_scheme=scheme, offline=True)  # type: ignore[arg-type]  # light or dark
    shown = context.new_page()
    wrong: list[str] = []
    shown.on("pageerror", lambda error: wrong.append(str(error)))
    shown.on("console", lambda message: wrong.append(message.text))
    shown.on("dialog", lambda dialog: wrong.append(dialog.message))
    shown.on("request", lambda request: wrong.append(request.url) if request.url != file.as_uri() else None)
    shown.goto(file.as_uri())
    yield shown
    context.close()
    assert wrong == []


def test_the_page_shows_every_chart_and_level(browser: Browser, tmp_path: Path) -> None:
    with opened(browser, tmp_path / "run.html", page([made_up("Llama")])) as shown:
        assert shown.title() == "Llama"
        charts = shown.locator("figure.chart")
        assert [text.split("\n")[0] for text in charts.locator("figcaption").all_inner_texts()] == [
            "Output tokens per second",
            "Requests per second",
            "Time to first token milliseconds",
            "Time between pieces of text milliseconds",
            "Whole answer milliseconds",
            "Throughput and latency e2e p50, ms",
            "Time to first token: distribution % of calls",
            "Whole answer: distribution % of calls",
        ]
        for index in range(charts.count()):
            box = charts.nth(index).locator("svg").first.bounding_box()
            assert box is not None
            assert box["width"] > 200
            assert charts.nth(index).locator("path").count() >= 1
        # A point for each level in the line of output tokens.
        assert charts.nth(0).locator("circle").count() == 3
        assert shown.locator("tbody tr").count() == 3


def test_a_point_tells_its_value(browser: Browser, tmp_path: Path) -> None:
    with opened(browser, tmp_path / "run.html", page([made_up("Llama")])) as shown:
        assert shown.locator("#tip").is_hidden()
        shown.locator("figure.chart circle").nth(1).hover()
        assert shown.locator("#tip").inner_text().startswith("Llama at 4: 4")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_follows_the_screen_and_the_button(browser: Browser, tmp_path: Path, scheme: str) -> None:
    light, dark = "rgb(251, 251, 250)", "rgb(20, 22, 26)"
    read = "getComputedStyle(document.body).backgroundColor"
    with opened(browser, tmp_path / "run.html", page([made_up("Llama", levels=(1,))]), scheme) as shown:
        assert shown.evaluate(read) == (light if scheme == "light" else dark)
        shown.get_by_role("button").click()
        assert shown.evaluate(read) == (dark if scheme == "light" else light)


def test_a_comparison_has_both_runs_in_every_chart(browser: Browser, tmp_path: Path) -> None:
    html = page([made_up("after", 0.8)], made_up("before"))
    with opened(browser, tmp_path / "run.html", html) as shown:
        legend = shown.locator("figure.chart").nth(0).locator("li").all_inner_texts()
        assert [text.strip() for text in legend] == ["before", "after"]
        assert shown.get_by_role("heading", name="after beside before").is_visible()
        assert shown.locator("td.up").count() > 5


def test_names_are_text_and_nothing_else(browser: Browser, tmp_path: Path) -> None:
    with opened(browser, tmp_path / "run.html", page([made_up(NASTY)], made_up(NASTY + "2"))) as shown:
        assert shown.title() == f"{NASTY}"
        assert shown.locator("img").count() == 0


@pytest.mark.parametrize(
    ("most", "ticks"),
    [
        pytest.param(0.0, [0.0, 1.0], id="nothing"),
        pytest.param(10.0, [0, 2, 4, 6, 8, 10], id="ten"),
        pytest.param(101.0, [0, 25, 50, 75, 100, 125], id="a little more than a tick"),
        pytest.param(0.0123, [0, 0.0025, 0.005, 0.0075, 0.01, 0.0125], id="small"),
    ],
)
def test_ticks_are_round(most: float, ticks: list[float]) -> None:
    assert nice_ticks(most) == pytest.approx(ticks)
