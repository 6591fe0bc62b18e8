"""The gateway's errors in the words of Text Generation Inference: `{"error": text, "error_type": kind}`.

TGI has four kinds that its clients know, each with a status, and most with a way to begin the text. What fits none of
them keeps its own status, and its code is its kind.
https://github.com/huggingface/text-generation-inference: router/src/server.rs, router/src/infer/mod.rs
"""

from __future__ import annotations

from http import HTTPStatus
from typing import NamedTuple

import msgspec

from adapters.tgi.refusal import TgiRefusal
from gateway.errors import (
    GatewayError,
    InvalidJson,
    InvalidRequest,
    LimitError,
    UpstreamFault,
    UpstreamProtocol,
    UpstreamThrottled,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from gateway.errors import ModelNotReady as NotReady

_encode = msgspec.json.Encoder().encode


class Words(NamedTuple):
    """How TGI says that something went wrong."""

    status: int
    kind: str
    begins: str


VALIDATION = Words(422, "validation", "Input validation error: ")
NO_JSON = Words(400, "validation", "")
GENERATION = Words(424, "generation", "Request failed during generation: ")
OVERLOADED = Words(429, "overloaded", "")
INCOMPLETE = Words(500, "incomplete_generation", "Incomplete generation: ")

_WORDS: tuple[tuple[type[GatewayError], Words | None], ...] = (
    (LimitError, OVERLOADED),
    (InvalidJson, NO_JSON),
    (InvalidRequest, VALIDATION),
    (UpstreamThrottled, OVERLOADED),
    (UpstreamUnavailable, OVERLOADED),
    (UpstreamProtocol, INCOMPLETE),
    (UpstreamTimeout, None),
    (NotReady, None),
    (UpstreamFault, GENERATION),
)
"""The first class that fits has the word; None is for what TGI has none for."""


class TgiWorded(GatewayError):
    """An `InvalidRequest` that was refused in TGI's own words, and with its status."""

    status, type, code = InvalidRequest.status, InvalidRequest.type, InvalidRequest.code

    def __init__(self, refusal: TgiRefusal) -> None:
        super().__init__(refusal.message)
        # TGI answers what is no JSON, or not of the right types, as plain text, which its own clients cannot read.
        self.words = Words(refusal.status, refusal.error_type or VALIDATION.kind, "")


class TgiNoJson(TgiWorded):
    """The same of an `InvalidJson`."""

    code = InvalidJson.code


def worded(refusal: TgiRefusal) -> TgiWorded:
    """Return the answer to a request that adapters/tgi refused."""
    return (TgiNoJson if refusal.status == HTTPStatus.BAD_REQUEST else TgiWorded)(refusal)


def words_for(error: GatewayError) -> Words:
    """Return how TGI would say it."""
    if isinstance(error, TgiWorded):
        return error.words
    for kind, words in _WORDS:
        if isinstance(error, kind):
            return words or Words(error.status, error.code, "")
    return Words(error.status, error.code, "")


def body_of(error: GatewayError) -> tuple[int, bytes]:
    """Return an error's status and body."""
    words = words_for(error)
    return words.status, _body(words, error)


def event_of(error: GatewayError) -> bytes:
    """Return an error as a server-sent event; TGI writes no space after the colon."""
    words = words_for(error)
    # Whoever has begun to answer is not overloaded.
    return b"data:" + _body(GENERATION if words is OVERLOADED else words, error) + b"\n\n"


def _body(words: Words, error: GatewayError) -> bytes:
    return _encode({"error": words.begins + error.message, "error_type": words.kind})
