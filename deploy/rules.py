"""What must hold between the fields of a manifest, so that AWS or the container need not say so half an hour later."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from deploy import families, images, instances, options
from deploy.environment import LONGEST_VALUE, MODEL_VARIABLES, MOST_VARIABLES, PREFIXES, environment_of, gpus_of
from deploy.export import public_names
from deploy.manifest import Component, Manifest, Served
from deploy.manifestfile import SECRET_VALUE, Loc, hinted, meaning
from deploy.options import lmi
from deploy.sections import Container

SECRET_NAME = re.compile(r"(?i)(^|_)(TOKEN|SECRET|PASSWORD|API_KEY|ACCESS_KEY|ACCESS_KEY_ID|CREDENTIALS)$")
_SECTIONS = {"lmi": "option", "vllm": "engine"}
_VERSIONS = {"vllm": r"0\.([89]|[1-9][0-9])(\.[0-9]+)?", "tgi": r"[1-3]\.[0-9]+(\.[0-9]+)?"}


def faults(manifest: Manifest) -> Iterator[tuple[Loc, str]]:
    """Yield what is wrong: where, and a message."""
    if bool(manifest.model) == bool(manifest.components):
        yield ("model",), "say either model or components"
        return
    yield from _of_names(manifest)
    for loc, served in manifest.served:
        found = list(_of_served(manifest, served))
        yield from (((*loc, *inner), message) for inner, message in found)
        if not found:
            yield from (((*loc, *inner), message) for inner, message in _of_environment(manifest, served))
    yield from _of_endpoint(manifest)


def _of_names(manifest: Manifest) -> Iterator[tuple[Loc, str]]:
    seen: set[str] = set()
    for at, component in enumerate(manifest.components):
        named: list[tuple[Loc, str]] = [(("components", at, "name"), component.name)]
        named += [(("components", at, "adapters", i, "name"), one.name) for i, one in enumerate(component.adapters)]
        for loc, name in named:
            if name in seen:
                yield loc, f"the name {name!r} is taken"
            seen.add(name)
    public = public_names(manifest)
    for (loc, _), name, before in zip(manifest.served, public, (public[:at] for at in range(len(public))), strict=True):
        if name in before:
            yield (*loc, "gateway", "model"), f"callers know another component as {name!r}: give this one a name"
    for loc, served in manifest.served:
        names = [schedule.name for schedule in served.schedules]
        for at, name in enumerate(names):
            if name in names[:at]:
                yield (*loc, "schedules", at, "name"), f"the name {name!r} is taken"


def _of_served(manifest: Manifest, served: Manifest | Component) -> Iterator[tuple[Loc, str]]:
    container = manifest.container_of(served)
    if served.model is None:
        yield ("model",), "missing"
        return
    if container is None:
        yield ("container",), "missing"
        return
    found = list(_of_container(manifest, container))
    yield from found
    if manifest.network.isolation and not served.model.in_s3:
        yield ("model", "id"), "network.isolation lets nothing be fetched from the hub: put the model into S3"
    if served.model.family and families.of_model(served.model.family) is None:
        yield ("model", "family"), "is of no family that is known here: docs/models.md says what to set for others"
    if container.kind != "lmi":
        if served.option:
            yield ("option",), f"is for LMI: say {container.kind}'s arguments under engine"
        if served.timeouts.loading_s is not None:
            yield ("timeouts", "loading_s"), f"is for LMI: {container.kind} has no such limit"
    if not found:
        yield from _of_options(container, served)
    yield from _of_settings(container, served)
    if served.schedules and not served.scaling:
        yield ("schedules",), "change the bounds of scaling, which the manifest does not have"
    for at, schedule in enumerate(served.schedules):
        if schedule.min == 0 and not isinstance(served, Component):
            yield ("schedules", at, "min"), "only inference components can go down to 0"


def _of_container(manifest: Manifest, container: Container) -> Iterator[tuple[Loc, str]]:
    if container.kind == "lmi" and not (
        container.version.isdecimal() and int(container.version) in images.LMI_VERSIONS
    ):
        words = f"expected a version of LMI from {images.LMI_VERSIONS[0]} to {images.LMI_VERSIONS[-1]}"
        yield ("container", "version"), f"{words}, found {container.version!r}"
    elif container.kind != "lmi" and not re.fullmatch(_VERSIONS[container.kind], container.version):
        yield ("container", "version"), f"expected a version of {container.kind}, found {container.version!r}"
    elif container.image is None:
        try:
            images.tag(container.kind, container.version)
            if manifest.region:
                images.uri(container.kind, container.version, manifest.region)
        except images.NoImage as error:
            yield ("container", "version"), str(error)


def _of_options(container: Container, served: Served) -> Iterator[tuple[Loc, str]]:
    for where, values in (("option", served.option), ("engine", served.engine)):
        for name, value in values.items():
            if value is None:  # takes a recommended one away: what counts is that there is such an option
                value = options.EXAMPLES[options.kind_of(name) or "str"]
            if container.kind == "lmi":
                fault = options.lmi_fault(name, value, int(container.version), own=where == "option")
            elif container.kind == "vllm":
                fault = options.vllm_fault(name, value, images.engine_version("vllm", container.version) or "")
            else:
                fault = options.tgi_fault(name, value)
            if fault:
                yield (where, name), fault
            elif name in served.option and where == "engine":
                yield (where, name), "is under option as well"
            elif values[name] is not None and (SECRET_NAME.search(name) or SECRET_VALUE.search(str(values[name]))):
                yield (where, name), "is a secret: say where it is with a variable under environment"
    engine = images.engine_version(container.kind, container.version)
    for name, kind in (("tool_call_parser", "tool_parsers"), ("reasoning_parser", "reasoning_parsers")):
        for where, values in (("option", served.option), ("engine", served.engine)):
            value = values.get(name)
            if value and engine and (fault := options.parser_fault(kind, str(value), engine)):  # type: ignore[arg-type]  # both words are kinds
                yield (where, name), fault
    if container.kind == "lmi" and served.option.get("pipeline_parallel_degree", "1") != "1":
        yield ("option", "pipeline_parallel_degree"), "LMI takes no other than 1"


def _of_settings(container: Container, served: Served) -> Iterator[tuple[Loc, str]]:
    for name, setting in served.environment.items():
        loc = ("environment", name)
        start = next((one for one in PREFIXES.values() if one and name.startswith(one)), None)
        if start and start != PREFIXES[container.kind]:
            yield loc, f"means nothing to {container.kind}"
        elif start and setting.value is not None:
            yield loc, f"belongs under {_SECTIONS[container.kind]}, as {name.removeprefix(start).lower()}"
        elif container.kind == "lmi" and name.startswith("SERVING_") and name[len("SERVING_") :] not in lmi.SERVING:
            known = [f"SERVING_{one}" for one in lmi.SERVING]
            yield loc, f"LMI has no such setting{hinted(name, known)}"
        elif name in MODEL_VARIABLES[container.kind][:3]:
            yield loc, "is said under model"
        elif setting.value is not None and (SECRET_NAME.search(name) or SECRET_VALUE.search(setting.value)):
            yield loc, "is a secret: say where it is, with secret or env, and not what it is"


def _of_environment(manifest: Manifest, served: Manifest | Component) -> Iterator[tuple[Loc, str]]:
    found = environment_of(manifest, served)
    if len(found) > MOST_VARIABLES:
        yield (), f"the container would have {len(found)} environment variables; SageMaker takes {MOST_VARIABLES}"
    for name, value in found.items():
        if isinstance(value, str) and len(value) > LONGEST_VALUE:
            keys = ((part, key) for part in ("option", "engine", "environment") for key in getattr(served, part))
            loc: Loc = next((one for one in keys if name.lower().endswith(one[1].lower())), ("model", "id"))
            yield loc, f"{name} would have {len(value)} characters; SageMaker takes {LONGEST_VALUE}"
    yield from _of_what_is_set(manifest, served, found)
    count = gpus_of(manifest, served)
    for where, values in (("option", served.option), ("engine", served.engine)):
        for name in ("tensor_parallel_degree", "tensor_parallel_size", "num_shard"):
            degree = meaning(values.get(name))
            if isinstance(degree, int) and count and degree > count:
                yield (where, name), f"is more than the {count} GPUs there are"


def _of_what_is_set(manifest: Manifest, served: Served, found: Mapping[str, object]) -> Iterator[tuple[Loc, str]]:
    """Yield what the engine would refuse in what the manifest and the recommendations make together."""
    container = manifest.container_of(served)
    prefix = PREFIXES[container.kind] if container else ""
    section = "option" if prefix == "OPTION_" else "engine"
    if found.get(f"{prefix}ENABLE_AUTO_TOOL_CHOICE") == "true" and f"{prefix}TOOL_CALL_PARSER" not in found:
        yield (section, "enable_auto_tool_choice"), "needs tool_call_parser"
    if found.get("OPTION_ENABLE_REASONING") == "true" and "OPTION_REASONING_PARSER" not in found:
        yield ("option", "enable_reasoning"), "needs reasoning_parser"
    if found.get("OPTION_ASYNC_MODE") == "true" and found.get("OPTION_ROLLING_BATCH", "disable") != "disable":
        yield ("option", "rolling_batch"), "async mode takes no other than disable: set async_mode: false with it"
    family = families.of_model(served.model.known_as) if served.model else None
    made_for = max(family.context_length or 0 if family else 0, served.gateway.context_length or 0)
    for where, values in (("option", served.option), ("engine", served.engine)):
        length = options.tokens(values.get("max_model_len"))
        stretched = {"VLLM_ALLOW_LONG_MAX_MODEL_LEN", *(f"{prefix}{name}" for name in _STRETCHING)} & found.keys()
        if length and made_for and length > made_for and not stretched:
            yield (
                (where, "max_model_len"),
                f"is more than the {made_for} tokens that the model is made for, so that vLLM would not start; where"
                " its own configuration says more, say so in gateway.context_length",
            )


_STRETCHING = ("ROPE_SCALING", "ROPE_PARAMETERS", "HF_OVERRIDES")
"""Arguments that let a model take more than it was made for."""


def _of_endpoint(manifest: Manifest) -> Iterator[tuple[Loc, str]]:
    counts = {one: instances.gpus(one) for one in manifest.instances.all_types}
    shared = bool(manifest.components)
    fewest = min((count for count in counts.values() if count), default=None)
    own_disks = [one for one in manifest.instances.all_types if one in instances.MACHINES]
    for loc, value in ((("kms_key",), manifest.kms_key), (("instances", "volume_gb"), manifest.instances.volume_gb)):
        if value is not None and own_disks:
            yield loc, f"SageMaker refuses it for {own_disks[0]}, which has disks of its own, encrypted by themselves"
    for name in manifest.tags:
        if name.lower().startswith(("aws:", "lmi-deploy:")):
            yield ("tags", name), f"names that begin with {name.partition(':')[0]}: are taken"
    for at, component in enumerate(manifest.components):
        if component.accelerators is None:
            yield ("components", at, "accelerators"), "missing: without GPUs, none of these containers starts"
        if component.accelerators and fewest and component.accelerators > fewest:
            yield ("components", at, "accelerators"), f"a machine has {fewest} GPUs"
        if component.max_memory_mb and component.max_memory_mb < component.memory_mb:
            yield ("components", at, "max_memory_mb"), "is below memory_mb"
        if component.adapters and (fault := _lora_fault(manifest, component)):
            yield ("components", at, "adapters"), fault
        lowest = component.scaling.min if component.scaling else component.copies
        if component.scaling and not lowest <= component.copies <= component.scaling.max:
            yield ("components", at, "copies"), "is outside scaling's min and max"
    if not shared and manifest.scaling and manifest.scaling.min == 0:
        yield ("scaling", "min"), "only inference components can go down to 0: say the model under components"
    if not shared and manifest.scaling and not manifest.scaling.min <= manifest.instances.count <= manifest.scaling.max:
        yield ("instances", "count"), "is outside scaling's min and max"
    if shared:
        for name in ("scaling", "schedules", "option", "engine", "environment"):
            if getattr(manifest, name):
                yield (name,), "belongs to a component, where there are components"
        if manifest.update:
            yield ("update",), "is for endpoints of one model: components are changed one by one"
    if manifest.instances.managed and not shared:
        yield ("instances", "managed"), "is for endpoints with components: others grow by scaling"
    if len({count for count in counts.values() if count}) > 1 and not shared:
        yield ("instances", "types"), "have different numbers of GPUs: one model has to fit all of them"
    if manifest.routing and manifest.routing.strategy == "kv_aware":
        kinds = {found.kind for _, served in manifest.served if (found := manifest.container_of(served))}
        if kinds != {"vllm"}:
            yield ("routing", "strategy"), "kv_aware works with the vllm container only"


def _lora_fault(manifest: Manifest, component: Component) -> str | None:
    container = manifest.container_of(component)
    if container is None:
        return None
    if container.kind == "tgi" or (container.kind == "lmi" and container.version == "15"):
        return "LoRA adapters as components need LMI 16 or later, or the vllm container"
    switches = {**component.engine, **component.option}
    if meaning(switches.get("enable_lora")) is not True:
        where = "option" if container.kind == "lmi" else "engine"
        return f"need {where}.enable_lora: true"
    return None
