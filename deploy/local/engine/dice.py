"""Choices that look like chance and are not: the same seed, the same choices, on every machine."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


class Dice:
    """A linear congruential generator."""

    def __init__(self, *seed: object) -> None:
        self._state = zlib.crc32(repr(seed).encode())

    def below(self, bound: int) -> int:
        """Return a number from 0 to `bound` - 1."""
        # Constants of Knuth's MMIX; the low bits are the poor ones.
        self._state = (self._state * 6364136223846793005 + 1442695040888963407) & 0xFFFFFFFFFFFFFFFF
        return (self._state >> 33) % bound

    def pick(self, choices: Sequence[T]) -> T:
        """Return one of `choices`."""
        return choices[self.below(len(choices))]


class FirstChoice(Dice):
    """What greedy sampling throws: always the first."""

    def below(self, bound: int) -> int:
        """Return 0."""
        return 0
