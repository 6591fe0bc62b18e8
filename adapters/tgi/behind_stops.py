"""Stop strings as OpenAI has them: the answer ends before the first of them, wherever that is.

TGI leaves the stop string in the text, and ends only where a token does: after a token that goes on behind the stop
string it does not end at all (server/text_generation_server/utils/tokens.py, StopSequenceCriteria).
"""

from __future__ import annotations

from collections.abc import Sequence


class StopCutter:
    """Cuts a text that comes in pieces; the pieces' bounds make no difference."""

    __slots__ = ("_held", "_keeps", "_stops", "stopped")

    def __init__(self, stops: Sequence[str], *, keeps: bool = False) -> None:
        """With `keeps` the text ends behind the stop string."""
        self._stops = tuple(stops)
        self._keeps = keeps
        self._held = ""
        """The end of the text so far, if a stop string may begin there."""
        self.stopped = False

    def feed(self, text: str) -> str:
        """Return what can be told of the text now."""
        if self.stopped:
            return ""
        if not self._stops:
            return text
        text = self._held + text
        found = [(at, stop) for stop in self._stops if (at := text.find(stop)) >= 0]
        if found:
            at, stop = min(found)
            self._held = ""
            self.stopped = True
            return text[: at + len(stop)] if self._keeps else text[:at]
        hold = self._begun(text)
        self._held = text[len(text) - hold :]
        return text[: len(text) - hold]

    def end(self) -> str:
        """Return what was held back: the text is over."""
        held, self._held = self._held, ""
        return held

    def _begun(self, text: str) -> int:
        """Return how many characters at the end of `text` may be the beginning of a stop string."""
        longest = min(len(text), max(map(len, self._stops)) - 1)
        for length in range(longest, 0, -1):
            tail = text[len(text) - length :]
            if any(stop.startswith(tail) for stop in self._stops):
                return length
        return 0


def cut(text: str, stops: Sequence[str], *, keeps: bool = False) -> tuple[str, bool]:
    """Return a whole text up to its first stop string, and whether there was one."""
    cutter = StopCutter(stops, keeps=keeps)
    told = cutter.feed(text)
    return told + cutter.end(), cutter.stopped
