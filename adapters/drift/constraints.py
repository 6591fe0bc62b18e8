"""The ways to ask vLLM for an answer of some form, each translated into one that a version acts upon.

    response_format                               OpenAI's; of text completions 0.8 to 0.10 overlook a schema
    guided_json, guided_regex, guided_choice, …   0.8 to 0.11
    structured_outputs                            0.11 and later
    structural_tag                                chats of 0.9 to 0.11

to_sampling_params of ChatCompletionRequest and CompletionRequest in vllm/entrypoints/openai/**/protocol.py. That there
is one constraint at most is checked before (adapters/openai/rules.py).
"""

from __future__ import annotations

import msgspec

from adapters.drift.table import Edit
from adapters.errors import UnsupportedParameter
from adapters.openai.reply import join_fields

GUIDED = {"guided_json": "json", "guided_regex": "regex", "guided_choice": "choice", "guided_grammar": "grammar"}
"""Field → the name of the same inside `structured_outputs`."""

_encode = msgspec.json.Encoder().encode
_raws = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def guided_to_structured(edit: Edit) -> None:
    """`guided_*` → `structured_outputs`; a whitespace pattern without a constraint has no effect and is left out."""
    inner = {GUIDED[name]: edit.raw[name] for name in GUIDED if name in edit.raw}
    pattern = edit.raw.get("guided_whitespace_pattern")
    if inner:
        if pattern is not None:
            inner["whitespace_pattern"] = pattern
        edit.put("structured_outputs", join_fields(inner))
    for name in (*GUIDED, "guided_whitespace_pattern"):
        edit.drop(name)


def structured_to_guided(edit: Edit) -> None:
    """`structured_outputs` → `guided_*`, or what else means the same."""
    check_structured(edit)
    inner = {name: value for name, value in _raws(edit.raw["structured_outputs"]).items() if bytes(value) != b"null"}
    edit.drop("structured_outputs")
    for field, name in GUIDED.items():
        if name in inner:
            edit.put(field, inner[name])
    if "json_object" in inner:
        edit.put("response_format", b'{"type":"json_object"}')
    if "whitespace_pattern" in inner:
        edit.put("guided_whitespace_pattern", inner["whitespace_pattern"])
    if "structural_tag" in inner:
        edit.put("structural_tag", inner["structural_tag"])


def structured_without_tags_to_guided(edit: Edit) -> None:
    """The same for versions without structural tags."""
    if edit.values["structured_outputs"].get("structural_tag") is not None:
        raise _without("structured_outputs.structural_tag")
    structured_to_guided(edit)


def check_structured(edit: Edit) -> None:
    """Refuse an option that vLLM reads but leaves to its server's configuration."""
    if edit.values["structured_outputs"].get("disable_additional_properties"):
        raise _without("structured_outputs.disable_additional_properties")


def tag_to_structured(edit: Edit) -> None:
    """`structural_tag` → `structured_outputs`."""
    edit.put("structured_outputs", join_fields({"structural_tag": edit.raw["structural_tag"]}))
    edit.drop("structural_tag")


def format_regex_to_structured(edit: Edit) -> None:
    """A `response_format` with a pattern, as TGI spells it → `structured_outputs`."""
    if edit.values["response_format"]["type"] == "regex":
        edit.put("structured_outputs", join_fields({"regex": _raws(edit.raw["response_format"])["value"]}))
        edit.drop("response_format")


def format_regex_to_guided(edit: Edit) -> None:
    """The same for versions before those."""
    if edit.values["response_format"]["type"] == "regex":
        edit.put("guided_regex", _raws(edit.raw["response_format"])["value"])
        edit.drop("response_format")


def format_tag_to_structured(edit: Edit) -> None:
    """A `response_format` with structural tags → `structured_outputs`, which holds such a format as text."""
    format_regex_to_structured(edit)
    if "response_format" not in edit.values:
        return
    if edit.values["response_format"]["type"] == "structural_tag":
        text = _encode(bytes(edit.raw["response_format"]).decode())
        edit.put("structured_outputs", join_fields({"structural_tag": text}))
        edit.drop("response_format")


def format_without_tags(edit: Edit) -> None:
    format_regex_to_guided(edit)
    if "response_format" not in edit.values:
        return
    if edit.values["response_format"]["type"] == "structural_tag":
        raise _without("response_format.type")


def format_schema_to_guided(edit: Edit) -> None:
    """A `response_format` with a schema → `guided_json`, in versions without structural tags."""
    format_without_tags(edit)
    if edit.values.get("response_format", {}).get("type") == "json_schema":
        edit.put("guided_json", _raws(_raws(edit.raw["response_format"])["json_schema"])["schema"])
        edit.drop("response_format")


def tag_refused(edit: Edit) -> None:
    raise _without("structural_tag")


def _without(path: str) -> UnsupportedParameter:
    return UnsupportedParameter(f"This model's container does not act upon {path}.", path)
