"""An environment, or a serving.properties, as the sections of a manifest that say the same.

What a newer container has no more is told, not carried along:
https://github.com/deepjavalibrary/djl-serving: engines/python/setup/djl_python/properties_manager/properties.py
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from deploy import images, options
from deploy.environment import MODEL_VARIABLES, MOUNTED, PREFIXES, parsers_of, recommended, written
from deploy.manifestfile import SECRET_VALUE, Bare, meaning
from deploy.options import lmi, tgi
from deploy.rules import SECRET_NAME
from deploy.sections import Container, Model

_ALSO = {
    "TENSOR_PARALLEL_DEGREE": "OPTION_TENSOR_PARALLEL_DEGREE",
    "PIPELINE_PARALLEL_DEGREE": "OPTION_PIPELINE_PARALLEL_DEGREE",
    "MAX_BATCH_SIZE": "OPTION_MAX_ROLLING_BATCH_SIZE",
    "MODEL_LOADING_TIMEOUT": "OPTION_MODEL_LOADING_TIMEOUT",
    "PREDICT_TIMEOUT": "OPTION_PREDICT_TIMEOUT",
    "MAX_CONCURRENT_REQUESTS": "SERVING_JOB_QUEUE_SIZE",
    "OPTION_MODEL_ID": "HF_MODEL_ID",
    "OPTION_REVISION": "HF_REVISION",
    "OPTION_TRUST_REMOTE_CODE": "HF_MODEL_TRUST_REMOTE_CODE",
    "HUGGING_FACE_HUB_TOKEN": "HF_TOKEN",
}
"""LMI's other names → those that a manifest writes."""
_ALSO_TGI = {
    "MODEL_ID": "HF_MODEL_ID",
    "REVISION": "HF_MODEL_REVISION",
    "TRUST_REMOTE_CODE": "HF_MODEL_TRUST_REMOTE_CODE",
}
"""The same of TGI's."""
_OLD_BATCHES = {"auto", "lmi-dist", "vllm", "scheduler", "trtllm"}
_CHANGED: dict[str, Callable[[str], tuple[str, Any]]] = {
    "guided_decoding_backend": lambda text: ("structured_outputs_config", {"backend": text.split(":")[0]}),
    "disable_mm_preprocessor_cache": lambda text: ("mm_processor_cache_gb", 0 if text.lower() == "true" else 4),
}
"""vLLM's arguments that have another name now → what they are called, and their value."""
_GONE = {
    "lmi-dist": "LMI 15 and later have no lmi-dist: vLLM's own server takes its place",
    "trtllm": "TensorRT-LLM has a container of its own: this one runs vLLM",
}


@dataclass(slots=True)
class Sections:
    """Sections of a manifest, and what could not be put into them."""

    model: dict[str, Any] = field(default_factory=dict)
    option: dict[str, Any] = field(default_factory=dict)
    engine: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)
    loading_s: int | None = None
    notes: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Return what a manifest has to say, without empty sections."""
        parts = {"model": self.model, "option": self.option, "engine": self.engine, "environment": self.environment}
        return {name: part for name, part in parts.items() if part}


def sections(
    container: Container, environment: Mapping[str, str], model_id: str | None, origins: Mapping[str, dict[str, str]],
    raised_from: int | None = None,
) -> Sections:  # fmt: skip
    """Return what an environment says.

    Args:
        container: What will run: its version decides which options there are.
        environment: Names and values, of which secrets are not looked at.
        model_id: Where SageMaker fetches the model from, if it does.
        origins: Variable → where it is known to have its secret from.
        raised_from: The version of LMI that the environment was written for, if it is an older one.
    """
    made = Sections()
    read = {"lmi": _lmi, "vllm": _vllm, "tgi": _tgi}[container.kind]
    rest = dict(environment)
    also = {"lmi": _ALSO, "tgi": _ALSO_TGI}.get(container.kind, {})
    rest = {also.get(name, name): value for name, value in rest.items()}
    origins = {also.get(name, name): origin for name, origin in origins.items()}
    _of_model(container.kind, rest, model_id, origins, made)
    for name in list(rest):
        if reason := _outcast(container.kind, name):
            del rest[name]
            made.notes.append(f"left out: {name}: {reason}")
    # Whatever they are called: no option's value is written that may be a secret.
    secret = {name: rest.pop(name) for name in list(rest) if name in origins or _may_be_secret(name, rest[name])}
    read(container, rest, made, raised_from)
    for part in (made.option, made.engine):
        parser = made.option.get("tool_call_parser") or made.engine.get("tool_call_parser")
        if part.get("enable_auto_tool_choice") is True and not parser:
            del part["enable_auto_tool_choice"]
            made.notes.append("enable_auto_tool_choice is left out: it needs tool_call_parser")
    made.environment |= {name: _origin(name, origins, made) for name in secret}
    made.environment |= rest
    return made


def _outcast(kind: str, name: str) -> str | None:
    """Return why a variable does nothing in a container, None if it may do something."""
    foreign = tuple(start for other, start in PREFIXES.items() if start and other != kind)
    if name.startswith(foreign):
        return f"means nothing to {kind}"
    if kind == "lmi" and name.startswith("SERVING_") and name.removeprefix("SERVING_") not in lmi.SERVING:
        return "LMI has no such setting"
    return None


def _may_be_secret(name: str, value: str) -> bool:
    return bool(SECRET_NAME.search(name) or SECRET_VALUE.search(value))


def _of_model(
    kind: str, rest: dict[str, str], model_id: str | None, origins: Mapping[str, dict[str, str]], made: Sections
) -> None:
    names = MODEL_VARIABLES[kind]
    named, revision, trusted = (rest.pop(name, None) for name in names[:3])
    if revision and (SECRET_VALUE.search(revision) or not re.fullmatch(r"[\w./-]+", revision)):
        revision = None
        made.notes.append(f"left out: {names[1]}, which is no commit, branch or tag")
    if named and SECRET_VALUE.search(named):
        named = None
    if kind == "vllm" and named is None:
        named = rest.pop("HF_MODEL_ID", None)
    if named and not named.startswith(MOUNTED):
        if model_id:
            made.notes.append(
                f"SageMaker fetches {model_id} as well, which is not carried along: a serving.properties or model.py"
                " in it would be missing"
            )
        made.model["id"] = named if not named.startswith("s3://") or named.endswith((".tar.gz", "/")) else f"{named}/"
    elif model_id:
        made.model["id"] = model_id
    else:
        made.notes.append("no model was found: say model.id")
        made.model["id"] = "MODEL/ID"
    in_s3 = str(made.model["id"]).startswith("s3://")
    if revision and in_s3:
        made.notes.append(f"the revision {revision} is left out: what is in S3 has none")
    elif revision:
        made.model["revision"] = revision
    if trusted and trusted.lower() == "true":
        made.model["trust_remote_code"] = True
    for token in (names[3], "HF_TOKEN"):
        if token in rest:
            del rest[token]
            if not in_s3:
                made.model["token"] = _origin(token, origins, made)


def _origin(name: str, origins: Mapping[str, dict[str, str]], made: Sections) -> dict[str, str]:
    if name in origins:
        return origins[name]
    made.notes.append(
        f"the value of {name} was left where it is: set the variable {name} when you apply, or name a secret in"
        " Secrets Manager"
    )
    return {"env": name}


def _lmi(container: Container, rest: dict[str, str], made: Sections, raised_from: int | None) -> None:
    version = int(container.version)
    if (timeout := rest.pop("OPTION_MODEL_LOADING_TIMEOUT", None)) and timeout.isdecimal():
        made.loading_s = min(int(timeout), 3600)
    given = {name.removeprefix("OPTION_").lower(): name for name in rest if name.startswith("OPTION_")}
    texts = {name: rest.pop(variable) for name, variable in given.items()}
    if raised_from is not None:
        _raise(texts, version, raised_from, made)
    for name, text in texts.items():
        own = name in lmi.OPTIONS
        value = _value(name, text)
        target = lmi.INSTEAD.get(name)
        if target and target in texts:
            continue
        name = target or name
        fault = options.lmi_fault(name, value, version) or _parser_fault(name, text, images.LMI_VLLM[version])
        if name == "pipeline_parallel_degree" and text != "1":
            fault = "LMI takes no other than 1"
        if fault:
            made.notes.append(f"option.{name}={text}: {fault}")
            continue
        (made.option if own or target else made.engine)[name] = value
    base = recommended(container, Model(id=made.model["id"]), 0)
    for name, best in base.items():
        if name == "model_loading_timeout":
            continue
        if name not in made.option:
            if raised_from is None:
                made.option[name] = None
                made.notes.append(
                    f"option.{name} is not set there; {written(name, best)} is recommended: take its line away"
                )
        elif written(name, made.option[name]) == written(name, best):
            del made.option[name]
    if "SERVING_FAIL_FAST" not in rest and raised_from is None:
        rest["SERVING_FAIL_FAST"] = "false"
        made.notes.append("SERVING_FAIL_FAST is not set there; true is recommended: take its line away")
    elif rest.get("SERVING_FAIL_FAST", "").lower() == "true":
        del rest["SERVING_FAIL_FAST"]


def _raise(texts: dict[str, str], version: int, raised_from: int, made: Sections) -> None:
    """Change what an older container's options are called, and tell what becomes of the others."""
    made.notes.append(f"written for LMI {raised_from}, raised to LMI {version}")
    batch = texts.pop("rolling_batch", "").lower()
    if batch in _OLD_BATCHES:
        made.notes.append(
            f"option.rolling_batch={batch}: {_GONE.get(batch, 'rolling batches are left behind')}; async mode takes its"
            " place, whose answers are OpenAI's"
        )
    for name in ("engine", "mpi_mode", "output_formatter", "entrypoint"):
        if name in texts:
            made.notes.append(f"option.{name}={texts.pop(name)}: has no meaning in async mode")
    if version > 15 and texts.pop("enable_reasoning", ""):
        made.notes.append("option.enable_reasoning: reasoning_parser alone does it")
    known = options.lmi_names(version)
    for name, change in _CHANGED.items():
        if name in texts and name not in known:
            new, value = change(texts.pop(name))
            if new in known:
                texts[new] = value if isinstance(value, str) else json.dumps(value)
                made.notes.append(f"option.{name} is {new} now")


def _vllm(container: Container, rest: dict[str, str], made: Sections, raised_from: int | None) -> None:
    for variable in [name for name in rest if name.startswith("SM_VLLM_") and not SECRET_NAME.search(name)]:
        name, text = variable.removeprefix("SM_VLLM_").lower(), rest.pop(variable)
        value = True if not text else _value(name, text)
        if name.startswith("no_") and value is True:
            name, value = name.removeprefix("no_"), False
        fault = options.vllm_fault(name, value, container.version) or _parser_fault(name, text, container.version)
        if fault:
            made.notes.append(f"{variable}={text}: {fault}")
        else:
            made.engine[name] = value
    engine = images.engine_version("vllm", container.version) or container.version
    for name in ("tensor_parallel_size", *parsers_of(Model(id=made.model["id"]), engine)):
        if name not in made.engine:
            made.engine[name] = None
            made.notes.append(f"engine.{name} is not set there; take its line away for what is recommended")


def _tgi(container: Container, rest: dict[str, str], made: Sections, raised_from: int | None) -> None:
    count = rest.pop("SM_NUM_GPUS", None)
    if count is not None:
        made.notes.append(f"SM_NUM_GPUS={count}: will be the number of GPUs of the instance type")
    for variable in [name for name in rest if name.lower() in tgi.ARGUMENTS]:
        name, text = variable.lower(), rest.pop(variable)
        value = _value(name, text)
        if fault := options.tgi_fault(name, value):
            made.notes.append(f"{variable}={text}: {fault}")
        else:
            made.engine[name] = value


def _parser_fault(name: str, text: str, engine: str) -> str | None:
    if name == "tool_call_parser":
        return options.parser_fault("tool_parsers", text, engine)
    return options.parser_fault("reasoning_parsers", text, engine) if name == "reasoning_parser" else None


def _value(name: str, text: str) -> Any:
    """Return what a text means: numbers, truth and JSON as such; limits by kind as a mapping."""
    kind = options.kind_of(name)
    if kind in ("list", "json") and text[:1] in "[{":
        try:
            return json.loads(text)
        except ValueError:
            return text
    if name == "limit_mm_per_prompt" and re.fullmatch(r"\w+=\d+(,\w+=\d+)*", text):
        return {kind: int(most) for kind, most in (pair.split("=") for pair in text.split(","))}
    # Only where a number is meant is 1.10 the same as 1.1.
    return str(text) if kind == "str" else meaning(Bare(text))


def from_properties(text: str) -> dict[str, str]:
    """Return a serving.properties as the environment that says the same."""
    found = {}
    for line in text.splitlines():
        key, equals, value = line.strip().partition("=")
        if not equals or key.startswith(("#", "!")):
            continue
        name = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", key.strip())
        name = {"option.entry_Point": "option.entrypoint"}.get(name, name)
        if name.startswith("option."):
            found[name.replace("option.", "OPTION_", 1).upper()] = value.strip()
        elif name != "engine":
            found[f"SERVING_{name.upper()}"] = value.strip()
    return found


def from_environment(text: str) -> dict[str, str]:
    """Return an environment of a file: JSON's or YAML's mapping, or lines of NAME=value.

    Raises:
        ValueError: it is neither.
    """
    lines = [line.strip().removeprefix("export ") for line in text.splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    if lines and all(re.match(r"[A-Za-z_][A-Za-z0-9_.]*\s*=", line) for line in lines):
        if any(line.startswith(("option.", "engine")) for line in lines):
            return from_properties(text)
        pairs = (line.partition("=") for line in lines)
        return {name.strip(): value.strip().strip("\"'") for name, _, value in pairs}
    try:
        found = yaml.load(text, yaml.BaseLoader)  # noqa: S506 - makes text of everything, and no objects
    except yaml.YAMLError:
        found = None
    if isinstance(found, dict) and isinstance(found.get("Environment"), dict):
        found = found["Environment"]
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        raise ValueError("expected names and values: JSON, YAML, lines of NAME=value, or a serving.properties")
    return {str(name): value for name, value in found.items()}
