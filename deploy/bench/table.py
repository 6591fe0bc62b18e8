"""Figures as text: the table of a run, and its rows as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from deploy.bench.plan import Stage
from deploy.bench.runfile import Run
from deploy.bench.summary import Spread, Summary

Rows = list[list[str]]
ENOUGH_FOR_P99 = 100
"""Of fewer calls it lies between the two slowest."""


def level(stage: Stage) -> str:
    """Return a level as it stands in tables."""
    return f"{stage.level:g}" if stage.loop == "closed" else f"{stage.level:g}/s"


def milliseconds(seconds: float | None) -> str:
    """Return a time in ms with three digits that count."""
    if seconds is None:
        return "–"
    value = seconds * 1000
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def number(value: float | None) -> str:
    """Return a rate or an amount."""
    if value is None:
        return "–"
    return f"{value:,.0f}" if value >= 1000 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def run_table(run: Run) -> Rows:
    """Return the heading and a row for each stage; times in milliseconds."""
    first = "concurrency" if all(item.stage.loop == "closed" for item in run.stages) else "rate"
    heading = [
        first, "requests/s", "output tok/s", "input tok/s", "TTFT p50", "TTFT p99", "ITL p50", "ITL p99", "TPOT p50",
        "e2e p50", "e2e p99", "errors",
    ]  # fmt: skip
    goodput = any(item.goodput_per_s is not None for item in run.summaries)
    cost = any(item.cost_per_million_output_tokens is not None for item in run.summaries)
    opened = any(item.stage.loop == "open" for item in run.summaries)
    heading += ["outstanding"] * opened + ["goodput/s"] * goodput + ["cost/1M out"] * cost
    rows = [heading]
    for item in run.summaries:
        row = [
            level(item.stage), number(item.requests_per_s), number(item.output_tokens_per_s),
            number(item.input_tokens_per_s) if item.input_tokens is not None else "–",
            milliseconds(item.ttft.p50), milliseconds(item.ttft.p99),
            milliseconds(item.itl.p50), milliseconds(item.itl.p99), milliseconds(item.tpot.p50),
            milliseconds(item.e2e.p50), milliseconds(item.e2e.p99), str(item.failed),
        ]  # fmt: skip
        row += [f"{item.outstanding_mean:.0f} (max {item.outstanding_max})"] * opened
        row += [number(item.goodput_per_s)] * goodput + [number(item.cost_per_million_output_tokens)] * cost
        rows.append(row)
    return rows


def notes(run: Run) -> list[str]:
    """Return what a reader has to know beside the table, a sentence each."""
    found = [] if run.complete else ["The run is incomplete: it was interrupted."]
    if few := [level(item.stage) for item in run.summaries if 0 < item.succeeded < ENOUGH_FOR_P99]:
        where = ", ".join(few)
        found.append(f"At {where} fewer than {ENOUGH_FOR_P99} calls were complete: p99 is about the slowest one.")
    for item in run.summaries:
        where = f"At {level(item.stage)}"
        if item.errors:
            kinds = ", ".join(f"{count} × {kind}" for kind, count in item.errors.items())
            found.append(f"{where} {item.failed} of {item.calls} calls failed: {kinds}.")
        if item.unfinished:
            found.append(
                f"{where} {item.unfinished} calls were under way when the run was interrupted; none of them counts."
            )
        if item.estimated_share:
            found.append(
                f"{where} the output tokens of {item.estimated_share:.0%} of the calls are estimates: no usage came."
            )
        if item.reconnects:
            found.append(f"{where} {item.reconnects} calls met a kept-alive connection that the server had closed.")
        if item.generator_limits:
            found.append(
                f"WARNING: {where.lower()} the generator may have been the limit: {'; '.join(item.generator_limits)}."
            )
    return found


def generator_line(item: Summary) -> str:
    """Return what generating the load of a stage took."""
    cpu = " + ".join(f"{share:.0%}" for share in item.cpu)
    text = f"{level(item.stage)}: {cpu} of a core; event loop late by {milliseconds(item.lag.p50)} ms (p50),"
    text += f" {milliseconds(item.lag.p99)} ms (p99)"
    if item.stage.loop == "open":
        text += f"; calls begun late by {milliseconds(item.lateness.p50)} ms (p50),"
        text += f" {milliseconds(item.lateness.p99)} ms (p99), {milliseconds(item.lateness.max)} ms (max)"
    return text


def text_table(rows: Rows) -> str:
    """Return rows with aligned columns; the first one is a heading."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])


def run_text(run: Run) -> str:
    """Return all that is printed of a run."""
    parts = [f"{run.label}: {target_line(run)}", "", text_table(run_table(run)), "times in milliseconds", ""]
    parts += ["The generator itself:", *(f"  {generator_line(item)}" for item in run.summaries)]
    parts += ["", *remarks] if (remarks := notes(run)) else []
    return "\n".join(parts)


def target_line(run: Run) -> str:
    """Return in words what was measured, and how."""
    target, load, prompts = run.plan.target, run.plan.load, run.plan.prompts
    where = (
        f"endpoint {target.endpoint} in {target.region}" if target.kind == "sagemaker" else target.origin + target.path
    )
    length = f"{load.duration_s:g} s" if load.duration_s is not None else f"{load.requests} requests"
    what = f"prompts of {prompts.file}" if prompts.file else f"{prompts.input_tokens} words in"
    out = f", {prompts.output_tokens} tokens out at most" if prompts.output_tokens else ""
    how = "streamed" if target.stream else "whole answers"
    return f"{target.model or 'the default model'} at {where}, {target.api}, {how}; {what}{out}; {length} a stage"


def csv_text(runs: Sequence[Run]) -> str:
    """Return a row for each stage of each run, with a heading; times in seconds, nothing for what is not there."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    heading: list[str] = []
    for run in runs:
        for item in run.summaries:
            fields = _flat(run, item)
            if not heading:
                heading = list(fields)
                writer.writerow(heading)
            writer.writerow(["" if value is None else value for value in fields.values()])
    return out.getvalue()


def _flat(run: Run, item: Summary) -> dict[str, object]:
    fields: dict[str, object] = {"label": _plain(run.label), "loop": item.stage.loop, "level": item.stage.level}
    for name in item.__struct_fields__[1:]:
        value = getattr(item, name)
        if isinstance(value, Spread):
            fields |= {f"{name}_{key}_s": getattr(value, key) for key in value.__struct_fields__}
        elif isinstance(value, dict):
            fields[name] = " ".join(f"{kind}={count}" for kind, count in value.items())
        elif isinstance(value, tuple):
            fields[name] = " ".join(str(part) for part in value) if name == "cpu" else "; ".join(value)
        else:
            fields[name] = value
    return fields


def _plain(text: str) -> str:
    """Return text that no spreadsheet takes for a formula: https://owasp.org/www-community/attacks/CSV_Injection."""
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text
