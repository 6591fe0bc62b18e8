"""What the end-to-end tests talk to: one gateway in front of local SageMakers that run every kind of container."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from deploy.local import Container, Endpoint, Limits
from deploy.local.engine import build
from tests.support.stack import Gateway, Local, config, model, running_gateway, running_local

DIALECTS = {
    "lmi15": ("lmi", "15"),
    "lmi20": ("lmi", "20"),
    "lmi27": ("lmi", "27"),
    "vllm-0.9": ("vllm", "0.9"),
    "vllm-0.11": ("vllm", "0.11"),
    "vllm": ("vllm", "0.33"),
}
FURTHER_DIALECTS = {
    "lmi16": ("lmi", "16"),
    "lmi17": ("lmi", "17"),
    "lmi18": ("lmi", "18"),
    "lmi23": ("lmi", "23"),
    "vllm-0.8": ("vllm", "0.8"),
}
"""Versions that differ from all of the others in some field; few tests need them."""
PARSERLESS = ("lmi15", "lmi16", "lmi18", "lmi27", "vllm-0.9", "vllm")
"""Dialects that also run without a tool parser, as `parserless-<dialect>`."""
LIMIT_S = 0.2
"""How long the slow SageMaker waits for a whole answer, in place of 60 seconds."""
PACE: dict[str, Any] = {"token_delay_s": 0.015}
SIGHT: dict[str, Any] = {"modalities": ["text", "image"], "media": {"urls": "off"}}
LATE_S = 0.5
"""How long the late container thinks before its first token."""
COMPONENT = "adapter-component"
ATTRIBUTES = "trace=e2e"
DEFAULT_MODEL = "lmi27"
"""What calls of TGI's API mean that name no model."""
SESSION = "0b7f4c4e-5d8e-4a53-9a46-0d2c1b6f9a11"


@dataclass(frozen=True, slots=True)
class Stack:
    """A gateway and the SageMakers behind it."""

    gateway: Gateway
    local: Local
    """Answers at once, within the ordinary limits."""
    slow: Local
    """Paced, and gives up on a whole answer after LIMIT_S."""


@contextmanager
def running_stack() -> Iterator[Stack]:
    """Run it all; models of DIALECTS and FURTHER_DIALECTS come in the variants "", "-invoke" and "-stream".

    Those of DIALECTS have slow variants, too.
    """
    fast: dict[str, Container | Endpoint] = {
        name.replace(".", "-"): build(name) for name in (*DIALECTS, *FURTHER_DIALECTS)
    }
    parserless = {f"parserless-{name.replace('.', '-')}": build(name, tool_parser=False) for name in PARSERLESS}
    endpoints: dict[str, Container | Endpoint] = {
        **fast,
        **parserless,
        "blind": build("lmi27", vision=False),
        "heavy": build("lmi27"),
        "light": build("vllm"),
        "shared": Endpoint(build("lmi27", adapters=["poet"]), variant="blue", components={COMPONENT: "poet"}),
        "addressed": Endpoint(build("lmi27"), variant="blue"),
    }
    paced: dict[str, Container | Endpoint] = {name.replace(".", "-"): build(name, **PACE) for name in DIALECTS}
    paced["late"] = build("lmi27", first_token_delay_s=LATE_S)
    limits = Limits(invocation_timeout_s=LIMIT_S)
    with ExitStack() as opened:
        local = opened.enter_context(running_local(endpoints))
        slow = opened.enter_context(running_local(paced, limits=limits))
        configuration = {**config(local.url, *_models(slow.url)), "tgi": {"default_model": DEFAULT_MODEL}}
        gateway = opened.enter_context(running_gateway(configuration))
        yield Stack(gateway, local, slow)


def _models(slow_url: str) -> list[dict[str, Any]]:
    models = [
        model(
            "meta/llama-3.3-70b",
            "lmi",
            "27",
            aliases=["gpt-4o", "team/chat:latest"],
            owned_by="platform-team",
            created=1735689600,
            context_length=8192,
            deployment={"endpoint": "lmi27"},
            **SIGHT,
        )
    ]
    for name, (container, version) in DIALECTS.items():
        endpoint = {"endpoint": name.replace(".", "-")}
        slow = {**endpoint, "endpoint_url": slow_url}
        models += [
            model(name, container, version, deployment=endpoint, **SIGHT),
            model(f"{name}-invoke", container, version, unary="invoke", deployment=endpoint, **SIGHT),
            model(f"{name}-stream", container, version, unary="stream", deployment=endpoint, **SIGHT),
            model(f"{name}-slow", container, version, deployment=slow),
            model(f"{name}-slow-invoke", container, version, unary="invoke", deployment=slow, attempts=1),
            model(f"{name}-slow-stream", container, version, unary="stream", deployment=slow),
        ]
    for name, (container, version) in FURTHER_DIALECTS.items():
        endpoint = {"endpoint": name.replace(".", "-")}
        models += [
            model(name, container, version, deployment=endpoint),
            model(f"{name}-invoke", container, version, unary="invoke", deployment=endpoint),
            model(f"{name}-stream", container, version, unary="stream", deployment=endpoint),
        ]
    every = DIALECTS | FURTHER_DIALECTS
    models += [model(f"parserless-{name}", *every[name]) for name in PARSERLESS]
    late = {"endpoint": "late", "endpoint_url": slow_url}
    lmi27 = {"endpoint": "lmi27"}
    one: dict[str, Any] = {"region": "us-east-1", "container": "lmi", "version": "27"}
    return [
        *models,
        model("text-only", "lmi", "27", deployment=lmi27),
        model("blind", "lmi", "27", **SIGHT),
        model("small", "lmi", "27", context_length=64, deployment=lmi27),
        model("strict", "lmi", "27", unknown_fields="refuse", deployment=lmi27),
        model("held", "lmi", "27", hold_status_s=0.1, keep_alive_s=0.1, attempts=1, deployment=late),
        model("held-at-once", "vllm", "0.33", hold_status_s=0, keep_alive_s=0.05, deployment={"endpoint": "vllm"}),
        {
            "name": "weighted",
            "deployments": [
                {**one, "endpoint": "heavy", "weight": 3},
                {**one, "endpoint": "light", "container": "vllm", "version": "0.33", "weight": 1},
            ],
        },
        model("poet", "lmi", "27", deployment={"endpoint": "shared", "inference_component": COMPONENT}),
        model(
            "addressed",
            "lmi",
            "27",
            deployment={"target_variant": "blue", "custom_attributes": ATTRIBUTES, "session_id": SESSION},
        ),
        model("gone", "lmi", "27", deployment={"endpoint": "no-such-endpoint"}),
        model(
            "team/tokens",
            "vllm",
            "0.33",
            modalities=["text"],
            deployment={"endpoint": "vllm", "tokenizes": True, "custom_attributes": ATTRIBUTES},
        ),
        model("old-tokens", "vllm", "0.9", deployment={"endpoint": "vllm-0-9", "tokenizes": True}),
    ]
