"""AWS credentials, kept fresh off the request path.

The request path only ever reads the last good credentials. They are found where every AWS tool looks (environment,
profile, container, instance, web identity), and per deployment a role is assumed from them, by `agent.py` in a process
of its own, whenever they are about to expire or AWS has refused them.
https://docs.aws.amazon.com/sdkref/latest/guide/standardized-credentials.html
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec

from gateway.sagemaker.sigv4 import Credentials

log = logging.getLogger(__name__)

RENEW_AHEAD_S = 900.0
"""Credentials are renewed this long before they expire, or at three quarters of a shorter life."""
RETRY_S = 10.0
"""At least this long between two attempts."""
MAX_RETRY_S = 300.0
"""Between attempts, once AWS has refused the same credentials again and again: what it misses is a permission."""
AGENT_TIMEOUT_S = 30.0
AGENT = Path(__file__).with_name("agent.py")
"""Run as a file, it needs nothing of how this package was installed."""

Question = list[dict[str, str | None]]
Answer = list[Credentials | str]
"""For each identity asked for its credentials, or why there are none."""
Ask = Callable[[Question], Awaitable[Answer]]


class AgentFailed(Exception):
    """The agent process ended without an answer."""


async def ask_agent(question: Question) -> Answer:
    """Run the agent once.

    Raises:
        AgentFailed: it did not start, failed, or took more than `AGENT_TIMEOUT_S`.
    """
    try:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",
            str(AGENT),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError as error:
        raise AgentFailed(type(error).__name__) from error
    try:
        async with asyncio.timeout(AGENT_TIMEOUT_S):
            out, _ = await process.communicate(msgspec.json.encode(question))
        answer = [_read(found) for found in msgspec.json.decode(out, type=list[dict[str, Any]])]
    except (OSError, RuntimeError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        # TimeoutError and BrokenPipeError; RecursionError, and uvloop's own for a process that is gone already.
        raise AgentFailed(type(error).__name__) from None
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)  # it, and what a `credential_process` of a profile left behind
        await process.wait()
    if len(answer) != len(question):
        raise AgentFailed("not an answer to the question")
    return answer


def _read(found: dict[str, Any]) -> Credentials | str:
    return str(found["error"]) if "error" in found else msgspec.convert(found, Credentials)


class CredentialSource:
    """One identity: the process' own, or a role assumed from it."""

    def __init__(self, role_arn: str | None, external_id: str | None, region: str) -> None:
        self.question = {"role_arn": role_arn, "external_id": external_id, "region": region}
        self.name = role_arn.rsplit("/", 1)[-1] if role_arn else "default"
        self.refused_since: float | None = None
        """When AWS last refused the current credentials, on the monotonic clock."""
        self._current: Credentials | None = None
        self._renewed_at = 0.0
        self._patience_s = 0.0
        self._patient_until = 0.0
        self._wake: asyncio.Event | None = None

    def current(self) -> Credentials | None:
        """Return valid credentials, or None if there are none or they have expired."""
        credentials = self._current
        if credentials is not None and credentials.expires_at is not None and credentials.expires_at <= time.time():
            return None
        return credentials

    @property
    def expires_at(self) -> float | None:
        """When the newest credentials expire or have expired, in Unix seconds; None if they do not."""
        return None if self._current is None else self._current.expires_at

    def refused(self) -> None:
        """AWS refused the current credentials: look for others soon."""
        if self.refused_since is None:
            self.refused_since = time.monotonic()
            if self._wake is not None:
                self._wake.set()

    def accepted(self, credentials: Credentials) -> None:
        """These are the current credentials from now on."""
        before = self._current
        assumed = self.question["role_arn"] is not None  # then every answer has keys of its own
        if (
            self.refused_since is not None
            and before is not None
            and (before.access_key == credentials.access_key or (assumed and self._renewed_within(MAX_RETRY_S)))
        ):
            self._patience_s = min(max(2 * self._patience_s, RETRY_S), MAX_RETRY_S)
        else:
            self._patience_s = 0.0
        self._patient_until = time.monotonic() + self._patience_s
        self._current = credentials
        self._renewed_at = time.time()
        self.refused_since = None

    def _renewed_within(self, seconds: float) -> bool:
        return time.time() - self._renewed_at < max(seconds, 2 * self._patience_s)

    def wake_with(self, event: asyncio.Event) -> None:
        self._wake = event

    def due_in_s(self) -> float:
        """Return how long the current credentials may be kept without looking for others."""
        credentials = self._current
        if credentials is None:
            return 0.0
        due_s = math.inf
        if self.refused_since is not None:
            due_s = self._patient_until - time.monotonic()
        if credentials.expires_at is not None:
            ahead_s = min(RENEW_AHEAD_S, max(credentials.expires_at - self._renewed_at, 0.0) / 4)
            due_s = min(due_s, credentials.expires_at - ahead_s - time.time())
        return max(due_s, 0.0)


class CredentialStore:
    """All identities the deployments use, each found once."""

    def __init__(self, ask: Ask = ask_agent, *, failed: Callable[[str], None] = lambda identity: None) -> None:
        """`failed` is told the name of each identity that could not be renewed."""
        self._ask = ask
        self._failed = failed
        self._sources: dict[tuple[str | None, str | None], CredentialSource] = {}
        self._wake = asyncio.Event()
        self._asked_at = -math.inf
        self._task: asyncio.Task[None] | None = None

    def source(self, role_arn: str | None, external_id: str | None, region: str) -> CredentialSource:
        """Return the source for an identity, the same one for equal arguments. Call before `start`."""
        key = (role_arn, external_id)
        if key not in self._sources:
            self._sources[key] = CredentialSource(role_arn, external_id, region)
            self._sources[key].wake_with(self._wake)
        return self._sources[key]

    async def start(self) -> None:
        """Look once, then keep them fresh in the background. Never raises: what is missing shows in `problems`."""
        await self._renew(self.sources)
        self._task = asyncio.create_task(self._keep_fresh(), name="aws credentials")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    def problems(self) -> list[str]:
        """Return the names of the identities without valid credentials."""
        return [source.name for source in self.sources if source.current() is None]

    @property
    def sources(self) -> list[CredentialSource]:
        return list(self._sources.values())

    async def _keep_fresh(self) -> None:
        while True:
            self._wake.clear()
            # At most an hour: the wall clock, by which credentials expire, may jump.
            wait_s = min([3600.0, *(source.due_in_s() for source in self.sources)])
            if wait_s > 0.0:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(wait_s):
                        await self._wake.wait()
            await asyncio.sleep(max(self._asked_at + RETRY_S - time.monotonic(), 0.0))
            due = [source for source in self.sources if source.due_in_s() <= 0.0]
            if due:
                await self._renew(due)

    async def _renew(self, sources: list[CredentialSource]) -> None:
        self._asked_at = time.monotonic()
        try:
            answer = await self._ask([source.question for source in sources])
        except AgentFailed as error:
            answer = [str(error)] * len(sources)
        for source, found in zip(sources, answer, strict=True):
            if isinstance(found, Credentials):
                source.accepted(found)
            else:
                self._failed(source.name)
                log.error("aws credentials could not be renewed", extra={"identity": source.name, "error": found})
