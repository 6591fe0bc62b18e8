"""A plan as people read it, and as JSON: the same text for the same plan, and never a secret."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import IO, Any

from deploy.cost import Cost
from deploy.plan import Action, Change, Plan, Step
from deploy.progress import printable

SIGNS: Mapping[Action, str] = {"create": "+", "update": "~", "replace": "±", "delete": "-", "none": " "}
COLOURS: Mapping[Action, str] = {
    "create": "green",
    "update": "yellow",
    "replace": "magenta",
    "delete": "red",
    "none": "dim",
}
BLOCKED = "nothing can be done"
NOTHING = "nothing to do: AWS holds what the manifest wants"


def lines(plan: Plan) -> Iterator[tuple[Action, str]]:
    """Yield the lines of a plan, each with what it is about."""
    for conflict in plan.conflicts:
        yield "delete", f"! {conflict}"
    for found in plan.busy:
        yield "none", f"  {found.kind} {found.name} is {found.status}: an apply waits for it first"
    for step in plan.changes:
        drift = ("changed by somebody else",) if step in plan.drift else ()
        notes = "; ".join([*step.notes, *drift])
        aside = f" ({notes})" if notes else ""
        yield step.action, f"{SIGNS[step.action]} {step.action} {step.kind} {step.name}{aside}"
        for change in step.changes:
            yield step.action, f"    {_change(change)}"
    yield "none", _summary(plan)
    if plan.before is not None and plan.after is not None:
        yield "none", f"cost of instances: {_cost(plan.before)} now, {_cost(plan.after)} after"
        for name in sorted({*plan.before.unknown, *plan.after.unknown}):
            yield "none", f"  without {name}, which has no price in the table"


def text(plan: Plan) -> str:
    """Return a plan as plain text."""
    return "".join(f"{printable(line)}\n" for _, line in lines(plan))


def show(plan: Plan, stream: IO[str]) -> None:
    """Write a plan, in colours if somebody watches."""
    if stream.isatty():
        try:
            from rich.console import Console
            from rich.text import Text
        except ImportError:  # the extra `deploy` is not installed
            pass
        else:
            console = Console(file=stream, highlight=False, soft_wrap=True)
            for action, line in lines(plan):
                console.print(Text(printable(line), style=COLOURS[action]))
            return
    stream.write(text(plan))


def as_json(plan: Plan) -> str:
    """Return a plan as one JSON object."""
    document = {
        "manifest": plan.manifest,
        "changes": len(plan.changes),
        "conflicts": list(plan.conflicts),
        "busy": [{"kind": found.kind, "name": found.name, "status": found.status} for found in plan.busy],
        "steps": [_step(step, drift=step in plan.drift) for step in plan.steps],
        "cost_per_hour": None
        if plan.before is None or plan.after is None
        else {"before": _cost_object(plan.before), "after": _cost_object(plan.after)},
    }
    return json.dumps(document, indent=2, default=str) + "\n"


def table(rows: Iterable[tuple[str, ...]]) -> str:
    """Return rows as lines of aligned columns."""
    cells = [tuple(printable(cell) for cell in row) for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() + "\n" for row in cells
    )


def _summary(plan: Plan) -> str:
    counts: dict[Action, int] = {}
    for step in plan.changes:
        counts[step.action] = counts.get(step.action, 0) + 1
    if plan.conflicts:
        return BLOCKED
    if not counts:
        return NOTHING
    return ", ".join(f"{count} to {action}" for action in SIGNS if (count := counts.get(action)))


def _change(change: Change) -> str:
    if change.before is None:
        return f"{change.path}: {_value(change.after)}"
    return f"{change.path}: {_value(change.before)} → {'(gone)' if change.after is None else _value(change.after)}"


def _value(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)


def _cost(cost: Cost) -> str:
    if cost.low == cost.high:
        return f"${cost.low:,.3f} an hour"
    return f"${cost.low:,.3f} to ${cost.high:,.3f} an hour"


def _cost_object(cost: Cost) -> dict[str, Any]:
    return {"low": round(cost.low, 4), "high": round(cost.high, 4), "unknown": list(cost.unknown)}


def _step(step: Step, *, drift: bool) -> dict[str, Any]:
    return {
        "action": step.action,
        "kind": step.kind,
        "name": step.name,
        "drift": drift,
        "notes": list(step.notes),
        "changes": [{"path": change.path, "before": change.before, "after": change.after} for change in step.changes],
    }
