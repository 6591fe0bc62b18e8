"""Fields of which a version of vLLM knows some values only."""

from __future__ import annotations

from adapters.drift.table import Edit, Step
from adapters.errors import UnsupportedParameter


def effort_among(*known: str) -> Step:
    """Build a step that refuses a `reasoning_effort` other than those."""
    listed = ", ".join(known)

    def step(edit: Edit) -> None:
        effort = edit.values["reasoning_effort"]
        if effort not in known:
            raise UnsupportedParameter(
                f"This model's container knows {listed} as reasoning_effort, not {effort[:32]!r}.", "reasoning_effort"
            )

    return step


def best_of(edit: Edit) -> None:
    """vLLM's V1 engine refuses more than 1 up to 0.11, even if it is n (processor.py); later versions ignore it."""
    if edit.values["best_of"] > edit.values.get("n", 1):
        raise UnsupportedParameter(
            "This model's container cannot choose the best of several answers: leave out best_of, or set it to n.",
            "best_of",
        )
    edit.drop("best_of")


def one_tool_at_once(edit: Edit) -> None:
    """Nothing filters further calls; a choice that names the tool, or none, leads to one call at most anyway."""
    choice = edit.values.get("tool_choice", "auto")
    if edit.values["parallel_tool_calls"] is False and "tools" in edit.values and choice in ("auto", "required"):
        raise UnsupportedParameter(
            "This model's container cannot keep it from calling several tools at once: leave out parallel_tool_calls.",
            "parallel_tool_calls",
        )


def text_only(edit: Edit) -> None:
    if edit.values["modalities"] != ["text"]:
        raise UnsupportedParameter("This model's container answers in text only.", "modalities")


def thoughts_in_streams(edit: Edit) -> None:
    """Whole replies heed `include_reasoning`, streams do not; Gatherer leaves out what a caller did not ask for."""
    if edit.values["include_reasoning"] is False and edit.call.stream:
        raise UnsupportedParameter(
            "This model's container cannot leave its reasoning out of a stream: leave out include_reasoning.",
            "include_reasoning",
        )


def top_k_off(edit: Edit) -> None:
    """0.8 refuses the 0 that switches top_k off later and has -1 for it, 0.9 takes both (vllm/sampling_params.py)."""
    if edit.values["top_k"] == 0:
        edit.put("top_k", b"-1")


def truncated_to_number(edit: Edit) -> None:
    if edit.values["truncate_prompt_tokens"] == -1:
        raise UnsupportedParameter(
            "This model's container takes no -1 for truncate_prompt_tokens: name a number.", "truncate_prompt_tokens"
        )
