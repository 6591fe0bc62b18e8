"""Request and reply bodies of the generating calls, as JSON Schemas of the OpenAPI document.

Fields and limits are those that adapters/openai checks; whatever else a body holds is the container's to judge. A test
holds every field and limit against the checks themselves.
https://platform.openai.com/docs/api-reference/chat/create and
https://docs.vllm.ai/en/latest/serving/openai_compatible_server.html
"""

from __future__ import annotations

from typing import Any

from adapters.base import Surface
from adapters.openai import caps
from adapters.openai.checks import INT64

Schema = dict[str, Any]

NULL: Schema = {"type": "null"}


def ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _optional(kind: str, text: str, **more: Any) -> Schema:
    """A field that may be absent or, which is the same, null."""
    return {"type": [kind, "null"], "description": text, **more}


def _flag(text: str) -> Schema:
    return _optional("boolean", text)


def _integer(text: str, low: int | None = None, high: int | None = None) -> Schema:
    return _optional("integer", text, **_limits(low, high))


def _number(text: str, low: float, high: float, *, above_low: bool = False) -> Schema:
    limits = {"exclusiveMinimum" if above_low else "minimum": low, "maximum": high}
    return _optional("number", text, **limits)


def _limits(low: int | None, high: int | None) -> Schema:
    # Limits of the number format itself say nothing to a reader.
    wide = high is None or high == INT64[1]
    return ({} if low is None or low == INT64[0] else {"minimum": low}) | ({} if wide else {"maximum": high})


def _strings(text: str, most: int, chars: int) -> Schema:
    return _optional("array", text, maxItems=most, items={"type": "string", "minLength": 1, "maxLength": chars})


def _token_ids(text: str) -> Schema:
    return _optional("array", text, maxItems=caps.MAX_TOKEN_IDS, items={"type": "integer", **_TOKEN})


def _pattern(text: str) -> Schema:
    return _optional("string", text, maxLength=caps.MAX_PATTERN_CHARS)


def _grammar(text: str) -> Schema:
    return _optional("string", text, maxLength=caps.MAX_PATTERN_CHARS, pattern=r"\S")


def _choice(text: str) -> Schema:
    return _optional(
        "array",
        text,
        minItems=1,
        maxItems=caps.MAX_CHOICE_STRINGS,
        items={"type": "string", "minLength": 1},
    )


def _json_schema(text: str) -> Schema:
    """A JSON Schema: itself, or as text."""
    return {"type": ["object", "string", "boolean", "null"], "description": text, "pattern": _OBJECT_AS_TEXT}


def _tags(text: str) -> Schema:
    return _optional("string", text, pattern=_OBJECT_AS_TEXT)


def _one_of_true(text: str) -> Schema:
    return {"enum": [True, None], "description": text}


def _given(name: str) -> Schema:
    return {"required": [name], "properties": {name: {"not": NULL}}}


def _one_of(text: str, *allowed: str) -> Schema:
    return {"enum": [*allowed, None], "description": text}


_OBJECT_AS_TEXT = r"^\s*\{"
_CONSTRAINTS: Schema = {
    "json": _json_schema("The answer is JSON of this schema."),
    "regex": _pattern("The answer matches this regular expression."),
    "choice": _choice("The answer is one of these."),
    "grammar": _grammar("The answer follows this grammar."),
    "json_object": _one_of_true("The answer is some JSON object."),
    "structural_tag": _tags("The answer follows these tags."),
}
_TOKEN = {"minimum": 0, "maximum": 2**31 - 1}
_MODEL = {"type": "string", "minLength": 1, "description": "A model's name or alias, as `GET /v1/models` lists them."}

_COMMON: Schema = {
    "stream": _flag("Answer with server-sent events as the text comes."),
    "stream_options": _optional(
        "object",
        "Only together with `stream: true`.",
        properties={
            "include_usage": _flag("End the stream with a chunk that holds the token counts."),
            "continuous_usage_stats": _flag("Give the token counts so far with every chunk; needs `include_usage`."),
        },
    ),
    "max_tokens": _integer("The most tokens to generate, for each choice.", 0, INT64[1]),
    "n": _integer("How many choices to generate. More than one needs a `temperature` above 0.", 1, caps.MAX_N),
    "temperature": _number("Randomness; 0 takes the most likely token each time.", 0, 2),
    "top_p": _number("Sample from the most likely tokens that together have this probability.", 0, 1, above_low=True),
    "presence_penalty": _number("Above 0 favours tokens that have not occurred yet.", -2, 2),
    "frequency_penalty": _number("Above 0 disfavours tokens the more often they have occurred.", -2, 2),
    "stop": {
        "anyOf": [
            {"type": "string", "minLength": 1, "maxLength": caps.MAX_STOP_CHARS},
            {
                "type": "array",
                "maxItems": caps.MAX_STOPS,
                "items": {"type": "string", "minLength": 1, "maxLength": caps.MAX_STOP_CHARS},
            },
            NULL,
        ],
        "description": "Text that ends the answer; it is not part of it.",
    },
    "seed": _integer("Makes sampling repeatable, as far as the container can.", *INT64),
    "user": _optional("string", "A name for the end user."),
    "logit_bias": _optional(
        "object",
        "Token id → what is added to its logit.",
        maxProperties=caps.MAX_LOGIT_BIAS,
        propertyNames={"pattern": "^[0-9]{1,10}$"},
        additionalProperties={"type": "number", "minimum": -100, "maximum": 100},
    ),
    "response_format": _optional(
        "object",
        'The form of the answer: `{"type": "json_object"}`, or `{"type": "json_schema", "json_schema": {…}}`.',
        required=["type"],
        properties={"type": {"enum": ["text", "json_object", "json_schema", "structural_tag"]}},
        # Only with that type is json_schema looked at.
        **{
            "if": {"properties": {"type": {"const": "json_schema"}}},
            "then": {
                "required": ["json_schema"],
                "properties": {
                    "json_schema": {
                        "type": "object",
                        "required": ["name", "schema"],
                        "properties": {"name": {"type": "string"}, "schema": {"type": "object"}},
                    }
                },
            },
        },
    ),
    "structured_outputs": _optional(
        "object",
        "A constraint on the answer: one of `json`, `regex`, `choice`, `grammar`, `json_object`, `structural_tag`.",
        additionalProperties=False,
        properties={
            **_CONSTRAINTS,
            "whitespace_pattern": _pattern("What may stand between JSON tokens."),
            "disable_any_whitespace": _flag("Left to the container's own configuration."),
            "disable_additional_properties": _flag("Left to the container's own configuration; true is refused."),
        },
        **{"if": {"type": "object"}, "then": {"oneOf": [_given(name) for name in _CONSTRAINTS]}},
    ),
    "structural_tag": _tags("`structured_outputs.structural_tag` in vLLM's older words."),
    "guided_json": _json_schema("`structured_outputs.json` in vLLM's older words."),
    "guided_regex": _pattern("`structured_outputs.regex` in vLLM's older words."),
    "guided_grammar": _grammar("`structured_outputs.grammar` in vLLM's older words."),
    "guided_whitespace_pattern": _pattern("`structured_outputs.whitespace_pattern` in vLLM's older words."),
    "guided_choice": _choice("`structured_outputs.choice` in vLLM's older words."),
    "best_of": _integer("No more than `n`: containers no longer choose the best of several.", 1, caps.MAX_BEST_OF),
    "use_beam_search": _flag("Search with `n` beams in place of sampling."),
    "top_k": _integer("Sample from so many of the most likely tokens; 0 or -1 for all.", -1, INT64[1]),
    "min_p": _number("Sample from tokens at least this likely, relative to the most likely one.", 0, 1),
    "repetition_penalty": _number("Above 1 disfavours tokens of prompt and answer.", 0, 1e6, above_low=True),
    "length_penalty": _number("Of beam search.", -1e6, 1e6),
    "min_tokens": _integer("Generate at least so many.", 0, INT64[1]),
    "ignore_eos": _flag("Do not end where the model would."),
    "include_stop_str_in_output": _flag("Keep the `stop` text in the answer."),
    "skip_special_tokens": _flag("Leave special tokens out of the text."),
    "spaces_between_special_tokens": _flag("Put spaces between special tokens."),
    "add_special_tokens": _flag("Let the tokenizer add its special tokens to the prompt."),
    "echo": _flag("Put the prompt, or the last message of the same role, in front of the answer."),
    "return_tokens_as_token_ids": _flag("Show tokens of log probabilities as `token_id:…`."),
    "return_token_ids": _flag("Give the token ids of prompt and answer."),
    "truncate_prompt_tokens": _integer(
        "Keep only so many of the prompt's last tokens; -1 for what fits.", -1, INT64[1]
    ),
    "stop_token_ids": _token_ids("Tokens that end the answer."),
    "allowed_token_ids": _token_ids("The only tokens the answer may consist of."),
    "logprob_token_ids": _token_ids("Tokens whose log probabilities are given."),
    "bad_words": _strings("Words that must not occur.", caps.MAX_BAD_WORDS, caps.MAX_BAD_WORD_CHARS),
    "prompt_logprobs": _integer("Log probabilities of the prompt's tokens; not in streams.", 0, caps.MAX_LOGPROBS),
    "thinking_token_budget": _integer("The most tokens to think with; -1 for any number.", -1, INT64[1]),
    "truncation_side": _one_of("Which end of a prompt that is too long goes.", "left", "right"),
    "repetition_detection": _optional("object", "When to end an answer that goes round in circles."),
    "return_token_offsets": _flag("Give where each token begins in the text."),
    "return_weight_versions": _flag("Give the versions of the weights that answered."),
    "routed_experts_prompt_start": _integer("The prompt's first token whose experts are given.", 0, INT64[1]),
    "stream_interval": _integer("Send a chunk every so many tokens.", 1, INT64[1]),
    "watermarking": _flag("Mark the answer's text, where the container is set up for it."),
}

_CHAT: Schema = {
    "model": _MODEL,
    "messages": {
        "type": "array",
        "minItems": 1,
        "items": ref("ChatMessage"),
        "description": "The conversation so far, oldest first.",
    },
    **_COMMON,
    "max_completion_tokens": _integer("The most tokens to generate, for each choice.", 1, INT64[1]),
    "max_tokens": _integer("The same under its older name; `max_completion_tokens` wins.", 1, INT64[1]),
    "logprobs": _flag("Give the log probability of every token of the answer."),
    "top_logprobs": _integer("How many alternatives per token; needs `logprobs: true`.", 0, caps.MAX_LOGPROBS),
    "tools": _optional(
        "array", "Functions the model may call; an empty list is none.", maxItems=caps.MAX_TOOLS, items=ref("Tool")
    ),
    "tool_choice": {
        "anyOf": [{"enum": ["none", "auto", "required"]}, ref("ToolChoice"), NULL],
        "description": "Whether the model may, must or must not call a tool, or which one it must call.",
    },
    "parallel_tool_calls": _flag("Whether one answer may call several tools."),
    "reasoning_effort": _optional("string", "How much to think, for models that know the word: `low`, `high`, …"),
    "include_reasoning": _flag("Show the thoughts, in the fields `reasoning` and `reasoning_content`."),
    "return_prompt_text": _flag("Give the prompt as the template made it."),
    "return_assistant_tokens_mask": _flag("Give which of the prompt's tokens are the assistant's."),
    "chat_template_kwargs": _optional(
        "object",
        "Switches of the model's chat template, such as `enable_thinking`. Names of the template call's own arguments "
        "are refused.",
        maxProperties=caps.MAX_TEMPLATE_KWARGS,
        additionalProperties={
            "type": ["boolean", "number", "string", "null"],
            "maxLength": caps.MAX_TEMPLATE_VALUE_CHARS,
        },
    ),
    "add_generation_prompt": _flag("Let the template open the assistant's turn."),
    "continue_final_message": _flag("Continue the last message instead of answering it."),
    "documents": _optional("array", "Documents for templates that know them."),
    "metadata": _optional("object", "Passed on; no container acts upon it."),
    "modalities": _optional("array", 'Only `["text"]` can be answered.'),
    "store": _flag("Passed on; nothing is stored."),
}

_COMPLETIONS: Schema = {
    "model": _MODEL,
    "prompt": {
        "anyOf": [
            {"type": "string", "minLength": 1},
            {"type": "array", "minItems": 1, "maxItems": caps.MAX_CHOICES, "items": {"type": "string"}},
            {"type": "array", "minItems": 1, "items": {"type": "integer", **_TOKEN}},
            {
                "type": "array",
                "minItems": 1,
                "maxItems": caps.MAX_CHOICES,
                "items": {"type": "array", "minItems": 1, "items": {"type": "integer", **_TOKEN}},
            },
        ],
        "description": "Text to continue, or several, each as a string or as token ids. "
        f"Their number times `n` is at most {caps.MAX_CHOICES}.",
    },
    **_COMMON,
    "logprobs": _integer("How many log probabilities to give per token.", 0, caps.MAX_LOGPROBS),
    "suffix": _optional("string", "Text that follows what is to be generated; only some models can."),
}

FIELDS: dict[Surface, Schema] = {Surface.CHAT: _CHAT, Surface.COMPLETIONS: _COMPLETIONS}
REQUIRED = {Surface.CHAT: ["model", "messages"], Surface.COMPLETIONS: ["model", "prompt"]}

_FURTHER = (
    "Fields beyond these go to the container as they are, unless the model's configuration drops or refuses them, or "
    "they could control more than this call: those are refused with `parameter_not_allowed`. A field that is null "
    "counts as absent. Limits that bound what a call may cost, such as those of `n`, `logprobs`, `stop`, `tools` and "
    "schemas, can be lifted for a model by its configuration (`allow_fields`)."
)


def request_schema(surface: Surface) -> Schema:
    return {
        "type": "object",
        "description": _FURTHER,
        "required": REQUIRED[surface],
        "properties": FIELDS[surface],
        "additionalProperties": True,
    }
