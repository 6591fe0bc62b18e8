"""The official client, called in each of its ways, and its answers in one form, so that a test is written once for all.

Caller(OpenAI(…), stream=True).chat("model", "hello").only.text == "Hello! How can I help you today?"
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

VERSION_VARIABLE = "E2E_OPENAI_VERSION"
"""The beginning of the version that `openai` must have; set for runs with another one than the environment's.

Those need fewer kinds of containers, as it is the client that they are about.
"""
REASONING_FIELDS = ("reasoning", "reasoning_content")


@dataclass(slots=True)
class ToolCall:
    """A call of a tool, its arguments as text."""

    id: str
    name: str
    arguments: str = ""


@dataclass(slots=True)
class Choice:
    """One choice, whole, however it came."""

    text: str = ""
    role: str | None = None
    thoughts: dict[str, str] = field(default_factory=dict)
    """The reasoning, under each name the container gives it."""
    tools: list[ToolCall] = field(default_factory=list)
    finish: str | None = None
    stop_reason: Any = None
    logprobs: list[Any] = field(default_factory=list)
    """Of a chat: its entries, token by token. Of a completion: its `tokens`."""


@dataclass(slots=True)
class Answer:
    """A reply, or a stream read to its end."""

    id: str
    object: str
    model: str
    choices: list[Choice]
    usage: Any = None
    chunks: list[Any] = field(default_factory=list)
    """What a stream consisted of."""

    @property
    def only(self) -> Choice:
        (choice,) = self.choices
        return choice


class Caller:
    """One way of calling: with the client or, given a `runner`, the asynchronous one; for whole replies or for streams.

    `variant` is appended to every model's name: the models of one endpoint differ in how the gateway fetches an answer.
    """

    def __init__(self, client: Any, *, stream: bool, variant: str = "", runner: asyncio.Runner | None = None) -> None:
        self.client, self.stream, self.variant, self._runner = client, stream, variant, runner

    def chat(self, model: str, messages: str | list[Any], **fields: Any) -> Answer:
        """Return the answer to a chat; a text stands for one message of the user's."""
        given = [{"role": "user", "content": messages}] if isinstance(messages, str) else messages
        return self._call(self.client.chat.completions, model=model + self.variant, messages=given, **fields)

    def completion(self, model: str, prompt: Any, **fields: Any) -> Answer:
        return self._call(self.client.completions, model=model + self.variant, prompt=prompt, **fields)

    def _call(self, resource: Any, **fields: Any) -> Answer:
        if self.stream:
            fields = {"stream": True, "stream_options": {"include_usage": True}, **fields}
        if self._runner is not None:
            return self._runner.run(self._call_async(resource, fields))
        reply = resource.create(**fields)
        if not self.stream:
            return of_reply(reply)
        with reply:
            return of_chunks(list(reply))

    async def _call_async(self, resource: Any, fields: dict[str, Any]) -> Answer:
        reply = await resource.create(**fields)
        if not self.stream:
            return of_reply(reply)
        async with reply:
            return of_chunks([chunk async for chunk in reply])


def of_reply(reply: Any) -> Answer:
    """Return a whole reply."""
    assert [choice.index for choice in reply.choices] == list(range(len(reply.choices)))
    return Answer(reply.id, reply.object, reply.model, [_choice(choice) for choice in reply.choices], reply.usage)


def _choice(given: Any) -> Choice:
    choice = Choice(finish=given.finish_reason, stop_reason=getattr(given, "stop_reason", None))
    message = getattr(given, "message", None)
    if message is None:
        choice.text = given.text
        choice.logprobs = list(given.logprobs.tokens) if given.logprobs else []
        return choice
    choice.text, choice.role = message.content or "", message.role
    _think(choice, message)
    choice.tools = [ToolCall(call.id, call.function.name, call.function.arguments) for call in message.tool_calls or ()]
    choice.logprobs = list(given.logprobs.content) if given.logprobs else []
    return choice


def _think(choice: Choice, message: Any) -> None:
    for name in REASONING_FIELDS:
        if thought := getattr(message, name, None):
            choice.thoughts[name] = choice.thoughts.get(name, "") + thought


def of_chunks(chunks: list[Any]) -> Answer:
    """Return a stream put together; what no stream of OpenAI's would do fails here."""
    assert chunks, "a stream without chunks"
    first = chunks[0]
    answer = Answer(first.id, first.object, first.model, [], chunks=chunks)
    choices: dict[int, Choice] = {}
    for chunk in chunks:
        assert (chunk.id, chunk.object, chunk.model) == (first.id, first.object, first.model)
        if chunk.usage is not None:
            answer.usage = chunk.usage
        for given in chunk.choices:
            choice = choices.setdefault(given.index, Choice())
            assert choice.finish is None, "a choice goes on after its finish_reason"
            _add(choice, given)
    answer.choices = [choices[index] for index in range(len(choices))]
    return answer


def _add(choice: Choice, given: Any) -> None:
    choice.finish = given.finish_reason
    choice.stop_reason = getattr(given, "stop_reason", None)
    delta = getattr(given, "delta", None)
    if delta is None:
        choice.text += given.text
        choice.logprobs += given.logprobs.tokens if given.logprobs else []
        return
    choice.text += delta.content or ""
    choice.role = choice.role or delta.role
    _think(choice, delta)
    choice.logprobs += (given.logprobs.content or []) if given.logprobs else []
    for part in delta.tool_calls or ():
        assert part.index <= len(choice.tools), "a tool call is skipped"
        if part.index == len(choice.tools):
            choice.tools.append(ToolCall("", ""))
        call = choice.tools[part.index]
        # An id or a name that comes again replaces nothing and adds nothing: as clients read it.
        call.id = call.id or part.id or ""
        if part.function is not None:
            call.name = call.name or part.function.name or ""
            call.arguments += part.function.arguments or ""
