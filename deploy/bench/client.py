"""Makes one call: a body in, a record of what became of it out. Nothing is tried again."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import ssl
import time
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from deploy.bench.answers import Answer
from deploy.bench.http1 import Connection, Exchange, Pool
from deploy.bench.plan import Load, Target
from deploy.bench.records import CallRecord
from deploy.bench.signing import Signer

SWEEP_EVERY_S = 0.05
"""How often calls are looked through for those that take too long."""
USER_AGENT = "lmi-bench"


class BadKey(Exception):
    """The key in the environment cannot be sent; the text is for the user, and does not hold it."""


class Client:
    """Calls one target; to be entered and left."""

    def __init__(self, target: Target, load: Load) -> None:
        """Raise BadKey or AwsProblem if calls could not be made with what the environment has."""
        self._target, self._load = target, load
        self._pool = Pool(target.origin, time.perf_counter, tls=_tls(target), connect_timeout_s=load.connect_timeout_s)
        self._framed = target.kind == "sagemaker" and target.stream
        self._signer = Signer(target.region or "") if target.kind == "sagemaker" else None
        self._head = self._fixed_head()
        self._tasks: list[asyncio.Task[None]] = []
        self.active: set[Exchange] = set()
        self.reconnects = 0

    async def __aenter__(self) -> Self:
        self._tasks.append(asyncio.create_task(self._sweep()))
        if self._signer is not None:
            self._tasks.append(asyncio.create_task(self._signer.keep_fresh()))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task
        self.abandon()
        await self._pool.aclose()

    async def resolve(self) -> None:
        """Look the host up; OSError if it has no address."""
        await self._pool.resolve()

    def abandon(self) -> int:
        """End every call that is under way, and return how many there were."""
        now, count = time.perf_counter(), len(self.active)
        for exchange in tuple(self.active):
            exchange.fail("abandoned", now)
        return count

    async def call(self, body: bytes, intended: float | None = None) -> tuple[CallRecord, Answer]:
        """Call; the record's times are of time.perf_counter(). Without an intended start it is now."""
        began = time.perf_counter()
        exchange = self._exchange(began)
        self.active.add(exchange)
        try:
            await self._run(exchange, body)
        finally:
            self.active.discard(exchange)
        answer = exchange.answer
        tokens, estimated = answer.tokens()
        record = CallRecord(
            began if intended is None else intended, began, answer.first, answer.last, exchange.ended,
            answer.input_tokens, tokens, estimated, answer.chunks, answer.longest_gap, answer.error,
        )  # fmt: skip
        return record, answer

    def _exchange(self, began: float) -> Exchange:
        answer = Answer(streaming=self._target.stream, framed=self._framed)
        return Exchange(answer, began, asyncio.get_running_loop().create_future())

    async def _run(self, exchange: Exchange, body: bytes) -> None:
        request = self._request(body)
        for fresh in (False, True):
            connection = await self._connect(exchange, fresh=fresh)
            if connection is None:
                return
            if exchange.future.done():  # it was given up while it connected
                self._pool.give_back(connection)
                return
            connection.send(request, exchange)
            await exchange.future
            # A server may close a kept-alive connection at any moment. That is no answer to this call: such a call
            # goes out once more on a new connection, its clock running on.
            stale = exchange.answer.error == "connection_closed" and connection.used and not exchange.answered
            if not stale or fresh:
                self._pool.give_back(connection)
                return
            self.reconnects += 1
            exchange.answer.error = None
            exchange.connection = None
            exchange.future = asyncio.get_running_loop().create_future()

    async def _connect(self, exchange: Exchange, *, fresh: bool) -> Connection | None:
        try:
            return await self._pool.take(fresh=fresh)
        except TimeoutError:
            exchange.fail("timeout_connect", time.perf_counter())
        except ssl.SSLError:
            exchange.fail("tls_failed", time.perf_counter())
        except OSError:
            exchange.fail("connect_failed", time.perf_counter())
        return None

    async def _sweep(self) -> None:
        total, idle = self._load.timeout_s, self._load.idle_timeout_s
        while True:
            await asyncio.sleep(SWEEP_EVERY_S)
            now = time.perf_counter()
            for exchange in tuple(self.active):
                if now - exchange.began > total:
                    exchange.fail("timeout_total", now)
                elif now - exchange.activity > idle:
                    exchange.fail("timeout_idle" if exchange.answered else "timeout_first_byte", now)

    def _request(self, body: bytes) -> bytes:
        if self._signer is None:
            return b"%bcontent-length: %d\r\n\r\n%b" % (self._head, len(body), body)
        url = f"{self._target.origin}{self._target.path}"
        headers = self._signer.sign(url, _sagemaker_headers(self._target), body)
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        return b"%b%bcontent-length: %d\r\n\r\n%b" % (self._head, lines.encode(), len(body), body)

    def _fixed_head(self) -> bytes:
        host = urlsplit(self._target.origin).netloc
        head = f"POST {self._target.path} HTTP/1.1\r\nhost: {host}\r\nuser-agent: {USER_AGENT}\r\n"
        if self._target.kind == "sagemaker":
            return head.encode()
        head += "content-type: application/json\r\naccept: */*\r\n"
        if key := os.environ.get(self._target.key_variable, ""):
            if not re.fullmatch(r"[\x21-\x7e]+", key):
                raise BadKey(f"the key in {self._target.key_variable} has characters that no header can have")
            head += f"authorization: Bearer {key}\r\n"
        return head.encode()


def _sagemaker_headers(target: Target) -> dict[str, str]:
    headers = {"Content-Type": "application/json"}
    if target.inference_component:
        headers["X-Amzn-SageMaker-Inference-Component"] = target.inference_component
    if target.variant:
        headers["X-Amzn-SageMaker-Target-Variant"] = target.variant
    return headers


def _tls(target: Target) -> ssl.SSLContext | None:
    if not target.origin.startswith("https:"):
        return None
    # AWS' own tools take certificate authorities from here; OpenSSL reads SSL_CERT_FILE by itself.
    return ssl.create_default_context(cafile=os.environ.get("AWS_CA_BUNDLE") or None)
