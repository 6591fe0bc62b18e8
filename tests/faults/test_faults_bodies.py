"""Request bodies that are too large, no JSON, too deep, double, or of another kind: none of them gets further."""

from __future__ import annotations

import gzip
import json
import time
import zlib

import pytest

from tests.faults.wire import CHAT, COMPLETIONS, chat, request
from tests.faults.world import MAX_BODY_BYTES, World

PATHS = pytest.mark.parametrize("path", [CHAT, COMPLETIONS], ids=["chat", "completions"])


def head(path: str, *lines: str) -> bytes:
    return request("POST", path, headers=dict(line.split(": ", 1) for line in lines))


# Size


@PATHS
@pytest.mark.parametrize("expect", [False, True], ids=["", "expecting 100"])
def test_c08_a_declared_terabyte_is_refused_before_any_of_it_is_read(world: World, path: str, expect: bool) -> None:
    before = world.rss_bytes()
    lines = ["content-type: application/json", "content-length: 1000000000000"]
    with world.caller() as caller:
        caller.send(head(path, *lines, *(["expect: 100-continue"] if expect else [])))
        answer = caller.answer()
        assert (answer.status, answer.code, answer.interim) == (413, "request_too_large", ())
        assert answer.header("connection") == "close"
        assert caller.rest() == b""
    assert world.rss_bytes() - before < 1024 * 1024
    assert world.calls() == []


@PATHS
@pytest.mark.parametrize("chunked", [False, True], ids=["declared", "chunked"])
def test_c08_a_caller_who_sends_too_much_gets_to_read_why(world: World, path: str, chunked: bool) -> None:
    """A server that just closed would reset the connection, and the answer could be lost with it."""
    before = world.rss_bytes()
    body = b" " * (MAX_BODY_BYTES + 500_000)
    with world.caller() as caller:
        if chunked:
            caller.send(head(path, "content-type: application/json", "transfer-encoding: chunked"))
            caller.send(b"%x\r\n" % len(body) + body)
        else:
            caller.send(head(path, "content-type: application/json", f"content-length: {len(body)}") + body)
        answer = caller.answer()
        assert (answer.status, answer.code) == (413, "request_too_large")
        assert answer.header("connection") == "close"
    assert world.rss_bytes() - before < 8 * MAX_BODY_BYTES


def test_c08_a_body_of_just_the_limit_passes(world: World) -> None:
    filler = MAX_BODY_BYTES - len(json.dumps(chat("vllm", "")))
    body = json.dumps(chat("vllm", "x" * filler)).encode()
    assert len(body) == MAX_BODY_BYTES
    assert world.ask(body).code == "context_length_exceeded"  # the container's answer: so it was sent
    assert world.ask(body + b" ").status == 413


# Syntax

SOUND = json.dumps(chat("vllm")).encode()
NOT_JSON = {
    "empty": b"",
    "blank": b" \r\n\t ",
    "cut": SOUND[:-1],
    "cut in a string": SOUND[:20],
    "NaN": SOUND[:-1] + b', "temperature": NaN}',
    "Infinity": SOUND[:-1] + b', "temperature": -Infinity}',
    "bad UTF-8": SOUND.replace(b"hello", b"hel\xfflo"),
    "UTF-8 of a surrogate": SOUND.replace(b"hello", b"\xed\xa0\x80"),
    "overlong UTF-8": SOUND.replace(b"hello", b"\xc0\xaf"),
    "UTF-16": SOUND.decode().encode("utf-16"),
    "UTF-16 without a mark": SOUND.decode().encode("utf-16-le"),
    "UTF-32": SOUND.decode().encode("utf-32"),
    "a byte order mark": b"\xef\xbb\xbf" + SOUND,
    "a lone surrogate": SOUND.replace(b"hello", rb"\ud800"),
    "a lone low surrogate": SOUND.replace(b"hello", rb"\udc00 x"),
    "a swapped pair": SOUND.replace(b"hello", rb"\ude00\ud83d"),
    "trailing data": SOUND + b"x",
    "two documents": SOUND + b"\n" + SOUND,
    "a trailing comma": SOUND[:-1] + b",}",
    "single quotes": b"{'model': 'vllm', 'messages': []}",
    "a comment": SOUND + b" // comment",
    "an unquoted name": b'{model: "vllm"}',
    "a leading zero": SOUND[:-1] + b', "n": 01}',
    "a hexadecimal number": SOUND[:-1] + b', "n": 0x1}',
    "a plus sign": SOUND[:-1] + b', "n": +1}',
    "a control character": SOUND.replace(b"hello", b"hel\x01lo"),
    "a line break in a string": SOUND.replace(b"hello", b"hel\nlo"),
    "a NUL": SOUND + b"\x00",
    "a bad escape": SOUND.replace(b"hello", rb"\x41"),
    "form data": b"model=vllm&messages=hello",
    "an array": b"[" + SOUND + b"]",
    "a string": b'"hello"',
    "a number": b"7",
    "null": b"null",
}


@PATHS
@pytest.mark.parametrize("body", [pytest.param(body, id=name) for name, body in NOT_JSON.items()])
def test_c09_what_is_no_json_object_is_400(world: World, path: str, body: bytes) -> None:
    answer = world.ask(body, path=path)
    assert (answer.status, answer.code, answer.error["param"]) == (400, "invalid_json", None)
    assert world.calls() == []


def nested(depth: int, *, objects: bool) -> bytes:
    return b'{"a":' * depth + b"1" + b"}" * depth if objects else b"[" * depth + b"]" * depth


@PATHS
@pytest.mark.parametrize("objects", [False, True], ids=["arrays", "objects"])
@pytest.mark.parametrize("depth", [101, 1_000, 100_000])
@pytest.mark.parametrize("place", [b'"tools"', b'"unknown"', b'"messages"', b'"metadata"'])
def test_c10_deep_nesting_is_refused_at_once(world: World, path: str, objects: bool, depth: int, place: bytes) -> None:
    body = SOUND[:-1] + b", " + place + b": " + nested(depth, objects=objects) + b"}"
    taken_s = []
    for _ in range(3):  # others use this machine, too
        began = time.monotonic()
        answer = world.ask(body, path=path)
        taken_s.append(time.monotonic() - began)
        assert (answer.status, answer.code) == (400, "invalid_json")
    assert min(taken_s) <= 0.05
    assert world.calls() == []


def test_c10_an_ordinary_depth_passes(world: World) -> None:
    schema: dict[str, object] = {"type": "string"}
    for _ in range(20):
        schema = {"type": "object", "properties": {"a": schema}}
    tool = {"type": "function", "function": {"name": "deep", "parameters": schema}}
    assert world.ask(chat("vllm", tools=[tool])).status == 200


HUGE = [
    pytest.param(b"7" * 400_000, id="400 000 digits"),
    pytest.param(b"-" + b"7" * 400_000, id="400 000 digits below zero"),
    pytest.param(b"1e400", id="1e400"),
    pytest.param(b"1e999999999", id="1e999999999"),
    pytest.param(b"0." + b"7" * 400_000 + b"e400", id="400 000 digits after the point"),
]


@PATHS
@pytest.mark.parametrize("field", [b'"max_tokens"', b'"seed"', b'"temperature"', b'"unknown"'])
@pytest.mark.parametrize("number", HUGE)
def test_c11_numbers_that_fit_nowhere_are_refused_at_once(world: World, path: str, field: bytes, number: bytes) -> None:
    body = SOUND.replace(b'"max_tokens": 1000', b'"prompt": "x"') if path == COMPLETIONS else SOUND
    body = body.replace(b', "max_tokens": 1000', b"")[:-1] + b", " + field + b": " + number + b"}"
    taken_s = []
    for _ in range(3):
        began = time.monotonic()
        answer = world.ask(body, path=path)
        taken_s.append(time.monotonic() - began)
        assert answer.status == 400
    assert min(taken_s) <= 0.05
    assert world.calls() == []


TWICE = {
    "model": b'{"model": "nowhere", "model": "vllm", "messages": [{"role": "user", "content": "hello"}]}',
    "stream": SOUND[:-1] + b', "stream": true, "stream": false}',
    "stream, apart": b'{"stream": true, ' + SOUND[1:-1] + b', "stream": false}',
    "messages": SOUND[:-1] + b', "messages": []}',
    "an escaped name": SOUND[:-1] + rb', "mod\u0065l": "vllm"}',
    "an unknown name": SOUND[:-1] + b', "x": 1, "x": 2}',
    "max_tokens": SOUND[:-1] + b', "max_tokens": 1}',
}


@pytest.mark.parametrize("body", [pytest.param(body, id=name) for name, body in TWICE.items()])
def test_c12_a_field_that_occurs_twice_is_refused(world: World, body: bytes) -> None:
    answer = world.ask(body)
    assert (answer.status, answer.code) == (400, "duplicate_parameter")
    assert world.calls() == []


def test_c12_what_is_sent_on_is_what_was_checked(world: World) -> None:
    body = b'{"messages":[{"role":"user","content":"h\\u00e9llo"}],"temperature":1.50,"model":"vllm","max_tokens":9}'
    assert world.ask(body).status == 200
    (call,) = world.calls()
    assert call.body == b'{"messages":[{"role":"user","content":"h\\u00e9llo"}],"max_tokens":9,"temperature":1.50}'


# Kind


@PATHS
@pytest.mark.parametrize(
    "content_type",
    [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/octet-stream",
        "application/xml",
        "application/jsonp",
        "text/json",
        "json",
    ],
)
def test_c14_another_content_type_is_415(world: World, path: str, content_type: str) -> None:
    answer = world.ask(SOUND, path=path, headers={"content-type": content_type})
    assert (answer.status, answer.code) == (415, "unsupported_media_type")
    assert world.calls() == []


@pytest.mark.parametrize(
    "content_type",
    ["application/json", "application/json; charset=utf-8", "Application/JSON", "application/problem+json"],
)
def test_c14_every_spelling_of_json_passes(world: World, content_type: str) -> None:
    assert world.ask(SOUND, headers={"content-type": content_type}).status == 200


def test_c14_no_content_type_at_all_passes(world: World) -> None:
    with world.caller() as caller:
        caller.send(head(CHAT, f"content-length: {len(SOUND)}") + SOUND)
        assert caller.answer().status == 200


@PATHS
def test_c14_a_form_is_never_parsed(world: World, path: str) -> None:
    """A thousand parts, one of them without end: no parser of forms gets to see them."""
    before = world.rss_bytes()
    part = b'--x\r\ncontent-disposition: form-data; name="messages"; filename="a"\r\n\r\nhello\r\n'
    answer = world.ask(part * 5_000, path=path, headers={"content-type": "multipart/form-data; boundary=x"})
    assert (answer.status, answer.code) == (415, "unsupported_media_type")
    assert world.rss_bytes() - before < 4 * 1024 * 1024


BOMB = gzip.compress(b" " * 200_000_000, compresslevel=1)


@PATHS
@pytest.mark.parametrize(
    ("coding", "body"),
    [
        pytest.param("gzip", gzip.compress(SOUND), id="gzip"),
        pytest.param("deflate", zlib.compress(SOUND), id="deflate"),
        pytest.param("br", SOUND, id="br"),
        pytest.param("zstd", SOUND, id="zstd"),
        pytest.param("GZIP", gzip.compress(SOUND), id="GZIP"),
        pytest.param("identity, gzip", gzip.compress(SOUND), id="two codings"),
        pytest.param("gzip", BOMB, id="200 MB of blanks"),
    ],
)
def test_c15_a_compressed_body_is_415_and_never_inflated(world: World, path: str, coding: str, body: bytes) -> None:
    before = world.rss_bytes()
    answer = world.ask(body, path=path, headers={"content-encoding": coding})
    assert (answer.status, answer.code) == (415, "unsupported_media_type")
    assert world.rss_bytes() - before < 4 * 1024 * 1024
    assert world.calls() == []


def test_c15_a_compressed_body_without_a_word_is_no_json(world: World) -> None:
    answer = world.ask(gzip.compress(SOUND))
    assert (answer.status, answer.code) == (400, "invalid_json")


def test_c15_identity_is_no_compression(world: World) -> None:
    assert world.ask(SOUND, headers={"content-encoding": "identity"}).status == 200
