"""A JSON Schema in TGI's spelling, respelt in OpenAI's.

huggingface_hub's InferenceClient sends a `response_format` of OpenAI's as `{"type": "json_object", "value": schema}`
(https://github.com/huggingface/huggingface_hub/blob/v0.36.2/src/huggingface_hub/inference/_providers/hf_inference.py).
vLLM ignores `value` and would answer in any JSON. As with TGI itself, the schema may be JSON within a text
(https://github.com/huggingface/text-generation-inference: router/src/lib.rs `json_object_or_string_to_json`).
"""

from __future__ import annotations

import contextlib
from typing import Any

import msgspec

from adapters.openai.reply import INVALID_JSON

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode
_TYPES = frozenset({"json_object", "json"})
NAME = "response"
"""Of the schema, which TGI does not name and OpenAI does."""


def respelt(values: dict[str, Any], raw: dict[str, msgspec.Raw]) -> tuple[dict[str, Any], dict[str, msgspec.Raw]]:
    """Return the fields of a body, with a `response_format` that has a `value` as OpenAI spells it."""
    form = values["response_format"]
    schema, name = form["value"], NAME
    if form["type"] == "json_schema" and "json_schema" not in form:
        schema, name = schema.get("schema"), schema.get("name") or NAME
    elif form["type"] not in _TYPES:
        return values, raw
    if isinstance(schema, str):
        with contextlib.suppress(*INVALID_JSON):  # possible only where `allow_fields` lifts the checks
            schema = _decode(schema)
    if not isinstance(schema, dict):
        return values, raw
    form = {"type": "json_schema", "json_schema": {"name": name, "schema": schema}}
    return {**values, "response_format": form}, {**raw, "response_format": msgspec.Raw(_encode(form))}
