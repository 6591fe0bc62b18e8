"""JSON lines, incrementally: bytes in, lines out.

LMI streams them instead of server-sent events and ends with a blank line, so blank lines are reported.
djl-serving engines/python/setup/djl_python/lmi_vllm/request_response_utils.py, vllm_stream_output_formatter
"""

from __future__ import annotations


class LineSplitter:
    """Cuts a reply into its lines, without their LF or CR LF."""

    __slots__ = ("_limit", "_partial", "_partial_bytes", "line_breaks", "too_long")

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._partial: list[bytes] = []
        """Pieces of a line whose end has not come; joined once, so a long line in small chunks costs linear time."""
        self._partial_bytes = 0
        self.line_breaks = False
        """Some line holds a lone CR, which server-sent events take for a line break."""
        self.too_long = False
        """A line exceeded `limit_bytes`; it and what follows it is ignored."""

    def feed(self, chunk: bytes) -> list[bytes]:
        """Return the lines completed by `chunk`, oldest first; a blank line is `b""`. Chunks may be cut anywhere."""
        if self.too_long:
            return []
        end = chunk.rfind(b"\n")
        if end < 0:
            self._keep(chunk)
            return []
        lines = chunk[:end].split(b"\n")
        if self._partial:
            lines[0] = self._whole_line(lines[0])
        if (end > self._limit or len(lines[0]) > self._limit) and max(map(len, lines)) > self._limit:
            self.too_long = True
            lines = lines[: next(number for number, line in enumerate(lines) if len(line) > self._limit)]
        else:
            self._keep(chunk[end + 1 :])
        if b"\r" in chunk or (lines and b"\r" in lines[0]):
            lines = [line.removesuffix(b"\r") for line in lines]
            self.line_breaks |= any(b"\r" in line for line in lines)
        return lines

    def end(self) -> list[bytes]:
        """Return a last line that was never ended, if any; nothing may be fed afterwards."""
        line = self._whole_line(b"").removesuffix(b"\r")
        self.line_breaks |= b"\r" in line
        return [line] if line and not self.too_long else []

    def _keep(self, piece: bytes) -> None:
        if piece:
            self._partial.append(piece)
            self._partial_bytes += len(piece)
            self.too_long = self._partial_bytes > self._limit

    def _whole_line(self, last_piece: bytes) -> bytes:
        line = b"".join((*self._partial, last_piece))
        self._partial.clear()
        self._partial_bytes = 0
        return line
