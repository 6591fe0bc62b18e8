"""Logs: JSON lines for machines, short lines for a terminal. Never keys, prompts, bodies or AWS' own error text."""

from __future__ import annotations

import asyncio
import atexit
import json
import logging
import os
import sys
import time
import traceback
from collections.abc import Callable
from types import TracebackType
from typing import Literal

from gateway.telemetry.events import CallRecord
from gateway.telemetry.lines import FAULTS, LOGGER, line_of, told, words_of
from gateway.telemetry.writer import LineWriter

_STANDARD = set(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}
MAX_TRACE_CHARS = 2500
"""Of a stack; with more, a line might be longer than what several processes can write to one pipe without mixing it."""

log = logging.getLogger(LOGGER)


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
        return json.dumps(line, default=str, ensure_ascii=True, separators=(",", ":"))


class TerminalFormatter(logging.Formatter):
    """For people: the event, then its fields."""

    def format(self, record: logging.LogRecord) -> str:
        fields = " ".join(
            f"{name}={json.dumps(value, default=str, ensure_ascii=True)}"
            for name, value in vars(record).items()
            if name not in _STANDARD and value is not None
        )
        head = f"{_clock(record.created)} {record.levelname.lower():7}"
        text = f"{head} {json.dumps(record.getMessage(), ensure_ascii=False)[1:-1]} {fields}".rstrip()
        if record.exc_info and record.exc_info[0] is not None:
            text += "\n" + _where(record.exc_info)
        return text


def _clock(seconds: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(seconds))


def _where(
    exc_info: tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None],
) -> str:
    """Return the error's type and stack, but not its text: that may quote what a caller or AWS sent."""
    kind, _, trace = exc_info
    text = "".join(traceback.format_tb(trace)) + (kind.__name__ if kind is not None else "")
    return text if len(text) <= MAX_TRACE_CHARS else f"…{text[-MAX_TRACE_CHARS:]}"


class _Handler(logging.Handler):
    """Hands the lines of Python's logging to the writer; each is written at once."""

    def __init__(self, writer: LineWriter) -> None:
        super().__init__()
        self.writer = writer

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self.writer.put(self.format(record).encode(errors="replace"), urgent=True)
        except Exception as error:  # the usual handling would show what the line was made of
            self.writer.put(f'{{"level":"error","event":"{type(error).__name__} in a log line"}}'.encode())


Which = Literal["all", "failed", "off"]
LATE_LINES, LATE_S = 32, 0.05
"""So many calls' lines are made at once, and none later than that."""


class CallLog:
    """Writes a line for every call, or every failed one."""

    def __init__(self, which: Which, dropped: Callable[[int], None]) -> None:
        """`dropped` is told of numbers of log lines that nobody took, from whatever thread."""
        handler = next((found for found in logging.getLogger().handlers if isinstance(found, _Handler)), None)
        self._writer = handler.writer if handler is not None else None
        """None where the logging is not the gateway's own: then the lines go where others of this process go."""
        if self._writer is not None:
            self._writer.on_drop = dropped
        self._text = handler is not None and isinstance(handler.formatter, TerminalFormatter)
        self._colour = bool(sys.stderr and sys.stderr.isatty() and not os.environ.get("NO_COLOR"))  # no-color.org
        self._failed = which != "off" and log.isEnabledFor(logging.ERROR)
        self._all = which == "all" and log.isEnabledFor(logging.INFO)
        self._late: list[tuple[CallRecord, float]] = []
        """Calls whose lines are still to be made, and when they ended: many at once take half the time."""
        atexit.register(self.flush)

    def take(self, record: CallRecord) -> None:
        failed = record.code in FAULTS
        if not (self._failed if failed else self._all):
            return
        now = time.time()
        if self._writer is None:
            if failed:
                log.error("call failed", extra=_fields(told(record, now)))
            else:
                log.info("call ended", extra=_fields(told(record, now)))
        elif self._text:
            words = words_of(line_of(record, now), _clock(now), colour=self._colour)
            self._writer.put(words.encode(), urgent=failed)
        else:
            self._late.append((record, now))
            if failed or len(self._late) >= LATE_LINES:
                self.flush()
            elif len(self._late) == 1:
                asyncio.get_running_loop().call_later(LATE_S, self.flush)

    def flush(self) -> None:
        """Make the lines that have waited for others."""
        late, self._late = self._late, []
        for record, now in late:
            if self._writer is not None:
                self._writer.put(told(record, now), urgent=record.code in FAULTS)


def _fields(line: bytes) -> dict[str, object]:
    fields = json.loads(line)
    return {name: value for name, value in fields.items() if name not in ("time", "level", "logger", "event")}


def configure(level: str, *, shared: bool = True) -> None:
    """Send every log line to standard error, as JSON unless that is a terminal.

    Args:
        shared: other processes of the gateway write there, too.
    """
    handler = _Handler(LineWriter(sys.stderr.fileno(), tell=_tell_of_dropped, shared=shared))
    handler.setFormatter(TerminalFormatter() if sys.stderr.isatty() else JsonFormatter())
    atexit.register(handler.writer.close)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # Their debug lines quote requests.
    for name in ("asyncio", "uvicorn", "uvicorn.error", "litestar", "urllib3", "requests"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
        logger.setLevel(max(logging.getLevelName(level.upper()), logging.WARNING))


def _tell_of_dropped(lines: int) -> None:
    log.warning("log lines were dropped", extra={"lines": lines})
