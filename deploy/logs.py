"""What containers have written: CloudWatch's groups of an endpoint and of its components.

https://docs.aws.amazon.com/sagemaker/latest/dg/logging-cloudwatch.html
"""

from __future__ import annotations

import re
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from deploy.aws import Aws, DeployError, if_there
from deploy.resources import Key

STREAMS = 3
"""So many of the newest streams are looked through for the end of a log: one for each container."""
REMEMBERED = 10_000
"""Events that may be met again while following, as they arrive late and out of order."""
LATE_MS = 30_000
_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a log."""

    at_ms: int
    group: str
    stream: str
    text: str

    def __str__(self) -> str:
        at = datetime.fromtimestamp(self.at_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return f"{at} {self.group.rpartition('/')[2]} {self.text}"


def group_of(key: Key) -> str:
    """Return the log group of an endpoint or component."""
    kind, name = key
    return f"/aws/sagemaker/{'Endpoints' if kind == 'endpoint' else 'InferenceComponents'}/{name}"


def since_s(text: str) -> int:
    """Return seconds, from a number with a unit: 90s, 10m, 2h, 1d.

    Raises:
        DeployError: it is none.
    """
    match = re.fullmatch(r"(\d{1,6})([smhd])", text)
    if match is None:
        raise DeployError(f"expected a time such as 90s, 10m, 2h or 1d, got {text!r}")
    return int(match[1]) * _UNITS_S[match[2]]


def tail(aws: Aws, key: Key, lines: int) -> list[str]:
    """Return the last lines of a container's log, oldest first; none if there is no log."""
    group = group_of(key)
    reply = if_there(
        aws.logs.describe_log_streams, logGroupName=group, orderBy="LastEventTime", descending=True, limit=STREAMS
    )
    events: list[dict[str, Any]] = []
    for stream in (reply or {}).get("logStreams", ()):
        got = if_there(aws.logs.get_log_events, logGroupName=group, logStreamName=stream["logStreamName"], limit=lines)
        events += (got or {}).get("events", [])
    events.sort(key=lambda event: event["timestamp"])
    return [str(event["message"]).rstrip() for event in events[-lines:]]


def lines(aws: Aws, keys: Iterable[Key], *, since_ms: int) -> Iterator[Line]:
    """Yield every line since then, the lines of all groups in the order of their time."""
    found = [line for key in keys for _, line in _events(aws, group_of(key), since_ms)]
    yield from sorted(found, key=lambda line: line.at_ms)


def follow(
    aws: Aws, keys: Iterable[Key], *, since_ms: int, pause_s: float, sleep: Callable[[float], None] = time.sleep
) -> Iterator[Line]:
    """Yield lines as they come, for ever."""
    groups, seen = [group_of(key) for key in keys], OrderedDict[str, None]()
    newest = dict.fromkeys(groups, since_ms)
    while True:
        fresh: list[Line] = []
        for group in groups:
            for event, line in _events(aws, group, max(since_ms, newest[group] - LATE_MS)):
                newest[group] = max(newest[group], line.at_ms)
                if event not in seen:
                    seen[event] = None
                    fresh.append(line)
        while len(seen) > REMEMBERED:
            seen.popitem(last=False)
        yield from sorted(fresh, key=lambda line: line.at_ms)
        sleep(pause_s)


def _events(aws: Aws, group: str, since_ms: int) -> Iterator[tuple[str, Line]]:
    request: dict[str, Any] = {"logGroupName": group, "startTime": since_ms}
    while True:
        reply = if_there(aws.logs.filter_log_events, **request)
        if reply is None:
            return
        for event in reply.get("events", ()):
            yield (
                event["eventId"],
                Line(event["timestamp"], group, event["logStreamName"], str(event["message"]).rstrip()),
            )
        if not reply.get("nextToken"):
            return
        request["nextToken"] = reply["nextToken"]
