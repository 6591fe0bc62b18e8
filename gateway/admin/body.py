"""Bodies of requests to the administration: one JSON object, every field known, or an error that names the field."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import msgspec
from pydantic import ValidationError

from gateway.auth.records import KeyRecord
from gateway.config.kinds import Kind
from gateway.config.problems import did_you_mean, path_of
from gateway.errors import GatewayError, InvalidJson, InvalidRequest, MissingParameter, UnknownParameter

_ROOT = Kind("mapping", "a mapping", section=KeyRecord)


def read_fields(body: bytes, known: Collection[str]) -> dict[str, Any]:
    """Return the fields of a body; no body is no fields.

    Raises:
        InvalidJson: it is not one JSON object.
        UnknownParameter: it has a field that is not among `known`.
    """
    try:
        fields = msgspec.json.decode(body) if body.strip() else {}
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise InvalidJson("The body is not valid JSON.") from None
    if not isinstance(fields, dict):
        raise InvalidJson("The body must be a JSON object.")
    for name in fields:
        if name not in known:
            raise _unknown((name,), known)
    return fields


def whole_number(fields: dict[str, Any], name: str, *, default: int, most: int) -> int:
    """Return a field that is a whole number from 0 to `most`.

    Raises:
        InvalidRequest: it is something else.
    """
    value = fields.get(name, default)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= most:
        raise InvalidRequest(f"{name}: expected a whole number from 0 to {most}.", param=name)
    return value


def refusal(error: ValidationError) -> GatewayError:
    """Return the answer to fields that make no record: about the first that is wrong, in the configuration's words."""
    found = error.errors(include_url=False, include_context=False, include_input=False)[0]
    loc = found["loc"]
    kind, path = _ROOT.at(loc), path_of(loc)
    if found["type"] == "missing":
        return MissingParameter(f"The field {path} is required.", param=path)
    if found["type"] == "extra_forbidden":
        section = _ROOT.at(loc[:-1]).section
        return _unknown(loc, section.model_fields if section else ())
    if found["type"] == "value_error" and kind.shape == "mapping":
        # A rule between fields: pydantic puts a word of its own before the sentence, which is ours.
        return InvalidRequest(f"{found['msg'].removeprefix('Value error, ')}.", param=path or None)
    return InvalidRequest(f"{path}: expected {kind.words}.", param=path)


def _unknown(loc: tuple[str | int, ...], known: Collection[str]) -> GatewayError:
    path = path_of(loc)
    meant = did_you_mean(str(loc[-1]), known)
    hint = f" Did you mean {meant!r}?" if meant else ""
    return UnknownParameter(f"The field {path} is unknown.{hint}", param=path)
