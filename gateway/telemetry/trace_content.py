"""What a traced call asks for: settings as numbers, and, only where that is switched on, its prompt.

A prompt is bounded when it is taken from the call and rid of secrets later, off the event loop, by patterns: what they
do not know stays in. Shape of messages: https://github.com/open-telemetry/semantic-conventions-genai,
docs/gen-ai/client-inference.md, `gen_ai.input.messages`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import islice
from typing import Any

from adapters.base import Call

Value = str | bool | int | float

MAX_TOTAL_CHARS = 32_768
"""Of one call's prompt; from the newest message back, what does not fit any more is left out."""
MAX_MESSAGES = 64
MAX_NAME_CHARS = 256
SLACK_CHARS = 512
"""Read beyond a cut, so that a secret across it is recognised whole."""
MARK = "[redacted]"
CUT = "[cut]"

NUMBERS: dict[str, tuple[str, type[int] | type[float]]] = {
    "temperature": ("gen_ai.request.temperature", float),
    "top_p": ("gen_ai.request.top_p", float),
    "top_k": ("gen_ai.request.top_k", int),
    "frequency_penalty": ("gen_ai.request.frequency_penalty", float),
    "presence_penalty": ("gen_ai.request.presence_penalty", float),
    "seed": ("gen_ai.request.seed", int),
}
"""Field of a call → the attribute it becomes, and its type there."""
_INT64 = range(-(1 << 63), 1 << 63)

SECRETS: dict[str, str] = {
    "data": r"data:[A-Za-z0-9.+/;=_-]{0,128},(?P<data>[^\s\"'<>)]+)",
    "bearer": r"\b(?i:bearer|basic)\s{1,8}(?P<bearer>[A-Za-z0-9._~+/=-]{8,})",
    "named": (
        r"(?i:passw(?:or)?d|secret|token|api[_-]?key|access[_-]?key(?:[_-]id)?|credential|signature|\bsig)"
        r"\\?[\"']?\s{0,4}[:=]\s{0,4}\\?[\"']?(?P<named>(?:(?i:bearer|basic)\s{1,8})?[^\s\"',;&]{4,})"
    ),
    "userinfo": r"://(?P<userinfo>[^\s/@:]{1,256}:[^\s/@]{1,256})@",
    "key": r"(?<![A-Za-z0-9])(?P<key>(?:sk|pk|rk)[-_][A-Za-z0-9_-]{8,})",
    "aws": r"(?<![A-Za-z0-9])(?P<aws>(?:AKIA|ASIA|AROA|AIDA)[A-Z0-9]{12,})",
    "service": (
        r"(?P<service>github_pat_\w{20,}|gh[pousr]_\w{20,}|glpat-[\w-]{16,}|xox[abeoprs]-[\w-]{10,}"
        r"|AIza[\w-]{30,}|hf_\w{16,})"
    ),
    "jwt": r"(?P<jwt>eyJ[\w-]{8,}(?:\.[\w-]+){0,2})",
    "pem": r"(?P<pem>-----BEGIN [A-Z ]{0,32}PRIVATE KEY-----(?:(?!-----END)[\s\S])*)",
    "email": r"(?<![\w.+-])(?P<email>[\w.+-]{1,64}@[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63}){1,8})",
}
"""What is taken out of a prompt: in each pattern the group of its name."""
_SECRET = re.compile("|".join(SECRETS.values()))


class Asked:
    """What a sampled call asks for. No dataclass, and without a repr of its parts: a log must not print a prompt."""

    __slots__ = ("_messages", "attributes", "max_chars")

    def __init__(self, attributes: dict[str, Value], messages: list[dict[str, Any]], max_chars: int) -> None:
        self.attributes = attributes
        self._messages = messages
        self.max_chars = max_chars

    def content(self) -> str | None:
        """Return the prompt as JSON, without secrets; None where content is not recorded."""
        if not self._messages:
            return None
        messages = [_redacted(message, self.max_chars) for message in self._messages]
        return json.dumps(messages, ensure_ascii=True)

    def __repr__(self) -> str:
        return "Asked(...)"


def asked(call: Call, content_chars: int | None) -> Asked:
    """Return what `call` asks for, with `content_chars` characters of each of its texts; None keeps no text at all."""
    values = call.values
    settings = values.get("parameters")
    settings = settings if isinstance(settings, dict) else values  # TGI's own calls keep them one level down
    attributes: dict[str, Value] = {"gen_ai.request.model": call.model}
    if call.stream:
        attributes["gen_ai.request.stream"] = True
    if call.max_tokens is not None:
        attributes["gen_ai.request.max_tokens"] = call.max_tokens
    if call.choices != 1:
        attributes["gen_ai.request.choice.count"] = call.choices
    for field, (name, kind) in NUMBERS.items():
        value = settings.get(field)
        # A whole number may have as many digits as its caller likes: more than OTLP, or a float, can hold.
        if isinstance(value, float) and kind is float:
            attributes[name] = value
        elif isinstance(value, int | float) and not isinstance(value, bool) and value in _INT64:
            attributes[name] = kind(value)
    messages = [] if content_chars is None else _bounded(_prompt(values), content_chars)
    return Asked(attributes, messages, content_chars or 0)


def redact(text: str, max_chars: int) -> str:
    """Return the beginning of `text`, up to `max_chars` of its characters, without what looks like a secret."""
    window = text[: max_chars + SLACK_CHARS]
    parts, at = [], 0
    for found in _SECRET.finditer(window):
        if found.start() >= max_chars:
            break
        start, end = found.span(found.lastgroup or 0)
        parts += [window[at:start], MARK]
        at = end
    parts.append(window[at : max(max_chars, at)])
    return "".join(parts) + (CUT if len(text) > max_chars else "")


def _prompt(values: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the messages of a call in the conventions' shape, the newest first, with texts as they are."""
    messages = values.get("messages")
    if isinstance(messages, list):
        for message in reversed(messages):
            if isinstance(message, dict):
                yield {"role": str(message.get("role", "")), "parts": list(islice(_parts(message), MAX_MESSAGES))}
        return
    prompt = values.get("prompt", values.get("inputs"))
    prompts = prompt if isinstance(prompt, list) else [prompt]
    for text in reversed(prompts[:MAX_MESSAGES]):
        if isinstance(text, str):  # ids of tokens are no text
            yield {"role": "user", "parts": [{"type": "text", "content": text}]}


def _parts(message: dict[str, Any]) -> Iterator[dict[str, str]]:
    content = message.get("content")
    if isinstance(content, str):
        if message.get("role") == "tool":
            yield {"type": "tool_call_response", "id": str(message.get("tool_call_id", "")), "response": content}
        else:
            yield {"type": "text", "content": content}
    for part in content if isinstance(content, list) else ():
        if isinstance(part, dict) and isinstance(part.get("text"), str):
            yield {"type": "text", "content": part["text"]}
        elif isinstance(part, dict):  # an image, say: never its URL or bytes
            yield {"type": str(part.get("type", "")), "content": MARK}
    calls = message.get("tool_calls")
    for call in calls if isinstance(calls, list) else ():
        function = call.get("function") if isinstance(call, dict) else None
        if isinstance(function, dict):
            name, arguments = function.get("name", ""), function.get("arguments", "")
            yield {"type": "tool_call", "id": str(call.get("id", "")), "name": str(name), "arguments": str(arguments)}


def _bounded(messages: Iterator[dict[str, Any]], max_chars: int) -> list[dict[str, Any]]:
    """Return the newest messages, in their order; texts longer than will be kept are cut already here."""
    kept: list[dict[str, Any]] = []
    left = MAX_TOTAL_CHARS
    for message in messages:
        parts = [_cut(part, max_chars + SLACK_CHARS + 1) for part in message["parts"]]
        left -= sum(min(len(text), max_chars) for part in parts for text in part.values())
        if (left < 0 and kept) or len(kept) == MAX_MESSAGES:
            break
        while left < 0:
            left += sum(min(len(text), max_chars) for text in parts.pop().values())
        kept.append({"role": message["role"][:MAX_NAME_CHARS], "parts": parts})
    kept.reverse()
    return kept


def _cut(part: dict[str, str], max_chars: int) -> dict[str, str]:
    return {name: text[:max_chars] for name, text in part.items()}


def _redacted(message: dict[str, Any], max_chars: int) -> dict[str, Any]:
    parts = [
        {
            name: text
            if text == MARK
            else redact(text, max_chars if name in ("content", "response", "arguments") else MAX_NAME_CHARS)
            for name, text in part.items()
        }
        for part in message["parts"]
    ]
    return {"role": redact(message["role"], MAX_NAME_CHARS), "parts": parts}
