"""One entry of a LiteLLM proxy's `model_list`: the deployment that it means here, and what of it cannot be taken over.

https://docs.litellm.ai/docs/proxy/configs, https://docs.litellm.ai/docs/providers/aws_sagemaker
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import TypeAdapter, ValidationError

from gateway.config.kinds import Section, kinds
from gateway.config.models import Deployment, Model

PROVIDERS = ("sagemaker", "sagemaker_chat")
"""How an endpoint of SageMaker's is written: as a text generator, or as one that takes messages."""
DEFAULT_REGION = "us-west-2"
"""LiteLLM's own, where neither the entry nor AWS_REGION_NAME nor AWS_REGION says one."""
MAX_ATTEMPTS = 5
_FROM_ENVIRONMENT = "os.environ/"
_PLAIN = re.compile(r"[A-Za-z0-9._:/@+*-]{1,128}")
_SECRETS = ("aws_access_key_id", "aws_secret_access_key", "aws_session_token", "aws_web_identity_token", "api_key")
_FIELDS = {
    "model_id": "inference_component",
    "aws_role_name": "role_arn",
    "aws_external_id": "external_id",
    "sagemaker_base_url": "endpoint_url",
    "api_base": "endpoint_url",
}
"""A parameter there, and the field of a deployment here."""
_MILLION = {
    "input_cost_per_token": "prompt_per_million",
    "output_cost_per_token": "completion_per_million",
    "cache_read_input_token_cost": "cached_prompt_per_million",
}
_IGNORED = ("model", "custom_llm_provider", "aws_region_name", "weight", "timeout", "stream_timeout", "num_retries")
_REASONS = {
    "aws_session_name": "sessions have a name of the gateway's own",
    "aws_profile_name": "the gateway takes its credentials from its environment: AWS_PROFILE",
    "hf_model_name": "containers make prompts of chats by themselves",
    "rpm": "limits are `limits` of keys, teams and models; only the share of calls is made of it",
    "tpm": "limits are `limits` of keys, teams and models; only the share of calls is made of it",
}


class Notes:
    """What an operator is to be told, and the variables that values come from."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.environ = environ
        self.sentences: list[str] = []

    def add(self, sentence: str) -> None:
        if sentence not in self.sentences:
            self.sentences.append(sentence)

    def value(self, where: str, given: object) -> object:
        """Return a value, that of a variable where it names one; None if there is no such variable."""
        if not isinstance(given, str) or not given.startswith(_FROM_ENVIRONMENT):
            return given
        name = given.removeprefix(_FROM_ENVIRONMENT)
        found = self.environ.get(name)
        if not found:
            self.add(f"{where}: left out; the variable {self.word(name)} is not set")
        return found or None

    def attempts(self, where: str, retries: object) -> int | None:
        """Return the attempts that so many retries make."""
        if retries is None:
            return None
        if not isinstance(retries, int) or isinstance(retries, bool) or retries < 0:
            self.add(f"{where}: left out; expected a whole number")
            return None
        if retries + 1 > MAX_ATTEMPTS:
            self.add(f"{where}: {MAX_ATTEMPTS} attempts in place of {retries + 1}, and only where nothing runs yet")
        return min(retries + 1, MAX_ATTEMPTS)

    @staticmethod
    def word(name: object) -> str:
        """Return what stands in the file as a word of a sentence; what is no plain name is not repeated."""
        return name if isinstance(name, str) and _PLAIN.fullmatch(name) else "(a name that cannot be shown)"


@dataclass(slots=True)
class Entry:
    """One entry."""

    name: str
    deployment: dict[str, Any]
    model: dict[str, Any] = field(default_factory=dict)
    """Fields of the model: context_length, modalities."""
    prices: dict[str, float] = field(default_factory=dict)
    timeouts: dict[str, float] = field(default_factory=dict)
    at_once: int | None = None
    attempts: int | None = None
    share: float = 0.0
    """Of the model's calls; 0 where it names none."""


def entry_of(at: int, given: object, container: str, version: str, region: str | None, notes: Notes) -> Entry | None:
    """Return an entry, None if it cannot be served here; `notes` then say why."""
    if not isinstance(given, dict) or not isinstance(given.get("litellm_params"), dict):
        notes.add(f"model_list[{at}]: left out; it has no litellm_params")
        return None
    name, given_params, info = given.get("model_name"), given["litellm_params"], given.get("model_info")
    info = info if isinstance(info, dict) else {}
    where = f"model_list[{at}] ({notes.word(name)})"
    endpoint = _endpoint(given_params)
    if endpoint is None:
        notes.add(f"{where}: left out; it is not SageMaker's")
        return None
    params = {
        str(key): value if key in _SECRETS else notes.value(f"{where}.{notes.word(key)}", value)
        for key, value in given_params.items()
    }
    entry = Entry(str(name), {"endpoint": endpoint, "region": _region(params, region, where, notes)})
    entry.deployment |= {"container": container, "version": version}
    for key, value in params.items():
        if value is not None:
            _take(entry, key, value, where, notes)
    _shares(entry, params)
    _describe(entry, info, where, notes)
    for wrong in _faults(entry):
        notes.add(f"{where}: left out; {wrong}")
        return None
    return entry


def _endpoint(params: dict[Any, Any]) -> str | None:
    model, provider = params.get("model"), params.get("custom_llm_provider")
    if not isinstance(model, str):
        return None
    prefix, found, rest = model.partition("/")
    if found and prefix in PROVIDERS:
        return rest
    return model if provider in PROVIDERS else None


def _region(params: dict[str, object], region: str | None, where: str, notes: Notes) -> object:
    told = params.get("aws_region_name") or region or notes.environ.get("AWS_REGION_NAME")
    told = told or notes.environ.get("AWS_REGION")
    if not told:
        notes.add(f"{where}: it names no region; {DEFAULT_REGION} is what LiteLLM takes then")
    return told or DEFAULT_REGION


def _take(entry: Entry, key: str, value: object, where: str, notes: Notes) -> None:
    """Take over one parameter, or say that it is left out."""
    if key in _IGNORED:
        if key == "timeout" and _number(value):
            entry.timeouts["total_s"] = float(value)  # type: ignore[arg-type]  # a number, as _number has said
        elif key == "stream_timeout" and _number(value):
            entry.timeouts["first_byte_s"] = float(value)  # type: ignore[arg-type]  # likewise
        elif key == "num_retries":
            entry.attempts = notes.attempts(f"{where}.num_retries", value)
    elif key in _FIELDS:
        if key == "aws_role_name" and not str(value).startswith("arn:"):
            notes.add(f"{where}.{key}: left out; expected the ARN of a role")
        else:
            entry.deployment[_FIELDS[key]] = value
    elif key in _MILLION or key == "input_cost_per_second":
        _price(entry, key, value, where, notes)
    elif key == "max_parallel_requests" and isinstance(value, int) and value > 0:
        entry.at_once = value
    elif key in _SECRETS:
        notes.add(f"{where}.{key}: left out; the gateway takes credentials from its environment, or assumes `role_arn`")
    else:
        reason = _REASONS.get(key, "the gateway sets no fields of its own into calls")
        notes.add(f"{where}.{notes.word(key)}: left out; {reason}")


def _price(entry: Entry, key: str, value: object, where: str, notes: Notes) -> None:
    if not _number(value):
        notes.add(f"{where}.{key}: left out; expected a number")
    elif key == "input_cost_per_second":
        entry.prices["instance_hour"] = round(float(value) * 3600, 6)  # type: ignore[arg-type]  # a number
    else:
        entry.prices[_MILLION[key]] = round(float(value) * 1_000_000, 6)  # type: ignore[arg-type]  # likewise


def _shares(entry: Entry, params: dict[str, object]) -> None:
    """LiteLLM's simple shuffle goes by weight, else by requests, else by tokens per minute."""
    for key in ("weight", "rpm", "tpm"):
        value = params.get(key)
        if _number(value) and float(value) > 0:  # type: ignore[arg-type]  # a number
            entry.share = float(value)  # type: ignore[arg-type]  # likewise
            return


def _describe(entry: Entry, info: dict[str, Any], where: str, notes: Notes) -> None:
    tokens = info.get("max_input_tokens")
    if isinstance(tokens, int) and tokens > 0:
        entry.model["context_length"] = tokens
    if info.get("supports_vision") is True:
        entry.model["modalities"] = ["text", "image"]
    for key, value in info.items():
        if key in _MILLION or key == "input_cost_per_second":
            _price(entry, key, value, where, notes)


def _faults(entry: Entry) -> list[str]:
    """Return what the configuration would say of the entry; nothing where it is right."""
    words = [
        f"{name}: expected {kind.words}"
        for name, kind in kinds(Deployment).items()
        if name in entry.deployment and _refused(Deployment, name, entry.deployment[name])
    ]
    words += [message for _, message in Deployment.faults(entry.deployment)]
    kind = kinds(Model)["name"]
    if _refused(Model, "name", entry.name):
        words.append(f"model_name: expected {kind.words}")
    return words


def _refused(section: type[Section], name: str, value: object) -> bool:
    try:
        TypeAdapter(section.model_fields[name].rebuild_annotation()).validate_python(value)
    except ValidationError:
        return True
    return False


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value >= 0
