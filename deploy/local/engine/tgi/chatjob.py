"""TGI's /v1/chat/completions, whole. https://github.com/huggingface/text-generation-inference: router/src/server.rs
(chat_completions), router/src/lib.rs (ChatRequest, ChatCompletion)
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from deploy.local.engine import jsontext, prose, scripts
from deploy.local.engine.generation import Part
from deploy.local.engine.job import Record
from deploy.local.engine.sampling import Sampling
from deploy.local.engine.tgi import openai, pictures, template, toolcalls, validation
from deploy.local.engine.tgi.answers import Answer
from deploy.local.engine.tgi.errors import TgiError, tool_error
from deploy.local.engine.tgi.infer import Generate, Inference, within
from deploy.local.engine.tgi.template import Chat

Json = dict[str, Any]


@dataclass(slots=True)
class ChatJob:
    """An answered chat, or the error that its stream consists of."""

    inference: Inference
    body: Json
    model: str
    shows_prefill: bool
    characters: int
    """How many the template made of the messages."""
    tools: bool
    """Whether the answer is a tool call, or the model's word that it wants none."""
    answer: Answer | None
    error: TgiError | None = None
    instead: Answer | None = None
    """What is said once the model has declined to call a tool, from 3.2 on."""
    created: int = field(default_factory=openai.now_s)

    @property
    def streams(self) -> bool:
        """Whether the request asked for a stream."""
        return bool(self.body["stream"])

    @property
    def ends_with_done(self) -> bool:
        """Whether [DONE] follows the records."""
        return self.inference.release.ends_with_done

    @property
    def answers(self) -> list[Answer]:
        """What was generated and is replied."""
        return [answer for answer in (self.instead or self.answer,) if answer is not None]

    @property
    def fails_after(self) -> int | None:
        """After how many tokens the model server dies, or None if it does not."""
        return next((answer.fails_after for answer in self.answers), None)

    @property
    def rounds(self) -> int:
        """How many tokens were generated."""
        return sum(len(answer.said) for answer in (self.answer, self.instead) if answer is not None)

    @property
    def top(self) -> int:
        """How many alternatives each token is listed with."""
        return (self.body["top_logprobs"] or 0) if self.inference.release.since(2, 0) else 0

    def whole(self) -> bytes:
        """Return the reply's JSON.

        Raises:
            TgiError: the model's JSON was cut.
        """
        release = self.inference.release
        (answer,) = self.answers
        call: Json | None = None
        text: str | None = answer.text
        if self.tools and self.instead is None:
            call, text = toolcalls.parse(answer.text, release)
        said = {"tool_calls": [call]} if call is not None else {"content": text}
        listed = None
        if self.body["logprobs"]:
            # Before 2.1 a list without alternatives was empty.
            places = range(len(answer.said)) if self.top or release.since(2, 1) else ()
            listed = openai.logprobs(answer, places, self.top)
        choice = {
            "index": 0,
            "message": {"role": "assistant", **said},
            "logprobs": listed,
            "finish_reason": openai.finish_reason(answer, release),
        }
        knows = openai.knows_prompts(release, shows_prefill=self.shows_prefill)
        made = self.head("chat.completion") | {"choices": [choice]}
        return jsontext.value(made | {"usage": openai.usage([answer], knows_prompt=knows)})

    def head(self, kind: str) -> Json:
        """Return what every object of a chat begins with."""
        release = self.inference.release
        old = release.old_schema
        made = {"id": "", "object": "text_completion"} if old else {"object": kind, "id": ""}
        return made | {
            "created": self.created,
            "model": self.model,
            "system_fingerprint": openai.fingerprint(release),
        }

    def call_id(self) -> str:
        """Return the id of a streamed call: one more than any in the chat, or a random one if those are no numbers."""
        if not self.inference.release.openai_calls:
            return ""
        ids = [call["id"] for message in self.body["messages"] for call in message.get("tool_calls") or ()]
        try:
            return str(max((int(one) + 1 for one in ids), default=0))
        except ValueError:
            return str(uuid.uuid4())

    def records(self) -> Iterator[Record]:
        """Give the stream's records."""
        from deploy.local.engine.tgi.chatstream import records  # Here, because the stream is made of this job.

        return records(self)


def read(body: Json, inference: Inference, *, shows_prefill: bool) -> ChatJob:
    """Return the answer to a chat.

    Raises:
        TgiError: there is none; a stream has all errors but those of tools and template inside.
    """
    release, options = inference.release, inference.options
    request, using_tools = to_generate(body, inference)
    named = body["model"]
    model = named if release.echoes_model and named not in (None, "tgi") else options.served_name
    job = ChatJob(inference, body, model, shows_prefill, len(request.inputs), using_tools, None)
    try:
        job.answer = inference.generate(request)
    except TgiError as error:
        if not job.streams:
            raise
        job.error = error
        return job
    if using_tools and release.openai_calls and job.answer.fails_after is None and _declines(job.answer, inference):
        plain, _ = to_generate(body | {"tools": None, "response_format": None}, inference)
        job.instead = inference.generate(plain)
    return job


def to_generate(body: Json, inference: Inference) -> tuple[Generate, bool]:
    """Return the generate request of a chat, and whether its answer is a tool call."""
    release, options = inference.release, inference.options
    tools: list[Json] | None = body["tools"]
    grammar = body.get("response_format")
    if grammar is not None and tools is not None:
        raise tool_error("Grammar and tools are mutually exclusive")
    choice: str | None = body["tool_choice"]
    usable = [] if grammar is not None else toolcalls.usable(tools, choice, release)
    default = template.TOOL_PROMPT if release.since(2, 2) else template.OLD_TOOL_PROMPT
    prompt = body["tool_prompt"] or default
    chat = template.apply(body["messages"], usable or None, prompt, release, options)
    penalty = body["presence_penalty"]
    asked = openai.parameters(body, release) | {
        "repetition_penalty": None if penalty is None else penalty + 2.0,
        "top_n_tokens": body["top_logprobs"] if release.since(2, 0) else None,
        "grammar": grammar,
    }
    script = toolcalls.script(usable, choice, chat, release) if usable and choice else _script(chat, asked, inference)
    return Generate(chat.text, asked, script, chat.question), bool(usable)


def _script(chat: Chat, asked: Json, inference: Inference) -> Any:
    """Return what is said to a chat without tools."""
    options, release = inference.options, inference.release

    def said(sampling: Sampling, number: int) -> list[Part]:
        thoughts = list(scripts.thoughts_of(chat.question, [], options)) if options.thinking else []
        valid = validation.validate(chat.text, asked, release, options)
        constrained = within(valid, chat.question, sampling, number)
        if constrained is not None:
            return [Part(constrained)]
        if valid.pictures and not chat.results:
            text = prose.seen_images(list(map(str, valid.pictures)), pictures.without(chat.question))
        else:
            text = toolcalls.answer_to(chat, sampling, number)
        return [*thoughts, *([Part("\n\n")] if thoughts else []), Part(text)]

    return said


def _declines(answer: Answer, inference: Inference) -> bool:
    try:
        call, text = toolcalls.parse(answer.text, inference.release)
    except TgiError:
        return False
    return call is None and text is None
