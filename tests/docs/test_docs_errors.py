"""docs/errors.md has every code, every mapped AWS error and every kind of container fault, and nothing else."""

from __future__ import annotations

import json
import re
from types import SimpleNamespace
from typing import Any, get_args

import pytest
from openai import OpenAI

from adapters.openai.refusal import Code
from gateway.errors import UpstreamFault
from gateway.http.docs_document import errors
from gateway.http.errors import BAD_REQUESTS
from gateway.routing.attempts import RetryBudget, backoff_s
from gateway.sagemaker.errors import fault
from tests.docs.reading import page, table
from tests.docs.tables import renewed

PAGE = page("errors.md")
WORDS = " ".join(PAGE.split())
CODES = {row[0].partition("`")[2].partition("`")[0]: row for row in table(PAGE, "codes")}


def test_the_tables_are_current() -> None:
    assert renewed("errors.md") == PAGE, "run `python -m tests.docs.tables`"


@pytest.mark.parametrize("row", [
    "| [`route_not_found`](#route_not_found) | 404 | `invalid_request_error` | No such URL. | no | – |",
    "| `ThrottlingException` | `upstream_throttled` | no |",
    "| `ServiceUnavailable` | `upstream_unavailable` | yes |",
    "| 401, 403 | `upstream_auth` | no |",
    "| 503 | `upstream_unavailable` | yes |",
    "| other 4xx | `upstream_misconfigured` | no |",
])  # fmt: skip
def test_rows_read_like_this(row: str) -> None:
    assert row in PAGE.splitlines()


@pytest.mark.parametrize("code", list(errors()))
def test_a_code_has_a_heading_and_says_whether_to_retry_and_what_to_do(code: str) -> None:
    assert CODES[code][4] in ("yes", "perhaps", "no")
    section = re.search(rf"^### {code}\n\n(.+?)(?=^#|\Z)", PAGE, re.DOTALL | re.MULTILINE)
    assert section, f"docs/errors.md has no heading for {code}"
    assert len(section[1].split()) >= 7


def test_what_may_be_retried_and_who_can_mend_it_goes_with_the_status() -> None:
    for code, (_, status, type_, _, retry, wait) in CODES.items():
        assert (type_ == "`server_error`") is (int(status) >= 500), code
        assert wait == "–" or retry == "yes", code
        assert retry == "no" or int(status) in (408, 429, 500, 502, 503, 504), code


def test_no_heading_is_left_over() -> None:
    assert set(re.findall(r"^### (\w+)$", PAGE, re.MULTILINE)) == set(errors())


def test_every_refusal_of_a_body_is_a_documented_code() -> None:
    assert set(get_args(Code)) == set(BAD_REQUESTS)
    assert {kind.code for kind in BAD_REQUESTS.values()} == set(get_args(Code)) <= set(CODES)


def test_what_is_said_about_retries_holds() -> None:
    assert "one further attempt for every ten calls, three at once after a quiet time" in WORDS
    budget = RetryBudget()
    assert [budget.spend() for _ in range(4)] == [True, True, True, False]
    for _ in range(10):
        budget.first_attempt()
    assert [budget.spend() for _ in range(2)] == [True, False]
    assert "It waits up to 0.2 seconds before a second attempt, up to twice as long before each further one" in WORDS
    for attempt, longest_s in ((2, 0.2), (3, 0.4), (4, 0.8)):
        assert longest_s * 0.7 < max(backoff_s(attempt) for _ in range(200)) <= longest_s


def test_the_statuses_that_clients_retry_are_those_of_the_official_one() -> None:
    with OpenAI(api_key="k", base_url="http://127.0.0.1:9/v1") as client:
        answers: list[Any] = [SimpleNamespace(status_code=status, headers={}) for status in range(400, 600)]
        retried = {answer.status_code for answer in answers if client._should_retry(answer)}
    assert retried == {408, 409, 429, *range(500, 600)}
    assert client.max_retries == 2
    assert "**408, 409, 429 and every 5xx**" in WORDS


def test_the_error_event_in_the_page_is_the_one_that_is_sent() -> None:
    event = re.search(r"^data: \{.*\}$", PAGE, re.MULTILINE)
    assert event
    kind = errors()[json.loads(event[0].removeprefix("data: "))["error"]["code"]]
    assert issubclass(kind, UpstreamFault)
    assert event[0].encode() + b"\n\n" == fault(kind, "").event()
