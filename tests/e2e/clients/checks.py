"""What every script of this folder runs with: where the gateway is, and how a check is told.

Each script is a program of one SDK's, run as `python -m tests.e2e.clients.NAME` by tests/support/sdks.py. Every check
runs once for each model, and prints one line of JSON; the tests list the checks that there must be.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

URL = os.environ["GATEWAY_URL"]
BASE_URL = f"{URL}/v1"
KEY = os.environ["GATEWAY_KEY"]
WRONG_KEY = "sk-lmi-" + "w" * 43
MODELS = os.environ["GATEWAY_MODELS"].split()

GREETING = "Hello! How can I help you today?"
"""What the local SageMaker says to `hello`."""
COUNTING = "count to 100"
"""Asked of a model that takes its time: 300 tokens, 15 ms apart."""
FAILING = "please fail after 5"
"""The engine dies after five tokens."""
PIXEL = (
    "data:image/png;base64,"
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
)
"""A picture."""
PIXEL_SEEN = "I see 1 image: image/png 1x1."

Check = TypeVar("Check", bound=Callable[[str], Any])
_checks: list[Callable[[str], Any]] = []


def check(function: Check) -> Check:
    """Make a check of a function, synchronous or not, that takes a model's name."""
    _checks.append(function)
    return function


def slow(model: str) -> str:
    """Return the name of the same model at a SageMaker that takes its time."""
    return f"{model}-slow"


@contextmanager
def raises(kind: type[Exception], *said: str) -> Iterator[list[Exception]]:
    """Fail unless an exception of this kind is raised, whose text or code holds each of `said`; the list gets it."""
    caught: list[Exception] = []
    try:
        yield caught
    except kind as error:
        caught.append(error)
        text = f"{error} {error!r} {getattr(error, 'code', None)}"
        missing = [each for each in said if each not in text]
        assert not missing, f"{missing} not in {text}"
    else:
        raise AssertionError(f"no {kind.__name__} was raised")


def run() -> None:
    """Make all checks, in the order of the script, and exit with 1 if one fails."""
    failed = False
    with asyncio.Runner() as runner:
        for model in MODELS:
            for function in _checks:
                verdict = {"check": function.__name__, "model": model}
                try:
                    # Only a coroutine function's check runs on a loop: some SDKs start their own.
                    runner.run(function(model)) if inspect.iscoroutinefunction(function) else function(model)
                except Exception:
                    failed = True
                    verdict["error"] = traceback.format_exc()
                print(json.dumps(verdict), flush=True)
    sys.exit(failed)
