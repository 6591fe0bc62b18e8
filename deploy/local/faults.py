"""Every fault the local SageMaker can be told to make: one class a kind, the JSON `kind` is its name in snake case.

    answers   throttle · service_unavailable · internal_failure · internal_dependency · model_not_ready ·
              access_denied · expired_token · validation · aws_error · model_error · model_timeout · html · oversized ·
              reset and close (without a count)
    container reply · reply_tail · container_gone
    time      delay · stall · drip
    frames    reset, close and bad_chunk (after frames) · truncated_frame · crc_flipped · huge_length ·
              bad_headers_length · header_type · no_headers · extra_headers · unknown_event · empty_part ·
              empty_stream · model_stream_error · internal_stream_failure · error_frame
    body      reset and close (after bytes)
    head      response_header · retry_after · content_type
    shape     cut · chunking
    then      close_idle

A call takes the first waiting fault of each line (of cut, chunking, delay and the other two times one each) and all of
`head`. With one of `answers` it takes none of container, frames, body, shape, stall and drip: they wait for a later
call. A fault of `frames` waits for a streaming call and one of `body` for a whole one. Frames are counted from 0,
"after k frames" means before frame k, and a fault beyond the end of a stream acts at its end.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Union, cast

import msgspec

from deploy.local import cutting, presets
from deploy.local.faultbase import Fault, Role, snake_case
from deploy.local.members import STREAM, Operation
from deploy.local.streamfaults import (
    AfterFrames,
    BadChunk,
    BadHeadersLength,
    Breaking,
    Close,
    CrcFlipped,
    EmptyPart,
    EmptyStream,
    ErrorFrame,
    ExtraHeaders,
    FrameFault,
    HeaderType,
    HugeLength,
    InternalStreamFailure,
    ModelStreamError,
    NoHeaders,
    Reset,
    TruncatedFrame,
    UnknownEvent,
)

# --- answers -------------------------------------------------------------------------------------------------------


class Throttle(Fault, frozen=True):
    """HTTP 400, ThrottlingException, no message."""


class ServiceUnavailable(Fault, frozen=True):
    """HTTP 503."""


class InternalFailure(Fault, frozen=True):
    """HTTP 500."""


class InternalDependency(Fault, frozen=True):
    """HTTP 530."""


class ModelNotReady(Fault, frozen=True):
    """HTTP 429."""


class AccessDenied(Fault, frozen=True):
    """HTTP 403: no policy allows the call."""


class ExpiredToken(Fault, frozen=True):
    """HTTP 403: the credentials are too old."""


class Validation(Fault, frozen=True):
    """HTTP 400; without a message, the one for an endpoint that does not exist."""

    message: str | None = None


class AwsError(Fault, frozen=True):
    """Any other error AWS may answer, such as RequestTimeTooSkewed."""

    status: int
    code: str
    message: str | None = None


class ModelError(Fault, frozen=True):
    """HTTP 424 as for a container that answered `status` and `body`; status 0 is no answer. Or a preset of LMI's."""

    status: int | None = None
    body: str = ""
    preset: str | None = None

    def __post_init__(self) -> None:
        if (self.status is None) == (self.preset is None):
            raise ValueError("model_error needs either a status or a preset")
        if self.preset is not None and presets.find(self.preset).status < 400:
            raise ValueError(f"preset {self.preset!r} belongs into a running stream: use reply_tail")


class ModelTimeout(Fault, frozen=True):
    """HTTP 424 at once, with the text AWS sends when a container took too long."""


class Html(Fault, frozen=True):
    """A page from something between: not AWS' JSON, not the container's reply, no request id."""

    status: int = 502
    body: str = "<html><head><title>502 Bad Gateway</title></head><body><h1>502 Bad Gateway</h1></body></html>\r\n"


class Oversized(Fault, frozen=True):
    """A successful answer of `total_bytes` of spaces; in a stream, in PayloadParts of 64 KiB."""

    total_bytes: int
    declared: bool = True
    """Whole answers: announce the length, instead of chunks without an end in sight."""


# --- container -----------------------------------------------------------------------------------------------------


class Reply(Fault, frozen=True):
    """The container answers this instead; each chunk is one HTTP chunk of the container."""

    default_role: ClassVar[Role] = "container"
    chunks: list[str] | None = None
    chunks_base64: list[str] | None = None
    status: int = 200
    content_type: str = "application/json"

    def __post_init__(self) -> None:
        if (self.chunks is None) == (self.chunks_base64 is None):
            raise ValueError("reply needs either chunks or chunks_base64")
        _ = self.pieces

    @property
    def pieces(self) -> list[bytes]:
        """The chunks' bytes."""
        if self.chunks is not None:
            return [chunk.encode() for chunk in self.chunks]
        return [base64.b64decode(chunk, validate=True) for chunk in self.chunks_base64 or []]


class ReplyTail(Fault, frozen=True):
    """The container stops after some chunks and ends with a text or an LMI preset such as lmi27.stream_engine_died."""

    default_role: ClassVar[Role] = "container"
    after_chunks: int
    text: str | None = None
    preset: str | None = None

    def __post_init__(self) -> None:
        if (self.text is None) == (self.preset is None):
            raise ValueError("reply_tail needs either a text or a preset")
        _ = self.tail

    @property
    def tail(self) -> bytes:
        """The last bytes the container sends."""
        return presets.find(self.preset).body if self.preset is not None else (self.text or "").encode()


class ContainerGone(Fault, frozen=True):
    """The container hangs up: before it answers, or in its reply after some chunks."""

    default_role: ClassVar[Role] = "container"
    after_chunks: int | None = None


# --- time ----------------------------------------------------------------------------------------------------------


class Delay(Fault, frozen=True):
    """Silence before the answer, whatever it is; without a number until the client leaves or the faults are cleared."""

    default_role: ClassVar[Role] = "delay"
    s: float | None = None


class Stall(Fault, frozen=True):
    """Silence in a stream after some frames; without a number until the client leaves or the faults are cleared."""

    default_role: ClassVar[Role] = "pace"
    only_on: ClassVar[Operation | None] = STREAM
    after_frames: int
    s: float | None = None


class Drip(Fault, frozen=True):
    """The body of the answer leaves in pieces of `bytes`, one each `interval_s`."""

    default_role: ClassVar[Role] = "pace"
    interval_s: float
    bytes: int = 1


# --- head ----------------------------------------------------------------------------------------------------------


class ResponseHeader(Fault, frozen=True):
    """One more header, written as it is (CR and LF too), or of `value_bytes` filler; replaces one of the same name."""

    default_role: ClassVar[Role] = "head"
    name: str
    value: str = ""
    value_bytes: int = 0

    @property
    def text(self) -> str:
        return self.value + "x" * self.value_bytes


class RetryAfter(Fault, frozen=True):
    """A Retry-After header, on whatever is answered."""

    default_role: ClassVar[Role] = "head"
    value: str


class ContentType(Fault, frozen=True):
    """A good answer under another name: `outer` is its Content-Type, `container` its X-Amzn-SageMaker-Content-Type."""

    default_role: ClassVar[Role] = "head"
    outer: str | None = None
    container: str | None = None


# --- shape ---------------------------------------------------------------------------------------------------------


class Cut(Fault, frozen=True):
    """PayloadParts cut in this mode."""

    default_role: ClassVar[Role] = "cut"
    only_on: ClassVar[Operation | None] = STREAM
    mode: str

    def __post_init__(self) -> None:
        cutting.parse_cut(self.mode)


class Chunking(Fault, frozen=True):
    """Frames put into HTTP chunks in this mode."""

    default_role: ClassVar[Role] = "chunking"
    only_on: ClassVar[Operation | None] = STREAM
    mode: str

    def __post_init__(self) -> None:
        cutting.parse_chunking(self.mode)


# --- connection ----------------------------------------------------------------------------------------------------


class CloseIdle(Fault, frozen=True):
    """The connection goes stale after a good answer, unannounced: at once, or as the next request arrives on it."""

    default_role: ClassVar[Role] = "then"
    when: Literal["at_once", "next_request"] = "at_once"
    reset: bool = False
    """For next_request: RST instead of FIN."""


def kinds() -> dict[str, type[Fault]]:
    """Return every fault by its JSON kind."""
    found: dict[str, type[Fault]] = {}
    open_classes = [Fault]
    while open_classes:
        for cls in open_classes.pop().__subclasses__():
            open_classes.append(cls)
            if not cls.__subclasses__():  # The others are what several kinds share.
                found[snake_case(cls.__name__)] = cls
    return found


_ANY_KIND: Any = Union[tuple(kinds().values())]  # noqa: UP007 - the members are computed


def parse(options: Mapping[str, object]) -> Fault:
    """Return the fault a JSON object describes.

    Raises:
        ValueError: the kind or an option does not exist or does not fit; the text names it.
    """
    if options.get("kind") not in kinds():
        raise ValueError(f"unknown fault kind {options.get('kind')!r}: use one of {', '.join(sorted(kinds()))}")
    try:
        return cast(Fault, msgspec.convert(options, _ANY_KIND))
    except msgspec.ValidationError as error:
        raise ValueError(f"{options['kind']}: {error}") from error


__all__ = [
    "AccessDenied",
    "AfterFrames",
    "AwsError",
    "BadChunk",
    "BadHeadersLength",
    "Breaking",
    "Chunking",
    "Close",
    "CloseIdle",
    "ContainerGone",
    "ContentType",
    "CrcFlipped",
    "Cut",
    "Delay",
    "Drip",
    "EmptyPart",
    "EmptyStream",
    "ErrorFrame",
    "ExpiredToken",
    "ExtraHeaders",
    "Fault",
    "FrameFault",
    "HeaderType",
    "Html",
    "HugeLength",
    "InternalDependency",
    "InternalFailure",
    "InternalStreamFailure",
    "ModelError",
    "ModelNotReady",
    "ModelStreamError",
    "ModelTimeout",
    "NoHeaders",
    "Oversized",
    "Reply",
    "ReplyTail",
    "Reset",
    "ResponseHeader",
    "RetryAfter",
    "ServiceUnavailable",
    "Stall",
    "Throttle",
    "TruncatedFrame",
    "UnknownEvent",
    "Validation",
    "kinds",
    "parse",
]
