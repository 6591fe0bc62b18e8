"""The report as a page: one file without anything to load, for light and dark screens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path

from deploy.bench import compare, table
from deploy.bench.charts import Series, distribution, over_levels, over_values
from deploy.bench.runfile import Run, StageResult
from deploy.bench.summary import TIMES, Spread, Summary

# Nothing is loaded and nothing sent, whatever a label or a model is called.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
DASHES = {"p50": "", "p90": "6 4", "p99": "2 4"}
NAMES = {"ttft": "Time to first token", "itl": "Time between pieces of text", "e2e": "Whole answer"}
Rows = table.Rows


def page(runs: Sequence[Run], other: Run | None = None) -> str:
    """Return the HTML of some runs, and of their comparison with another one."""
    shown = [*([other] if other is not None else []), *runs]
    title = " · ".join(run.label for run in runs)
    folder = Path(__file__).parent
    style = (folder / "page.css").read_text(encoding="utf-8")
    script = (folder / "page.js").read_text(encoding="utf-8")
    body = [f"<header><div><h1>{escape(title)}</h1>{''.join(_about(run) for run in shown)}</div>"]
    body.append('<button id="theme" type="button">Light / dark</button></header>')
    body += [f'<div class="charts">{"".join(_charts(shown))}</div>']
    body += [part for run in runs for part in _run(run)]
    if other is not None:
        body += [part for run in runs for part in _comparison(other, run)]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>\n{style}</style></head>\n<body>\n{''.join(body)}"
        "<footer>lmi-bench. Latencies count from when a call was due; rates are of the measured window.</footer>"
        f'<div id="tip" hidden></div>\n<script>\n{script}</script></body></html>\n'
    )


def _about(run: Run) -> str:
    facts = run.environment
    where = f"{run.started_at} · seed {run.plan.seed} · {facts.processes} generating process"
    where += "es" if facts.processes > 1 else ""
    where += f" on {facts.system} {facts.machine}, {facts.cpus} cores, Python {facts.python}"
    return f'<p>{escape(table.target_line(run))}</p><p class="soft">{escape(run.label)} · {escape(where)}</p>'


def _charts(runs: Sequence[Run]) -> list[str]:
    levels = _levels(runs)
    axis = "callers at the same time" if _closed(runs) else "level (callers, or requests/s)"
    if all(item.stage.loop == "open" for run in runs for item in run.stages):
        axis = "requests due per second"
    found = [
        over_levels(
            "Output tokens", "per second", levels, _lines(runs, levels, lambda item: item.output_tokens_per_s), axis
        ),
        over_levels("Requests", "per second", levels, _lines(runs, levels, lambda item: item.requests_per_s), axis),
    ]
    spreads: dict[str, Callable[[Summary], Spread]] = {
        "ttft": lambda item: item.ttft,
        "itl": lambda item: item.itl,
        "e2e": lambda item: item.e2e,
    }
    for name, read in spreads.items():
        lines = _percentiles(runs, levels, read)
        if any(y is not None for line in lines for _, y, _ in line.points):
            found.append(over_levels(NAMES[name], "milliseconds", levels, lines, axis))
    found.append(over_values("Throughput and latency", "e2e p50, ms", _tradeoff(runs), "output tokens/s"))
    if any(item.goodput_per_s is not None for run in runs for item in run.summaries):
        lines = _lines(runs, levels, lambda item: item.goodput_per_s)
        found.append(over_levels("Goodput", "calls within the service level, per second", levels, lines, axis))
    for name in ("ttft", "e2e"):
        lines = _distributions(runs, name)
        if lines:
            found.append(over_values(f"{NAMES[name]}: distribution", "% of calls", lines, "milliseconds", share=True))
    return found


def _levels(runs: Sequence[Run]) -> list[str]:
    stages = {(item.stage.loop, item.stage.level): table.level(item.stage) for run in runs for item in run.stages}
    return [stages[key] for key in sorted(stages)]


def _closed(runs: Sequence[Run]) -> bool:
    return all(item.stage.loop == "closed" for run in runs for item in run.stages)


def _lines(runs: Sequence[Run], levels: Sequence[str], read: Callable[[Summary], float | None]) -> list[Series]:
    return [
        Series(run.label, color, tuple(_point(levels, item, read(item), run.label, "", 1.0) for item in run.summaries))
        for color, run in enumerate(runs)
    ]


def _percentiles(runs: Sequence[Run], levels: Sequence[str], read: Callable[[Summary], Spread]) -> list[Series]:
    found = []
    for color, run in enumerate(runs):
        for index, (name, dash) in enumerate(DASHES.items()):
            label = f"{run.label} {name}" if len(runs) > 1 else name
            points = tuple(
                _point(levels, item, getattr(read(item), name), label, " ms", 1000.0) for item in run.summaries
            )
            # One run: a colour each; several: a colour for each run, and the dash tells the percentile.
            found.append(Series(label, color if len(runs) > 1 else index, points, dash))
    return found


def _point(
    levels: Sequence[str], item: Summary, value: float | None, name: str, unit: str, factor: float
) -> tuple[float, float | None, str]:
    at = table.level(item.stage)
    scaled = None if value is None else value * factor
    return float(levels.index(at)), scaled, f"{name} at {at}: {table.number(scaled)}{unit}"


def _tradeoff(runs: Sequence[Run]) -> list[Series]:
    return [
        Series(
            run.label,
            color,
            tuple(
                (
                    item.output_tokens_per_s,
                    None if item.e2e.p50 is None else item.e2e.p50 * 1000,
                    f"{run.label} at {table.level(item.stage)}: {table.number(item.output_tokens_per_s)} tokens/s,"
                    f" {table.milliseconds(item.e2e.p50)} ms",
                )
                for item in run.summaries
            ),
        )
        for color, run in enumerate(runs)
    ]


def _distributions(runs: Sequence[Run], name: str) -> list[Series]:
    found: list[Series] = []
    levels, dashes = _levels(runs), tuple(DASHES.values())
    for number, run in enumerate(runs):
        for result in run.stages:
            values, level = _milliseconds(result, name), table.level(result.stage)
            label = level if len(runs) == 1 else f"{run.label} {level}"
            if values:
                # A level has its colour in every run; which run it is the dash tells.
                dash = dashes[number % len(dashes)]
                found.append(distribution(label, levels.index(level), values, _shown_ms, dash))
    return found


def _shown_ms(value: float) -> str:
    return f"{table.number(value)} ms"


def _milliseconds(result: StageResult, name: str) -> list[float]:
    read = TIMES[name]
    calls = [call for call in result.data.calls if call.ok and call.intended_s >= 0]
    return sorted(value * 1000 for call in calls if (value := read(call)) is not None)


def _run(run: Run) -> list[str]:
    found = [f"<h2>{escape(run.label)}</h2>"]
    if remarks := table.notes(run):
        found.append(f'<div class="notes">{"".join(f"<p>{escape(remark)}</p>" for remark in remarks)}</div>')
    found.append(_table(table.run_table(run)) + '<p class="soft">Times in milliseconds.</p>')
    lines = "".join(f"<p>{escape(table.generator_line(item))}</p>" for item in run.summaries)
    return [*found, f"<details><summary>The generator itself</summary>{lines}</details>"]


def _comparison(other: Run, run: Run) -> list[str]:
    levels = compare.compare(other, run)
    if not levels:
        return []
    return [
        f"<h2>{escape(run.label)} beside {escape(other.label)}</h2>",
        *[f'<div class="notes"><p>WARNING: {escape(doubt)}</p></div>' for doubt in compare.doubts(other, run)],
        _table(compare.compare_table(levels), signed=True),
        f'<p class="soft">Times in milliseconds. {escape(compare.HOW)}</p>',
    ]


def _table(rows: Rows, *, signed: bool = False) -> str:
    heading = "".join(f"<th>{escape(cell)}</th>" for cell in rows[0])
    lines = []
    for row in rows[1:]:
        cells = [f"<td>{escape(cell)}</td>" for cell in row[:-1]]
        sign = {"+": ' class="up"', "-": ' class="down"'}.get(row[-1][:1], "") if signed and "*" in row[-1] else ""
        lines.append(f"<tr>{''.join(cells)}<td{sign}>{escape(row[-1])}</td></tr>")
    return f'<div class="wide"><table><thead><tr>{heading}</tr></thead><tbody>{"".join(lines)}</tbody></table></div>'
