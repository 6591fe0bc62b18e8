"""AWS' event stream, read: bytes in, the container's bytes out, checksums verified.

https://smithy.io/2.0/aws/amazon-eventstream.html
"""

from __future__ import annotations

import struct
import zlib

MAX_MESSAGE_BYTES = 32 * 1024 * 1024
PRELUDE = struct.Struct(">III")
STRING = 7


class Malformed(Exception):
    """The bytes are no event stream, or were damaged."""


class EventStream:
    """Reads one stream."""

    def __init__(self) -> None:
        self._held = b""
        self.failure: str | None = None
        """The exception or error code SageMaker ended the stream with."""

    @property
    def between_messages(self) -> bool:
        """Whether every message that began has ended."""
        return not self._held

    def feed(self, data: bytes) -> list[bytes]:
        """Return the payloads that `data` completes.

        Raises:
            Malformed: nothing that follows can be trusted.
        """
        data = self._held + data if self._held else data
        found: list[bytes] = []
        at = 0
        while len(data) - at >= PRELUDE.size:
            total, headers, crc = PRELUDE.unpack_from(data, at)
            if zlib.crc32(data[at : at + 8]) != crc or not headers + 16 <= total <= MAX_MESSAGE_BYTES:
                raise Malformed("prelude")
            if len(data) - at < total:
                break
            message = data[at : at + total]
            if zlib.crc32(message[:-4]) != int.from_bytes(message[-4:], "big"):
                raise Malformed("checksum")
            self._message(message[12 : 12 + headers], message[12 + headers : -4], found)
            at += total
        self._held = data[at:]
        return found

    def _message(self, block: bytes, payload: bytes, found: list[bytes]) -> None:
        # SageMaker sends one kind of event, and its three headers are strings: a search is enough to tell it.
        if b":message-type\x07\x00\x05event" in block:
            if b":event-type\x07\x00\x0bPayloadPart" in block:
                found.append(payload)
            return
        names = _strings(block)
        self.failure = names.get(":exception-type") or names.get(":error-code") or "unnamed"


def _strings(block: bytes) -> dict[str, str]:
    """Return the headers of a failure, which are strings all; what is not ends the reading."""
    found: dict[str, str] = {}
    at = 0
    while at < len(block):
        name_end = at + 1 + block[at]
        if name_end + 3 > len(block) or block[name_end] != STRING:
            break
        length = int.from_bytes(block[name_end + 1 : name_end + 3], "big")
        value = block[name_end + 3 : name_end + 3 + length]
        found[block[at + 1 : name_end].decode("utf-8", "replace")] = value.decode("utf-8", "replace")
        at = name_end + 3 + length
    return found
