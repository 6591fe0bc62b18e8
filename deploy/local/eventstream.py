"""The AWS event stream, outwards: one function per kind of frame SageMaker sends.

A frame is `u32 total length · u32 headers length · u32 CRC-32 of those eight bytes · headers · payload · u32 CRC-32 of
all before it`, integers big-endian; a header is `u8 name length · name · u8 type · value`.
https://smithy.io/2.0/aws/amazon-eventstream.html
https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_runtime_InvokeEndpointWithResponseStream.html
"""

from __future__ import annotations

import json
import struct
import zlib

CONTENT_TYPE = "application/vnd.amazon.eventstream"
STRING = 7
"""The header type of a UTF-8 string with a u16 length."""


def frame(headers: bytes, payload: bytes) -> bytes:
    """Return the frame around an encoded header block and a payload, with both CRCs right."""
    prelude = struct.pack(">II", 16 + len(headers) + len(payload), len(headers))
    head = prelude + struct.pack(">I", zlib.crc32(prelude)) + headers
    crc = zlib.crc32(payload, zlib.crc32(head))
    return b"%b%b%b" % (head, payload, struct.pack(">I", crc))


def string_header(name: str, value: str) -> bytes:
    """Return one encoded header of type string."""
    key, text = name.encode(), value.encode()
    return struct.pack(">B", len(key)) + key + struct.pack(">BH", STRING, len(text)) + text


def event(event_type: str, payload: bytes, content_type: str = "application/octet-stream") -> bytes:
    """Return an event frame; SageMaker knows one event type, PayloadPart."""
    return frame(event_headers(event_type, content_type), payload)


def event_headers(event_type: str, content_type: str = "application/octet-stream") -> bytes:
    """Return the header block of an event frame."""
    return (
        string_header(":event-type", event_type)
        + string_header(":content-type", content_type)
        + string_header(":message-type", "event")
    )


PART_HEADERS = event_headers("PayloadPart")


def payload_part(data: bytes) -> bytes:
    """Return a PayloadPart frame: some of the container's bytes, as they are."""
    return frame(PART_HEADERS, data)


def exception(exception_type: str, members: dict[str, str]) -> bytes:
    """Return the frame of a modelled failure: ModelStreamError or InternalStreamFailure."""
    headers = (
        string_header(":exception-type", exception_type)
        + string_header(":content-type", "application/json")
        + string_header(":message-type", "exception")
    )
    return frame(headers, json.dumps(members, ensure_ascii=False, separators=(",", ":")).encode())


def error(code: str, message: str) -> bytes:
    """Return the frame of a failure that the service's model does not know: all in the headers, no payload."""
    headers = (
        string_header(":error-code", code)
        + string_header(":error-message", message)
        + string_header(":message-type", "error")
    )
    return frame(headers, b"")
