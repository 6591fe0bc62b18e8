"""Settings of the process: the file's `settings:` section, and the LMI_GATEWAY_* variables that win over it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import parse_qsl, unquote, urlsplit

from pydantic import AfterValidator, ConfigDict, Field, StringConstraints

from gateway.config.kinds import Expected, Section

PREFIX = "LMI_GATEWAY_"
CONFIG_VARIABLE = "LMI_GATEWAY_CONFIG"
"""Names the configuration file; every other variable is a setting."""

# A Kubernetes Service called lmi-gateway gives every pod of its namespace variables of these names, and
# LMI_GATEWAY_PORT=tcp://… besides.
# https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables
_SERVICE_LINK = re.compile(
    r"LMI_GATEWAY_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)$"
)
_SERVICE_URL = re.compile(r"(tcp|udp|sctp)://")
_NUMBER = re.compile(r"[0-9]{1,9}")


def _origin(url: str) -> str:
    parts = urlsplit(url)
    if not parts.hostname or parts.port == 0:  # `port` raises ValueError where it is no number up to 65535
        raise ValueError("not an origin")
    return url.removesuffix("/")


def _redis(url: str) -> str:
    try:
        parts = urlsplit(url)
        host, _ = unquote(parts.hostname or ""), parts.port
        host.encode("idna")
        options = dict(parse_qsl(parts.query, keep_blank_values=True))
    except ValueError:  # its text may hold a part of the password
        raise ValueError("not a URL") from None
    here = parts.path if parts.scheme == "unix" else host
    # What is no place and no database is, most of the time, the rest of a password that was not percent-encoded.
    numbers = options.pop("db", "0"), "0" if parts.scheme == "unix" else parts.path.removeprefix("/") or "0"
    if not here or "#" in url or options.keys() - {"username", "password"} or not all(map(_NUMBER.fullmatch, numbers)):
        raise ValueError("not a URL of Redis")
    return url


Origin = Annotated[
    str,
    StringConstraints(pattern=r"^https?://[^\s/?#@\\]+/?$"),
    AfterValidator(_origin),
    Expected("a URL without a path, such as https://runtime.sagemaker.eu-west-1.amazonaws.com"),
]
RedisUrl = Annotated[
    str,
    StringConstraints(pattern=r"^(rediss?://[^\s]+|unix://[^\s]+)$"),
    AfterValidator(_redis),
    Expected(
        "a URL such as redis://127.0.0.1:6379/0, with # / ? and the like percent-encoded in a password", secret=True
    ),
]
Host = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Za-z0-9._:-]{1,253}$"),
    Expected("a host name or an IP address, such as 0.0.0.0"),
]
Digest = Annotated[
    str,
    StringConstraints(pattern=r"^sha256:[0-9a-f]{64}$"),
    Expected("sha256: and 64 hexadecimal digits, as printed by `lmi-gateway keys digest`", secret=True),
]
Bytes = Annotated[int, Field(ge=1024, le=1 << 30)]
Seconds = Annotated[float, Field(gt=0, le=3600)]


class Settings(Section):
    """Settings of the process."""

    model_config = ConfigDict(strict=True)

    host: Host = "127.0.0.1"
    """Address to listen on; `0.0.0.0` for every IPv4 interface."""
    port: Annotated[int, Field(ge=0, le=65_535)] = 8080
    """TCP port to listen on; 0 takes a free one."""
    workers: Annotated[int, Field(ge=1, le=256)] = 1
    """Worker processes; one per core is enough."""
    log_level: Literal["debug", "info", "warning", "error", "critical"] = "info"
    """The least severe log records that are written."""
    log_calls: Literal["all", "failed", "off"] = "all"
    """Which calls get a line in the log: `failed` are those that failed through no doing of their
    callers'."""
    max_body_bytes: Bytes = 6_291_456
    """Largest request body that callers may send. It may be more than `max_upstream_body_bytes` where images are scaled
    down."""
    max_upstream_body_bytes: Bytes = 6_291_456
    """Largest request body that is sent on; SageMaker itself takes 6 MiB (6291456)."""
    max_header_bytes: Bytes = 65_536
    """Largest request line and headers together."""
    header_timeout_s: Seconds = 10.0
    """Seconds a caller has to send the request line and headers."""
    body_timeout_s: Seconds = 30.0
    """Seconds a caller has to send the body."""
    idle_timeout_s: Seconds = 75.0
    """Seconds an idle connection is kept open for the next request."""
    write_timeout_s: Seconds = 30.0
    """Seconds a caller may take nothing of a reply before the connection is closed."""
    stream_buffer_bytes: Bytes = 65_536
    """Bytes of a stream held for a slow caller before reading from SageMaker pauses."""
    max_event_bytes: Bytes = 8_388_608
    """Largest single record of a stream."""
    max_reply_bytes: Bytes = 33_554_432
    """Largest whole reply."""
    drain_timeout_s: Annotated[float, Field(ge=0, le=3600)] = 30.0
    """Seconds that running calls may take to end after a stop signal; 0 cuts them at once."""
    media_fetches: Annotated[int, Field(ge=1, le=1000)] = 32
    """URLs of prompts that a worker fetches at the same time."""
    media_threads: Annotated[int, Field(ge=1, le=64)] = 2
    """Images that a worker scales at the same time."""
    media_cache_bytes: Annotated[int, Field(ge=0, le=1 << 36)] = 67_108_864
    """Memory of each worker for what was fetched and scaled; 0 keeps nothing."""
    media_cache_s: Annotated[float, Field(ge=0, le=86_400)] = 60.0
    """Seconds that a URL is not asked for again; then its host is asked whether it has changed."""
    docs_enabled: bool = True
    """Serve the API's own documentation."""
    metrics_enabled: bool = True
    """Serve Prometheus metrics to whoever reaches `port`; the administration serves them to those who have its key."""
    telemetry_enabled: bool = True
    """Measure calls at all. Without it there are no metrics, at the administration neither."""
    traces_exporter: Literal["none", "otlp"] = "none"
    """Where spans of calls go: nowhere, or to OpenTelemetry's collector; needs the extra `otel`. Without it
    `OTEL_TRACES_EXPORTER` counts."""
    trace_content: bool = False
    """Put prompts into spans, without what looks like a secret."""
    trace_content_chars: Annotated[int, Field(ge=1, le=32_768)] = 4096
    """Characters of each text of a prompt that are put into a span."""
    sagemaker_endpoint_url: Origin | None = None
    """Replaces `https://runtime.sagemaker.{region}.{suffix}` for every deployment without an `endpoint_url` of its own.
    Without it `AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME` counts, then `AWS_ENDPOINT_URL`."""
    upstream_idle_s: Seconds = 55.0
    """Seconds an idle connection to SageMaker is kept for the next call."""
    ca_bundle: Path | None = None
    """PEM file of certificate authorities to trust for connections to SageMaker. Without it `AWS_CA_BUNDLE` counts,
    then the system's own. A relative path starts at the working directory."""
    limits_store: Literal["memory", "redis"] = "memory"
    """Where limits and usage are counted: in each worker process by itself, or in Redis for all processes together."""
    redis_url: Annotated[RedisUrl | None, Field(repr=False)] = None
    """Redis, or any node of a Redis Cluster; Valkey will do. `redis://[user:password@]host[:port][/db]`, `rediss://…`
    for TLS, `unix:///path`."""
    redis_ca_bundle: Path | None = None
    """PEM file of certificate authorities to trust for `rediss://`; without it the system's own."""
    redis_prefix: Annotated[
        str, StringConstraints(pattern=r"^[A-Za-z0-9._-]{1,64}$"), Expected("1 to 64 letters, digits or . _ -")
    ] = "lmi-gateway"
    """Begins the name of everything kept in Redis; gateways with the same prefix share limits, keys and usage."""
    redis_timeout_s: Annotated[float, Field(ge=0.005, le=5)] = 0.05
    """Seconds Redis may take for an answer; after that it is left alone until it answers again."""
    redis_policy: Literal["open", "closed", "local"] = "local"
    """While Redis is away: `open` serves everybody, `closed` nobody (503), `local` lets each process admit its share of
    every limit."""
    lease_s: Annotated[float, Field(ge=1, le=300)] = 10.0
    """Seconds after which the running calls of a process that was killed no longer count."""
    usage_days: Annotated[int, Field(ge=1, le=3660)] = 400
    """Days for which the usage of keys, teams and models is kept."""
    keys_store: Literal["file", "redis"] = "file"
    """Where API keys are kept: in the configuration file alone, or in Redis besides."""
    admin_host: Host = "127.0.0.1"
    """Address that the administration listens on."""
    admin_port: Annotated[int, Field(ge=0, le=65_535)] | None = None
    """TCP port of the administration, which makes and revokes keys and has the console; 0 takes a free one, without it
    there is none."""
    admin_key_digest: Annotated[Digest | None, Field(repr=False)] = None
    """The SHA-256 of the key that opens the administration."""
    insecure: bool = False
    """Serve although no API keys are configured: anyone who reaches the port may use every model."""

    def clashes(self) -> Iterator[tuple[str, str]]:
        """Yield what is wrong between settings, wherever each of them comes from: the setting and a message."""
        if self.redis_url is None:
            if self.limits_store == "redis":
                yield "limits_store", "limits_store: redis needs redis_url"
            if self.keys_store == "redis":
                yield "keys_store", "keys_store: redis needs redis_url"
        if self.admin_port is not None and self.admin_key_digest is None:
            yield "admin_port", "admin_port needs admin_key_digest"


def own_variables(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the LMI_GATEWAY_* variables meant as settings: neither empty ones nor Kubernetes' service links."""
    return {
        name: value
        for name, value in environ.items()
        if name.startswith(PREFIX)
        and value
        and name != CONFIG_VARIABLE
        and not _SERVICE_LINK.match(name)
        and not (name == "LMI_GATEWAY_PORT" and _SERVICE_URL.match(value))
    }


def aws_variables(environ: Mapping[str, str]) -> dict[str, str]:
    """Return AWS' and OpenTelemetry's variables that supply settings the gateway's own configuration leaves open.

    Field name → variable. Order of precedence of AWS':
    https://docs.aws.amazon.com/sdkref/latest/guide/feature-ss-endpoints.html
    """
    found = {}
    if environ.get("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "").lower() != "true":
        for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME"):
            if environ.get(name):
                found["sagemaker_endpoint_url"] = name
    if environ.get("AWS_CA_BUNDLE"):
        found["ca_bundle"] = "AWS_CA_BUNDLE"
    if environ.get("OTEL_TRACES_EXPORTER"):
        found["traces_exporter"] = "OTEL_TRACES_EXPORTER"
    return found
