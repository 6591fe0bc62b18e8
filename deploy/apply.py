"""Bringing AWS to what a manifest wants, one step after the other, without remembering anything outside of AWS.

Every step may be the last one that was taken: the next apply looks at what is there, plans anew and goes on.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

from deploy.apply_calls import Calls
from deploy.aws import Aws, DeployError
from deploy.observe import Found, Observed, observe
from deploy.plan import Plan, Step, plan
from deploy.progress import Progress
from deploy.resources import Desired, Key
from deploy.waiting import Patience, Waiter

DOING: Mapping[str, str] = {"create": "creating", "update": "updating", "replace": "replacing", "delete": "deleting"}
WAITED = ("endpoint", "inference-component")


class Applier:
    """Applies one manifest, or with `removing` takes away what was made from it."""

    def __init__(
        self, desired: Desired, aws: Aws, progress: Progress, patience: Patience, *, removing: bool = False
    ) -> None:
        self._known = desired
        self._desired = dataclasses.replace(desired, resources=()) if removing else desired
        self._aws = aws
        self._progress = progress
        self._waiter = Waiter(aws, progress, patience)
        self._coming: dict[Key, str | None] = {}
        """What AWS is making, and an endpoint's configuration."""

    def run(self, approve: Callable[[Plan], bool], prices: Mapping[str, float] | None = None) -> Plan | None:
        """Return the plan that was carried out, None if it was not approved.

        Raises:
            DeployError: something is in the way, or failed.
            ClientError: AWS refused a call.
        """
        observed = self._settled()
        agreed = plan(self._desired, observed, prices)
        if agreed.conflicts:
            raise DeployError("\n".join(agreed.conflicts))
        needed = {ref for step in agreed.changes if step.resource for ref in step.resource.secrets}
        if missing := sorted(str(ref) for ref in needed if self._aws.lacks(ref)):
            raise DeployError(f"these secrets are not there: {', '.join(missing)}")
        if not approve(agreed):
            return None
        calls = Calls(self._aws, self._desired.manifest, observed)
        for step in agreed.changes:
            self._take(step, observed, calls)
        self._wait_for(list(self._coming))
        return agreed

    def _settled(self) -> Observed:
        """Return what is there once AWS has ended what it is still at work on."""
        while True:
            observed = observe(self._known, self._aws)
            current = plan(self._desired, observed)
            if current.conflicts:
                raise DeployError("\n".join(current.conflicts))
            if not current.busy:
                return observed
            for found in current.busy:
                self._progress.say(f"the {found.kind} {found.name} is {found.status}: waiting until it is not")
                self._settle(found)

    def _settle(self, found: Found) -> None:
        state = self._waiter.until_settled(found.key)
        if found.pending and state is not None and state.get("EndpointConfigName") != found.pending:
            # The same configuration would fail again: whoever applies has to see that it did.
            self._waiter.until_ready(found.key, found.pending)

    def _take(self, step: Step, observed: Observed, calls: Calls) -> None:
        resource = step.resource
        if step.action == "delete" and step.kind not in ("scaling-policy", "scheduled-action", "scalable-target"):
            self._wait_for(list(self._coming))  # nothing goes before what comes in its place serves
        if resource is not None:
            self._wait_for([key for key in resource.after if key in self._coming])
        self._progress.say(f"{DOING[step.action]} the {step.kind} {step.name}")
        if step.action in ("delete", "replace"):
            self._remove(step, observed, calls)
        if resource is None:
            return
        config = resource.spec.get("EndpointConfigName") if step.kind == "endpoint" else None
        if step.action == "update":
            if calls.update(step, scaled=self._scales(step)):
                self._coming[step.kind, step.name] = config
            return
        if not calls.create(resource):
            self._progress.say(f"the {step.kind} {step.name} is there already")
        if step.kind in WAITED:
            self._coming[step.kind, step.name] = config

    def _remove(self, step: Step, observed: Observed, calls: Calls) -> None:
        if step.found is None:
            return
        if step.kind == "endpoint" and step.action == "replace":
            # An endpoint is deleted only when it holds no component; those come back in steps of their own.
            self._remove_components(step.name, observed, calls)
        calls.delete(step.kind, step.name, step.found.spec)
        if step.kind in WAITED:
            self._waiter.until_gone((step.kind, step.name))

    def _remove_components(self, endpoint: str, observed: Observed, calls: Calls) -> None:
        held = [
            found
            for found in observed.values()
            if found.kind == "inference-component" and found.owned and found.spec.get("EndpointName") == endpoint
        ]
        held.sort(key=lambda found: "BaseInferenceComponentName" not in found.spec.get("Specification", {}))
        for found in held:
            calls.delete(found.kind, found.name, found.spec)
            self._waiter.until_gone(found.key)

    def _wait_for(self, keys: list[Key]) -> None:
        for key in keys:
            self._waiter.until_ready(key, self._coming[key])
            del self._coming[key]

    def _scales(self, step: Step) -> bool:
        prefix = f"endpoint/{step.name}/variant/" if step.kind == "endpoint" else f"inference-component/{step.name}"
        return any(target.name.startswith(prefix) for target in self._desired.of("scalable-target"))
