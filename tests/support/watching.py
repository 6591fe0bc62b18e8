"""Looks at every answer of the gateway's OpenAI API that any HTTP client of this process reads, and checks its body.

with watching() as watch:
    …                             # any calls, with the official clients of either major version, or with httpx
assert watch.problems == []       # each says which field of which call is not as OpenAI has it
"""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import httpx
import pytest

from tests.support.openai_schema import Kind, problems_of

try:
    import httpx2  # the official client's own, from its version 3 on
except ImportError:
    CLIENTS: tuple[Any, ...] = (httpx,)
else:
    CLIENTS = (httpx, httpx2)

_CHAT, _COMPLETIONS, _MODELS = "/v1/chat/completions", "/v1/completions", "/v1/models"
_CHUNKS: dict[str, Kind] = {_CHAT: "chunk", _COMPLETIONS: "completion chunk"}
_WHOLE: dict[str, Kind] = {_CHAT: "chat", _COMPLETIONS: "completion", _MODELS: "models"}


class Watch:
    """What has been seen so far."""

    def __init__(self) -> None:
        self.problems: list[str] = []
        self.seen: Counter[Kind] = Counter()

    def check(self, kind: Kind, text: bytes, call: str) -> None:
        """Check one body or event; `call` says in a problem whose it is."""
        self.seen[kind] += 1
        try:
            body = json.loads(text)
        except ValueError as error:
            self.problems.append(f"{call}: not JSON: {error}: {text[:200]!r}")
        else:
            self.problems += [f"{call}: {kind}: {problem}" for problem in problems_of(kind, body)]


class Answer:
    """One answer, fed as it is read; a stream is checked event by event, so what is left unread does not matter."""

    def __init__(self, watch: Watch, request: Any, response: Any) -> None:
        self._watch = watch
        self._path: str = request.url.path
        self._status: int = response.status_code
        self._streams = response.headers.get("content-type", "").startswith("text/event-stream")
        self._has_body = request.method != "HEAD"
        self._events = 0
        self._data = b""
        self._call = f"{request.method} {self._path} {_body_of(request)} -> {self._status}"

    def feed(self, data: bytes) -> None:
        self._data += data
        if self._streams:
            *events, self._data = self._data.split(b"\n\n")
            for event in events:
                self._take(event)

    def end(self) -> None:
        if self._streams:
            if self._data:
                self._watch.problems.append(f"{self._call}: cut inside an event: {self._data[:200]!r}")
        elif self._has_body and (kind := self._kind()) is not None:
            self._watch.check(kind, self._data, self._call)

    def _kind(self) -> Kind | None:
        if self._status >= 400:
            return "error"
        return "model" if self._path.startswith(f"{_MODELS}/") else _WHOLE.get(self._path)

    def _take(self, event: bytes) -> None:
        if event.startswith(b":"):
            return
        self._events += 1
        call = f"{self._call}, event {self._events}"
        if not event.startswith(b"data: ") or b"\n" in event:
            self._watch.problems.append(f"{call}: not one line of data: {event[:200]!r}")
        elif event != b"data: [DONE]" and self._path in _CHUNKS:
            kind: Kind = "error" if event.startswith(b'data: {"error":') else _CHUNKS[self._path]
            self._watch.check(kind, event[6:], call)


def _body_of(request: Any) -> str:
    try:
        return str(request.content[:300].decode(errors="replace"))
    except (httpx.RequestNotRead, RuntimeError):  # a body that is made while it is sent
        return "(streamed)"


@contextlib.contextmanager
def watching() -> Iterator[Watch]:
    """Watch every HTTP client of this process, those that exist already included."""
    watch = Watch()
    with pytest.MonkeyPatch.context() as patch:
        for library in CLIENTS:
            read_by = _reader(library)
            for name, handle in (("HTTPTransport", _handler), ("AsyncHTTPTransport", _async_handler)):
                transport = getattr(library, name)
                method = "handle_request" if handle is _handler else "handle_async_request"
                patch.setattr(transport, method, handle(watch, getattr(transport, method), read_by))
        yield watch


def _handler(watch: Watch, original: Callable[..., Any], read_by: Callable[..., Any]) -> Callable[..., Any]:
    def handle_request(self: Any, request: Any) -> Any:
        return _watched(watch, request, original(self, request), read_by)

    return handle_request


def _async_handler(watch: Watch, original: Callable[..., Any], read_by: Callable[..., Any]) -> Callable[..., Any]:
    async def handle_async_request(self: Any, request: Any) -> Any:
        return _watched(watch, request, await original(self, request), read_by)

    return handle_async_request


def _watched(watch: Watch, request: Any, response: Any, read_by: Callable[..., Any]) -> Any:
    if request.url.path.startswith("/v1/"):
        response.stream = read_by(response.stream, Answer(watch, request, response))
    return response


def _reader(library: Any) -> type[Any]:
    """Return a body that tells an Answer what is read of it; a library takes only streams of its own classes."""

    class Read(library.SyncByteStream, library.AsyncByteStream):  # type: ignore[misc]  # of a module chosen at run time
        def __init__(self, stream: Any, answer: Answer) -> None:
            self._stream, self._answer = stream, answer

        def __iter__(self) -> Iterator[bytes]:
            for data in self._stream:
                self._answer.feed(data)
                yield data
            self._answer.end()

        async def __aiter__(self) -> AsyncIterator[bytes]:
            async for data in self._stream:
                self._answer.feed(data)
                yield data
            self._answer.end()

        def close(self) -> None:
            self._stream.close()

        async def aclose(self) -> None:
            await self._stream.aclose()

    return Read
