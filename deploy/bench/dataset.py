"""Prompts from a file: JSON lines of {messages | prompt, max_tokens}, or conversations as in ShareGPT's files.

https://huggingface.co/datasets/anon8231489123/ShareGPT_Vicuna_unfiltered is of the latter kind: one JSON list of
{"conversations": [{"from": "human", "value": "…"}, {"from": "gpt", "value": "…"}]}.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import msgspec

from deploy.bench.answers import CHARACTERS_PER_TOKEN

MAX_FILE_BYTES = 1 << 30


class BadFile(Exception):
    """The file cannot be used; the text is for the user, and holds nothing of the file."""


class Entry(msgspec.Struct, frozen=True):
    """One call of the file: `messages` or `prompt`."""

    messages: list[dict[str, object]] | None = None
    prompt: str | None = None
    max_tokens: int | None = None


class _Turn(msgspec.Struct):
    value: str
    speaker: str = msgspec.field(name="from")


class _Row(msgspec.Struct):
    messages: list[dict[str, object]] | None = None
    prompt: str | None = None
    max_tokens: int | None = None
    conversations: list[_Turn] | None = None


_row = msgspec.json.Decoder(_Row)
_rows = msgspec.json.Decoder(list[_Row])


def read(path: Path) -> list[Entry]:
    """Return the file's calls, in its order; conversations without a question and an answer are left out.

    Raises:
        BadFile: it cannot be read, a line of it is wrong, or nothing of it is left.
    """
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise BadFile(f"{path}: larger than 1 GiB")
        data = path.read_bytes()
    except OSError as error:
        raise BadFile(f"{path}: {error.strerror}") from None
    if data.lstrip().startswith(b"["):
        try:
            rows = _rows.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise BadFile(f"{path}: not a JSON list of calls: {error}") from None
        found = [entry for number, row in enumerate(rows, 1) if (entry := _entry(row, f"{path}: entry {number}"))]
    else:
        found = [entry for number, line in enumerate(data.splitlines(), 1) if (entry := _line(line, path, number))]
    if not found:
        raise BadFile(f"{path}: no call in it")
    return found


def _line(line: bytes, path: Path, number: int) -> Entry | None:
    if not line.strip():
        return None
    where = f"{path}: line {number}"
    try:
        row = _row.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadFile(f"{where}: {error}") from None
    return _entry(row, where)


def _entry(row: _Row, where: str) -> Entry | None:
    if row.max_tokens is not None and row.max_tokens < 1:
        raise BadFile(f"{where}: max_tokens is below 1")
    if row.conversations is not None:
        return _from_conversation(row.conversations, row.max_tokens)
    if (row.messages is None) == (row.prompt is None):
        raise BadFile(f"{where}: needs messages, prompt or conversations, and only one of them")
    if row.messages == []:
        raise BadFile(f"{where}: messages is empty")
    return Entry(row.messages, row.prompt, row.max_tokens)


def _from_conversation(turns: list[_Turn], max_tokens: int | None) -> Entry | None:
    """Return the first question, asking for an answer about as long as the one in the file."""
    for question, answer in pairwise(turns):
        if question.speaker in ("human", "user") and answer.speaker in ("gpt", "assistant", "chatgpt", "bing", "bard"):
            if not question.value.strip() or not answer.value.strip():
                continue
            length = max_tokens or max(1, len(answer.value) // CHARACTERS_PER_TOKEN)
            return Entry(None, question.value, length)
    return None
