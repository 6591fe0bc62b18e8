"""The front of an LMI container: what it reads a body as, how it frames an answer, and how it words an error.

https://github.com/deepjavalibrary/djl-serving: engines/python/setup/djl_python/{lmi_vllm/vllm_async_service,
async_utils,encode_decode,session_utils}.py; the shapes of errors are those of deploy.local.presets.
"""

from __future__ import annotations

import csv
import io
import json
import re
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from deploy.local.container import ContainerReply, ContainerRequest
from deploy.local.engine import bodies, jsontext, lmi_inputs
from deploy.local.engine.answering import Answerer
from deploy.local.engine.bodies import CompletionRequest
from deploy.local.engine.job import Job, Record
from deploy.local.engine.lmi_inputs import InputsJob
from deploy.local.engine.refusal import Origin, Refusal
from deploy.local.presets import Answer, shape_a, shape_b, shape_c

ADAPTER_HEADER = "x-amzn-sagemaker-adapter-identifier"
SESSION_HEADER = "x-amzn-sagemaker-session-id"
SESSION_LIFE = timedelta(seconds=1200)

_NO_CACHE = {
    "pragma": "no-cache",
    "cache-control": "no-cache; no-store, must-revalidate, private",
    "expires": "Thu, 01 Jan 1970 00:00:00 UTC",
}
_SESSION_ID = re.compile("[0-9a-f-]{36}")
_SESSION_CALLS = ("NEW_SESSION", "CLOSE")


class LmiFront:
    """Reads and answers as DJL's front end and its vLLM handler do together."""

    stream_type = "application/jsonlines"
    aborts = False
    """A hung-up call goes on generating: nothing in the handler stops it."""

    def __init__(self, answerer: Answerer) -> None:
        self._answerer = answerer
        self._release = answerer.dialect.lmi or 0
        self._sessions: set[str] = set()

    def read(self, request: ContainerRequest) -> Job | ContainerReply:
        """Return the answer to a request, or a reply that needs no model.

        Raises:
            Refusal: there is none.
        """
        try:
            answer = self._parse(request)
        except Refusal:
            raise
        except Exception as error:  # The handler catches everything here, so any text can be the caller's.
            raise Refusal(f"Input parsing failed: {error}", origin=Origin.INPUT, status=424) from error
        return answer()

    def _parse(self, request: ContainerRequest) -> Callable[[], Job | ContainerReply]:
        """Return what answers a body, as its keys have it: prompt goes before inputs, and inputs before messages."""
        session = request.headers.get(SESSION_HEADER)
        if self._release >= 16 and session is not None and not _SESSION_ID.fullmatch(session):
            raise ValueError(f"invalid session_id: {session}")
        payload: Any = decode(request.body, request.headers.get("content-type", ""))
        adapter = self._adapter(request, payload)
        if "model" not in payload:
            payload["model"] = self._answerer.options.served_name
        if adapter:
            if adapter not in self._answerer.options.adapters:
                known = list(self._answerer.options.adapters)
                raise ValueError(f"LoRA adapter {adapter} not found in registry. Available adapters: {known}")
            payload["model"] = adapter
        answerer = self._answerer
        if "prompt" in payload:
            return partial(answerer.completion, bodies.read_completion(payload, answerer.dialect))
        if "inputs" in payload:
            given, details, repeats_prompt = lmi_inputs.to_completion(payload)
            body = bodies.read_completion(given, answerer.dialect)
            return partial(self._answer_inputs, body, details, repeats_prompt)
        if "messages" in payload:
            return partial(answerer.chat, bodies.read_chat(payload, answerer.dialect))
        if "requestType" in payload and self._release >= 16:
            kind = payload["requestType"]
            if kind not in _SESSION_CALLS:
                raise RuntimeError(f"invalid payload. request type must be one of dict_keys({list(_SESSION_CALLS)})")
            return partial(self._answer_session, kind, session)
        raise RuntimeError("invalid payload. must contain prompt, inputs, or messages")

    def _adapter(self, request: ContainerRequest, payload: Any) -> Any:
        if self._release < 16:
            return None
        if ADAPTER_HEADER in request.headers:
            return request.headers[ADAPTER_HEADER]
        return payload.pop("adapters") if "adapters" in payload else None

    def _answer_inputs(self, body: CompletionRequest, details: bool, repeats_prompt: bool) -> Job:
        try:
            return InputsJob(self._answerer.completion(body), details, repeats_prompt)
        except Refusal as refusal:
            if self._release < 26:
                # The formatter looks for choices in the error itself, and fails.
                raise Refusal(refusal.message, origin=Origin.CRASH) from refusal
            raise

    def _answer_session(self, kind: str, session: str | None) -> ContainerReply:
        headers = {}
        if kind == "NEW_SESSION":
            session = str(uuid.uuid4())
            self._sessions.add(session)
            expires = (datetime.now(UTC) + SESSION_LIFE).strftime("%Y-%m-%dT%H:%M:%SZ")
            headers[SESSION_HEADER] = f"{session}; Expires={expires}"
            said = f"Session {session} created"
        else:
            if session is None:
                raise Refusal(
                    f"Failed to close session: invalid session_id: {session}", origin=Origin.INPUT, status=424
                )
            self._sessions.discard(session)
            said = f"Session {session} closed"
        return self.whole(jsontext.spaced({"result": said}), headers)

    def whole(self, body: bytes, headers: dict[str, str] | None = None) -> ContainerReply:
        """Return a whole reply."""
        return ContainerReply(200, self.headers("application/json") | (headers or {}), body + b"\n")

    def reply(self, job: Job, body: bytes, seconds: float) -> ContainerReply:
        """Return a whole reply; how long it took is not told."""
        return self.whole(body)

    def stream_headers(self, job: Job) -> dict[str, str]:
        """Return the headers of a stream."""
        return self.headers(self.stream_type)

    def frames(self, job: Job) -> Iterator[Record]:
        """Give the stream's chunks: a line for each record, and an empty one at the end."""
        for due, record in job.records():
            if isinstance(job, InputsJob) and job.broken and record.startswith(b'{"error":"'):
                yield due, record
            else:
                yield due, record + b"\n"
        if not (isinstance(job, InputsJob) and job.broken):
            yield 0, b"\n"

    def error(self, refusal: Refusal) -> ContainerReply:
        """Return the reply of a request without an answer: its shape and what it tells depend on the release."""
        answer = self._shaped(refusal)
        headers = self.headers(answer.content_type)
        return ContainerReply(answer.status, headers, answer.body)

    def _shaped(self, refusal: Refusal) -> Answer:
        release = self._release
        if refusal.origin is Origin.INPUT:
            return _with_reason(refusal.status, refusal.message)
        if refusal.origin is Origin.CRASH or release in (16, 17):
            return shape_c(424)
        if refusal.origin is Origin.RAISED and self._answerer.dialect.raises_errors:
            return shape_c(424)
        if release == 15:
            return _with_reason(refusal.status, refusal.message)
        info = f"message={refusal.message!r}, type={refusal.kind!r}, param={refusal.param!r}, code={refusal.status}"
        return _with_reason(500, f"error=ErrorInfo({info})")

    @staticmethod
    def headers(content_type: str | None) -> dict[str, str]:
        """Return the headers of every reply; an error may have no content type."""
        typed = {} if content_type is None else {"content-type": content_type}
        return {**typed, "x-request-id": str(uuid.uuid4()), **_NO_CACHE}


def decode(body: bytes, content_type: str) -> Any:
    """Return what a body is by its content type: JSON, or an object with `inputs`."""
    if not content_type and not body:
        return {"inputs": ""}
    if not content_type or "application/json" in content_type:
        return json.loads(body)
    if "text/csv" in content_type:
        return _decode_csv(body.decode())
    if "text/plain" in content_type:
        return {"inputs": [body.decode()]}
    return {"inputs": body.decode()}


def _decode_csv(text: str) -> Any:
    first = text.splitlines()[0].lower()
    if not any(header in first for header in ("question", "context", "inputs")):
        raise ValueError(
            "You need to provide the correct CSV with Header columns to use it with the inference toolkit default "
            "handler."
        )
    rows = list(csv.DictReader(io.StringIO(text)))
    return {"inputs": [row["inputs"] for row in rows] if "inputs" in rows[0] else rows}


def _with_reason(status: int, text: str) -> Answer:
    """Return shape A, whose text is also the reason phrase; Netty refuses a line break there."""
    if "\n" not in text and "\r" not in text:
        return shape_a(status, text)
    return shape_b(
        500,
        "IllegalArgumentException",
        f"reasonPhrase contains one of the following prohibited characters: \\r\\n: {text}",
    )
