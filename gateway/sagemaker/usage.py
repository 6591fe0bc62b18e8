"""Records of usage to S3 or Firehose, by way of a process that knows aioboto3: `usage_agent.py`."""

from __future__ import annotations

import contextlib
import gzip
import os
import secrets
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, cast

import msgspec

from gateway.sagemaker.errors import error_name

AGENT = Path(__file__).with_name("usage_agent.py")
"""Run as a file, it needs nothing of how this package was installed."""
ANSWER_S = 60.0
"""For a question to be answered: connecting, sending and AWS' answer, twice."""
MAX_RECORDS = 500
MAX_BYTES = 3_500_000
"""Of one PutRecordBatch, which takes 4 MiB, encoded.
https://docs.aws.amazon.com/firehose/latest/APIReference/API_PutRecordBatch.html"""


class _Reply(msgspec.Struct):
    failed: list[int] | None
    error: str


class _Agent:
    """The process, started when it is needed, and anew after it has failed."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        self._aborted = False

    def ask(self, question: dict[str, Any], data: bytes) -> _Reply:
        """Return the answer to a question.

        Raises:
            OSError, msgspec.MsgspecError: there is none; the next question finds a new process.
        """
        process = self._running()
        try:
            questions, answers = _pipes(process)
            questions.write(msgspec.json.encode({**question, "bytes": len(data)}) + b"\n" + data)
            questions.flush()
            if not select.select([answers], [], [], ANSWER_S)[0]:
                raise TimeoutError
            reply = msgspec.json.decode(answers.readline(), type=_Reply)
            if reply.error:
                reply.error = error_name(reply.error) or "an error without a name"
            return reply
        except BaseException:
            self.stop()
            raise

    def _running(self) -> subprocess.Popen[bytes]:
        with self._lock:
            if self._aborted:
                raise BrokenPipeError
            if self._process is None:
                self._process = subprocess.Popen(  # noqa: S603 - this interpreter, and a file of ours
                    [sys.executable, "-P", str(AGENT)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    start_new_session=True,  # Ctrl-C is for those who have records to hand over
                )
            return self._process

    def stop(self) -> None:
        """End the process; the next question would find a new one."""
        with self._lock:
            process, self._process = self._process, None
        if process is not None:
            _kill(process)
            for pipe in _pipes(process):
                with contextlib.suppress(OSError):  # what was not sent yet
                    pipe.close()
            process.wait()

    def abort(self) -> None:
        """Let the question that is being asked fail, and all further ones."""
        with self._lock:
            self._aborted = True
            if self._process is not None:
                _kill(self._process)


def _pipes(process: subprocess.Popen[bytes]) -> tuple[IO[bytes], IO[bytes]]:
    return cast("IO[bytes]", process.stdin), cast("IO[bytes]", process.stdout)


def _kill(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)  # and what a `credential_process` of a profile left behind


class S3Destination:
    """Makes an object of every batch: `PREFIX/dt=2026-01-31/hour=23/20260131T235900Z-WORKER-NUMBER.jsonl.gz`."""

    def __init__(self, bucket: str, prefix: str, region: str, *, clock: Callable[[], float] = time.time) -> None:
        """`clock` returns Unix seconds."""
        self._bucket = bucket
        self._prefix = f"{prefix}/" if prefix else ""
        self._region = region
        self._clock = clock
        # By chance, as several hosts may write, and processes' numbers come again.
        self._worker, self._number = secrets.token_hex(8), 0
        self._lines: list[bytes] = []
        self._key = ""
        self._agent = _Agent()

    def write(self, lines: Sequence[bytes]) -> tuple[list[bytes], str]:
        """Put all of them, or none.

        Raises:
            OSError, msgspec.MsgspecError: it is not known what has become of them.
        """
        if lines != self._lines:  # else they are put again, maybe over themselves
            self._lines = list(lines)
            self._number += 1
            at = time.strftime("dt=%Y-%m-%d/hour=%H/%Y%m%dT%H%M%SZ", time.gmtime(self._clock()))
            self._key = f"{self._prefix}{at}-{self._worker}-{self._number:06d}.jsonl.gz"
        question = {"put": "s3", "region": self._region, "bucket": self._bucket, "key": self._key}
        reply = self._agent.ask(question, gzip.compress(b"\n".join([*lines, b""]), 6, mtime=0))
        if reply.failed is None:
            return list(lines), reply.error
        self._lines = []
        return [], ""

    def close(self) -> None:
        self._agent.stop()

    def abort(self) -> None:
        self._agent.abort()


class FirehoseDestination:
    """Puts every record on a stream, with a line's end."""

    def __init__(self, stream: str, region: str) -> None:
        self._question = {"put": "firehose", "region": region, "stream": stream}
        self._agent = _Agent()

    def write(self, lines: Sequence[bytes]) -> tuple[list[bytes], str]:
        """Put as many as the stream takes; those it does not take, by themselves or by the batch, come back."""
        left: list[bytes] = []
        reason = ""
        batches = list(_batches(lines))
        for number, batch in enumerate(batches):
            try:
                reply = self._agent.ask(self._question, b"\n".join(batch))
            except (OSError, msgspec.MsgspecError) as error:
                left += [line for later in batches[number:] for line in later]
                return left, type(error).__name__
            failed = range(len(batch)) if reply.failed is None else reply.failed
            left += [batch[index] for index in failed if 0 <= index < len(batch)]
            reason = reply.error or reason
        return left, reason

    def close(self) -> None:
        self._agent.stop()

    def abort(self) -> None:
        self._agent.abort()


def _batches(lines: Sequence[bytes]) -> Iterator[list[bytes]]:
    batch: list[bytes] = []
    size = 0
    for line in lines:
        if batch and (len(batch) == MAX_RECORDS or size + len(line) + 1 > MAX_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(line)
        size += len(line) + 1
    if batch:
        yield batch
