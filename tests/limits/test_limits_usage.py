"""The books, added up: what may be asked, what is counted, what is passed over, and how it is written down."""

from __future__ import annotations

import asyncio
import json
import re
from datetime import date
from decimal import Decimal
from typing import Any

import pytest

from gateway.admin.usage import MAX_LINES
from gateway.auth.principal import Principal, Row
from gateway.cli_usage import usage
from gateway.config.settings import Settings
from gateway.limits.gcra import DAY_MS
from gateway.limits.memory import MemoryLimits
from gateway.limits.rules import Amounts
from gateway.limits.usage import DEFAULT_DAYS, BadQuestion, MemoryBooks, Question, Report, TooManyLines, Unreadable
from gateway.limits.usage_formats import COLUMNS, csv_text, json_text, table_text
from tests.docs.reading import page

TODAY = date(2026, 3, 1)
DAY = 20_513  # 2026-03-01
BOOKS: dict[int, dict[bytes, bytes]] = {
    DAY - 1: {
        b"app|search|llama|requests": b"2",
        b"app|search|llama|prompt_tokens": b"1000",
        b"app|search|llama|money": b"1",
    },
    DAY: {
        b"app|search|llama|requests": b"1",
        b"app|search|llama|prompt_tokens": b"500",
        b"app|search|llama|cached_tokens": b"400",
        b"app|search|llama|completion_tokens": b"20",
        b"app|search|llama|milliseconds": b"1250",
        b"app|search|llama|money": b"2345678",
        b"app||llama:law|requests": b"7",
        b"cron|search|qwen|requests": b"1200",
        b"cron|search|qwen|milliseconds": b"3600001",
    },
}


def report(books: dict[int, dict[bytes, bytes]] = BOOKS, *, max_lines: int | None = None, **asked: Any) -> Report:
    """Return what the books answer to a question, whose parts are texts."""
    found = Report(Question.of(TODAY, **asked), max_lines=max_lines)
    for day in found.question.days:
        found.take(day, books.get(day, {}).items())
    return found


# Questions


@pytest.mark.parametrize(
    ("asked", "first", "last"),
    [
        pytest.param({}, "2026-01-31", "2026-03-01", id="the last 30 days"),
        pytest.param({"first": "2026-02-28"}, "2026-02-28", "2026-03-01", id="until today"),
        pytest.param({"last": "2025-12-31"}, "2025-12-02", "2025-12-31", id="30 days until a day"),
        pytest.param({"first": "2024-02-29", "last": "2024-02-29"}, "2024-02-29", "2024-02-29", id="one day"),
        pytest.param({"last": "1970-01-02"}, "1970-01-01", "1970-01-02", id="not before days are counted"),
    ],
)
def test_the_days_of_a_question(asked: dict[str, str], first: str, last: str) -> None:
    question = Question.of(TODAY, **asked)
    assert (question.first.isoformat(), question.last.isoformat()) == (first, last)


def test_days_are_counted_since_1970() -> None:
    assert Question.of(TODAY, first="2026-02-27").days == range(DAY - 2, DAY + 1)


@pytest.mark.parametrize(
    ("asked", "part", "message"),
    [
        pytest.param({"first": "2026-2-1"}, "from", "expected a day such as 2026-01-31", id="digits are missing"),
        pytest.param({"last": "20260101"}, "to", "expected a day such as 2026-01-31", id="no hyphens"),
        pytest.param({"last": "2026-02-29"}, "to", "expected a day such as 2026-01-31", id="no such day"),
        pytest.param(
            {"first": "\u0662\u0660\u0662\u0666-\u0660\u0661-\u0660\u0661"},
            "from",
            "expected a day such as 2026-01-31",
            id="other digits",
        ),
        pytest.param({"first": ""}, "from", "expected a day such as 2026-01-31", id="empty"),
        pytest.param({"first": "1969-12-31"}, "from", "expected a day since 1970-01-01", id="before days are counted"),
        pytest.param({"first": "2026-03-02"}, "from", "2026-03-02 is after 2026-03-01, the last day", id="backwards"),
        pytest.param({"first": "2016-02-22"}, "from", "expected at most 3660 days, found 3661", id="too many"),
        pytest.param({"key": ""}, "key", "expected a name, found nothing", id="no key"),
        pytest.param({"model": ""}, "model", "expected a name, found nothing", id="no model"),
        *(
            pytest.param(
                {"by": by},
                "group_by",
                "expected some of day, key, team, model, each once, with commas between them",
                id=f"group by {by!r}",
            )
            for by in ("", "month", "day,day", "day;key")
        ),
    ],
)
def test_a_wrong_question_names_its_part(asked: dict[str, str], part: str, message: str) -> None:
    with pytest.raises(BadQuestion) as found:
        Question.of(TODAY, **asked)
    assert (found.value.part, str(found.value)) == (part, message)


# Sums


@pytest.mark.parametrize(
    ("asked", "requests"),
    [
        pytest.param(
            {},
            {
                ("2026-02-28", "app", "search", "llama"): 2,
                ("2026-03-01", "app", "", "llama:law"): 7,
                ("2026-03-01", "app", "search", "llama"): 1,
                ("2026-03-01", "cron", "search", "qwen"): 1200,
            },
            id="by everything",
        ),
        pytest.param({"by": "key"}, {("app",): 10, ("cron",): 1200}, id="by key"),
        pytest.param({"by": "team"}, {("",): 7, ("search",): 1203}, id="by team"),
        pytest.param(
            {"by": "model, day"},
            {
                ("llama", "2026-02-28"): 2,
                ("llama", "2026-03-01"): 1,
                ("llama:law", "2026-03-01"): 7,
                ("qwen", "2026-03-01"): 1200,
            },
            id="in another order",
        ),
        pytest.param({"by": "key", "key": "app"}, {("app",): 10}, id="of a key"),
        pytest.param({"by": "key", "team": "search"}, {("app",): 3, ("cron",): 1200}, id="of a team"),
        pytest.param({"by": "key", "team": ""}, {("app",): 7}, id="of no team"),
        pytest.param({"by": "model", "model": "llama"}, {("llama",): 3}, id="of a model, not of its adapters"),
        pytest.param({"by": "key", "first": "2026-03-01"}, {("app",): 8, ("cron",): 1200}, id="of a day"),
        pytest.param({"by": "key", "key": "a"}, {}, id="of a key that is not there"),
    ],
)
def test_usage_is_added_up(asked: dict[str, Any], requests: dict[tuple[str, ...], int]) -> None:
    found = report(**asked)
    assert {line.group: line.used[0] for line in found.lines()} == requests
    assert found.total[0] == sum(requests.values())


@pytest.mark.parametrize(
    ("field", "value"),
    [
        pytest.param(b"", b"1", id="empty"),
        pytest.param(b"app|search|requests", b"1", id="a part is missing"),
        pytest.param(b"app|search|llama|x|requests", b"1", id="a part too many"),
        pytest.param(b"app|search|llama|jokes", b"1", id="unknown sum"),
        pytest.param(b"|search|llama|requests", b"1", id="no key"),
        pytest.param(b"app|search||requests", b"1", id="no model"),
        pytest.param(b"\xff|search|llama|requests", b"1", id="no text"),
        pytest.param(b"a\x1b[2J|search|llama|requests", b"1", id="a terminal's command"),
        pytest.param(b"app|search|llama|requests", b"", id="no number"),
        pytest.param(b"app|search|llama|requests", b"1.5", id="no whole number"),
        pytest.param(b"app|search|llama|requests", b"-1", id="negative"),
        pytest.param(b"app|search|llama|requests", b"1_0", id="a number of Python's only"),
        pytest.param(b"app|search|llama|requests", b"9" * 5000, id="no end"),
    ],
)
def test_what_the_gateway_has_not_written_is_passed_over_and_counted(field: bytes, value: bytes) -> None:
    found = report({DAY: {field: value, b"b||m|requests": b"2"}})
    assert ([line.group[1] for line in found.lines()], found.total[0], found.skipped) == (["b"], 2, 1)


def test_a_report_has_no_more_lines_than_its_reader_takes() -> None:
    assert len(report(by="key", max_lines=2)) == 2
    with pytest.raises(TooManyLines):
        report(by="key,model", max_lines=2)


# Formats


def test_a_table_for_people() -> None:
    assert table_text(report(first="2026-03-01", by="key,team")).splitlines() == [
        "KEY    TEAM    REQUESTS  PROMPT  CACHED  COMPLETION    SECONDS     MONEY",
        "app    -              7       0       0           0      0.000  0.000000",
        "app    search         1     500     400          20      1.250  2.345678",
        "cron   search     1,200       0       0           0  3,600.001  0.000000",
        "TOTAL             1,208     500     400          20  3,601.251  2.345678",
    ]


def test_csv_has_lines_and_no_total() -> None:
    assert csv_text(report(first="2026-03-01", by="day,team")).splitlines() == [
        "day,team,requests,prompt_tokens,cached_tokens,completion_tokens,seconds,money",
        "2026-03-01,,7,0,0,0,0.000,0.000000",
        "2026-03-01,search,1201,500,400,20,3601.251,2.345678",
    ]


def test_json_has_all_digits() -> None:
    text = json_text(report(by="team", key="app"))
    assert json.loads(text, parse_float=Decimal) == {
        "from": "2026-01-31",
        "to": "2026-03-01",
        "group_by": ["team"],
        "usage": [
            {"team": None, **sums(requests=7)},
            {"team": "search", **sums(3, 1500, 400, 20, "1.250", "2.345679")},
        ],
        "total": sums(10, 1500, 400, 20, "1.250", "2.345679"),
        "skipped": 0,
    }
    assert '"money":2.345679' in text


def sums(
    requests: int = 0, prompt: int = 0, cached: int = 0, completion: int = 0, seconds: str = "0", money: str = "0"
) -> dict[str, Any]:
    return {
        "requests": requests,
        "prompt_tokens": prompt,
        "cached_tokens": cached,
        "completion_tokens": completion,
        "seconds": Decimal(seconds),
        "money": Decimal(money),
    }


def test_sums_that_no_float_could_hold_are_exact() -> None:
    books = {DAY: {b"a||m|money": b"9007199254740993", b"b||m|money": b"9007199254740993"}}
    found = report(books, by="day")
    assert '"money":18014398509.481986' in json_text(found)
    assert csv_text(found).splitlines()[1].endswith(",18014398509.481986")
    assert table_text(found).splitlines()[1].endswith("  18,014,398,509.481986")


@pytest.mark.parametrize(
    ("key", "cell"),
    [
        pytest.param("=1+1", "'=1+1", id="formula"),
        pytest.param("+1", "'+1", id="plus"),
        pytest.param("-1", "'-1", id="minus"),
        pytest.param("@SUM(A1)", "'@SUM(A1)", id="function"),
        pytest.param("\uff1d1", "'\uff1d1", id="full width"),
        pytest.param('=a,"b', '"\'=a,""b"', id="with marks of CSV"),
        pytest.param("a=1", "a=1", id="harmless"),
    ],
)
def test_a_name_is_no_formula_to_a_spreadsheet(key: str, cell: str) -> None:
    books = {DAY: {f"{key}||m|requests".encode(): b"1"}}
    assert csv_text(report(books, by="key")).splitlines()[1] == f"{cell},1,0,0,0,0.000,0.000000"


# The books of this process


def test_the_books_of_the_memory_store() -> None:
    async def main() -> Report:
        now_ms = DAY * DAY_MS
        store = MemoryLimits(lambda: now_ms)
        row = Principal("app", None, team="search").row("llama")
        for _ in range(3):
            reservation = await store.reserve(store.rule_set(()), Amounts())
            store.settle(reservation, Amounts(), {row.requests: 1, row.money: 5})
        found = Report(Question.of(TODAY))
        await MemoryBooks(lambda: store.books).read(found)
        return found

    assert [(line.group, line.used) for line in asyncio.run(main()).lines()] == [
        (("2026-03-01", "app", "search", "llama"), (3, 0, 0, 0, 0, 15))
    ]
    assert Row._fields[0] == "requests"
    assert Row._fields[-1] == "money"


def test_a_process_without_books_says_where_they_are() -> None:
    async def main() -> None:
        await MemoryBooks(lambda: None).read(Report(Question.of(TODAY)))

    with pytest.raises(Unreadable, match="each worker process keeps its own"):
        asyncio.run(main())


# docs/usage.md


def test_the_example_of_the_docs_is_what_is_printed() -> None:
    march = {
        f"{names}|{what}".encode(): b"%d" % amount
        for names, amounts in {
            "cron||llama": (12, 9410, 0, 2113, 41_207, 10_717),
            "app|search|llama": (48_120, 61_003_771, 40_112_900, 9_870_004, 96_240_512, 60_290_272),
            "app|search|qwen": (903, 5_417_223, 0, 361_208, 4_873_950, 0),
        }.items()
        for what, amount in zip(Row._fields, amounts, strict=True)
    }
    table = table_text(report({DAY: march}, by="team,model"))
    assert f"--group-by team,model\n{table}```" in page("usage.md")


def test_what_the_docs_say_in_numbers_holds() -> None:
    text = page("usage.md")
    assert f"Usage is kept for `usage_days` ({Settings().usage_days} days)" in text
    assert f"at most {MAX_LINES:,} lines" in text
    assert f"the last {DEFAULT_DAYS} days" in text
    for column in COLUMNS:
        assert f"| `{column}` |" in text
    options = {option for command in usage.params for option in command.opts} - {"--help", "-h"}
    assert options == set(re.findall(r"`(--[a-z-]+)`", text))
