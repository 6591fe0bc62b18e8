"""The OpenAPI document says of TGI's routes what they do."""

from __future__ import annotations

import json
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from adapters.openai.request import FieldPolicy
from adapters.tgi.parameters import PARAMETERS
from adapters.tgi.request import TgiLimits, TgiRefusal, check, read
from gateway.http.docs_document import errors
from gateway.http.docs_tgi import EXAMPLES
from gateway.http.tgi_errors import body_of, words_for
from tests.docs.serving import served
from tests.http.test_http_docs import DOCUMENT, validator

LIMITS = TgiLimits(max_best_of=100, max_stop_sequences=100, max_top_n_tokens=100)
VALUES: list[Any] = [
    *(None, True, False, "", "x", [], [""], ["x"], ["x", 1], [None], {}, {"type": "json"}),
    *(-2.5, -2, -1.5, -1, 0, 0.5, 1, 1.5, 2, 2.5, 3, 100, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**64 - 1, 2**64),
    *({"type": "regex", "value": "x"}, {"type": "json", "value": {"properties": {}}}, {"type": "x", "value": "x"}),
]


@pytest.mark.parametrize("name", [name for name in PARAMETERS if name not in ("best_of", "top_n_tokens")])
def test_a_parameter_is_documented_as_it_is_checked(name: str) -> None:
    schema = validator("GenerateRequest")
    disagreed, accepted = [], 0
    for value in VALUES:
        body = {"inputs": "x", "parameters": {"do_sample": True, name: value}}
        try:
            check(read(json.dumps(body).encode(), stream=False), model="m", policy=FieldPolicy(), limits=LIMITS)
            passes = True
        except TgiRefusal:
            passes = False
        accepted += passes
        if schema.is_valid(body) is not passes:
            disagreed.append((value, "is accepted" if passes else "is refused"))
    assert disagreed == []
    assert 0 < accepted < len(VALUES)


def test_every_parameter_is_documented() -> None:
    assert list(DOCUMENT["components"]["schemas"]["GenerateParameters"]["properties"]) == list(PARAMETERS)


def test_every_error_is_told_with_its_status_and_kind() -> None:
    for path in ("/generate", "/models/{model}/tokenize", "/"):
        responses = DOCUMENT["paths"][path]["post"]["responses"]
        for code, kind in errors().items():
            if code in ("method_not_allowed", "route_not_found") and "tokenize" not in path:
                continue
            if code == "method_not_allowed":
                continue
            words = words_for(kind("A sentence."))
            assert f"`{words.kind}`" in responses[str(words.status)]["description"], (path, code)


def test_every_error_fits_its_schema() -> None:
    for kind in errors().values():
        validator("TgiError").validate(json.loads(body_of(kind("A sentence."))[1]))


@pytest.mark.anyio
@pytest.mark.parametrize("model", ["lmi", "vllm"])
async def test_answers_are_as_documented(monkeypatch: pytest.MonkeyPatch, model: str) -> None:
    detailed = {"details": True, "top_n_tokens": 2, "max_new_tokens": 5, "do_sample": True}
    async with served(monkeypatch) as gateway:
        post = gateway.client.post
        for examples in EXAMPLES.values():
            for _, body in examples.values():
                validator("GenerateRequest").validate(body)
        whole = (await post(f"/models/{model}/generate", json={"inputs": "hello", "parameters": detailed})).json()
        assert set(whole["details"]) >= {"tokens", "top_tokens"}
        validator("GenerateResponse").validate(whole)
        best = {**detailed, "best_of": 2, "decoder_input_details": True}
        (answer,) = (await post(f"/models/{model}", json={"inputs": "hello", "parameters": best})).json()
        assert len(answer["details"]["best_of_sequences"]) == 1
        assert answer["details"]["prefill"]
        validator("GenerateResponse").validate(answer)
        stream = await post(f"/models/{model}/generate_stream", json={"inputs": "hello", "parameters": detailed})
        frames = [json.loads(event.removeprefix("data:")) for event in stream.text.split("\n\n")[:-1]]
        assert len(frames) == 5
        for frame in frames:
            validator("StreamResponse").validate(frame)
        validator("TgiInfo").validate((await gateway.client.get(f"/models/{model}/info")).json())
        validator("TgiError").validate((await post(f"/models/{model}/tokenize", json={"inputs": "x"})).json())


def test_probes_need_no_key() -> None:
    paths = DOCUMENT["paths"]
    assert [paths[path]["get"].get("security") for path in ("/", "/health", "/info", "/models/{model}/health")] == [
        [],
        [],
        None,
        None,
    ]


def test_schemas_are_closed_to_wrong_values() -> None:
    for component, value in (("TgiError", {"error": 1, "error_type": "x"}), ("StreamResponse", {"index": 0})):
        assert not Draft202012Validator.is_valid(validator(component), value)
