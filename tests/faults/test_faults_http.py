"""Bytes that are no HTTP, or that two readers could take for different requests; and several requests at once."""

from __future__ import annotations

import json
import re
import time

import pytest

from deploy.local import faults
from tests.faults.talk import DIALECTS, answer_of, events_of
from tests.faults.wire import CHAT, COMPLETIONS, chat, request
from tests.faults.world import World
from tests.support.stack import KEY

BODY = json.dumps(chat("vllm")).encode()
CHUNKED = b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)
LENGTH = b"content-length: %d" % len(BODY)
CODING = b"transfer-encoding: chunked"
HOST = b"host: gateway.test"
STATUS = re.compile(rb"HTTP/1\.1 (\d{3}) ")


def post(*lines: bytes, body: bytes = BODY, host: bytes | None = HOST, first: bytes | None = None) -> bytes:
    """Return a request with exactly these header lines besides host, key and content type."""
    fixed = [b"authorization: Bearer " + KEY.encode(), b"content-type: application/json"]
    start = first or f"POST {CHAT} HTTP/1.1".encode()
    return b"\r\n".join([start, *([host] if host else []), *fixed, *lines, b"", b""]) + body


SMUGGLED = request("GET", "/v1/models")
"""A second request, which must never be answered: it is the first one's body, or follows a refusal."""

MALFORMED = {
    "length and coding": post(LENGTH, CODING, body=CHUNKED + SMUGGLED),
    "coding and length": post(CODING, LENGTH, body=CHUNKED + SMUGGLED),
    "coding and length 0": post(CODING, b"content-length: 0", body=CHUNKED),
    "two equal lengths": post(LENGTH, LENGTH),
    "two lengths": post(LENGTH, b"content-length: 3"),
    "a list of lengths": post(LENGTH + b", %d" % len(BODY)),
    "a length below zero": post(b"content-length: -1"),
    "a length with a plus": post(b"content-length: +%d" % len(BODY)),
    "a hexadecimal length": post(b"content-length: 0x10"),
    "a length with a space": post(b"content-length: 1 0"),
    "an empty length": post(b"content-length: "),
    "a length of 23 digits": post(b"content-length: 99999999999999999999999"),
    "a length, space before the colon": post(b"content-length : %d" % len(BODY)),
    "coding xchunked": post(b"transfer-encoding: xchunked", body=CHUNKED),
    "coding identity": post(b"transfer-encoding: identity", body=CHUNKED),
    "coding chunked, identity": post(b"transfer-encoding: chunked, identity", body=CHUNKED),
    "coding gzip, chunked": post(b"transfer-encoding: gzip, chunked", body=CHUNKED),
    "coding chunked twice": post(b"transfer-encoding: chunked, chunked", body=CHUNKED),
    "coding after a comma": post(b"transfer-encoding: ,chunked", body=CHUNKED),
    "coding before a comma": post(b"transfer-encoding: chunked,", body=CHUNKED),
    "coding with a parameter": post(b"transfer-encoding: chunked;q=1", body=CHUNKED),
    "coding in quotes": post(b'transfer-encoding: "chunked"', body=CHUNKED),
    "coding with a tab behind": post(b"transfer-encoding: chunked\t", body=CHUNKED),
    "coding with a vertical tab": post(b"transfer-encoding: \x0bchunked", body=CHUNKED),
    "coding in two lines": post(CODING, CODING, body=CHUNKED),
    "coding identity, then chunked": post(b"transfer-encoding: identity", CODING, body=CHUNKED),
    "coding chunked, then identity": post(CODING, b"transfer-encoding: identity", body=CHUNKED),
    "coding, space before the colon": post(b"transfer-encoding : chunked", body=CHUNKED),
    "coding, folded": post(b"transfer-encoding:\r\n chunked", body=CHUNKED),
    "coding in HTTP/1.0": post(CODING, body=CHUNKED, first=f"POST {CHAT} HTTP/1.0".encode()),
    "a folded line": post(LENGTH, b"x-a: b\r\n c"),
    "a line that begins with a space": post(b" x-a: b", LENGTH),
    "NUL in a name": post(b"x\0a: b", LENGTH),
    "NUL in a value": post(b"x-a: b\0c", LENGTH),
    "NUL in the path": post(LENGTH, first=b"POST /v1/chat\0/completions HTTP/1.1"),
    "a control character": post(b"x-a: b\x01c", LENGTH),
    "a DEL": post(b"x-a: b\x7fc", LENGTH),
    "a lone CR": post(b"x-a: b\rtransfer-encoding: chunked", LENGTH),
    "a lone LF": post(b"x-a: b\ncontent-length: 0", LENGTH),
    "lone LFs alone": post(LENGTH).replace(b"\r\n", b"\n"),
    "no name": post(b": b", LENGTH),
    "no colon": post(b"x-a", LENGTH),
    "a name in UTF-8": post("xé: b".encode(), LENGTH),
    "a name with a space": post(b"x a: b", LENGTH),
    "no host": post(LENGTH, host=None),
    "two hosts": post(LENGTH, b"host: other.test"),
    "a chunk size that is none": post(CODING, body=b"zz\r\n" + CHUNKED),
    "a chunk size below zero": post(CODING, body=b"-5\r\nhello\r\n0\r\n\r\n"),
    "a chunk size with 0x": post(CODING, body=b"0x5\r\nhello\r\n0\r\n\r\n"),
    "a chunk size of 17 digits": post(CODING, body=b"fffffffffffffffff\r\nhello"),
    "an empty chunk size": post(CODING, body=b"\r\n" + BODY + b"\r\n0\r\n\r\n"),
    "a space before the chunk size": post(CODING, body=b" " + CHUNKED),
    "a space after the chunk size": post(CODING, body=CHUNKED.replace(b"\r\n", b" \r\n", 1)),
    "a chunk that is longer than it says": post(CODING, body=b"5\r\nhelloworld\r\n0\r\n\r\n"),
    "a chunk without its end": post(CODING, body=b"5\r\nhello0\r\n\r\n"),
    "chunks with lone LFs": post(CODING, body=CHUNKED.replace(b"\r\n", b"\n")),
    "chunks with lone CRs": post(CODING, body=CHUNKED.replace(b"\r\n", b"\r")),
    "a chunk extension with a control character": post(CODING, body=CHUNKED.replace(b"\r\n", b";\x01\r\n", 1)),
    "a chunk extension with a lone LF": post(CODING, body=CHUNKED.replace(b"\r\n", b";a\nb\r\n", 1)),
    "a length among the trailers": post(CODING, body=CHUNKED[:-2] + b"content-length: 5\r\n\r\n"),
    "HTTP/0.9": b"GET /healthz\r\n\r\n",
    "HTTP/1.2": post(LENGTH, first=f"POST {CHAT} HTTP/1.2".encode()),
    "HTTP/2.0": post(LENGTH, first=f"POST {CHAT} HTTP/2.0".encode()),
    "HTTP/11": post(LENGTH, first=f"POST {CHAT} HTTP/11".encode()),
    "http/1.1": post(LENGTH, first=f"POST {CHAT} http/1.1".encode()),
    "a tab in the request line": post(LENGTH, first=f"POST\t{CHAT} HTTP/1.1".encode()),
    "a method in lower case": post(LENGTH, first=f"post {CHAT} HTTP/1.1".encode()),
    "a method nobody knows": post(LENGTH, first=f"PSOT {CHAT} HTTP/1.1".encode()),
    "an unfinished host": post(LENGTH, first=b"POST http://[::1 HTTP/1.1"),
    "a port that is none": post(LENGTH, first=b"POST http://gateway.test:99999/ HTTP/1.1"),
    "CONNECT": post(LENGTH, first=b"CONNECT gateway.test:443 HTTP/1.1"),
    "CONNECT to a path": post(LENGTH, first=b"CONNECT / HTTP/1.1"),
    "HTTP/2's preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"a" * 100,
    "noise": bytes(range(256)) * 4,
}


@pytest.mark.parametrize("cut", [False, True], ids=["whole", "byte by byte"])
@pytest.mark.parametrize("sent", [pytest.param(sent, id=name) for name, sent in MALFORMED.items()])
def test_c16_what_two_could_read_differently_is_refused_once_and_the_connection_closed(
    world: World, sent: bytes, cut: bool
) -> None:
    with world.caller() as caller:
        try:
            for piece in [bytes([byte]) for byte in sent] if cut else [sent]:
                caller.send(piece)
            caller.send(SMUGGLED)
        except OSError:
            pass  # it has been refused already
        answer = caller.answer()
        assert (answer.status, answer.code) == (400, "malformed_http")
        assert answer.error["type"] == "invalid_request_error"
        assert answer.header("connection") == "close"
        assert caller.rest() == b""
    assert world.calls() == []


ODD = {
    "coding in capitals": post(b"Transfer-Encoding: CHUNKED", body=CHUNKED),
    "coding after a tab": post(b"transfer-encoding:\tchunked", body=CHUNKED),
    "a chunk extension": post(CODING, body=CHUNKED.replace(b"\r\n", b';a="b"\r\n', 1)),
    "trailers": post(CODING, body=CHUNKED[:-2] + b"x-trailer: 1\r\n\r\n"),
    "a length with zeros before it": post(b"content-length: 000%d" % len(BODY)),
    "empty lines before it": b"\r\n\r\n" + post(LENGTH),
    "an underscore for a hyphen": post(LENGTH, b"transfer_encoding: chunked"),
    "a value that is not ASCII": post(LENGTH, b"x-a: \xff\xfe"),
    "an empty value": post(LENGTH, b"x-a:"),
    "a request to upgrade": post(
        LENGTH, b"connection: Upgrade, HTTP2-Settings", b"upgrade: h2c", b"http2-settings: AA"
    ),
    "a request to upgrade, chunked": post(CODING, b"connection: upgrade", b"upgrade: websocket", body=CHUNKED),
}


@pytest.mark.parametrize("cut", [False, True], ids=["whole", "byte by byte"])
@pytest.mark.parametrize("sent", [pytest.param(sent, id=name) for name, sent in ODD.items()])
def test_c16_what_all_read_alike_is_answered(world: World, sent: bytes, cut: bool) -> None:
    with world.caller() as caller:
        for _ in range(2):  # and the connection goes on
            for piece in [bytes([byte]) for byte in sent] if cut else [sent]:
                caller.send(piece)
            answer = caller.answer()
            assert (answer.status, answer.text) == (200, "Hello! How can I help you today?")
    assert len(world.calls()) == 2


def test_c16_a_body_is_no_request_whatever_the_head_wants_to_upgrade_to(world: World) -> None:
    """The body comes later, and looks like a request."""
    length = b"content-length: %d" % len(SMUGGLED)
    with world.caller() as caller:
        caller.send(post(length, b"connection: upgrade", b"upgrade: h2c", body=b""))
        for cut in range(0, len(SMUGGLED), 20):
            caller.send(SMUGGLED[cut : cut + 20])
        answer = caller.answer()
        assert (answer.status, answer.code) == (400, "invalid_json")
        caller.send(request("GET", "/healthz", key=None))
        assert caller.answer(to="GET").json == {"status": "ok"}


def test_c16_nothing_counts_that_is_said_after_the_body(world: World) -> None:
    trailers = b"authorization: Bearer %b\r\nx-request-id: late\r\n\r\n" % KEY.encode()
    head = b"\r\n".join([f"POST {CHAT} HTTP/1.1".encode(), HOST, CODING, b"", b""])
    with world.caller() as caller:
        caller.send(head + CHUNKED[:-2] + trailers)
        answer = caller.answer()
    assert (answer.status, answer.code) == (401, "missing_api_key")
    assert answer.header("x-request-id") != "late"


def test_c16_the_request_before_a_malformed_one_is_answered_and_it_alone(world: World) -> None:
    world.fault(faults.Delay(0.05))
    with world.caller() as caller:
        caller.send(post(LENGTH) + b"\x00 no request\r\n\r\n")
        assert caller.answer().status == 200
        assert caller.rest() == b""


def test_c16_garbage_during_a_stream_does_not_touch_it(world: World) -> None:
    world.fault(answer_of("vllm"), faults.Stall(after_frames=5, s=0.1))
    with world.asking(chat("vllm", stream=True)) as caller:
        caller.send(b"\x00 no request\r\n\r\n")
        assert caller.answer().events == events_of("vllm")
        assert caller.rest() == b""


@pytest.mark.parametrize("name", ["noise", "no host", "an unfinished host", "a chunk size that is none"])
def test_c16_garbage_after_an_answer_is_refused(world: World, name: str) -> None:
    with world.caller() as caller:
        caller.send(post(LENGTH))
        assert caller.answer().status == 200
        caller.send(MALFORMED[name])
        assert caller.answer().code == "malformed_http"
        assert caller.rest() == b""


def test_c16_a_bad_chunk_after_a_refusal_gets_no_second_answer(world: World) -> None:
    with world.caller() as caller:
        caller.send(b"POST /nowhere HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n")
        assert caller.answer().status == 404
        caller.send(b"zz\r\n")
        assert caller.rest() == b""


def test_c16_refusals_fill_no_log(world: World) -> None:
    lines = len(world.gateway.log)
    for _ in range(200):
        with world.caller() as caller:
            caller.send(b"\x16\x03\x01\r\n\r\n")
            assert caller.answer().status == 400
    assert len(world.gateway.log) == lines


TARGETS = [
    "/",
    "//",
    "///",
    "*",
    "/?",
    "?x",
    "/%ff",
    "/%00",
    "/%",
    "/%zz",
    "/\\x",
    "/v1/models/",
    "/v1/models/a/b",
    "/v1/models/%ff",
    "/v1/models/%00",
    "/v1/models/%2e%2e",
    "/v1/models/..%2fx",
    "/v1/models/{x}",
    "/v1/models;a",
    "/v1/models/\xf0\x9f\x98\x80",
    "/v1//chat///completions",
    "/v1/chat/completions?x=1",
    "/v1/chat/completions#x",
    "http://gateway.test/v1/models",
    "http://[::1",
    "http://a:99999/x",
    "/" + "a" * 5_000,
]


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "OPTIONS", "TRACE", "PURGE", "M-SEARCH", "QUERY"])
def test_no_target_makes_the_gateway_fail(world: World, method: str) -> None:
    for target in TARGETS:
        with world.caller() as caller:
            caller.send(f"{method} {target} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n".encode("latin-1"))
            answer = caller.answer(to=method)
            assert answer.status in (200, 204, 400, 401, 404, 405), target
            if answer.status >= 400 and method != "HEAD":
                if not target.strip("/?"):  # TGI's, with its errors
                    assert list(answer.json) == ["error", "error_type"]
                else:
                    assert answer.error["type"] == "invalid_request_error"


# Several at once


@pytest.mark.parametrize("cut", [False, True], ids=["in one piece", "byte by byte"])
def test_c17_pipelined_requests_are_answered_in_order(world: World, cut: bool) -> None:
    world.fault(faults.Delay(0.1))  # the first one takes longest
    sent = (
        request("POST", CHAT, chat("vllm", "repeat: one"))
        + request("GET", "/healthz", key=None)
        + request("POST", CHAT, chat("lmi", "repeat: two"))
        + request("POST", CHAT, b"{")
        + request("GET", "/nowhere")
        + request("POST", CHAT, chat("vllm", "repeat: three"))
    )
    with world.caller() as caller:
        for piece in [bytes([byte]) for byte in sent] if cut else [sent]:
            caller.send(piece)
        assert caller.answer().text == "one"
        assert caller.answer().json == {"status": "ok"}
        assert caller.answer().text == "two"
        assert caller.answer().status == 400
        assert caller.answer().status == 404
        assert caller.answer().text == "three"
    assert [call.endpoint for call in world.calls()] == ["vllm", "lmi", "vllm"]


@pytest.mark.parametrize("dialect", DIALECTS)
def test_c17_a_request_behind_a_stream_waits_for_its_end(world: World, dialect: str) -> None:
    world.fault(answer_of(dialect), faults.Stall(after_frames=5, s=0.1))
    with world.caller() as caller:
        caller.send(
            request("POST", CHAT, chat(dialect, stream=True))
            + request("POST", CHAT, chat(dialect, "repeat: behind"))
            + request("POST", CHAT, chat(dialect, "repeat: once more", stream=True))
            + request("POST", COMPLETIONS, {"model": dialect, "prompt": "repeat: last", "max_tokens": 50})
        )
        first = caller.answer()
        assert (first.complete, first.events) == (True, events_of(dialect))
        assert caller.answer().text == "behind"
        assert caller.answer().events[-1] == b"[DONE]"
        assert caller.answer().json["choices"][0]["text"] == "last"


def test_c17_a_request_behind_a_failed_stream_is_answered(world: World) -> None:
    world.fault(answer_of("vllm"), faults.CrcFlipped(frame=3))
    with world.caller() as caller:
        caller.send(request("POST", CHAT, chat("vllm", stream=True)) + request("GET", "/healthz", key=None))
        assert caller.answer().last_error["code"] == "upstream_protocol"
        assert caller.answer().json == {"status": "ok"}


def test_c17_a_request_behind_one_that_closes_is_not_answered(world: World) -> None:
    closing = request("POST", CHAT, chat("vllm"), headers={"connection": "close"})
    with world.caller() as caller:
        caller.send(closing + request("GET", "/healthz", key=None))
        assert caller.answer().header("connection") == "close"
        assert caller.rest() == b""


def test_c17_hundreds_at_once_are_answered_as_far_as_they_are_in_order(world: World) -> None:
    """More than a connection may have waiting: the first ones are answered, then it is closed."""
    world.fault(faults.Delay(0.1))
    with world.caller() as caller:
        caller.send(b"".join(request("POST", CHAT, chat("vllm", f"repeat: {number}")) for number in range(300)))
        for number in range(33):
            assert caller.answer().text == str(number)
        assert caller.rest() == b""
    assert len(world.calls()) == 33


def test_c17_tens_of_thousands_at_once_take_no_memory(world: World) -> None:
    before = world.rss_bytes()
    with world.caller() as caller:
        began = time.monotonic()
        sent = request("POST", CHAT, b"{}", key=None) * 30_000
        try:
            caller.send(sent)
            received = caller.rest()
        except OSError:
            received = b""
        assert len(STATUS.findall(received)) < 1_000
        assert time.monotonic() - began < 3
    assert world.rss_bytes() - before < 8 * 1024 * 1024
