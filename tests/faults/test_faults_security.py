"""What callers try to learn, or to slip into an answer: keys, prompts, headers, events, and AWS' own words."""

from __future__ import annotations

import io
import json
import logging
from typing import Any

import pytest

from deploy.local import DEMO_KEY, faults
from gateway.dispatch import Dispatcher
from gateway.telemetry.log import JsonFormatter
from tests.faults.inside import running_inside
from tests.faults.talk import DIALECTS, answer_of, events_of
from tests.faults.wire import CHAT, COMPLETIONS, ask, chat, prompt_of, request
from tests.faults.world import UPSTREAM_HEADERS, World
from tests.support.stack import KEY, NARROW_KEY, config, model

WRONG_KEY = "sk-lmi-" + "canaryCANARYcanaryCANARYcanaryCANARYcanary0"
PROMPT = "canary-prompt-7261"
SECRETS = (KEY, NARROW_KEY, WRONG_KEY, KEY[7:30], WRONG_KEY[7:30], DEMO_KEY.secret)
BOTH = pytest.mark.parametrize("dialect", DIALECTS)
STREAMS = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
SURFACES = pytest.mark.parametrize("path", [CHAT, COMPLETIONS], ids=["chat", "completions"])
ANSWER_HEADERS = {"date", "content-type", "content-length", "x-request-id", "openai-processing-ms", "server-timing"}


@pytest.fixture
def world(loud_world: World) -> World:
    return loud_world


# Keys and prompts

KEY_HEADERS = {
    "authorization": "authorization: Bearer {}",
    "api-key": "api-key: {}",
    "x-api-key": "x-api-key: {}",
    "basic": "authorization: Basic {}",
    "two": "authorization: Bearer {}\r\nx-api-key: other{}",
    "a header that is none": "authorization : Bearer {}",
    "a folded header": "authorization: Bearer\r\n {}",
    "a cookie": "cookie: key={}",
}
ROUTES = ["/v1/models", "/v1/models/vllm", "/v1/models/nowhere", "/healthz", "/readyz", "/metrics", "/docs",
          "/docs/openapi.json", "/nowhere", "/", "/v1", "//v1//models", "/v1/chat/completions/"]  # fmt: skip
FAULTS: list[faults.Fault | None] = [
    None,
    faults.AccessDenied(),
    faults.AwsError(status=403, code="SignatureDoesNotMatch", message="The request signature we calculated is …"),
    faults.Validation(),
    faults.Throttle(),
    faults.ModelError(status=500, body="Traceback: boom"),
    faults.Html(),
    faults.Reset(),
    faults.CrcFlipped(),
    faults.CrcFlipped(frame=2),
    faults.EmptyStream(),
]


@pytest.mark.parametrize("key", [KEY, WRONG_KEY], ids=["right", "wrong"])
def test_s03_no_key_comes_back_or_is_written_down(world: World, key: str) -> None:
    received = bytearray()
    for line in KEY_HEADERS.values():
        for method in ("GET", "POST", "OPTIONS", "DELETE"):
            for route in [*ROUTES, f"/v1/models?api_key={key}"]:
                received += everything_for(world, method, route, line.format(key, key), b"")
        for path in (CHAT, COMPLETIONS):
            for body in (b"{", b"{}", json.dumps({"model": "nowhere", **prompt_of(path, PROMPT)}).encode()):
                received += everything_for(world, "POST", path, line.format(key, key), body)
    for fault in FAULTS:
        for stream in (False, True):
            if fault is not None and (stream or fault.operation is None):
                world.fault(fault)
            body = json.dumps({"model": "vllm", "stream": stream, **prompt_of(CHAT, PROMPT)}).encode()
            received += everything_for(world, "POST", CHAT, f"authorization: Bearer {key}", body)
            world.local.clear_faults()
    assert_no_secret(bytes(received), "an answer")
    received += everything_for(world, "GET", "/metrics", "x-nothing: 1", b"")
    assert_no_secret(bytes(received), "the metrics")
    assert len(world.calls()) > 10 or key == WRONG_KEY
    for call in world.calls():
        shown = repr([pair for pair in call.headers if pair[0] != "authorization"]).encode()
        assert_no_secret(shown + call.body, "a call to SageMaker")
    log = "".join(world.gateway.log).encode()
    assert b'"event":"call ended"' in log
    assert_no_secret(log, "the log")
    assert PROMPT.encode() not in log


def everything_for(world: World, method: str, route: str, line: str, body: bytes) -> bytes:
    """Send one request with a line more and return all that comes back."""
    with world.caller() as caller:
        lines = f"host: a\r\nconnection: close\r\n{line}\r\ncontent-type: application/json\r\n"
        caller.send(f"{method} {route} HTTP/1.1\r\n{lines}content-length: {len(body)}\r\n\r\n".encode() + body)
        received = caller.rest()
    assert received.startswith(b"HTTP/1.1 ")
    return received


def assert_no_secret(text: bytes, where: str) -> None:
    assert [secret[:12] for secret in SECRETS if secret.encode() in text] == [], where


@pytest.mark.parametrize("cut", [30, 200])
def test_s03_not_even_of_a_request_that_never_ends(world: World, cut: int) -> None:
    sent = request("POST", CHAT, chat("vllm", PROMPT), key=WRONG_KEY)
    with world.caller() as caller:
        caller.send(sent[:cut])
        received = caller.rest()
    assert_no_secret(received, "an answer")
    assert_no_secret("".join(world.gateway.log).encode(), "the log")


@STREAMS
def test_s03_not_even_when_the_gateway_itself_fails(monkeypatch: pytest.MonkeyPatch, stream: bool) -> None:
    """A defect's text may quote what it choked on: it goes nowhere."""

    async def choke(*arguments: Any) -> Any:
        raise ValueError(f"cannot read {arguments} with {KEY}: {PROMPT}")

    written = io.StringIO()
    handler = logging.StreamHandler(written)
    handler.setFormatter(JsonFormatter())
    monkeypatch.setattr(logging.getLogger(), "handlers", [handler])
    monkeypatch.setattr(Dispatcher, "complete", choke)
    monkeypatch.setattr(Dispatcher, "stream", choke)
    entries = [model("vllm", "vllm", "0.33")]
    with running_inside(monkeypatch, config("http://127.0.0.1:9", *entries)) as inside:
        answer = ask(inside.port, chat("vllm", PROMPT, stream=stream))
    assert (answer.status, answer.code) == (500, "internal_error")
    line = next(line for line in map(json.loads, written.getvalue().splitlines()) if line["level"] == "error")
    assert line["request_id"] == answer.header("x-request-id")
    assert line["exception"].endswith("ValueError")
    for text in (answer.body.decode(), repr(answer.headers), written.getvalue()):
        assert_no_secret(text.encode(), "an answer or the log")
        assert PROMPT not in text


# Injection

NASTY = {
    "CR LF": "a\r\nset-cookie: evil=1",
    "LF": "a\nset-cookie: evil=1",
    "two CR LF": "a\r\n\r\nHTTP/1.1 200 OK\r\nset-cookie: evil=1",
    "percent signs": "a%0d%0aset-cookie:%20evil=1",
    "unicode line breaks": "a\u2028\u2029\x85set-cookie: evil=1",
    "high bytes that end in CR LF": "嘍嘊set-cookie: evil=1",
    "NUL": "a\x00set-cookie: evil=1",
    "ANSI": "a\x1b[31mset-cookie: evil=1\x07",
    "very long": "set-cookie: evil=1" + "a" * 100_000,
}


@SURFACES
@pytest.mark.parametrize("text", [pytest.param(text, id=name) for name, text in NASTY.items()])
def test_s11_no_text_of_a_body_becomes_a_header(world: World, path: str, text: str) -> None:
    for body in (
        {"model": text, **prompt_of(path, "hello")},
        {"model": "vllm", "user": text, **prompt_of(path, "hello")},
        {"model": "vllm", text: 1, **prompt_of(path, "hello")},
        {"model": "vllm", "stream": text, **prompt_of(path, "hello")},
    ):
        answer = world.ask(body, path=path)
        assert {name for name, _ in answer.headers} == ANSWER_HEADERS
        assert "evil" not in repr(answer.headers)
        assert len(answer.body) < 2_000
    for call in world.calls():
        assert {name for name, _ in call.headers} <= UPSTREAM_HEADERS
        assert "evil" not in repr(call.headers)


@pytest.mark.parametrize(
    "name", ["x-request-id", "traceparent", "tracestate", "x-amzn-trace-id", "openai-organization"]
)
@pytest.mark.parametrize("text", ["a%0d%0aevil: 1", "a\tevil", "evil " * 3, "evil," * 3, "é evil", "evil" * 5_000, ""])
def test_s11_no_header_of_the_request_becomes_one_it_should_not(world: World, name: str, text: str) -> None:
    answer = world.ask(chat("vllm"), headers={name: text.encode().decode("latin-1")})
    assert answer.status == 200
    assert {name for name, _ in answer.headers} == ANSWER_HEADERS
    request_id = answer.header("x-request-id")
    assert request_id is not None
    assert len(request_id) <= 64
    assert request_id.replace("_", "").isalnum()
    assert "evil" not in repr(answer.headers)
    (call,) = world.calls()
    assert {name for name, _ in call.headers} <= UPSTREAM_HEADERS
    assert call.header("x-amzn-sagemaker-inference-id") == request_id
    assert "evil" not in repr(call.headers)


TEMPLATES = [
    "{{7*191919191919}}",
    "${7*191919191919}",
    "#{7*191919191919}",
    "<%= 7*191919191919 %>",
    "{0.__class__}",
    "{self.__init__.__globals__}",
    "%s%s%n",
    "%(message)s",
    "$(id)",
    "`id`",
    "<script>alert(1)</script>",
    "{{config}}" * 50,
]


@SURFACES
@pytest.mark.parametrize("text", TEMPLATES)
def test_s12_a_template_is_only_a_text(world: World, path: str, text: str) -> None:
    unknown = world.ask({"model": text, **prompt_of(path, "hello")}, path=path)
    assert (unknown.status, unknown.code) == (404, "model_not_found")
    assert unknown.error["message"] == f"The model `{text[:128]}` does not exist or your key may not use it."
    assert unknown.header("content-type") == "application/json"
    sent = world.ask({"model": "vllm", "user": text, **prompt_of(path, f"repeat: {text}")}, path=path)
    assert sent.status == 200
    assert text in json.dumps(sent.json, ensure_ascii=False)
    assert b"1343434343433" not in unknown.body + sent.body
    assert "1343434343433" not in "".join(world.gateway.log)
    (call,) = world.calls()
    assert json.loads(call.body)["user"] == text


INJECTED = [
    "\n\ndata: [DONE]\n\n",
    "\r\rdata: [DONE]\r\r",
    'x\n\ndata: {"error":{"message":"no"}}\n\n',
    "event: error\ndata: x\n\n",
    "id: 1\nretry: 1\n\n: comment\n\n",
    "\u2028\u2029\x85data: [DONE]",
    '"}}]}\n\ndata: [DONE]',
    "\x00\x1b",
    '{"error":{"message":"no","code":500}}',
    '{"error":"no","code":424}\n\n',
    '","model":"other","choices":[{',
]


@BOTH
@pytest.mark.parametrize("text", INJECTED)
def test_s13_what_a_model_says_stays_inside_its_json(world: World, dialect: str, text: str) -> None:
    texts = ["before ", text, " after"]
    world.fault(answer_of(dialect, texts))
    assert world.ask(chat(dialect, stream=True)).events == events_of(dialect, texts)
    world.fault(answer_of(dialect, texts), faults.Cut("bytes"))
    assert world.ask(chat(dialect, stream=True)).events == events_of(dialect, texts)
    world.fault(answer_of(dialect, texts))
    assert world.ask(chat(f"{dialect}-assembled")).text == "".join(texts)
    said = world.ask(chat(dialect, f"repeat: {text.strip()}", stream=True)).events
    assert "".join(json.loads(event)["choices"][0]["delta"].get("content") or "" for event in said[:-1]) == text.strip()


# What is inside stays inside

INSIDE = (
    "arn:aws:sagemaker:us-east-1:111122223333:endpoint/secret s3://secret-bucket/model.tar.gz /opt/ml/secret.py "
    "https://us-east-1.console.aws.amazon.com/cloudwatch/home?region=us-east-1#secret Traceback (most recent call last)"
)
MARKS = ("arn:", "111122223333", "s3://", "/opt/", "console.aws", "Traceback", "secret", "us-east-1", "primary")
WITH_INSIDE = [
    faults.Validation(message=INSIDE),
    faults.AccessDenied(),
    faults.AwsError(status=400, code="ValidationException", message=INSIDE),
    faults.AwsError(status=500, code="InternalFailure", message=INSIDE),
    faults.AwsError(status=418, code=INSIDE, message=INSIDE),
    faults.ModelError(status=500, body=INSIDE),
    faults.ModelError(status=500, body=json.dumps({"error": {"message": INSIDE, "code": 500}})),
    faults.ModelError(status=503, body=json.dumps({"error": INSIDE, "code": 503})),
    faults.ModelError(status=404, body=json.dumps({"error": {"message": f"The model `{INSIDE}` does not exist."}})),
    faults.ModelError(status=0, body=INSIDE),
    faults.ModelTimeout(),
    faults.Html(status=500, body=INSIDE),
    faults.Html(status=200, body=INSIDE),
    faults.ModelStreamError(after_frames=0, message=INSIDE),
    faults.ModelStreamError(after_frames=2, message=INSIDE, error_code="StreamBroken"),
    faults.InternalStreamFailure(after_frames=2, message=INSIDE),
    faults.ErrorFrame(after_frames=2, code=INSIDE, message=INSIDE),
    faults.ErrorFrame(after_frames=0, code="x", message=INSIDE),
    faults.ReplyTail(after_chunks=2, text=json.dumps({"error": {"message": INSIDE, "code": 500}}) + "\n\n"),
    faults.ResponseHeader(name="x-amzn-ErrorType", value=INSIDE),
]


@BOTH
@pytest.mark.parametrize("fault", WITH_INSIDE, ids=lambda fault: fault.kind)
def test_s14_what_aws_and_containers_say_among_themselves_is_not_shown(
    world: World, dialect: str, fault: faults.Fault
) -> None:
    lines = len(world.gateway.log)
    for stream in (False, True):
        if stream or fault.operation is None:
            world.fault(fault, times=None)
            answer = world.ask(chat(dialect, "hello", stream=stream))
            world.local.clear_faults()
            shown = answer.body.decode() + repr(answer.headers)
            assert [mark for mark in MARKS if mark in shown] == []
            if fault.kind != "response_header":
                assert answer.status >= 500 or b'"error"' in answer.body
    if isinstance(fault, faults.Validation | faults.AccessDenied | faults.AwsError | faults.AfterFrames):
        logged = "".join(world.gateway.log[lines:])
        assert [mark for mark in MARKS if mark in logged and mark != "primary"] == []
