"""Secrets that are planted wherever a gateway meets some, and looked for in all that it writes.

Whoever adds something that the gateway writes adds it to `Written`; whoever adds a place for secrets plants one there
and names it in `PLANTED`.

written = Written()
written.add("the log", "".join(gateway.log))
written.check()
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from tests.support.stack import KEY, NARROW_KEY

PICTURE = base64.b64encode(b"\x89PNG\r\n\x1a\n" + b"canary-picture-0143" * 3).decode()

PLANTED: dict[str, str] = {
    "a caller's key": KEY,
    "another caller's key": NARROW_KEY,
    "a wrong key": "sk-lmi-" + "canaryWrongKey" * 3 + "x",
    "the administration's key": "sk-lmi-" + "canaryAdminKey" * 3 + "x",
    "a wrong key for the administration": "sk-lmi-" + "canaryWrongAdm" * 3 + "x",
    "the password of Redis": "canary-redis-password-5530",
    "the collector's key": "canary-collector-key-6149",
    "AWS' secret key": "canary/aws/secret/key+0123456789abcdefgh",
    "AWS' session token": "canaryAwsSessionToken" * 6,
    "a prompt": "canary-prompt-7261",
    "a system prompt": "canary-system-prompt-9180",
    "the data of an image": PICTURE,
    "the arguments of a tool": "canary-arguments-3327",
    "the description of a tool": "canary-description-6602",
    "an answer": "canary-answer-4419",
    "a container's error": "canary-container-error-2850",
    "AWS' error text": "canary-aws-error-7755",
    "an authorization header": "canary-basic-authorization-8413",
    "a cookie": "canary-cookie-1098",
    "a traceparent that is none": "canary-traceparent-4471",
    "a header of no meaning": "canary-header-6074",
    "a query string": "canary-query-2236",
    "a path": "canary-path-8807",
    "a field nobody knows": "canary-field-9951",
    "a user": "canary-user-3308",
    "the name of no model": "canary-model-5152",
    "the text of a defect": "canary-defect-7219",
}
"""What it is → its text."""


def forms(secret: str) -> dict[str, bytes]:
    """Return how a secret may look when it is written."""
    plain = secret.encode()
    return {
        "as it is": plain,
        "in JSON": json.dumps(secret)[1:-1].encode(),
        "in base64": base64.b64encode(plain),
        "in a URL": quote(secret, safe="").encode(),
        "in hexadecimal": plain.hex().encode(),
        "as its digest": hashlib.sha256(plain).hexdigest().encode(),
        # A part is enough for many a guess; the beginnings of keys are all the same.
        "in part": plain[len(plain) // 3 : len(plain) // 3 + 16] if len(plain) > 30 else plain,
    }


class Written:
    """All that gateways have written, by what it is."""

    def __init__(self) -> None:
        self._texts: dict[str, bytes] = {}

    def add(self, what: str, text: str | bytes) -> None:
        data = text.encode() if isinstance(text, str) else text
        self._texts[what] = self._texts.get(what, b"") + data

    def check(self, *, also: Mapping[str, str] | None = None, holds: Mapping[str, str] | None = None) -> None:
        """Fail if a secret is in it, or if a text lacks what it must hold to be what it is taken for.

        Args:
            also: secrets that were made on the way: what it is → its text.
            holds: what was written → a text that it must hold.
        """
        for what, wanted in (holds or {}).items():
            assert wanted.encode() in self._texts[what], f"{what} does not hold {wanted!r}"
        found = [
            f"{name} {form} in {what}"
            for name, secret in {**PLANTED, **(also or {})}.items()
            for form, text in forms(secret).items()
            for what, data in self._texts.items()
            if text in data
        ]
        assert not found, "\n".join(found)


def bodies() -> dict[str, Any]:
    """Return request bodies with something secret wherever one can hold it: what it is → the body."""
    secret = PLANTED
    system = {"role": "system", "content": secret["a system prompt"]}
    user = {"role": "user", "content": secret["a prompt"]}
    picture = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PICTURE}"}}
    call = {
        "id": "call_1",
        "type": "function",
        "function": {"name": "look_up", "arguments": json.dumps({"q": secret["the arguments of a tool"]})},
    }
    tool = {
        "type": "function",
        "function": {
            "name": "look_up",
            "description": secret["the description of a tool"],
            "parameters": {"type": "object", "properties": {"q": {"type": "string"}}},
        },
    }
    plain = {"model": "fast", "messages": [system, user], "user": secret["a user"]}
    return {
        "whole": plain,
        "streamed": {**plain, "stream": True},
        "with an image": {**plain, "messages": [{"role": "user", "content": [picture]}]},
        "with tools": {
            **plain,
            "tools": [tool],
            "messages": [user, {"role": "assistant", "content": None, "tool_calls": [call]},
                         {"role": "tool", "tool_call_id": "call_1", "content": secret["the arguments of a tool"]}],
        },
        "with a field nobody knows": {**plain, secret["a field nobody knows"]: secret["a field nobody knows"]},
        "with a refused field": {**plain, "api_key": secret["a field nobody knows"]},
        "with a wrong type": {**plain, "temperature": secret["a prompt"]},
        "with a wrong role": {**plain, "messages": [{"role": secret["a prompt"], "content": secret["a prompt"]}]},
        "for no model": {**plain, "model": secret["the name of no model"]},
        "of another model": {**plain, "model": "closed"},
    }  # fmt: skip
