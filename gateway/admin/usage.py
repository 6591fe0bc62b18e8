"""`GET /admin/usage`: what keys, teams and models have used.

The question is the query string: from, to, key, team, model, group_by, and the answer's format, json or csv.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import Any

from litestar import Request, Response, get
from litestar.handlers import HTTPRouteHandler

from gateway.config.problems import did_you_mean
from gateway.errors import DuplicateParameter, InvalidRequest, UnknownParameter, UsageUnavailable
from gateway.limits.usage import BadQuestion, Books, Question, Report, TooManyLines, Unreadable
from gateway.limits.usage_formats import csv_text, json_text

MAX_LINES = 50_000
"""Of an answer: it is made in memory, beside the calls."""
_FORMATS = {"json": (json_text, "application/json"), "csv": (csv_text, "text/csv")}
_PARAMETERS = ("from", "to", "key", "team", "model", "group_by", "format")


def usage_routes(books: Books, *, today: Callable[[], date] | None = None) -> list[HTTPRouteHandler]:
    """Return the handlers. `today` is that of UTC."""
    now = today or (lambda: datetime.now(UTC).date())

    @get("/admin/usage")
    async def usage(request: Request[Any, Any, Any]) -> Response[str]:
        asked = _asked(request)
        name = asked.get("format", "json")
        if name not in _FORMATS:
            raise InvalidRequest(f"format: expected one of {', '.join(_FORMATS)}.", param="format")
        text_of, media_type = _FORMATS[name]
        report = await _report(asked, books, now())
        headers = {"cache-control": "no-store"}
        if name == "csv":
            days = f"{report.question.first}-to-{report.question.last}"
            headers["content-disposition"] = f'attachment; filename="usage-{days}.csv"'
        return Response(text_of(report), media_type=media_type, headers=headers)

    return [usage]


async def _report(asked: dict[str, str], books: Books, today: date) -> Report:
    try:
        question = Question.of(
            today,
            first=asked.get("from"),
            last=asked.get("to"),
            by=asked.get("group_by"),
            key=asked.get("key"),
            team=asked.get("team"),
            model=asked.get("model"),
        )
        report = Report(question, max_lines=MAX_LINES)
        await books.read(report)
    except BadQuestion as error:
        raise InvalidRequest(f"{error.part}: {error}.", param=error.part) from None
    except TooManyLines:
        raise InvalidRequest(
            f"This is more than {MAX_LINES} lines: ask for fewer days, or name less in group_by.", param="group_by"
        ) from None
    except Unreadable as error:
        raise UsageUnavailable(f"Usage cannot be read: {error}.", retry_after_s=1) from None
    return report


def _asked(request: Request[Any, Any, Any]) -> dict[str, str]:
    asked: dict[str, str] = {}
    for name, value in request.query_params.multi_items():
        if name not in _PARAMETERS:
            meant = did_you_mean(name, _PARAMETERS)
            hint = f" Did you mean {meant!r}?" if meant else ""
            raise UnknownParameter(f"There is no such parameter; expected {', '.join(_PARAMETERS)}.{hint}", param=name)
        if name in asked:
            raise DuplicateParameter(f"The parameter {name} is there twice.", param=name)
        asked[name] = value
    return asked
