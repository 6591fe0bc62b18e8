"""Which functions of the project run, in the order of their first call."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

PACKAGES = ("gateway.", "adapters.")


@contextmanager
def first_calls() -> Iterator[list[str]]:
    """Gather `module:qualified.name` of every function of this thread that starts inside the context."""
    found: dict[str, None] = {}
    order: list[str] = []

    def note(frame: FrameType, event: str, _: object) -> None:
        if event == "call":
            module = frame.f_globals.get("__name__", "")
            name = f"{module}:{frame.f_code.co_qualname}"
            if module.startswith(PACKAGES) and name not in found:
                found[name] = None
                order.append(name)

    sys.setprofile(note)
    try:
        yield order
    finally:
        sys.setprofile(None)
