"""Reads an endpoint, and all that belongs to it, with describe and list calls alone.

https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_DescribeEndpoint.html
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from botocore.exceptions import ClientError

from deploy.aws import Aws, DeployError, is_missing, pages
from deploy.importing import Standing


def standing(aws: Aws, endpoint: str) -> Standing:
    """Return what AWS says of an endpoint.

    Raises:
        DeployError: there is no such endpoint in this Region.
        ClientError: AWS refuses.
    """
    client = aws.sagemaker
    try:
        described = client.describe_endpoint(EndpointName=endpoint)
    except ClientError as error:
        if is_missing(error):
            raise DeployError(f"there is no endpoint {endpoint!r} in {aws.region}") from None
        raise
    config = client.describe_endpoint_config(EndpointConfigName=described["EndpointConfigName"])
    found = Standing(described, config, region=aws.region)
    names = [variant["ModelName"] for variant in config["ProductionVariants"] if "ModelName" in variant]
    if not names:
        listed = pages(client, "list_inference_components", "InferenceComponents", EndpointNameEquals=endpoint)
        for summary in list(listed):
            name = summary["InferenceComponentName"]
            component = client.describe_inference_component(InferenceComponentName=name)
            found.components.append(component)
            if "ModelName" in component.get("Specification", {}):
                names.append(component["Specification"]["ModelName"])
    for name in names:
        found.models[name] = client.describe_model(ModelName=name)
    arns = [described["EndpointArn"], *(model["ModelArn"] for model in found.models.values())]
    found.tags = {arn: _tags(pages(client, "list_tags", "Tags", ResourceArn=arn)) for arn in arns}
    _scaling(aws, found)
    return found


def _scaling(aws: Aws, found: Standing) -> None:
    endpoint = found.endpoint["EndpointName"]
    ids = [f"endpoint/{endpoint}/variant/{variant['VariantName']}" for variant in found.config["ProductionVariants"]]
    ids += [f"inference-component/{component['InferenceComponentName']}" for component in found.components]
    for resource in ids:
        which = {"ServiceNamespace": "sagemaker"}
        targets = pages(aws.scaling, "describe_scalable_targets", "ScalableTargets", **which, ResourceIds=[resource])
        here = [target for target in targets if target["ResourceId"] == resource]
        if here:
            found.targets += here
            of_target = {**which, "ResourceId": resource}
            found.policies += pages(aws.scaling, "describe_scaling_policies", "ScalingPolicies", **of_target)
            found.actions += pages(aws.scaling, "describe_scheduled_actions", "ScheduledActions", **of_target)


def _tags(listed: Iterator[Any]) -> dict[str, str]:
    return {tag["Key"]: tag["Value"] for tag in listed}
