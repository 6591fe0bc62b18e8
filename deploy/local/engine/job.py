"""One request, ready to be answered: what both kinds of reply are made of."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

from deploy.local.engine import jsontext
from deploy.local.engine.bodies import SamplingBody
from deploy.local.engine.dialect import Dialect
from deploy.local.engine.generation import Step
from deploy.local.engine.options import Options
from deploy.local.engine.refusal import ENGINE_DIED, ENGINE_DIED_FOR_CLIENTS

Record = tuple[int, bytes]
"""A record of a stream and how many tokens it had to wait for."""


class Job(Protocol):
    """An answer that has been decided, in a reply's shape."""

    @property
    def streams(self) -> bool:
        """Whether the request asked for a stream."""
        ...

    @property
    def fails_after(self) -> int | None:
        """After how many tokens the engine dies, or None if it does not."""
        ...

    @property
    def rounds(self) -> int:
        """How many tokens the longest choice has."""
        ...

    def whole(self) -> bytes:
        """Return the reply's JSON."""
        ...

    def records(self) -> Iterator[Record]:
        """Give the stream's records: JSON without a frame around it."""
        ...


@dataclass(slots=True)
class Reply:
    """What the replies to one request have in common."""

    body: SamplingBody
    dialect: Dialect
    options: Options
    model: str
    """The name the reply gives: the served one, or an adapter's."""
    id: str
    created: int = field(default_factory=lambda: int(time.time()))

    @property
    def includes_usage(self) -> bool:
        """Whether a stream ends with its usage; `stream_options: {}` said so up to 0.17."""
        chosen = self.body.stream_options
        if chosen is None:
            return False
        if chosen.include_usage is None:
            return "include_usage" not in chosen.model_fields_set and not self.dialect.since(0, 18)
        return chosen.include_usage

    @property
    def counts_always(self) -> bool:
        """Whether every chunk of a stream has its usage so far."""
        chosen = self.body.stream_options
        return self.includes_usage and chosen is not None and bool(chosen.continuous_usage_stats)

    def usage(self, prompt: int, completion: int, reasoning: int | None) -> dict[str, Any]:
        """Return a whole reply's `usage`; `reasoning` counts tokens of thought, None without a parser for them."""
        made: dict[str, Any] = {
            "prompt_tokens": prompt,
            "total_tokens": prompt + completion,
            "completion_tokens": completion,
            "prompt_tokens_details": None,
        }
        if self.dialect.since(0, 27):
            made["completion_tokens_details"] = None if reasoning is None else {"reasoning_tokens": reasoning}
        return made

    def running_usage(self, prompt: int, completion: int) -> bytes:
        """Return the counts every `usage` in a stream begins with, without the closing brace."""
        return b'{"prompt_tokens":%d,"total_tokens":%d,"completion_tokens":%d' % (
            prompt,
            prompt + completion,
            completion,
        )

    def fingerprint(self) -> bytes:
        """Return the field of a stream's last chunk, or nothing where there is none."""
        name = self.dialect.fingerprint
        return b"" if name is None else b',"system_fingerprint":' + jsontext.string(name)


def stream_error(dialect: Dialect, *, chat: bool) -> bytes:
    """Return the record a dying engine leaves in a stream."""
    message = ENGINE_DIED_FOR_CLIENTS if dialect.since(0, 33) else ENGINE_DIED
    error: dict[str, Any] = {"message": message, "type": "InternalServerError", "param": None, "code": 500}
    if not dialect.since(0, 14):
        # Only the text was passed on, so that it became the caller's fault.
        error |= {"type": "BadRequestError", "code": 400}
    if not dialect.since(0, 10, 1):
        error = {"object": "error", **error}
    compact = chat and dialect.since(0, 33)
    return jsontext.value({"error": error}) if compact else jsontext.spaced({"error": error})


def rounds_of(choices: list[list[Step]]) -> Iterator[tuple[int, int, Step]]:
    """Give the steps of all choices as they are generated, side by side: round, choice, step."""
    if len(choices) == 1:
        for number, step in enumerate(choices[0]):
            yield number, 0, step
        return
    for number in range(max(map(len, choices), default=0)):
        for index, steps in enumerate(choices):
            if number < len(steps):
                yield number, index, steps[number]
