"""The sections of a manifest that say where and how its endpoint runs. deploy/manifest.py puts them together.

Limits are those of SageMaker's requests: https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_Operations.html
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

from deploy.manifestfile import Loc, meaning


class Section(BaseModel):
    """A mapping of the manifest: unknown keys are refused, values are frozen, docstrings are the documentation."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, hide_input_in_errors=True)

    def faults(self) -> Iterator[tuple[Loc, str]]:
        """Yield what is wrong between the fields: where, and a message."""
        yield from ()


_NAME = r"^[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}$"
_REGION = r"^[a-z]{2,4}(-[a-z]+)+-[0-9]$"
_ROLE = r"^arn:aws[a-z-]*:iam::[0-9]{12}:role/[\w+=,.@/-]+$"
_S3 = r"^s3://[a-z0-9][a-z0-9.-]+(/.*)?$"
_KMS = r"^[a-zA-Z0-9:/_-]+$"
_INSTANCE = r"^ml\.[a-z0-9-]+\.[a-z0-9]+$"
_VARIABLE = r"^[A-Za-z_][A-Za-z0-9_]*$"
_REVISION = r"^[\w./-]+$"
_RESERVATION = r"^arn:aws[a-z-]*:sagemaker:.*:ml-reservation/.+$"
_PUBLIC = r"^[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,127}$"
_TAG = r"^[\p{L}\p{Z}\p{N}_.:/=+@-]*$"
_SUBNET, _GROUP = r"^subnet-[0-9a-z]+$", r"^sg-[0-9a-z]+$"
PATTERNS = {
    _NAME: "at most 63 letters, digits and hyphens, with a letter or digit at both ends",
    _REGION: "an AWS Region, such as us-east-1",
    _ROLE: "the ARN of an IAM role, such as arn:aws:iam::123456789012:role/sagemaker",
    _S3: "an S3 URI, such as s3://bucket/prefix/",
    _KMS: "the id or ARN of a KMS key",
    _INSTANCE: "an instance type of SageMaker, such as ml.g5.12xlarge",
    _VARIABLE: "the name of an environment variable",
    _REVISION: "a commit, branch or tag",
    _RESERVATION: "the ARN of a reservation of SageMaker",
    _PUBLIC: "a model name: a letter or digit, then at most 127 letters, digits or . _ : / @ + -",
    _TAG: "letters, digits, spaces and _ . : / = + - @",
    _SUBNET: "the id of a subnet, such as subnet-0123456789abcdef0",
    _GROUP: "the id of a security group, such as sg-0123456789abcdef0",
}
"""What text has to look like → how that is said, after "expected"."""
AwsName = Annotated[str, StringConstraints(pattern=_NAME, max_length=63)]
Region = Annotated[str, StringConstraints(pattern=_REGION)]
RoleArn = Annotated[str, StringConstraints(pattern=_ROLE, max_length=2048)]
S3Uri = Annotated[str, StringConstraints(pattern=_S3, max_length=1024)]
KmsKey = Annotated[str, StringConstraints(pattern=_KMS, max_length=2048)]
InstanceType = Annotated[str, StringConstraints(pattern=_INSTANCE)]
PublicName = Annotated[str, StringConstraints(pattern=_PUBLIC)]
TagKey = Annotated[str, StringConstraints(pattern=_TAG, min_length=1, max_length=128)]
TagValue = Annotated[str, StringConstraints(pattern=_TAG, max_length=256)]
Variable = Annotated[str, StringConstraints(pattern=_VARIABLE, max_length=256)]
Seconds = Annotated[int, Field(ge=60, le=3600)]
Options = dict[str, Any]


class Secret(Section):
    """Where a secret is. What it is is read when it is needed, and never written anywhere."""

    secret: Annotated[str, StringConstraints(min_length=1, max_length=2048)] | None = None
    """Name or ARN of a secret in AWS Secrets Manager."""
    json_key: Annotated[str, StringConstraints(min_length=1, max_length=256)] | None = None
    """The key to take where the secret is a JSON object."""
    env: Variable | None = None
    """An environment variable of the process that applies the manifest."""

    def faults(self) -> Iterator[tuple[Loc, str]]:
        if (self.secret is None) == (self.env is None):
            yield (), "say either secret or env"
        if self.json_key is not None and self.secret is None:
            yield ("json_key",), "json_key needs secret"


def _setting(value: Any) -> Any:
    return value if isinstance(value, dict | Secret) or value is None else {"value": value}


class _Setting(Secret):
    value: str | None = None
    """The value itself: text in place of the mapping says just this."""

    def faults(self) -> Iterator[tuple[Loc, str]]:
        if self.value is None:
            yield from super().faults()


Setting = Annotated[_Setting, BeforeValidator(_setting)]


class Model(Section):
    """Which model is served, and what its artefacts are fetched with."""

    id: Annotated[str, StringConstraints(min_length=1, max_length=1024)]
    """Id on the Hugging Face Hub, an S3 prefix with a trailing slash (`s3://bucket/prefix/`), or an archive in S3
    (`s3://bucket/model.tar.gz`)."""
    revision: Annotated[str, StringConstraints(pattern=_REVISION, max_length=256)] | None = None
    """Commit, branch or tag on the hub."""
    token: Secret | None = None
    """The hub's token, for gated models."""
    family: Annotated[str, StringConstraints(min_length=1, max_length=256)] | None = None
    """Id on the hub of the model that this one is a copy of in S3, or was made from: its parsers, limits and modalities
    are then known."""
    trust_remote_code: bool = False
    """Runs code that comes with the model."""
    accept_eula: bool = False
    """Accepts the licence of a model in S3 that asks for it, as those of SageMaker JumpStart do."""

    @property
    def in_s3(self) -> bool:
        return self.id.startswith("s3://")

    @property
    def known_as(self) -> str:
        return self.family or self.id

    def faults(self) -> Iterator[tuple[Loc, str]]:
        if self.in_s3:
            if not self.id.endswith(("/", ".tar.gz")):
                yield ("id",), "an S3 prefix ends in a slash, an archive in .tar.gz"
            for name in ("revision", "token"):
                if getattr(self, name) is not None:
                    yield (name,), "is for models on the hub"
        elif "://" in self.id or self.id.count("/") > 1 or self.id.startswith("/"):
            yield ("id",), "expected the id of a model on the hub, such as Qwen/QwQ-32B, or an s3:// URI"
        elif self.accept_eula:
            yield ("accept_eula",), "is for models in S3"


class Container(Section):
    """The software that serves."""

    kind: Literal["lmi", "vllm", "tgi"]
    """AWS' Large Model Inference container (`lmi`), AWS' vLLM container (`vllm`) or AWS' image of Hugging Face's Text
    Generation Inference (`tgi`)."""
    version: str
    """LMI: 15 to 28. vLLM and TGI: such as 0.25 or 3.3.4; without a patch number, the newest that AWS has."""
    image: Annotated[str, StringConstraints(pattern=r"^\S+$", max_length=255)] | None = None
    """An image in place of AWS'. Kind and version say what is in it."""


class Instances(Section):
    """The machines of the endpoint."""

    type: InstanceType | None = None
    """The instance type."""
    types: tuple[InstanceType, ...] = Field(default=(), max_length=5)
    """In place of `type`, up to five types: the first that can be had."""
    count: Annotated[int, Field(ge=1)] = 1
    """How many at first; then scaling decides, if there is any."""
    volume_gb: Annotated[int, Field(ge=1, le=512)] | None = None
    """Size of the storage volume, for instance types without a disk of their own."""
    ami: str | None = None
    """InferenceAmiVersion. By itself, the one that the image's CUDA needs."""
    managed: Managed | None = None
    """Lets SageMaker add and remove machines for the copies of inference components."""
    reservation: Annotated[str, StringConstraints(pattern=_RESERVATION, max_length=258)] | None = None
    """A training plan's or capacity reservation's ARN: only its capacity is used."""

    @property
    def all_types(self) -> tuple[str, ...]:
        return self.types or ((self.type,) if self.type else ())

    def faults(self) -> Iterator[tuple[Loc, str]]:
        if bool(self.type) == bool(self.types):
            yield (), "say either type or types"
        if self.managed and self.managed.min > self.count:
            yield ("count",), "is below managed.min"
        if self.managed and self.managed.max < self.count:
            yield ("count",), "is above managed.max"


class Managed(Section):
    """Bounds of managed instance scaling."""

    min: Annotated[int, Field(ge=0)] = 1
    """At least so many machines; 0 lets an endpoint whose components have no copies cost nothing."""
    max: Annotated[int, Field(ge=1)]
    """At most so many."""

    def faults(self) -> Iterator[tuple[Loc, str]]:
        if self.min > self.max:
            yield ("min",), "is above max"


class Timeouts(Section):
    """How long things may take, in seconds."""

    download_s: Seconds = 1800
    """Fetching the model's artefacts from S3: ModelDataDownloadTimeoutInSeconds."""
    startup_s: Seconds = 1800
    """Starting the container until it answers its first health check:
    ContainerStartupHealthCheckTimeoutInSeconds. A model on the hub is fetched in this time."""
    loading_s: Annotated[int, Field(ge=1, le=3600)] | None = None
    """LMI: loading the model, `option.model_loading_timeout`. By itself, startup_s less a minute."""

    @property
    def loading(self) -> int:
        return self.startup_s - 60 + (self.startup_s == 60) * 30 if self.loading_s is None else self.loading_s

    def faults(self) -> Iterator[tuple[Loc, str]]:
        if self.loading > self.startup_s:
            yield (
                ("loading_s",),
                f"is above startup_s, {self.startup_s}: SageMaker would give up before the container does",
            )


class Network(Section):
    """Where the container's connections go."""

    isolation: bool = False
    """No connections at all, not even to S3 or the hub: the model has to be in S3, where SageMaker fetches it."""
    subnets: tuple[Annotated[str, StringConstraints(pattern=_SUBNET)], ...] = Field(default=(), max_length=16)
    """Subnets of your VPC."""
    security_groups: tuple[Annotated[str, StringConstraints(pattern=_GROUP)], ...] = Field(default=(), max_length=5)
    """Security groups of your VPC."""

    def faults(self) -> Iterator[tuple[Loc, str]]:
        if bool(self.subnets) != bool(self.security_groups):
            yield (), "a VPC needs both subnets and security_groups"


class Routing(Section):
    """Which of the machines a call goes to."""

    strategy: Literal["least_outstanding_requests", "random", "prefix_aware", "kv_aware"]
    """`prefix_aware` sends calls that begin alike to the same machine; `kv_aware` looks into the caches of the vLLM
    container."""
    prefix_bytes: Annotated[int, Field(ge=1024, le=65_536)] | None = None
    """How much of a call's body has to be alike: PrefixLength."""
    concurrency_threshold: Annotated[int, Field(ge=1, le=1024)] | None = None
    """Calls that a machine may have running before the next goes elsewhere: ConcurrencyThreshold."""

    def faults(self) -> Iterator[tuple[Loc, str]]:
        for name in ("prefix_bytes", "concurrency_threshold"):
            if self.strategy != "prefix_aware" and getattr(self, name) is not None:
                yield (name,), "is for prefix_aware"


class Capture(Section):
    """Keeps calls and answers in S3: DataCaptureConfig. They hold what your callers wrote."""

    to: S3Uri
    """Where to."""
    percent: Annotated[int, Field(ge=1, le=100)] = 100
    """Share of the calls."""
    what: tuple[Literal["input", "output"], ...] = Field(("input", "output"), min_length=1)
    """What of each."""
    kms_key: KmsKey | None = None
    """Encrypts it."""


def plain(options: Options) -> dict[str, Any]:
    """Return options as JSON values."""
    return {name: meaning(value) for name, value in options.items()}
