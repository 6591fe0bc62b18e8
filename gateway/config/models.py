"""The configuration file, as types: public names, what they may do, the deployments behind them, and the keys.

Field names and limits of a deployment follow InvokeEndpoint:
https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_runtime_InvokeEndpoint.html
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from gateway.config import containers
from gateway.config.callers import Issuer, Network
from gateway.config.kinds import Expected, Loc, Section
from gateway.config.limits import Limits, ModelLimits, Prices, Priority, Team, Waiting
from gateway.config.lora import Adapter, every_adapter, faults_of_adapters, public_name
from gateway.config.media import Media
from gateway.config.names import AwsName, PublicName
from gateway.config.settings import Digest, Origin, Settings
from gateway.config.tgi import Tgi
from gateway.config.usage import UsageSink

# The key of a deployment has the name of a method that pydantic has deprecated, and nobody here calls.
warnings.filterwarnings("ignore", 'Field name "schema" in "Deployment" shadows an attribute in parent "Section"')

MAX_HEADER_TEXT = 1024
LONGEST_ROUTE = "route=/detokenize,"
"""Goes before a deployment's own CustomAttributes: AWS' image takes the first route, up to a comma or a space.
https://github.com/aws/deep-learning-containers: scripts/docker/vllm"""
TRACE_CHARS = len("traceparent=;") + 55
"""Goes before all of these: https://www.w3.org/TR/trace-context/#traceparent-header"""
HeaderText = Annotated[
    str,
    StringConstraints(pattern=r"^[\x20-\x7e]+$", max_length=MAX_HEADER_TEXT),
    Expected("at most 1024 printable ASCII characters"),
]
Seconds = Annotated[float, Field(gt=0, le=86_400)]


class Timeouts(Section):
    """Upper bounds on one attempt, in seconds."""

    connect_s: Seconds = 2.0
    """TCP connection and TLS handshake."""
    first_byte_s: Seconds = 120.0
    """From the request's last byte to the first byte of the reply's body."""
    gap_s: Seconds = 60.0
    """Between two bytes of a reply that has begun."""
    total_s: Seconds = 900.0
    """The whole attempt."""


class Deployment(Section):
    """One SageMaker endpoint, variant or inference component that serves a model."""

    endpoint: AwsName
    """Name of the SageMaker endpoint."""
    region: Annotated[
        str, StringConstraints(pattern=r"^[a-z]{2}(-[a-z]+)+-[0-9]$"), Expected("an AWS Region, such as us-east-1")
    ]
    """AWS Region of the endpoint."""
    container: Literal["lmi", "vllm", "tgi"]
    """The container that serves the model: AWS' LMI container (`lmi`), the vLLM container (`vllm`) or Hugging Face's
    Text Generation Inference (`tgi`)."""
    version: Annotated[
        str,
        Field(coerce_numbers_to_str=True, json_schema_extra={"type": ["string", "number"]}),
        Expected("the container's version, such as 15 for lmi, 0.11 for vllm or 3.3 for tgi"),
    ]
    """The container's version. LMI: 15 to 28. vLLM: 0.8 or later, TGI: 1.0 or later, both with or without the patch
    number."""
    schema: Literal["openai", "tgi"] = "openai"  # type: ignore[assignment]  # takes a deprecated method's place
    """How the LMI container is asked for texts: as OpenAI has it, or, for handlers that know no other, in LMI's own
    schema of `inputs` and `parameters` (`tgi`), which tells less."""
    messages_api: bool = False
    """A TGI container of version 1.4 to 2.3 runs with MESSAGES_API_ENABLED, and so takes chats and no texts. Later
    versions take both."""
    weight: Annotated[int, Field(ge=0, le=1000)] = 1
    """Share of the model's calls; 0 takes the deployment out."""
    served_model_name: Annotated[str, StringConstraints(min_length=1, max_length=256)] | None = None
    """The name the container knows its model by, if it must be sent; otherwise none is sent and the container fills in
    its own. For TGI, the id of the LoRA adapter that answers."""
    inference_component: AwsName | None = None
    """Inference component of the endpoint to call: InferenceComponentName."""
    target_variant: AwsName | None = None
    """Production variant to call, past the endpoint's own traffic split: TargetVariant."""
    target_model: HeaderText | None = None
    """Model of a multi-model endpoint to call: TargetModel. SageMaker takes it for whole replies only."""
    target_container_hostname: AwsName | None = None
    """Container of a multi-container endpoint to call: TargetContainerHostname."""
    session_id: (
        Annotated[HeaderText, StringConstraints(max_length=256), Expected("at most 256 printable ASCII characters")]
        | None
    ) = None
    """Stateful session that every call of this deployment belongs to: SessionId."""
    prefix_aware_id: (
        Annotated[HeaderText, StringConstraints(max_length=64), Expected("at most 64 printable ASCII characters")]
        | None
    ) = None
    """Routing group of an endpoint with prefix-aware routing: PrefixAwareId."""
    enable_explanations: (
        Annotated[HeaderText, StringConstraints(max_length=64), Expected("at most 64 printable ASCII characters")]
        | None
    ) = None
    """SageMaker Clarify's expression for explanations: EnableExplanations. Whole replies only."""
    custom_attributes: HeaderText | None = None
    """Fixed CustomAttributes; containers execute them, so callers never reach this header."""
    trace_context: Literal["none", "custom_attributes"] = "none"
    """Whether the container is told of the trace a call belongs to: as `traceparent=…;` before the CustomAttributes."""
    tokenizes: bool = False
    """The container's tokenizer can be reached, and answers `/tokenize` and `/chat_tokenize`: AWS' image of the vLLM
    container takes `route=/tokenize` in CustomAttributes, vLLM's own image does not."""
    role_arn: (
        Annotated[
            str,
            StringConstraints(pattern=r"^arn:aws[a-z-]*:iam::[0-9]{12}:role/[A-Za-z0-9_+=,.@/-]+$"),
            Expected("the ARN of an IAM role, such as arn:aws:iam::123456789012:role/invoke"),
        ]
        | None
    ) = None
    """Role to assume for this deployment's calls."""
    external_id: (
        Annotated[
            str,
            StringConstraints(pattern=r"^[A-Za-z0-9_+=,.@:/-]+$", min_length=2, max_length=1224),
            Expected("2 to 1224 letters, digits or _ + = , . @ : / -"),
        ]
        | None
    ) = None
    """External id that the role demands; needs `role_arn`."""
    endpoint_url: Origin | None = None
    """Replaces `https://runtime.sagemaker.{region}.{suffix}` for this deployment."""

    def routed_to(self, path: str) -> Deployment:
        """Return the deployment as AWS' image of the vLLM container answers it at another path."""
        own = self.custom_attributes
        route = f"route={path}"
        return self.model_copy(update={"custom_attributes": f"{route},{own}" if own else route})

    @classmethod
    def faults(cls, data: dict[str, Any]) -> Iterator[tuple[Loc, str]]:
        container = data.get("container")
        yield from containers.faults(data)
        if data.get("external_id") and not data.get("role_arn"):
            yield ("external_id",), "external_id needs role_arn"
        if data.get("tokenizes") and container not in (None, "vllm"):
            yield ("tokenizes",), f"the tokenizer of the {container} container cannot be reached through SageMaker"
        attributes = data.get("custom_attributes") or ""
        traced = data.get("trace_context") == "custom_attributes"
        free = {"tokenizes": len(LONGEST_ROUTE) if data.get("tokenizes") else 0, "trace_context": traced * TRACE_CHARS}
        if attributes and len(attributes) + sum(free.values()) > MAX_HEADER_TEXT:
            needs = " and ".join(name for name, chars in free.items() if chars)
            yield ("custom_attributes",), f"with {needs}, {sum(free.values())} characters have to stay free"
        if traced and "traceparent" in attributes:
            yield ("custom_attributes",), "with trace_context, traceparent is not a name for attributes of your own"


class Model(Section):
    """A public model name and everything a call to it may do."""

    name: PublicName
    """The name callers use."""
    aliases: tuple[PublicName, ...] = ()
    """More names for the same model."""
    owned_by: Annotated[str, StringConstraints(min_length=1, max_length=128)] = "lmi-gateway"
    """Owner, as shown by /v1/models."""
    created: Annotated[int, Field(ge=0)] = 0
    """Unix seconds, as shown by /v1/models."""
    context_length: Annotated[int, Field(gt=0)] | None = None
    """Tokens of prompt and answer together."""
    modalities: tuple[Literal["text", "image", "audio", "video"], ...] = ("text",)
    """What a prompt may hold, as shown by /v1/models; parts of another kind are refused."""
    unary: Literal["auto", "invoke", "stream"] = "auto"
    """How a whole reply is fetched: one InvokeEndpoint (cut by SageMaker at 60 s), or a stream put together here."""
    unary_stream_above_tokens: Annotated[int, Field(ge=0)] = 1024
    """With `unary: auto`: calls that may produce more new tokens than this, or any number, are streamed."""
    hold_status_s: Annotated[float, Field(ge=0, le=3600)] = 45.0
    """How long a stream waits for its first event before it sends 200 and keep-alive comments; 0 sends them at once."""
    keep_alive_s: Annotated[float, Field(ge=0, le=3600)] = 15.0
    """A comment is sent after this long without an event; 0 sends none."""
    unknown_fields: Literal["forward", "drop", "refuse"] = "forward"
    """Fields that are neither OpenAI's nor vLLM's."""
    allow_fields: tuple[
        Annotated[
            str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,63}$"), Expected("the name of a request field")
        ],
        ...,
    ] = ()
    """Fields that are refused by default and that callers of this model may nevertheless use."""
    image_hosts: tuple[
        Annotated[
            str,
            StringConstraints(pattern=r"^(\*\.)?[a-z0-9-]+(\.[a-z0-9-]+)*$"),
            Expected("a host name in lower case, such as images.example.com or *.example.com"),
        ],
        ...,
    ] = ()
    """Hosts that the URLs of images, sounds and films may name, `*.example.com` for subdomains; with none, every public
    host may be fetched from."""
    media: Media = Media()
    """What may be fetched for prompts, and how it is made to fit."""
    limits: Limits = Limits()
    """What all keys together may use of this model and its adapters."""
    shadow_limits: Limits = Limits()
    """Limits that are only observed: what they would refuse is counted and served."""
    prices: Prices | None = None
    """What its use costs; without it, nothing."""
    waiting: Waiting = Waiting()
    """What happens to calls over its `concurrent_requests`."""
    attempts: Annotated[int, Field(ge=1, le=5)] = 2
    """At most this many attempts a call, all before the first byte; 1 never repeats one."""
    timeouts: Timeouts = Timeouts()
    """Upper bounds on one attempt."""
    deployments: Annotated[tuple[Deployment, ...], Field(min_length=1)]
    """The endpoints that serve this model."""
    adapters: tuple[Adapter, ...] = ()
    """LoRA adapters, each a model of its own to callers: `model:adapter`. Everything else is the model's."""

    @classmethod
    def faults(cls, data: dict[str, Any]) -> Iterator[tuple[Loc, str]]:
        yield from faults_of_adapters(data)
        deployments = data.get("deployments")
        if deployments and all(deployment and deployment.get("weight") == 0 for deployment in deployments):
            yield ("deployments",), "every deployment has weight 0, so the model could never be served"
        if (data.get("media") or {}).get("urls") == "pass" and not data.get("image_hosts"):
            yield ("media", "urls"), "pass needs image_hosts: the hosts a container may be sent to"


def with_adapters(model: Model) -> Iterator[tuple[Model, Adapter | None]]:
    """Yield the model itself, and for each of its adapters the model that callers see."""
    yield model, None
    for adapter in model.adapters:
        # Either way the container puts the adapter's name in place of the model's.
        own_way: dict[str, Any] = {"served_model_name": None}
        if adapter.inference_component is not None:
            own_way["inference_component"] = adapter.inference_component
        deployments = tuple(deployment.model_copy(update=own_way) for deployment in model.deployments)
        own = {"name": public_name(model.name, adapter.name), "aliases": adapter.aliases, "adapters": ()}
        yield model.model_copy(update={**own, "deployments": deployments}), adapter


class Key(Section):
    """One API key: its digest and what it may do. The key itself is never stored."""

    id: Annotated[
        str,
        StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"),
        Expected("a key id: a letter or digit, then at most 63 letters, digits or . _ -"),
    ]
    """Names the key in logs."""
    digest: Annotated[Digest, Field(repr=False)]
    """The key's SHA-256, as printed by `lmi-gateway keys new` and `lmi-gateway keys digest`."""
    models: Annotated[tuple[str, ...], Field(min_length=1)]
    """Names or aliases of models and adapters this key may use; `model:*` for all adapters of a model, `*` for all."""
    team: str | None = None
    """The team the key belongs to."""
    priority: Priority = "default"
    """Whose calls go first where calls wait for a model."""
    limits: Limits = Limits()
    """What the key may use."""
    shadow_limits: Limits = Limits()
    """Limits that are only observed: what they would refuse is counted and served."""
    model_limits: tuple[ModelLimits, ...] = ()
    """What the key may use of single models, besides."""
    networks: tuple[Network, ...] = ()
    """Where calls with the key must come from: IP addresses and networks; without any, from anywhere."""
    metrics: bool = False
    """Count the key's calls and tokens in metrics of their own, which name its id."""


class ModelsFile(Section):
    """The whole file."""

    settings: Settings = Settings()
    """Settings of the process; LMI_GATEWAY_* variables win over them."""
    keys: tuple[Key, ...] = ()
    """The API keys; without any, the gateway serves only with `insecure`."""
    tgi: Tgi = Tgi()
    """What the routes of Text Generation Inference do."""
    teams: tuple[Team, ...] = ()
    """Groups of keys with limits of their own."""
    issuers: tuple[Issuer, ...] = ()
    """Identity providers whose tokens are taken in place of keys."""
    usage_sink: UsageSink | None = None
    """Where a record of every call's usage goes; without it, nowhere."""
    models: Annotated[tuple[Model, ...], Field(min_length=1)]
    """The models and where they run."""

    @classmethod
    def faults(cls, data: dict[str, Any]) -> Iterator[tuple[Loc, str]]:
        owners: dict[str, str] = {}
        for loc, name, owner in _names(data):
            if name in owners:
                yield loc, f"the name {name!r} is already taken by the model {owners[name]!r}"
            owners.setdefault(name, owner)
        # `model:*` → whether the model has adapters
        groups = {
            every_adapter(model["name"]): bool(model.get("adapters"))
            for model in data.get("models") or ()
            if model and model.get("name") is not None
        }
        teams = {team["name"] for team in data.get("teams") or () if team and team.get("name")}
        whole_teams = all(team and team.get("name") for team in data.get("teams") or ())
        for at, team in enumerate(data.get("teams") or ()):
            if team and team.get("name") in {
                other["name"] for other in data["teams"][:at] if other and "name" in other
            }:
                yield ("teams", at, "name"), f"the team {team['name']!r} is named twice"
        ids: set[str] = set()
        digests: dict[str, str] = {}
        # Where a model's own entry is wrong its names are not known, so a key may well be right about them.
        whole = all(_named(model) for model in data.get("models") or [None])
        for at, key in enumerate(data.get("keys") or ()):
            if not key:
                continue
            id_, digest = key.get("id"), key.get("digest")
            if id_ in ids:
                yield ("keys", at, "id"), f"the key id {id_!r} is used twice"
            if digest in digests:
                yield ("keys", at, "digest"), f"the key {digests[digest]!r} has the same digest"
            if id_ is not None:
                ids.add(id_)
            if digest is not None:
                digests.setdefault(digest, str(id_))
        issuers: set[str] = set()
        for at, issuer in enumerate(data.get("issuers") or ()):
            for field in ("name", "issuer"):
                if issuer and f"{field} {issuer.get(field)}" in issuers:
                    yield ("issuers", at, field), f"the {field} {issuer[field]!r} is used twice"
                if issuer:
                    issuers.add(f"{field} {issuer.get(field)}")
        for kind in ("keys", "issuers"):
            for at, holder in enumerate(data.get(kind) or ()):
                if not holder:
                    continue
                if holder.get("team") is not None and whole_teams and holder["team"] not in teams:
                    yield (kind, at, "team"), f"the team {holder['team']!r} does not exist"
                if whole:
                    for loc, message in _strangers(holder, owners, groups):
                        yield (kind, at, *loc), message
        default = (data.get("tgi") or {}).get("default_model")
        if whole and default is not None and default not in owners:
            yield ("tgi", "default_model"), f"the model {default!r} does not exist"


def _strangers(holder: dict[str, Any], owners: dict[str, str], groups: dict[str, bool]) -> Iterator[tuple[Loc, str]]:
    """Yield what a key or an issuer names that does not exist. `groups`: `model:*` → whether the model has adapters."""
    limited: list[tuple[Loc, dict[str, Any]]] = [((), holder)]
    limited += [(("plans", at), plan) for at, plan in enumerate(holder.get("plans") or ()) if plan]
    for loc, part in limited:
        for index, section in enumerate(part.get("model_limits") or ()):
            if section and section.get("model") is not None and section["model"] not in owners:
                yield (*loc, "model_limits", index, "model"), f"the model {section['model']!r} does not exist"
    for index, name in enumerate(holder.get("models") or ()):
        if name in (None, "*") or name in owners:
            continue
        if name not in groups:
            yield ("models", index), f"the model {name!r} does not exist"
        elif not groups[name]:
            yield ("models", index), f"{name!r} opens nothing: the model has no adapters"


def _named(model: dict[str, Any] | None) -> bool:
    """Say whether every name of a model and its adapters is known."""
    if model is None:
        return False
    names = [model.get("name"), *model.get("aliases", ())]
    for adapter in model.get("adapters") or ():
        names += [None] if adapter is None else [adapter.get("name"), *adapter.get("aliases", ())]
    return None not in names


def _names(data: dict[str, Any]) -> Iterator[tuple[Loc, str, str]]:
    """Yield every public name of the file: where it is, the name, and the model it belongs to."""
    for at, model in enumerate(data.get("models") or ()):
        if not model:
            continue
        owner = model.get("name")
        if owner is not None:
            yield ("models", at, "name"), owner, owner
        for index, alias in enumerate(model.get("aliases") or ()):
            if alias is not None:
                yield ("models", at, "aliases", index), alias, str(owner)
        for index, adapter in enumerate(model.get("adapters") or ()):
            if owner is None or not adapter or adapter.get("name") is None:
                continue
            name, loc = public_name(owner, adapter["name"]), ("models", at, "adapters", index)
            yield (*loc, "name"), name, name
            for place, alias in enumerate(adapter.get("aliases") or ()):
                if alias is not None:
                    yield (*loc, "aliases", place), alias, name
