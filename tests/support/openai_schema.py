"""OpenAI's own description of its API, as a check of what the gateway says: https://github.com/openai/openai-openapi.

validate("chat", {…})      fails with every field that is not as OpenAI has it

The description, a file of 3 MB, is the one that OPENAI_OPENAPI names, or ../shared/data/openai-openapi.json beside the
repository. Where there is none, the types of the official client stand in, which ask for less.
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import jsonschema
from openai.types import Completion, Model
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.shared import ErrorObject
from pydantic import BaseModel, ValidationError

VARIABLE = "OPENAI_OPENAPI"
BESIDE = Path(__file__).parents[2] / ".." / "shared" / "data" / "openai-openapi.json"

Kind = Literal["chat", "chunk", "completion", "completion chunk", "models", "model", "error"]
SCHEMAS: dict[Kind, str] = {
    "chat": "CreateChatCompletionResponse",
    "chunk": "CreateChatCompletionStreamResponse",
    "completion": "CreateCompletionResponse",
    "completion chunk": "CreateCompletionResponse",
    "models": "ListModelsResponse",
    "model": "Model",
    "error": "ErrorResponse",
}
"""What a body can be → the name of its schema in the description."""

_MEANING = frozenset(
    {"type", "properties", "required", "items", "additionalProperties", "enum", "anyOf", "oneOf", "$ref", "nullable"}
)
_NO_MEANING = frozenset({"description", "title", "default", "deprecated", "format", "discriminator", "example"})

Problems = tuple[str, ...]
Check = Callable[[Any], Problems]
"""Say what is wrong with a decoded body: where, and what."""


class NotOpenAIs(AssertionError):
    """A body is not as OpenAI's description has it."""


def validate(kind: Kind, body: Any) -> None:
    """Pass a decoded body.

    Raises:
        NotOpenAIs: the message names every field that is wrong.
    """
    problems = problems_of(kind, body)
    if problems:
        raise NotOpenAIs("\n".join(f"{kind}: {problem}" for problem in problems))


def problems_of(kind: Kind, body: Any) -> Problems:
    """Return what is wrong with a decoded body, by the best check there is."""
    return (by_description if description() is not None else by_client)(kind)(body)


@functools.cache
def description() -> Path | None:
    """Return the file of the description, None if there is none.

    Raises:
        FileNotFoundError: the variable names a file that is not there.
    """
    named = os.environ.get(VARIABLE)
    if named:
        return Path(named).resolve(strict=True)
    return BESIDE.resolve() if BESIDE.is_file() else None


# --- By the description ----------------------------------------------------------------------------------------------


@functools.cache
def by_description(kind: Kind) -> Check:
    """Return the check that OpenAI's schema of a body is; equal in shape is equal in outcome, so shapes are kept."""
    path = description()
    assert path is not None, f"no description: name the file in {VARIABLE}"
    schema = _schema(path, SCHEMAS[kind])
    if SCHEMAS[kind] == "CreateCompletionResponse":
        _admit_what_openai_does(schema["$defs"]["CreateCompletionResponse"], chunk=kind == "completion chunk")
    validator = jsonschema.Draft202012Validator(schema)
    told = frozenset(_names_with_enums(schema))
    known: dict[Any, Problems] = {}

    def check(body: Any) -> Problems:
        shape = _shape(body, told)
        if shape not in known:
            errors = sorted(validator.iter_errors(body), key=lambda error: error.json_path)
            known[shape] = tuple(dict.fromkeys(_words(error) for error in errors))
        return known[shape]

    return check


def _admit_what_openai_does(schema: Any, *, chunk: bool) -> None:
    """Admit nulls that the description leaves out, and that OpenAI's own API sends in text completions.

    A chunk has the shape of a whole reply, says the description, but only the last ones have a finish reason and usage,
    as `stream_options` says; and nothing comes before the first token of an echoed prompt, of which it could have a
    probability. https://platform.openai.com/docs/api-reference/completions
    """
    choice = schema["properties"]["choices"]["items"]["properties"]
    if chunk:
        schema["properties"]["usage"] = _or_null(schema["properties"]["usage"])
        choice["finish_reason"] = _or_null(choice["finish_reason"])
    logprobs = choice["logprobs"]["anyOf"][0]["properties"]
    for name in ("token_logprobs", "top_logprobs"):
        logprobs[name]["items"] = _or_null(logprobs[name]["items"])


def _schema(path: Path, root: str) -> dict[str, Any]:
    """Return one schema of the description with those it refers to, in JSON Schema's own words."""
    described = _described(path)
    wanted, definitions = [root], {}
    while wanted:
        name = wanted.pop()
        if name not in definitions:
            definitions[name] = _plain(described[name], wanted)
    return {"$defs": definitions, "$ref": f"#/$defs/{root}"}


@functools.cache
def _described(path: Path) -> dict[str, Any]:
    schemas: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))["components"]["schemas"]
    return schemas


def _plain(schema: Any, refers_to: list[str]) -> Any:
    """Return a schema without what says nothing about values, and `nullable`, which is OpenAPI 3.0's, spelt out.

    Raises:
        NotImplementedError: it has a word that this module does not know, so shapes might not be all that matters.
    """
    plain: dict[str, Any] = {}
    for word, value in schema.items():
        if word in _NO_MEANING or word.startswith("x-"):
            continue
        if word not in _MEANING:
            raise NotImplementedError(f"the description says {word!r}")
        if word == "properties":
            plain[word] = {name: _plain(inner, refers_to) for name, inner in value.items()}
        elif word in ("anyOf", "oneOf"):
            plain[word] = [_plain(inner, refers_to) for inner in value]
        elif word == "$ref":
            refers_to.append(value.removeprefix("#/components/schemas/"))
            plain[word] = f"#/$defs/{refers_to[-1]}"
        elif isinstance(value, dict):
            plain[word] = _plain(value, refers_to)
        elif word != "nullable":
            plain[word] = value
    return _or_null(plain) if schema.get("nullable") else plain


def _or_null(schema: Any) -> Any:
    return {"anyOf": [schema, {"type": "null"}]}


def _names_with_enums(schema: Any) -> Iterator[str]:
    """Yield the properties of which more matters than the type."""
    if isinstance(schema, list):
        for inner in schema:
            yield from _names_with_enums(inner)
    elif isinstance(schema, dict):
        for name, inner in schema.get("properties", {}).items():
            if '"enum"' in json.dumps(inner) or "$ref" in inner:
                yield name
        for inner in schema.values():
            yield from _names_with_enums(inner)


def _shape(value: Any, told: frozenset[str], name: str = "") -> Any:
    """Return what a check can depend on: the fields and types of `value`, and the texts that `told` names."""
    if isinstance(value, dict):
        return tuple([(key, _shape(inner, told, key)) for key, inner in value.items()])
    if isinstance(value, list):
        return "[", *[_shape(inner, told, name) for inner in value]
    return value if isinstance(value, str) and name in told else type(value)


def _words(error: jsonschema.ValidationError) -> str:
    """Return where and what; of several schemas, by the first one of the value's own type."""
    while error.context:
        place = error.absolute_path
        nearer = [one for one in error.context if one.validator != "type" or one.absolute_path != place]
        if not nearer:
            break
        error = nearer[0]
    return f"{error.json_path}: {error.message[:300]}"


# --- By the client's types -------------------------------------------------------------------------------------------


class _Models(BaseModel):
    object: Literal["list"]
    data: list[Model]


class _Error(ErrorObject):
    """The client's type, with what its own schema requires."""

    code: str | None
    param: str | None


class _ErrorReply(BaseModel):
    error: _Error


_TYPES: dict[Kind, type[BaseModel]] = {
    "chat": ChatCompletion,
    "chunk": ChatCompletionChunk,
    "completion": Completion,
    "completion chunk": Completion,
    "models": _Models,
    "model": Model,
    "error": _ErrorReply,
}


def by_client(kind: Kind) -> Check:
    """Return the check that the official client's type of a body is, with nothing converted and nothing left out."""

    def check(body: Any) -> Problems:
        try:
            _TYPES[kind].model_validate_json(json.dumps(body), strict=True)
        except ValidationError as error:
            found = error.errors(include_url=False, include_context=False)
            return tuple(_client_words(one) for one in found if not _admitted(kind, one))
        return ()

    return check


def _admitted(kind: Kind, error: Any) -> bool:
    """As by_description."""
    if error["input"] is not None:
        return False
    place = [step for step in error["loc"] if isinstance(step, str)]
    if place[:2] == ["choices", "finish_reason"]:
        return kind == "completion chunk"
    return place[-1:] in (["token_logprobs"], ["top_logprobs"])


def _client_words(error: Any) -> str:
    # Among the steps are the names of the types that were tried, which no field is called like.
    fields = [step for step in error["loc"] if isinstance(step, int) or not step[:1].isupper()]
    path = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in fields)
    return f"${path}: {error['msg']}"
