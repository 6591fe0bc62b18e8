"""Token by token: a script is spoken until it ends, a stop is met, or there is no more room.

Characters whose bytes come in several tokens are held back until they are whole, and text that may become a stop
string until it cannot. https://github.com/vllm-project/vllm: vllm/v1/engine/detokenizer.py, vllm/v1/core/sched/utils.py
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from deploy.local.engine import prose, tokens
from deploy.local.engine.sampling import Sampling

CONTENT, THOUGHT, MARK, NAME, ARGUMENTS = "content", "thought", "mark", "name", "arguments"
"""What a part of a script is to a parser: MARK is markup that only raw text shows, NAME markup with a tool's name."""


class Part(NamedTuple):
    """Some text of a script; `call` counts the tool calls."""

    text: str
    kind: str = CONTENT
    call: int = 0
    tool: str = ""
    """The tool's name, in a part of kind NAME."""
    special: bool = False
    """Whether the text is markup with a token of its own."""


class Run(NamedTuple):
    """Text of one kind that a step adds."""

    part: Part
    text: str
    ends_part: bool


class Step(NamedTuple):
    """One token, and what became readable with it."""

    token: int
    runs: tuple[Run, ...]
    finish: str | None = None
    stop_reason: str | int | None = None

    @property
    def text(self) -> str:
        """All the text the step adds."""
        return "".join([run.text for run in self.runs])


@dataclass(frozen=True, slots=True)
class Script:
    """What is to be said, and whether there is more to say should the end not be allowed."""

    parts: tuple[Part, ...]
    more: tuple[object, ...] | None = None
    """The seed of endless free text, or None if the script's end is the only end."""


_SHORT_ANSWER = 256
_REMEMBERED = 256
_answers: dict[tuple[Script, Sampling], list[Step]] = {}


def speak(script: Script, sampling: Sampling) -> list[Step]:
    """Return the steps of one answer; the last has its finish reason. Short ones are remembered: do not change them."""
    known = _answers.get((script, sampling))
    if known is not None:
        return known
    speaker = _Speaker(sampling)
    for token, part, ends_part in _tokens(script, sampling):
        speaker.say(token, part, ends_part)
        if speaker.finished:
            break
    if len(speaker.steps) <= _SHORT_ANSWER:
        if len(_answers) >= _REMEMBERED:
            _answers.clear()
        _answers[script, sampling] = speaker.steps
    return speaker.steps


def _tokens(script: Script, sampling: Sampling) -> Iterator[tuple[int, Part, bool]]:
    """Give the tokens of a script, its end, and where that does not count what follows."""
    said = 0
    for part in script.parts:
        ids = ids_of(part.text, part.special)
        last = len(ids) - 1
        for place, token in enumerate(ids):
            yield token, part, place == last
        said += len(ids)
    part = Part("")
    if script.more is not None:
        for text in prose.endless(*script.more):
            if said >= sampling.min_tokens and not sampling.ignore_eos:
                break
            ids = ids_of(text, False)
            for token in ids:
                yield token, part, False
                said += 1
                if said >= sampling.min_tokens and not sampling.ignore_eos:
                    break
    yield tokens.END_OF_TURN, part, True


@lru_cache(maxsize=4096)
def ids_of(text: str, special: bool) -> tuple[int, ...]:
    return tuple(tokens.encode(text, markup=special))


class _Speaker:
    """Turns tokens into steps."""

    def __init__(self, sampling: Sampling) -> None:
        self._sampling = sampling
        self.steps: list[Step] = []
        self.finished = False
        self._decoder: codecs.IncrementalDecoder | None = None
        self._partial: Part | None = None
        self._stops = bool(sampling.stops)
        self._held: list[Run] = []
        self._text = ""
        hold = max(map(len, sampling.stops), default=1) - 1
        self._hold = 0 if sampling.keep_stop else hold

    def say(self, token: int, part: Part, ends_part: bool) -> None:
        """Add a token."""
        sampling = self._sampling
        count = len(self.steps) + 1
        finish: str | None = None
        reason: str | int | None = None
        spoken = token
        if token == tokens.END_OF_TURN and part.text == "":
            finish = "stop"
        elif token in sampling.stop_ids and count >= sampling.min_tokens:
            finish, reason = "stop", token
            if not sampling.keep_stop:
                spoken = tokens.END_OF_TURN  # Its text is left out.
        elif count >= sampling.max_tokens:
            finish = "length"
        text = tokens.TEXT[spoken]
        if text is None or self._partial is not None:
            text = self._decode(spoken, part)
        run = Run(part, text, ends_part)
        if not self._stops:
            runs: tuple[Run, ...] = (run,)
        else:
            stopped = self._check_stops(run, checked=count > sampling.min_tokens)
            if stopped is not None:
                finish, reason = "stop", stopped
            runs = self._release(final=finish is not None)
        self.steps.append(Step(token, runs, finish, reason))
        self.finished = finish is not None

    def _decode(self, token: int, part: Part) -> str:
        if self._decoder is None:
            self._decoder = tokens.new_decoder()
        raw = b"" if tokens.TEXT[token] == "" else tokens.raw_bytes(token)
        text = self._decoder.decode(raw)
        self._partial = part if self._decoder.getstate()[0] else None
        return text

    def _check_stops(self, run: Run, *, checked: bool) -> str | None:
        """Add text; return the stop string that it completes, which cuts what is held."""
        self._held.append(run)
        fresh = len(run.text)
        self._text += run.text
        if not fresh or not checked:
            return None
        best: tuple[int, str] | None = None
        for stop in self._sampling.stops:
            start = self._text.find(stop, max(0, len(self._text) - fresh - len(stop) + 1))
            if start >= 0 and (best is None or start + len(stop) < best[0]):
                best = start + len(stop), stop
        if best is None:
            return None
        end, stop = best
        self._cut(len(self._text) - (end if self._sampling.keep_stop else end - len(stop)))
        return stop

    def _cut(self, surplus: int) -> None:
        """Drop the last characters of what is held."""
        while surplus > 0 and self._held:
            run = self._held.pop()
            kept = run.text[: max(0, len(run.text) - surplus)]
            surplus -= len(run.text) - len(kept)
            if kept:
                self._held.append(Run(run.part, kept, False))

    def _release(self, *, final: bool) -> tuple[Run, ...]:
        """Return what can no longer become part of a stop string."""
        free = sum(len(run.text) for run in self._held) - (0 if final else self._hold)
        released: list[Run] = []
        while self._held and (free > 0 or not self._held[0].text):
            run = self._held.pop(0)
            if len(run.text) <= free or not run.text:
                released.append(run)
            else:
                released.append(Run(run.part, run.text[:free], False))
                self._held.insert(0, Run(run.part, run.text[free:], run.ends_part))
            free -= len(released[-1].text)
        return tuple(_merged(released))


def _merged(runs: list[Run]) -> list[Run]:
    """Return runs of the same part as one: what comes at once is one delta. Runs that say nothing go."""
    merged: list[Run] = []
    for run in runs:
        if merged and merged[-1].part is run.part:
            run = Run(run.part, merged.pop().text + run.text, run.ends_part)
        merged.append(run)
    return [run for run in merged if run.text or run.ends_part]
