"""LoRA adapters in the file: what callers then see, and which ways to name one are accepted for which container."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from gateway.config.load import parse
from gateway.config.lora import Adapter
from gateway.config.models import Key, Model, with_adapters
from gateway.config.problems import ConfigError

DIGEST = "sha256:" + "a1" * 32


def the_model(adapters: str, *, deployments: str = "{container: lmi, version: 27}", fields: str = "") -> Model:
    text = f"""
models:
  - name: m
    {fields}
    deployments: [{deployments.replace("{", "{endpoint: e, region: us-east-1, ")}]
    adapters: [{adapters}]
"""
    (model,) = parse(text.encode(), "gateway.yaml", {}).models
    return model


def test_a_model_without_adapters_is_itself_alone() -> None:
    model = the_model("")
    assert list(with_adapters(model)) == [(model, None)]


def test_an_adapter_is_its_model_under_another_name() -> None:
    model = the_model(
        "{name: legal, aliases: [law], served_name: legal-v2}, {name: org/poet, inference_component: poet-ic}",
        deployments="{container: lmi, version: 27, inference_component: base, served_model_name: b}, "
        "{container: lmi, version: 16, weight: 3}",
        fields="aliases: [alias]\n    context_length: 4096\n    attempts: 1",
    )
    (base, none), (legal, by_name), (poet, by_component) = with_adapters(model)
    assert (base, none) == (model, None)
    assert (by_name, by_component) == model.adapters
    assert [(shown.name, shown.aliases) for shown in (legal, poet)] == [("m:legal", ("law",)), ("m:org/poet", ())]
    assert [(shown.context_length, shown.attempts) for shown in (legal, poet)] == [(4096, 1), (4096, 1)]
    assert [[one.inference_component for one in shown.deployments] for shown in (base, legal, poet)] == [
        ["base", None],
        ["base", None],
        ["poet-ic", "poet-ic"],
    ]
    assert [[one.served_model_name for one in shown.deployments] for shown in (base, legal, poet)] == [
        ["b", None],
        [None, None],
        [None, None],
    ]
    assert [[one.weight for one in shown.deployments] for shown in (base, legal, poet)] == [[1, 3]] * 3


ROUTED = "{container: vllm, version: 0.27, custom_attributes: route=/v1/chat/completions}"


@pytest.mark.parametrize(("address", "deployment"), [
    pytest.param("inference_component: a", "{container: lmi, version: 16}", id="component of LMI"),
    pytest.param("served_name: a", "{container: lmi, version: 28}", id="name of LMI"),
    pytest.param("served_name: a/b c", "{container: vllm, version: 0.8.4}", id="name of old vLLM"),
    pytest.param("served_name: a", "{container: vllm, version: 0.10}", id="name of the last vLLM that heeds it"),
    pytest.param("inference_component: a", "{container: vllm, version: 0.11}", id="component of vLLM"),
    pytest.param("served_name: a", ROUTED, id="name of vLLM past invocations"),
    pytest.param("inference_component: a", ROUTED.replace("route=/v1/chat/completions", "myroute=/x"),
                 id="component of vLLM with attributes of another kind"),
])  # fmt: skip
def test_ways_to_name_an_adapter(address: str, deployment: str) -> None:
    assert len(the_model(f"{{name: x, {address}}}", deployments=deployment).adapters) == 1


def test_keys_may_name_adapters_their_aliases_and_all_of_a_model() -> None:
    text = f"""
keys: [{{id: k, digest: '{DIGEST}', models: ['m:legal', law, 'm:*']}}]
models:
  - name: m
    deployments: [{{endpoint: e, region: us-east-1, container: lmi, version: 27}}]
    adapters: [{{name: legal, aliases: [law], served_name: legal}}]
"""
    assert parse(text.encode(), "g", {}).keys == (Key(id="k", digest=DIGEST, models=("m:legal", "law", "m:*")),)


def test_where_an_adapters_name_is_wrong_keys_are_not_blamed_for_it() -> None:
    text = f"""
keys: [{{id: k, digest: '{DIGEST}', models: ['m:legal']}}]
models:
  - name: m
    deployments: [{{endpoint: e, region: us-east-1, container: lmi, version: 27}}]
    adapters: [{{nmae: legal, served_name: legal}}]
"""
    with pytest.raises(ConfigError) as caught:
        parse(text.encode(), "g", {})
    assert str(caught.value) == "g:6:17: models[0].adapters[0].nmae: unknown key; did you mean 'name'?"


def test_the_type_by_itself_keeps_the_rule() -> None:
    with pytest.raises(ValidationError, match="missing inference_component or served_name"):
        Adapter(name="x")
