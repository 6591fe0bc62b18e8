"""What a command tells while it works: lines, and on a terminal a moving one for what takes its time."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import IO

from deploy.aws import Aws


class Progress:
    """Tells what happens on stderr, so that stdout holds results alone; never a secret that `aws` has read."""

    def __init__(self, aws: Aws, stream: IO[str] | None = None) -> None:
        self._aws = aws
        self._stream = stream or sys.stderr

    def say(self, text: str) -> None:
        print(printable(self._aws.redacted(text)), file=self._stream, flush=True)

    @contextlib.contextmanager
    def waiting(self, what: str) -> Iterator[Callable[[str], None]]:
        """Give a function to call with the state of `what` whenever it was looked at."""
        began, last = time.monotonic(), ""
        with self._spinner(what) as turn:

            def show(state: str) -> None:
                nonlocal last
                if state != last:
                    self.say(f"{what}: {state} ({time.monotonic() - began:.0f} s)")
                    last = state
                turn(f"{what}: {state}")

            yield show

    @contextlib.contextmanager
    def _spinner(self, what: str) -> Iterator[Callable[[str], None]]:
        if not self._stream.isatty():
            yield lambda _: None
            return
        try:
            from rich.console import Console
            from rich.text import Text
        except ImportError:  # the extra `deploy` is not installed: lines do as well
            yield lambda _: None
            return
        with Console(file=self._stream).status(Text(what)) as status:
            yield lambda text: status.update(Text(printable(self._aws.redacted(text))))


def printable(text: str) -> str:
    """Return `text` without what would steer a terminal: logs and reasons come from containers."""
    return "".join(character if character.isprintable() or character in "\n\t" else "?" for character in text)
