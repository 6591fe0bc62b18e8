"""What has to happen so that AWS holds what a manifest wants: pure, values in and values out.

Models and configurations are never changed but made anew under another name; the endpoint is then moved over, and what
it has left is deleted last. So wherever an apply is cut short, the endpoint stands on a whole generation.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from deploy.cost import Cost, cost_of_desired, cost_of_observed
from deploy.observe import Found, Observed, host_of
from deploy.resources import (
    DIGEST_CHARACTERS,
    IDENTITY,
    IMMUTABLE,
    ArnOf,
    Desired,
    Key,
    Kind,
    Resource,
    SecretRef,
    in_order,
)

Action = Literal["create", "update", "replace", "delete", "none"]

UNFIXABLE = frozenset({"Failed", "OutOfService"})
"""States that an endpoint or component does not leave by an update: it has to be made anew."""
FIXED: Mapping[Kind, tuple[str, ...]] = {
    "inference-component": ("EndpointName", "VariantName"),
    "scalable-target": ("ScalableDimension",),
    "scaling-policy": ("ResourceId", "ScalableDimension", "PolicyType"),
    "scheduled-action": ("ResourceId", "ScalableDimension"),
}
"""Parameters that an update cannot change."""
UNCOMPARED: Mapping[Kind, frozenset[str]] = {
    # An endpoint's way of moving over counts when it moves, and is no property of where it stands.
    "endpoint": frozenset({"DeploymentConfig", "Tags"}),
    "scalable-target": frozenset({"Tags", "RoleARN"}),
    "alarm": frozenset({"Tags"}),
    "inference-component": frozenset({"Tags"}),
}
AWS_DEFAULTS: Mapping[str, Any] = {"ActionsEnabled": True, "TreatMissingData": "missing"}
"""What descriptions tell although nobody asked for it."""
REMOVAL: tuple[Kind, ...] = (
    "scheduled-action",
    "scaling-policy",
    "scalable-target",
    "inference-component",
    "endpoint",
    "alarm",
    "endpoint-config",
    "model",
)
"""The order in which kinds are deleted: what uses goes before what is used."""
DIGESTED: frozenset[Kind] = frozenset({"inference-component", "alarm"})
"""What can change and bears the digest of what it was last changed to."""
_GENERATION = re.compile(rf"-[0-9a-f]{{{DIGEST_CHARACTERS}}}$")


@dataclass(frozen=True, slots=True)
class Change:
    """One field that changes."""

    path: str
    before: Any
    """None if it was not there."""
    after: Any
    """None if it goes."""


@dataclass(frozen=True, slots=True)
class Step:
    """What happens to one resource."""

    action: Action
    kind: Kind
    name: str
    changes: tuple[Change, ...] = ()
    notes: tuple[str, ...] = ()
    resource: Resource | None = None
    """What is wanted; None if it is to go."""
    found: Found | None = None
    """What is there; None if nothing is."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Every step, in the order in which they are taken."""

    manifest: str
    steps: tuple[Step, ...]
    conflicts: tuple[str, ...] = ()
    """Why nothing may be done at all."""
    busy: tuple[Found, ...] = ()
    """What AWS is still at work on: an apply waits for it, and then plans anew."""
    before: Cost | None = None
    after: Cost | None = None
    drift: tuple[Step, ...] = ()
    """The steps that undo what somebody else has changed."""

    @property
    def changes(self) -> tuple[Step, ...]:
        return tuple(step for step in self.steps if step.action != "none")


def plan(desired: Desired, observed: Observed, prices: Mapping[str, float] | None = None) -> Plan:
    """Return what has to happen. `prices` are dollars per hour of instance types."""
    wanted = {resource.key: resource for resource in in_order(desired.resources)}
    made = _with_what_hangs_on([_step(resource, observed, desired) for resource in wanted.values()])
    gone = list(_removals(wanted, observed))
    # A scalable target has to go before its variant does, all else only when nothing uses it any more.
    early = [step for step in gone if step.kind in ("scheduled-action", "scaling-policy", "scalable-target")]
    late = [step for step in gone if step not in early]
    steps = tuple(_with_notes([*early, *made, *late]))
    return Plan(
        desired.manifest,
        steps,
        tuple(_conflicts(wanted, observed, desired)),
        tuple(found for found in observed.values() if found.owned and found.busy),
        cost_of_observed(observed, prices) if prices is not None else None,
        cost_of_desired(desired, prices) if prices is not None else None,
        tuple(step for step in steps if _is_drift(step, observed)),
    )


def _step(resource: Resource, observed: Observed, desired: Desired) -> Step:
    kind, name = resource.key
    found = observed.get(resource.key)
    if found is None:
        if kind not in IMMUTABLE:
            return Step("create", kind, name, resource=resource)
        old = _predecessor(resource, observed, desired)
        changes = () if old is None else tuple(_differences(old.spec, resource.spec, exact=True))
        changes = tuple(change for change in changes if change.path != IDENTITY[kind])
        notes = () if old is None else (f"takes the place of {old.name}",)
        return Step("create", kind, name, changes, notes, resource)
    if found.status == "Deleting" or found.status in UNFIXABLE:
        state = "is being deleted" if found.status == "Deleting" else f"is {found.status}"
        because = f": {found.failure}" if found.failure and found.status in UNFIXABLE else ""
        return Step("replace", kind, name, (), (f"{state}{because}",), resource, found)
    if kind == "inference-component" and _remade(observed, desired, str(resource.spec["EndpointName"])):
        return Step("replace", kind, name, (), ("its endpoint is made anew",), resource, found)
    changes = (*_changes(resource, found, desired, observed), *_tag_changes(resource, found))
    if any(change.path in FIXED.get(kind, ()) for change in changes):
        return Step("replace", kind, name, changes, (), resource, found)
    return Step("update" if changes else "none", kind, name, changes, (), resource, found)


def _with_what_hangs_on(steps: list[Step]) -> list[Step]:
    """Put anew what scales an endpoint or component that is made anew: AWS may have dropped it with the old one."""
    anew: set[Key] = set()
    done = []
    for step in steps:
        if step.kind in ("endpoint", "inference-component"):
            if step.action in ("create", "replace"):
                anew.add((step.kind, step.name))
        elif step.resource is not None and anew.intersection(step.resource.after):
            anew.add((step.kind, step.name))
            if step.action == "none":
                step = dataclasses.replace(step, action="update", notes=("what it belongs to is made anew",))
        done.append(step)
    return done


def _remade(observed: Observed, desired: Desired, endpoint: str) -> bool:
    found = observed.get(("endpoint", endpoint))
    return (
        found is not None
        and found.status in UNFIXABLE
        and any(each.name == endpoint for each in desired.of("endpoint"))
    )


def _changes(resource: Resource, found: Found, desired: Desired, observed: Observed) -> Iterator[Change]:
    if resource.kind in IMMUTABLE:
        return
    ignored = UNCOMPARED.get(resource.kind, frozenset())
    before = {key: value for key, value in found.spec.items() if key not in ignored}
    after = {key: _with_arns(value, observed) for key, value in resource.spec.items() if key not in ignored}
    if resource.kind == "inference-component" and _scales(resource, desired):
        # How many copies there are is what the scaling says: the manifest's number is that of the first moment.
        before.pop("RuntimeConfig", None)
        after.pop("RuntimeConfig", None)
    changes = list(_differences(before, after, exact=resource.kind in ("scaling-policy", "alarm", "scheduled-action")))
    yield from changes
    if resource.kind in DIGESTED and not changes and found.digest not in (None, resource.digest):
        yield Change("(content)", found.digest, resource.digest)  # what cannot be compared, such as a secret's place


def _scales(resource: Resource, desired: Desired) -> bool:
    return any(target.name == f"inference-component/{resource.name}" for target in desired.of("scalable-target"))


def _tag_changes(resource: Resource, found: Found) -> Iterator[Change]:
    """Tags are added and changed, never taken away: others put theirs beside them."""
    if resource.kind not in ("model", "endpoint-config", "endpoint", "inference-component"):
        return
    for tag in resource.spec.get("Tags", ()):
        before = found.tags.get(tag["Key"])
        if before != tag["Value"]:
            yield Change(f"Tags.{tag['Key']}", before, tag["Value"])


def _predecessor(resource: Resource, observed: Observed, desired: Desired) -> Found | None:
    base = _GENERATION.sub("", resource.name)
    in_use = {found.spec.get("EndpointConfigName") for found in observed.values() if found.kind == "endpoint"}
    older = [
        found
        for found in observed.values()
        if found.kind == resource.kind and found.owned and _GENERATION.sub("", found.name) == base
    ]
    return next((found for found in older if found.name in in_use), older[-1] if older else None)


def _removals(wanted: Mapping[Key, Resource], observed: Observed) -> Iterator[Step]:
    leftover = [found for found in observed.values() if found.owned and found.key not in wanted]
    leftover.sort(key=lambda found: (REMOVAL.index(found.kind), not _stands_on_another(found)))
    targets = {found.name for found in leftover if found.kind == "scalable-target" and not found.details.get("others")}
    for found in leftover:
        if found.kind in ("scaling-policy", "scheduled-action") and found.spec["ResourceId"] in targets:
            continue  # goes with its target
        if found.kind == "scalable-target" and found.name not in targets and host_of(found.name) in wanted:
            continue  # somebody else's policies still need it
        yield Step("delete", found.kind, found.name, found=found)


def _stands_on_another(found: Found) -> bool:
    return bool(found.spec.get("Specification", {}).get("BaseInferenceComponentName"))


def _with_notes(steps: list[Step]) -> Iterator[Step]:
    for step in steps:
        if step.action == "none" and step.found is not None and step.found.busy:
            yield Step("none", step.kind, step.name, (), (f"is {step.found.status}",), step.resource, step.found)
        else:
            yield step


def _conflicts(wanted: Mapping[Key, Resource], observed: Observed, desired: Desired) -> Iterator[str]:
    for key, found in observed.items():
        kind, name = key
        if key in wanted and not found.owned:
            yield f"the {kind} {name} is there already and was not made from the manifest {desired.manifest}"
        elif kind == "endpoint" and found.owned and key in wanted:
            target = str(wanted[key].spec["EndpointConfigName"])
            heading = found.pending or (found.spec["EndpointConfigName"] if found.status == "Creating" else None)
            if found.busy and found.status != "Deleting" and heading not in (None, target):
                yield (
                    f"the endpoint {name} is {found.status}, on its way to {heading}, which is not what this manifest"
                    " makes: another apply is running, or one was cut short; go on when it is InService"
                )


def _is_drift(step: Step, observed: Observed) -> bool:
    """Tell whether somebody else changed this: it was last left as the manifest still wants it, and is not so now."""
    if not step.changes or step.found is None or step.resource is None:
        return False
    if step.kind == "endpoint":
        config = observed.get(("endpoint-config", str(step.found.spec["EndpointConfigName"])))
        return config is None or not config.owned
    return step.kind in DIGESTED and step.found.digest == step.resource.digest


def _differences(before: Any, after: Any, path: str = "", *, exact: bool) -> Iterator[Change]:
    """Yield what is different. What AWS tells beyond the request counts only where `exact`."""
    if isinstance(after, Mapping) and isinstance(before, Mapping):
        # Variables and dimensions are a whole: one that is not named any more has to go.
        whole = exact or path.rpartition(".")[2] == "Environment"
        for name in dict.fromkeys([*after, *(before if whole else ())]):
            below = f"{path}.{name}" if path else name
            if (
                name in AWS_DEFAULTS
                and AWS_DEFAULTS[name] in (before.get(name), after.get(name))
                and (name not in before or name not in after)
            ):
                continue
            yield from _differences(before.get(name), after.get(name), below, exact=exact)
    elif isinstance(after, list | tuple) and isinstance(before, list | tuple) and len(after) == len(before):
        for at, (old, new) in enumerate(zip(before, after, strict=True)):
            yield from _differences(old, new, f"{path}[{at}]", exact=exact)
    elif not _same(before, after):
        yield Change(path, _shown(before), _shown(after))


def _with_arns(value: Any, observed: Observed) -> Any:
    if isinstance(value, ArnOf):
        found = observed.get((value.kind, value.name))
        return value if found is None else found.arn
    if isinstance(value, Mapping):
        return {name: _with_arns(child, observed) for name, child in value.items()}
    return [_with_arns(child, observed) for child in value] if isinstance(value, list | tuple) else value


def _same(before: Any, after: Any) -> bool:
    if _empty(before) and _empty(after):
        return True
    return bool(_shown(before) == _shown(after))


def _empty(value: Any) -> bool:
    """An absent member, a false one and an empty one mean the same to AWS."""
    if isinstance(value, Mapping):
        return all(_empty(child) for child in value.values())
    return value is None or value is False or value in ([], (), "")


def _shown(value: Any) -> Any:
    if isinstance(value, SecretRef):
        return f"(secret {value})"
    if isinstance(value, ArnOf):
        return f"(ARN of {value})"
    if isinstance(value, Mapping):
        return {name: _shown(child) for name, child in value.items()}
    if isinstance(value, list | tuple):
        return [_shown(child) for child in value]
    return value
