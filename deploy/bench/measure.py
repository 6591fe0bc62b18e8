"""A run from its first call to its last: asks the endpoint once, runs the stages, keeps what has been measured."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Coroutine
from dataclasses import dataclass

import msgspec

from deploy.bench.client import Client
from deploy.bench.plan import Plan, Share, Stage
from deploy.bench.progress import Progress
from deploy.bench.prompts import Bodies
from deploy.bench.records import StageData
from deploy.bench.workers import Here, Processes, Workers

LOOK_EVERY_S = 0.2
MAX_MESSAGE_CHARACTERS = 300
HOPELESS = (
    "http_400", "http_401", "http_403", "http_404", "http_405", "http_413", "http_415", "http_422",
    "connect_failed", "tls_failed", "malformed_http", "malformed_answer",
)  # fmt: skip
"""Kinds of errors of a first call that more calls would only repeat."""


class Unanswered(Exception):
    """The first call failed for a reason that stays; the text is for the user."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What has been measured."""

    plan: Plan
    """As run: with the container that was found."""
    stages: tuple[tuple[Stage, StageData], ...]
    complete: bool


async def measure(plan: Plan, processes: int, progress: Progress, *, ask_first: bool) -> Measured:
    """Run the plan; SIGINT and SIGTERM end it early, with what has been measured so far.

    Raises:
        Unanswered, WorkerFailed, BadKey, BadFile, AwsProblem, OSError: it cannot be measured; the text is for the user.
    """
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    bodies = Bodies(plan)  # whatever is wrong with the file is told before the first call
    async with Client(plan.target, plan.load) as client:
        if ask_first:
            asked = await _unless(stopped, _ask(plan, bodies, client, progress))
            plan = plan if asked is None else asked
        workers: Workers = Here(plan, Share(), client) if processes == 1 else await Processes.start(plan, processes)
        try:
            return await _stages(plan, workers, progress, stopped)
        finally:
            await workers.aclose()


async def _stages(plan: Plan, workers: Workers, progress: Progress, stopped: asyncio.Event) -> Measured:
    found: list[tuple[Stage, StageData]] = []
    for stage in plan.stages:
        if stopped.is_set():
            break
        progress.begins(stage)
        running = asyncio.create_task(workers.stage(stage))
        told = False
        while not running.done():
            if stopped.is_set() and not told:
                told = True
                workers.interrupt()
                progress.say("interrupted: ending with what has been measured")
            await asyncio.wait({running}, timeout=LOOK_EVERY_S)
            progress.goes(workers.counters)
        found.append((stage, running.result()))
    complete = len(found) == len(plan.stages) and not any(data.interrupted for _, data in found)
    return Measured(plan, tuple(found), complete)


async def _unless(stopped: asyncio.Event, asking: Coroutine[None, None, Plan]) -> Plan | None:
    task = asyncio.create_task(asking)
    stopping = asyncio.create_task(stopped.wait())
    await asyncio.wait({task, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if not task.done():
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        return None
    return task.result()


async def _ask(plan: Plan, bodies: Bodies, client: Client, progress: Progress) -> Plan:
    """Make a call that is not measured, and return the plan with the container that answered."""
    # Its words are of a stage that does not exist, so that no measured call finds them in a prefix cache.
    body = bodies.body(Stage(-1, "closed", 1), 0)
    record, answer = await client.call(body)
    if record.error is not None:
        said = _for_terminal(answer.message(), os.environ.get(plan.target.key_variable, ""))
        text = f"the first call failed: {record.error}" + (f": {said}" if said else "")
        if record.error.partition(":")[0] in HOPELESS:
            raise Unanswered(text)
        progress.say(f"{text}; measuring all the same")
        return plan
    target = plan.target
    found = {"lines": "lmi", "events": "vllm"}.get(answer.dialect or "")
    if target.kind == "sagemaker" and found is not None:
        if target.container not in ("auto", found):
            progress.say(f"the endpoint answers as {found} does, not as {target.container}")
        elif target.container == "auto":
            target = msgspec.structs.replace(target, container=found)
            progress.say(f"container: {found}")
    return msgspec.structs.replace(plan, target=target)


def _for_terminal(text: str, key: str) -> str:
    """Return what a server said, without the key and without anything a terminal would act on."""
    text = text.replace(key, "…") if key else text
    text = "".join(character if character.isprintable() else " " for character in text)
    return text[:MAX_MESSAGE_CHARACTERS] + ("…" if len(text) > MAX_MESSAGE_CHARACTERS else "")
