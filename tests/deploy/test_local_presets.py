"""LMI's errors by version: the shapes of every release, against literal texts and recorded answers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from deploy.local import presets

RECORDINGS = Path(__file__).parent.parent / "recordings"
C = (
    b'{"code":424,"message":"Async Inference Failure service.invoke_handler_async() failure","properties":{},'
    b'"content":{"keys":[],"values":[]},"cancelled":false}'
)
REPR = (
    b'{"error":"error\\u003dErrorInfo(message\\u003d\\u0027The model `nope` does not exist.\\u0027, '
    b'type\\u003d\\u0027NotFoundError\\u0027, param\\u003d\\u0027model\\u0027, code\\u003d404)","code":500}'
)
TOO_LONG_15 = (
    b'{"error":"This model\\u0027s maximum context length is 1024 tokens. However, you requested 3017 tokens (3001 in '
    b'the messages, 16 in the completion). Please reduce the length of the messages or completion.","code":400}'
)
TOO_LONG_18 = (
    b'{"error":"error\\u003dErrorInfo(message\\u003d\\"This model\\u0027s maximum context length is 1024 tokens. '
    b'However, your request has 3001 input tokens. Please reduce the length of the input messages.\\", '
    b'type\\u003d\\u0027BadRequestError\\u0027, param\\u003dNone, code\\u003d400)","code":500}'
)
ROWS = [
    ("lmi15.unknown_model", 404, b'{"error":"The model `nope` does not exist.","code":404}'),
    ("lmi16.unknown_model", 424, C),
    ("lmi17.unknown_model", 424, C),
    ("lmi18.unknown_model", 500, REPR),
    ("lmi22.unknown_model", 500, REPR),
    ("lmi27.unknown_model", 500, REPR),
    ("lmi15.context_too_long", 400, TOO_LONG_15),
    ("lmi17.context_too_long", 424, C),
    ("lmi18.context_too_long", 500, TOO_LONG_18),
    ("lmi22.context_too_long", 500, TOO_LONG_18),
    ("lmi23.context_too_long", 424, C),
    ("lmi27.context_too_long", 424, C),
    ("lmi15.bad_sampling", 400, b'{"error":"temperature must be non-negative, got -1.0.","code":400}'),
    ("lmi24.bad_sampling", 424, C),
    (
        "lmi15.template_error",
        400,
        b'{"error":"Conversation roles must alternate user/assistant/user/assistant/...","code":400}',
    ),
    ("lmi23.template_error", 424, C),
    (
        "lmi15.tool_choice",
        400,
        b'{"error":"\\"auto\\" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set",'
        b'"code":400}',
    ),
    ("lmi16.tool_choice", 424, C),
    ("lmi15.tgi_schema_error", 424, C),
    ("lmi25.tgi_schema_error", 424, C),
    ("lmi26.tgi_schema_error", 500, TOO_LONG_18),
    ("lmi27.out_of_memory", 507, C.replace(b"424", b"507")),
    (
        "lmi15.not_loaded",
        400,
        b'{\n  "code": 400,\n  "type": "BadRequestException",\n  "message": "Parameter model_name is required."\n}\n',
    ),
    (
        "lmi20.worker_stopped",
        400,
        b'{\n  "code": 400,\n  "type": "TranslateException",\n  "message": "Backend Python process is stopped."\n}\n',
    ),
    (
        "lmi27.queue_full",
        503,
        b'{\n  "code": 503,\n  "type": "WlmCapacityException",\n  "message": "Worker queue capacity exceeded for '
        b'model: model"\n}\n',
    ),
    (
        "lmi27.engine_died",
        500,
        b'{"code":500,"message":"Inference Engine Failure","properties":{},"content":{"keys":[],"values":[]},'
        b'"cancelled":false}',
    ),
    (
        "lmi15.stream_engine_error",
        200,
        b'{"error":{"object":"error","message":"EngineCore encountered an issue. See stack trace (above) for the root '
        b'cause.","type":"InternalServerError","param":null,"code":500}}\n\n',
    ),
    (
        "lmi16.stream_engine_error",
        200,
        b'{"error":{"message":"EngineCore encountered an issue. See stack trace (above) for the root cause.",'
        b'"type":"InternalServerError","param":null,"code":500}}\n\n',
    ),
    (
        "lmi27.stream_formatter_error",
        200,
        b'{"error":"\\u0027NoneType\\u0027 object has no attribute \\u0027top_logprobs\\u0027","code":424}',
    ),
]


@pytest.mark.parametrize(("name", "status", "body"), [pytest.param(*row, id=row[0]) for row in ROWS])
def test_presets(name: str, status: int, body: bytes) -> None:
    answer = presets.find(name)
    assert (answer.status, answer.body) == (status, body)


@pytest.mark.parametrize(
    ("preset", "recording"),
    [
        ("lmi27.unknown_model", "lmi-err-unknown-model"),
        ("lmi27.unknown_adapter", "lmi-err-adapter-unknown"),
        ("lmi27.unroutable", "lmi-err-unroutable"),
        ("lmi27.malformed_json", "lmi-err-malformed-json"),
        ("lmi27.context_too_long", "lmi-err-too-long"),
        ("lmi27.bad_sampling", "lmi-err-temperature"),
        ("lmi27.template_error", "lmi-err-empty-messages"),
    ],
)
def test_presets_equal_recorded_answers(preset: str, recording: str) -> None:
    response = json.loads((RECORDINGS / f"{recording}.json").read_text())["response"]
    answer = presets.find(preset)
    assert (answer.status, answer.body.decode()) == (response["status"], response["body"]["text"])
    content_type = dict(response["headers"]).get("Content-Type")
    assert answer.content_type == content_type


def test_a_multi_line_reason_becomes_a_500_of_the_java_front() -> None:
    answer = presets.find("lmi23.invalid_body")
    body = json.loads(answer.body)
    assert (answer.status, body["code"], body["type"]) == (500, 500, "IllegalArgumentException")
    assert body["message"].startswith(
        "reasonPhrase contains one of the following prohibited characters: \\r\\n: Input parsing failed: 1 validation "
        "error for ChatCompletionRequest\ntemperature\n"
    )


def test_every_preset_is_json_without_what_gson_escapes() -> None:
    assert len(presets.names()) == 13 * 19
    for name in presets.names():
        body = presets.find(name).body
        json.loads(body)
        assert not set(b"'<>&=") & set(body), name
