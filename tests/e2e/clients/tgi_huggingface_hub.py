"""Hugging Face's client, `huggingface_hub.InferenceClient.text_generation`, as it calls a TGI server.

    python tgi_huggingface_hub.py http://127.0.0.1:8080 YOUR_KEY

The gateway stands in front of a local SageMaker, whose answers are known, and has a default model.
https://huggingface.co/docs/huggingface_hub/package_reference/inference_client
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from huggingface_hub import (
    AsyncInferenceClient,
    InferenceClient,
)
from huggingface_hub.errors import (
    GenerationError,
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
        lambda client: client.text_generation("hello", best_of=3, do_sample=True),
    ),
    (
        "Input validation error: `temperature` must be strictly positive",
        lambda client: client.text_generation("hello", temperature=0.0),
    ),
    (
        "Input validation error: `top_p` must be > 0.0 and < 1.0",
        lambda client: client.text_generation("hello", top_p=1.5),
    ),
    (
        "Input validation error: `stop` supports up to 4 stop sequences. Given: 5",
        lambda client: client.text_generation("hello", stop=list("abcde"), stream=True),
    ),
]


def main(base_url: str, key: str) -> None:
    """Call in every way; raise AssertionError where an answer is not TGI's."""
    info = probed(base_url, key)
    for url in (base_url, f"{base_url}/models/{info['model_id']}"):
        assert probed(url, key) == info
        client = InferenceClient(url, token=key, timeout=20)
        whole(client)
        streamed(client)
        refused(client)
        asyncio.run(asynchronous(url, key))
    others(base_url, key)


def probed(url: str, key: str) -> dict[str, Any]:
    """Return what the server says of itself; only clients that name their provider ask for it."""
    client = InferenceClient(url, provider="hf-inference", token=key, timeout=20)
    assert client.health_check() is True
    info: dict[str, Any] = client.get_endpoint_info()
    assert (info["max_best_of"], info["max_stop_sequences"]) == (2, 4), info
    return info


def whole(client: InferenceClient) -> None:
    assert client.text_generation("hello", max_new_tokens=30, return_full_text=False) == GREETING
    assert client.text_generation("hello", max_new_tokens=3, return_full_text=True) == "helloHello! How"
    assert client.text_generation("hello", max_new_tokens=3) == "helloHello! How"  # TGI's default
    assert client.text_generation("emoji", max_new_tokens=100, return_full_text=False) == EMOJI

    answer = client.text_generation("hello", max_new_tokens=3, details=True, return_full_text=False, top_n_tokens=2)
    assert (answer.generated_text, answer.details.finish_reason, answer.details.generated_tokens) == (
        "Hello! How",
        "length",
        3,
    )
    assert [token.text for token in answer.details.tokens] == ["Hello", "!", " How"]
    assert all(token.logprob <= 0 and token.special is False for token in answer.details.tokens)
    assert len(answer.details.top_tokens) == 3
    assert answer.details.prefill == []

    stopped = client.text_generation(
        "hello", max_new_tokens=30, stop=["can"], details=True, return_full_text=False, do_sample=True, seed=11
    )
    assert (stopped.details.finish_reason, stopped.details.seed) == ("stop_sequence", 11)
    best = client.text_generation("tell me a story", max_new_tokens=4, best_of=2, do_sample=True, details=True)
    assert len(best.details.best_of_sequences) == 1


def streamed(client: InferenceClient) -> None:
    for prompt, text in (("hello", GREETING), ("emoji", EMOJI)):
        pieces = list(client.text_generation(prompt, max_new_tokens=100, stream=True))
        frames = list(
            client.text_generation(prompt, max_new_tokens=100, stream=True, details=True, return_full_text=False)
        )
        assert len(pieces) == len(frames)
        assert "".join(frame.token.text for frame in frames if not frame.token.special) == text
        assert [frame.index for frame in frames] == list(range(1, len(frames) + 1))
        last = frames[-1]
        assert (last.generated_text, last.details.finish_reason) == (text, "eos_token")
        assert last.details.generated_tokens == len(frames)
        assert last.details.input_length != 0  # containers of TGI before 2.3 do not tell it
        assert all(frame.generated_text is None and frame.details is None for frame in frames[:-1])


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


def refused(client: InferenceClient) -> None:
    for text, call in REFUSALS:
        with refusing(ValidationError, text):
            call(client)
    said = []
    with refusing(GenerationError, "Request failed during generation: "):
        for piece in client.text_generation(FAILING, max_new_tokens=30, stream=True):
            said.append(piece)
    assert len(said) in (2, 3), said


async def asynchronous(url: str, key: str) -> None:
    async with AsyncInferenceClient(url, token=key, timeout=20) as client:
        assert await client.text_generation("hello", max_new_tokens=30, return_full_text=False) == GREETING
        answer = await client.text_generation("hello", max_new_tokens=3, details=True, return_full_text=False)
        assert (answer.generated_text, answer.details.finish_reason) == ("Hello! How", "length")
        stream = await client.text_generation("emoji", max_new_tokens=100, stream=True, details=True)
        frames = [frame async for frame in stream]
        assert "".join(frame.token.text for frame in frames if not frame.token.special) == EMOJI
        for text, call in REFUSALS:
            with refusing(ValidationError, text):
                await call(client)
        with refusing(GenerationError):
            async for _ in await client.text_generation(FAILING, max_new_tokens=30, stream=True):
                pass


def others(base_url: str, key: str) -> None:
    with refusing(UnknownError, "The model `no-such-model` does not exist or your key may not use it."):
        InferenceClient(f"{base_url}/models/no-such-model", token=key, timeout=20).text_generation("hello")
    with refusing(UnknownError, "The model `no-such-adapter` does not exist or your key may not use it."):
        InferenceClient(base_url, token=key, timeout=20).text_generation("hello", adapter_id="no-such-adapter")
    with refusing(UnknownError, "Incorrect API key provided."):
        InferenceClient(base_url, token="no-such-key", timeout=20).text_generation("hello")


if __name__ == "__main__":
    main(*sys.argv[1:3])
