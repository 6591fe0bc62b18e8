"""Server-sent events, incrementally: bytes in, payloads out.

https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream
"""

from __future__ import annotations

_BOM = b"\xef\xbb\xbf"


class EventSplitter:
    """Cuts an event stream into the data of its events.

    Comments and the fields `event`, `id` and `retry` are dropped: no container gives them a meaning. A stream that
    ends inside an event still gives its data, since a last record without its blank line is a known fault of proxies.
    """

    __slots__ = (
        "_after_cr",
        "_limit",
        "_partial",
        "_partial_bytes",
        "_start",
        "_value_bytes",
        "_values",
        "line_breaks",
        "too_long",
    )

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._partial: list[bytes] = []
        """Pieces of a line whose end has not come; joined once, so a long line in small chunks costs linear time."""
        self._partial_bytes = 0
        self._values: list[bytes] = []
        """Values of the data lines of an event whose end has not come."""
        self._value_bytes = 0
        self._after_cr = False
        """The last byte was a CR: a LF at the start of the next chunk belongs to it."""
        self._start: bytes | None = b""
        """The first bytes, until a byte order mark can be told from data; None afterwards."""
        self.line_breaks = False
        """Some payload holds a line break, as an event of several data lines does: it is no data line as it stands."""
        self.too_long = False
        """An event's data lines, or another line, exceeded `limit_bytes`; it and what follows it is ignored."""

    def feed(self, chunk: bytes) -> list[bytes]:
        """Return the payloads completed by `chunk`, oldest first; it may be cut anywhere, even inside a character."""
        if self._start is not None:
            chunk = self._without_bom(chunk)
        if self._after_cr or b"\r" in chunk:
            chunk = self._with_line_feeds(chunk)
        payloads: list[bytes] = []
        if self._partial or self._values:
            chunk = self._finish_event(chunk, payloads)
        if chunk.startswith(b"data: "):
            chunk = self._take_plain_events(chunk, payloads)
        if chunk and not self.too_long:
            *lines, rest = chunk.split(b"\n")
            for line in lines:
                self._take_line(line, payloads)
                if self.too_long:
                    return payloads
            self._keep(rest)
        return payloads

    def end(self) -> list[bytes]:
        """Return the data of an event that was never ended, if any; nothing may be fed afterwards."""
        payloads: list[bytes] = []
        if self._start:
            self._keep(self._start)
        if self._partial and not self.too_long:
            self._take_line(self._whole_line(b""), payloads)
        if self._values and not self.too_long:
            self._dispatch(payloads)
        return payloads

    def _take_plain_events(self, chunk: bytes, payloads: list[bytes]) -> bytes:
        """Take the events at the start of `chunk` if each is one `data: ` line and nothing else; return the rest."""
        end = chunk.rfind(b"\n\n")
        if end < 0 or self.too_long:
            return chunk
        events = chunk[6:end].split(b"\n\ndata: ")
        if chunk.count(b"\n", 0, end) != 2 * (len(events) - 1):
            return chunk  # some line break is not part of a separator
        if end > self._limit and max(map(len, events)) + 6 > self._limit:
            return chunk
        payloads += events
        return chunk[end + 2 :]

    def _finish_event(self, chunk: bytes, payloads: list[bytes]) -> bytes:
        """Take the lines up to the end of the pending event; return the rest."""
        position = 0
        while not self.too_long:
            end = chunk.find(b"\n", position)
            if end < 0:
                self._keep(chunk[position:])
                return b""
            self._take_line(self._whole_line(chunk[position:end]), payloads)
            position = end + 1
            if not self._values:
                return chunk[position:]
        return b""

    def _take_line(self, line: bytes, payloads: list[bytes]) -> None:
        if not line:
            if self._values:
                self._dispatch(payloads)
        elif line.startswith(b"data:") or line == b"data":
            self._value_bytes += len(line)
            self.too_long = self._value_bytes > self._limit
            self._values.append(line[6:] if line.startswith(b"data: ") else line[5:])
        else:
            self.too_long = len(line) > self._limit

    def _dispatch(self, payloads: list[bytes]) -> None:
        if len(self._values) > 1:
            self.line_breaks = True
        payloads.append(b"\n".join(self._values))
        self._values.clear()
        self._value_bytes = 0

    def _keep(self, piece: bytes) -> None:
        if piece:
            self._partial.append(piece)
            self._partial_bytes += len(piece)
            self.too_long = self._partial_bytes > self._limit

    def _whole_line(self, last_piece: bytes) -> bytes:
        if not self._partial:
            return last_piece
        self._partial.append(last_piece)
        line = b"".join(self._partial)
        self._partial.clear()
        self._partial_bytes = 0
        return line

    def _without_bom(self, chunk: bytes) -> bytes:
        start = (self._start or b"") + chunk
        if len(start) < len(_BOM) and _BOM.startswith(start):
            self._start = start
            return b""
        self._start = None
        return start.removeprefix(_BOM)

    def _with_line_feeds(self, chunk: bytes) -> bytes:
        """Turn CR LF and lone CR into LF."""
        if not chunk:
            return chunk
        continued = self._after_cr and chunk.startswith(b"\n")
        self._after_cr = chunk.endswith(b"\r")
        if continued:
            chunk = chunk[1:]
        return chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
