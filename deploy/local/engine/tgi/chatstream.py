"""The chunks of a chat's stream: text as it comes, tool calls as the release takes them out of the model's JSON.

https://github.com/huggingface/text-generation-inference: router/src/chat.rs (3.2 on), router/src/server.rs (before)
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from deploy.local.engine import jsontext
from deploy.local.engine.job import Record
from deploy.local.engine.tgi import openai
from deploy.local.engine.tgi.answers import Answer
from deploy.local.engine.tgi.chatjob import ChatJob
from deploy.local.engine.tgi.errors import SHARD_DIED, failed
from deploy.local.engine.tgi.toolcalls import NO_TOOL

Json = dict[str, Any]

_NAMED = re.compile(r'\{"function":\{"_name":"([^"]+)"')
_CONTENT = '"content":"'
_OPEN_END = " \t\r\n,}"


def records(job: ChatJob) -> Iterator[Record]:
    """Give a chat's chunks, or its error, which some releases leave out."""
    release = job.inference.release
    error = job.error
    if error is None:
        chunks = _Chunks(job)
        waiting = 0
        for answer in (job.answer, job.instead):
            if answer is None:
                continue
            writer = _writer(job, chunks, tools=job.tools and answer is job.answer)
            for place in range(len(answer.said)):
                waiting += 1
                if answer.fails_after == place:
                    error = failed(SHARD_DIED)
                    break
                for chunk in writer.push(answer, place):
                    yield waiting, chunk
                    waiting = 0
                if writer.ended:
                    break
    if error is not None and not release.swallows_errors:
        yield int(job.error is None), openai.stream_error(error, release)


class _Chunks:
    """Writes chunks."""

    def __init__(self, job: ChatJob) -> None:
        self.job = job
        self.release = job.inference.release
        options = job.body.get("stream_options")
        self.wants_usage = bool(options and options["include_usage"])
        self._call_id = job.call_id()

    def chunk(
        self, answer: Answer, place: int, text: str, *, tool: bool, name: str | None = None, bare: bool = False
    ) -> bytes:
        """Return the chunk of a token, whose text may not be what is told of it; a `bare` one is only text."""
        last = place == len(answer.said) - 1 and not bare
        choice = {
            "index": 0,
            "delta": self._delta(answer, place, text, tool=tool, name=name),
            "logprobs": None,
            "finish_reason": openai.finish_reason(answer, self.release) if last else None,
        }
        if self.job.body["logprobs"] and not bare:
            listed = openai.logprobs(answer, [place], self.job.top)
            listed["content"][0]["token"] = text
            choice["logprobs"] = listed
        made = self.job.head("chat.completion.chunk") | {"choices": [choice]}
        if self.release.counts_in_streams:
            here = last and self.wants_usage and not self.release.usage_apart
            made["usage"] = openai.usage([answer]) if here else None
        return jsontext.value(made)

    def usage(self, answer: Answer) -> bytes:
        """Return the chunk that has nothing but the counts."""
        made = self.job.head("chat.completion.chunk") | {"choices": []}
        return jsontext.value(made | {"usage": openai.usage([answer])})

    def _delta(self, answer: Answer, place: int, text: str, *, tool: bool, name: str | None) -> Json:
        release = self.release
        if answer.said[place].special and release.since(2, 2) and (not tool or release.openai_calls):
            return {"role": "assistant", "content": ""}
        if not tool:
            return {"role": "assistant", "content": text}
        call = {
            "index": 0,
            "id": self._call_id,
            "type": "function",
            "function": {"name": name, "arguments": text},
        }
        return {"role": "assistant", "tool_calls": [call] if release.openai_calls else call}


class _Plain:
    """Every token is a chunk: text, or up to 2.3 a piece of a tool call with all its markup."""

    ended = False

    def __init__(self, chunks: _Chunks, *, tool: bool) -> None:
        self._chunks, self._tool = chunks, tool

    def push(self, answer: Answer, place: int) -> Iterator[bytes]:
        """Give the chunks of a token."""
        yield self._chunks.chunk(answer, place, answer.said[place].text, tool=self._tool)
        yield from _usage(self._chunks, answer, place)


class _Regex:
    """2.4 to 3.1: all is held back until the tool's name is known, and then sent as it is, markup and all."""

    def __init__(self, chunks: _Chunks) -> None:
        self._chunks = chunks
        self._state = "buffering"
        self._held: list[int] = []
        self._json = ""
        self._as_tool = True
        self.ended = False

    def push(self, answer: Answer, place: int) -> Iterator[bytes]:
        """Give the chunks of a token."""
        text = answer.said[place].text
        if self._state == "buffering":
            self._json += text.replace(" ", "")
            self._held.append(place)
            found = _NAMED.search(self._json)
            if found is None:
                return
            if found[1] == NO_TOOL:
                self._state, self._as_tool, self._json = "trailing", False, ""
            else:
                self._state = "content"
                for held in self._held:
                    yield self._chunks.chunk(answer, held, answer.said[held].text, tool=True)
        elif self._state == "trailing":
            self._json += text.replace(" ", "")
            _, begun, rest = self._json.partition(_CONTENT)
            if not begun:
                return
            if rest:
                yield self._chunks.chunk(answer, place, rest, tool=False, bare=True)
            self._state = "quoted"
        elif self._state == "quoted" and '"' in text:
            self.ended = True
        else:
            yield self._chunks.chunk(answer, place, text, tool=self._as_tool)


class _Parsed:
    """From 3.2 on: a call's first chunk has its name and a brace, the others the pieces of its arguments.

    Once the JSON is complete nothing more is sent, the reason why the answer ended included.
    """

    ended = False

    def __init__(self, chunks: _Chunks) -> None:
        self._chunks = chunks
        self._text = ""
        self._inside = False

    def push(self, answer: Answer, place: int) -> Iterator[bytes]:
        """Give the chunks of a token."""
        text = answer.said[place].text
        self._text += text
        if not self._inside:
            name = _called(self._text.rstrip(_OPEN_END) + "}}")
            if name == NO_TOOL:
                self.ended = True
                return
            if name is not None:
                self._inside = True
                yield self._chunks.chunk(answer, place, "{", tool=True, name=name)
        else:
            if _called(self._text) is not None:
                self._inside = False
                text = text.rstrip()
                text = text[:-1] if text.endswith("}") else text
            yield self._chunks.chunk(answer, place, text, tool=True)
        yield from _usage(self._chunks, answer, place)


def _writer(job: ChatJob, chunks: _Chunks, *, tools: bool) -> _Plain | _Regex | _Parsed:
    release = job.inference.release
    if not tools:
        return _Plain(chunks, tool=False)
    if release.openai_calls:
        return _Parsed(chunks)
    return _Regex(chunks) if release.can_decline else _Plain(chunks, tool=True)


def _usage(chunks: _Chunks, answer: Answer, place: int) -> Iterator[bytes]:
    if chunks.wants_usage and chunks.release.usage_apart and place == len(answer.said) - 1:
        yield chunks.usage(answer)


def _called(text: str) -> str | None:
    """Return the tool that a complete JSON text calls, or None if it is none."""
    try:
        read = json.loads(text)
    except ValueError:
        return None
    function = read.get("function") if isinstance(read, dict) else None
    name = function.get("_name") if isinstance(function, dict) else None
    return name if isinstance(name, str) else None
