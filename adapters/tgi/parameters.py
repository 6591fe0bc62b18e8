"""Every parameter TGI knows: its type, and what becomes of it where a container speaks OpenAI's completions.

Names and types from `GenerateParameters` in router/src/lib.rs of
https://github.com/huggingface/text-generation-inference; request.py checks values, completion.py translates them. The
documentation lists this table.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from adapters.tgi import serde
from adapters.tgi.serde import Mismatch, mismatch

_GRAMMARS = ("json", "json_object", "regex", "json_schema")
_EITHER = "expected one of `json`, `regex`, `json_schema`"


def grammar(value: object) -> dict[str, Any]:
    """`{"type": …, "value": …}`."""
    if not isinstance(value, dict):
        raise mismatch(value, "adjacently tagged enum GrammarType")
    kind = value.get("type")
    if "type" not in value:
        raise Mismatch("missing field `type`")
    if not isinstance(kind, str):
        raise Mismatch(str(mismatch(kind, "variant identifier")), ".type")
    if kind not in _GRAMMARS:
        raise Mismatch(f"unknown variant `{kind[:64]}`, {_EITHER}", ".type")
    if "value" not in value:
        raise Mismatch("missing field `value`")
    inner = value["value"]
    if kind == "regex" and not isinstance(inner, str):
        raise Mismatch(str(mismatch(inner, "a string")), ".value")
    if kind == "json_schema":
        if not isinstance(inner, dict):
            raise Mismatch(str(mismatch(inner, "struct JsonSchemaConfig")), ".value")
        if "schema" not in inner:
            raise Mismatch("missing field `schema`", ".value")
        if not isinstance(inner.get("name"), str | None):
            raise Mismatch(str(mismatch(inner["name"], "a string")), ".value.name")
    return value


@dataclass(frozen=True, slots=True)
class Parameter:
    """One field of `parameters`."""

    type: serde.Type
    default: str
    """As TGI documents it."""
    becomes: str
    """The fields of a completion it is turned into; empty where there is none."""
    remark: str = ""
    """What to know about it, and where vLLM's answer still differs from TGI's."""
    nullable: bool = True
    """null means absent; where it does not, TGI refuses null."""
    supported: bool = True
    """False: a call that asks for it is refused, 422."""


PARAMETERS: dict[str, Parameter] = {
    "best_of": Parameter(
        serde.usize,
        "1",
        "`n`, `logprobs`",
        "Each answer is generated, and paid for. The one with the highest mean log-probability is chosen, as TGI does;"
        " the others are in `details.best_of_sequences`, without seeds.",
    ),
    "temperature": Parameter(
        serde.f32,
        "1.0",
        "`temperature`",
        "Values below 0.01 are 0.01 to vLLM, and above 2 vLLM 0.24 and later have none: those are refused.",
    ),
    "repetition_penalty": Parameter(serde.f32, "1.0", "`repetition_penalty`"),
    "frequency_penalty": Parameter(
        serde.f32,
        "0.0",
        "`frequency_penalty`",
        "vLLM counts how often a token is in the answer; TGI takes its share of prompt and answer together.",
    ),
    "top_k": Parameter(serde.i32, "off", "`top_k`"),
    "top_p": Parameter(serde.f32, "off", "`top_p`"),
    "typical_p": Parameter(serde.f32, "off", "", "vLLM has no such sampling.", supported=False),
    "do_sample": Parameter(
        serde.boolean,
        "`false`, but `true` where `parameters` is absent",
        "`temperature`",
        "Without sampling, the answer is the likeliest: temperature 0. As with TGI, a temperature other than 1, `top_k`"
        " or `top_p` switch sampling on. The model's own defaults (its generation_config.json) never apply: each of"
        " vLLM's sampling fields is sent.",
        nullable=False,
    ),
    "max_new_tokens": Parameter(
        serde.u32,
        "the rest of the model's context",
        "`max_tokens`",
        "Completions of vLLM end after 16 tokens where none is sent, so it always is. Without it: what is certainly"
        " left of the model's `context_length` (a token is at least a byte of the prompt), or 1,024 tokens where that"
        " is less, or where the context is not configured. From vLLM 0.32 on exactly the rest.",
    ),
    "return_full_text": Parameter(
        serde.boolean,
        "`false`; of `/` what the setting `return_full_text` of `tgi` says",
        "",
        "The gateway puts the prompt before the answer.",
    ),
    "stop": Parameter(
        serde.strings,
        "`[]`",
        "`stop`, `include_stop_str_in_output`",
        "The string that was met ends the answer, as with TGI. vLLM also stops where it ends inside a token.",
        nullable=False,
    ),
    "truncate": Parameter(
        serde.usize,
        "off",
        "`truncate_prompt_tokens`, `truncation_side`",
        "The prompt's last tokens are kept. vLLM counts the tokens a tokenizer adds at the start, and keeps them; from"
        " 0.16 to 0.31 it refuses calls whose `truncate` and `max_new_tokens` together exceed the context.",
    ),
    "watermark": Parameter(
        serde.boolean,
        "`false`",
        "",
        "`true` is refused: vLLM has no such watermark.",
        nullable=False,
        supported=False,
    ),
    "details": Parameter(
        serde.boolean,
        "`false`",
        "`logprobs`, `return_token_ids`",
        "Log-probabilities are the model's own, before temperature and penalties, unless the container runs with"
        " `--logprobs-mode processed_logprobs`. Before vLLM 0.10.2 `special` is only known of the end of the text.",
        nullable=False,
    ),
    "decoder_input_details": Parameter(
        serde.boolean, "`false`", "`echo`, `logprobs`", "Needs vLLM 0.10.2 or LMI 16.", nullable=False
    ),
    "seed": Parameter(
        serde.u64,
        "random",
        "`seed`",
        "vLLM's seeds have 63 bits, so the highest is dropped; the answer tells the seed as it was given, `null` where"
        " nothing was sampled. For an answer that tells one and was given none, the gateway draws it, as TGI does.",
    ),
    "top_n_tokens": Parameter(
        serde.u32,
        "0",
        "`logprobs`",
        "vLLM tells other tokens' text, not their ids: `id` is 2147483647 where it has not occurred in the answer."
        " Before vLLM 0.10.2 it tells ids: `text` is empty there.",
    ),
    "grammar": Parameter(
        grammar,
        "off",
        "`structured_outputs`, before vLLM 0.11 `guided_json` or `guided_regex`",
        "Regular expressions are those of the container's backend.",
    ),
    "adapter_id": Parameter(serde.string, "none", "", "Chooses the model."),
}


def samples(parameters: dict[str, Any]) -> bool:
    """Say whether TGI's server draws the tokens of an answer; if not, each is the likeliest.

    `HeterogeneousNextTokenChooser` in server/text_generation_server/utils/tokens.py: a warper that is on switches
    sampling on.
    """
    return (
        parameters.get("do_sample") is True
        or serde.f32(parameters.get("temperature", 1.0)) != 1.0
        or any(name in parameters for name in ("top_k", "top_p", "typical_p"))
    )
