"""The public addresses, against botocore's tables of partitions and its rules for this service."""

from __future__ import annotations

from typing import Any

import boto3
import pytest
from botocore.loaders import Loader

from gateway.sagemaker.endpoints import runtime_url

SESSION = boto3.Session()
PARTITIONS: list[dict[str, Any]] = Loader().load_data("partitions")["partitions"]
REGIONS = {
    region: partition["outputs"]["dnsSuffix"]
    for partition in PARTITIONS
    for region in partition["regions"]
    if "global" not in region
}


def test_every_region_botocore_knows_has_the_suffix_of_its_partition() -> None:
    assert len(REGIONS) > 30
    expected = {region: f"https://runtime.sagemaker.{region}.{suffix}" for region, suffix in REGIONS.items()}
    assert {region: runtime_url(region) for region in REGIONS} == expected


@pytest.mark.parametrize("region", [
    "us-east-1", "eu-central-1", "us-gov-west-1", "cn-north-1", "us-iso-east-1", "us-isob-east-1", "us-isof-south-1",
    "eu-isoe-west-1", "eusc-de-east-1", "us-moon-9",
])  # fmt: skip
def test_a_client_of_boto3_would_go_to_the_same_address(region: str) -> None:
    client = SESSION.client(
        "sagemaker-runtime", region_name=region, aws_access_key_id="AKIAEXAMPLE", aws_secret_access_key="made-up"
    )
    assert client.meta.endpoint_url == runtime_url(region)
