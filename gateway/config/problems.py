"""What is wrong with a configuration, in lines an operator can act on."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass

from gateway.config.kinds import Loc

_PLAIN_KEY = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_KEY_LIKE = re.compile(r"(?i)\b(sk-|bearer\s+)[A-Za-z0-9._~+/=-]{8,}")
_USERINFO = re.compile(r"//[^/@\s]*@")
_SHOWN_CHARACTERS = 60


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong, where it is, and what was expected there."""

    line: int
    """From 1; 0 where the problem has no place in a file."""
    column: int
    path: str
    """`models[0].deployments[1].region`, or the name of a variable; empty for the file as a whole."""
    message: str
    source: str = ""
    """The file, empty for the environment."""

    def __str__(self) -> str:
        place = f"{self.source}:{self.line}:{self.column}" if self.line else self.source
        return ": ".join(part for part in (place, self.path, self.message) if part)


class ConfigError(Exception):
    """The configuration cannot be used; `problems` is everything that is wrong with it, in the order of the file."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(sorted(problems, key=lambda problem: (not problem.source, problem.line, problem.column)))
        super().__init__("\n".join(map(str, self.problems)))


def path_of(loc: Loc) -> str:
    """Return `loc` as it is written in messages."""
    path = ""
    for step in loc:
        if isinstance(step, int):
            path += f"[{step}]"
        else:
            path += ("." if path else "") + (masked(step) if _PLAIN_KEY.fullmatch(step) else shown(step))
    return path


def shown(text: str) -> str:
    """Return `text` quoted for a message: on one line, cut to a readable length, keys and passwords masked."""
    text = masked(text)
    return repr(text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 1] + "…")


def masked(text: str) -> str:
    """Return `text` without what looks like an API key or a URL's password."""
    return _USERINFO.sub("//…@", _KEY_LIKE.sub(r"\1…", text))


def did_you_mean(word: str, known: Iterable[str]) -> str | None:
    """Return the one of `known` that `word` was most likely meant to be."""
    by_folded = {name.lower().replace("-", "_"): name for name in known}
    near = difflib.get_close_matches(word[:100].lower().replace("-", "_"), by_folded, n=1)
    return by_folded[near[0]] if near else None
