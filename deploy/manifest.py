"""The manifest: one strict YAML file that says which model runs where, and how.

    bytes ─▶ manifestfile (values with their lines) ─▶ Manifest (fields) ─▶ rules (between fields) ─▶ Manifest

Everything that is wrong is told at once, each with its line. Nothing here asks AWS or the environment.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, Field, ValidationError

from deploy import manifestfile
from deploy.growth import Scaling, Schedule, Update
from deploy.manifestfile import Loc, ManifestError, Problem, hinted, shown
from deploy.sections import (
    PATTERNS,
    AwsName,
    Capture,
    Container,
    Instances,
    KmsKey,
    Model,
    Network,
    Options,
    PublicName,
    Region,
    RoleArn,
    Routing,
    S3Uri,
    Section,
    Setting,
    TagKey,
    TagValue,
    Timeouts,
    Variable,
)


class Gateway(Section):
    """The model's entry in the gateway's models file, as `lmi-deploy export` writes it."""

    model: PublicName | None = None
    """The public name; by itself, the last part of the model's id."""
    aliases: tuple[PublicName, ...] = ()
    """More public names."""
    context_length: Annotated[int, Field(gt=0)] | None = None
    """Tokens of prompt and answer together; by itself, the engine's limit where the manifest says one."""
    modalities: tuple[Literal["text", "image", "audio", "video"], ...] = ()
    """What a prompt may hold; by itself, what the model's family takes."""


class Served(Section):
    """One model in one container: that of the endpoint, or of one of its components."""

    model: Model | None = None
    """The model. Without it, the manifest has `components`."""
    container: Container | None = None
    """The container that serves it."""
    option: Options = Field(default_factory=dict)
    """LMI's options by their names, `option.` left out, over the recommended ones; one without a value takes a
    recommended one away."""
    engine: Options = Field(default_factory=dict)
    """Arguments of the engine: vLLM's, with underscores, or those of TGI's launcher."""
    environment: dict[Variable, Setting] = Field(default_factory=dict)
    """Further environment variables of the container: text, or a `secret` or `env` to take it from."""
    timeouts: Timeouts = Timeouts()
    """How long starting may take."""
    scaling: Scaling | None = None
    """Grows and shrinks with the calls."""
    schedules: tuple[Schedule, ...] = ()
    """Bounds of scaling at set times."""
    gateway: Gateway = Gateway()
    """What the gateway is told of the model."""


class LoraAdapter(Section):
    """A LoRA adapter, as an inference component on top of another."""

    name: AwsName
    """Names the inference component."""
    artifact: S3Uri
    """The adapter, an archive in S3: `s3://bucket/adapter.tar.gz`."""

    def faults(self) -> Iterator[tuple[Loc, str]]:
        if not self.artifact.endswith(".tar.gz"):
            yield ("artifact",), "expected one archive, s3://….tar.gz"


class Component(Served):
    """An inference component: one model that shares the endpoint's machines with others."""

    name: AwsName
    """Names the inference component, in the whole account and Region."""
    copies: Annotated[int, Field(ge=0)] = 1
    """How many at first; then scaling decides, if there is any."""
    memory_mb: Annotated[int, Field(ge=128)]
    """The least main memory of a copy, in MiB."""
    max_memory_mb: Annotated[int, Field(ge=128)] | None = None
    """The most it may take."""
    accelerators: Annotated[int, Field(ge=1)] | None = None
    """Whole GPUs of a copy."""
    cpus: Annotated[float, Field(ge=0.25, allow_inf_nan=False)] | None = None
    """CPU cores of a copy."""
    placement: Literal["spread", "binpack"] | None = None
    """Spreads copies over many machines, or fills few."""
    cache: bool | None = None
    """Keeps artefacts and image on the machine for the next copy: DataCacheConfig."""
    adapters: tuple[LoraAdapter, ...] = ()
    """LoRA adapters on top of this one."""


class Manifest(Served):
    """The whole file: one endpoint."""

    name: AwsName
    """Names the endpoint, and begins the name of everything else."""
    region: Region | None = None
    """AWS Region; by itself, the one that boto3 finds."""
    role: RoleArn
    """The role that SageMaker assumes to run the container: ExecutionRoleArn."""
    variant: AwsName = "AllTraffic"
    """Names the production variant."""
    instances: Instances
    """The machines."""
    components: tuple[Component, ...] = Field(default=(), max_length=200)
    """Inference components, in place of `model`."""
    network: Network = Network()
    """Where the container's connections go."""
    kms_key: KmsKey | None = None
    """Encrypts the storage volume, for instance types without disks of their own."""
    tags: dict[TagKey, TagValue] = Field(default_factory=dict, max_length=40)
    """Tags of everything that can be tagged."""
    routing: Routing | None = None
    """Which machine a call goes to; by itself, any."""
    capture: Capture | None = None
    """Keeps calls and answers in S3."""
    update: Update | None = None
    """How a change reaches the machines."""
    prices: dict[str, Annotated[float, Field(ge=0, allow_inf_nan=False)]] = Field(default_factory=dict)
    """Instance type → what an hour of it costs, for `plan`."""

    @property
    def served(self) -> tuple[tuple[Loc, Manifest | Component], ...]:
        """Every model of the endpoint, and where the manifest has it."""
        if not self.components:
            return (((), self),)
        return tuple((("components", at), component) for at, component in enumerate(self.components))

    def container_of(self, served: Served) -> Container | None:
        """Return the container of a model: a component without one of its own has the manifest's."""
        return served.container or self.container


def load(path: Path) -> Manifest:
    """Return the manifest in a file.

    Raises:
        ManifestError: it cannot be read, or something is wrong with it.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ManifestError([Problem(str(path), 0, "", f"cannot be read: {error.strerror}")]) from None
    return parse(data, str(path))


def parse(data: bytes, source: str) -> Manifest:
    """Return the manifest that a file's bytes make; `source` is the file's name in messages.

    Raises:
        ManifestError: something is wrong with it.
    """
    from deploy import rules  # which reads manifests, and so comes after this module

    text = manifestfile.read(data, source)
    try:
        manifest = Manifest.model_validate(text.values)
    except ValidationError as error:
        for found in error.errors(include_url=False, include_input=False):
            text.add(*_told(found, text.values))
        raise ManifestError(text.problems) from None
    for loc, message in [*_faults(manifest, ()), *rules.faults(manifest)]:
        text.add(loc, message)
    if text.problems:
        raise ManifestError(text.problems)
    return manifest


def _faults(value: Any, loc: Loc) -> Iterator[tuple[Loc, str]]:
    """Yield what every section finds wrong with itself."""
    if isinstance(value, Section):
        yield from (((*loc, *inner), message) for inner, message in value.faults())
        value = dict(value)
    if isinstance(value, dict | tuple):
        for step, child in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _faults(child, (*loc, step))


def _told(error: Any, values: Any) -> tuple[Loc, str]:
    """Return where an error of pydantic's is, and what it means."""
    kind, context, loc = error["type"], error.get("ctx", {}), tuple(error["loc"])
    if loc[-1:] == ("[key]",):
        return loc[:-1], f"expected {PATTERNS.get(context.get('pattern'), 'another key')}"
    if kind == "extra_forbidden":
        known = _fields(loc[:-1])
        return loc, f"unknown key{hinted(str(loc[-1]), known) or '; known keys: ' + ', '.join(known)}"
    if kind == "missing":
        return loc, "missing"
    for step in loc:
        try:
            values = values[step]
        except (TypeError, LookupError):  # what text stands for as a mapping is not in the file
            values = None
    # What stands where a secret is expected may be the secret itself.
    found = "" if _SECRET_KEYS.intersection(loc) else f", found {shown(values)}"
    if kind == "string_pattern_mismatch":
        return loc, f"expected {PATTERNS[context['pattern']]}{found}"
    if kind == "literal_error":
        choices = str(context["expected"])
        known = re.findall(r"'([^']+)'", choices)
        return loc, f"expected {choices}{found}{hinted(str(values), known)}"
    words = str(error["msg"]).removeprefix("Value error, ").replace("Input should be", "expected")
    for technical, plain in _PLAIN.items():
        words = words.replace(technical, plain)
    return loc, f"{words[:1].lower()}{words[1:]}{found}"


_SECRET_KEYS = frozenset({"token", "environment", "secret", "json_key"})
_PLAIN = {
    "a valid dictionary or instance of": "a mapping:",
    "a valid dictionary": "a mapping",
    "a valid tuple": "a list",
    "a valid integer, unable to parse string as an integer": "a whole number",
    "a valid number, unable to parse string as a number": "a number",
    "a valid boolean, unable to interpret input": "true or false",
    "a valid boolean": "true or false",
    "a valid string": "text",
    "a valid integer": "a whole number",
}


def _fields(loc: Loc) -> list[str]:
    """Return the keys that a section may have."""
    section: Any = Manifest
    for step in loc:
        if isinstance(step, str) and _is_section(section) and step in section.model_fields:
            section = next(iter(_sections(section.model_fields[step].annotation)), None)
    return list(section.model_fields) if _is_section(section) else []


def _sections(annotation: Any) -> Iterator[type[BaseModel]]:
    if _is_section(annotation):
        yield annotation
    for inner in get_args(annotation):
        yield from _sections(inner)


def _is_section(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)
