"""The OpenAPI document: what Litestar knows of its own routes, and the generating calls, which are answered without it.

Nothing here is imported, and nothing built, before someone asks for the document.
https://spec.openapis.org/oas/v3.1.0
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import gateway.errors
from adapters.base import Surface
from gateway.errors import ADMIN_ONLY, GatewayError, MethodNotAllowed, RouteNotFound
from gateway.http import docs_aliases, docs_tgi
from gateway.http.docs_bodies import Schema, ref
from gateway.http.docs_replies import SCHEMAS
from gateway.http.request import REQUEST_ID

DESCRIPTION = """\
OpenAI's API in front of models that run on Amazon SageMaker. Point an OpenAI client at this host's `/v1` and use the \
names that `GET /v1/models` lists.

Every error is OpenAI's envelope, `{"error": {"message", "type", "param", "code"}}`, but on TGI's routes; a program \
should look at `code`. \
Requests that are no HTTP (`malformed_http`), arrive too slowly (`request_timeout`) or have too large a head \
(`headers_too_large`) are refused on every path, URLs that do not exist with `route_not_found`, and methods a URL does \
not answer with `method_not_allowed`."""

TAGS = [
    {"name": "generate", "description": "Answers and continuations, whole or as a stream."},
    {"name": "models", "description": "What the key may use."},
    docs_tgi.TAG,
    docs_aliases.TAG,
    {"name": "operations", "description": "For whoever runs the gateway. No key is asked for."},
]
SECURITY_SCHEMES: dict[str, Schema] = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "`Authorization: Bearer YOUR_KEY`, as OpenAI's clients send it.",
    },
    "apiKey": {
        "type": "apiKey",
        "in": "header",
        "name": "api-key",
        "description": "`api-key: YOUR_KEY`, as Azure's clients send it.",
    },
    "xApiKey": {
        "type": "apiKey",
        "in": "header",
        "name": "x-api-key",
        "description": "`x-api-key: YOUR_KEY`, as some proxies send it.",
    },
}
EXAMPLE_MODEL = "YOUR_MODEL"
"""Stands in the examples where a caller's own model belongs: which models there are, only keys may know."""

_QUESTION = [{"role": "user", "content": "What is the capital of France?"}]
_WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Get the weather of a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
EXAMPLES: dict[Surface, dict[str, tuple[str, Schema]]] = {
    Surface.CHAT: {
        "question": ("A question", {"messages": _QUESTION, "max_tokens": 100}),
        "stream": (
            "A stream",
            {"messages": _QUESTION, "max_tokens": 100, "stream": True, "stream_options": {"include_usage": True}},
        ),
        "tool": (
            "A tool the model may call",
            {"messages": [{"role": "user", "content": "How is the weather in Paris?"}], "tools": [_WEATHER]},
        ),
        "json": (
            "An answer as JSON",
            {
                "messages": _QUESTION,
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {
                        "name": "answer",
                        "schema": {
                            "type": "object",
                            "properties": {"capital": {"type": "string"}},
                            "required": ["capital"],
                        },
                    },
                },
            },
        ),
    },
    Surface.COMPLETIONS: {
        "prompt": ("A text to continue", {"prompt": "Once upon a time", "max_tokens": 50}),
        "stream": ("A stream", {"prompt": "Once upon a time", "max_tokens": 50, "stream": True}),
    },
}

_STREAMING = (
    "With `stream: true` the answer is a stream of server-sent events: one `data:` line for each chunk, comments "
    "(`: keep-alive`) while there is nothing to send, and `data: [DONE]` at the end of a complete answer. An answer "
    "that fails after it has begun ends with an event that holds the error envelope, and without `[DONE]`."
)
# Path, operation, what it does, request and replies (whole, chunk) of each surface.
GENERATING = {
    Surface.CHAT: (
        "/v1/chat/completions",
        "create_chat_completion",
        "Answer a conversation",
        ("ChatCompletionRequest", "ChatCompletion", "ChatCompletionChunk"),
    ),
    Surface.COMPLETIONS: (
        "/v1/completions",
        "create_completion",
        "Continue a text",
        ("CompletionRequest", "Completion", "Completion"),
    ),
}


def complete(document: dict[str, Any], *, keys_required: bool) -> dict[str, Any]:
    """Return Litestar's document with everything that Litestar cannot know."""
    document["info"]["description"] = DESCRIPTION
    document["tags"] = TAGS
    own = document["paths"]
    _amend_models(own)
    _amend_operations(own)
    own = {path: {"post": _generating(surface)} for surface, (path, *_) in GENERATING.items()} | own
    document["paths"] = own | docs_tgi.paths(errors(), _REQUEST_ID) | docs_aliases.paths(own)
    components = document["components"]
    components["schemas"] = SCHEMAS | docs_tgi.SCHEMAS | components.get("schemas", {}) | {"Error": _error_schema()}
    components["securitySchemes"] = SECURITY_SCHEMES
    document["security"] = [{name: []} for name in SECURITY_SCHEMES] + ([] if keys_required else [{}])
    return document


def callers_errors() -> dict[str, type[GatewayError]]:
    """Return every error a caller can see, by its code."""
    return {code: kind for code, kind in errors().items() if kind not in ADMIN_ONLY}


def errors() -> dict[str, type[GatewayError]]:
    """Return every error, those of the administration too, by its code."""
    classes = [kind for kind in vars(gateway.errors).values() if isinstance(kind, type)]
    kinds = [kind for kind in classes if issubclass(kind, GatewayError)]
    # A base class is left out for the one of its subclasses that has its code.
    return {kind.code: kind for kind in kinds if all(kind.code != below.code for below in kind.__subclasses__())}


def _generating(surface: Surface) -> Schema:
    _, operation, summary, (request, whole, chunk) = GENERATING[surface]
    examples = {
        name: {"summary": text, "value": {"model": EXAMPLE_MODEL, **body}}
        for name, (text, body) in EXAMPLES[surface].items()
    }
    every_error = [kind for kind in callers_errors().values() if kind not in (RouteNotFound, MethodNotAllowed)]
    return {
        "tags": ["generate"],
        "operationId": operation,
        "summary": summary,
        "description": _STREAMING,
        "parameters": [_REQUEST_ID],
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": ref(request), "examples": examples}},
        },
        "responses": {
            "200": {
                "description": "The answer, whole or as a stream.",
                "headers": _CALL_HEADERS,
                "content": {
                    "application/json": {"schema": ref(whole)},
                    "text/event-stream": {
                        "schema": {
                            "type": "string",
                            "description": f"Events whose data is a `{chunk}`, an `Error`, or `[DONE]`.",
                        }
                    },
                },
            },
            **_refusals(every_error, headers=_CALL_HEADERS),
        },
    }


def _refusals(kinds: Iterable[type[GatewayError]], headers: Schema | None = None) -> Schema:
    """Return the responses of errors, by status, each with the codes that can occur."""
    by_status: dict[int, list[type[GatewayError]]] = defaultdict(list)
    for kind in kinds:
        by_status[kind.status].append(kind)
    responses = {}
    for status, found in sorted(by_status.items()):
        own = {name: {"schema": {"const": value}} for kind in found for name, value in kind.headers}
        if status == 503:
            own["retry-after"] = _RETRY_AFTER
        responses[str(status)] = {
            "description": "\n".join(f"- `{kind.code}`: {summary_of(kind)}" for kind in found),
            "headers": (headers or {}) | own,
            "content": {"application/json": {"schema": ref("Error")}},
        }
    return responses


def summary_of(kind: type[GatewayError]) -> str:
    """Return what the class says of itself, on one line."""
    return " ".join((kind.__doc__ or "").split())


def _error_schema() -> Schema:
    known = callers_errors()
    return {
        "type": "object",
        "description": "Why there is no answer.",
        "required": ["error"],
        "properties": {
            "error": {
                "type": "object",
                "required": ["message", "type", "param", "code"],
                "properties": {
                    "message": {"type": "string", "description": "A sentence for people; it may change."},
                    "type": {"enum": sorted({kind.type for kind in known.values()})},
                    "param": {"type": ["string", "null"], "description": "The field it is about: `messages[0].role`."},
                    "code": {"enum": sorted(known)},
                },
            }
        },
        "examples": [
            {
                "error": {
                    "message": "The field messages is required.",
                    "type": "invalid_request_error",
                    "param": "messages",
                    "code": "missing_required_parameter",
                }
            }
        ],
    }


_REQUEST_ID: Schema = {
    "name": "x-request-id",
    "in": "header",
    "required": False,
    "description": "A name for this call, for logs on both sides, and SageMaker's InferenceId. One that does not fit "
    "the pattern is replaced.",
    "schema": {"type": "string", "pattern": f"^{REQUEST_ID.pattern.decode()}$"},
}
_CALL_HEADERS: Schema = {
    "x-request-id": {"description": "The call's id, the caller's own or a new one.", "schema": {"type": "string"}},
    "openai-processing-ms": {
        "description": "Milliseconds until the answer, or the status of a stream, was sent.",
        "schema": {"type": "integer"},
    },
    "server-timing": {
        "description": "The same time, divided between `gateway`, `queue` if the call stood in line, and `upstream`, "
        "which for a stream is `sagemaker` and `first-token`.",
        "schema": {"type": "string"},
    },
}
_RETRY_AFTER: Schema = {
    "description": "Seconds to wait before the next try; sent where a number is known.",
    "schema": {"type": "integer"},
}


KEY_REFUSALS = ("missing_api_key", "invalid_api_key", "address_not_allowed", "too_many_failed_attempts")


def _amend_models(paths: dict[str, Any]) -> None:
    known = errors()
    for path, codes in {
        "/v1/models": (*KEY_REFUSALS, "internal_error"),
        "/v1/models/{model_id}": (*KEY_REFUSALS, "model_not_found", "internal_error"),
    }.items():
        operation = paths[path]["get"]
        operation["responses"] = {"200": operation["responses"]["200"]} | _refusals(known[code] for code in codes)
        operation["responses"]["200"]["description"] = "What the key may use."


def _amend_operations(paths: dict[str, Any]) -> None:
    """Put in what the handlers' types do not say."""
    for path in ("/healthz", "/readyz", "/metrics"):
        if path in paths:
            paths[path]["get"]["security"] = []
    paths["/healthz"]["get"]["responses"]["200"] = _json("The process answers.", _status("ok"))
    paths["/readyz"]["get"]["responses"] = {
        "200": _json("It can serve.", _status("ok")),
        "503": _json("It cannot; `problems` says why.", _status("unavailable")),
    }
    if "/metrics" in paths:
        paths["/metrics"]["get"]["responses"]["200"] = {
            "description": "All metrics.",
            "content": {
                "text/plain": {"schema": {"type": "string"}},
                "application/openmetrics-text": {"schema": {"type": "string"}},
            },
        }


def _json(text: str, schema: Schema) -> Schema:
    return {"description": text, "content": {"application/json": {"schema": schema}}}


def _status(word: str) -> Schema:
    return {
        "type": "object",
        "required": ["status"],
        "properties": {"status": {"const": word}, "problems": {"type": "array", "items": {"type": "string"}}},
    }
