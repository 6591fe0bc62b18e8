"""How a manifest's endpoints are: states, sizes, scaling, alarms, failed calls, and what is not as it should be."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from deploy.aws import Aws
from deploy.observe import Found, Observed
from deploy.plan import Plan
from deploy.render import table

WINDOW_MINUTES = 15
METRICS: Mapping[str, str] = {
    "calls": "Invocations",
    "refused": "Invocation4XXErrors",
    "failed": "Invocation5XXErrors",
}
"""https://docs.aws.amazon.com/sagemaker/latest/dg/monitoring-cloudwatch.html"""


@dataclass(frozen=True, slots=True)
class Status:
    """What `lmi-deploy status` tells."""

    plan: Plan
    observed: Observed
    calls: Mapping[str, Mapping[str, int]]
    """For each endpoint and component the counts of `METRICS` in the last minutes."""

    @property
    def serves(self) -> bool:
        """Whether every endpoint and component of the manifest is InService."""
        hosts = [step for step in self.plan.steps if step.kind in ("endpoint", "inference-component") and step.resource]
        return all(step.found is not None and step.found.status == "InService" for step in hosts)


def status(plan: Plan, observed: Observed, aws: Aws, now: datetime | None = None) -> Status:
    """Return how things are; costs one call beyond what a plan takes."""
    queries = list(_queries(observed))
    if not queries:
        return Status(plan, observed, {})
    end = now or datetime.now(UTC)
    reply = aws.cloudwatch.get_metric_data(
        MetricDataQueries=[query for _, _, query in queries],
        StartTime=end - timedelta(minutes=WINDOW_MINUTES),
        EndTime=end,
    )
    sums = {result["Id"]: int(sum(result["Values"])) for result in reply["MetricDataResults"]}
    calls: dict[str, dict[str, int]] = {}
    for name, word, query in queries:
        counts = calls.setdefault(name, {})
        counts[word] = counts.get(word, 0) + sums.get(query["Id"], 0)
    return Status(plan, observed, calls)


def _queries(observed: Observed) -> Iterator[tuple[str, str, dict[str, Any]]]:
    subjects = []
    for found in observed.values():
        if found.kind == "endpoint":
            for variant in found.details["variants"]:
                dimensions = {"EndpointName": found.name, "VariantName": variant["VariantName"]}
                subjects.append((found.name, dimensions))
        elif found.kind == "inference-component":
            subjects.append((found.name, {"InferenceComponentName": found.name}))
    for number, (name, dimensions) in enumerate(subjects):
        for word, metric in METRICS.items():
            stat = {
                "Metric": {
                    "Namespace": "AWS/SageMaker",
                    "MetricName": metric,
                    "Dimensions": [{"Name": key, "Value": value} for key, value in dimensions.items()],
                },
                "Period": 60,
                "Stat": "Sum",
            }
            yield name, word, {"Id": f"{word}{number}", "MetricStat": stat}


def text(status: Status) -> str:
    """Return a status as people read it."""
    observed = status.observed
    rows: list[tuple[str, ...]] = [("KIND", "NAME", "STATE", "SIZE", "SCALES", f"CALLS, {WINDOW_MINUTES} MIN")]
    rows += [row for found in observed.values() if found.owned for row in _rows(found, status)]
    parts = [table(rows)] if len(rows) > 1 else ["nothing is there\n"]
    parts += [
        f"{found.kind} {found.name} {found.status}: {found.failure}\n" for found in observed.values() if found.failure
    ]
    alarms = [found for found in observed.values() if found.kind == "alarm"]
    parts += [f"alarm {found.name}: {found.details['state']}\n" for found in alarms]
    for step in status.plan.changes:
        how = "changed by somebody else" if step in status.plan.drift else f"an apply would {step.action} it"
        fields = f": {', '.join(change.path for change in step.changes)}" if step.changes else ""
        parts.append(f"{step.kind} {step.name} is not as in the manifest ({how}){fields}\n")
    return "".join(parts)


def as_json(status: Status) -> str:
    """Return a status as one JSON object."""
    document = {
        "manifest": status.plan.manifest,
        "in_service": status.serves,
        "resources": [_object(found, status) for found in status.observed.values() if found.owned],
        "differences": [
            {
                "kind": step.kind,
                "name": step.name,
                "action": step.action,
                "drift": step in status.plan.drift,
                "fields": [change.path for change in step.changes],
            }
            for step in status.plan.changes
        ],
    }
    return json.dumps(document, indent=2, default=str) + "\n"


def _rows(found: Found, status: Status) -> Iterator[tuple[str, ...]]:
    if found.kind == "endpoint":
        yield (found.kind, found.name, _state(found), "", "", _calls(found, status))
        for variant in found.details["variants"]:
            name = variant["VariantName"]
            size = f"{variant.get('CurrentInstanceCount', '?')}/{variant.get('DesiredInstanceCount', '?')} instances"
            scales = _scales(status.observed, f"endpoint/{found.name}/variant/{name}")
            yield ("  variant", name, _stage(variant), size, scales, "")
    elif found.kind == "inference-component":
        size = f"{found.details['copies']}/{found.details['wanted']} copies"
        scales = _scales(status.observed, f"inference-component/{found.name}")
        yield (found.kind, found.name, found.status, size, scales, _calls(found, status))


def _state(found: Found) -> str:
    return f"{found.status} to {found.pending}" if found.pending else found.status


def _stage(variant: Mapping[str, Any]) -> str:
    stages = variant.get("VariantStatus", ())
    return str(stages[-1]["Status"]) if stages else ""


def _scales(observed: Observed, target: str) -> str:
    found = observed.get(("scalable-target", target))
    if found is None:
        return "no"
    spec = found.spec
    suspended = any(spec.get("SuspendedState", {}).values())
    return f"{spec.get('MinCapacity')} to {spec.get('MaxCapacity')}" + (", suspended" if suspended else "")


def _calls(found: Found, status: Status) -> str:
    counts = status.calls.get(found.name)
    if not counts:
        return ""
    return f"{counts['calls']}, {counts['refused']} refused, {counts['failed']} failed"


def _object(found: Found, status: Status) -> dict[str, Any]:
    entry: dict[str, Any] = {"kind": found.kind, "name": found.name}
    if found.status:
        entry |= {"status": found.status, "failure": found.failure}
    if found.kind == "endpoint":
        entry |= {"config": found.spec["EndpointConfigName"], "pending": found.pending, **found.details}
    elif found.details:
        entry |= found.details
    if found.kind == "scalable-target":
        entry |= {"min": found.spec.get("MinCapacity"), "max": found.spec.get("MaxCapacity")}
    if found.name in status.calls:
        entry["calls"] = status.calls[found.name]
    return entry
