"""The front of the vLLM container: `/invocations` tries its request models in turn, and streams server-sent events.

The AWS image sends a call to another route for `route=…` in the custom attributes; the four routes the engine has can
be reached that way. https://github.com/vllm-project/vllm: vllm/entrypoints/serve/sagemaker/api_router.py,
vllm/entrypoints/serve/exception_handling; https://github.com/aws/deep-learning-containers:
scripts/docker/vllm/sagemaker_serve.py; the package model_hosting_container_standards
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any

from pydantic import ValidationError

from deploy.local.container import ContainerReply, ContainerRequest
from deploy.local.engine import bodies, jsontext, tokenizing
from deploy.local.engine.answering import Answerer
from deploy.local.engine.job import Job, Record
from deploy.local.engine.refusal import ENGINE_DIED, ENGINE_DIED_FOR_CLIENTS, Origin, Refusal

ADAPTER_HEADER = "x-amzn-sagemaker-adapter-identifier"
ATTRIBUTES_HEADER = "x-amzn-sagemaker-custom-attributes"
SESSION_HEADER = "x-amzn-sagemaker-session-id"

CHAT_ROUTE, COMPLETION_ROUTE = "/v1/chat/completions", "/v1/completions"
_TOKEN_ROUTES = {tokenizing.TOKENIZE_ROUTE: tokenizing.tokenize, tokenizing.DETOKENIZE_ROUTE: tokenizing.detokenize}
_ROUTES = {CHAT_ROUTE, COMPLETION_ROUTE, "/invocations", *_TOKEN_ROUTES}
_ROUTE = re.compile(r"route=(/[^\s,]+)")

_MOST_REPORTED = 10
_LONGEST_INPUT = 200
_LONGEST_ERROR = 1000
_LOCATION_NOISE = re.compile(r"[\[\]{}()]|^(?:str|int|float|bool|list|dict|none|function-.*|nullable|union)$")


class VllmFront:
    """Reads and answers as the vLLM container does."""

    stream_type = "text/event-stream; charset=utf-8"
    aborts = True
    """A hung-up call stops generating."""

    def __init__(self, answerer: Answerer) -> None:
        self._answerer = answerer

    def read(self, request: ContainerRequest) -> Job | ContainerReply:
        """Return the answer to a request, or a reply that needs no model.

        Raises:
            Refusal: there is none.
        """
        attributes = request.headers.get(ATTRIBUTES_HEADER, "")
        routed = _ROUTE.search(attributes) if self._answerer.options.route_middleware else None
        if routed and routed[1] not in _ROUTES:
            return ContainerReply(404, {"content-type": "application/json"}, b'{"detail":"Not Found"}')
        media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if media_type != "application/json":
            raise _bad_request("1 validation error:\n  Unsupported Media Type: Only 'application/json' is allowed")
        request_id = request.headers.get("x-request-id")
        if routed and routed[1] != "/invocations":
            return self._answer_route(routed[1], request.body, request_id)
        return self._answer_invocation(request, request_id)

    def _answer_invocation(self, request: ContainerRequest, request_id: str | None) -> Job:
        if SESSION_HEADER in request.headers:
            raise _bad_request(
                "Invalid payload. stateful sessions not enabled, X-Amzn-SageMaker-Session-Id header not supported"
            )
        try:
            data = json.loads(request.body)
        except ValueError as error:
            raise _bad_request(f"JSON decode error: {error}") from error
        if isinstance(data, dict):
            if data.get("requestType") in ("NEW_SESSION", "CLOSE"):
                raise _bad_request("Invalid payload. stateful sessions not enabled")
            if self._answerer.dialect.since(0, 11):
                # The adapter's name takes the place of the body's model, and so does no name.
                data["model"] = request.headers.get(ADAPTER_HEADER)
        answerer = self._answerer
        try:
            return answerer.chat(bodies.read_chat(data, answerer.dialect), request_id)
        except ValidationError:
            pass
        try:
            return answerer.completion(bodies.read_completion(data, answerer.dialect), request_id)
        except ValidationError as error:
            raise Refusal(
                "Cannot find suitable handler for request. Expected one of: "
                "['ChatCompletionRequest', 'CompletionRequest']"
            ) from error

    def _answer_route(self, route: str, body: bytes, request_id: str | None) -> Job | ContainerReply:
        answerer = self._answerer
        try:
            data = json.loads(body)
        except json.JSONDecodeError as error:
            raise _invalid(
                [
                    {
                        "type": "json_invalid",
                        "loc": ("body", error.pos),
                        "msg": "JSON decode error",
                        "input": {},
                        "ctx": {"error": error.msg},
                    }
                ]
            ) from error
        try:
            if route in _TOKEN_ROUTES:
                return self.whole(_TOKEN_ROUTES[route](data, answerer))
            if route == CHAT_ROUTE:
                return answerer.chat(bodies.read_chat(data, answerer.dialect), request_id)
            return answerer.completion(bodies.read_completion(data, answerer.dialect), request_id)
        except ValidationError as error:
            lines: list[dict[str, Any]] = [dict(line) for line in error.errors(include_url=False)]
            raise _invalid([{**line, "loc": ("body", *line["loc"])} for line in lines]) from error

    def whole(self, body: bytes, headers: dict[str, str] | None = None) -> ContainerReply:
        """Return a whole reply."""
        return ContainerReply(200, {**self.headers("application/json"), **(headers or {})}, body)

    def reply(self, job: Job, body: bytes, seconds: float) -> ContainerReply:
        """Return a whole reply; how long it took is not told."""
        return self.whole(body)

    def stream_headers(self, job: Job) -> dict[str, str]:
        """Return the headers of a stream."""
        return self.headers(self.stream_type)

    def frames(self, job: Job) -> Iterator[Record]:
        """Give the stream's chunks: an event for each record, and [DONE]."""
        for due, record in job.records():
            yield due, b"data: " + record + b"\n\n"
        yield 0, b"data: [DONE]\n\n"

    def error(self, refusal: Refusal) -> ContainerReply:
        """Return the reply of a request without an answer."""
        message = refusal.message
        if message == ENGINE_DIED and self._answerer.dialect.since(0, 33):
            message = ENGINE_DIED_FOR_CLIENTS
        error: dict[str, Any] = {
            "message": message,
            "type": refusal.kind,
            "param": refusal.param,
            "code": refusal.status,
        }
        nested = self._answerer.dialect.since(0, 10, 1)
        body = {"error": error} if nested else {"object": "error", **error}
        return ContainerReply(refusal.status, self.headers("application/json"), jsontext.value(body))

    @staticmethod
    def headers(content_type: str) -> dict[str, str]:
        """Return the headers of every reply."""
        return {"content-type": content_type}


def _bad_request(message: str, param: str | None = None) -> Refusal:
    return Refusal(message, origin=Origin.INPUT, kind=HTTPStatus.BAD_REQUEST.phrase, param=param)


def _invalid(errors: list[dict[str, Any]]) -> Refusal:
    """Return the refusal of a body whose fields are not what they should be."""
    word = "error" if len(errors) == 1 else "errors"
    lines = [f"{len(errors)} validation {word}:"]
    lines += [f"  {_line(error)}" for error in errors[:_MOST_REPORTED]]
    if len(errors) > _MOST_REPORTED:
        lines.append(f"  ...and {len(errors) - _MOST_REPORTED} more {word}")
    return _bad_request("\n".join(lines), _location(errors[0]["loc"]))


def _line(error: dict[str, Any]) -> str:
    shown = {**error, "loc": _location(error["loc"]), "input": _input(error["input"])}
    text = str(shown)
    return text if len(text) <= _LONGEST_ERROR else f"{text[:_LONGEST_ERROR]}...[truncated]"


def _location(location: tuple[int | str, ...]) -> str:
    """Return where an error is, without the names of pydantic's own wrappers."""
    return ".".join(str(part) for part in location if not _LOCATION_NOISE.search(str(part)))


def _input(value: object) -> object:
    if isinstance(value, list | tuple | dict):
        return f"<{type(value).__name__} of {len(value)} items>"
    text = value if isinstance(value, str) else str(value)
    return text if len(text) <= _LONGEST_INPUT else f"{text[:_LONGEST_INPUT]}...[truncated]"
