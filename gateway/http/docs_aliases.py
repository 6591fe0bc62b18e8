"""The OpenAPI document's entries for URLs that answer as others do, where Azure's and TGI's clients look for them.

https://learn.microsoft.com/azure/ai-services/openai/reference
"""

from __future__ import annotations

from typing import Any

from gateway.http.docs_bodies import Schema, ref
from gateway.http.docs_tgi import MODEL
from gateway.http.models import ALIASES

TAG = {
    "name": "aliases",
    "x-heading": "Other URLs",
    "description": "OpenAI's calls under other URLs: `/openai` is where Azure's clients look for them, with the key in "
    "`api-key` and an `api-version`, which means nothing here. Where the URL names the model, the body's `model` may "
    "be anything, or absent.",
}
_GENERATING = ("/v1/chat/completions", "/v1/completions")
_MODELS = ("/v1/models", "/v1/models/{model_id}")


def paths(own: dict[str, Any]) -> dict[str, Any]:
    """Return the paths of the aliases; `own` are those they are aliases of."""
    found: dict[str, Any] = {}
    for path in _GENERATING:
        operation = own[path]["post"]
        ending = path.removeprefix("/v1")
        found[f"/openai{path}"] = {"post": _alias(path, "POST", operation, "_openai")}
        found[f"/openai/deployments/{{model}}{ending}"] = {
            "post": _alias(path, "POST", operation, "_deployment", MODEL)
        }
        found[f"/models/{{model}}{path}"] = {"post": _alias(path, "POST", operation, "_of_model", MODEL)}
    for place, alias in enumerate(ALIASES):
        for path in _MODELS:
            ending = path.removeprefix("/v1/models")
            found[f"{alias}{ending}"] = {"get": _alias(path, "GET", own[path]["get"], f"_alias{place}")}
    return found


def _alias(path: str, method: str, operation: Schema, suffix: str, *parameters: Schema) -> Schema:
    errors = {"description": "As there.", "content": {"application/json": {"schema": ref("Error")}}}
    alias = {
        "tags": [TAG["name"]],
        "operationId": f"{operation['operationId']}{suffix}",
        "summary": f"The same as `{method} {path}`",
        "parameters": [*parameters, *operation.get("parameters", [])],
        "responses": {"200": operation["responses"]["200"], "default": errors},
    }
    if "requestBody" in operation:
        schema = operation["requestBody"]["content"]["application/json"]["schema"]
        alias["requestBody"] = {"required": True, "content": {"application/json": {"schema": schema}}}
    return alias
