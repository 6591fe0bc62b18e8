"""What the accelerators of an instance type are, for those that serve language models.

https://aws.amazon.com/sagemaker/ai/pricing/, https://docs.aws.amazon.com/ec2/latest/instancetypes/ac.html
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Machine:
    """One machine."""

    gpus: int
    gpu_gib: float
    """Memory of each GPU, in GiB."""


def _sizes(family: str, gpu_gib: float, sizes: str) -> dict[str, Machine]:
    pairs = (size.split("=") for size in sizes.split())
    return {f"ml.{family}.{name}": Machine(int(gpus), gpu_gib) for name, gpus in pairs}


MACHINES: dict[str, Machine] = {
    **_sizes("g4dn", 16, "xlarge=1 2xlarge=1 4xlarge=1 8xlarge=1 12xlarge=4 16xlarge=1"),
    **_sizes("g5", 24, "xlarge=1 2xlarge=1 4xlarge=1 8xlarge=1 12xlarge=4 16xlarge=1 24xlarge=4 48xlarge=8"),
    **_sizes("g6", 24, "xlarge=1 2xlarge=1 4xlarge=1 8xlarge=1 12xlarge=4 16xlarge=1 24xlarge=4 48xlarge=8"),
    **_sizes("g6e", 48, "xlarge=1 2xlarge=1 4xlarge=1 8xlarge=1 12xlarge=4 16xlarge=1 24xlarge=4 48xlarge=8"),
    **_sizes("g7e", 96, "2xlarge=1 4xlarge=1 8xlarge=1 12xlarge=2 24xlarge=4 48xlarge=8"),
    **_sizes("p4d", 40, "24xlarge=8"),
    **_sizes("p4de", 80, "24xlarge=8"),
    **_sizes("p5", 80, "4xlarge=1 48xlarge=8"),
    **_sizes("p5e", 141, "48xlarge=8"),
    **_sizes("p5en", 141, "48xlarge=8"),
    **_sizes("p6-b200", 180, "48xlarge=8"),
    **_sizes("p6-b300", 269, "48xlarge=8"),
}
"""Instance type → what is in it."""


def gpus(instance_type: str) -> int | None:
    """Return how many GPUs a machine has, None for a type that is not known here."""
    machine = MACHINES.get(instance_type)
    return machine.gpus if machine else None
