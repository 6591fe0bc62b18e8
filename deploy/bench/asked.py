"""What the command line asks for, checked and made into a plan."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import msgspec

from deploy.bench import amounts
from deploy.bench.plan import Load, Prompts, Stage, Target
from deploy.bench.signing import runtime_origin

MAX_IMAGES = 16
_NAME = re.compile(r"[a-zA-Z0-9](?:-?[a-zA-Z0-9]){0,62}")
_RESERVED = ("messages", "prompt", "stream", "stream_options", "model")


class BadOption(Exception):
    """An option is wrong; the text is for the user, and names it."""


def openai_target(url: str, model: str | None, api: Literal["chat", "completions"], stream: bool, key: str) -> Target:
    """Return the target of `--url`, which is the base of OpenAI's API or the URL of its calls.

    Raises:
        BadOption: the URL or the model is of no use.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise BadOption("--url: it is no URL") from None
    if parts.scheme not in ("http", "https") or not host or re.search(r"[\s\x00-\x1f\x7f]", url) or not url.isascii():
        raise BadOption("--url: it must begin with http:// or https:// and a host")
    if parts.username is not None or parts.query or parts.fragment:
        # It would stand in the process list and in reports.
        raise BadOption("--url: it must hold no user, key or query; the key comes from the environment (--api-key-env)")
    if model is None:
        raise BadOption("--model is needed with --url")
    suffix = "/chat/completions" if api == "chat" else "/completions"
    path = parts.path.rstrip("/")
    path = path if path.endswith(suffix) else path + suffix
    return Target("openai", _origin(parts.scheme, host, port), path, model, api, stream, key_variable=key)


def sagemaker_target(
    endpoint: str,
    region: str,
    runtime_url: str | None,
    model: str | None,
    api: Literal["chat", "completions"],
    stream: bool,
    **more: Any,
) -> Target:
    """Return the target of `--endpoint`; `more` are fields of Target.

    Raises:
        BadOption, AwsProblem: a name is of no use, or there is no such Region.
    """
    names = {
        "--endpoint": endpoint,
        "--inference-component": more.get("inference_component"),
        "--variant": more.get("variant"),
    }
    for option, name in names.items():
        if name is not None and not _NAME.fullmatch(name):
            raise BadOption(f"{option}: {name!r} is no name: up to 63 letters, digits and hyphens")
    parts = urlsplit(runtime_url or runtime_origin(region))
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.path.strip("/"):
        raise BadOption("--runtime-url: it must be http:// or https://, a host and perhaps a port, and nothing else")
    path = f"/endpoints/{endpoint}/invocations" + ("-response-stream" if stream else "")
    origin = _origin(parts.scheme, parts.hostname, parts.port)
    return Target("sagemaker", origin, path, model, api, stream, region=region, endpoint=endpoint, **more)


def _origin(scheme: str, host: str, port: int | None) -> str:
    # Signatures cover the host as it is sent, which is without the port where that is the usual one.
    shown = f"[{host}]" if ":" in host else host
    return f"{scheme}://{shown}" + (f":{port}" if port and port != {"http": 80, "https": 443}[scheme] else "")


def stages(concurrency: str | None, rate: str | None) -> tuple[Stage, ...]:
    """Return the levels of a closed loop or an open one; BadOption if both or none are given, or one is wrong."""
    if (concurrency is None) == (rate is None):
        raise BadOption("one of --concurrency and --rate is needed, and only one")
    try:
        found = amounts.levels(concurrency or rate or "", whole=rate is None)
    except ValueError as error:
        raise BadOption(f"--{'concurrency' if rate is None else 'rate'}: {error}") from None
    return tuple(Stage(index, "closed" if rate is None else "open", value) for index, value in enumerate(found))


def prompts(
    *,
    input_tokens: str,
    output_tokens: str | None,
    shared_prefix: float,
    prefix_groups: int,
    file: Path | None,
    images: int,
    image_size: str,
    ignore_eos: bool,
    body: str | None,
    api: str,
) -> Prompts:
    """Return what calls say; BadOption if something of it is wrong."""
    try:
        into = amounts.distribution(input_tokens)
    except ValueError as error:
        raise BadOption(f"--input-tokens: {error}") from None
    try:
        out = amounts.distribution(output_tokens) if output_tokens is not None else None
    except ValueError as error:
        raise BadOption(f"--output-tokens: {error}") from None
    if images and (api != "chat" or file is not None):
        raise BadOption("--images: only generated chats have images")
    size = re.fullmatch(r"(\d{1,4})x(\d{1,4})", image_size)
    if not size or not int(size[1]) or not int(size[2]):
        raise BadOption(f"--image-size: {image_size!r} is not WIDTHxHEIGHT in pixels")
    return Prompts(
        input_tokens=into,
        # Generated prompts need an end; a file may say its own.
        output_tokens=out or (None if file else amounts.distribution("128")),
        shared_prefix=shared_prefix,
        prefix_groups=prefix_groups,
        file=str(file) if file else None,
        images=images,
        image_size=(int(size[1]), int(size[2])),
        exact_output=ignore_eos,
        extra=_extra(body),
    )


def _extra(body: str | None) -> dict[str, object]:
    if body is None:
        return {}
    try:
        found = msgspec.json.decode(body, type=dict[str, object])
    except (msgspec.DecodeError, UnicodeError):
        raise BadOption("--body: it is no JSON object") from None
    if taken := sorted(set(found) & set(_RESERVED)):
        raise BadOption(f"--body: {', '.join(taken)} cannot be set here")
    return found


def load(*, duration: str | None, requests: int | None, warmup: str, ramp: str, **more: Any) -> Load:
    """Return how calls are spread; `more` are fields of Load, times as text.

    Raises:
        BadOption: a time is none, or both a duration and a number of requests are given.
    """
    if duration is not None and requests is not None:
        raise BadOption("--duration and --requests exclude each other")
    times = {"warmup_s": warmup, "ramp_s": ramp}
    times |= {name: more.pop(name) for name in ("timeout_s", "idle_timeout_s", "connect_timeout_s")}
    found: dict[str, float] = {}
    for name, text in times.items():
        try:
            found[name] = amounts.duration_s(text)
        except ValueError as error:
            raise BadOption(f"--{name.removesuffix('_s').replace('_', '-')}: {error}") from None
        if name.endswith("timeout_s") and not found[name]:
            raise BadOption(f"--{name.removesuffix('_s').replace('_', '-')}: it must be above 0")
    try:
        length_s = amounts.duration_s(duration or "30s") if requests is None else None
    except ValueError as error:
        raise BadOption(f"--duration: {error}") from None
    if length_s == 0:
        raise BadOption("--duration: it must be above 0")
    values: dict[str, Any] = {**found, **more}
    return Load(duration_s=length_s, requests=requests, **values)


def service_level(text: str | None) -> dict[str, float] | None:
    """Return seconds by name; BadOption if the text is wrong."""
    try:
        return None if text is None else dict(amounts.service_level(text))
    except ValueError as error:
        raise BadOption(f"--slo: {error}") from None
