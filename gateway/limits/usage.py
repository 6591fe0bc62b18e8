"""What keys, teams and models have used, day by day: the books that admission writes, added up.

    Question ─▶ the books of its days, in memory or in Redis (usage_redis.py) ─▶ Report ─▶ usage_formats.py

The books of a day hold sums under `key|team|model|what`, and `what` is a field of Row. Whatever else stands there was
not written by this gateway: it is passed over and counted.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import NamedTuple, Protocol

from gateway.auth.principal import Row

GROUPS = ("day", "key", "team", "model")
"""What usage may be added up by."""
DEFAULT_DAYS = 30
MAX_DAYS = 3660
"""The longest time that the books are kept: setting `usage_days`."""
EPOCH = date(1970, 1, 1)

_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII)
_SUM = re.compile(rb"[0-9]{1,19}")
"""What HINCRBY can have made of amounts that are not negative."""
_AT = {name.encode(): at for at, name in enumerate(Row._fields)}


class BadQuestion(Exception):
    """A part of a question is wrong; the text is a sentence's end, to follow the part's name and a colon."""

    def __init__(self, part: str, message: str) -> None:
        """`part`: from, to, key, team, model or group_by."""
        super().__init__(message)
        self.part = part


class TooManyLines(Exception):
    """The report would have more lines than its reader takes."""


@dataclass(frozen=True, slots=True)
class Question:
    """Which usage to report, and by what to add it up."""

    first: date
    last: date
    """The last day, itself included."""
    by: tuple[str, ...] = GROUPS
    """Of GROUPS, in the order of the report's columns."""
    key: str | None = None
    team: str | None = None
    """"" for calls of keys without a team."""
    model: str | None = None

    @classmethod
    def of(
        cls,
        today: date,
        *,
        first: str | None = None,
        last: str | None = None,
        by: str | None = None,
        key: str | None = None,
        team: str | None = None,
        model: str | None = None,
    ) -> Question:
        """Return the question that was asked in text: without days about the last 30, `by` a list with commas.

        Raises:
            BadQuestion: it makes no sense.
        """
        until = today if last is None else _day("to", last)
        since = max(EPOCH, until - timedelta(days=DEFAULT_DAYS - 1)) if first is None else _day("from", first)
        if since > until:
            raise BadQuestion("from", f"{since} is after {until}, the last day")
        if (until - since).days >= MAX_DAYS:
            raise BadQuestion("from", f"expected at most {MAX_DAYS} days, found {(until - since).days + 1}")
        groups = GROUPS if by is None else tuple(name.strip() for name in by.split(","))
        if not set(groups) <= set(GROUPS) or len(set(groups)) < len(groups):
            raise BadQuestion("group_by", f"expected some of {', '.join(GROUPS)}, each once, with commas between them")
        for part, name in (("key", key), ("model", model)):
            if name == "":
                raise BadQuestion(part, "expected a name, found nothing")
        return cls(since, until, groups, key, team, model)

    @property
    def days(self) -> range:
        """The days asked for, counted since 1970."""
        return range((self.first - EPOCH).days, (self.last - EPOCH).days + 1)


def _day(part: str, text: str) -> date:
    try:
        if not _DATE.fullmatch(text):
            raise ValueError
        day = date.fromisoformat(text)
    except ValueError:
        raise BadQuestion(part, "expected a day such as 2026-01-31") from None
    if day < EPOCH:
        raise BadQuestion(part, "expected a day since 1970-01-01")
    return day


class Line(NamedTuple):
    """What was used together by all that is in one group."""

    group: tuple[str, ...]
    """The values of the question's `by`; a day as 2026-01-31, no team as ""."""
    used: tuple[int, ...]
    """Sums in the order of Row: money in millionths."""


class Report:
    """The answer to a question, made of the books of its days."""

    def __init__(self, question: Question, *, max_lines: int | None = None) -> None:
        self.question = question
        self.skipped = 0
        """Entries of the books that were not written by this gateway."""
        self._max_lines = max_lines
        self._sums: dict[tuple[str, ...], list[int]] = {}
        self._total = [0] * len(Row._fields)

    def take(self, day: int, books: Iterable[tuple[bytes, bytes | int]]) -> None:
        """Add fields of a day's books, each field once.

        Raises:
            TooManyLines: there would be more than `max_lines`.
        """
        question = self.question
        of_group: dict[str, str] = {"day": (EPOCH + timedelta(days=day)).isoformat()}
        for field, value in books:
            entry = _entry(field, value)
            if entry is None:
                self.skipped += 1
                continue
            (key, team, model), at, amount = entry
            if (
                (question.key is not None and key != question.key)
                or (question.team is not None and team != question.team)
                or (question.model is not None and model != question.model)
            ):
                continue
            of_group["key"], of_group["team"], of_group["model"] = key, team, model
            group = tuple([of_group[name] for name in question.by])
            sums = self._sums.get(group)
            if sums is None:
                if self._max_lines is not None and len(self._sums) >= self._max_lines:
                    raise TooManyLines(f"more than {self._max_lines} lines")
                sums = self._sums[group] = [0] * len(Row._fields)
            sums[at] += amount
            self._total[at] += amount

    def lines(self) -> Iterator[Line]:
        """Yield the lines in the order of their groups."""
        for group in sorted(self._sums):
            yield Line(group, tuple(self._sums[group]))

    @property
    def total(self) -> tuple[int, ...]:
        """All lines together, in the order of Row."""
        return tuple(self._total)

    def __len__(self) -> int:
        return len(self._sums)


def _entry(field: bytes, value: bytes | int) -> tuple[Sequence[str], int, int] | None:
    """Return key, team and model, which sum it is, and the sum; None if this gateway has not written it."""
    try:
        *names, what = field.split(b"|")
        key, team, model = (name.decode() for name in names)
    except ValueError:
        return None
    at = _AT.get(what)
    # What a terminal would take for a command is no name of ours.
    if at is None or not key or not model or not (key + team + model).isprintable():
        return None
    if not isinstance(value, int) and not _SUM.fullmatch(value):
        return None
    return (key, team, model), at, int(value)


class Books(Protocol):
    """Where books are kept."""

    async def read(self, report: Report) -> None:
        """Let a report take the books of its question's days.

        Raises:
            Unreadable: they cannot be read now.
            TooManyLines: as of Report.take.
        """
        ...


class Unreadable(Exception):
    """The books cannot be read now. The text says why, and holds nothing of a URL."""


InMemory = Callable[[], Mapping[int, Mapping[bytes, int]] | None]
"""Returns what MemoryLimits keeps, day by day; None if this process keeps none."""


class MemoryBooks:
    """The books of this process, read from whatever thread."""

    def __init__(self, books: InMemory) -> None:
        self._books = books

    async def read(self, report: Report) -> None:
        books = self._books()
        if books is None:
            raise Unreadable("each worker process keeps its own; count in Redis (`limits_store: redis`)")
        for day in report.question.days:
            if found := books.get(day):
                report.take(day, dict(found).items())  # a copy, made at once: calls go on meanwhile
