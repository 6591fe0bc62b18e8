"""Charts as inline SVG: lines over levels, and cumulative distributions. Colours are CSS variables of the page.

Values are looked up by hovering over their points (page.js); a chart without script is complete but for that.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 520, 300
LEFT, RIGHT, TOP, BOTTOM = 64, 16, 14, 44
COLORS = 8
"""Colours of series in page.css; further series begin anew."""
MAX_POINTS = 200
"""Of a distribution: more would make the file larger, and no picture better."""


@dataclass(frozen=True, slots=True)
class Series:
    """One line: y by x; None where there is no value."""

    name: str
    color: int
    points: tuple[tuple[float, float | None, str], ...]
    """x, y, and what is said about the point."""
    dash: str = ""
    """As in SVG's stroke-dasharray."""
    marks: bool = True


def over_levels(title: str, unit: str, levels: Sequence[str], series: Sequence[Series], axis: str) -> str:
    """Return a chart whose x is the position in `levels`."""
    step = max(1, math.ceil(len(levels) / 12))
    ticks = [(float(index), name) for index, name in enumerate(levels) if index % step == 0]
    return _chart(title, unit, axis, series, (-0.3, len(levels) - 0.7), ticks)


def over_values(title: str, unit: str, series: Sequence[Series], axis: str, *, share: bool = False) -> str:
    """Return a chart whose x is a quantity from 0 on; with `share` y goes from 0 to 100%."""
    most = max((x for line in series for x, y, _ in line.points if y is not None), default=0.0)
    ticks = nice_ticks(most)
    return _chart(title, unit, axis, series, (0.0, ticks[-1]), [(tick, tick_text(tick)) for tick in ticks], share=share)


def distribution(
    name: str, color: int, ordered: Sequence[float], show: Callable[[float], str], dash: str = ""
) -> Series:
    """Return the cumulative distribution of values in ascending order, in percent."""
    count = len(ordered)
    picked = sorted({round(index * (count - 1) / (MAX_POINTS - 1)) for index in range(MAX_POINTS)}) if count else []
    points = tuple(
        (ordered[at], 100 * (at + 1) / count, f"{name}: {100 * (at + 1) / count:.0f}% within {show(ordered[at])}")
        for at in picked
    )
    return Series(name, color, points, dash, marks=False)


def nice_ticks(most: float) -> list[float]:
    """Return ticks from 0 to at least `most`, at round steps."""
    if most <= 0 or not math.isfinite(most):
        return [0.0, 1.0]
    raw = most / 5
    power = 10 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= raw * 0.999)
    return [index * step for index in range(math.ceil(most / step - 1e-9) + 1)]


def tick_text(value: float) -> str:
    """Return a number for an axis."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"


def _chart(
    title: str,
    unit: str,
    axis: str,
    series: Sequence[Series],
    span: tuple[float, float],
    x_ticks: Sequence[tuple[float, str]],
    *,
    share: bool = False,
) -> str:
    most = max((y for line in series for _, y, _ in line.points if y is not None), default=0.0)
    y_ticks = [0.0, 25.0, 50.0, 75.0, 100.0] if share else nice_ticks(most)
    low, high = span
    across, up = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def x_of(value: float) -> float:
        return LEFT + across * (value - low) / ((high - low) or 1)

    def y_of(value: float) -> float:
        return TOP + up * (1 - value / y_ticks[-1])

    parts = [
        f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y_of(tick):.1f}" y2="{y_of(tick):.1f}"/>'
        f'<text class="tick" x="{LEFT - 8}" y="{y_of(tick) + 4:.1f}" text-anchor="end">{tick_text(tick)}</text>'
        for tick in y_ticks
    ]
    below = HEIGHT - BOTTOM + 18
    parts += [
        f'<text class="tick" x="{x_of(where):.1f}" y="{below}" text-anchor="middle">{escape(text)}</text>'
        for where, text in x_ticks
    ]
    parts.append(
        f'<text class="axis" x="{LEFT + across / 2:.0f}" y="{HEIGHT - 6}" text-anchor="middle">{escape(axis)}</text>'
    )
    parts += [_line(line, x_of, y_of) for line in series]
    legend = "".join(
        f'<li><svg width="22" height="10" aria-hidden="true"><line class="{_class(line)}" x1="1" x2="21" y1="5" y2="5"'
        f"{_dashed(line)}/></svg>{escape(line.name)}</li>"
        for line in series
    )
    return (
        f'<figure class="chart"><figcaption>{escape(title)} <span>{escape(unit)}</span></figcaption>'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">{"".join(parts)}</svg>'
        f"<ul>{legend}</ul></figure>"
    )


def _line(line: Series, x_of: Callable[[float], float], y_of: Callable[[float], float]) -> str:
    """Return a line, broken where values are missing, and its points."""
    path, points, pen = [], [], "M"
    for x, y, said in line.points:
        if y is None:
            pen = "M"
            continue
        path.append(f"{pen}{x_of(x):.1f} {y_of(y):.1f}")
        pen = "L"
        radius, kind = (3.5, "point") if line.marks else (5, "point ghost")
        points.append(
            f'<circle class="{kind} {_class(line)}" cx="{x_of(x):.1f}" cy="{y_of(y):.1f}" r="{radius}"'
            f' data-tip="{escape(said)}"/>'
        )
    return f'<path class="{_class(line)}" d="{" ".join(path)}"{_dashed(line)}/>' + "".join(points)


def _class(line: Series) -> str:
    return f"s{line.color % COLORS}"


def _dashed(line: Series) -> str:
    return f' stroke-dasharray="{line.dash}"' if line.dash else ""
