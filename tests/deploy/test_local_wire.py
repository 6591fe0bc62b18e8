"""What every fault puts on the wire, read with a bare socket and a decoder that expects the worst."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from deploy.local import DEMO_KEY, LocalSageMaker, faults
from deploy.local.scripted import ScriptedContainer

pytestmark = pytest.mark.anyio

WHOLE, STREAM = "InvokeEndpoint", "InvokeEndpointWithResponseStream"
PATHS = {WHOLE: "/endpoints/chat/invocations", STREAM: "/endpoints/chat/invocations-response-stream"}


# --- a client that believes nothing --------------------------------------------------------------------------------


def signed_request(local: LocalSageMaker, operation: str, *, keep_alive: bool = False, body: bytes = b"{}") -> bytes:
    """Return the bytes of a signed call."""
    url = local.url + PATHS[operation]
    request: Any = AWSRequest("POST", url, data=body, headers={"Host": url.split("/")[2]})
    credentials: Any = Credentials(DEMO_KEY.id, DEMO_KEY.secret)
    SigV4Auth(credentials, "sagemaker", "us-east-1").add_auth(request)
    headers = [*request.headers.items(), ("Content-Length", str(len(body)))]
    if not keep_alive:
        headers.append(("Connection", "close"))
    head = "".join(f"{name}: {value}\r\n" for name, value in headers)
    return f"POST {PATHS[operation]} HTTP/1.1\r\n{head}\r\n".encode() + body


async def connect(local: LocalSageMaker) -> socket.socket:
    sock = socket.socket()
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", local.port))
    return sock


async def read_to_end(sock: socket.socket) -> tuple[bytes, str]:
    """Return all bytes and how the connection ended: fin or rst. (Streams of asyncio lose bytes before an RST.)"""
    received = b""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(10):
            while data := await loop.sock_recv(sock, 65536):
                received += data
    except ConnectionResetError:
        return received, "rst"
    finally:
        sock.close()
    return received, "fin"


@dataclass
class Seen:
    """An answer as far as it came."""

    connection: str
    """fin or rst."""
    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    ended: bool = False
    """The HTTP body came to its proper end."""
    chunk_sizes: list[int] = field(default_factory=list)

    @property
    def frames(self) -> list[str]:
        return describe_frames(self.body)


def parse(received: bytes, connection: str) -> Seen:
    if not received:
        return Seen(connection)
    head, _, rest = received.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])}
    seen = Seen(connection, int(lines[0].split(" ")[1]), headers)
    if headers.get("transfer-encoding") != "chunked":
        seen.body, seen.ended = rest, len(rest) == int(headers["content-length"])
        return seen
    while found := re.match(rb"([0-9a-f]+)\r\n", rest):
        size = int(found[1], 16)
        if size == 0:
            seen.ended = rest == b"0\r\n\r\n"
            return seen
        seen.body += rest[found.end() : found.end() + size]
        seen.chunk_sizes.append(size)
        rest = rest[found.end() + size + 2 :]
    seen.headers["rest"] = rest.decode("latin-1")
    return seen


def describe_frames(data: bytes) -> list[str]:
    """Return a word for each frame, up to the first that cannot be passed."""
    words: list[str] = []
    while data:
        if len(data) < 16:
            return [*words, f"fragment of {len(data)}"]
        total, headers_length, prelude_crc = struct.unpack_from(">III", data)
        if zlib.crc32(data[:8]) != prelude_crc:
            sealed = zlib.crc32(data[: total - 4]) == struct.unpack_from(">I", data, total - 4)[0]
            words.append("prelude CRC wrong" if sealed else "both CRCs wrong")
        elif total > len(data):
            return [*words, f"{len(data)} of {total}"]
        elif zlib.crc32(data[: total - 4]) != struct.unpack_from(">I", data, total - 4)[0]:
            words.append("message CRC wrong")
        elif headers_length > total - 16:
            words.append(f"headers {headers_length} of {total}")
        else:
            words.append(describe_frame(data[12 : 12 + headers_length], data[12 + headers_length : total - 4]))
        data = data[total:]
    return words


def describe_frame(block: bytes, payload: bytes) -> str:
    headers: dict[str, object] = {}
    while block:
        length = block[0]
        name, number, block = block[1 : 1 + length].decode(), block[1 + length], block[2 + length :]
        sizes = {0: 0, 1: 0, 2: 1, 3: 2, 4: 4, 5: 8, 8: 8, 9: 16}
        if number in (6, 7):
            size = struct.unpack_from(">H", block)[0]
            value, block = block[2 : 2 + size], block[2 + size :]
            headers[name] = value.decode() if number == 7 else value
        elif number in sizes:
            headers[name], block = (number, block[: sizes[number]]), block[sizes[number] :]
        else:
            return f"header type {number}"
    kind = headers.pop(":message-type", None)
    content_type = headers.pop(":content-type", "")
    match kind:
        case "event" if headers == {":event-type": "PayloadPart"} and content_type == "application/octet-stream":
            return payload.decode()
        case "event":
            return f"event {sorted(map(str, headers.values()))} {payload.decode()}"
        case "exception":
            return f"exception {headers[':exception-type']} {json.loads(payload)}"
        case "error":
            return f"error {headers[':error-code']} {headers[':error-message']} {payload!r}"
        case _:
            return f"no message type, {payload.decode()}"


async def ask(local: LocalSageMaker, operation: str) -> Seen:
    """Make one call and read the connection to its end."""
    sock = await connect(local)
    await asyncio.get_running_loop().sock_sendall(sock, signed_request(local, operation))
    return parse(*await read_to_end(sock))


# --- one row for every fault ---------------------------------------------------------------------------------------

JSON = "application/json"
TIMEOUT = (
    '"Your invocation timed out while waiting for a response from container primary. Review the latency metrics for '
    'each container in Amazon CloudWatch, resolve the issue, and try again."'
)
MODEL_ERROR = (
    '{"ErrorCode":"CLIENT_ERROR_FROM_MODEL","LogStreamArn":"arn:aws:logs:us-east-1:111122223333:log-group:/aws/sagemaker/'
    'Endpoints/chat","Message":"Received client error (400) from primary with message \\"no\\". See https://us-east-1.'
    "console.aws.amazon.com/cloudwatch/home?region=us-east-1#logEventViewer:group=/aws/sagemaker/Endpoints/chat in "
    'account 111122223333 for more information.","OriginalMessage":"no","OriginalStatusCode":400}'
)
THREE = ["one", "two", "three"]


def error(status: int, name: str, body: str) -> dict[str, object]:
    return {
        "status": status,
        "x-amzn-errortype": name,
        "content-type": JSON,
        "body": body,
        "ended": True,
        "connection": "fin",
    }


def stream(frames: Sequence[str], *, ended: bool = True, connection: str = "fin") -> dict[str, object]:
    return {
        "status": 200,
        "content-type": "application/vnd.amazon.eventstream",
        "frames": list(frames),
        "ended": ended,
        "connection": connection,
    }


NOTHING: dict[str, object] = {"status": None, "body": ""}
SLOW = "Your model primary did not complete sending the inference response in the allotted time."
ROWS: list[tuple[str, str, dict[str, object], dict[str, object]]] = [
    ("throttle", WHOLE, {}, error(400, "ThrottlingException", '{"message":null}')),
    (
        "service_unavailable",
        STREAM,
        {},
        error(503, "ServiceUnavailable", '{"Message":"The service is currently unavailable. Try your call again."}'),
    ),
    (
        "internal_failure",
        STREAM,
        {},
        error(500, "InternalFailure", '{"Message":"An internal failure occurred. Try your call again."}'),
    ),
    (
        "internal_dependency",
        WHOLE,
        {},
        error(
            530,
            "InternalDependencyException",
            '{"Message":"Your request caused an exception with an internal dependency. Contact customer support."}',
        ),
    ),
    (
        "model_not_ready",
        WHOLE,
        {},
        error(
            429,
            "ModelNotReadyException",
            '{"Message":"The model is not ready to serve inference requests. Try your request again later."}',
        ),
    ),
    (
        "access_denied",
        WHOLE,
        {},
        error(
            403,
            "AccessDeniedException",
            '{"Message":"User: arn:aws:iam::111122223333:user/AKIAIOSFODNN7EXAMPLE is not authorized to perform: '
            "sagemaker:InvokeEndpoint on resource: arn:aws:sagemaker:us-east-1:111122223333:endpoint/chat because no "
            'identity-based policy allows the sagemaker:InvokeEndpoint action"}',
        ),
    ),
    (
        "expired_token",
        WHOLE,
        {},
        error(403, "ExpiredTokenException", '{"message":"The security token included in the request is expired"}'),
    ),
    ("validation", STREAM, {"message": "bad"}, error(400, "ValidationError", '{"Message":"bad"}')),
    (
        "aws_error",
        WHOLE,
        {"status": 403, "code": "SignatureDoesNotMatch", "message": "no"},
        error(403, "SignatureDoesNotMatch", '{"message":"no"}'),
    ),
    ("model_error", STREAM, {"status": 400, "body": "no"}, error(424, "ModelError", MODEL_ERROR)),
    (
        "model_error",
        WHOLE,
        {"preset": "lmi27.unroutable"},
        {
            "status": 424,
            "body contains": '"OriginalMessage":"{\\"error\\":\\"Input parsing failed: invalid payload. must contain '
            'prompt, inputs, or messages\\",\\"code\\":424}","OriginalStatusCode":424}',
        },
    ),
    (
        "model_timeout",
        WHOLE,
        {},
        {"status": 424, "x-amzn-errortype": "ModelError", "body contains": f'"OriginalMessage":{TIMEOUT}'},
    ),
    (
        "html",
        STREAM,
        {"status": 200, "body": "<h1>hi</h1>"},
        {"status": 200, "content-type": "text/html", "x-amzn-requestid": None, "body": "<h1>hi</h1>", "ended": True},
    ),
    ("html", WHOLE, {}, {"status": 502, "content-type": "text/html", "body contains": "<h1>502 Bad Gateway</h1>"}),
    (
        "oversized",
        WHOLE,
        {"total_bytes": 200_000},
        {"status": 200, "content-length": "200000", "body": " " * 200_000, "ended": True},
    ),
    (
        "oversized",
        WHOLE,
        {"total_bytes": 70_000, "declared": False},
        {"status": 200, "content-length": None, "chunk sizes": [65_536, 4_464], "ended": True},
    ),
    ("oversized", STREAM, {"total_bytes": 70_000}, stream([" " * 65_536, " " * 4_464])),
    # connections
    ("reset", WHOLE, {}, {**NOTHING, "connection": "rst"}),
    ("reset", STREAM, {}, {**NOTHING, "connection": "rst"}),
    ("reset", STREAM, {"after_frames": 0}, stream([], ended=False, connection="rst")),
    ("reset", STREAM, {"after_frames": 2}, stream(["one", "two"], ended=False, connection="rst")),
    ("reset", STREAM, {"after_frames": 50}, stream(THREE, ended=False, connection="rst")),
    (
        "reset",
        WHOLE,
        {"after_bytes": 4},
        {"status": 200, "body": "onet", "content-length": "11", "ended": False, "connection": "rst"},
    ),
    ("close", WHOLE, {}, {**NOTHING, "connection": "fin"}),
    ("close", STREAM, {"after_frames": 1}, stream(["one"], ended=False)),
    ("close", STREAM, {"after_frames": 1, "ended": True}, stream(["one"])),
    (
        "close",
        WHOLE,
        {"after_bytes": 0},
        {"status": 200, "body": "", "content-length": "11", "ended": False, "connection": "fin"},
    ),
    ("bad_chunk", STREAM, {"after_frames": 1}, stream(["one"], ended=False) | {"rest": "not-a-size\r\n"}),
    # the container
    (
        "reply",
        STREAM,
        {"chunks": ["a", "b\u00e9"], "content_type": "text/event-stream"},
        stream(["a", "b\u00e9"]) | {"x-amzn-sagemaker-content-type": "text/event-stream"},
    ),
    ("reply", WHOLE, {"chunks_base64": ["/w=="]}, {"status": 200, "raw body": b"\xff", "content-type": JSON}),
    (
        "reply",
        STREAM,
        {"chunks": ["boom"], "status": 500},
        {"status": 424, "body contains": '"OriginalMessage":"boom","OriginalStatusCode":500'},
    ),
    ("reply_tail", STREAM, {"after_chunks": 2, "text": "{}"}, stream(["one", "two", "{}"])),
    (
        "reply_tail",
        STREAM,
        {"after_chunks": 0, "preset": "lmi27.stream_engine_died"},
        stream(
            [
                '{"code":500,"message":"Inference Engine Failure","properties":{},"content":{"keys":[],"values":[]},'
                '"cancelled":false}'
            ]
        ),
    ),
    ("container_gone", WHOLE, {}, {"status": 424, "body contains": "Amazon SageMaker could not get a response from"}),
    (
        "container_gone",
        STREAM,
        {"after_chunks": 1},
        stream(
            [
                "one",
                "exception ModelStreamError {'Message': 'The Transmission Control Protocol (TCP) connection between "
                "the client and the model was reset or closed.', 'ErrorCode': 'StreamBroken'}",
            ]
        ),
    ),
    # time; how long it takes is measured below
    ("delay", STREAM, {"s": 0.01}, stream(THREE)),
    ("stall", STREAM, {"after_frames": 1, "s": 0.01}, stream(THREE)),
    (
        "drip",
        STREAM,
        {"interval_s": 0, "bytes": 50},
        stream(THREE) | {"chunk sizes": [50, 50, 8, 50, 50, 8, 50, 50, 10]},
    ),
    ("drip", WHOLE, {"interval_s": 0}, {"status": 200, "body": "onetwothree", "ended": True}),
    # frames
    ("empty_stream", STREAM, {}, stream([])),
    ("truncated_frame", STREAM, {"frame": 1, "at": 20}, stream(["one", "20 of 108"])),
    (
        "truncated_frame",
        STREAM,
        {"frame": 0, "at": 3, "then": "close"},
        stream(["fragment of 3"], ended=False),
    ),
    (
        "truncated_frame",
        STREAM,
        {"frame": 1, "at": 1000, "then": "reset"},
        stream(["one", "107 of 108"], ended=False, connection="rst"),
    ),
    ("crc_flipped", STREAM, {"frame": 1}, stream(["one", "message CRC wrong", "three"])),
    ("crc_flipped", STREAM, {"frame": 1, "which": "prelude"}, stream(["one", "prelude CRC wrong", "three"])),
    ("huge_length", STREAM, {"frame": 1}, stream(["one", "218 of 2147483647"])),
    ("bad_headers_length", STREAM, {"frame": 1}, stream(["one", "headers 109 of 108", "three"])),
    ("bad_headers_length", STREAM, {"frame": 0, "length": 95}, stream(["headers 95 of 108", "two", "three"])),
    ("header_type", STREAM, {"frame": 1}, stream(["one", "header type 42", "three"])),
    ("no_headers", STREAM, {"frame": 1}, stream(["one", "no message type, two", "three"])),
    (
        "extra_headers",
        STREAM,
        {"frame": 0},
        stream(
            [
                "event [\"(0, b'')\", \"(1, b'')\", \"(2, b'\\\\x7f')\", \"(3, b'\\\\x01\\\\x02')\", "
                "\"(4, b'\\\\x00\\\\x00\\\\x00\\\\x01')\", "
                "\"(5, b'\\\\x00\\\\x00\\\\x00\\\\x00\\\\x00\\\\x00\\\\x00\\\\x01')\", "
                "\"(8, b'\\\\x00\\\\x00\\\\x01\\\\x8b\\\\xcf\\\\xe5h\\\\x00')\", "
                "\"(9, b'\\\\x00\\\\x01\\\\x02\\\\x03\\\\x04\\\\x05\\\\x06\\\\x07\\\\x08\\\\t\\\\n\\\\x0b\\\\x0c\\\\r"
                "\\\\x0e\\\\x0f')\", 'PayloadPart', \"b'\\\\x00\\\\xff\\\\n'\", 'text'] one",
                "two",
                "three",
            ]
        ),
    ),
    ("unknown_event", STREAM, {"frame": 1}, stream(["one", "event ['Surprise'] {\"a\":1}", "two", "three"])),
    ("unknown_event", STREAM, {"frame": 9, "event_type": "X"}, stream([*THREE, "event ['X'] {\"a\":1}"])),
    ("empty_part", STREAM, {"frame": 2}, stream(["one", "two", "", "three"])),
    (
        "model_stream_error",
        STREAM,
        {"after_frames": 1},
        stream(
            [
                "one",
                f"exception ModelStreamError {{'Message': '{SLOW}', 'ErrorCode': 'ModelInvocationTimeExceeded'}}",
            ]
        ),
    ),
    (
        "internal_stream_failure",
        STREAM,
        {"after_frames": 3, "message": "x"},
        stream([*THREE, "exception InternalStreamFailure {'Message': 'x'}"]),
    ),
    (
        "error_frame",
        STREAM,
        {"after_frames": 0, "code": "C", "message": "m"},
        stream(["error C m b''"]),
    ),
    # heads
    ("response_header", WHOLE, {"name": "x-junk", "value": "a\rb\x01"}, {"status": 200, "x-junk": "a\rb\x01"}),
    ("response_header", STREAM, {"name": "x-long", "value_bytes": 65_536}, stream(THREE) | {"x-long": "x" * 65_536}),
    (
        "response_header",
        WHOLE,
        {"name": "X-Amzn-RequestId", "value": "a\r\nx-split: yes"},
        {"status": 200, "x-amzn-requestid": "a", "x-split": "yes"},
    ),
    ("retry_after", WHOLE, {"value": "7"}, {"status": 200, "retry-after": "7"}),
    ("content_type", STREAM, {"outer": "text/html"}, stream(THREE) | {"content-type": "text/html"}),
    (
        "content_type",
        STREAM,
        {"container": "text/html"},
        stream(THREE) | {"x-amzn-sagemaker-content-type": "text/html"},
    ),
    ("content_type", WHOLE, {"outer": "image/png"}, {"status": 200, "content-type": "image/png"}),
    # shapes
    ("cut", STREAM, {"mode": "sizes:5,1"}, stream(["onetw", "o", "three"])),
    ("chunking", STREAM, {"mode": "frame"}, stream(THREE) | {"chunk sizes": [108, 108, 110]}),
    (
        "chunking",
        STREAM,
        {"mode": "split:40"},
        stream(THREE) | {"chunk sizes": [40, 40, 28, 40, 40, 28, 40, 40, 30]},
    ),
    ("chunking", STREAM, {"mode": "join:2"}, stream(THREE) | {"chunk sizes": [216, 110]}),
    # connections afterwards; see also below
    ("close_idle", WHOLE, {}, {"status": 200, "body": "onetwothree", "ended": True, "connection": "fin"}),
]


@pytest.mark.parametrize(
    ("kind", "operation", "options", "expected"),
    [pytest.param(*row, id=f"{row[0]} {' '.join(f'{k}={v}'[:30] for k, v in row[2].items())}") for row in ROWS],
)
async def test_what_a_fault_puts_on_the_wire(
    kind: str, operation: str, options: Mapping[str, object], expected: Mapping[str, object]
) -> None:
    container = ScriptedContainer([b"one", b"two", b"three"])
    async with LocalSageMaker({"chat": container}) as local:
        local.add_fault({"kind": kind, **options})
        seen = await ask(local, operation)
        call = await local.call_ended(1)
        assert call.faults == (kind,)
        assert call.status == seen.status
        assert call.hung_up_ms is None
        assert (await ask(local, operation)).status == 200  # Once is once, and the server is whole.
    found: dict[str, object] = {
        "status": seen.status,
        "body": seen.body.decode("utf-8", "replace"),
        "raw body": seen.body,
        "ended": seen.ended,
        "connection": seen.connection,
        "chunk sizes": seen.chunk_sizes,
    }
    for name, value in expected.items():
        if name == "frames":
            assert seen.frames == value
        elif name == "body contains":
            assert str(value) in seen.body.decode()
        else:
            assert found.get(name, seen.headers.get(name)) == value, name


def test_every_fault_has_a_row() -> None:
    assert {row[0] for row in ROWS} == set(faults.kinds())


@pytest.mark.parametrize("at", range(108))
async def test_a_frame_can_be_truncated_at_every_offset(at: int) -> None:
    async with LocalSageMaker({"chat": ScriptedContainer([b"one", b"two"])}) as local:
        local.add_fault(faults.TruncatedFrame(frame=1, at=at))
        seen = await ask(local, STREAM)
        assert (len(seen.body), seen.ended) == (108 + at, True)
        assert (await local.call_ended(1)).frames_sent == 1


async def test_ten_thousand_frames_in_one_chunk() -> None:
    async with LocalSageMaker({"chat": ScriptedContainer(b"x" * 10_000)}, cut="bytes", chunking="join:10000") as local:
        seen = await ask(local, STREAM)
    assert seen.chunk_sizes == [1_060_000]
    assert seen.frames == ["x"] * 10_000
