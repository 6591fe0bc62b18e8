"""Where a container's bytes are cut: into PayloadParts, and those frames into HTTP chunks.

SageMaker promises nothing about either: a part may hold several records, half a record or half a character.
Positions depend on the bytes and the mode alone, never on time, so a run can be repeated.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator
from typing import Protocol

CUT_MODES = "as-written, bytes, sizes:N[,N…], random:SEED[:MAX_BYTES], merge, merge:CHUNKS"
CHUNKING_MODES = "frame, split:BYTES, join:FRAMES"
RANDOM_MAX_BYTES = 64


class Cutter(Protocol):
    """Turns the container's chunks of one call into the payloads of its PayloadParts."""

    def feed(self, chunk: bytes) -> list[bytes]:
        """Return the payloads that are complete with `chunk`."""
        ...

    def flush(self) -> list[bytes]:
        """Return what is still held, at the end of the container's reply."""
        ...


def parse_cut(mode: str) -> Callable[[], Cutter]:
    """Return a maker of cutters, one for each call.

    Raises:
        ValueError: `mode` is none of CUT_MODES.
    """
    name, _, rest = mode.partition(":")
    try:
        match name, rest:
            case "as-written", "":
                return AsWritten
            case "bytes", "":
                return lambda: Sized(itertools.repeat(1))
            case "sizes", _:
                sizes = [_at_least_one(size) for size in rest.split(",")]
                return lambda: Sized(itertools.cycle(sizes))
            case "random", _:
                seed, _, most = rest.partition(":")
                number, max_bytes = int(seed), _at_least_one(most or str(RANDOM_MAX_BYTES))
                return lambda: Sized(_random_sizes(number, max_bytes))
            case "merge", _:
                count = _at_least_one(rest) if rest else None
                return lambda: Merged(count)
    except ValueError:
        pass
    raise ValueError(f"unknown cut {mode!r}: use one of {CUT_MODES}")


def parse_chunking(mode: str) -> tuple[int | None, int]:
    """Return (bytes of a frame in one HTTP chunk or None for whole frames, frames in one HTTP chunk).

    Raises:
        ValueError: `mode` is none of CHUNKING_MODES.
    """
    name, _, rest = mode.partition(":")
    try:
        match name, rest:
            case "frame", "":
                return None, 1
            case "split", _:
                return _at_least_one(rest), 1
            case "join", _:
                return None, _at_least_one(rest)
    except ValueError:
        pass
    raise ValueError(f"unknown chunking {mode!r}: use one of {CHUNKING_MODES}")


class AsWritten:
    """One part for each chunk of the container."""

    def feed(self, chunk: bytes) -> list[bytes]:
        return [chunk] if chunk else []

    def flush(self) -> list[bytes]:
        return []


class Sized:
    """Parts of given sizes, wherever the container's chunks began or ended."""

    def __init__(self, sizes: Iterator[int]) -> None:
        self._sizes = sizes
        self._held = bytearray()
        self._next = next(sizes)

    def feed(self, chunk: bytes) -> list[bytes]:
        held, parts = self._held, []
        held += chunk
        while len(held) >= self._next:
            parts.append(bytes(held[: self._next]))
            del held[: self._next]
            self._next = next(self._sizes)
        return parts

    def flush(self) -> list[bytes]:
        rest, self._held = bytes(self._held), bytearray()
        return [rest] if rest else []


class Merged:
    """One part for each `count` chunks of the container, or one for them all."""

    def __init__(self, count: int | None) -> None:
        self._count = count
        self._held: list[bytes] = []

    def feed(self, chunk: bytes) -> list[bytes]:
        self._held.append(chunk)
        return self.flush() if len(self._held) == self._count else []

    def flush(self) -> list[bytes]:
        whole, self._held = b"".join(self._held), []
        return [whole] if whole else []


def _random_sizes(seed: int, max_bytes: int) -> Iterator[int]:
    source = random.Random(seed)  # noqa: S311 - reproducible, not secret
    while True:
        yield source.randint(1, max_bytes)


def _at_least_one(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError("must be at least 1")
    return number
