"""What `lmi-gateway dev` prints once everything is ready: where it is, its keys, and calls to paste."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class Named(Protocol):
    """A model as it is told of."""

    @property
    def name(self) -> str: ...
    @property
    def dialect(self) -> str: ...
    @property
    def url(self) -> str | None: ...


def instructions(base_url: str, key: str, console_url: str, console_key: str, models: Sequence[Named]) -> str:
    """Return the keys and two calls to paste."""
    named = ", ".join(f"{model.name} ({model.dialect}{f' at {model.url}' if model.url else ''})" for model in models)
    return f"""
A SageMaker on this machine and the gateway are ready: {base_url}
Models: {named}
Key:    {key}

Console: {console_url}/console
Its key: {console_key}

curl:

curl {base_url}/v1/chat/completions \\
  -H 'Authorization: Bearer {key}' \\
  -H 'Content-Type: application/json' \\
  -d '{{"model": "{models[0].name}", "messages": [{{"role": "user", "content": "Hello"}}]}}'

Python:

from openai import OpenAI
client = OpenAI(base_url="{base_url}/v1", api_key="{key}")
messages = [{{"role": "user", "content": "Count to 30."}}]
for chunk in client.chat.completions.create(model="{models[-1].name}", messages=messages, stream=True):
    print(chunk.choices[0].delta.content or "", end="", flush=True)

Ctrl-C ends both."""
