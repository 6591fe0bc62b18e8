"""The front of a TGI container: its routes, what they take, and how replies, streams and errors look.

https://github.com/huggingface/text-generation-inference: router/src/{server,sagemaker}.rs; what is no JSON is refused
by https://github.com/tokio-rs/axum: axum/src/json.rs, axum-core/src/extract/rejection.rs
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from http import HTTPStatus
from typing import Any

from deploy.local.container import ContainerReply, ContainerRequest
from deploy.local.engine import jsontext
from deploy.local.engine.job import Job, Record
from deploy.local.engine.options import Options
from deploy.local.engine.refusal import Refusal
from deploy.local.engine.tgi import chatjob, completionjob, openai, requests, tokenizing
from deploy.local.engine.tgi.chatjob import ChatJob
from deploy.local.engine.tgi.completionjob import CompletionJob
from deploy.local.engine.tgi.errors import SHARD_DIED, TgiError, Unreadable, failed, invalid
from deploy.local.engine.tgi.generatejob import GenerateJob, error_record
from deploy.local.engine.tgi.infer import Generate, Inference
from deploy.local.engine.tgi.jsonreader import Problem, Reader
from deploy.local.engine.tgi.release import Release, Version
from deploy.local.engine.tgi.shapes import Shape

Json = dict[str, Any]
TgiJob = GenerateJob | ChatJob | CompletionJob

INVOCATIONS = "/invocations"
COMPUTE_TYPE = "gpu+optimized"
MOST_BODY_BYTES = 2_000_000
_JSON_TYPE = re.compile(r"application/(?:json|[\w.+-]+\+json)")


class TgiFront:
    """Reads and answers as TGI does."""

    aborts = True
    """A hung-up call stops generating."""

    def __init__(self, version: Version, options: Options, running: Callable[[], int]) -> None:
        self.release = Release(version)
        self._options = options
        self._inference = Inference(self.release, options, running)
        self._shows_prefill = options.prefill_logprobs or not self.release.since(3, 0)
        self._routes: dict[str, Callable[[bytes], TgiJob | ContainerReply]] = {
            "/": self._compat,
            "/generate": self._generate,
            "/generate_stream": self._generate_stream,
            INVOCATIONS: self._invocation,
            "/v1/chat/completions": self._chat,
            "/v1/completions": self._completion,
            "/tokenize": self._tokenize,
        }
        if self.release.since(2, 3):
            self._routes["/chat_tokenize"] = self._chat_tokenize

    def read(self, request: ContainerRequest, path: str = INVOCATIONS) -> Job | ContainerReply:
        """Return the answer to a POST to one of TGI's routes, or a reply that needs no model.

        Raises:
            TgiError, Unreadable: there is none.
        """
        route = self._routes.get(path)
        if route is None:
            return ContainerReply(HTTPStatus.NOT_FOUND, {}, b"")
        media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if not _JSON_TYPE.fullmatch(media_type):
            raise Unreadable(
                HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "Expected request with `Content-Type: application/json`"
            )
        if len(request.body) > MOST_BODY_BYTES:
            raise Unreadable(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "Failed to buffer the request body: length limit exceeded"
            )
        return route(request.body)

    # --- Routes ---

    def _invocation(self, body: bytes) -> TgiJob:
        if not self.release.takes_any_payload:
            return self._chat(body) if self._options.messages_api else self._compat(body)
        kind, read = _read(requests.invocation(self.release.version), body)
        if kind == "generate":
            return self._compat_job(read)
        return self._chat_job(read) if kind == "chat" else self._completion_job(read)

    def _compat(self, body: bytes) -> TgiJob:
        return self._compat_job(_read(requests.compat(self.release.version), body))

    def _compat_job(self, read: Json) -> TgiJob:
        asked = read["parameters"]
        if asked["return_full_text"] is None:
            asked["return_full_text"] = self._options.return_full_text
        return self._generate_job(read, streams=read["stream"], in_list=True)

    def _generate(self, body: bytes) -> TgiJob:
        return self._generate_job(_read(requests.generate(self.release.version), body), streams=False, in_list=False)

    def _generate_stream(self, body: bytes) -> TgiJob:
        return self._generate_job(_read(requests.generate(self.release.version), body), streams=True, in_list=False)

    def _generate_job(self, read: Json, *, streams: bool, in_list: bool) -> GenerateJob:
        request = Generate(read["inputs"], read["parameters"])
        job = GenerateJob(request, self.release, self._shows_prefill, streams, in_list)
        try:
            self._fill(job)
        except TgiError as error:
            if not streams:
                raise
            job.error = error
        return job

    def _fill(self, job: GenerateJob) -> None:
        asked = job.request.parameters
        best_of = 1 if asked["best_of"] is None else asked["best_of"]
        if job.streams and best_of != 1:
            raise invalid("`best_of` != 1 is not supported when streaming tokens")
        if job.streams and asked["decoder_input_details"]:
            raise invalid("`decoder_input_details` == true is not supported when streaming tokens")
        if best_of > 1:
            job.answer, job.others = self._inference.best_of(job.request, best_of)
        else:
            job.answer = self._inference.generate(job.request)

    def _chat(self, body: bytes) -> TgiJob:
        return self._chat_job(_read(requests.chat(self.release.version), body))

    def _chat_job(self, read: Json) -> ChatJob:
        return chatjob.read(read, self._inference, shows_prefill=self._shows_prefill)

    def _completion(self, body: bytes) -> TgiJob:
        return self._completion_job(_read(requests.completion(self.release.version), body))

    def _completion_job(self, read: Json) -> CompletionJob:
        return completionjob.read(read, self._inference, shows_prefill=self._shows_prefill)

    def _tokenize(self, body: bytes) -> ContainerReply:
        read = _read(requests.generate(self.release.version), body)
        return _json(tokenizing.reply(read["inputs"]))

    def _chat_tokenize(self, body: bytes) -> ContainerReply:
        request, _ = chatjob.to_generate(_read(requests.chat(self.release.version), body), self._inference)
        return _json(tokenizing.chat_reply(request.inputs))

    # --- Replies ---

    def reply(self, job: TgiJob, body: bytes, seconds: float) -> ContainerReply:
        """Return a whole reply with the times that TGI tells; all is spent on inference here."""
        answers = job.answers
        said = sum(len(answer.said) for answer in answers)
        milliseconds = int(seconds * 1000)
        headers = {
            "content-type": "application/json",
            "x-compute-type": COMPUTE_TYPE,
            "x-compute-time": repr(seconds),
            "x-compute-characters": str(job.characters),
            "x-total-time": str(milliseconds),
            "x-validation-time": "0",
            "x-queue-time": "0",
            "x-inference-time": str(milliseconds),
            "x-time-per-token": str(milliseconds // max(1, said)),
        }
        if self.release.since(2, 0):
            headers["x-prompt-tokens"] = str(sum(len(answer.prompt) for answer in answers))
            headers["x-generated-tokens"] = str(said)
        if isinstance(job, CompletionJob):
            del headers["x-compute-time"]
        return ContainerReply(HTTPStatus.OK, headers, body)

    def stream_headers(self, job: TgiJob) -> dict[str, str]:
        """Return the headers of a stream."""
        return {
            "content-type": "text/event-stream",
            "cache-control": "no-cache",
            "x-compute-type": COMPUTE_TYPE,
            "x-compute-characters": str(job.characters),
            "x-accel-buffering": "no",
        }

    def frames(self, job: TgiJob) -> Iterator[Record]:
        """Give the stream's chunks: an event for each record, and [DONE] where there is one."""
        head = b"data" + self.release.field_end
        for due, record in job.records():
            yield due, head + record + b"\n\n"
        if job.ends_with_done:
            yield 0, head + b"[DONE]\n\n"

    def error(self, problem: TgiError | Unreadable | Refusal) -> ContainerReply:
        """Return the reply of a request without an answer."""
        if isinstance(problem, Unreadable):
            return ContainerReply(
                problem.status, {"content-type": "text/plain; charset=utf-8"}, problem.text.encode(errors="replace")
            )
        if isinstance(problem, Refusal):
            problem = failed(SHARD_DIED)
        return ContainerReply(problem.status, {"content-type": "application/json"}, error_record(problem))

    def info(self) -> bytes:
        """Return the body of `GET /info`."""
        window = self._options.context_length
        tokens = "tokens" if self.release.since(2, 1) else "length"
        return jsontext.value(
            {
                "model_id": self._options.served_name,
                "model_sha": None,
                "model_pipeline_tag": "text-generation" if self._options.return_full_text else "text2text-generation",
                "max_concurrent_requests": self._options.max_concurrent_requests,
                "max_best_of": 2,
                "max_stop_sequences": 4,
                f"max_input_{tokens}": window - 1,
                "max_total_tokens": window,
                "validation_workers": 2,
                "max_client_batch_size": completionjob.MAX_PROMPTS,
                "router": "text-generation-router",
                "version": self.release.name,
                "sha": None,
                "docker_label": openai.DOCKER_LABEL,
            }
        )

    def models(self) -> bytes:
        """Return the body of `GET /v1/models`."""
        name = self._options.served_name
        return jsontext.value(
            {"object": "list", "data": [{"id": name, "object": "model", "created": 0, "owned_by": name}]}
        )


def _read(shape: Shape, body: bytes) -> Any:
    try:
        return shape.read(Reader(body), ())
    except Problem as problem:
        if problem.syntax:
            raise Unreadable(HTTPStatus.BAD_REQUEST, f"Failed to parse the request body as JSON: {problem}") from None
        raise Unreadable(
            HTTPStatus.UNPROCESSABLE_ENTITY,
            f"Failed to deserialize the JSON body into the target type: {problem}",
        ) from None


def _json(body: bytes) -> ContainerReply:
    return ContainerReply(HTTPStatus.OK, {"content-type": "application/json"}, body)
