"""A caller on a plain socket: it sends exactly the bytes it is told to, and reads answers by the letter of RFC 9112."""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from tests.support.stack import KEY

CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"
TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer as it came."""

    status: int
    headers: tuple[tuple[str, str], ...]
    """Names in lower case."""
    body: bytes
    complete: bool
    """The body reached the end it announced; a connection that ended before is False."""
    interim: tuple[int, ...] = ()
    """Statuses of the 1xx answers before it."""

    def header(self, name: str) -> str | None:
        """Return a header's value, None if it is absent; twice the same name is a fault of the answer."""
        values = [value for known, value in self.headers if known == name]
        assert len(values) <= 1, values
        return values[0] if values else None

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        """The members of OpenAI's error envelope, checked for its shape."""
        return envelope(self.body)

    @property
    def code(self) -> str:
        return str(self.error["code"])

    @property
    def text(self) -> str:
        """What a whole chat completion says."""
        content = self.json["choices"][0]["message"]["content"]
        assert isinstance(content, str)
        return content

    @property
    def events(self) -> list[bytes]:
        """The events of a stream, without comments; each is one data line, or the stream is broken."""
        return events(self.body)

    @property
    def last_error(self) -> dict[str, Any]:
        """The error event a failed stream ends with."""
        assert (self.status, self.complete) == (200, True), (self.status, self.complete, self.body)
        return envelope(self.events[-1])


def envelope(text: bytes) -> dict[str, Any]:
    document = json.loads(text)
    assert list(document) == ["error"], document
    error = document["error"]
    assert list(error) == ["message", "type", "param", "code"], error
    assert all(isinstance(error[name], str) for name in ("message", "type", "code")), error
    assert error["param"] is None or isinstance(error["param"], str), error
    return dict(error)


def events(body: bytes) -> list[bytes]:
    found = []
    pieces = body.split(b"\n\n")
    assert pieces.pop() == b"", f"the stream ends inside an event: {body[-200:]!r}"
    for piece in pieces:
        assert b"\n" not in piece, piece
        assert b"\r" not in piece, piece
        if not piece.startswith(b":"):
            assert piece.startswith(b"data: "), piece
            found.append(piece[6:])
    return found


class NoAnswer(AssertionError):
    """The connection ended before the head of an answer did."""


class Caller:
    """One connection to the gateway."""

    def __init__(self, port: int, *, receive_buffer_bytes: int | None = None, timeout_s: float = TIMEOUT_S) -> None:
        self.socket = socket.socket()
        if receive_buffer_bytes is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
        self.socket.settimeout(timeout_s)
        self.socket.connect(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._received = bytearray()
        self.eof = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    # What is sent

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def half_close(self) -> None:
        """Close the writing half, and go on reading."""
        self.socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self.socket.close()

    def reset(self) -> None:
        """Close with RST instead of FIN."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    # What comes back

    def answer(self, *, to: str = "POST") -> Answer:
        """Read one answer to its end; `to` is the request's method.

        Raises:
            NoAnswer: the connection ended before it began.
        """
        interim: list[int] = []
        while True:
            status, headers = self.head()
            if status >= 200:
                break
            interim.append(status)
        known = dict(headers)
        if to == "HEAD" or status in (204, 304):
            body, complete = b"", True
        elif known.get("transfer-encoding") == "chunked":
            assert "content-length" not in known
            body, complete = self._chunks()
        elif "content-length" in known:
            length = int(known["content-length"])
            complete = self._fill(length)
            body = self._take(length)
        else:
            assert known.get("connection") == "close", "nothing says where the body ends"
            body, complete = self.rest(), True
        return Answer(status, headers, body, complete, tuple(interim))

    def head(self) -> tuple[int, tuple[tuple[str, str], ...]]:
        """Read one head: the status and the headers."""
        while (end := self._received.find(b"\r\n\r\n")) < 0:
            if not self._read():
                raise NoAnswer(f"only {bytes(self._received)!r} came")
        lines = self._take(end + 4)[:-4].decode("latin-1").split("\r\n")
        version, status, _ = lines[0].split(" ", 2)
        assert version == "HTTP/1.1", lines[0]
        headers = []
        for line in lines[1:]:
            name, separator, value = line.partition(": ")
            assert separator, line
            assert name == name.strip(), line
            assert not any(character < " " or character == "\x7f" for character in line), repr(line)
            headers.append((name.lower(), value))
        return int(status), tuple(headers)

    def stream_head(self) -> tuple[int, tuple[tuple[str, str], ...]]:
        """Read the head of an answer, past interim ones."""
        while True:
            status, headers = self.head()
            if status >= 200:
                return status, headers

    def until(self, mark: bytes) -> bytes:
        """Read until `mark` has come and return everything read up to it, framing included."""
        while (end := self._received.find(mark)) < 0:
            if not self._read():
                raise NoAnswer(f"{mark!r} never came, only {bytes(self._received)!r}")
        return self._take(end + len(mark))

    def rest(self) -> bytes:
        """Read until the connection ends, by FIN or RST, and return what came."""
        while self._read():
            pass
        return self._take(len(self._received))

    def _chunks(self) -> tuple[bytes, bool]:
        body = bytearray()
        while True:
            while (end := self._received.find(b"\r\n")) < 0:
                if not self._read():
                    return bytes(body), False
            size = int(self._take(end + 2), 16)
            if not self._fill(size + 2):
                return bytes(body) + self._take(size), False
            chunk = self._take(size + 2)
            assert chunk.endswith(b"\r\n"), chunk[-20:]
            if size == 0:
                return bytes(body), True
            body += chunk[:-2]

    def _fill(self, size: int) -> bool:
        while len(self._received) < size:
            if not self._read():
                return False
        return True

    def _take(self, size: int) -> bytes:
        data = bytes(self._received[:size])
        del self._received[:size]
        return data

    def _read(self) -> bool:
        if self.eof:
            return False
        try:
            data = self.socket.recv(1 << 18)
        except ConnectionResetError:
            data = b""
        self.eof = not data
        self._received += data
        return bool(data)


def request(
    method: str,
    path: str,
    body: bytes | Mapping[str, Any] | None = None,
    *,
    key: str | None = KEY,
    headers: Mapping[str, str] | None = None,
) -> bytes:
    """Return the bytes of an ordinary request; a header of None's place in `headers` is left out."""
    data = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = {"host": "gateway.test"}
    if key is not None:
        lines["authorization"] = f"Bearer {key}"
    if body is not None:
        lines |= {"content-type": "application/json", "content-length": str(len(data))}
    lines |= dict(headers or {})
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode("latin-1") + data


def chat(model: str, text: str = "hello", **options: Any) -> dict[str, Any]:
    """Return the body of a chat completion; a small `max_tokens` makes a whole reply one InvokeEndpoint."""
    return {"model": model, "messages": [{"role": "user", "content": text}], "max_tokens": 1000, **options}


def prompt_of(path: str, text: str) -> dict[str, Any]:
    """Return the fields that ask for something on one of the two paths."""
    if path == CHAT:
        return {"messages": [{"role": "user", "content": text}], "max_tokens": 1000}
    return {"prompt": text, "max_tokens": 1000}


def ask(port: int, body: bytes | Mapping[str, Any], *, path: str = CHAT, **options: Any) -> Answer:
    """Post `body` on a connection of its own."""
    with Caller(port) as caller:
        caller.send(request("POST", path, body, **options))
        return caller.answer()


def get(port: int, path: str, **options: Any) -> Answer:
    with Caller(port) as caller:
        caller.send(request("GET", path, **options))
        return caller.answer()
