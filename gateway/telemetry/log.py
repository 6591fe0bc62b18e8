"""Logs: JSON lines for machines, short lines for a terminal. Never keys, prompts, bodies or AWS' own error text."""

from __future__ import annotations

import json
import logging
import sys
import time
import traceback
from types import TracebackType

_STANDARD = set(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}


class JsonFormatter(logging.Formatter):
    """One JSON object a line; what a caller can influence is escaped, so that it cannot start a line of its own."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
        }
        line.update({name: value for name, value in vars(record).items() if name not in _STANDARD})
        if record.exc_info and record.exc_info[0] is not None:
            line["exception"] = _where(record.exc_info)
        return json.dumps(line, default=str, ensure_ascii=True)


class TerminalFormatter(logging.Formatter):
    """For people: the event, then its fields."""

    def format(self, record: logging.LogRecord) -> str:
        fields = " ".join(
            f"{name}={json.dumps(value, default=str, ensure_ascii=True)}"
            for name, value in vars(record).items()
            if name not in _STANDARD and value is not None
        )
        head = f"{time.strftime('%H:%M:%S', time.localtime(record.created))} {record.levelname.lower():7}"
        text = f"{head} {json.dumps(record.getMessage(), ensure_ascii=False)[1:-1]} {fields}".rstrip()
        if record.exc_info and record.exc_info[0] is not None:
            text += "\n" + _where(record.exc_info)
        return text


def _where(
    exc_info: tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None],
) -> str:
    """Return the error's type and stack, but not its text: that may quote what a caller or AWS sent."""
    kind, _, trace = exc_info
    return "".join(traceback.format_tb(trace)) + (kind.__name__ if kind is not None else "")


def configure(level: str) -> None:
    """Send every log line to standard error, as JSON unless that is a terminal."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(TerminalFormatter() if sys.stderr.isatty() else JsonFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # Their debug lines quote requests.
    for name in ("asyncio", "uvicorn", "uvicorn.error", "litestar", "urllib3", "requests"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
        logger.setLevel(max(logging.getLevelName(level.upper()), logging.WARNING))
