"""The caller's body in TGI's schema: read once, checked once, and refused in TGI's own words.

The order of the checks is TGI's (router/src/server.rs `generate_internal` and `generate_stream_internal`,
router/src/validation.rs `validate`), so that of two faults the same one is told. What needs the prompt's tokens, the
container judges.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import msgspec

from adapters.base import Call, Surface
from adapters.openai.caps import MAX_STOP_CHARS
from adapters.openai.duplicates import duplicate_name
from adapters.openai.reply import join_fields
from adapters.openai.request import FieldPolicy
from adapters.tgi import grammars, images, serde
from adapters.tgi.parameters import PARAMETERS, samples
from adapters.tgi.refusal import TgiRefusal, invalid, not_json, wrong_shape
from adapters.tgi.serde import Mismatch, mismatch

__all__ = ["TgiDraft", "TgiLimits", "TgiRefusal", "check", "read"]

_encode = msgspec.json.Encoder().encode
_values = msgspec.json.Decoder().decode
_raws = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_OFFSET = re.compile(r" \(byte (\d+)\)$")


@dataclass(frozen=True, slots=True)
class TgiLimits:
    """What TGI's launcher has flags for, with its defaults."""

    max_best_of: int = 2
    max_stop_sequences: int = 4
    max_top_n_tokens: int = 5
    default_return_full_text: bool = True
    """On the route `/`, which also looks for `stream` in the body; TGI derives it from the model's kind."""


@dataclass(frozen=True, slots=True)
class TgiDraft:
    """A body of the right types; no value in it has been checked."""

    inputs: str
    raw_inputs: msgspec.Raw
    parameters: dict[str, Any]
    """What the caller gave of the parameters TGI knows, nulls left out."""
    raw_parameters: dict[str, msgspec.Raw]
    """The same as the caller wrote them."""
    unknown: tuple[str, ...]
    """Other parameters, which TGI ignores."""
    stream: bool
    compat: bool
    """It came to the route `/`."""

    @property
    def adapter_id(self) -> str | None:
        """The model the caller asks for, if any."""
        return self.parameters.get("adapter_id")


def read(body: bytes, stream: bool | None) -> TgiDraft:
    """Parse a body.

    Args:
        stream: what the route says: `/generate` False, `/generate_stream` True; None for `/`, where the body says it.

    Raises:
        TgiRefusal: not one JSON object in UTF-8, or a field is twice there, missing or of the wrong type.
    """
    try:
        values = _values(body)
        target = "struct GenerateRequest" if stream is not None else "struct CompatGenerateRequest"
        if not isinstance(values, dict):
            raise wrong_shape(str(mismatch(values, target)))
        raw = _raws(body)
        _once(body, raw)
        inputs, said, given, raw_given = _fields(values, raw, compat=stream is None)
    except RecursionError:
        raise not_json("recursion limit exceeded", body, 0) from None
    except UnicodeDecodeError as error:
        raise not_json("invalid unicode code point", body, error.start) from None
    except msgspec.DecodeError as error:
        # The position is the whole body's; a path msgspec may name is, too.
        cause = str(error).removeprefix("JSON is malformed: ").partition(" - at ")[0]
        found = _OFFSET.search(cause)
        offset = int(found[1]) if found else len(body)
        cause = _OFFSET.sub("", cause).replace("Input data was truncated", "EOF while parsing a value")
        if cause == "trailing characters":
            offset -= 1  # msgspec has read the first of them
        raise not_json(cause, body, offset) from None

    known = {name: value for name, value in given.items() if name in PARAMETERS and value is not None}
    return TgiDraft(
        inputs=inputs,
        raw_inputs=raw["inputs"],
        parameters=known,
        raw_parameters={name: raw_given[name] for name in known},
        unknown=tuple(name for name in given if name not in PARAMETERS),
        stream=said if stream is None else stream,
        compat=stream is None,
    )


def check(
    draft: TgiDraft, *, model: str, policy: FieldPolicy, limits: TgiLimits, drawn_seed: int | None = None
) -> Call:
    """Check a draft against its model's policy.

    The result's values are `inputs` and `parameters`, the latter with what the caller gave and, where that was nothing,
    `do_sample`. They have no `adapter_id`; without `return_full_text` the answer is to come without its prompt,
    whatever a container's own default is. `images` is there where the prompt brings images a model takes.

    Args:
        model: the public name.
        policy: `unknown_fields: refuse` refuses parameters TGI ignores; `allow_fields` lifts caps of `stop`, `grammar`.
        drawn_seed: a random number below 2**62 for the seed of an answer that tells it and was given none, as TGI
            draws one; None leaves it to the container, and the answer then tells `null`.

    Raises:
        TgiRefusal: a value is wrong, too large or not allowed.
    """
    given, raw = dict(draft.parameters), dict(draft.raw_parameters)
    best_of = given.get("best_of", 1)
    _check_route(draft, best_of, limits)
    _check_sampling(given, best_of)
    _check_limits(draft, best_of, policy, limits)
    if draft.unknown and policy.unknown_fields == "refuse":
        raise invalid(f"unknown parameter `{draft.unknown[0][:64]}`")
    if "grammar" in given:
        grammars.check(given["grammar"], policy.allow_fields)
    pictures = images.check(draft.inputs, policy)

    given.pop("adapter_id", None)
    if best_of <= 1:
        given.pop("best_of", None)  # 0 is as good as 1
    if draft.compat:
        given.setdefault("return_full_text", limits.default_return_full_text)
    tells_seed = given.get("details") is True or given.get("decoder_input_details") is True
    if drawn_seed is not None and tells_seed and best_of <= 1 and samples(given):
        given.setdefault("seed", drawn_seed)
    fields = {name: raw[name] if name in raw else msgspec.Raw(_encode(value)) for name, value in given.items()}
    values: dict[str, Any] = {"inputs": draft.inputs, "parameters": given}
    if pictures:
        values["images"] = pictures
    return Call(
        surface=Surface.GENERATE,
        model=model,
        raw={"inputs": draft.raw_inputs, "parameters": msgspec.Raw(join_fields(fields))},
        values=values,
        stream=draft.stream,
        include_usage=False,
        choices=max(best_of, 1),
        max_tokens=given.get("max_new_tokens"),
        context_length=policy.context_length,
    )


def _check_route(draft: TgiDraft, best_of: int, limits: TgiLimits) -> None:
    if draft.stream:
        if best_of != 1:
            raise invalid("`best_of` != 1 is not supported when streaming tokens")
        if draft.parameters.get("decoder_input_details"):
            raise invalid("`decoder_input_details` == true is not supported when streaming tokens")
    elif best_of > 1:
        if limits.max_best_of == 1:
            raise invalid("`best_of` != 1 is not allowed for this endpoint")
        if best_of > limits.max_best_of:
            raise invalid(f"`best_of` must be > 0 and <= {limits.max_best_of}. Given: {best_of}")


def _check_sampling(given: dict[str, Any], best_of: int) -> None:
    asked = any(name in given for name in ("temperature", "top_k", "top_p", "typical_p"))
    if best_of > 1 and not (given.get("do_sample") or asked):
        raise invalid("you must use sampling when `best_of` is > 1")
    if serde.f32(given.get("temperature", 1.0)) <= 0:
        raise invalid("`temperature` must be strictly positive")
    if serde.f32(given.get("repetition_penalty", 1.0)) <= 0:
        raise invalid("`repetition_penalty` must be strictly positive")
    if not -2 <= serde.f32(given.get("frequency_penalty", 0.0)) <= 2:
        raise invalid("`frequency_penalty` must be >= -2.0 and <= 2.0")
    for name in ("top_p", "typical_p"):
        if not 0 < serde.f32(given.get(name, 0.5)) < 1:
            raise invalid(f"`{name}` must be > 0.0 and < 1.0")
    if given.get("top_k", 1) <= 0:
        raise invalid("`top_k` must be strictly positive")


def _check_limits(draft: TgiDraft, best_of: int, policy: FieldPolicy, limits: TgiLimits) -> None:
    given, window = draft.parameters, policy.context_length
    new = given.get("max_new_tokens")
    if new == 0:
        raise invalid("`max_new_tokens` must be strictly positive")
    if new is not None and window is not None and new >= window:
        raise invalid(f"`max_new_tokens` must be <= {window - 1}. Given: {new}")
    stop = given.get("stop", [])
    if len(stop) > limits.max_stop_sequences:
        raise invalid(f"`stop` supports up to {limits.max_stop_sequences} stop sequences. Given: {len(stop)}")
    longest = max(map(len, stop), default=0)
    if longest > MAX_STOP_CHARS and "stop" not in policy.allow_fields:
        raise invalid(f"`stop` sequences must hold at most {MAX_STOP_CHARS} characters. Given: {longest}")
    if best_of > 1 and "seed" in given:
        raise invalid("`seed` must not be set when `best_of` > 1")
    top = given.get("top_n_tokens", 0)
    if top > limits.max_top_n_tokens:
        raise invalid(f"`top_n_tokens` must be >= 0 and <= {limits.max_top_n_tokens}. Given: {top}")
    if not draft.inputs:
        raise invalid("`inputs` cannot be empty")
    kept = given.get("truncate", 1)
    if kept == 0 or (window is not None and kept >= window):
        most = "" if window is None else f" and less than {window - 1}"
        raise invalid(f"`truncate` must be strictly positive{most}. Given: {kept}")


def _fields(
    values: dict[str, Any], raw: dict[str, msgspec.Raw], *, compat: bool
) -> tuple[str, bool, dict[str, Any], dict[str, msgspec.Raw]]:
    """Return `inputs`, `stream`, the parameters, and those as the caller wrote them; fields are read as they come."""
    stream = False
    # TGI's odd default: it samples where nothing is said, and does not where anything is.
    given: dict[str, Any] = {"do_sample": True}
    raw_given = {"do_sample": msgspec.Raw(b"true")}
    for name, value in values.items():
        try:
            if name == "inputs":
                serde.string(value)
            elif name == "stream" and compat:
                stream = serde.boolean(value)
            elif name == "parameters":
                if not isinstance(value, dict):
                    raise mismatch(value, "struct GenerateParameters")
                given, raw_given = value, _raws(raw[name])
                _once(bytes(raw[name]), raw_given, "parameters.")
                _check_types(given)
        except Mismatch as error:
            raise wrong_shape(str(error), name + error.path) from None
    if "inputs" not in values:
        raise wrong_shape("missing field `inputs`")
    return values["inputs"], stream, given, raw_given


def _check_types(given: dict[str, Any]) -> None:
    for name, value in given.items():
        parameter = PARAMETERS.get(name)
        if parameter is not None and not (value is None and parameter.nullable):
            try:
                parameter.type(value)
            except Mismatch as error:
                raise Mismatch(str(error), f".{name}{error.path}") from None


def _once(text: bytes, raw: dict[str, msgspec.Raw], path: str = "") -> None:
    double = duplicate_name(text, raw)
    if double is not None:
        raise wrong_shape(f"duplicate field `{double[:64]}`", f"{path}{double[:64]}" if path else "")
