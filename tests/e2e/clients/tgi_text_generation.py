"""TGI's own client for Python, `text-generation` 0.7, as it calls a TGI server: with nothing but an address.

    python tgi_text_generation.py http://127.0.0.1:8080 YOUR_KEY

The gateway stands in front of a local SageMaker, whose answers are known, and has a default model.
https://github.com/huggingface/text-generation-inference/tree/main/clients/python
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import requests
from text_generation import AsyncClient, Client
from text_generation.errors import (
    GenerationError,
    NotFoundError,
    UnknownError,
    ValidationError,
)

GREETING = "Hello! How can I help you today?"
EMOJI = "Café — naïve 😀🚀 日本語 ✓ ½ 👨\u200d👩\u200d👧."
FAILING = "fail after 3"
"""The prompt after whose third token the container's engine dies."""

REFUSALS: list[tuple[str, Callable[[Any], Any]]] = [
    (
        "Input validation error: `best_of` must be > 0 and <= 2. Given: 3",
        lambda client: client.generate("hello", best_of=3, do_sample=True),
    ),
    (
        "Input validation error: `stop` supports up to 4 stop sequences. Given: 5",
        lambda client: client.generate("hello", stop_sequences=list("abcde")),
    ),
    (
        "Input validation error: `max_new_tokens` must be strictly positive",
        lambda client: client.generate("hello", max_new_tokens=0),
    ),
    (
        "Input validation error: `top_n_tokens` must be >= 0 and <= 5. Given: 6",
        lambda client: client.generate("hello", top_n_tokens=6),
    ),
]


def main(base_url: str, key: str) -> None:
    """Call in every way; raise AssertionError where an answer is not TGI's."""
    headers = {"Authorization": f"Bearer {key}"}
    model = requests.get(f"{base_url}/info", headers=headers, timeout=10).json()["model_id"]
    for url in (base_url, f"{base_url}/models/{model}"):
        client = Client(url, headers=headers, timeout=20)
        whole(client)
        streamed(client)
        refused(client)
        asyncio.run(asynchronous(AsyncClient(url, headers=headers, timeout=20)))
    others(base_url, headers)


def whole(client: Client) -> None:
    answer = client.generate("hello", max_new_tokens=30)
    assert answer.generated_text == GREETING, answer
    assert answer.details.finish_reason.value == "eos_token"
    assert answer.details.generated_tokens == len(answer.details.tokens)
    assert answer.details.seed is None
    shown = [token for token in answer.details.tokens if not token.special]
    assert "".join(token.text for token in shown) == GREETING
    assert all(token.logprob <= 0 for token in shown)

    cut = client.generate("hello", max_new_tokens=3)
    assert (cut.generated_text, cut.details.finish_reason.value, cut.details.generated_tokens) == (
        "Hello! How",
        "length",
        3,
    )
    full = client.generate("hello", max_new_tokens=3, return_full_text=True)
    assert full.generated_text == "helloHello! How"
    stopped = client.generate("hello", max_new_tokens=30, stop_sequences=["can"])
    assert (stopped.generated_text, stopped.details.finish_reason.value) == ("Hello! How can", "stop_sequence")
    assert client.generate("emoji", max_new_tokens=100).generated_text == EMOJI

    top = client.generate("hello", max_new_tokens=2, top_n_tokens=3)
    assert [len(tokens) >= 3 for tokens in top.details.top_tokens] == [True, True]
    seeded = client.generate("hello", max_new_tokens=3, do_sample=True, temperature=0.7, top_k=5, top_p=0.9, seed=7)
    assert seeded.details.seed == 7
    best = client.generate("tell me a story", max_new_tokens=4, best_of=2, do_sample=True)
    assert len(best.details.best_of_sequences) == 1


def streamed(client: Client) -> None:
    for prompt, text in (("hello", GREETING), ("emoji", EMOJI)):
        frames = list(client.generate_stream(prompt, max_new_tokens=100))
        assert frames[-1].generated_text == text, frames[-1]
        assert frames[-1].details.finish_reason.value == "eos_token"
        assert frames[-1].details.generated_tokens == len(frames)
        assert all(frame.generated_text is None and frame.details is None for frame in frames[:-1])
        assert "".join(frame.token.text for frame in frames if not frame.token.special) == text
    *_, last = client.generate_stream("hello", max_new_tokens=3, return_full_text=True)
    assert (last.generated_text, last.details.finish_reason.value) == ("helloHello! How", "length")


@contextmanager
def refusing(kind: type[Exception], *said: str) -> Iterator[None]:
    """Fail unless an exception of this very kind is raised whose text holds each of `said`."""
    try:
        yield
    except kind as error:
        if type(error) is not kind or not all(text in str(error) for text in said):
            raise AssertionError(f"not as expected: {error!r}") from error
    else:
        raise AssertionError(f"no {kind.__name__}")


def refused(client: Client) -> None:
    for text, call in REFUSALS:
        with refusing(ValidationError, text):
            call(client)
    said = []
    with refusing(GenerationError, "Request failed during generation: "):
        for frame in client.generate_stream(FAILING, max_new_tokens=30):
            said.append(frame.token.text)
    assert len(said) in (2, 3), said
    with refusing(ValidationError, "stop sequences"):
        list(client.generate_stream("hello", stop_sequences=list("abcde")))


async def asynchronous(client: AsyncClient) -> None:
    answer = await client.generate("hello", max_new_tokens=30)
    assert (answer.generated_text, answer.details.finish_reason.value) == (GREETING, "eos_token")
    frames = [frame async for frame in client.generate_stream("emoji", max_new_tokens=100)]
    assert frames[-1].generated_text == EMOJI
    assert "".join(frame.token.text for frame in frames if not frame.token.special) == EMOJI
    for text, call in REFUSALS:
        with refusing(ValidationError, text):
            await call(client)
    with refusing(GenerationError):
        async for _ in client.generate_stream(FAILING, max_new_tokens=30):
            pass


def others(base_url: str, headers: dict[str, str]) -> None:
    with refusing(NotFoundError, "does not exist"):
        Client(f"{base_url}/models/no-such-model", headers=headers).generate("hello")
    with refusing(UnknownError, "Incorrect API key provided."):
        Client(base_url, headers={"Authorization": "Bearer no-such-key"}).generate("hello")


if __name__ == "__main__":
    main(*sys.argv[1:3])
