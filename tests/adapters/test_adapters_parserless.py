"""A container without a tool parser: one answer, whichever version it runs and however that words it."""

from __future__ import annotations

from typing import Any

import pytest

from adapters.errors import ContainerFault, FaultKind
from adapters.openai.faults import NO_TOOL_PARSER, judge
from adapters.registry import make
from tests.adapters.calls import chat
from tests.adapters.engines import DIALECTS, failed, minor_of

TOOL = {"type": "function", "function": {"name": "f"}}
NAMED = {"type": "function", "function": {"name": "f"}}
WITHOUT = {"tool_parser": False}
LOSES_IT = ("lmi16", "lmi17")
"""Their handler fails on the error object that vLLM returns."""
CLEAR = ContainerFault(FaultKind.UNSUPPORTED, NO_TOOL_PARSER, "tools")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("choice", [{}, {"tool_choice": "auto"}])
@pytest.mark.parametrize("dialect", DIALECTS)
def test_tools_are_refused_in_the_same_words_by_every_version(
    dialect: str, choice: dict[str, Any], stream: bool
) -> None:
    fault = failed(dialect, WITHOUT, tools=[TOOL], stream=stream, **choice)
    if dialect not in LOSES_IT:
        assert fault == CLEAR
        return
    assert (fault.kind, fault.param) == (FaultKind.REJECTED, None)
    assert fault.message == (
        "The container refused the request without saying why: most often it runs without a tool parser, which a call"
        " with tools needs; or the served model name is unknown, the prompt too long, or a parameter out of range."
    )


@pytest.mark.parametrize("choice", ["required", NAMED])
@pytest.mark.parametrize("dialect", [dialect for dialect in DIALECTS if minor_of(dialect) >= 14])
def test_so_are_those_that_are_demanded(dialect: str, choice: Any) -> None:
    assert failed(dialect, WITHOUT, tools=[TOOL], tool_choice=choice) == CLEAR


@pytest.mark.parametrize(
    "message",
    [
        '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set',
        'tool_choice="required" requires --tool-call-parser to be set',
        "tool_choice=\"function=ChatCompletionNamedFunction(name='f')\" requires --tool-call-parser to be set",
        'tool_choice=function "f" requires --tool-call-parser to be set',
    ],
)
def test_every_wording_is_understood(message: str) -> None:
    assert judge(400, message) == CLEAR


@pytest.mark.parametrize("message", ['The text tool_choice="x" requires --y to be set', "tool_choice= requires --"])
def test_other_words_stay_the_container_s(message: str) -> None:
    assert judge(400, message) == ContainerFault(FaultKind.INVALID_REQUEST, message)


LOST = b'{"code":424,"message":"Async Inference Failure","properties":{},"content":{},"cancelled":false}'


@pytest.mark.parametrize(
    ("version", "fields", "blamed"),
    [
        ("16", {"tools": [TOOL]}, True),
        ("17", {"tools": [TOOL], "tool_choice": "auto"}, True),
        ("17", {"tools": [TOOL], "tool_choice": "required"}, True),
        ("16", {"tools": [TOOL], "tool_choice": "required"}, False),
        ("16", {"tools": [TOOL], "tool_choice": "none"}, False),
        ("16", {"tools": []}, False),
        ("16", {}, False),
        ("23", {"tools": [TOOL]}, False),
    ],
)
def test_a_missing_parser_is_suspected_only_where_it_can_be_the_reason(
    version: str, fields: dict[str, Any], blamed: bool
) -> None:
    fault = make("lmi", version).decode_error(424, LOST, chat(**fields))
    assert fault.kind is FaultKind.REJECTED
    assert ("tool parser" in fault.message) is blamed
    assert "tool parser" not in make("lmi", version).decode_error(424, LOST).message
