"""What is kept of every call, and of a stage as a process saw it."""

from __future__ import annotations

import msgspec

from deploy.bench.histogram import Histogram

COLUMNS = (
    "intended_s", "began_s", "first_s", "last_s", "ended_s",
    "input_tokens", "output_tokens", "estimated", "chunks", "longest_gap_s", "error",
)  # fmt: skip
"""The columns of a call in a run's file, in order."""


class CallRecord(msgspec.Struct, array_like=True, frozen=True):
    """One call. Times are seconds from the beginning of the measured window; before it is the warm-up."""

    intended_s: float
    """When it should have begun; latencies count from here."""
    began_s: float
    """When it did begin; in a closed loop the same."""
    first_s: float | None
    """Its first piece of text; None for an answer that came whole, or never."""
    last_s: float | None
    """Its last piece of text."""
    ended_s: float
    input_tokens: int | None
    output_tokens: int
    estimated: bool
    """The container told no usage: output tokens are pieces of a stream, or a quarter of the characters."""
    chunks: int
    """Pieces with text."""
    longest_gap_s: float
    error: str | None
    """A kind such as `http_429:rate_limit_exceeded`; None for a complete answer."""

    @property
    def ok(self) -> bool:
        return self.error is None

    @property
    def e2e_s(self) -> float:
        """From the intended start to the end of the answer."""
        return self.ended_s - self.intended_s

    @property
    def ttft_s(self) -> float | None:
        """From the intended start to the first text; None if the answer came whole."""
        return None if self.first_s is None else self.first_s - self.intended_s

    @property
    def itl_s(self) -> float | None:
        """The mean gap between pieces of text; None with less than two."""
        if self.first_s is None or self.last_s is None or self.chunks < 2:
            return None
        return (self.last_s - self.first_s) / (self.chunks - 1)

    @property
    def tpot_s(self) -> float | None:
        """Time per output token after the first; None with less than two tokens."""
        if self.first_s is None or self.last_s is None or self.output_tokens < 2:
            return None
        return (self.last_s - self.first_s) / (self.output_tokens - 1)


class Generator(msgspec.Struct, forbid_unknown_fields=True):
    """What generating the load took, so that a reader can see whether it was the limit."""

    cpu: list[float] = []
    """Of each process: the share of one core it used in the measured window."""
    lag: Histogram = msgspec.field(default_factory=Histogram)
    """How much later than asked for the event loop ran, sampled all the time."""
    held_back: int = 0
    """Calls begun late because as many as allowed were outstanding."""
    never_begun: int = 0
    """Calls that were due, and not begun when the stage ended."""
    reconnects: int = 0
    """Calls sent anew because a kept-alive connection proved closed before a byte of the answer."""


class StageData(msgspec.Struct, forbid_unknown_fields=True):
    """What a process, or all of them together, measured in a stage."""

    window_s: float
    """The length of the measured window."""
    calls: list[CallRecord]
    gaps: Histogram
    """Every gap between pieces of text, of complete measured calls."""
    generator: Generator
    unfinished: int = 0
    """Calls that were under way when the run was interrupted."""
    interrupted: bool = False


def merged(parts: list[StageData]) -> StageData:
    """Return what several processes measured at the same time as one."""
    whole = StageData(max(part.window_s for part in parts), [], Histogram(), Generator())
    for part in parts:
        whole.calls += part.calls
        whole.gaps.merge(part.gaps)
        whole.generator.cpu += part.generator.cpu
        whole.generator.lag.merge(part.generator.lag)
        whole.generator.held_back += part.generator.held_back
        whole.generator.never_begun += part.generator.never_begun
        whole.generator.reconnects += part.generator.reconnects
        whole.unfinished += part.unfinished
        whole.interrupted = whole.interrupted or part.interrupted
    whole.calls.sort(key=lambda call: call.intended_s)
    return whole
