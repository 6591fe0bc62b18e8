"""What the gateway reads of a request besides its JSON: headers and body bytes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from random import getrandbits
from typing import Any

from gateway.errors import RequestTooLarge, UnsupportedMediaType

REQUEST_ID = re.compile(rb"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""What is taken over from a caller: SageMaker's InferenceId holds 64 characters."""
_JSON_TYPE = re.compile(rb"application/(?:[\w.+-]+\+)?json *(?:;|$)", re.IGNORECASE)


@dataclass(slots=True)
class Head:
    """The headers the gateway itself reads."""

    request_id: str
    content_type: bytes = b""
    content_encoding: bytes = b""
    content_length: int | None = None
    traceparent: bytes = b""
    """Unchecked; the values of several, joined by commas."""


def read_head(headers: list[tuple[bytes, bytes]]) -> Head:
    """Return what matters of `headers`, names in lower case. A request without an acceptable id is given one."""
    head = Head("")
    for name, value in headers:
        if name == b"x-request-id":
            if REQUEST_ID.fullmatch(value):
                head.request_id = value.decode()
        elif name == b"content-type":
            head.content_type = value
        elif name == b"content-length":
            head.content_length = int(value)
        elif name == b"content-encoding":
            head.content_encoding = value
        elif name == b"traceparent":
            head.traceparent = b"%b,%b" % (head.traceparent, value) if head.traceparent else value
    if not head.request_id:
        head.request_id = f"req_{getrandbits(128):032x}"  # a name, not a secret
    return head


async def read_body(head: Head, receive: Any, max_body_bytes: int) -> bytes | None:
    """Return the whole body, or None if the caller left before its end.

    Raises:
        UnsupportedMediaType: the body is not JSON by its headers, or is compressed. It has not been read.
        RequestTooLarge: the body is over `max_body_bytes`. Of a body that says so itself, nothing has been read.
    """
    if head.content_type and not _JSON_TYPE.match(head.content_type):
        raise UnsupportedMediaType("The body must be sent as application/json.")
    if head.content_encoding and head.content_encoding.lower() != b"identity":
        raise UnsupportedMediaType("The body must not be compressed: content-encoding is not supported.")
    too_large = f"The body is over the limit of {max_body_bytes} bytes."
    if head.content_length is not None and head.content_length > max_body_bytes:
        raise RequestTooLarge(too_large)
    message = await receive()
    if message["type"] != "http.request":
        return None
    if not message["more_body"]:
        body: bytes = message["body"]
        if len(body) > max_body_bytes:
            raise RequestTooLarge(too_large)
        return body
    parts, size = [message["body"]], len(message["body"])
    while message["more_body"]:
        if size > max_body_bytes:
            raise RequestTooLarge(too_large)
        message = await receive()
        if message["type"] != "http.request":
            return None
        parts.append(message["body"])
        size += len(message["body"])
    if size > max_body_bytes:
        raise RequestTooLarge(too_large)
    return b"".join(parts)
