"""A report of usage as text: a table for people, CSV for spreadsheets, JSON for programs.

Money and seconds are decimal numbers with all their digits; no float is made of them on the way.
https://owasp.org/www-community/attacks/CSV_Injection says what spreadsheets take for a formula.
"""

from __future__ import annotations

import csv
import io
from decimal import Decimal
from typing import Any

import msgspec

from gateway.auth.principal import Row
from gateway.limits.usage import Report

COLUMNS = tuple("seconds" if name == "milliseconds" else name for name in Row._fields)
"""What is told of every group."""
_PLACES = {"milliseconds": -3, "money": -6}
_HEADINGS = {"prompt_tokens": "prompt", "cached_tokens": "cached", "completion_tokens": "completion"}
_FORMULA = tuple("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20")
"""Beginnings of a formula, those of full width included."""
_json = msgspec.json.Encoder(decimal_format="number")


def json_text(report: Report) -> str:
    """Return one JSON object and a line's end; what has no team has null."""
    question = report.question
    told = {
        "from": question.first.isoformat(),
        "to": question.last.isoformat(),
        "group_by": question.by,
        "usage": [
            dict(zip(question.by, (value or None for value in line.group), strict=True)) | _amounts(line.used)
            for line in report.lines()
        ],
        "total": _amounts(report.total),
        "skipped": report.skipped,
    }
    return _json.encode(told).decode() + "\n"


def csv_text(report: Report) -> str:
    """Return a line of headings and the report's lines; none of totals, which a sum would count again."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*report.question.by, *COLUMNS])
    for line in report.lines():
        writer.writerow([*map(_harmless, line.group), *map(str, _amounts(line.used).values())])
    return text.getvalue()


def table_text(report: Report) -> str:
    """Return lines under headings, and their total under them."""
    by = report.question.by
    rows = [[*by, *(_HEADINGS.get(name, name) for name in COLUMNS)]]
    rows[0] = [heading.upper() for heading in rows[0]]
    for line in report.lines():
        rows.append([*(value or "-" for value in line.group), *_readable(line.used)])
    rows.append(["TOTAL", *[""] * (len(by) - 1), *_readable(report.total)])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "".join(
        "  ".join(
            cell.ljust(width) if column < len(by) else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        + "\n"
        for row in rows
    )


def _amounts(used: tuple[int, ...]) -> dict[str, Any]:
    return {
        column: Decimal(amount).scaleb(_PLACES[name]) if name in _PLACES else amount
        for column, name, amount in zip(COLUMNS, Row._fields, used, strict=True)
    }


def _readable(used: tuple[int, ...]) -> list[str]:
    return [f"{amount:,}" for amount in _amounts(used).values()]


def _harmless(value: str) -> str:
    return f"'{value}" if value.startswith(_FORMULA) else value
