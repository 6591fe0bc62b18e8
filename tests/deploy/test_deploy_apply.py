"""lmi-deploy against AWS: everything a manifest wants is made once, changed in place, and deleted again."""

from __future__ import annotations

import pytest

from tests.deploy.deploy_cloud import COMPONENTS, MANIFEST, Cloud


@pytest.mark.parametrize(
    ("manifest", "changes"),
    [
        pytest.param(
            MANIFEST,
            [
                "CreateModel",
                "CreateEndpointConfig",
                "PutMetricAlarm",
                "CreateEndpoint",
                "RegisterScalableTarget",
                "PutScalingPolicy",
                "PutScheduledAction",
            ],
            id="a model on its own machines",
        ),
        pytest.param(
            COMPONENTS,
            [
                "CreateModel",
                "CreateModel",
                "CreateEndpointConfig",
                "CreateEndpoint",
                "CreateInferenceComponent",
                "CreateInferenceComponent",
                "RegisterScalableTarget",
                "PutScalingPolicy",
                "PutScalingPolicy",
                "PutMetricAlarm",
                "CreateInferenceComponent",
            ],
            id="components that share machines",
        ),
    ],
)
def test_applying_makes_everything_and_a_second_time_nothing(cloud: Cloud, manifest: str, changes: list[str]) -> None:
    first = cloud.apply(manifest)
    assert first.code == 0, first
    assert cloud.edge.changes == changes
    cloud.edge.forget()

    again = cloud.apply(manifest)

    assert again.code == 0, again
    assert cloud.edge.changes == []
    assert "nothing to do" in again.out
    assert cloud.run(manifest, "plan", "--detailed-exitcode").code == 0


def test_destroying_deletes_what_was_made_and_a_second_time_nothing(cloud: Cloud) -> None:
    cloud.apply(COMPONENTS)
    cloud.edge.forget()

    gone = cloud.destroy(COMPONENTS)

    assert gone.code == 0, gone
    assert cloud.edge.sagemaker.things == {}
    assert cloud.edge.sagemaker.wrong == []
    assert cloud.edge.left() == []
    assert "nothing of this manifest is there" in cloud.destroy(COMPONENTS).out
