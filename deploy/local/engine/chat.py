"""Chat completions: the whole reply and the chunks of a stream, with the fields of each vLLM release.

https://github.com/vllm-project/vllm: vllm/entrypoints/openai/chat_completion/{serving,protocol}.py
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from deploy.local.engine import jsontext, logprobs, message
from deploy.local.engine.bodies import ChatCompletionRequest
from deploy.local.engine.deltas import DeltaWriter, Forms, finish_reason
from deploy.local.engine.generation import CONTENT, THOUGHT, Step
from deploy.local.engine.job import Record, Reply, rounds_of, stream_error


@dataclass(slots=True)
class ChatJob:
    """An answered chat."""

    reply: Reply
    body: ChatCompletionRequest
    prompt: list[int]
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

    def whole(self) -> bytes:
        """Return the reply's JSON."""
        reply, dialect = self.reply, self.reply.dialect
        wanted = self.body.prompt_logprobs
        listed = None if wanted is None else logprobs.of_prompt(self.prompt, wanted)
        thoughts = sum(map(count_thoughts, self.choices)) if reply.options.reasoning_parser else None
        usage = reply.usage(len(self.prompt), sum(map(len, self.choices)), thoughts)
        made: dict[str, Any] = {
            "id": reply.id,
            "object": "chat.completion",
            "created": reply.created,
            "model": reply.model,
            "choices": [self._choice(index, steps) for index, steps in enumerate(self.choices)],
        }
        if not dialect.since(0, 10):
            return jsontext.value({**made, "usage": usage, "prompt_logprobs": listed})
        made |= {
            "service_tier": None,
            "system_fingerprint": dialect.fingerprint,
            "usage": usage,
            "prompt_logprobs": listed,
            "prompt_token_ids": self.prompt if self.body.return_token_ids else None,
        }
        if dialect.since(0, 22):
            made["prompt_text"] = None
        made["kv_transfer_params"] = None
        if dialect.since(0, 26):
            made |= {"ec_transfer_params": None, "metrics": None}
        return jsontext.value(made)

    def _choice(self, index: int, steps: list[Step]) -> dict[str, Any]:
        dialect, body = self.reply.dialect, self.body
        said, called = message.of(steps, body, dialect)
        hidden = dialect.since(0, 26) and not body.include_reasoning
        listed = None
        if body.logprobs and not hidden:
            as_ids = bool(body.return_tokens_as_token_ids)
            listed = logprobs.of_chat(steps, 0, body.top_logprobs or 0, as_ids=as_ids)
        made: dict[str, Any] = {
            "index": index,
            "message": said,
            "logprobs": listed,
            "finish_reason": finish_reason(steps[-1].finish or "stop", body, dialect, called=called, streamed=False),
            "stop_reason": steps[-1].stop_reason,
        }
        if dialect.since(0, 10):
            made["token_ids"] = [step.token for step in steps] if body.return_token_ids and not hidden else None
        if dialect.since(0, 22):
            made["routed_experts"] = None
        if dialect.since(0, 33):
            made["weight_versions"] = None
        return made

    def records(self) -> Iterator[Record]:
        """Give the stream's records."""
        return _Stream(self).records()


class _Stream:
    """The chunks of one stream."""

    def __init__(self, job: ChatJob) -> None:
        self._job, self._body, self._reply = job, job.body, job.reply
        reply, dialect = job.reply, job.reply.dialect
        self._dialect = dialect
        forms = Forms.of(job.body, dialect, reply.options)
        self._writers = [
            DeltaWriter(job.body, dialect, reply.options, forms, index) for index in range(len(job.choices))
        ]
        self._nothing = forms.nothing
        self._head = b'{"id":%b,"object":"chat.completion.chunk","created":%d,"model":%b,"choices":[{"index":' % (
            jsontext.string(reply.id),
            reply.created,
            jsontext.string(reply.model),
        )
        self._ids = b',"token_ids":null' if dialect.since(0, 10) else b""
        self._tail = b',"kv_transfer_params":null}' if dialect.since(0, 33) else b"}"
        self._hidden = forms.hides_thoughts
        self._counts = job.body.return_token_ids and not self._hidden
        self._lists = bool(job.body.logprobs) and not self._hidden
        # The body of a chunk that has nothing but text, and so is the same around each text.
        self._plain_tail = b',"logprobs":null,"finish_reason":null%b}]%b' % (self._ids, self._tail)
        self._is_plain = not (self._lists or self._counts or reply.counts_always)
        self._content_heads = [b'%b%d,"delta":{"content":' % (self._head, index) for index in range(len(job.choices))]
        self._content_tail = forms.content_tail + self._plain_tail
        self._thoughts = [0] * len(job.choices)

    def records(self) -> Iterator[Record]:
        """Give the role of each choice, then all deltas as they come, then the usage."""
        job = self._job
        if job.fails_after == 0:
            yield 1, stream_error(self._dialect, chat=True)
            return
        for index in range(len(job.choices)):
            yield int(index == 0), self._role(index)
        due = 0
        last = 0
        for number, index, step in rounds_of(job.choices):
            if job.fails_after is not None and number >= job.fails_after:
                yield due + 1, stream_error(self._dialect, chat=True)
                return
            due, last = due + number - last, number
            for chunk in self._chunks(number, index, step):
                yield due, chunk
                due = 0
        if self._reply.includes_usage:
            yield due, self._usage()

    def _role(self, index: int) -> bytes:
        delta = b'{"role":"assistant","content":""'
        # From 0.11 to 0.15 the old field is copied into every delta.
        delta += b',"reasoning_content":null}' if len(self._dialect.reasoning_fields) > 1 else b"}"
        extra = b""
        if self._dialect.since(0, 10):
            ids = self._job.prompt if self._body.return_token_ids else None
            extra = b',"prompt_token_ids":' + jsontext.value(ids)
        if self._dialect.since(0, 22):
            extra += b',"prompt_text":null'
        return b'%b%d,"delta":%b,"logprobs":null,"finish_reason":null}]%b%b}' % (
            self._head,
            index,
            delta,
            self._usage_so_far(0, index),
            extra,
        )

    def _chunks(self, number: int, index: int, step: Step) -> list[bytes]:
        """Return a step's chunks: none while a parser has nothing to tell."""
        runs = step.runs
        if runs and runs[0].part.kind == CONTENT and self._is_plain and step.finish is None and len(runs) == 1:
            # By far the most common chunk: nothing around the text differs from the last one's.
            if runs[0].text:
                return [self._content_heads[index] + jsontext.string(runs[0].text) + self._content_tail]
        elif runs and runs[0].part.kind == THOUGHT:
            self._thoughts[index] += 1
        deltas = self._writers[index].write(step)
        if not deltas:
            if step.finish is None and not self._shows_silence():
                return []
            if step.finish is not None and not self._dialect.since(0, 10):
                return []  # 0.8.4 forgets to say why an answer ended if its last token was silent.
            deltas = [self._nothing]
        if step.finish is None and self._is_plain:
            head, tail = b'%b%d,"delta":' % (self._head, index), self._plain_tail
            return [head + delta + tail for delta in deltas]
        return [
            self._chunk(number, index, delta, step, last=place == len(deltas) - 1) for place, delta in enumerate(deltas)
        ]

    def _shows_silence(self) -> bool:
        """Whether a token without a delta has a chunk all the same, for what else the chunk tells."""
        if self._counts and self._dialect.since(0, 14):
            return True
        return self._lists and self._dialect.since(0, 27)

    def _chunk(self, number: int, index: int, delta: bytes, step: Step, *, last: bool) -> bytes:
        body = self._body
        listed = b"null"
        if self._lists and last:
            as_ids = bool(body.return_tokens_as_token_ids)
            listed = jsontext.value(logprobs.of_chat([step], number, body.top_logprobs or 0, as_ids=as_ids))
        ids = b',"token_ids":[%d]' % step.token if self._counts and last and self._ids else self._ids
        finish = b"null"
        fingerprint = b""
        if step.finish is not None and last:
            said = finish_reason(step.finish, body, self._dialect, called=self._writers[index].called, streamed=True)
            finish = b'%b,"stop_reason":%b' % (jsontext.string(said), jsontext.value(step.stop_reason))
            if self._dialect.since(0, 33):
                ids += b',"weight_versions":null'
            if not self._reply.includes_usage:
                fingerprint = self._reply.fingerprint()
        return b'%b%d,"delta":%b,"logprobs":%b,"finish_reason":%b%b}]%b%b%b' % (
            self._head,
            index,
            delta,
            listed,
            finish,
            ids,
            self._usage_so_far(number + 1, index),
            fingerprint,
            self._tail,
        )

    def _usage_so_far(self, completion: int, index: int) -> bytes:
        if not self._reply.counts_always:
            return b""
        details = b""
        if self._dialect.since(0, 27):
            counted = {"reasoning_tokens": self._thoughts[index]} if self._reply.options.reasoning_parser else None
            details = b',"completion_tokens_details":' + jsontext.value(counted)
        return b',"usage":' + self._reply.running_usage(len(self._job.prompt), completion) + details + b"}"

    def _usage(self) -> bytes:
        job, reply = self._job, self._reply
        details = b""
        if self._dialect.since(0, 27) and reply.options.reasoning_parser:
            details = b',"completion_tokens_details":{"reasoning_tokens":%d}' % sum(self._thoughts)
        usage = reply.running_usage(len(job.prompt), sum(map(len, job.choices))) + details + b"}"
        start = self._head[: self._head.rindex(b'{"index":')]
        return b'%b],"usage":%b%b}' % (start, usage, reply.fingerprint())


def count_thoughts(steps: list[Step]) -> int:
    """Return how many tokens of an answer were thoughts."""
    return sum(1 for step in steps if step.runs and step.runs[0].part.kind == THOUGHT)
