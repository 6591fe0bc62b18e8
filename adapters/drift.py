"""Fields that a version of vLLM does not know: it ignores them in silence, so that the caller gets another answer than
the one asked for.

Compared from ChatCompletionRequest and CompletionRequest of 0.8.4, 0.9.2, 0.10.2, 0.11, 0.12, 0.14, 0.16 to 0.26, 0.28,
0.30, 0.32 and 0.33. Fields that only tune speed, or that vLLM never has acted upon without harm (`user`, `metadata`,
`store`), are let through.
"""

from __future__ import annotations

from adapters.base import Call, Surface
from adapters.errors import UnsupportedParameter

_NEVER = 1000
_FIRST: dict[str, int] = {
    "audio": _NEVER,
    "function_call": _NEVER,
    "functions": _NEVER,
    "verbosity": _NEVER,
    "web_search_options": _NEVER,
    "structured_outputs": 11,
    "reasoning_effort": 10,
    "include_reasoning": 10,
    "return_token_ids": 10,
    "repetition_detection": 17,
    "thinking_token_budget": 19,
    "return_prompt_text": 21,
    "truncation_side": 22,
    "return_token_offsets": 25,
    "logprob_token_ids": 26,
    "watermarking": 30,
    "return_weight_versions": 33,
}
"""Field → the first minor version that acts upon it."""
_FIRST_BY_SURFACE: dict[Surface, dict[str, int]] = {
    Surface.CHAT: _FIRST | {"allowed_token_ids": 9, "bad_words": 9},
    Surface.COMPLETIONS: _FIRST | {"bad_words": 26, "thinking_token_budget": 22, "reasoning_effort": _NEVER},
}
_LAST: dict[str, int] = {
    "best_of": 11,
    "guided_json": 11,
    "guided_regex": 11,
    "guided_choice": 11,
    "guided_grammar": 11,
    "guided_whitespace_pattern": 11,
    "structural_tag": 11,
    "logits_processors": 16,
}
"""Field → the last minor version that acts upon it."""
_INSTEAD = {
    "functions": "tools",
    "function_call": "tool_choice",
    "structural_tag": "structured_outputs",
    "guided_json": "structured_outputs",
    "guided_regex": "structured_outputs",
    "guided_choice": "structured_outputs",
    "guided_grammar": "structured_outputs",
    "structured_outputs": "guided_json, guided_regex, guided_choice or guided_grammar",
}
_PARALLEL_SWITCH_FROM = 12
"""The first minor version that acts upon `parallel_tool_calls: false`."""


def check_support(call: Call, minor: int) -> None:
    """Pass a call to vLLM 0.`minor`.

    Raises:
        UnsupportedParameter: that version would ignore a field which changes the answer.
    """
    first = _FIRST_BY_SURFACE[call.surface]
    for name in call.values:
        if name in first and minor < first[name]:
            raise _unsupported(name)
        if name in _LAST and minor > _LAST[name]:
            raise _unsupported(name)
    if call.values.get("parallel_tool_calls") is False and minor < _PARALLEL_SWITCH_FROM and _may_call_several(call):
        raise UnsupportedParameter(
            "This model's container cannot keep it from calling several tools at once: leave out parallel_tool_calls.",
            "parallel_tool_calls",
        )
    modalities = call.values.get("modalities")
    if modalities is not None and modalities != ["text"]:
        raise UnsupportedParameter("This model's container answers in text only.", "modalities")


def _may_call_several(call: Call) -> bool:
    """Return whether an answer could call several tools: where the caller names one, vLLM makes exactly that call."""
    choice = call.values.get("tool_choice")
    return "tools" in call.values and choice != "none" and not isinstance(choice, dict)


def _unsupported(name: str) -> UnsupportedParameter:
    hint = f" Use {_INSTEAD[name]} instead." if name in _INSTEAD else ""
    return UnsupportedParameter(f"This model's container does not act upon {name}.{hint}", name)
