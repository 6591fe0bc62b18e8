"""What a request's head must be, beyond what httptools sees to.

A head that two readers on its way could take for different requests is refused (RFC 9112, 3.2 and 6.1), and a request
to speak another protocol is ignored (RFC 9110, 7.8): httptools would take such a request's body for the next request.
"""

from __future__ import annotations

Headers = list[tuple[bytes, bytes]]
"""Names in lower case."""

_REQUEST_LINE_BYTES = len(" HTTP/1.1\r\n")
_HEADER_BYTES = len(": \r\n")
_UPGRADING = frozenset({b"upgrade", b"http2-settings"})


class BadHead(Exception):
    """The head is not one that everybody reads alike."""


def check_head(version: str, headers: Headers) -> None:
    """Check what decides where a request ends and whom it is for.

    Raises:
        BadHead: not HTTP/1.1 or 1.0; a transfer coding other than chunked, or any in 1.0; no host or several.
    """
    hosts = 0
    for name, value in headers:
        if name == b"host":
            hosts += 1
        elif name == b"transfer-encoding" and (value.lower() != b"chunked" or version != "1.1"):
            raise BadHead("transfer-encoding")
    if hosts != 1 and (hosts or version == "1.1"):
        raise BadHead("host")
    if version not in ("1.1", "1.0"):
        raise BadHead("version")


def head_bytes(url: bytes, headers: Headers) -> int:
    """Return about how long a head is on the wire."""
    lines = sum(len(name) + len(value) + _HEADER_BYTES for name, value in headers)
    return len(url) + _REQUEST_LINE_BYTES + lines


def without_upgrade(method: bytes, url: bytes, version: str, headers: Headers) -> bytes:
    """Return the head as bytes again, without what asks for another protocol."""
    lines = [b"%b %b HTTP/%b" % (method, url, version.encode())]
    for name, value in headers:
        if name in _UPGRADING:
            continue
        if name == b"connection":
            value = b", ".join(
                [option for option in map(bytes.strip, value.split(b",")) if option.lower() not in _UPGRADING]
            )
        lines.append(b"%b: %b" % (name, value))
    return b"\r\n".join(lines) + b"\r\n\r\n"
