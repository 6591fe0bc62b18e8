"""TGI's routes in the OpenAPI document: their bodies, replies and errors.

Types of parameters are those that adapters/tgi checks; a test holds every one against the checks themselves.
https://huggingface.github.io/text-generation-inference/
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from adapters.tgi.parameters import PARAMETERS
from gateway.errors import GatewayError, MethodNotAllowed, RouteNotFound
from gateway.http.docs_bodies import NULL, Schema, ref
from gateway.http.tgi_errors import words_for

TAG = {
    "name": "tgi",
    "x-heading": "Text Generation Inference",
    "description": "The API of Hugging Face's TGI server. A call that names no model, by its URL or as `adapter_id`, "
    "means the gateway's default model. Errors are `TgiError`, in TGI's words.",
}
MODEL: Schema = {
    "name": "model",
    "in": "path",
    "required": True,
    "description": "A model's name or alias. Its slashes may be written as they are.",
    "schema": {"type": "string"},
}

_TEXT = {"type": "string"}
_COUNT = {"type": "integer", "minimum": 0}
_MAYBE_COUNT = {"type": ["integer", "null"], "minimum": 0}
_MAYBE_NUMBER = {"type": ["number", "null"]}
_FINISH = {"enum": ["length", "eos_token", "stop_sequence"]}


def _array(item: Schema, text: str = "") -> Schema:
    return {"type": "array", "items": item} | ({"description": text} if text else {})


def _object(text: str, required: list[str], properties: Schema) -> Schema:
    return {"type": "object", "description": text, "required": required, "properties": properties}


_SHAPES: dict[str, Schema] = {
    "best_of": {"type": "integer", "minimum": 0},
    "temperature": {"type": "number", "exclusiveMinimum": 0},
    "repetition_penalty": {"type": "number", "exclusiveMinimum": 0},
    "frequency_penalty": {"type": "number", "minimum": -2, "maximum": 2},
    "top_k": {"type": "integer", "minimum": 1, "maximum": 2**31 - 1},
    "top_p": {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1},
    "typical_p": {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1},
    "do_sample": {"type": "boolean"},
    "max_new_tokens": {"type": "integer", "minimum": 1, "maximum": 2**32 - 1},
    "return_full_text": {"type": "boolean"},
    "stop": _array(_TEXT),
    "truncate": {"type": "integer", "minimum": 1, "maximum": 2**64 - 1},
    "watermark": {"type": "boolean"},
    "details": {"type": "boolean"},
    "decoder_input_details": {"type": "boolean"},
    "seed": {"type": "integer", "minimum": 0, "maximum": 2**64 - 1},
    "top_n_tokens": {"type": "integer", "minimum": 0},
    "grammar": {
        "type": "object",
        "required": ["type", "value"],
        "properties": {"type": {"enum": ["json", "json_object", "regex", "json_schema"]}, "value": {}},
    },
    "adapter_id": _TEXT,
}


def _parameter(name: str) -> Schema:
    known, shape = PARAMETERS[name], _SHAPES[name]
    nullable = {"type": [shape["type"], "null"]} if known.nullable else {}
    words = [f"Default: {known.default}.", known.remark if known.supported else f"Refused. {known.remark}"]
    return {**shape, **nullable, "description": " ".join(filter(None, words))}


_PARAMETERS_FIELD = {
    **ref("GenerateParameters"),
    "description": "How to generate. Where it is absent, `do_sample` is `true`.",
}
_REQUEST: Schema = {
    "inputs": {"type": "string", "minLength": 1, "description": "The prompt."},
    "parameters": _PARAMETERS_FIELD,
}
_SEQUENCE: Schema = {
    "finish_reason": _FINISH,
    "generated_tokens": _COUNT,
    "seed": _MAYBE_COUNT,
    "prefill": _array(ref("TgiPrefillToken"), "The prompt's tokens, if `decoder_input_details` asks for them."),
    "tokens": _array(ref("TgiToken")),
    "top_tokens": _array(
        _array(ref("TgiToken")), "The likeliest tokens of each step, if `top_n_tokens` asks for them."
    ),
}
SCHEMAS: dict[str, Schema] = {
    "GenerateRequest": _object("A prompt to continue.", ["inputs"], _REQUEST),
    "CompatGenerateRequest": _object(
        "The same, with the choice of a stream.",
        ["inputs"],
        {**_REQUEST, "stream": {"type": "boolean", "description": "Answer as `/generate_stream` does."}},
    ),
    "GenerateParameters": _object(
        "TGI's parameters. The gateway's configuration bounds `best_of`, `stop` and `top_n_tokens`: see `GET /info`.",
        [],
        {name: _parameter(name) for name in PARAMETERS},
    ),
    "GenerateResponse": _object(
        "A whole answer.", ["generated_text"], {"generated_text": _TEXT, "details": ref("TgiDetails")}
    ),
    "TgiDetails": _object(
        "How an answer came about, if `details` asks for it.",
        ["finish_reason", "generated_tokens", "seed", "prefill", "tokens"],
        {**_SEQUENCE, "best_of_sequences": _array(ref("TgiSequence"), "The answers that were not the best.")},
    ),
    "TgiSequence": _object(
        "One of several answers.",
        ["generated_text", "finish_reason", "generated_tokens", "seed", "prefill", "tokens"],
        {"generated_text": _TEXT, **_SEQUENCE},
    ),
    "TgiToken": _object(
        "A token.",
        ["id", "text", "logprob", "special"],
        {"id": _COUNT, "text": _TEXT, "logprob": _MAYBE_NUMBER, "special": {"type": "boolean"}},
    ),
    "TgiPrefillToken": _object(
        "A token of the prompt.", ["id", "text", "logprob"], {"id": _COUNT, "text": _TEXT, "logprob": _MAYBE_NUMBER}
    ),
    "StreamResponse": _object(
        "A token of a streamed answer. The last one has `generated_text`, and `details` if they were asked for.",
        ["index", "token", "generated_text", "details"],
        {
            "index": {"type": "integer", "minimum": 1},
            "token": ref("TgiToken"),
            "top_tokens": _array(ref("TgiToken")),
            "generated_text": {"type": ["string", "null"]},
            "details": {
                "anyOf": [
                    _object(
                        "How the answer came about.",
                        ["finish_reason", "generated_tokens", "seed", "input_length"],
                        {
                            "finish_reason": _FINISH,
                            "generated_tokens": _COUNT,
                            "seed": _MAYBE_COUNT,
                            "input_length": _COUNT,
                        },
                    ),
                    NULL,
                ]
            },
        },
    ),
    "TgiInfo": _object(
        "What a model can take. What nobody here knows is null.",
        ["model_id", "max_best_of", "max_stop_sequences", "max_input_tokens", "max_total_tokens", "router", "version"],
        {
            "model_id": _TEXT,
            "model_sha": {"type": ["string", "null"]},
            "model_pipeline_tag": {"enum": ["text-generation", "image-text-to-text"]},
            "max_concurrent_requests": _MAYBE_COUNT,
            "max_best_of": _COUNT,
            "max_stop_sequences": _COUNT,
            "max_input_tokens": _MAYBE_COUNT,
            "max_total_tokens": _MAYBE_COUNT,
            "validation_workers": _COUNT,
            "max_client_batch_size": _COUNT,
            "router": _TEXT,
            "version": _TEXT,
            "sha": {"type": ["string", "null"]},
            "docker_label": {"type": ["string", "null"]},
        },
    ),
    "TgiSimpleToken": _object(
        "A token and the characters it stands for, as far as they are known.",
        ["id", "text", "start", "stop"],
        {"id": _COUNT, "text": _TEXT, "start": _COUNT, "stop": _COUNT},
    ),
    "ChatTokenizeResponse": _object(
        "The prompt that a chat becomes.",
        ["tokenize_response", "templated_text"],
        {"tokenize_response": _array(ref("TgiSimpleToken")), "templated_text": _TEXT},
    ),
    "TgiError": {
        **_object("Why there is no answer.", ["error", "error_type"], {"error": _TEXT, "error_type": _TEXT}),
        "examples": [{"error": "Input validation error: `inputs` cannot be empty", "error_type": "validation"}],
    },
}
"""By component name."""

EXAMPLES: dict[str, dict[str, tuple[str, Schema]]] = {
    "/generate": {
        "prompt": ("A text to continue", {"inputs": "Once upon a time", "parameters": {"max_new_tokens": 50}})
    },
    "/generate_stream": {
        "stream": ("A stream", {"inputs": "Once upon a time", "parameters": {"max_new_tokens": 50, "details": True}})
    },
}
"""By the path below a model's URL, where they are shown."""

_STREAM: Schema = {
    "text/event-stream": {
        "schema": {
            "type": "string",
            "description": "Events whose data is a `StreamResponse`, or a `TgiError`; no end mark but the last token's "
            "`generated_text`.",
        }
    }
}


def _json(schema: Schema) -> Schema:
    return {"application/json": {"schema": schema}}


# Path, operation, what it does, request, and the 200's content.
_POSTS: tuple[tuple[str, str, str, str, Schema], ...] = (
    ("/generate", "generate", "Continue a text", "GenerateRequest", _json(ref("GenerateResponse"))),
    ("/generate_stream", "generate_stream", "Continue a text as a stream", "GenerateRequest", _STREAM),
    (
        "/",
        "compat_generate",
        "Continue a text either way; whole answers are in a list",
        "CompatGenerateRequest",
        _json(_array(ref("GenerateResponse"))) | _STREAM,
    ),
    ("/tokenize", "tokenize", "List a text's tokens", "GenerateRequest", _json(_array(ref("TgiSimpleToken")))),
    (
        "/chat_tokenize",
        "chat_tokenize",
        "List the tokens of a chat's prompt",
        "ChatCompletionRequest",
        _json(ref("ChatTokenizeResponse")),
    ),
)
_TOKENIZER = (
    "Only for models whose container lets its tokenizer be reached (`tokenizes` in the configuration); for others "
    "there is no such URL."
)


def paths(errors: dict[str, type[GatewayError]], request_id: Schema) -> dict[str, Any]:
    """Return TGI's paths, and the same below a model's URL; `errors` are all errors by their code."""
    found: dict[str, Any] = {}
    for prefix, suffix, parameters in (("", "", [request_id]), ("/models/{model}", "_of_model", [MODEL, request_id])):
        for path, operation, summary, request, content in _POSTS:
            body: Schema = {"schema": ref(request)}
            if prefix and path in EXAMPLES:
                body["examples"] = {name: {"summary": text, "value": v} for name, (text, v) in EXAMPLES[path].items()}
            kinds = [
                kind
                for kind in errors.values()
                if kind is not MethodNotAllowed and (kind is not RouteNotFound or "tokenize" in path)
            ]
            found[f"{prefix}{path}".removesuffix("/") or "/"] = {
                "post": {
                    "tags": [TAG["name"]],
                    "operationId": f"{operation}{suffix}",
                    "summary": summary,
                    "description": _TOKENIZER if "tokenize" in path else "",
                    "parameters": parameters,
                    "requestBody": {"required": True, "content": {"application/json": body}},
                    "responses": {"200": {"description": "The answer.", "content": content}, **_refusals(kinds)},
                }
            }
        known = _refusals([errors[code] for code in _OF_KEYS_AND_MODELS])
        info = {"200": {"description": "What the model can take.", "content": _json(ref("TgiInfo"))}, **known}
        found[f"{prefix}/info"] = {"get": _get(f"info{suffix}", "Tell of a model", parameters, info)}
        probed = _HEALTH | (known if prefix else {})
        for path, operation in ((f"{prefix}/health", "health"), (prefix or "/", "root_health")):
            probe = _get(f"{operation}{suffix}", "Say whether the gateway can serve", parameters, probed)
            found.setdefault(path, {})["get"] = probe if prefix else {**probe, "security": []}
    return found


_OF_KEYS_AND_MODELS = ("missing_api_key", "invalid_api_key", "model_not_found", "invalid_value", "internal_error")
_HEALTH: Schema = {
    "200": {"description": "It can. There is no body.", "content": {}},
    "503": {"description": "It cannot.", "content": _json(ref("TgiError"))},
}


def _get(operation: str, summary: str, parameters: list[Schema], responses: Schema) -> Schema:
    return {
        "tags": [TAG["name"]],
        "operationId": f"tgi_{operation}",
        "summary": summary,
        "parameters": parameters,
        "responses": responses,
    }


def _refusals(kinds: list[type[GatewayError]]) -> Schema:
    """Return the responses of errors, by TGI's status, each with the kinds that can occur."""
    by_status: dict[int, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for kind in kinds:
        words = words_for(kind("A sentence."))
        by_status[words.status][words.kind].append(kind.code)
    return {
        str(status): {
            "description": "\n".join(
                f"- `{word}`" + ("" if codes == [word] else f", elsewhere {', '.join(f'`{code}`' for code in codes)}")
                for word, codes in sorted(found.items())
            ),
            "content": _json(ref("TgiError")),
        }
        for status, found in sorted(by_status.items())
    }
