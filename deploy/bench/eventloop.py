"""The event loop, made ready for thousands of connections; uvloop's where that is installed."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import resource
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")
MAX_FILES = 200_000


def has_uvloop() -> bool:
    """Return whether uvloop is installed."""
    return importlib.util.find_spec("uvloop") is not None


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run `main` to its end."""
    _allow_connections()
    if has_uvloop():
        import uvloop

        return uvloop.run(main)
    return asyncio.run(main)


def _allow_connections() -> None:
    """Raise the limit of open files to what this user may have: it is often 1,024, and each call takes one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = MAX_FILES if hard == resource.RLIM_INFINITY else min(hard, MAX_FILES)
    if soft != resource.RLIM_INFINITY and soft < most:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
