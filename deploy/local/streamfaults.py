"""The faults of an answer on its way: connections that break, frames that lie, streams that end too soon."""

from __future__ import annotations

from typing import ClassVar, Literal

from deploy.local.faultbase import Fault, Role
from deploy.local.members import STREAM, WHOLE, Operation


class Breaking(Fault, frozen=True):
    """Ends the connection."""

    after_frames: int | None = None
    after_bytes: int | None = None

    def __post_init__(self) -> None:
        if self.after_frames is not None and self.after_bytes is not None:
            raise ValueError(f"{self.kind} takes after_frames (streams) or after_bytes (whole answers), not both")

    @property
    def role(self) -> Role:
        if self.after_frames is not None:
            return "frames"
        return "answer" if self.after_bytes is None else "body"

    @property
    def operation(self) -> Operation | None:
        return {"frames": STREAM, "body": WHOLE}.get(self.role)


class Reset(Breaking, frozen=True):
    """RST: without a count before any byte of the answer."""


class Close(Breaking, frozen=True):
    """FIN: without a count before any byte of the answer; `ended` finishes the HTTP body of a stream first."""

    ended: bool = False


class FrameFault(Fault, frozen=True):
    """Damages or precedes one frame."""

    default_role: ClassVar[Role] = "frames"
    only_on: ClassVar[Operation | None] = STREAM
    frame: int = 0


class AfterFrames(Fault, frozen=True):
    """Ends the stream before one frame."""

    default_role: ClassVar[Role] = "frames"
    only_on: ClassVar[Operation | None] = STREAM
    after_frames: int = 0


class BadChunk(AfterFrames, frozen=True):
    """A chunk size that is no number, then FIN."""


class EmptyStream(Fault, frozen=True):
    """HTTP 200 and a proper end without a single frame."""

    default_role: ClassVar[Role] = "frames"
    only_on: ClassVar[Operation | None] = STREAM


class TruncatedFrame(FrameFault, kw_only=True, frozen=True):
    """The first `at` bytes of a frame; then the HTTP body ends properly, or the connection closes or resets."""

    at: int
    then: Literal["end", "close", "reset"] = "end"


class CrcFlipped(FrameFault, frozen=True):
    """One bit of a checksum is wrong, the other checksum is right; the stream goes on."""

    which: Literal["message", "prelude"] = "message"


class HugeLength(FrameFault, frozen=True):
    """A frame that declares `total` bytes, with the prelude's CRC right for it; then the stream goes on."""

    total: int = 2**31 - 1


class BadHeadersLength(FrameFault, frozen=True):
    """A frame whose headers are declared longer than the frame itself; both CRCs are right."""

    length: int | None = None


class HeaderType(FrameFault, frozen=True):
    """A frame with one more header, of a type that does not exist; both CRCs are right."""

    type: int = 42


class NoHeaders(FrameFault, frozen=True):
    """A frame without any header; both CRCs are right."""


class ExtraHeaders(FrameFault, frozen=True):
    """A good frame with one more header of each of the ten types."""


class UnknownEvent(FrameFault, frozen=True):
    """One more frame, of an event type nobody knows, before frame `frame`."""

    event_type: str = "Surprise"


class EmptyPart(FrameFault, frozen=True):
    """One more PayloadPart, without bytes, before frame `frame`."""


class ModelStreamError(AfterFrames, frozen=True):
    """The stream ends with this modelled exception."""

    error_code: str = "ModelInvocationTimeExceeded"
    message: str = "Your model primary did not complete sending the inference response in the allotted time."


class InternalStreamFailure(AfterFrames, frozen=True):
    """The stream ends with this modelled exception."""

    message: str = "The stream processing failed because of an unknown error, exception or failure."


class ErrorFrame(AfterFrames, frozen=True):
    """The stream ends with an error frame, which no model describes."""

    code: str = "InternalError"
    message: str = "An internal server error occurred"
