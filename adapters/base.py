"""The seam between the gateway and a container's dialect.

An adapter is chosen after the deployment, because the container behind it decides the dialect, and is run again from
the untouched request for every attempt. It performs no IO and asks no clock.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from adapters.errors import ContainerFault

if TYPE_CHECKING:
    from adapters.openai.media import MediaPart


class Surface(StrEnum):
    """The public API a call came in through."""

    CHAT = "chat"
    COMPLETIONS = "completions"
    GENERATE = "generate"
    """TGI's own: `inputs` and `parameters`; see adapters/tgi."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Token counts as the container reported them."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0
    """The part of `prompt_tokens` that came from the container's prefix cache."""


@dataclass(frozen=True, slots=True)
class Call:
    """One request body, parsed and checked once."""

    surface: Surface
    model: str
    """The public name the caller used."""
    raw: dict[str, msgspec.Raw]
    """Top-level fields as the caller wrote them, byte for byte."""
    values: dict[str, Any]
    """The same fields decoded."""
    stream: bool
    include_usage: bool
    """The caller asked for the closing usage chunk of a stream."""
    choices: int
    """How many choices the container will produce: n, times the number of prompts."""
    max_tokens: int | None
    """The caller's cap on new tokens per choice, None where absent."""
    context_length: int | None = None
    """Tokens the model's prompt and answer may have together, for surfaces whose default cap is what is left of them;
    None where the configuration does not say."""
    media: tuple[MediaPart, ...] = ()
    """Images, sounds and films of the prompt, in its order."""
    part_types: frozenset[str] = frozenset()
    """Types of content parts other than `text`."""


@dataclass(frozen=True, slots=True)
class Whole:
    """A whole reply, ready for the caller."""

    body: bytes
    usage: Usage | None


class StreamDecoder(Protocol):
    """A container's stream, incrementally: bytes in, the caller's events out.

    Never raises out of `feed` or `end`: what goes wrong is `fault` (the container says so) or `malformed` (its bytes).
    Once either is set, or the stream is over, later bytes are counted in `dropped` and ignored.
    """

    usage: Usage | None
    """Known once the container's usage chunk has passed."""
    chunks: int
    """Content events relayed so far."""
    complete: bool
    """The container's terminal marker has been seen."""
    fault: ContainerFault | None
    malformed: str | None
    dropped: int
    """Records that came after the end and were dropped."""
    ended: bool
    """The answer's last event has been returned, complete: `data: [DONE]`, or what its surface ends with."""

    def feed(self, data: bytes) -> list[bytes]:
        """Return the events completed by `data`, oldest first, each a whole SSE event (`data: …`, blank line).

        Chunks may be cut anywhere, even inside a character.
        """
        ...

    def end(self) -> list[bytes]:
        """The container's bytes are over: return the last events, the end mark (`ended`) only if all has come.

        An answer without its terminal marker sets `malformed`.
        """
        ...


class Assembler(Protocol):
    """A container's stream, gathered into the reply the container would have given whole."""

    usage: Usage | None
    chunks: int
    complete: bool
    """The container's terminal marker has been seen."""
    fault: ContainerFault | None
    malformed: str | None

    @property
    def over(self) -> bool:
        """Nothing that follows matters: the end mark has come, or what went wrong."""
        ...

    def feed(self, data: bytes) -> None: ...

    def end(self) -> Whole | None:
        """Return the whole reply, or None with `fault` or `malformed` set."""
        ...


class Adapter(Protocol):
    """One container dialect in one version."""

    def encode(self, call: Call, *, stream: bool) -> bytes:
        """Return the container's request body: `messages` or `prompt` first, volatile fields last.

        Equal calls give equal bytes.

        Raises:
            UnsupportedParameter: this version of the container would ignore or garble a parameter.
        """
        ...

    def decode_whole(self, call: Call, body: bytes) -> Whole | ContainerFault:
        """Return the reply with the public model name put back, or the fault a container reported with a 2xx status.

        Raises:
            MalformedReply: `body` is not this dialect's reply.
        """
        ...

    def decode_error(self, status: int, body: bytes, call: Call | None = None) -> ContainerFault:
        """Say what a container's non-2xx reply means, to `call` if that is known.

        Never raises; an unreadable body is judged by its status.
        """
        ...

    def stream_decoder(self, call: Call) -> StreamDecoder: ...

    def assembler(self, call: Call) -> Assembler: ...
