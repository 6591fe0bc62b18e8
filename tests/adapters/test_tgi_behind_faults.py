"""What a TGI container's errors mean: its own, those of the framework below it, and those in streams of chats."""

from __future__ import annotations

from typing import Any

import pytest

from adapters.errors import FaultKind
from adapters.registry import make
from adapters.tgi.behind_faults import judge_reply
from tests.adapters.behind import dumps

TGI = make("tgi", "3.3")
INVALID, CONTEXT, FAILED = FaultKind.INVALID_REQUEST, FaultKind.CONTEXT_LENGTH, FaultKind.FAILED


@pytest.mark.parametrize(("status", "kind", "text", "expected", "message", "param"), [
    (422, "validation", "Input validation error: `temperature` must be strictly positive", INVALID,
     "`temperature` must be strictly positive", "temperature"),
    (422, "validation", "Input validation error: `stop` supports up to 4 stop sequences. Given: 5", INVALID,
     "`stop` supports up to 4 stop sequences. Given: 5", "stop"),
    (422, "validation", "Input validation error: `max_new_tokens` must be strictly positive", INVALID,
     "`max_new_tokens` must be strictly positive", None),
    (422, "validation", "Input validation error: grammar is not valid: Grammar must have a 'properties' field", INVALID,
     "grammar is not valid: Grammar must have a 'properties' field", None),
    (422, "validation", "Input validation error: `inputs` must have less than 1024 tokens. Given: 2000", CONTEXT,
     "`inputs` must have less than 1024 tokens. Given: 2000", None),
    (422, "validation", "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 2048. Given: 9 `inputs`"
     " tokens and 3000 `max_new_tokens`", CONTEXT, "`inputs` tokens + `max_new_tokens` must be <= 2048. Given: 9"
     " `inputs` tokens and 3000 `max_new_tokens`", None),
    (422, "validation", "Input validation error: `max_new_tokens` must be <= 99. Given: 100", CONTEXT,
     "`max_new_tokens` must be <= 99. Given: 100", None),
    (422, "template_error", "Template error: template not found", INVALID, "Template error: template not found", None),
    (422, "missing_template_variable", "Missing template vatiable: x", INVALID, "Missing template vatiable: x", None),
    (422, "tool_error", "Tool error: Tool with name x not found", INVALID, "Tool error: Tool with name x not found",
     None),
    (422, "tool_error", 'Tool error: Failed to parse generated text: EOF "{"', FAILED,
     'Tool error: Failed to parse generated text: EOF "{"', None),
    (424, "generation", "Request failed during generation: Server error: CUDA out of memory", FAILED,
     "Request failed during generation: Server error: CUDA out of memory", None),
    (429, "overloaded", "Model is overloaded", FaultKind.OVERLOADED, "Model is overloaded", None),
    (500, "incomplete_generation", "Incomplete generation", FAILED, "Incomplete generation", None),
    (500, "incomplete_generation_stream", "Incomplete generation stream", FAILED, "Incomplete generation stream", None),
    (500, "stream_serialization_error", "Stream event serialization error", FAILED, "Stream event serialization error",
     None),
    (503, "healthcheck", "unhealthy", FaultKind.UNAVAILABLE, "unhealthy", None),
    (422, "batch size exceeded", "Number of prompts exceeds the maximum allowed batch size of 4", INVALID,
     "Number of prompts exceeds the maximum allowed batch size of 4", None),
    (418, "new in some version", "Something", INVALID, "Something", None),
    (500, "new in some version", "Something", FAILED, "Something", None),
])  # fmt: skip
def test_an_error_reply(
    status: int, kind: str, text: str, expected: FaultKind, message: str, param: str | None
) -> None:
    fault = TGI.decode_error(status, dumps({"error": text, "error_type": kind}))
    assert (fault.kind, fault.message, fault.param) == (expected, message, param)


@pytest.mark.parametrize(("text", "expected"), [
    ("Input validation error: `inputs` must have less than 10 tokens. Given: 20", CONTEXT),
    ("Input validation error: `top_p` must be > 0.0 and < 1.0", INVALID),
    ("Model is overloaded", FaultKind.OVERLOADED),
    ("Request failed during generation: x", FAILED),
    ("Incomplete generation stream", FAILED),
])  # fmt: skip
def test_errors_in_streams_of_chats_are_judged_by_their_words_as_the_code_is_always_422(
    text: str, expected: FaultKind
) -> None:
    fault = judge_reply({"error": {"message": text, "http_status_code": 422}}, 500)
    assert fault is not None
    assert fault.kind is expected


@pytest.mark.parametrize(("status", "text", "expected"), [
    (400, "Failed to parse the request body as JSON: EOF while parsing at line 1 column 3", INVALID),
    (422, "Failed to deserialize the JSON body into the target type: parameters.top_k: invalid type: string", INVALID),
    (422, "Failed to deserialize the JSON body into the target type: missing field `inputs` at line 1 column 9",
     FaultKind.MISCONFIGURED),
    (422, "Failed to deserialize the JSON body into the target type: missing field `messages` at line 1 column 9",
     FaultKind.MISCONFIGURED),
    (422, "Failed to deserialize the JSON body into the target type: data did not match any variant of untagged enum"
     " SagemakerRequest", INVALID),
    (404, "", FaultKind.MISCONFIGURED),
    (405, "", FaultKind.MISCONFIGURED),
    (401, "", FaultKind.MISCONFIGURED),
    (502, "<html>Bad gateway</html>", FaultKind.UNAVAILABLE),
    (503, "", FaultKind.OVERLOADED),
])  # fmt: skip
def test_plain_text(status: int, text: str, expected: FaultKind) -> None:
    fault = TGI.decode_error(status, text.encode())
    assert fault.kind is expected
    assert fault.message == (text or f"The container answered with status {status}.")


def test_a_request_that_is_too_long_for_the_container_is_told_so() -> None:
    fault = TGI.decode_error(413, b"Failed to buffer the request body: length limit exceeded")
    text = "The request is longer than this model's container takes, which is 2 MB (2000000) unless set otherwise."
    assert (fault.kind, fault.message, fault.param) == (INVALID, text, None)


@pytest.mark.parametrize(
    "body", [b"", b"\xff", b"[]", b"null", b"{}", b'{"error":null}', b'{"error":7}', b'{"error":{}}']
)
def test_an_unreadable_error_is_judged_by_its_status(body: bytes) -> None:
    assert TGI.decode_error(500, body).kind is FAILED
    assert TGI.decode_error(429, body).kind is FaultKind.OVERLOADED


@pytest.mark.parametrize("reply", [{}, {"error": None}, {"generated_text": "a"}, {"choices": []}])
def test_what_reports_no_error(reply: dict[str, Any]) -> None:
    assert judge_reply(reply, 200) is None


def test_a_long_message_is_clipped() -> None:
    error = {"error": "Input validation error: " + "x" * 5000, "error_type": "validation"}
    assert len(TGI.decode_error(422, dumps(error)).message) <= 2000
