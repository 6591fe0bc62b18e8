"""What LMI containers answer when something is wrong, by version: `lmi15.unknown_model` … `lmi27.engine_died`.

The Python handler and DJL's Java front build three shapes, and which one arrives changed with the versions, because
the vLLM below changed from returning its errors to raising them.

    A  {"error":"…","code":424}                            the handler set a code
    B  {"code":…,"type":"…Exception","message":"…"}         the Java front failed, pretty-printed
    C  {"code":424,"message":"Async Inference Failure …}    the handler raised; the reason is only in the logs

https://github.com/deepjavalibrary/djl-serving: engines/python/setup/djl_python/lmi_vllm/vllm_async_service.py,
request_response_utils.py; engines/python/src/main/java/ai/djl/python/engine/{Request,AsyncRequestManager}.java;
serving/src/main/java/ai/djl/serving/util/NettyUtils.java
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass

VERSIONS = range(15, 28)


@dataclass(frozen=True, slots=True)
class Answer:
    """A container's answer: a whole one with a status, or (status 200) bytes that end a running stream."""

    status: int
    body: bytes
    content_type: str | None = "application/json"


def find(name: str) -> Answer:
    """Return the preset of that name, such as `lmi23.context_too_long`.

    Raises:
        ValueError: no such version or situation; the text lists what there is.
    """
    version, _, situation = name.partition(".")
    number = int(version[3:]) if version.startswith("lmi") and version[3:].isdigit() else 0
    if number not in VERSIONS:
        raise ValueError(f"unknown preset {name!r}: versions are lmi{VERSIONS[0]} to lmi{VERSIONS[-1]}")
    if situation not in SITUATIONS:
        raise ValueError(f"unknown preset {name!r}: situations are {', '.join(SITUATIONS)}")
    return SITUATIONS[situation](number)


def names() -> list[str]:
    """Return every preset's name."""
    return [f"lmi{version}.{situation}" for version in VERSIONS for situation in SITUATIONS]


# --- Situations ----------------------------------------------------------------------------------------------------

TOO_LONG = (
    "This model's maximum context length is 1024 tokens. However, you requested 3017 tokens (3001 in the messages, 16 "
    "in the completion). Please reduce the length of the messages or completion."
)
TOO_LONG_INPUT = (
    "This model's maximum context length is 1024 tokens. However, your request has 3001 input tokens. Please reduce "
    "the length of the input messages."
)
TEMPERATURE = "temperature must be non-negative, got -1.0."
TEMPLATE = "Conversation roles must alternate user/assistant/user/assistant/..."
TOOL_CHOICE = '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set'
ENGINE = "EngineCore encountered an issue. See stack trace (above) for the root cause."
PYDANTIC = (
    "1 validation error for ChatCompletionRequest\n"
    "temperature\n"
    "  Input should be a valid number, unable to parse string as a number [type=float_parsing, "
    "input_value='hot', input_type=str]\n"
    "    For further information visit https://errors.pydantic.dev/2.11/v/float_parsing"
)


def _invalid_body(version: int) -> Answer:
    # Netty refuses line breaks in a reason phrase, so the 424 the handler meant becomes a 500.
    return shape_b(
        500,
        "IllegalArgumentException",
        "reasonPhrase contains one of the following prohibited characters: \\r\\n: Input parsing failed: " + PYDANTIC,
    )


def _malformed_json(version: int) -> Answer:
    return shape_a(424, "Input parsing failed: Expecting value: line 1 column 15 (char 14)")


def _unroutable(version: int) -> Answer:
    return shape_a(424, "Input parsing failed: invalid payload. must contain prompt, inputs, or messages")


def _unknown_adapter(version: int) -> Answer:
    return shape_a(424, "Input parsing failed: LoRA adapter nope not found in registry. Available adapters: []")


def _unknown_model(version: int) -> Answer:
    return _returned(version, "The model `nope` does not exist.", "NotFoundError", "model", 404)


def _tool_choice(version: int) -> Answer:
    return _returned(version, TOOL_CHOICE, "BadRequestError", None, 400)


def _context_too_long(version: int) -> Answer:
    return _raised(version, TOO_LONG if version == 15 else TOO_LONG_INPUT)


def _bad_sampling(version: int) -> Answer:
    return _raised(version, TEMPERATURE)


def _template_error(version: int) -> Answer:
    return _raised(version, TEMPLATE)


def _tgi_schema_error(version: int) -> Answer:
    # Until LMI 26 the formatter of the TGI schema looked for `choices` in the error itself.
    return shape_c(424) if version < 26 else _returned(version, TOO_LONG_INPUT, "BadRequestError", None, 400)


def _out_of_memory(version: int) -> Answer:
    return shape_c(507)


def _not_loaded(version: int) -> Answer:
    return shape_b(400, "BadRequestException", "Parameter model_name is required.")


def _worker_stopped(version: int) -> Answer:
    return shape_b(400, "TranslateException", "Backend Python process is stopped.")


def _queue_full(version: int) -> Answer:
    return shape_b(503, "WlmCapacityException", "Worker queue capacity exceeded for model: model")


def _engine_died(version: int) -> Answer:
    return shape_c(500, "Inference Engine Failure")


def _unknown_path(version: int) -> Answer:
    return shape_b(404, "ResourceNotFoundException", "Requested resource is not found, please refer to API document.")


def _stream_engine_error(version: int) -> Answer:
    error: dict[str, object] = {"message": ENGINE, "type": "InternalServerError", "param": None, "code": 500}
    if version < 16:
        error = {"object": "error", **error}
    return Answer(200, _compact({"error": error}) + b"\n\n", "application/jsonlines")


def _stream_formatter_error(version: int) -> Answer:
    text = "'NoneType' object has no attribute 'top_logprobs'"
    return Answer(200, shape_a(424, text).body, "application/jsonlines")


def _stream_engine_died(version: int) -> Answer:
    return Answer(200, shape_c(500, "Inference Engine Failure").body, "application/jsonlines")


SITUATIONS: Mapping[str, Callable[[int], Answer]] = {
    "invalid_body": _invalid_body,
    "malformed_json": _malformed_json,
    "unroutable": _unroutable,
    "unknown_adapter": _unknown_adapter,
    "unknown_model": _unknown_model,
    "tool_choice": _tool_choice,
    "context_too_long": _context_too_long,
    "bad_sampling": _bad_sampling,
    "template_error": _template_error,
    "tgi_schema_error": _tgi_schema_error,
    "out_of_memory": _out_of_memory,
    "not_loaded": _not_loaded,
    "worker_stopped": _worker_stopped,
    "queue_full": _queue_full,
    "engine_died": _engine_died,
    "unknown_path": _unknown_path,
    "stream_engine_error": _stream_engine_error,
    "stream_formatter_error": _stream_formatter_error,
    "stream_engine_died": _stream_engine_died,
}


# --- Shapes --------------------------------------------------------------------------------------------------------


def _returned(version: int, message: str, kind: str, param: str | None, code: int) -> Answer:
    """An error that vLLM returns, so that the handler formats it."""
    if version == 15:
        return shape_a(code, message)
    if version <= 17:
        return shape_c(424)  # The handler looks for .message in the nested error and fails.
    return shape_a(500, f"error=ErrorInfo(message={message!r}, type={kind!r}, param={param!r}, code={code})")


def _raised(version: int, message: str) -> Answer:
    """An error that vLLM returned up to 0.17 and raises from 0.18 (LMI 23) on."""
    return shape_c(424) if version >= 23 else _returned(version, message, "BadRequestError", None, 400)


def shape_a(code: int, text: str) -> Answer:
    """Request.addResponse."""
    return Answer(code, _gson({"error": text, "code": code}))


def shape_b(code: int, kind: str, message: str) -> Answer:
    """NettyUtils.sendError."""
    body = json.dumps({"code": code, "type": kind, "message": message}, indent=2, ensure_ascii=False)
    return Answer(code, _escape_html(body).encode() + b"\n")


def shape_c(code: int, message: str = "Async Inference Failure service.invoke_handler_async() failure") -> Answer:
    """AsyncRequestManager.sendErrorResponse: an Output dumped whole, without a content type."""
    output = {
        "code": code,
        "message": message,
        "properties": {},
        "content": {"keys": [], "values": []},
        "cancelled": False,
    }
    return Answer(code, _gson(output), None)


def _gson(value: object) -> bytes:
    return _escape_html(_compact(value).decode()).encode()


def _escape_html(text: str) -> str:
    # Gson's default; none of these characters can stand outside a string in JSON.
    for character in "'<>&=":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _compact(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
