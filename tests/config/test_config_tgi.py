"""The `tgi:` section, and deployments whose tokenizer can be reached."""

from __future__ import annotations

import pytest

from gateway.app import default_model
from gateway.config.load import Config, parse
from gateway.config.models import LONGEST_ROUTE, MAX_HEADER_TEXT
from gateway.config.tgi import Tgi

DEPLOYMENT = "endpoint: e, region: us-east-1, container: vllm, version: 0.33"


def parsed(text: str) -> Config:
    return parse(text.encode(), "gateway.yaml", {})


def models(*entries: str) -> str:
    return "models:\n" + "".join(f"  - {{{entry}, deployments: [{{{DEPLOYMENT}}}]}}\n" for entry in entries)


def test_without_a_section_every_limit_is_tgis() -> None:
    assert parsed(models("name: m")).tgi == Tgi()
    assert Tgi().model_dump() == {
        "default_model": None,
        "return_full_text": True,
        "max_best_of": 2,
        "max_stop_sequences": 4,
        "max_top_n_tokens": 5,
    }


def test_a_section_says_otherwise() -> None:
    text = (
        "tgi: {default_model: b, return_full_text: false, max_best_of: 4, max_stop_sequences: 0, max_top_n_tokens: 7}\n"
    )
    found = parsed(text + models("name: a", "name: b")).tgi
    assert found == Tgi(
        default_model="b", return_full_text=False, max_best_of=4, max_stop_sequences=0, max_top_n_tokens=7
    )


@pytest.mark.parametrize(
    ("text", "found"),
    [
        pytest.param(models("name: a"), "a", id="the only one"),
        pytest.param(models("name: a", "name: b"), None, id="none of two"),
        pytest.param("tgi: {default_model: b}\n" + models("name: a", "name: b"), "b", id="the one that is named"),
        pytest.param(
            "tgi: {default_model: c}\n" + models("name: a", "name: b, aliases: [c]"), "b", id="by an alias of its own"
        ),
    ],
)
def test_the_default_model_is_the_named_one_or_the_only_one(text: str, found: str | None) -> None:
    assert default_model(parsed(text)) == found


@pytest.mark.parametrize(
    ("own", "attributes"),
    [
        pytest.param("", "route=/tokenize", id="none of its own"),
        pytest.param(", custom_attributes: 'trace=1,x'", "route=/tokenize,trace=1,x", id="before its own"),
        pytest.param(", custom_attributes: 'route=/other'", "route=/tokenize,route=/other", id="before its own route"),
    ],
)
def test_the_route_goes_before_a_deployments_own_attributes(own: str, attributes: str) -> None:
    text = models("name: m").replace("version: 0.33", f"version: 0.33, tokenizes: true{own}")
    (deployment,) = parsed(text).models[0].deployments
    routed = deployment.routed_to("/tokenize")
    assert routed.custom_attributes == attributes
    assert routed.model_copy(update={"custom_attributes": deployment.custom_attributes}) == deployment


def test_the_longest_attributes_that_are_allowed_fit_into_the_header() -> None:
    own = "x" * (MAX_HEADER_TEXT - len(LONGEST_ROUTE))
    text = models("name: m").replace("version: 0.33", f"version: 0.33, tokenizes: true, custom_attributes: {own}")
    (deployment,) = parsed(text).models[0].deployments
    assert len(deployment.routed_to("/detokenize").custom_attributes or "") == MAX_HEADER_TEXT
