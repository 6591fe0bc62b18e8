"""AWS event stream, incrementally: bytes in, payloads out, both checksums verified.

A message, integers big-endian:

    u32 total length │ u32 headers length │ u32 CRC-32 of these 8 bytes │ headers │ payload │ u32 CRC-32 of all before

https://docs.aws.amazon.com/transcribe/latest/dg/streaming-setting-up.html#streaming-event-stream and
botocore/eventstream.py
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from zlib import crc32

import msgspec

PRELUDE_BYTES = 12
OVERHEAD_BYTES = 16
MAX_HEADERS_BYTES = 128 * 1024
MAX_PAYLOAD_BYTES = 24 * 1024 * 1024
MAX_MESSAGE_BYTES = OVERHEAD_BYTES + MAX_HEADERS_BYTES + MAX_PAYLOAD_BYTES

_prelude = struct.Struct(">III").unpack_from
_u16 = struct.Struct(">H").unpack_from
_u32 = struct.Struct(">I").unpack_from

_STRING = 7
# Value sizes of the header types 0 to 9; None where a u16 length comes first.
_VALUE_BYTES: tuple[int | None, ...] = (0, 0, 1, 2, 4, 8, None, None, 8, 16)

# Header blocks that are remembered: how many at most, and how long each.
MAX_KNOWN_BLOCKS = 64
MAX_KNOWN_BLOCK_BYTES = 256


class FramingError(Exception):
    """The bytes are not an event stream, or were damaged on the way. Nothing after this point can be trusted."""


@dataclass(frozen=True, slots=True)
class StreamFailure:
    """SageMaker's own report, inside a stream, that the stream failed."""

    name: str
    """Exception type (`ModelStreamError`, `InternalStreamFailure`) or error code."""
    code: str | None
    """`ModelInvocationTimeExceeded` or `StreamBroken`, with a ModelStreamError."""
    message: str


class EventStreamDecoder:
    """Decodes one response stream."""

    __slots__ = ("_need", "_pending", "failure")

    # A stream uses a handful of distinct header blocks, nearly always one: remember which carry payload.
    _carries_payload: dict[bytes, bool] = {}  # noqa: RUF012 - shared by all streams on purpose, bounded in _classify

    def __init__(self) -> None:
        self._pending = bytearray()
        self._need = PRELUDE_BYTES
        self.failure: StreamFailure | None = None
        """Set once SageMaker reported a failure; no payload follows it."""

    @property
    def between_messages(self) -> bool:
        """No message has begun and not ended: the only place where a stream may stop."""
        return not self._pending

    def feed(self, data: bytes) -> list[bytes]:
        """Return the payloads of the PayloadPart messages completed by `data`, oldest first, empty ones left out.

        Raises:
            FramingError: a checksum or length is wrong, or a message is not one of this protocol. Payloads of the
                messages before the bad one are in its `args[1]`.
        """
        pending = self._pending
        if pending:
            pending += data
            if len(pending) < self._need:
                return []
            data = bytes(pending)
            pending.clear()
        payloads: list[bytes] = []
        position, end = 0, len(data)
        while end - position >= PRELUDE_BYTES:
            total, headers_length, prelude_crc = _prelude(data, position)
            checksum = crc32(data[position : position + 8])
            if checksum != prelude_crc:
                raise FramingError("prelude checksum mismatch", payloads)
            too_long = total > MAX_MESSAGE_BYTES or headers_length > MAX_HEADERS_BYTES
            if too_long or total < headers_length + OVERHEAD_BYTES:
                raise FramingError("message length out of bounds", payloads)
            stop = position + total
            if stop > end:
                self._need = total
                break
            body_start = position + PRELUDE_BYTES + headers_length
            if crc32(data[position + 8 : stop - 4], checksum) != _u32(data, stop - 4)[0]:
                raise FramingError("message checksum mismatch", payloads)
            if self.failure is None:
                headers = data[position + PRELUDE_BYTES : body_start]
                carries = self._carries_payload.get(headers)
                if carries is None:
                    try:
                        carries = self._classify(headers, data[body_start : stop - 4])
                    except FramingError as error:
                        raise FramingError(error.args[0], payloads) from None
                if carries and stop - 4 > body_start:
                    payloads.append(data[body_start : stop - 4])
            position = stop
            self._need = PRELUDE_BYTES
        if position < end:
            pending += data[position:]
        return payloads

    def _classify(self, block: bytes, payload: bytes) -> bool:
        """Tell whether messages with this header block carry payload; take note of a failure."""
        headers = _parse_headers(block)
        kind = headers.get(":message-type")
        if kind == "event":
            carries = headers.get(":event-type") == "PayloadPart"
            if len(block) <= MAX_KNOWN_BLOCK_BYTES:
                if len(self._carries_payload) >= MAX_KNOWN_BLOCKS:
                    self._carries_payload.clear()  # so that a passing variety does not keep the usual one out
                self._carries_payload[block] = carries
            return carries
        if kind == "exception":
            self.failure = _exception(headers.get(":exception-type", "unknown"), payload)
        elif kind == "error":
            self.failure = StreamFailure(headers.get(":error-code", "unknown"), None, headers.get(":error-message", ""))
        else:
            raise FramingError(f"unknown message type {kind[:64]!r}" if kind else "no message type")
        return False


def _parse_headers(block: bytes) -> dict[str, str]:
    """Return the headers; values of other types than string are checked and left empty.

    Raises:
        FramingError: the block does not parse to its exact end, or has a header twice.
    """
    found: dict[str, str] = {}
    position, end = 0, len(block)
    try:
        while position < end:
            name_end = position + 1 + block[position]
            name = block[position + 1 : name_end].decode()
            kind = block[name_end]
            size = _VALUE_BYTES[kind]
            position = name_end + 1
            if size is None:
                size = _u16(block, position)[0]
                position += 2
            value = block[position : position + size]
            position += size
            if position > end:
                break
            if name in found:
                raise FramingError("a header occurs twice")
            found[name] = value.decode() if kind == _STRING else ""
    except (IndexError, ValueError, struct.error):
        raise FramingError("headers do not parse") from None
    if position != end:
        raise FramingError("headers do not parse")
    return found


def _exception(name: str, payload: bytes) -> StreamFailure:
    try:
        document = msgspec.json.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        document = None
    if not isinstance(document, dict):
        return StreamFailure(name, None, "")
    code, message = document.get("ErrorCode"), document.get("Message") or document.get("message")
    return StreamFailure(name, code if isinstance(code, str) else None, message if isinstance(message, str) else "")
