"""Text completions: the whole reply and the chunks of a stream, with the fields of each vLLM release.

https://github.com/vllm-project/vllm: vllm/entrypoints/openai/completion/{serving,protocol}.py
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from deploy.local.engine import jsontext, logprobs, tokens
from deploy.local.engine.bodies import CompletionRequest
from deploy.local.engine.generation import Step
from deploy.local.engine.job import Record, Reply, rounds_of, stream_error


@dataclass(frozen=True, slots=True)
class Prompt:
    """A raw prompt; its text is empty where the caller gave tokens and wants tokens back."""

    ids: list[int]
    text: str


@dataclass(slots=True)
class CompletionJob:
    """Answered prompts: each has `n` choices, one after the other."""

    reply: Reply
    body: CompletionRequest
    prompts: list[Prompt]
    choices: list[list[Step]]
    fails_after: int | None = None

    @property
    def streams(self) -> bool:
        """Whether the request asked for a stream."""
        return bool(self.body.stream)

    @property
    def rounds(self) -> int:
        """How many tokens the longest choice has."""
        return max(map(len, self.choices))

    @property
    def prompt_tokens(self) -> int:
        """How many tokens all prompts have."""
        return sum(len(prompt.ids) for prompt in self.prompts)

    @property
    def completion_tokens(self) -> int:
        """How many tokens all choices have."""
        return sum(map(len, self.choices))

    def prompt_of(self, index: int) -> Prompt:
        """Return the prompt that a choice answers."""
        return self.prompts[index // self.body.choices]

    def logprobs_of(self, index: int) -> dict[str, list[Any]] | None:
        """Return the `logprobs` of a whole choice, the echoed prompt's included."""
        if self.body.logprobs is None:
            return None
        echoed = self.prompt_of(index).ids if self.body.echo else []
        steps = [] if self.body.echo and self.body.max_tokens == 0 else self.choices[index]
        as_ids = bool(self.body.return_tokens_as_token_ids)
        return logprobs.of_completion(echoed, steps, 0, self.body.logprobs, 0, as_ids=as_ids)

    def prompt_logprobs_of(self, index: int) -> list[dict[str, Any] | None] | None:
        """Return a whole choice's `prompt_logprobs`, which an echo with logprobs has too."""
        wanted = self.body.prompt_logprobs
        if wanted is None and self.body.echo:
            wanted = self.body.logprobs
        return None if wanted is None else logprobs.of_prompt(self.prompt_of(index).ids, wanted)

    def text_of(self, index: int) -> str:
        """Return the text of a whole choice."""
        said = "".join([step.text for step in self.choices[index]])
        if not self.body.echo:
            return said
        echoed = "" if self.body.return_token_ids else self.prompt_of(index).text
        return echoed if self.body.max_tokens == 0 else echoed + said

    def whole(self) -> bytes:
        """Return the reply's JSON."""
        reply, dialect = self.reply, self.reply.dialect
        made: dict[str, Any] = {
            "id": reply.id,
            "object": "text_completion",
            "created": reply.created,
            "model": reply.model,
            "choices": [self._choice(index, steps) for index, steps in enumerate(self.choices)],
        }
        usage = reply.usage(self.prompt_tokens, self.completion_tokens, None)
        if not dialect.since(0, 10):
            return jsontext.value({**made, "usage": usage})
        made |= {
            "service_tier": None,
            "system_fingerprint": dialect.fingerprint,
            "usage": usage,
            "kv_transfer_params": None,
        }
        if dialect.since(0, 26):
            made |= {"ec_transfer_params": None, "metrics": None}
        return jsontext.value(made)

    def _choice(self, index: int, steps: list[Step]) -> dict[str, Any]:
        dialect, wants_ids = self.reply.dialect, bool(self.body.return_token_ids)
        made: dict[str, Any] = {
            "index": index,
            "text": self.text_of(index),
            "logprobs": self.logprobs_of(index),
            "finish_reason": steps[-1].finish,
            "stop_reason": steps[-1].stop_reason,
        }
        if dialect.since(0, 10):
            made["token_ids"] = [step.token for step in steps] if wants_ids else None
        made["prompt_logprobs"] = self.prompt_logprobs_of(index)
        if dialect.since(0, 10):
            made["prompt_token_ids"] = self.prompt_of(index).ids if wants_ids else None
        if dialect.since(0, 22):
            made["routed_experts"] = None
        if dialect.since(0, 33):
            made["weight_versions"] = None
        return made

    def records(self) -> Iterator[Record]:
        """Give the stream's records."""
        return _Stream(self).records()


class _Stream:
    """The chunks of one stream: one for each token."""

    def __init__(self, job: CompletionJob) -> None:
        self._job, self._body, self._reply, self._dialect = job, job.body, job.reply, job.reply.dialect
        dialect = self._dialect
        self._head = b'{"id":%b,"object":"text_completion","created":%d,"model":%b,"choices":[' % (
            jsontext.string(job.reply.id),
            job.reply.created,
            jsontext.string(job.reply.model),
        )
        # Up to 0.20 every chunk had all its fields.
        self._bare_usage = b"" if dialect.since(0, 22) else b',"usage":null'
        self._tail = b',"kv_transfer_params":null}' if dialect.since(0, 33) else b"}"
        self._ids = b',"prompt_token_ids":null,"token_ids":null' if dialect.since(0, 10) else b""
        if dialect.since(0, 33):
            self._ids += b',"weight_versions":null'
        self._plain_tail = b',"logprobs":null,"finish_reason":null,"stop_reason":null%b}]%b%b' % (
            self._ids,
            self._bare_usage,
            self._tail,
        )
        self._offsets = [0] * len(job.choices)

    def records(self) -> Iterator[Record]:
        """Give all chunks as they come, then the usage."""
        job, body = self._job, self._body
        is_plain = body.logprobs is None and not body.return_token_ids and not self._reply.counts_always
        waited = -1
        for number, index, step in rounds_of(job.choices):
            if job.fails_after is not None and number >= job.fails_after:
                yield 1, stream_error(self._dialect, chat=False)
                return
            due, waited = number - waited, number
            if is_plain and step.finish is None and not (body.echo and number == 0):
                head = b'%b{"index":%d,"text":' % (self._head, index)
                yield due, head + jsontext.string(step.text) + self._plain_tail
            else:
                yield due, self._chunk(number, index, step)
        if self._reply.includes_usage:
            usage = self._reply.running_usage(job.prompt_tokens, job.completion_tokens)
            yield 0, b'%b],"usage":%b}%b}' % (self._head, usage, self._reply.fingerprint())

    def _chunk(self, number: int, index: int, step: Step) -> bytes:
        body = self._body
        prompt = self._job.prompt_of(index)
        echoes = bool(body.echo) and number == 0
        text = step.text
        if echoes:
            only_prompt = body.max_tokens == 0
            text = ("" if body.return_token_ids else prompt.text) + ("" if only_prompt else text)
        listed = b"null"
        if body.logprobs is not None:
            entries = logprobs.of_completion(
                prompt.ids if echoes else [],
                [] if echoes and body.max_tokens == 0 else [step],
                number,
                body.logprobs,
                self._offsets[index],
                as_ids=bool(body.return_tokens_as_token_ids),
            )
            self._offsets[index] += sum(map(len, entries["tokens"]))
            listed = jsontext.value(entries)
        ids = self._ids
        if self._dialect.since(0, 10) and (echoes or body.return_token_ids):
            first = prompt.ids if number == 0 else None
            own = [step.token] if body.return_token_ids else None
            ids = b',"prompt_token_ids":%b,"token_ids":%b' % (jsontext.value(first), jsontext.value(own))
            ids += b',"weight_versions":null' if self._dialect.since(0, 33) else b""
        fingerprint = self._reply.fingerprint() if step.finish and not self._reply.includes_usage else b""
        return b'%b{"index":%d,"text":%b,"logprobs":%b,"finish_reason":%b,"stop_reason":%b%b}]%b%b%b' % (
            self._head,
            index,
            jsontext.string(text),
            listed,
            jsontext.value(step.finish),
            jsontext.value(step.stop_reason),
            ids,
            self._usage_so_far(len(prompt.ids), number + 1),
            fingerprint,
            self._tail,
        )

    def _usage_so_far(self, prompt: int, completion: int) -> bytes:
        if not self._reply.counts_always:
            return self._bare_usage
        # Where every chunk has all its fields, its usage has too.
        details = b',"prompt_tokens_details":null' if self._bare_usage else b""
        return b',"usage":' + self._reply.running_usage(prompt, completion) + details + b"}"


def read_prompts(body: CompletionRequest) -> list[Prompt]:
    """Return the prompts of a body: text, tokens, or a list of either."""
    given = body.prompt
    if given is None:
        return []
    if isinstance(given, str):
        return [_of_text(given)]
    if given and isinstance(given[0], int):
        return [_of_ids([token for token in given if isinstance(token, int)])]
    prompts: list[Prompt] = []
    for one in given:
        if isinstance(one, str):
            prompts.append(_of_text(one))
        elif isinstance(one, list):
            prompts.append(_of_ids(one))
    return prompts


def _of_text(text: str) -> Prompt:
    return Prompt(tokens.encode(text, markup=True), text)


def _of_ids(ids: list[int]) -> Prompt:
    known = [token for token in ids if token < tokens.VOCABULARY_SIZE]
    return Prompt(ids, tokens.decode(known, invisible=True))
