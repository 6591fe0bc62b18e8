"""The request bodies, as vLLM's pydantic models read them: coerced, checked, unknown keys ignored.

The models keep vLLM's names because the names are in the error texts.
https://github.com/vllm-project/vllm: vllm/entrypoints/openai/{chat_completion,completion}/protocol.py
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator
from pydantic_core import PydanticKnownError

from deploy.local.engine import crosschecks
from deploy.local.engine.dialect import Dialect

Json = dict[str, Any]
"""A JSON object nobody has checked yet."""

INT64 = 2**63


class _Model(BaseModel):
    model_config = ConfigDict(extra="ignore", protected_namespaces=())


class Message(BaseModel):
    """A chat message; keys beyond these are kept. The parts of its content are checked when the template reads them."""

    model_config = ConfigDict(extra="allow")

    role: str
    content: str | list[Any] | None = None
    tool_calls: list[Json] | None = None


class StreamOptions(_Model):
    include_usage: bool | None = None
    continuous_usage_stats: bool | None = False


class JsonSchemaResponseFormat(_Model):
    name: str
    json_schema: Json | bool | None = Field(default=None, alias="schema")


class ResponseFormat(_Model):
    type: Literal["text", "json_object", "json_schema", "structural_tag"]
    json_schema: JsonSchemaResponseFormat | None = None


class StructuredOutputsParams(_Model):
    json_: str | Json | None = Field(default=None, alias="json")
    regex: str | None = None
    choice: list[str] | None = None
    grammar: str | None = None
    json_object: bool | None = None
    disable_any_whitespace: bool = False
    disable_additional_properties: bool = False
    whitespace_pattern: str | None = None
    structural_tag: str | None = None

    @model_validator(mode="after")
    def _has_one(self, info: ValidationInfo) -> StructuredOutputsParams:
        crosschecks.structured_outputs(self.model_dump(by_alias=True), _dialect(info))
        return self


class FunctionDefinition(_Model):
    name: str
    description: str | None = None
    parameters: Json | None = None


class Tool(_Model):
    type: Literal["function"] = "function"
    function: FunctionDefinition


class NamedFunction(_Model):
    name: str


class NamedToolChoice(_Model):
    type: Literal["function"] = "function"
    function: NamedFunction


class SamplingBody(_Model):
    """What both kinds of request share."""

    model: str | None = None
    seed: Annotated[int, Field(ge=-INT64, lt=INT64)] | None = None
    stop: str | list[str] | None = None
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    temperature: float | None = None
    top_p: float | None = None
    n: int | None = 1
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: dict[str, float] | None = None
    user: str | None = None
    top_k: int | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    stop_token_ids: list[int] | None = None
    include_stop_str_in_output: bool = False
    ignore_eos: bool = False
    min_tokens: int = 0
    truncate_prompt_tokens: Annotated[int, Field(ge=-1)] | None = None
    truncation_side: Literal["left", "right"] | None = None
    prompt_logprobs: int | None = None
    response_format: ResponseFormat | None = None
    structured_outputs: StructuredOutputsParams | None = None
    guided_json: str | Json | None = None
    guided_regex: str | None = None
    guided_choice: list[str] | None = None
    guided_grammar: str | None = None
    request_id: str | None = None
    return_tokens_as_token_ids: bool | None = None
    return_token_ids: bool | None = None

    @model_validator(mode="before")
    @classmethod
    def _crosscheck(cls, data: Any, info: ValidationInfo) -> Any:
        if not isinstance(data, dict):
            return data
        dialect = _dialect(info)
        absent = crosschecks.unknown_fields(dialect)
        data = {key: value for key, value in data.items() if key not in absent}
        return cls._checked(data, dialect)

    @classmethod
    @abstractmethod
    def _checked(cls, data: Json, dialect: Dialect) -> Json:
        """Return the body as this kind of call takes it, or raise what the container would answer."""

    @property
    def choices(self) -> int:
        """How many answers a prompt gets."""
        return 1 if self.n is None else self.n

    @property
    def stops(self) -> list[str]:
        """The stop strings."""
        if self.stop is None:
            return []
        return [self.stop] if isinstance(self.stop, str) else self.stop


class ChatCompletionRequest(SamplingBody):
    messages: list[Message]
    logprobs: bool | None = False
    top_logprobs: int | None = 0
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    tools: list[Tool] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedToolChoice | None = "none"
    parallel_tool_calls: bool | None = True
    reasoning_effort: str | None = None
    include_reasoning: bool = True
    chat_template_kwargs: Json | None = None
    add_generation_prompt: bool = True
    continue_final_message: bool = False

    @classmethod
    def _checked(cls, data: Json, dialect: Dialect) -> Json:
        return crosschecks.chat(data, dialect)

    @field_validator("reasoning_effort", mode="before")
    @classmethod
    def _known_effort(cls, value: object, info: ValidationInfo) -> object:
        known = _dialect(info).reasoning_efforts
        if value is not None and value not in known:
            expected = ", ".join(f"'{effort}'" for effort in known[:-1]) + f" or '{known[-1]}'"
            raise PydanticKnownError("literal_error", {"expected": expected})
        return value

    @property
    def token_limit(self) -> int | None:
        """How many tokens were asked for; `max_completion_tokens` goes first."""
        return self.max_tokens if self.max_completion_tokens is None else self.max_completion_tokens

    @property
    def named_tool(self) -> str | None:
        """The tool the caller insists on by name."""
        return self.tool_choice.function.name if isinstance(self.tool_choice, NamedToolChoice) else None


class CompletionRequest(SamplingBody):
    prompt: list[Annotated[int, Field(ge=0)]] | list[list[Annotated[int, Field(ge=0)]]] | str | list[str] | None = None
    echo: bool | None = False
    logprobs: int | None = None
    max_tokens: int | None = 16
    suffix: str | None = None

    @classmethod
    def _checked(cls, data: Json, dialect: Dialect) -> Json:
        if data.get("max_tokens", 0) is None:
            data["max_tokens"] = 16
        return crosschecks.completion(data, dialect)


def read_chat(data: object, dialect: Dialect) -> ChatCompletionRequest:
    """Return the body of `data`.

    Raises:
        pydantic.ValidationError: a field has no business being what it is.
        Refusal: vLLM's own validators object, in releases where they have the last word.
    """
    return ChatCompletionRequest.model_validate(data, context={"dialect": dialect})


def read_completion(data: object, dialect: Dialect) -> CompletionRequest:
    """Return the body of `data`; see `read_chat`."""
    return CompletionRequest.model_validate(data, context={"dialect": dialect})


def _dialect(info: ValidationInfo) -> Dialect:
    dialect = info.context["dialect"] if isinstance(info.context, dict) else None
    if not isinstance(dialect, Dialect):
        raise TypeError("the models are read through read_chat and read_completion")
    return dialect
