"""Which image a container of some version is, in which Region, and what the machine below it must have.

Accounts: https://aws.github.io/deep-learning-containers/reference/region_availability/
Tags: https://github.com/aws/deep-learning-containers: docs/src/data; for TGI and the partitions other than AWS' own,
https://github.com/aws/sagemaker-python-sdk: image_uri_config
AMIs: https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_ProductionVariant.html
"""

from __future__ import annotations

import re
from dataclasses import dataclass

LMI_VERSIONS = range(15, 29)

_ACCOUNTS = {
    "626614931356": "af-south-1",
    "871362719292": "ap-east-1",
    "975050140332": "ap-east-2",
    "763104351884": "ap-northeast-1 ap-northeast-2 ap-south-1 ap-southeast-1 ap-southeast-2 ca-central-1 eu-central-1 "
    "eu-north-1 eu-west-1 eu-west-2 eu-west-3 sa-east-1 us-east-1 us-east-2 us-west-1 us-west-2",
    "364406365360": "ap-northeast-3",
    "772153158452": "ap-south-2",
    "907027046896": "ap-southeast-3",
    "457447274322": "ap-southeast-4",
    "550225433462": "ap-southeast-5",
    "633930458069": "ap-southeast-6",
    "590183813437": "ap-southeast-7",
    "204538143572": "ca-west-1",
    "727897471807": "cn-north-1 cn-northwest-1",
    "380420809688": "eu-central-2",
    "692866216735": "eu-south-1",
    "503227376785": "eu-south-2",
    "780543022126": "il-central-1",
    "914824155844": "me-central-1",
    "217643126080": "me-south-1",
    "124382933778": "me-west-1",
    "637423239942": "mx-central-1",
    "446045086412": "us-gov-east-1",
    "442386744353": "us-gov-west-1",
    "204133271717": "eusc-de-east-1",
}
ACCOUNTS = {region: account for account, regions in _ACCOUNTS.items() for region in regions.split()}
_SUFFIXES = {"cn-": "amazonaws.com.cn", "eusc-": "amazonaws.eu"}

_LMI_DJL = {15: "0.33.0", 16: "0.34.0", 17: "0.35.0"}
LMI_VLLM = {
    15: "0.8.4", 16: "0.10.2", 17: "0.11.1", 18: "0.12.0", 19: "0.14.0", 20: "0.15.1", 21: "0.16.0", 22: "0.17.0",
    23: "0.18.0", 24: "0.19.0", 25: "0.20.1", 26: "0.22.1", 27: "0.23.1", 28: "0.26.0",
}  # fmt: skip
"""The vLLM inside each LMI container."""

_LISTED = (
    "0.13.0 0.14.0 0.15.1 0.16.0 0.17.0 0.17.1 0.18.0 0.18.1 0.19.0 0.19.1 0.20.0 0.20.1 0.20.2 0.21.0 "
    "0.22.0 0.22.1 0.23.0 0.24.0 0.25.0 0.25.1 0.26.0 0.27.1 0.28.0 0.29.0 0.30.0 0.31.0"
)
VLLM_IMAGES = tuple(_LISTED.split())
"""The versions of the vLLM container that AWS lists, oldest first."""

TGI_IMAGES = {
    "1.0.3": "2.0.1-tgi1.0.3-gpu-py39-cu118-ubuntu20.04",
    "1.1.0": "2.0.1-tgi1.1.0-gpu-py39-cu118-ubuntu20.04",
    "1.2.0": "2.1.1-tgi1.2.0-gpu-py310-cu121-ubuntu20.04",
    "1.3.1": "2.1.1-tgi1.3.1-gpu-py310-cu121-ubuntu20.04",
    "1.3.3": "2.1.1-tgi1.3.3-gpu-py310-cu121-ubuntu20.04",
    "1.4.0": "2.1.1-tgi1.4.0-gpu-py310-cu121-ubuntu20.04",
    "1.4.2": "2.1.1-tgi1.4.2-gpu-py310-cu121-ubuntu22.04",
    "1.4.5": "2.1.1-tgi1.4.5-gpu-py310-cu121-ubuntu22.04",
    "2.0.0": "2.1.1-tgi2.0.0-gpu-py310-cu121-ubuntu22.04",
    "2.0.1": "2.1.1-tgi2.0.1-gpu-py310-cu121-ubuntu22.04",
    "2.0.2": "2.3.0-tgi2.0.2-gpu-py310-cu121-ubuntu22.04",
    "2.2.0": "2.3.0-tgi2.2.0-gpu-py310-cu121-ubuntu22.04-v2.0",
    "2.3.1": "2.4.0-tgi2.3.1-gpu-py311-cu124-ubuntu22.04",
    "2.4.0": "2.4.0-tgi2.4.0-gpu-py311-cu124-ubuntu22.04-v2.2",
    "3.0.1": "2.4.0-tgi3.0.1-gpu-py311-cu124-ubuntu22.04-v2.1",
    "3.1.1": "2.6.0-tgi3.1.1-gpu-py311-cu124-ubuntu22.04",
    "3.2.0": "2.6.0-tgi3.2.0-gpu-py311-cu124-ubuntu22.04",
    "3.2.3": "2.6.0-tgi3.2.3-gpu-py311-cu124-ubuntu22.04",
    "3.3.4": "2.7.0-tgi3.3.4-gpu-py311-cu124-ubuntu22.04",
    "3.3.6": "2.7.0-tgi3.3.6-gpu-py311-cu124-ubuntu22.04",
}
"""Version of TGI → the tag of AWS' image."""


class NoImage(ValueError):
    """AWS has no such image, or not in that Region; the text says which it has."""


_REPOSITORIES = {"lmi": "djl-inference", "vllm": "vllm", "tgi": "huggingface-pytorch-tgi-inference"}
_IMAGE = re.compile(r"[0-9]{12}\.dkr\.ecr\.(?P<region>[a-z0-9-]+)\.[a-z.]+/(?P<repository>[a-z-]+):(?P<tag>[\w.-]+)")
_LMI_TAG = re.compile(r"[0-9.]+-lmi([0-9]+)\.[0-9.]+-cu[0-9]+")
_CUDA = re.compile(r"-cu([0-9]{2})([0-9])\b")


@dataclass(frozen=True, slots=True)
class Known:
    """One of AWS' images, as its URI tells."""

    kind: str
    version: str
    region: str


def uri(kind: str, version: str, region: str) -> str:
    """Return the URI of AWS' image.

    Raises:
        NoImage: there is none.
    """
    if region not in ACCOUNTS:
        raise NoImage(f"AWS' images have no known account in {region}: name the image with container.image")
    suffix = next((ending for start, ending in _SUFFIXES.items() if region.startswith(start)), "amazonaws.com")
    return f"{ACCOUNTS[region]}.dkr.ecr.{region}.{suffix}/{_REPOSITORIES[kind]}:{tag(kind, version)}"


def tag(kind: str, version: str) -> str:
    """Return the tag of AWS' image: the newest patch release where `version` names none.

    Raises:
        NoImage: there is none.
    """
    if kind == "lmi":
        number = int(version) if version.isdecimal() else 0
        if number not in LMI_VERSIONS:
            raise NoImage(f"LMI containers are {LMI_VERSIONS[0]} to {LMI_VERSIONS[-1]}")
        cuda = "128" if number <= 20 else "129" if number <= 24 else "130"
        return f"{_LMI_DJL.get(number, '0.36.0')}-lmi{number}.0.0-cu{cuda}"
    of = _newest(kind, version)
    if kind == "tgi":
        return TGI_IMAGES[of]
    minor = int(of.split(".")[1])
    ubuntu = "22.04" if minor < 28 else "24.04"
    return f"{of}-gpu-py312-cu{'129' if minor < 20 else '130'}-ubuntu{ubuntu}-sagemaker"


def _newest(kind: str, version: str) -> str:
    versions = tuple(TGI_IMAGES) if kind == "tgi" else VLLM_IMAGES
    found = [one for one in versions if one == version or one.startswith(version + ".")]
    if not found:
        raise NoImage(f"AWS has no image of {kind} {version}: it has {', '.join(versions)}")
    return found[-1]


def engine_version(kind: str, version: str) -> str | None:
    """Return the version of vLLM that serves, None where none does."""
    if kind == "lmi":
        return LMI_VLLM.get(int(version)) if version.isdecimal() else None
    if kind == "vllm":
        return next((one for one in reversed(VLLM_IMAGES) if one == version or one.startswith(version + ".")), version)
    return None


def recognised(image: str) -> Known | None:
    """Return what `image` is if it is one of AWS'."""
    found = _IMAGE.fullmatch(image)
    if not found:
        return None
    region, repository, its_tag = found["region"], found["repository"], found["tag"]
    if repository == "djl-inference" and (lmi := _LMI_TAG.fullmatch(its_tag)):
        return Known("lmi", lmi[1], region)
    if repository == "vllm" and (version := re.match(r"0\.[0-9]+(\.[0-9]+)?(?=-)", its_tag)):
        return Known("vllm", version[0], region)
    if repository == _REPOSITORIES["tgi"] and (version := re.search(r"-tgi([0-9.]+)-", its_tag)):
        return Known("tgi", version[1], region)
    return None


def ami(image: str) -> str | None:
    """Return the AMI that an image needs, None where SageMaker's own choice does.

    The drivers of the default AMI are too old for CUDA 12.9 and later.
    """
    cuda = _CUDA.search(image)
    number = int(cuda[1] + cuda[2]) if cuda else 0
    if number >= 130:
        return "al2023-ami-sagemaker-inference-gpu-4-1"
    return "al2-ami-sagemaker-inference-gpu-3-1" if number >= 129 else None
