"""What callers are told about their limits, in OpenAI's words.

https://platform.openai.com/docs/guides/rate-limits#rate-limits-in-headers
"""

from __future__ import annotations

from collections.abc import Sequence

from gateway.limits.rules import Kind, Rule, Verdict

_NAMES = ((Kind.REQUESTS, "requests"), (Kind.TOKENS, "tokens"))


class LimitLines:
    """The header lines of one set of rules: of several rates of a kind, those of the one that is nearest to its end."""

    __slots__ = ("_kinds", "_only")

    def __init__(self, rules: Sequence[Rule]) -> None:
        self._kinds: list[list[tuple[int, bytes]]] = []
        """For each kind of rate the places of its rules, and what is told of each."""
        for kind, word in _NAMES:
            told = [
                (at, _LINES.replace(b"WORD", word.encode()).replace(b"AMOUNT", b"%d" % rule.amount))
                for at, rule in enumerate(rules)
                if rule.kind is kind and not rule.shadow
            ]
            if told:
                self._kinds.append(told)
        self._only: tuple[int, int, bytes] | None = None
        """The usual case, one rate of each kind, in one step: their places, and the lines of both."""
        if [len(told) for told in self._kinds] == [1, 1]:
            (requests, first), (tokens, second) = (told[0] for told in self._kinds)
            self._only = requests, tokens, first + second

    def of(self, verdict: Verdict) -> bytes:
        """Return complete header lines; nothing where no rate is limited."""
        standings = verdict.standings
        if self._only is not None:
            at, also, lines = self._only
            first, second = standings[at], standings[also]
            return lines % (first[0], _duration(first[1]), second[0], _duration(second[1]))
        lines = b""
        for told in self._kinds:
            at, line = told[0] if len(told) == 1 else min(told, key=lambda one: standings[one[0]].remaining)
            lines += line % (standings[at].remaining, _duration(standings[at].reset_ms))
        return lines

    def pairs(self, verdict: Verdict) -> tuple[tuple[str, str], ...]:
        """Return the same by name and value."""
        lines = self.of(verdict).decode().splitlines()
        return tuple((name, value) for name, _, value in (line.partition(": ") for line in lines))


_LINES = b"x-ratelimit-limit-WORD: AMOUNT\r\nx-ratelimit-remaining-WORD: %d\r\nx-ratelimit-reset-WORD: %b\r\n"


def duration(milliseconds: int) -> str:
    """Return a time as OpenAI writes it: `0s`, `20ms`, `1s`, `8.64s`, `6m0s`, `1h0m0s`."""
    return _duration(milliseconds).decode()


def _duration(milliseconds: int) -> bytes:
    if milliseconds < 1000:
        return b"%dms" % milliseconds if milliseconds > 0 else b"0s"
    minutes, rest = divmod(milliseconds, 60_000)
    seconds = (b"%.3f" % (rest / 1000)).rstrip(b"0").rstrip(b".")
    if not minutes:
        return seconds + b"s"
    hours, minutes = divmod(minutes, 60)
    return b"%dh%dm%bs" % (hours, minutes, seconds) if hours else b"%dm%bs" % (minutes, seconds)


def words(milliseconds: int) -> str:
    """Return a time for a sentence: `in 3 seconds`."""
    seconds = -(-milliseconds // 1000)
    if seconds < 120:
        return f"in {seconds} second{'s' * (seconds != 1)}"
    if seconds < 7200:
        return f"in {-(-seconds // 60)} minutes"
    return f"in {-(-seconds // 3600)} hours"
