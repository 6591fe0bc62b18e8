"""The engine as a container: it counts what runs, keeps the pace, and ends what its caller hangs up on.

vLLM and TGI stop generating when their caller is gone. LMI does not: what nobody reads is generated to its end.
https://github.com/vllm-project/vllm: vllm/entrypoints/utils.py (with_cancellation); djl-serving has no such path.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from http import HTTPStatus
from typing import Any, Protocol, Self

from deploy.local.container import ContainerReply, ContainerRequest
from deploy.local.engine.answering import Answerer
from deploy.local.engine.dialect import Dialect
from deploy.local.engine.job import Job, Record
from deploy.local.engine.lmi import LmiFront
from deploy.local.engine.options import Options
from deploy.local.engine.refusal import ENGINE_DIED, Origin, Refusal, Unanswered
from deploy.local.engine.tgi.front import TgiFront
from deploy.local.engine.vllm import VllmFront

_CHUNKS_BETWEEN_BREATHS = 64
"""How often a stream without delays lets other tasks run."""


class Front(Protocol):
    """What a container's requests and replies look like; each has jobs of its own kind."""

    aborts: bool
    """Whether a hung-up call stops generating."""

    def read(self, request: ContainerRequest) -> Job | ContainerReply:
        """Return the answer to a request, or a reply that needs no model.

        Raises:
            Unanswered: there is none.
        """
        ...

    def stream_headers(self, job: Any) -> dict[str, str]:
        """Return the headers of a stream."""
        ...

    def frames(self, job: Any) -> Iterator[Record]:
        """Give the stream's chunks."""
        ...

    def reply(self, job: Any, body: bytes, seconds: float) -> ContainerReply:
        """Return a whole reply that took so long."""
        ...

    def error(self, problem: Any) -> ContainerReply:
        """Return the reply of a request without an answer."""
        ...


class Engine:
    """A container with a small language engine inside; see the package."""

    def __init__(self, dialect: Dialect, options: Options) -> None:
        self.dialect, self.options = dialect, options
        self.delays = options.first_token_delay_s > 0 or options.token_delay_s > 0
        """Whether anything has to be waited for."""
        self.healthy = True
        """Whether `ping` says so; a test may change it."""
        self.running = 0
        """How many answers are being generated, whether anybody reads them or not."""
        self.served = 0
        """How many calls got an answer, whole or as a stream that began."""
        self.cancelled = 0
        """How many answers stopped because their caller hung up (vLLM)."""
        self.abandoned = 0
        """How many answers were generated on after their caller hung up (LMI)."""
        answerer = Answerer(dialect, options)
        self.tgi = None if dialect.tgi is None else TgiFront(dialect.tgi, options, lambda: self.running)
        """What else a TGI container answers; None for the others."""
        self._front: Front = self.tgi or (LmiFront(answerer) if dialect.lmi else VllmFront(answerer))
        self._orphans: set[asyncio.TimerHandle] = set()
        self._changed = asyncio.Event()

    async def ping(self) -> int:
        """Return 200, or what the container says when its engine is dead."""
        if self.healthy:
            return HTTPStatus.OK
        return HTTPStatus.INTERNAL_SERVER_ERROR if self.dialect.lmi else HTTPStatus.SERVICE_UNAVAILABLE

    async def invoke(self, request: ContainerRequest) -> ContainerReply:
        """Answer `POST /invocations`. Nothing is generated for a request that is refused."""
        return await self._answer(lambda: self._front.read(request))

    async def post(self, path: str, request: ContainerRequest) -> ContainerReply:
        """Answer a POST to any of a TGI container's own routes.

        Raises:
            ValueError: the engine is no TGI.
        """
        if self.tgi is None:
            raise ValueError(f"{self.dialect.name} has no routes but /invocations here")
        tgi = self.tgi
        return await self._answer(lambda: tgi.read(request, path))

    async def _answer(self, read: Callable[[], Job | ContainerReply]) -> ContainerReply:
        front = self._front
        started_s = time.perf_counter()
        try:
            job = read()
            if isinstance(job, ContainerReply):
                return job
            if job.streams:
                self.served += 1
                return ContainerReply(HTTPStatus.OK, front.stream_headers(job), Stream(self, front.frames(job)))
            await self._generate(job)
            body = job.whole()
        except Unanswered as problem:
            return front.error(problem)
        self.served += 1
        return front.reply(job, body, time.perf_counter() - started_s)

    async def aclose(self) -> None:
        """Forget the answers that are generated for nobody."""
        for orphan in self._orphans:
            orphan.cancel()
            self.count(-1)
        self._orphans.clear()

    async def until_running(self, number: int) -> None:
        """Wait until so many answers are being generated."""
        while self.running != number:
            await self._changed.wait()

    def count(self, change: int) -> None:
        """Add to the number of answers that are being generated."""
        self.running += change
        self._changed.set()
        self._changed = asyncio.Event()

    def delay_s(self, tokens: int, *, first: bool) -> float:
        """Return how long so many tokens take; the very first one of an answer takes longer."""
        options = self.options
        if not tokens:
            return 0.0
        return (tokens - first) * options.token_delay_s + first * options.first_token_delay_s

    async def _generate(self, job: Job) -> None:
        """Take the time a whole answer takes."""
        failed = job.fails_after
        wait_s = self.delay_s(job.rounds if failed is None else failed, first=True)
        self.count(1)
        started_s = asyncio.get_running_loop().time()
        try:
            if wait_s > 0:
                await asyncio.sleep(wait_s)
        except asyncio.CancelledError:
            self.hang_up(wait_s - (asyncio.get_running_loop().time() - started_s))
            raise
        self.count(-1)
        if failed is not None:
            raise Refusal(
                ENGINE_DIED,
                origin=Origin.CRASH,
                status=HTTPStatus.INTERNAL_SERVER_ERROR,
                kind="InternalServerError",
            )

    def hang_up(self, remaining_s: float) -> None:
        """Count an answer whose caller is gone, and go on with it for as long as it would have taken if that is so."""
        if self._front.aborts:
            self.cancelled += 1
            self.count(-1)
            return
        self.abandoned += 1
        if remaining_s <= 0:
            self.count(-1)
            return
        orphan: asyncio.TimerHandle

        def finish() -> None:
            self._orphans.discard(orphan)
            self.count(-1)

        orphan = asyncio.get_running_loop().call_later(remaining_s, finish)
        self._orphans.add(orphan)


class Stream(AsyncIterator[bytes]):
    """A running answer: gives its chunks at the engine's pace. To close it is to hang up, even before it began."""

    def __init__(self, engine: Engine, records: Iterator[Record]) -> None:
        self._engine, self._records = engine, records
        self._begun = False
        self._open = True
        self._given = 0
        engine.count(1)

    def __aiter__(self) -> Self:
        """Return this."""
        return self

    async def __anext__(self) -> bytes:
        """Return the next chunk when it is due."""
        record = next(self._records, None) if self._open else None
        if record is None:
            if self._open:
                self._open = False
                self._engine.count(-1)
            raise StopAsyncIteration
        due, chunk = record
        if due:
            first, self._begun = not self._begun, True
            if self._engine.delays:
                wait_s = self._engine.delay_s(due, first=first)
                if wait_s > 0:
                    await self._sleep(wait_s)
        self._given += 1
        if self._given % _CHUNKS_BETWEEN_BREATHS == 0:
            await self._sleep(0)
        return chunk

    async def aclose(self) -> None:
        """Hang up, unless all has been given."""
        if self._open:
            self._hang_up(0.0)

    async def _sleep(self, wait_s: float) -> None:
        try:
            await asyncio.sleep(wait_s)
        except asyncio.CancelledError:
            if self._open:
                self._hang_up(wait_s)
            raise

    def _hang_up(self, waiting_s: float) -> None:
        self._open = False
        tokens = sum(due for due, _ in self._records)
        begun = self._begun or waiting_s > 0
        self._engine.hang_up(waiting_s + self._engine.delay_s(tokens, first=not begun))
