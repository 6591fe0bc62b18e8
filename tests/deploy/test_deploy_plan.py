"""Plans, as values: each file of golden/plans is what is shown for one difference between a manifest and AWS."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from deploy.desired import desired
from deploy.manifest import parse
from deploy.observe import Found, Observed
from deploy.plan import Plan, plan
from deploy.render import as_json, text
from deploy.resources import DIGEST_TAG, OWNER_TAG, SECRET_TAG, ArnOf, Desired, Key, Resource, SecretRef, variables
from tests.deploy.deploy_cloud import COMPONENTS, MANIFEST

GOLDEN = Path(__file__).with_name("golden") / "plans"
LARGER = MANIFEST.replace("Qwen3-4B", "Qwen3-8B").replace("ml.g5.2xlarge, count: 1", "ml.g5.12xlarge, count: 2")
PRICES = {"ml.g5.2xlarge": 1.515}
CHAT: Key = ("endpoint", "chat")
LARGE: Key = ("inference-component", "shared-large")

Edit = Callable[[dict[Key, Found]], None]


def wanted(manifest: str) -> Desired:
    return desired(parse(manifest.encode(), "manifest.yaml"), "us-east-1")


def standing(manifest: str | None, *edits: Edit) -> Observed:
    """Return what AWS holds after an apply of a manifest, and what has happened to it since."""
    owner = "" if manifest is None else wanted(manifest).manifest
    resources = () if manifest is None else wanted(manifest).resources
    found = {resource.key: found_of(resource, owner) for resource in resources}
    for edit in edits:
        edit(found)
    return found


def arn_of(key: Key) -> str:
    return f"arn:aws:sagemaker:us-east-1:123456789012:{key[0]}/{key[1]}"


def as_aws_has_it(value: Any) -> str:
    return arn_of((value.kind, value.name)) if isinstance(value, ArnOf) else f"(secret {value})"


def found_of(resource: Resource, owner: str) -> Found:
    tags = {tag["Key"]: tag["Value"] for tag in resource.spec.get("Tags", ())}
    tags |= {OWNER_TAG: owner, DIGEST_TAG: resource.digest}
    for name, value in variables(resource.spec):
        if isinstance(value, SecretRef):
            tags[f"{SECRET_TAG}{name}"] = str(value)
    hosts = resource.kind in ("endpoint", "inference-component")
    variants = [{"VariantName": "AllTraffic", "DesiredInstanceCount": 1}]
    return Found(
        resource.kind,
        resource.name,
        json.loads(json.dumps(dict(resource.spec), default=as_aws_has_it)),
        owned=True,
        arn=arn_of(resource.key),
        tags=tags,
        status="InService" if hosts else "",
        details={"variants": variants} if resource.kind == "endpoint" else {},
    )


def but(key: Key, **changes: Any) -> Edit:
    def edit(found: dict[Key, Found]) -> None:
        found[key] = dataclasses.replace(found[key], **changes)

    return edit


def without(*keys: Key) -> Edit:
    def edit(found: dict[Key, Found]) -> None:
        for key in keys:
            del found[key]

    return edit


def with_copies(count: int) -> Edit:
    def edit(found: dict[Key, Found]) -> None:
        spec = {**found[LARGE].spec, "RuntimeConfig": {"CopyCount": count}}
        found[LARGE] = dataclasses.replace(found[LARGE], spec=spec)

    return edit


FAILED: dict[str, Any] = {"status": "Failed", "failure": "No capacity."}
FEWER = COMPONENTS[: COMPONENTS.index("  - name: shared-large")]
FIRST_LINES = MANIFEST[: MANIFEST.index("scaling:")]
CASES: Iterable[Any] = [
    pytest.param(MANIFEST, standing(None), id="first"),
    pytest.param(MANIFEST, standing(MANIFEST), id="nothing"),
    pytest.param(LARGER, standing(MANIFEST), id="another-model"),
    pytest.param(FIRST_LINES, standing(MANIFEST), id="scaling-taken-away"),
    pytest.param(MANIFEST.replace("team: search", "team: shop"), standing(MANIFEST), id="tags"),
    pytest.param(MANIFEST.replace("{secret: hub}", "{env: HUB}"), standing(MANIFEST), id="secret-moved"),
    pytest.param(MANIFEST, standing(MANIFEST, but(CHAT, **FAILED)), id="endpoint-failed"),
    pytest.param(MANIFEST, standing(MANIFEST, but(CHAT, status="Updating")), id="endpoint-scales"),
    pytest.param(MANIFEST, standing(MANIFEST, but(CHAT, status="Updating", pending="chat-1")), id="other-apply"),
    pytest.param(MANIFEST, standing(MANIFEST, but(CHAT, owned=False)), id="not-ours"),
    pytest.param(MANIFEST, standing(MANIFEST, without(CHAT)), id="endpoint-gone"),
    pytest.param(COMPONENTS, standing(COMPONENTS, with_copies(3)), id="drift"),
    pytest.param(COMPONENTS, standing(COMPONENTS, but(LARGE, **FAILED)), id="component-failed"),
    pytest.param(FEWER, standing(COMPONENTS), id="component-removed"),
]


def planned(manifest: str, observed: Observed) -> Plan:
    return plan(wanted(manifest), observed, PRICES if "ml.g5.2xlarge" in manifest else None)


@pytest.mark.parametrize(("manifest", "observed"), CASES)
def test_a_plan_reads_as_written_down(manifest: str, observed: Observed, request: pytest.FixtureRequest) -> None:
    name = request.node.callspec.id
    assert text(planned(manifest, observed)) == (GOLDEN / f"{name}.txt").read_text("utf-8")


def test_every_plan_that_is_written_down_is_made() -> None:
    assert {file.stem for file in GOLDEN.iterdir()} == {case.id for case in CASES}


def test_a_plan_in_json_says_the_same() -> None:
    told = json.loads(as_json(planned(LARGER, standing(MANIFEST))))
    assert [(step["action"], step["kind"]) for step in told["steps"] if step["action"] != "none"] == [
        ("create", "model"),
        ("create", "endpoint-config"),
        ("update", "endpoint"),
        ("delete", "endpoint-config"),
        ("delete", "model"),
    ]
    assert told["cost_per_hour"] == {
        "before": {"low": 1.515, "high": 6.06, "unknown": []},
        "after": {"low": 0.0, "high": 0.0, "unknown": ["ml.g5.12xlarge"]},
    }


def test_destroying_deletes_users_before_what_they_use() -> None:
    nothing = dataclasses.replace(wanted(COMPONENTS), resources=())
    steps = [(step.kind, step.name) for step in plan(nothing, standing(COMPONENTS)).steps]
    assert [kind for kind, _ in steps] == [
        "scalable-target",
        *["inference-component"] * 3,
        "endpoint",
        "alarm",
        "endpoint-config",
        *["model"] * 2,
    ]
    assert steps[1] == ("inference-component", "shared-small-law")


def test_a_policy_of_another_keeps_its_target() -> None:
    target: Key = ("scalable-target", "endpoint/chat/variant/AllTraffic")
    steps = plan(wanted(FIRST_LINES), standing(MANIFEST, but(target, details={"others": True}))).changes
    assert [step.kind for step in steps if step.action == "delete"] == ["scheduled-action", "scaling-policy", "alarm"]
