"""Which model a name means, and to whom."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.auth.principal import Principal
from gateway.config.models import Deployment, Model
from gateway.errors import ModelNotFound
from gateway.routing.catalog import Catalog, ServedModel
from gateway.routing.lane import Lane

NOTHING: Any = None  # what a lane leads to does not matter here
ANYONE, BOB = Principal("anyone", None), Principal("bob", frozenset({"qwen"}))


def served(name: str, *aliases: str, parent: str | None = None) -> ServedModel:
    deployment = Deployment(endpoint="chat", region="us-east-1", container="lmi", version="15")
    model = Model(name=name, aliases=aliases, deployments=(deployment,), allow_fields=("seed",), context_length=4096)
    return ServedModel(model, (Lane(NOTHING, NOTHING, 1),), parent=parent)


LLAMA, QWEN = served("llama", "fast", "Fast"), served("qwen", "quick")
CATALOG = Catalog([LLAMA, QWEN])


@pytest.mark.parametrize(("name", "model"), [
    pytest.param("llama", LLAMA, id="name"), pytest.param("fast", LLAMA, id="alias"),
    pytest.param("Fast", LLAMA, id="alias in capitals"), pytest.param("quick", QWEN, id="another model's"),
])  # fmt: skip
def test_a_model_is_found_by_name_and_alias(name: str, model: ServedModel) -> None:
    assert CATALOG.find(name, ANYONE) is model


def refusal(name: str, principal: Principal) -> ModelNotFound:
    with pytest.raises(ModelNotFound) as caught:
        CATALOG.find(name, principal)
    return caught.value


def test_a_model_one_may_not_use_is_refused_like_one_that_does_not_exist() -> None:
    hidden, absent = refusal("llama", BOB), refusal("nope", BOB)
    assert hidden.message == "The model `llama` does not exist or your key may not use it."
    assert hidden.message.replace("llama", "nope") == absent.message
    assert (hidden.status, hidden.code, hidden.param) == (absent.status, absent.code, absent.param)
    assert (hidden.status, hidden.code, hidden.param) == (404, "model_not_found", "model")
    assert refusal("fast", BOB).message == "The model `fast` does not exist or your key may not use it."


@pytest.mark.parametrize("name", ["", "LLAMA", "llama ", "llam", "\0", "x" * 100_000])
def test_other_names_are_not_found(name: str) -> None:
    assert len(refusal(name, ANYONE).message) < 200


def test_a_caller_sees_what_the_key_may_use_in_the_order_of_the_file() -> None:
    assert CATALOG.visible(ANYONE) == [LLAMA, QWEN]
    assert CATALOG.visible(BOB) == [QWEN]
    assert CATALOG.visible(Principal("nobody", frozenset())) == []
    assert list(CATALOG) == [LLAMA, QWEN]


def test_an_adapter_is_a_model_of_its_own_that_knows_its_parent() -> None:
    (lane,) = LLAMA.lanes
    poet = ServedModel(LLAMA.config.model_copy(update={"name": "llama:poet", "aliases": ()}), (lane,), parent="llama")
    catalog = Catalog([LLAMA, poet])
    assert catalog.find("llama:poet", Principal("carol", frozenset({"llama:poet"}))) is poet
    for name, models in (("llama:poet", {"llama"}), ("llama", {"llama:poet"}), ("fast:poet", {"llama:poet"})):
        with pytest.raises(ModelNotFound):
            catalog.find(name, Principal("carol", frozenset(models)))
    assert (LLAMA.parent, poet.parent) == (None, "llama")


def test_a_models_configuration_becomes_the_rules_for_its_callers() -> None:
    assert LLAMA.name == "llama"
    assert (LLAMA.policy.allow_fields, LLAMA.policy.context_length) == (frozenset({"seed"}), 4096)
    assert LLAMA.balancer.choose([]) is LLAMA.lanes[0]


LEGAL, POET = served("llama:legal", "lawyer", parent="llama"), served("llama:poet", parent="llama")
ADAPTED = Catalog([LLAMA, LEGAL, POET, QWEN])
LAWYER = Principal("lawyer", frozenset({"llama:legal", "qwen"}))


@pytest.mark.parametrize("base", ["llama", "fast"])
@pytest.mark.parametrize(("adapter", "model"), [
    pytest.param("legal", LEGAL, id="what follows the colon"), pytest.param("llama:legal", LEGAL, id="whole name"),
    pytest.param("lawyer", LEGAL, id="alias"), pytest.param("poet", POET, id="another"),
    pytest.param("llama", LLAMA, id="the model itself"), pytest.param("Fast", LLAMA, id="the model's alias"),
])  # fmt: skip
def test_an_adapter_is_found_by_any_of_its_names(base: str, adapter: str, model: ServedModel) -> None:
    assert ADAPTED.find_adapter(base, adapter, ANYONE) is model


@pytest.mark.parametrize(("base", "adapter", "principal", "told"), [
    pytest.param("llama", "nope", ANYONE, "nope", id="no such adapter"),
    pytest.param("llama", "qwen", ANYONE, "qwen", id="another model"),
    pytest.param("qwen", "legal", ANYONE, "legal", id="another model's"),
    pytest.param("qwen", "lawyer", ANYONE, "lawyer", id="another model's alias"),
    pytest.param("nope", "legal", ANYONE, "nope", id="no such model"),
    pytest.param("llama:legal", "poet", ANYONE, "poet", id="an adapter's adapter"),
    pytest.param("llama", "poet", LAWYER, "llama", id="not this key's"),
    pytest.param("llama", "llama", LAWYER, "llama", id="the model itself is not this key's"),
])  # fmt: skip
def test_other_adapters_are_not_found(base: str, adapter: str, principal: Principal, told: str) -> None:
    with pytest.raises(ModelNotFound) as caught:
        ADAPTED.find_adapter(base, adapter, principal)
    assert caught.value.message == f"The model `{told}` does not exist or your key may not use it."


def test_a_key_for_an_adapter_alone_finds_it() -> None:
    assert ADAPTED.find_adapter("llama", "legal", LAWYER) is LEGAL
