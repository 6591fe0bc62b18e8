"""What a fault makes of a stream: for each frame, the bytes that leave in its place and whether the stream ends there.

Pure: every row of the table is a call of `step`.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import Literal

from deploy.local import eventstream, faults
from deploy.local.eventstream import PART_HEADERS, STRING, payload_part, string_header

Finish = Literal["end", "close", "reset", "bad chunk"]
"""end: the HTTP body ends properly; close and reset: the connection does, in mid-body."""


@dataclass(frozen=True, slots=True)
class Step:
    """What is sent in the place of a frame."""

    frames: tuple[bytes, ...]
    fragment: bytes = b""
    """Part of a frame, sent after the whole ones."""
    finish: Finish | None = None
    """How the stream ends after them, or None if it goes on."""


def step(fault: faults.Fault | None, index: int, payload: bytes | None) -> Step:
    """Return what is sent for the PayloadPart number `index`, or, with no payload, for the end of the stream."""
    last = payload is None
    ordinary = () if payload is None else (payload_part(payload),)
    otherwise = Step(ordinary, finish="end" if last else None)
    if isinstance(fault, faults.EmptyStream):
        return Step((), finish="end")
    if isinstance(fault, faults.AfterFrames | faults.Reset | faults.Close):
        due = index == fault.after_frames or (last and index < (fault.after_frames or 0))
        return _ending(fault) if due else otherwise
    if isinstance(fault, faults.FrameFault):
        due = index == fault.frame or (last and index < fault.frame)
        return _damaged(fault, payload, otherwise) if due else otherwise
    return otherwise


def _ending(fault: faults.Fault) -> Step:
    match fault:
        case faults.Reset():
            return Step((), finish="reset")
        case faults.Close(ended=True):
            return Step((), finish="end")
        case faults.BadChunk():
            return Step((), finish="bad chunk")
        case faults.ModelStreamError(error_code=code, message=message):
            frame = eventstream.exception("ModelStreamError", {"Message": message, "ErrorCode": code})
            return Step((frame,), finish="end")
        case faults.InternalStreamFailure(message=message):
            return Step((eventstream.exception("InternalStreamFailure", {"Message": message}),), finish="end")
        case faults.ErrorFrame(code=code, message=message):
            return Step((eventstream.error(code, message),), finish="end")
        case _:
            return Step((), finish="close")


def _damaged(fault: faults.FrameFault, payload: bytes | None, otherwise: Step) -> Step:
    good = payload_part(payload or b"")
    match fault:
        case faults.UnknownEvent(event_type=event_type):
            return _before(eventstream.event(event_type, b'{"a":1}', "application/json"), otherwise)
        case faults.EmptyPart():
            return _before(payload_part(b""), otherwise)
        case faults.TruncatedFrame(at=at, then=then):
            return Step((), fragment=good[: min(at, len(good) - 1)], finish=then)
        case faults.CrcFlipped(which=which):
            bad = _flip(good, len(good) - 1) if which == "message" else _resealed(_flip(good, 11))
        case faults.HugeLength(total=total):
            bad = _with_lengths(good, total=total)
        case faults.BadHeadersLength(length=length):
            bad = _with_lengths(good, headers=len(good) + 1 if length is None else length)
        case faults.HeaderType(type=number):
            bad = eventstream.frame(PART_HEADERS + b"\x01x" + struct.pack(">B", number), payload or b"")
        case faults.NoHeaders():
            bad = eventstream.frame(b"", payload or b"")
        case faults.ExtraHeaders():
            bad = eventstream.frame(PART_HEADERS + every_header_type(), payload or b"")
        case _:
            raise TypeError(f"{fault.kind} is no fault of frames")
    return Step((bad,), finish=otherwise.finish)


def _before(extra: bytes, otherwise: Step) -> Step:
    return Step((extra, *otherwise.frames), finish=otherwise.finish)


def _flip(frame: bytes, index: int) -> bytes:
    return frame[:index] + bytes([frame[index] ^ 1]) + frame[index + 1 :]


def _with_lengths(frame: bytes, *, total: int | None = None, headers: int | None = None) -> bytes:
    """Return the frame with other lengths declared, and both CRCs right for them."""
    old_total, old_headers = struct.unpack_from(">II", frame)
    prelude = struct.pack(">II", old_total if total is None else total, old_headers if headers is None else headers)
    return _resealed(prelude + struct.pack(">I", zlib.crc32(prelude)) + frame[12:])


def _resealed(frame: bytes) -> bytes:
    """Return the frame with the message's CRC made right."""
    return frame[:-4] + struct.pack(">I", zlib.crc32(frame[:-4]))


def every_header_type() -> bytes:
    """Return ten headers, t0 to t9, one of each type the encoding knows."""
    values = (
        b"",  # 0 true
        b"",  # 1 false
        b"\x7f",  # 2 byte
        b"\x01\x02",  # 3 short
        b"\x00\x00\x00\x01",  # 4 integer
        b"\x00" * 7 + b"\x01",  # 5 long
        b"\x00\x03\x00\xff\x0a",  # 6 bytes, with a u16 length
        None,  # 7 string
        struct.pack(">q", 1_700_000_000_000),  # 8 timestamp in ms
        bytes(range(16)),  # 9 UUID
    )
    encoded = b""
    for number, value in enumerate(values):
        if value is None:
            encoded += string_header(f"t{STRING}", "text")
        else:
            encoded += struct.pack(">B2sB", 2, f"t{number}".encode(), number) + value
    return encoded
