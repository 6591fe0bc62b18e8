"""lmi-deploy killed between any two of its changing calls: the next run ends where an undisturbed one does."""

from __future__ import annotations

import functools
import signal
from dataclasses import dataclass
from typing import Any

import pytest

from tests.deploy.deploy_cloud import COMPONENTS, MANIFEST, Cloud

CHANGED = MANIFEST.replace("Qwen/Qwen3-4B", "Qwen/Qwen3-8B").replace("max: 4", "max: 6")
WITHOUT_SCALING = "".join(
    line for line in CHANGED.splitlines(keepends=True) if not line.startswith(("scaling", "schedules", "  - {name"))
)


def everything(cloud: Cloud) -> dict[str, Any]:
    """Return all that is there, and nothing that depends on when it was made."""
    things = {key: (thing.spec, thing.tags, thing.status) for key, thing in sorted(cloud.edge.sagemaker.things.items())}
    scaling, watching = cloud.client("application-autoscaling"), cloud.client("cloudwatch")
    targets = scaling.describe_scalable_targets(ServiceNamespace="sagemaker")["ScalableTargets"]
    policies = scaling.describe_scaling_policies(ServiceNamespace="sagemaker")["ScalingPolicies"]
    actions = scaling.describe_scheduled_actions(ServiceNamespace="sagemaker")["ScheduledActions"]
    alarms = watching.describe_alarms()["MetricAlarms"]
    timeless = ("CreationTime", "PolicyARN", "ScheduledActionARN", "ScalableTargetARN", "Alarms", "AlarmActions")
    others = [
        {name: value for name, value in entry.items() if name not in timeless and not name.endswith("Timestamp")}
        for entry in [*targets, *policies, *actions, *alarms]
    ]
    return {"things": things, "others": sorted(others, key=str)}


def killed_and_gone_on(cloud: Cloud, at: int, command: str, manifest: str) -> dict[str, Any]:
    """Run a command that is killed at its changing call `at`, run it again, and return what is there then."""
    cloud.edge.kill_at = at
    assert run(cloud, command, manifest).code == -signal.SIGKILL
    cloud.edge.forget()
    again = run(cloud, command, manifest)
    assert again.code == 0, again
    assert cloud.edge.sagemaker.wrong == []
    return everything(cloud)


def run(cloud: Cloud, command: str, manifest: str) -> Any:
    return cloud.apply(manifest) if command == "apply" else cloud.destroy(manifest)


@dataclass(frozen=True)
class Scenario:
    """A command, what was applied before it, and how many changing calls it makes."""

    name: str
    before: str | None
    command: tuple[str, str]
    calls: int


SCENARIOS = [
    Scenario("making", None, ("apply", MANIFEST), 7),
    Scenario("making components", None, ("apply", COMPONENTS), 11),
    Scenario("changing", MANIFEST, ("apply", CHANGED), 6),
    Scenario("taking scaling away", MANIFEST, ("apply", WITHOUT_SCALING), 6),
    Scenario("destroying", MANIFEST, ("destroy", MANIFEST), 5),
    Scenario("destroying components", COMPONENTS, ("destroy", COMPONENTS), 9),
]
KILLS = [
    pytest.param(scenario, at, id=f"{scenario.name}, call {at}")
    for scenario in SCENARIOS
    for at in range(1, scenario.calls + 1)
]


@functools.cache
def known() -> dict[str, tuple[dict[str, Any], dict[str, Any]]]:
    """Return what was there before each scenario, and after it, if it was played once."""
    return {}


def played(cloud: Cloud, scenario: Scenario) -> tuple[dict[str, Any], dict[str, Any]]:
    if scenario.name not in known():
        if scenario.before is not None:
            assert run(cloud, "apply", scenario.before).code == 0
            cloud.edge.forget()
        kept = cloud.kept()
        assert run(cloud, *scenario.command).code == 0
        assert len(cloud.edge.changes) == scenario.calls, cloud.edge.changes
        known()[scenario.name] = kept, everything(cloud)
    return known()[scenario.name]


@pytest.mark.parametrize(("scenario", "at"), KILLS)
def test_a_killed_run_is_finished_by_the_next_one(cloud: Cloud, scenario: Scenario, at: int) -> None:
    before, undisturbed = played(cloud, scenario)
    cloud.restore(before)
    # What is left over must be found without the index of tags, which lags behind.
    cloud.edge.sagemaker.index_lags = True
    assert killed_and_gone_on(cloud, at, *scenario.command) == undisturbed
