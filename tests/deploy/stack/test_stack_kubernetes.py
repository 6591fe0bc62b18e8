"""The Kubernetes manifests: right by every schema, and times, ports and rights that fit the gateway and its image."""

from __future__ import annotations

import asyncio
import copy
import json
from pathlib import Path
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped]  # it ships no types
import pytest
import yaml

from gateway.config.load import load
from gateway.config.models import Timeouts
from gateway.config.settings import own_variables
from gateway.http.server import CUT_GRACE_S
from gateway.telemetry.prometheus import PrometheusTelemetry
from tests.deploy.stack.dockerfile import ROOT, Stage
from tests.deploy.stack.kustomize import Manifest, build

FOLDER = ROOT / "deploy/stack/kubernetes"
RELEASES = ["1.31", "1.33", "1.35", "1.37"]
# Of the Prometheus operator, which has a resource definition of its own:
# https://github.com/prometheus-operator/prometheus-operator/blob/main/Documentation/api-reference/api.md
SERVICE_MONITOR = {"selector": dict, "endpoints": list}
ENDPOINT = {"port": str, "path": str, "interval": str, "scrapeTimeout": str}


@pytest.fixture(scope="module")
def example() -> list[Manifest]:
    return build(FOLDER / "example")


@pytest.fixture(scope="module")
def base() -> list[Manifest]:
    return build(FOLDER / "base")


def only(manifests: list[Manifest], kind: str) -> Manifest:
    (found,) = [each for each in manifests if each["kind"] == kind]
    return found


def pod(manifests: list[Manifest]) -> dict[str, Any]:
    found: dict[str, Any] = only(manifests, "Deployment")["spec"]["template"]["spec"]
    return found


def container(manifests: list[Manifest]) -> dict[str, Any]:
    (found,) = pod(manifests)["containers"]
    assert isinstance(found, dict)
    return found


def variables(manifests: list[Manifest]) -> dict[str, str]:
    return {each["name"]: each["value"] for each in container(manifests)["env"] if "value" in each}


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("folder", ["base", "example"])
def test_every_manifest_is_right_by_the_schema(folder: str, release: str) -> None:
    kinds = []
    for manifest in build(FOLDER / folder):
        kinds.append(manifest["kind"])
        if manifest["kind"] != "ServiceMonitor":
            kubernetes_validate.validate(manifest, release, strict=True)
    assert {"Deployment", "Service", "HorizontalPodAutoscaler", "PodDisruptionBudget", "NetworkPolicy"} <= set(kinds)


def test_the_schema_would_find_a_field_that_does_not_exist(base: list[Manifest]) -> None:
    broken = copy.deepcopy(only(base, "Deployment"))
    broken["spec"]["template"]["spec"]["containers"][0]["readynessProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError, match="readynessProbe"):
        kubernetes_validate.validate(broken, RELEASES[-1], strict=True)


def test_the_service_monitor_has_fields_of_its_definition(example: list[Manifest]) -> None:
    monitor = only(example, "ServiceMonitor")
    assert monitor["apiVersion"] == "monitoring.coreos.com/v1"
    assert {name: type(value) for name, value in monitor["spec"].items()} == SERVICE_MONITOR
    (endpoint,) = monitor["spec"]["endpoints"]
    assert {name: type(value) for name, value in endpoint.items()} == ENDPOINT
    service = only(example, "Service")
    assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert endpoint["port"] in {port["name"] for port in service["spec"]["ports"]}
    assert endpoint["path"] == "/metrics"


def test_everything_is_in_one_namespace_that_lets_in_restricted_pods_only(example: list[Manifest]) -> None:
    assert {each["metadata"]["namespace"] for each in example if each["kind"] != "Namespace"} == {"lmi-gateway"}
    labels = only(example, "Namespace")["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"


def test_an_update_waits_until_the_load_balancer_calls_new_pods(example: list[Manifest]) -> None:
    assert only(example, "Ingress")["metadata"]["annotations"]["alb.ingress.kubernetes.io/target-type"] == "ip"
    labels = only(example, "Namespace")["metadata"]["labels"]
    assert labels["elbv2.k8s.aws/pod-readiness-gate-inject"] == "enabled"
    assert only(example, "Deployment")["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] == 0


def test_what_selects_pods_selects_these(example: list[Manifest]) -> None:
    labels = only(example, "Deployment")["spec"]["template"]["metadata"]["labels"]
    selectors = [
        only(example, "Service")["spec"]["selector"],
        only(example, "Deployment")["spec"]["selector"]["matchLabels"],
        only(example, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
        only(example, "NetworkPolicy")["spec"]["podSelector"]["matchLabels"],
        *[each["labelSelector"]["matchLabels"] for each in pod(example)["topologySpreadConstraints"]],
    ]
    assert [each for each in selectors if each != labels] == []
    scaled = only(example, "HorizontalPodAutoscaler")["spec"]["scaleTargetRef"]
    assert (scaled["kind"], scaled["name"]) == ("Deployment", only(example, "Deployment")["metadata"]["name"])
    assert "replicas" not in only(example, "Deployment")["spec"]
    assert pod(example)["serviceAccountName"] == only(example, "ServiceAccount")["metadata"]["name"]


def test_a_pod_may_do_what_the_image_needs_and_no_more(base: list[Manifest], dockerfile: dict[str, Stage]) -> None:
    # The restricted standard: https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted
    user = dockerfile["base"].last("USER").text
    context = pod(base)["securityContext"]
    assert f"{context['runAsUser']}:{context['runAsGroup']}" == user
    assert context["runAsNonRoot"] is True
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container(base)["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert pod(base)["automountServiceAccountToken"] is pod(base)["enableServiceLinks"] is False
    assert only(base, "ServiceAccount")["automountServiceAccountToken"] is False
    mounted = {mount["mountPath"] for mount in container(base)["volumeMounts"]}
    assert mounted == set(json.loads(dockerfile["gateway"].last("VOLUME").text))
    writable = [mount["name"] for mount in container(base)["volumeMounts"] if not mount.get("readOnly")]
    assert writable == ["temporary"]


def test_a_stopping_pod_has_time_to_end_its_calls(base: list[Manifest]) -> None:
    command, before_s = container(base)["lifecycle"]["preStop"]["exec"]["command"]
    assert command == "sleep"
    drain_s = float(variables(base)["LMI_GATEWAY_DRAIN_TIMEOUT_S"])
    assert pod(base)["terminationGracePeriodSeconds"] >= float(before_s) + drain_s + CUT_GRACE_S + 5


def test_the_probes_ask_the_right_questions(base: list[Manifest]) -> None:
    probes = {name: container(base)[f"{name}Probe"] for name in ("startup", "liveness", "readiness")}
    assert {name: probe["httpGet"]["path"] for name, probe in probes.items()} == {
        "startup": "/healthz",
        "liveness": "/healthz",
        "readiness": "/readyz",
    }
    # A gateway looks for credentials before it answers, for up to half a minute.
    assert probes["startup"]["periodSeconds"] * probes["startup"]["failureThreshold"] >= 60
    assert {probe["httpGet"]["port"] for probe in probes.values()} == {container(base)["ports"][0]["name"]}


def test_the_variables_and_the_file_are_a_configuration(example: list[Manifest], tmp_path: Path) -> None:
    generated = only(example, "ConfigMap")
    (volume,) = [each for each in pod(example)["volumes"] if "configMap" in each]
    assert volume["configMap"]["name"] == generated["metadata"]["name"] != "lmi-gateway-config"
    path = tmp_path / "gateway.yaml"
    path.write_text(generated["data"]["gateway.yaml"])
    given = variables(example) | {"LMI_GATEWAY_REDIS_URL": "redis://redis:6379/0"}
    assert own_variables(given) == given
    settings = load(path, given).settings
    assert (settings.limits_store, settings.drain_timeout_s, settings.idle_timeout_s) == ("redis", 240.0, 3600.0)
    (secret,) = [each["valueFrom"] for each in container(example)["env"] if "valueFrom" in each]
    assert secret == {"secretKeyRef": {"name": "lmi-gateway", "key": "redis-url", "optional": True}}


def test_only_the_callers_port_is_let_in(base: list[Manifest], example: list[Manifest]) -> None:
    for manifests in (base, example):
        policy = only(manifests, "NetworkPolicy")["spec"]
        assert policy["policyTypes"] == ["Ingress", "Egress"]
        assert {port["port"] for rule in policy["ingress"] for port in rule["ports"]} == {8080}
        assert all(rule["from"] for rule in policy["ingress"])
        assert all(rule["to"] for rule in policy["egress"])
        (https,) = [rule for rule in policy["egress"] if rule["ports"][0]["port"] == 443]
        # Where instances keep their credentials.
        assert https["to"] == [{"ipBlock": {"cidr": "0.0.0.0/0", "except": ["169.254.0.0/16"]}}]
    assert [port["containerPort"] for port in container(base)["ports"]] == [8080]


def test_the_load_balancer_waits_as_long_as_the_gateway(example: list[Manifest]) -> None:
    notes = {
        name.rpartition("/")[2]: value for name, value in only(example, "Ingress")["metadata"]["annotations"].items()
    }
    balancer = dict(pair.split("=") for pair in notes["load-balancer-attributes"].split(","))
    idle_s = float(balancer["idle_timeout.timeout_seconds"])
    assert Timeouts.model_fields["total_s"].default < idle_s < float(variables(example)["LMI_GATEWAY_IDLE_TIMEOUT_S"])
    targets = dict(pair.split("=") for pair in notes["target-group-attributes"].split(","))
    assert float(targets["deregistration_delay.timeout_seconds"]) > float(
        variables(example)["LMI_GATEWAY_DRAIN_TIMEOUT_S"]
    )
    assert (notes["backend-protocol-version"], notes["healthcheck-path"]) == ("HTTP1", "/readyz")
    (rule,) = only(example, "Ingress")["spec"]["rules"]
    paths = [each["path"] for each in rule["http"]["paths"]]
    assert paths == ["/v1/", "/openai/", "/models/", "/docs"]
    assert {each["backend"]["service"]["name"] for each in rule["http"]["paths"]} == {"lmi-gateway"}


def test_scaling_counts_a_metric_that_there_is_and_falls_back_on_the_cpu(
    base: list[Manifest], example: list[Manifest]
) -> None:
    def counted(manifests: list[Manifest]) -> list[str]:
        metrics = only(manifests, "HorizontalPodAutoscaler")["spec"]["metrics"]
        return [each["resource"]["name"] if "resource" in each else each["pods"]["metric"]["name"] for each in metrics]

    assert counted(base) == ["cpu"]
    assert counted(example) == ["cpu", "gateway_calls_in_flight"]
    (rule,) = yaml.safe_load((FOLDER / "scale-by-calls/adapter-values.yaml").read_text())["rules"]["custom"]
    assert rule["name"]["as"] == "gateway_calls_in_flight"
    assert rule["seriesQuery"].startswith("gateway_calls_in_flight{")
    assert b"# TYPE gateway_calls_in_flight gauge" in asyncio.run(PrometheusTelemetry().scrape())[0]


def test_the_role_is_the_service_accounts(example: list[Manifest]) -> None:
    account = only(example, "ServiceAccount")["metadata"]
    assert account["annotations"] == {"eks.amazonaws.com/role-arn": "arn:aws:iam::123456789012:role/lmi-gateway"}
    trusted = json.loads((ROOT / "deploy/stack/iam/trust-irsa.json").read_text())
    conditions = trusted["Statement"][0]["Condition"]["StringEquals"].values()
    assert f"system:serviceaccount:{account['namespace']}:{account['name']}" in conditions
