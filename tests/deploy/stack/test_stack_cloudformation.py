"""The CloudFormation template: no complaint of the linter's, and times, ports and alarms that fit the gateway."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.config.load import load
from gateway.config.models import Model, Timeouts
from gateway.config.settings import Settings, own_variables
from gateway.http.server import CUT_GRACE_S
from gateway.telemetry.prometheus import PrometheusTelemetry
from tests.deploy.stack.dockerfile import ROOT, Stage
from tests.deploy.stack.template import Template

TEMPLATE = ROOT / "deploy/stack/cloudformation/gateway.yaml"
REGIONS = [
    "ap-northeast-1", "ap-south-1", "ap-southeast-1", "ap-southeast-2", "ca-central-1", "eu-central-1", "eu-north-1",
    "eu-west-1", "eu-west-2", "eu-west-3", "sa-east-1", "us-east-1", "us-east-2", "us-west-2",
]  # fmt: skip
GIVEN: dict[str, Any] = {
    "ImageUri": "123456789012.dkr.ecr.eu-central-1.amazonaws.com/lmi-gateway@sha256:" + "0" * 64,
    "ConfigSecretArn": "arn:aws:secretsmanager:eu-central-1:123456789012:secret:lmi-gateway/config-AbCdEf",
    "EndpointArns": "arn:aws:sagemaker:eu-central-1:123456789012:endpoint/llama",
    "VpcId": "vpc-0",
    "PublicSubnetIds": "subnet-1,subnet-2",
    "PrivateSubnetIds": "subnet-3,subnet-4",
    "CertificateArn": "arn:aws:acm:eu-central-1:123456789012:certificate/0",
}
ADMIN = {"AdminKeyDigest": "sha256:" + "0" * 64, "AdminSecurityGroupId": "sg-01234567"}
FARGATE_STOP_S = 120
"""https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task_definition_parameters.html#container_definition_timeout"""


@pytest.fixture(scope="module")
def plain() -> Template:
    return Template(TEMPLATE, **GIVEN)


@pytest.fixture(scope="module")
def with_admin() -> Template:
    return Template(TEMPLATE, **GIVEN, **ADMIN, WebAcl="true", AccessLogsBucket="logs", AlarmTopicArn="arn:aws:sns:x")


def container(template: Template, name: str) -> dict[str, Any]:
    (found,) = [each for each in template.resources["Task"]["ContainerDefinitions"] if each["Name"] == name]
    assert isinstance(found, dict)
    return found


def variables(template: Template) -> dict[str, str]:
    return {each["Name"]: str(each["Value"]) for each in container(template, "gateway")["Environment"]}


def attributes(resource: dict[str, Any], key: str) -> dict[str, str]:
    return {each["Key"]: str(each["Value"]) for each in resource[key]}


def test_the_linter_has_no_complaint_in_any_region() -> None:
    program = Path(sys.executable).with_name("cfn-lint")
    command = [str(program), "--non-zero-exit-code", "informational", "-r", *REGIONS, "--", str(TEMPLATE)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_linter_would_complain(tmp_path: Path) -> None:
    broken = tmp_path / "broken.yaml"
    broken.write_text(TEMPLATE.read_text().replace("TargetType: ip", "TargetType: task"))
    program = Path(sys.executable).with_name("cfn-lint")
    done = subprocess.run([program, broken], capture_output=True, text=True, timeout=120)
    assert done.returncode != 0
    assert "'task' is not one of" in done.stdout


def test_an_update_leaves_the_number_of_tasks_to_scaling(plain: Template) -> None:
    # With a count in the template, a new image under load would begin with ending most tasks.
    assert "DesiredCount" not in plain.resources["Service"]
    assert plain.resources["Scaling"]["MinCapacity"] == 2


def test_cloudformation_takes_it_inline() -> None:
    # https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/cloudformation-limits.html
    assert TEMPLATE.stat().st_size <= 51_200


# --- Times ---


def test_a_whole_reply_may_take_as_long_as_the_gateway_waits_for_it(plain: Template) -> None:
    idle_s = float(attributes(plain.resources["Balancer"], "LoadBalancerAttributes")["idle_timeout.timeout_seconds"])
    assert Timeouts.model_fields["total_s"].default == 900 < idle_s
    assert Model.model_fields["keep_alive_s"].default == 15 < idle_s


def test_the_load_balancer_closes_idle_connections_and_not_the_gateway(plain: Template) -> None:
    most_s = plain.text["Parameters"]["IdleTimeoutSeconds"]["MaxValue"]
    assert float(variables(plain)["LMI_GATEWAY_IDLE_TIMEOUT_S"]) > most_s


def test_a_stopping_task_has_time_to_end_its_calls(plain: Template) -> None:
    gateway = container(plain, "gateway")
    most_s = plain.text["Parameters"]["DrainSeconds"]["MaxValue"]
    assert gateway["StopTimeout"] == FARGATE_STOP_S > most_s + CUT_GRACE_S
    targets = attributes(plain.resources["Targets"], "TargetGroupAttributes")
    assert float(targets["deregistration_delay.timeout_seconds"]) > most_s


# --- Who reaches what ---


def test_the_load_balancer_forwards_to_the_gateways_port_by_http_1(plain: Template) -> None:
    targets = plain.resources["Targets"]
    assert (targets["Protocol"], targets["ProtocolVersion"], targets["Port"]) == ("HTTP", "HTTP1", 8080)
    assert targets["HealthCheckPath"] == "/readyz"
    (listener,) = plain.of_type("AWS::ElasticLoadBalancingV2::Listener").values()
    assert (listener["Port"], listener["Protocol"]) == (443, "HTTPS")
    assert listener["DefaultActions"][0]["FixedResponseConfig"]["StatusCode"] == "404"


@pytest.mark.parametrize(
    ("path", "forwarded"),
    [
        pytest.param("/v1/chat/completions", True, id="chat"),
        pytest.param("/v1/models/org/name", True, id="a model"),
        pytest.param("/openai/deployments/m/chat/completions", True, id="Azure's"),
        pytest.param("/models/m/generate", True, id="below a model"),
        pytest.param("/generate_stream", True, id="TGI's"),
        pytest.param("/", True, id="TGI's root"),
        pytest.param("/docs", True, id="the documentation"),
        pytest.param("/metrics", False, id="metrics"),
        pytest.param("/%6detrics", False, id="metrics in another spelling"),
        pytest.param("//metrics", False, id="metrics after two slashes"),
        pytest.param("/readyz", False, id="readiness"),
        pytest.param("/admin/keys", False, id="the administration"),
    ],
)
def test_paths_that_callers_reach(plain: Template, path: str, forwarded: bool) -> None:
    patterns = [
        pattern
        for rule in plain.of_type("AWS::ElasticLoadBalancingV2::ListenerRule").values()
        for condition in rule["Conditions"]
        for pattern in condition["PathPatternConfig"]["Values"]
    ]
    assert any(re.fullmatch(re.escape(each).replace(r"\*", ".*"), path) for each in patterns) is forwarded


def rules(template: Template, direction: str) -> set[tuple[str, str, int]]:
    """Return who lets whom through on which port, by the names of the security groups or an address range."""
    found = set()
    peer = "SourceSecurityGroupId" if direction == "Ingress" else "DestinationSecurityGroupId"
    for name, resource in template.of_type("AWS::EC2::SecurityGroup").items():
        for rule in resource.get(f"SecurityGroup{direction}", []):
            if rule["IpProtocol"] == "tcp":
                found.add((f"<{name}>", rule["CidrIp"], rule["FromPort"]))
    for resource in template.of_type(f"AWS::EC2::SecurityGroup{direction}").values():
        assert resource["FromPort"] == resource["ToPort"]
        found.add((resource["GroupId"], resource[peer], resource["FromPort"]))
    return found


ALWAYS_IN = {
    ("<BalancerSecurityGroup>", "10.0.0.0/8", 443),
    ("<ServiceSecurityGroup>", "<BalancerSecurityGroup>", 8080),
    ("<CacheSecurityGroup>", "<ServiceSecurityGroup>", 6379),
}


def test_no_more_ports_are_open_than_are_needed(plain: Template, with_admin: Template) -> None:
    assert rules(plain, "Ingress") == ALWAYS_IN
    assert rules(with_admin, "Ingress") == ALWAYS_IN | {("<ServiceSecurityGroup>", "sg-01234567", 8081)}
    assert rules(plain, "Egress") == {
        ("<BalancerSecurityGroup>", "<ServiceSecurityGroup>", 8080),
        ("<ServiceSecurityGroup>", "0.0.0.0/0", 443),
        ("<ServiceSecurityGroup>", "<CacheSecurityGroup>", 6379),
    }


def test_the_administration_is_no_target_and_off_unless_asked_for(plain: Template, with_admin: Template) -> None:
    assert not [name for name in variables(plain) if "ADMIN" in name]
    assert [port["ContainerPort"] for port in container(plain, "gateway")["PortMappings"]] == [8080]
    for template in (plain, with_admin):
        (service,) = template.of_type("AWS::ECS::Service").values()
        assert [each["ContainerPort"] for each in service["LoadBalancers"]] == [8080]
        assert [each["Port"] for each in template.of_type("AWS::ElasticLoadBalancingV2::TargetGroup").values()] == [
            8080
        ]
    assert variables(with_admin)["LMI_GATEWAY_ADMIN_PORT"] == "8081"


# --- The tasks ---


def test_the_gateways_variables_are_settings_it_takes(plain: Template, with_admin: Template, tmp_path: Path) -> None:
    model = "models: [{name: m, deployments: [{endpoint: e, region: us-east-1, container: lmi, version: 27}]}]"
    (tmp_path / "gateway.yaml").write_text(model)
    for template in (plain, with_admin):
        given = variables(template) | {"LMI_GATEWAY_REDIS_URL": "rediss://:" + "a" * 64 + "@cache.amazonaws.com:6379/0"}
        assert set(own_variables(given)) == set(given)
        settings = load(tmp_path / "gateway.yaml", given).settings
        assert (settings.limits_store, settings.drain_timeout_s) == ("redis", 100.0)
        assert settings.keys_store == ("redis" if template is with_admin else "file")


def test_the_url_of_valkey_is_one_the_gateway_takes(plain: Template) -> None:
    url = plain.resources["CacheUrl"]["SecretString"]
    url = re.sub(r"\{\{resolve:[^}]*\}\}", "a" * 64, url)
    url = url.replace("<Cache.PrimaryEndPoint.Address>", "cache.example").replace(
        "<Cache.PrimaryEndPoint.Port>", "6379"
    )
    assert Settings(redis_url=url, limits_store="redis").redis_url == "rediss://:" + "a" * 64 + "@cache.example:6379/0"
    cache = plain.resources["Cache"]
    assert cache["TransitEncryptionEnabled"] is cache["AtRestEncryptionEnabled"] is True
    assert plain.resources["CacheToken"]["GenerateSecretString"]["ExcludePunctuation"] is True
    assert plain.resources["CacheParameters"]["Properties"] == {"maxmemory-policy": "noeviction"}


@pytest.mark.parametrize("name", ["configuration", "gateway"])
def test_a_container_can_write_to_its_volumes_only(plain: Template, dockerfile: dict[str, Stage], name: str) -> None:
    found = container(plain, name)
    assert found["ReadonlyRootFilesystem"] is True
    assert found["User"] == dockerfile["base"].last("USER").text.partition(":")[0]
    assert found["LinuxParameters"]["Capabilities"] == {"Drop": ["ALL"]}
    volumes = json.loads(dockerfile["gateway"].last("VOLUME").text)
    assert {mount["ContainerPath"] for mount in found["MountPoints"]} <= set(volumes)


def test_the_health_check_is_the_images(plain: Template, dockerfile: dict[str, Stage]) -> None:
    check = container(plain, "gateway")["HealthCheck"]["Command"]
    assert check == ["CMD", *dockerfile["gateway"].last("HEALTHCHECK").exec_form()]


def test_the_configuration_is_put_where_the_gateway_reads_it(
    plain: Template, dockerfile: dict[str, Stage], tmp_path: Path
) -> None:
    path = dockerfile["gateway"].environment()["LMI_GATEWAY_CONFIG"]
    found = container(plain, "configuration")
    program = found["Command"][0].replace(str(Path(path).parent), str(tmp_path))
    text = 'models: []  # "quoted", $HOME, über\n'
    environment = {"GATEWAY_YAML": text, "LC_ALL": "C.UTF-8"}
    subprocess.run([sys.executable, *found["EntryPoint"][1:], program], env=environment, check=True, timeout=60)
    assert (tmp_path / Path(path).name).read_text() == text
    assert found["Secrets"] == [{"Name": "GATEWAY_YAML", "ValueFrom": GIVEN["ConfigSecretArn"]}]
    assert container(plain, "gateway")["DependsOn"] == [{"ContainerName": "configuration", "Condition": "SUCCESS"}]


def test_no_secret_is_a_plain_variable(with_admin: Template) -> None:
    for each in with_admin.resources["Task"]["ContainerDefinitions"]:
        assert "resolve:" not in json.dumps(each)
        assert not [pair["Name"] for pair in each.get("Environment", []) if "REDIS_URL" in pair["Name"]]


# --- Scaling and alarms ---


def test_the_agent_reads_metrics_that_exist_under_the_name_that_scaling_and_alarms_use(plain: Template) -> None:
    agent = {each["Name"]: each["Value"] for each in container(plain, "metrics")["Environment"]}
    prometheus = json.loads(agent["CW_CONFIG_CONTENT"])["logs"]["metrics_collected"]["prometheus"]
    processor = prometheus["emf_processor"]
    (declaration,) = processor["metric_declaration"]
    selected = {selector.strip("^$") for selector in declaration["metric_selectors"]}
    told, _ = asyncio.run(PrometheusTelemetry().scrape())
    assert {name for name in selected if f"# TYPE {name} gauge" not in told.decode()} == set()
    (job,) = yaml.safe_load(agent["PROMETHEUS_CONFIG_CONTENT"])["scrape_configs"]
    assert job["static_configs"] == [{"targets": ["127.0.0.1:8080"], "labels": {"Service": "gw"}}]
    assert re.fullmatch(declaration["label_matcher"], job["job_name"])
    assert declaration["dimensions"] == [["Service"]]
    used = [
        *[each for each in plain.of_type("AWS::CloudWatch::Alarm").values() if each.get("Namespace") == "lmi-gateway"],
        plain.resources["ScaleByCalls"]["TargetTrackingScalingPolicyConfiguration"]["CustomizedMetricSpecification"],
    ]
    assert {each["MetricName"] for each in used} == selected
    assert {each["Namespace"] for each in used} == {processor["metric_namespace"]}
    assert [each["Dimensions"] for each in used] == [[{"Name": "Service", "Value": "gw"}]] * 3


def test_every_alarm_tells_somebody_if_there_is_somebody_and_says_what_is_wrong(
    plain: Template, with_admin: Template
) -> None:
    alarms = with_admin.of_type("AWS::CloudWatch::Alarm")
    assert {alarm.get("MetricName", "errors of all calls") for alarm in alarms.values()} == {
        "errors of all calls", "HTTPCode_ELB_5XX_Count", "UnHealthyHostCount", "TargetResponseTime", "CPUUtilization",
        "gateway_credentials_valid", "gateway_redis_up", "EngineCPUUtilization", "DatabaseMemoryUsagePercentage",
    }  # fmt: skip
    for alarm in alarms.values():
        assert alarm["AlarmActions"] == ["arn:aws:sns:x"]
        assert alarm["AlarmDescription"]
    assert {tuple(alarm["AlarmActions"]) for alarm in plain.of_type("AWS::CloudWatch::Alarm").values()} == {()}


def test_every_log_is_kept_for_a_time(plain: Template) -> None:
    assert {name: each["RetentionInDays"] for name, each in plain.of_type("AWS::Logs::LogGroup").items()} == {
        "Logs": 30,
        "MetricsLogs": 1,
    }
