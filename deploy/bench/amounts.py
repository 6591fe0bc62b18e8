"""What users write for amounts: distributions of token counts, lists of levels, durations, service levels."""

from __future__ import annotations

import math
import random
import re
from collections.abc import Mapping
from typing import Literal

import msgspec

MAX_TOKENS = 1_000_000
DISTRIBUTIONS = "N, uniform:LOW:HIGH, normal:MEAN:SD[:MIN:MAX] or lognormal:MEDIAN:SIGMA[:MIN:MAX]"
SLO_NAMES = ("ttft", "itl", "tpot", "gap", "e2e")
_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(us|ms|s|m|h)?")


class Distribution(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How many tokens; a draw is at least `low` and at most `high`."""

    kind: Literal["fixed", "uniform", "normal", "lognormal"]
    center: float
    """The value, the lower end, the mean or the median."""
    spread: float = 0.0
    """The upper end, the standard deviation, or that of the logarithm."""
    low: int = 1
    high: int = MAX_TOKENS

    def draw(self, chance: random.Random) -> int:
        """Return one amount."""
        if self.kind == "fixed":
            value = self.center
        elif self.kind == "uniform":
            value = chance.randint(int(self.center), int(self.spread))
        elif self.kind == "normal":
            value = chance.gauss(self.center, self.spread)
        else:
            # Above e^30 every draw is cut to `high` anyway, and the exponential must not overflow.
            value = math.exp(min(math.log(self.center) + chance.gauss(0.0, self.spread), 30.0))
        return max(self.low, min(self.high, round(value)))

    def __str__(self) -> str:
        if self.kind == "fixed":
            return f"{self.center:g}"
        bounds = "" if (self.low, self.high) == (1, MAX_TOKENS) else f":{self.low}:{self.high}"
        return f"{self.kind}:{self.center:g}:{self.spread:g}{bounds}"


def distribution(text: str) -> Distribution:
    """Read `512`, `uniform:100:200`, `normal:512:64`, `lognormal:512:0.5:16:4096`.

    Raises:
        ValueError: what is wrong, as a sentence.
    """
    kind, _, rest = text.strip().partition(":")
    if not rest and kind.isdigit():
        kind, rest = "fixed", kind
    try:
        numbers = [float(part) for part in rest.split(":")]
    except ValueError:
        numbers = []
    if not numbers or not all(math.isfinite(number) for number in numbers):
        raise ValueError(f"{text!r} is not {DISTRIBUTIONS}")
    if kind == "fixed" and len(numbers) == 1:
        found = Distribution("fixed", numbers[0])
        checked = [found.center]
    elif kind == "uniform" and len(numbers) == 2:
        found = Distribution("uniform", numbers[0], numbers[1])
        checked = numbers
    elif kind in ("normal", "lognormal") and len(numbers) in (2, 4):
        low, high = (int(numbers[2]), int(numbers[3])) if len(numbers) == 4 else (1, MAX_TOKENS)
        found = Distribution("normal" if kind == "normal" else "lognormal", numbers[0], numbers[1], low, high)
        if found.spread < 0 or (kind == "lognormal" and found.spread > 5):
            raise ValueError(f"the spread in {text!r} is out of range")
        checked = [found.center, low, high]
    else:
        raise ValueError(f"{text!r} is not {DISTRIBUTIONS}")
    if not all(1 <= number <= MAX_TOKENS for number in checked):
        raise ValueError(f"{text!r}: amounts are from 1 to {MAX_TOKENS:,} tokens")
    if (found.kind == "uniform" and found.center > found.spread) or found.low > found.high:
        raise ValueError(f"{text!r}: the lower end is above the upper")
    return found


def levels(text: str, *, whole: bool) -> tuple[float, ...]:
    """Read `1,2,4`; `whole` for numbers of callers, otherwise rates.

    Raises:
        ValueError: what is wrong, as a sentence.
    """
    found: list[float] = []
    for part in text.split(","):
        try:
            value = float(int(part)) if whole else float(part)
        except ValueError:
            value = -1.0
        if not 0 < value <= 100_000:
            raise ValueError(f"{part.strip()!r} is no {'number of callers' if whole else 'rate'} above 0")
        found.append(value)
    if len(set(found)) != len(found):
        raise ValueError(f"{text!r} names a level twice")
    return tuple(found)


def duration_s(text: str) -> float:
    """Read `500ms`, `30s`, `5m` or plain seconds.

    Raises:
        ValueError: it is no duration.
    """
    found = _DURATION.fullmatch(text.strip())
    if not found:
        raise ValueError(f"{text!r} is no duration such as 500ms, 30s or 5m")
    return float(found[1]) * _UNITS[found[2] or "s"]


def service_level(text: str) -> Mapping[str, float]:
    """Read `ttft=500ms,itl=50ms` into seconds by name.

    Raises:
        ValueError: what is wrong, as a sentence.
    """
    found: dict[str, float] = {}
    for part in text.split(","):
        name, equals, value = part.strip().partition("=")
        if not equals or name not in SLO_NAMES:
            raise ValueError(f"{part.strip()!r} is not NAME=DURATION with one of {', '.join(SLO_NAMES)}")
        if name in found:
            raise ValueError(f"{name!r} is given twice")
        found[name] = duration_s(value)
    return found
