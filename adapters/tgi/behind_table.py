"""What TGI containers take of a call, by version, and under which name: the code acts on these tables, docs list them.

From router/src/{lib,server,sagemaker,validation}.rs of https://github.com/huggingface/text-generation-inference.
SageMaker reaches one route of a container, `/invocations`, and what that takes changed once:

    1.0 to 2.3   generate; from 1.4 on chats in its place, if MESSAGES_API_ENABLED was set
    2.4 on       generate, chats and completions, told apart by their fields (its pull request 2683)

Fields that TGI does not know it ignores in silence, and some it knows mean something else: its chats make
`repetition_penalty` of `presence_penalty`. So whatever is not listed here as sent is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from adapters.errors import UnsupportedParameter

Version = tuple[int, int]
"""Major and minor."""

OLDEST: Version = (1, 0)
ALL_SCHEMAS: Version = (2, 4)
"""From here on `/invocations` takes every schema."""
NO_PREFILL: Version = (3, 0)
"""From here on the prompt's tokens are told in no generate reply, unless the container runs with
`--enable-prefill-logprobs` (its issue 3070); the ends of streams tell their number."""
TOOL_CHOICE_OBJECT: Version = (2, 4)
"""From here on `tool_choice` takes `required`, and a function as OpenAI writes it (its pull request 2645)."""
IMAGE_PARTS: Version = (2, 1)
"""From here on a message's content may be a list of parts."""
TOOL_MESSAGES: Version = (3, 2)
"""From here on a message may have `tool_calls` and no content (its pull request 3036)."""
CALLS_WITH_NAMES: Version = (3, 2)
"""From here on streams tell calls of tools as OpenAI does (its pull requests 3076 and 3086)."""
BARE_LOGPROBS: Version = (2, 4)
"""From here on `logprobs` of chats works without `top_logprobs`."""

MAX_STOPS = 4
"""`--max-stop-sequences` of the launcher."""
MAX_TOP_TOKENS = 5
"""`--max-top-n-tokens` of the launcher."""
DEFAULT_COMPLETION_TOKENS = 16
"""New tokens of a text completion without `max_tokens`, by OpenAI's default; TGI's own depends on its version."""


class Fate(StrEnum):
    """What becomes of a field."""

    SENT = "sent"
    GATEWAY = "done by the gateway"
    LEFT_OUT = "left out: it does not shape the answer"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Row:
    """One field."""

    fate: Fate
    becomes: str = ""
    """The container's name for it."""
    since: Version = OLDEST
    """Before this version it is refused."""
    neutral: tuple[Any, ...] = ()
    """Values that ask for nothing: a field with one of these is left out, and so never refused."""
    hint: str = ""
    """What to do instead of a refused field."""


def sent(becomes: str, since: Version = OLDEST, *, neutral: tuple[Any, ...] = (), hint: str = "") -> Row:
    return Row(Fate.SENT, becomes, since, neutral, hint)


def refused(*neutral: Any, hint: str = "") -> Row:
    return Row(Fate.REFUSED, neutral=neutral, hint=hint)


_GATEWAY = Row(Fate.GATEWAY)
_LEFT_OUT = Row(Fate.LEFT_OUT)

_SAMPLING = {
    "temperature": sent("temperature"),
    "top_p": sent("top_p", neutral=(1,)),
    "seed": sent("seed"),
    "stop": sent("stop"),
    "frequency_penalty": sent("frequency_penalty", (1, 4), neutral=(0,)),
}
_NEVER: dict[str, Row] = {
    "n": refused(1, hint="Make a call for each choice."),
    "best_of": refused(1),
    "presence_penalty": refused(0),
    "logit_bias": refused({}),
    "use_beam_search": refused(False),
    "min_p": refused(0),
    "length_penalty": refused(1),
    "min_tokens": refused(0),
    "ignore_eos": refused(False),
    "stop_token_ids": refused([]),
    "allowed_token_ids": refused(),
    "bad_words": refused([]),
    "prompt_logprobs": refused(),
    "logprob_token_ids": refused(),
    "skip_special_tokens": refused(True),
    "spaces_between_special_tokens": refused(True),
    "return_tokens_as_token_ids": refused(False),
    "return_token_ids": refused(False),
    "return_token_offsets": refused(False),
    "guided_json": refused(hint="Use response_format instead."),
    "guided_regex": refused(hint="Use response_format instead."),
    "guided_choice": refused(hint="Use response_format instead."),
    "guided_grammar": refused(hint="Use response_format instead."),
    "structured_outputs": refused(hint="Use response_format instead."),
}
_QUIET = dict.fromkeys(
    (
        "user",
        "metadata",
        "store",
        "safety_identifier",
        "prompt_cache_key",
        "prompt_cache_retention",
        "service_tier",
        "prediction",
        "stream_interval",
    ),
    _LEFT_OUT,
)
_ENVELOPE = {"model": _GATEWAY, "stream": sent("stream")}

COMPLETIONS: dict[str, Row] = {
    **_ENVELOPE,
    **_QUIET,
    **_NEVER,
    **_SAMPLING,
    "prompt": sent("inputs"),
    "max_tokens": sent("max_new_tokens"),
    "stream_options": _GATEWAY,
    "echo": _GATEWAY,
    "include_stop_str_in_output": _GATEWAY,
    "logprobs": sent("top_n_tokens", (1, 1), neutral=(0,)),
    "top_k": sent("top_k", neutral=(0, -1)),
    "typical_p": sent("typical_p", neutral=(1,)),
    "repetition_penalty": sent("repetition_penalty", neutral=(1,)),
    "truncate_prompt_tokens": sent("truncate"),
    "truncation_side": refused("left"),
    "watermark": sent("watermark", neutral=(False,)),
    "response_format": sent("grammar", (1, 4), neutral=({"type": "text"},)),
    "suffix": refused(""),
    "add_special_tokens": refused(True),
}
"""Fields of a text completion → parameters of generate."""

CHAT: dict[str, Row] = {
    **_ENVELOPE,
    **_QUIET,
    **_NEVER,
    **_SAMPLING,
    "messages": sent("messages"),
    "max_tokens": sent("max_tokens"),
    "max_completion_tokens": sent("max_tokens"),
    "stream_options": _GATEWAY,
    "include_stop_str_in_output": _GATEWAY,
    "logprobs": sent("logprobs", neutral=(False,)),
    "top_logprobs": sent("top_logprobs", neutral=(0,)),
    "tools": sent("tools", (2, 0)),
    "tool_choice": sent("tool_choice", (2, 0)),
    "tool_prompt": sent("tool_prompt", (2, 0)),
    "parallel_tool_calls": _LEFT_OUT,
    "response_format": sent("response_format", (2, 1), neutral=({"type": "text"},)),
    "top_k": refused(0, -1),
    "repetition_penalty": refused(1),
    "add_special_tokens": refused(False),
    "add_generation_prompt": refused(True),
    "continue_final_message": refused(False),
    "chat_template_kwargs": refused({}),
    "include_reasoning": refused(True),
    "modalities": refused(["text"]),
    "functions": refused(hint="Use tools instead."),
    "function_call": refused(hint="Use tool_choice instead."),
}
"""Fields of a chat → fields of TGI's chats."""

GENERATE: dict[str, Row] = {
    **{
        name: sent(name)
        for name in (
            "best_of",
            "temperature",
            "repetition_penalty",
            "top_k",
            "top_p",
            "typical_p",
            "do_sample",
            "max_new_tokens",
            "return_full_text",
            "stop",
            "truncate",
            "watermark",
            "details",
            "decoder_input_details",
            "seed",
        )
    },
    "top_n_tokens": sent("top_n_tokens", (1, 1), neutral=(0,)),
    "frequency_penalty": sent("frequency_penalty", (1, 4), neutral=(0,)),
    "grammar": sent("grammar", (1, 4)),
    "adapter_id": sent("adapter_id", (2, 1)),
}
"""Parameters of generate, which keep their names."""


def admit(values: Mapping[str, Any], table: Mapping[str, Row], version: Version) -> list[str]:
    """Return the names among `values` that are to be sent, or minded by the gateway; a null counts as absent.

    Raises:
        UnsupportedParameter: the container would ignore or garble one of them.
    """
    admitted: list[str] = []
    for name, value in values.items():
        row = table.get(name)
        if value is None or (row is not None and is_neutral(value, row)):
            continue
        if row is None or row.fate is Fate.REFUSED:
            raise unsupported(name, "" if row is None else row.hint)
        if version < row.since:
            since = ".".join(map(str, row.since))
            raise UnsupportedParameter(f"This model's container takes {name} from version {since} on only.", name)
        if row.fate is not Fate.LEFT_OUT:
            admitted.append(name)
    return admitted


def is_neutral(value: object, row: Row) -> bool:
    """Say whether a value asks for nothing. A boolean is no number here, although Python takes it for one."""
    return any(value == nothing and isinstance(value, bool) is isinstance(nothing, bool) for nothing in row.neutral)


def unsupported(name: str, hint: str = "") -> UnsupportedParameter:
    name = name[:64]
    return UnsupportedParameter(f"This model's container does not act upon {name}. {hint}".rstrip(), name)
