"""What a container's error means, in every shape and for every version group that words it differently."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.errors import ContainerFault, FaultKind, MalformedReply
from adapters.registry import make
from tests.adapters.calls import chat, recording, whole_reply

INVALID, CONTEXT, REJECTED = FaultKind.INVALID_REQUEST, FaultKind.CONTEXT_LENGTH, FaultKind.REJECTED
MISCONFIGURED, OVERLOADED = FaultKind.MISCONFIGURED, FaultKind.OVERLOADED
UNAVAILABLE, FAILED, UNSUPPORTED = FaultKind.UNAVAILABLE, FaultKind.FAILED, FaultKind.UNSUPPORTED

TOO_LONG = (
    "This model's maximum context length is 1024 tokens. However, you requested 1030 tokens (1022 in the messages, 8 in"
    " the completion). Please reduce the length of the messages or completion."
)
NO_TOOLS = (
    "This model's container runs without a tool parser, so it calls no tools: leave out tools, or set tool_choice to"
    " none."
)
NO_PARSER = '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set'
VALIDATION = (
    "2 validation errors for ChatCompletionRequest\nmax_tokens\n  Input should be a valid integer, unable to parse"
    " string as an integer [type=int_parsing, input_value='many', input_type=str]\n    For further information visit"
    " https://errors.pydantic.dev/2.11/v/int_parsing\nmessages.0.role\n  Field required [type=missing,"
    " input_value={'content': 'x'}, input_type=dict]\n    For further information visit"
    " https://errors.pydantic.dev/2.11/v/missing"
)
READABLE = (
    "max_tokens: Input should be a valid integer, unable to parse string as an integer; messages.0.role: Field required"
)


def a(text: str, code: int) -> bytes:
    """Shape A, escaped as Gson does."""
    body = json.dumps({"error": text, "code": code}, separators=(",", ":"))
    for character in "'<>&=":
        body = body.replace(character, f"\\u{ord(character):04x}")
    return body.encode()


def b(code: int, kind: str, message: str) -> bytes:
    return json.dumps({"code": code, "type": kind, "message": message}, indent=2).encode()


def c(code: int, message: str = "Async Inference Failure service.invoke_handler_async() failure") -> bytes:
    lost = {
        "code": code,
        "message": message,
        "properties": {},
        "content": {"keys": [], "values": []},
        "cancelled": False,
    }
    return json.dumps(lost, separators=(",", ":")).encode()


def printed(message: str, kind: str, param: str | None, code: int) -> str:
    """Pydantic's print of an ErrorResponse."""
    return f"error=ErrorInfo(message={message!r}, type={kind!r}, param={param!r}, code={code})"


ALL = tuple(range(15, 29))
OLD, BROKEN, PRINTED, LOST = (15,), (16, 17), (18, 19, 20, 21, 22), (23, 24, 25, 26, 27, 28)
NO_MODEL = "The model `x` does not exist."
NETTY = "reasonPhrase contains one of the following prohibited characters: \\r\\n: "

LMI: list[tuple[str, tuple[int, ...], int, bytes, FaultKind, str, str | None]] = [
    ("several lines of validation", ALL, 500,
     b(500, "IllegalArgumentException", f"{NETTY}Input parsing failed: {VALIDATION}"),
     INVALID, READABLE, "max_tokens"),
    ("bad JSON", ALL, 424, a("Input parsing failed: Expecting value: line 1 column 15 (char 14)", 424),
     INVALID, "Expecting value: line 1 column 15 (char 14)", None),
    ("no known key", ALL, 424,
     a("Input parsing failed: invalid payload. must contain prompt, inputs, or messages", 424),
     INVALID, "invalid payload. must contain prompt, inputs, or messages", None),
    ("unknown adapter", ALL[1:], 424,
     a("Input parsing failed: LoRA adapter n not found in registry. Available adapters: []", 424),
     MISCONFIGURED, "LoRA adapter n not found in registry. Available adapters: []", None),
    ("formatter failed", ALL[1:], 424, a("Custom formatter failed: division by zero", 424),
     FAILED, "Custom formatter failed: division by zero", None),
    ("unknown model", OLD, 404, a(NO_MODEL, 404), MISCONFIGURED, NO_MODEL, None),
    ("unknown model", BROKEN, 424, c(424), REJECTED, "most often an unknown served model name", None),
    ("unknown model", PRINTED + LOST, 500, a(printed(NO_MODEL, "NotFoundError", "model", 404), 500),
     MISCONFIGURED, NO_MODEL, "model"),
    ("auto without a parser", OLD, 400, a(NO_PARSER, 400), UNSUPPORTED, NO_TOOLS, "tools"),
    ("auto without a parser", PRINTED + LOST, 500, a(printed(NO_PARSER, "BadRequestError", None, 400), 500),
     UNSUPPORTED, NO_TOOLS, "tools"),
    ("too long", OLD, 400, a(TOO_LONG, 400), CONTEXT, TOO_LONG, None),
    ("too long", BROKEN, 424, c(424), REJECTED, "a prompt that is too long", None),
    ("too long", PRINTED, 500, a(printed(TOO_LONG, "BadRequestError", None, 400), 500), CONTEXT, TOO_LONG, None),
    ("too long", LOST, 424, c(424), REJECTED, "exceed the model's context", None),
    ("several lines of vLLM's", OLD, 500,
     b(500, "IllegalArgumentException", f"{NETTY}Grammar error: at 1(8):\n  invalid"),
     INVALID, "Grammar error: at 1(8):\n  invalid", None),
    ("unsupported", PRINTED, 500, a(printed("echo is not supported", "NotImplementedError", None, 501), 500),
     INVALID, "echo is not supported", None),
    ("out of memory", ALL, 507, c(507), FAILED, "Async Inference Failure", None),
    ("model not loaded", ALL, 400, b(400, "BadRequestException", "Parameter model_name is required."),
     MISCONFIGURED, "Parameter model_name is required.", None),
    ("worker restarting", ALL, 400, b(400, "TranslateException", "Backend Python process is stopped."),
     UNAVAILABLE, "Backend Python process is stopped.", None),
    ("queue full", ALL, 503, b(503, "WlmCapacityException", "No worker is available to serve request: model"),
     OVERLOADED, "No worker is available", None),
    ("engine died", ALL, 500, c(500, "Inference Engine Failure"), UNAVAILABLE, "Inference Engine Failure", None),
    ("unknown path", ALL, 404, b(404, "ResourceNotFoundException", "Requested resource is not found"),
     MISCONFIGURED, "Requested resource", None),
    ("front end refused", ALL, 400, b(400, "BadRequestException", "Invalid header"), INVALID, "Invalid header", None),
    ("front end failed", ALL, 500, b(500, "InternalServerException", "oops"), FAILED, "oops", None),
]  # fmt: skip


@pytest.mark.parametrize(
    ("version", "status", "body", "kind", "message", "param"),
    [
        pytest.param(version, status, body, kind, message, param, id=f"{name}-lmi{version}")
        for name, versions, status, body, kind, message, param in LMI
        for version in versions
    ],
)
def test_every_error_of_every_lmi_version(
    version: int, status: int, body: bytes, kind: FaultKind, message: str, param: str | None
) -> None:
    fault = make("lmi", str(version)).decode_error(status, body)
    assert (fault.kind, fault.param) == (kind, param)
    assert (
        message in fault.message
        if kind is REJECTED or kind in (OVERLOADED, FAILED)
        else fault.message.startswith(message)
    )


RECORDED = [
    ("lmi-err-adapter-unknown", MISCONFIGURED, "LoRA adapter nope not found", None),
    ("lmi-err-empty-messages", REJECTED, "The container refused the request without saying why", None),
    ("lmi-err-malformed-json", INVALID, "Expecting value", None),
    ("lmi-err-temperature", REJECTED, "The container refused the request without saying why", None),
    ("lmi-err-too-long", REJECTED, "The container refused the request without saying why", None),
    ("lmi-err-too-long-stream", REJECTED, "The container refused the request without saying why", None),
    ("lmi-err-unknown-model", MISCONFIGURED, "The model `nope` does not exist.", "model"),
    ("lmi-err-unroutable", INVALID, "invalid payload.", None),
    ("vllm032-fault-engine-killed-then-chat", UNAVAILABLE, "EngineCore encountered an issue.", None),
    ("vllm032-scripted-err-bad-part", INVALID, "8 validation errors for ValidatorIterator", None),
    ("vllm032-scripted-err-bad-regex", INVALID, "Grammar error: at 1(8): invalid regex", None),
    ("vllm032-scripted-err-bad-schema", INVALID, "Grammar error: Invalid type: nonsense", None),
    ("vllm032-scripted-err-completion-suffix", INVALID, "suffix is only supported", "suffix"),
    (
        "vllm032-scripted-err-content-type-invocations",
        MISCONFIGURED,
        "1 validation error:\n  Unsupported Media Type",
        None,
    ),
    ("vllm032-scripted-err-embeddings", MISCONFIGURED, "Not Found", None),
    ("vllm032-scripted-err-empty-messages", INVALID, "Cannot apply chat template", None),
    ("vllm032-scripted-err-image-on-text-model", INVALID, "tiny-scripted is not a multimodal model", None),
    ("vllm032-scripted-err-invocations-adapter-unknown", MISCONFIGURED, "The model `nope` does not exist.", "model"),
    (
        "vllm032-scripted-err-invocations-new-session",
        MISCONFIGURED,
        "Invalid payload. stateful sessions not enabled",
        None,
    ),
    ("vllm032-scripted-err-invocations-session-header", MISCONFIGURED, "Invalid payload. stateful sessions", None),
    (
        "vllm032-scripted-err-invocations-unroutable",
        INVALID,
        "Either prompt or prompt_embeds must be provided",
        "prompt",
    ),
    ("vllm032-scripted-err-logprobs-too-many", INVALID, "Requested sample logprobs of 50", "logprobs"),
    ("vllm032-scripted-err-malformed-json-invocations", INVALID, "JSON decode error", None),
    ("vllm032-scripted-err-malformed-json", INVALID, "1 validation error", None),
    ("vllm032-scripted-err-max-tokens-zero", INVALID, "max_tokens must be at least 1", "max_tokens"),
    ("vllm032-scripted-err-max-tokens", CONTEXT, "max_tokens=100000 cannot be greater", "max_tokens"),
    ("vllm032-scripted-err-method", MISCONFIGURED, "Method Not Allowed", None),
    ("vllm032-scripted-err-n-zero", INVALID, "n must be at least 1", None),
    ("vllm032-scripted-err-no-messages", INVALID, "1 validation error", "messages"),
    ("vllm032-scripted-err-temperature", INVALID, "temperature must be non-negative", "temperature"),
    ("vllm032-scripted-err-too-long", CONTEXT, "This model's maximum context length is 1024 tokens.", None),
    ("vllm032-scripted-err-too-long-completion", CONTEXT, "This model's maximum context length", None),
    ("vllm032-scripted-err-too-long-stream", CONTEXT, "This model's maximum context length", None),
    ("vllm032-scripted-err-tool-choice-no-tools", INVALID, "When using `tool_choice`", "tool_choice"),
    ("vllm032-scripted-err-tool-named-missing", INVALID, "The tool specified in `tool_choice`", "tool_choice"),
    ("vllm032-scripted-err-top-p", INVALID, "top_p must be in (0, 1]", "top_p"),
    ("vllm032-scripted-err-unknown-model", MISCONFIGURED, "The model `nope` does not exist.", "model"),
    ("vllm032-scripted-err-wrong-type", INVALID, "1 validation error", "max_tokens"),
    ("vllm032-vl-err-image-bad-base64", INVALID, "Non-base64 digit found", None),
]


@pytest.mark.parametrize(("name", "kind", "message", "param"), RECORDED, ids=[row[0] for row in RECORDED])
def test_every_recorded_error(name: str, kind: FaultKind, message: str, param: str | None) -> None:
    exchange = recording(name)
    fault = exchange.adapter.decode_error(exchange.status, exchange.reply)
    assert (fault.kind, fault.param) == (kind, param)
    assert fault.message.startswith(message)


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        pytest.param(
            400, {"object": "error", "message": TOO_LONG, "type": "BadRequestError", "code": 400}, CONTEXT, id="flat"
        ),
        pytest.param(
            404, {"object": "error", "message": NO_MODEL, "param": None, "code": 404}, MISCONFIGURED, id="flat, 404"
        ),
        pytest.param(501, {"error": {"message": "no", "code": 501}}, INVALID, id="not implemented"),
        pytest.param(400, {"error": {"message": "no", "code": "400"}}, INVALID, id="code a string"),
        pytest.param(
            500, {"error": {"message": "no", "code": 400}}, INVALID, id="the code knows better than the status"
        ),
        pytest.param(500, {"error": {"message": "boom", "code": 500}}, FAILED, id="internal error"),
        pytest.param(507, {"error": {"message": "out of memory", "code": 507}}, FAILED, id="out of memory"),
        pytest.param(
            500, {"error": {"message": "max_model_len is None", "code": 500}}, FAILED, id="not the caller's context"
        ),
        pytest.param(503, {"error": {"message": "busy", "code": 503}}, OVERLOADED, id="overloaded"),
        pytest.param(429, {"error": {"message": "busy"}}, OVERLOADED, id="too many"),
        pytest.param(502, {"error": "bad gateway"}, UNAVAILABLE, id="a proxy in between"),
        pytest.param(401, {"error": "Unauthorized"}, MISCONFIGURED, id="the server wants a key"),
        pytest.param(422, {"detail": [{"loc": ["body", "n"], "msg": "no"}]}, INVALID, id="a detail that is a list"),
    ],
)
def test_errors_of_the_vllm_server(status: int, body: dict[str, Any], kind: FaultKind) -> None:
    assert make("vllm", "0.32").decode_error(status, json.dumps(body).encode()).kind is kind


@pytest.mark.parametrize("container", [("lmi", "27"), ("vllm", "0.32")])
@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        pytest.param(500, b"", FAILED, id="empty"),
        pytest.param(503, b"<html>busy</html>", OVERLOADED, id="a page"),
        pytest.param(400, b"\xff\xfe", INVALID, id="not text"),
        pytest.param(500, b"[" * 10_000, FAILED, id="deep"),
        pytest.param(500, b"[]", FAILED, id="an array"),
        pytest.param(500, b"{}", FAILED, id="an empty object"),
        pytest.param(500, b'{"error":null}', FAILED, id="error null"),
        pytest.param(500, b'{"error":{"message":5,"code":[]}}', FAILED, id="wrong types"),
        pytest.param(404, b'{"message":5}', MISCONFIGURED, id="message a number"),
        pytest.param(0, b"", FAILED, id="no status"),
    ],
)
def test_an_unreadable_error_is_judged_by_its_status(
    container: tuple[str, str], status: int, body: bytes, kind: FaultKind
) -> None:
    fault = make(*container).decode_error(status, body)
    assert fault.kind is kind
    assert fault.message


@given(st.integers(0, 999), st.binary(max_size=200) | st.text(max_size=100).map(lambda text: a(text, 500)))
def test_no_error_body_raises(status: int, body: bytes) -> None:
    for adapter in (make("lmi", "15"), make("lmi", "27"), make("vllm", "0.8")):
        assert isinstance(adapter.decode_error(status, body), ContainerFault)


@given(st.text(max_size=60), st.none() | st.text(max_size=10), st.integers(400, 599))
def test_a_printed_error_object_is_read_back(message: str, param: str | None, code: int) -> None:
    fault = make("lmi", "20").decode_error(500, a(printed(f"m {message}", "X", param, code), 500))
    assert fault.message == f"m {message}".strip()
    if param and not param.isdigit() and not param.startswith("body.") and param not in ("body", "input_tokens"):
        assert fault.param == param


@pytest.mark.parametrize(
    "text",
    [
        "error=ErrorInfo(message='unterminated, code=404)",
        "error=ErrorInfo(message='bad escape \\x', type='X', param=None, code=404)",
        "error=ErrorInfo(",
        "error=ErrorInfo(code=404)",
        "error=ErrorInfo(message='m', code=0404404404404)",
        "error=" * 5000,
    ],
)
def test_a_broken_print_is_shown_as_it_is(text: str) -> None:
    fault = make("lmi", "20").decode_error(500, a(text, 500))
    assert fault.kind is FAILED
    assert fault.message[:50] == text[:50]


@pytest.mark.parametrize(
    "quoted",
    [
        "EngineCore encountered an issue",
        "Inference Engine Failure",
        "Backend Python process is stopped.",
        "The model `x` does not exist.",
        "Parameter model_name is required.",
    ],
)
def test_a_caller_cannot_make_a_container_look_broken_by_being_quoted(quoted: str) -> None:
    """Such a fault would count against the deployment, and a caller could shut others out."""
    reports = f"1 validation error for ChatCompletionRequest\nuser\n  Input should be a number, not '{quoted}'"
    vllm = {"error": {"message": reports, "type": "Bad Request", "code": 400}}
    assert make("vllm", "0.32").decode_error(400, json.dumps(vllm).encode()).kind is INVALID
    for version, status, body in (
        ("15", 400, a(f"Invalid value: {quoted}", 400)),
        ("20", 500, a(printed(f"Invalid value: {quoted}", "BadRequestError", None, 400), 500)),
        ("27", 500, b(500, "IllegalArgumentException", f"{NETTY}Input parsing failed: {reports}")),
        ("27", 424, a(f"Input parsing failed: '{quoted}'", 424)),
    ):
        assert make("lmi", version).decode_error(status, body).kind is INVALID


def test_a_long_message_is_clipped() -> None:
    fault = make("vllm", "0.32").decode_error(400, json.dumps({"error": {"message": "x" * 10_000}}).encode())
    assert len(fault.message) == 2000
    assert fault.message.endswith("…")


@pytest.mark.parametrize(
    ("container", "body", "kind"),
    [
        pytest.param(("vllm", "0.32"), b'{"error":{"message":"no","code":400}}', INVALID, id="vllm, nested"),
        pytest.param(("vllm", "0.8"), b'{"object":"error","message":"no","code":400}', INVALID, id="vllm, flat"),
        pytest.param(
            ("lmi", "27"), a(printed(NO_MODEL, "NotFoundError", "model", 404), 500), MISCONFIGURED, id="lmi, A"
        ),
        pytest.param(
            ("lmi", "27"), b(400, "TranslateException", "Backend Python process is stopped."), UNAVAILABLE, id="lmi, B"
        ),
        pytest.param(("lmi", "27"), c(424), REJECTED, id="lmi, C"),
    ],
)
def test_an_error_object_with_status_200_is_a_fault(container: tuple[str, str], body: bytes, kind: FaultKind) -> None:
    fault = make(*container).decode_whole(chat(), body)
    assert isinstance(fault, ContainerFault)
    assert fault.kind is kind


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"<html></html>", id="a page"),
        pytest.param(b'{"id":"x","object":"chat.completion","choices":[{"finish_reason":"st', id="cut"),
        pytest.param(b"[]", id="an array"),
        pytest.param(b'{"generated_text":"x"}', id="another schema"),
        pytest.param(b'{"object":"text_completion","choices":[{"text":"x"}]}', id="another surface"),
        pytest.param(b'{"object":"chat.completion.chunk","choices":[{"delta":{}}]}', id="a chunk"),
        pytest.param(b'{"object":"chat.completion","choices":[]}', id="no choices"),
        pytest.param(b'{"object":"chat.completion","choices":{}}', id="choices an object"),
        pytest.param(b'{"object":"chat.completion"}', id="choices missing"),
        pytest.param(b'{"object":"chat.completion","choices":[{"finish_reason":1}]}', id="a reason that is a number"),
        pytest.param(b'{"object":"chat.completion","choices":[{"message":{"content":"\xff"}}]}', id="not UTF-8"),
    ],
)
@pytest.mark.parametrize("container", [("lmi", "27"), ("vllm", "0.32")])
def test_a_reply_that_is_no_completion_is_malformed(container: tuple[str, str], body: bytes) -> None:
    with pytest.raises(MalformedReply):
        make(*container).decode_whole(chat(), body)


def test_a_reply_over_the_limit_is_malformed() -> None:
    body = recording("vllm032-scripted-chat").reply
    whole_reply(make("vllm", "0.32", max_reply_bytes=len(body)), chat(), body)
    with pytest.raises(MalformedReply):
        make("vllm", "0.32", max_reply_bytes=len(body) - 1).decode_whole(chat(), body)


@pytest.mark.parametrize(("reason", "kind"), [(b"abort", UNAVAILABLE), (b"error", FAILED)])
def test_an_answer_that_vllm_says_it_did_not_finish_is_a_fault(reason: bytes, kind: FaultKind) -> None:
    body = recording("vllm032-scripted-chat").reply.replace(b'"finish_reason":"stop"', b'"finish_reason":"%b"' % reason)
    fault = make("vllm", "0.32").decode_whole(chat(), body)
    assert isinstance(fault, ContainerFault)
    assert fault.kind is kind
