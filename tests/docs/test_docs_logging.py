"""docs/logging.md has every field of a call's line and of a record of usage, and its numbers are those of the code."""

from __future__ import annotations

import re
from typing import get_args

import msgspec
import pytest

from gateway.config.models import ModelsFile
from gateway.config.settings import Settings
from gateway.config.usage import Kind, UsageSink
from gateway.http.relay import Ending
from gateway.telemetry import lines, log, usage, usage_files, writer
from gateway.telemetry.log import Which
from tests.docs.reading import page, table

PAGE = page("logging.md")
FIELDS: dict[str, type[msgspec.Struct]] = {"call": lines.CallLine, "usage": usage.UsageLine}
UNITS = {"bytes": "bytes", "ms": "ms", "tokens": "tokens"}


@pytest.mark.parametrize("name", FIELDS)
def test_every_field_has_a_row_and_every_row_a_field(name: str) -> None:
    rows = table(PAGE, name)
    assert [row[0] for row in rows] == [f"`{field}`" for field in FIELDS[name].__struct_fields__]
    assert [row for row in rows if not row[2].endswith(".")] == []


@pytest.mark.parametrize("name", FIELDS)
def test_a_unit_is_the_one_that_the_name_tells(name: str) -> None:
    for field, unit, _ in table(PAGE, name):
        found = re.fullmatch(r"`(?:.+_)?(bytes|ms|tokens)(?:_.+)?`", field)
        assert unit == (UNITS[found[1]] if found else unit), field


def test_every_ending_is_named() -> None:
    row = next(row for row in table(PAGE, "call") if row[0] == "`ending`")
    assert re.findall(r"`(\w+)`", row[2]) == [str(ending) for ending in Ending]


def test_what_the_examples_ask_for_is_there() -> None:
    blocks = re.findall(r"```(?:sh|text|sql)\n(.*?)```", PAGE, re.DOTALL)
    known = set(lines.CallLine.__struct_fields__) | set(usage.UsageLine.__struct_fields__)
    jq = {name for block in blocks for name in re.findall(r"(?<![\w.])\.([a-z_]{2,})", block)}
    assert {"event", "code", "request_id", "first_token_ms", "completion_tokens", "key"} <= jq <= known
    queries = " ".join(block for block in blocks if block.startswith("filter"))
    asked = set(re.findall(r"(?:filter|and|pct\(|avg\(|by) ?([a-z_]{2,})\b", queries)) - {"bin"}
    assert {"event", "logger", "stream", "first_token_ms", "gateway_ms", "code", "key"} <= asked <= known


@pytest.mark.parametrize(
    ("said", "value"),
    [
        (r"at most ([\d.]+) seconds later", round(log.LATE_S + writer.DELAY_S, 3)),
        (r"loses what the last ([\d.]+) seconds brought", round(log.LATE_S + writer.DELAY_S, 3)),
        (r"up to (\d+) MiB of lines wait", writer.PENDING_BYTES / 1024 / 1024),
        (r"(\d+) KiB more are kept free for failures", writer.URGENT_BYTES / 1024),
        (r"in writes of at most (\d+) bytes", writer.WHOLE_BYTES),
        (r"with pauses up to (\d+) seconds", usage.LONGEST_WAIT_S),
        (r"for at most (\d+) seconds after the last call", usage.CLOSE_S),
    ],
)
def test_a_number_is_the_one_in_the_code(said: str, value: float) -> None:
    found = re.search(said, " ".join(PAGE.split()))
    assert found, f"docs/logging.md no longer says {said!r}"
    assert float(found[1]) == value


def test_durations_in_words_are_those_in_the_code() -> None:
    assert "for at most two seconds" in PAGE
    assert writer.CLOSE_S == 2


def test_every_choice_of_settings_is_explained() -> None:
    said = re.search(r"`log_calls` chooses: (.+?)\. ", PAGE)
    assert said
    assert tuple(re.findall(r"`(\w+)`", said[1])) == get_args(Which)
    assert get_args(Settings.model_fields["log_calls"].annotation) == get_args(Which)
    kinds = re.findall(r"^\| `(file|stdout|s3|firehose)[:`]", PAGE, re.MULTILINE)
    assert sorted(kinds) == sorted(get_args(Kind))
    assert "usage_sink" in ModelsFile.model_fields
    for name in UsageSink.model_fields:
        assert f"`{name}`" in PAGE or f"  {name}:" in PAGE, name


def test_a_file_put_aside_is_called_as_told() -> None:
    assert "`NAME.20260131T235900Z.SUFFIX`" in PAGE
    assert usage_files.MODE & 0o007 == 0
