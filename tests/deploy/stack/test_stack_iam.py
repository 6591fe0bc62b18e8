"""The permissions: what the gateway really calls is allowed, and nothing beside it."""

from __future__ import annotations

import json
from importlib import resources
from typing import Any

import httpx
import pytest

from deploy.local import DEMO_KEY, Container, Endpoint
from deploy.local.engine import build as engine
from deploy.local.sigv4 import AccessKey
from tests.deploy.stack.awspeer import aws_peer
from tests.deploy.stack.dockerfile import ROOT
from tests.deploy.stack.iam import Call, allows
from tests.deploy.stack.template import Template
from tests.deploy.stack.test_stack_cloudformation import GIVEN, TEMPLATE
from tests.support.stack import KEY, config, model, running_gateway, running_local

IAM = ROOT / "deploy/stack/iam"
ACCOUNT = "123456789012"
REGION = "us-east-1"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/invoke"
OBJECTS = "arn:aws:s3:::my-bucket/my-prefix/*"
STREAM = f"arn:aws:firehose:{REGION}:{ACCOUNT}:deliverystream/my-stream"
OPERATIONS = {
    "InvokeEndpoint": ["sagemaker:InvokeEndpoint"],
    # Its page asks for InvokeEndpoint, the list of IAM's actions has one of its own: both have to be there.
    # https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_runtime_InvokeEndpointWithResponseStream.html
    # https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonsagemaker.html
    "InvokeEndpointWithResponseStream": ["sagemaker:InvokeEndpoint", "sagemaker:InvokeEndpointWithResponseStream"],
}


def arn(kind: str, name: str) -> str:
    return f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:{kind}/{name}"


@pytest.fixture(scope="module")
def recorded() -> set[Call]:
    """Every call that a gateway makes of AWS for whole and streamed replies of each kind of deployment."""
    assumed = AccessKey("ASIAASSUMEROLE", "secret", "token")
    containers: dict[str, Container | Endpoint] = {
        "plain": engine("lmi27"),
        "parts": Endpoint(engine("vllm"), components={"part": None}),
        "foreign": engine("vllm"),
    }
    models = [
        model("plain", "lmi", "27"),
        model("parts", "vllm", "0.33", deployment={"inference_component": "part"}),
        model("foreign", "vllm", "0.33", deployment={"role_arn": ROLE}),
    ]
    with aws_peer() as sts, running_local(containers, access_keys=[DEMO_KEY, assumed]) as local:
        with running_gateway(config(local.url, *models), AWS_ENDPOINT_URL_STS=sts.url) as gateway:
            for name in containers:
                for stream in (False, True):
                    body = {"model": name, "messages": [{"role": "user", "content": "x"}], "stream": stream}
                    reply = httpx.post(
                        f"{gateway.base_url}/chat/completions",
                        json=body | {"max_tokens": 3},
                        headers={"authorization": f"Bearer {KEY}"},
                        timeout=20,
                    )
                    assert reply.status_code == 200, reply.text
        found = {Call("sts:AssumeRole", role) for role in sts.roles}
        assert set(sts.asked) == {"AssumeRole"}
        for call in local.calls:
            assert call.verified
            component = call.header("x-amzn-sagemaker-inference-component")
            called = [
                arn("endpoint", call.endpoint),
                *([arn("inference-component", component)] if component else []),
            ]
            found |= {Call(action, each) for action in OPERATIONS[call.operation] for each in called}
    return found


def task_role(**parameters: str) -> list[dict[str, Any]]:
    role = Template(TEMPLATE, **GIVEN | parameters).resources["TaskRole"]
    return [policy["PolicyDocument"] for policy in role["Policies"]]


def everything() -> list[dict[str, Any]]:
    return task_role(
        UsageObjectsArn=OBJECTS,
        UsageStreamArn=STREAM,
        EndpointArns=",".join(arn("endpoint", name) for name in ("plain", "parts", "foreign")),
        InferenceComponentArns=arn("inference-component", "part"),
        AssumableRoleArns=ROLE,
    )


def document(name: str) -> dict[str, Any]:
    """Return a policy file with its placeholders filled in."""
    text = (IAM / name).read_text().replace("ACCOUNT", ACCOUNT).replace("CLUSTER", "ABC")
    found: dict[str, Any] = json.loads(text.replace("oidc.eks.REGION", f"oidc.eks.{REGION}").replace("REGION", REGION))
    return found


def test_the_gateway_makes_these_calls(recorded: set[Call]) -> None:
    assert {call.action for call in recorded} == {
        "sagemaker:InvokeEndpoint",
        "sagemaker:InvokeEndpointWithResponseStream",
        "sts:AssumeRole",
    }
    assert {call.resource for call in recorded} == {
        *(arn("endpoint", name) for name in ("plain", "parts", "foreign")),
        arn("inference-component", "part"),
        ROLE,
    }


def test_the_task_role_allows_every_call(recorded: set[Call]) -> None:
    assert [call for call in recorded if not allows(everything(), call)] == []


@pytest.mark.parametrize(
    "parameters",
    [
        pytest.param({"EndpointArns": arn("endpoint", "plain")}, id="one endpoint"),
        pytest.param({"EndpointArns": arn("endpoint", "parts")}, id="an endpoint without its component"),
    ],
)
def test_a_role_for_less_allows_less(recorded: set[Call], parameters: dict[str, str]) -> None:
    allowed = {call.resource for call in recorded if allows(task_role(**parameters), call)}
    assert allowed == {parameters["EndpointArns"]}


@pytest.mark.parametrize(
    "call",
    [
        pytest.param(Call("sagemaker:InvokeEndpoint", arn("endpoint", "other")), id="another endpoint"),
        pytest.param(Call("sagemaker:InvokeEndpoint", arn("endpoint", "plain2")), id="one whose name begins alike"),
        pytest.param(Call("sagemaker:InvokeEndpointAsync", arn("endpoint", "plain")), id="another way to call"),
        pytest.param(Call("sagemaker:DeleteEndpoint", arn("endpoint", "plain")), id="deleting one"),
        pytest.param(Call("sts:AssumeRole", f"arn:aws:iam::{ACCOUNT}:role/admin"), id="another role"),
        pytest.param(Call("secretsmanager:GetSecretValue", GIVEN["ConfigSecretArn"]), id="the configuration"),
        pytest.param(Call("logs:PutLogEvents", "<Logs.Arn>"), id="the log"),
        pytest.param(Call("s3:GetObject", "arn:aws:s3:::my-bucket/my-prefix/key"), id="reading usage"),
        pytest.param(Call("s3:PutObject", "arn:aws:s3:::my-bucket/other/key"), id="another prefix"),
        pytest.param(Call("firehose:PutRecordBatch", f"{STREAM}-2"), id="another stream"),
        pytest.param(Call("s3:GetObject", "arn:aws:s3:::any/key"), id="anything else"),
    ],
)
def test_the_task_role_allows_nothing_else(call: Call) -> None:
    assert not allows(everything(), call)


@pytest.mark.parametrize(
    ("call", "allowed"),
    [
        pytest.param(Call("secretsmanager:GetSecretValue", GIVEN["ConfigSecretArn"]), True, id="the configuration"),
        pytest.param(Call("secretsmanager:GetSecretValue", "<CacheUrl>"), True, id="where Valkey is"),
        pytest.param(Call("secretsmanager:GetSecretValue", "<CacheToken>"), False, id="the password alone"),
        pytest.param(Call("logs:PutLogEvents", "<Logs.Arn>"), True, id="the log"),
        pytest.param(
            Call("ecr:BatchGetImage", "arn:aws:ecr:eu-central-1:123456789012:repository/lmi-gateway"),
            True,
            id="the image",
        ),
        pytest.param(
            Call("ecr:BatchGetImage", "arn:aws:ecr:eu-central-1:123456789012:repository/other"),
            False,
            id="another image",
        ),
        pytest.param(Call("ecr:GetAuthorizationToken", "*"), True, id="signing in to the registry"),
        pytest.param(Call("sagemaker:InvokeEndpoint", arn("endpoint", "plain")), False, id="an endpoint"),
    ],
)
def test_what_starts_tasks_reads_the_secrets_and_the_image(call: Call, allowed: bool) -> None:
    role = Template(TEMPLATE, **GIVEN).resources["ExecutionRole"]
    assert allows([policy["PolicyDocument"] for policy in role["Policies"]], call) is allowed


@pytest.mark.parametrize("name", ["TaskRole", "ExecutionRole"])
@pytest.mark.parametrize(
    ("account", "allowed"),
    [pytest.param(ACCOUNT, True, id="ours"), pytest.param("9" * 12, False, id="another account")],
)
def test_only_tasks_of_this_account_get_a_role(name: str, account: str, allowed: bool) -> None:
    trust = Template(TEMPLATE, **GIVEN).resources[name]["AssumeRolePolicyDocument"]
    assert [each["Principal"] for each in trust["Statement"]] == [{"Service": "ecs-tasks.amazonaws.com"}]
    context = {"aws__SourceAccount": account, "aws__SourceArn": f"arn:aws:ecs:eu-central-1:{account}:task/a/b"}
    assert allows([trust], Call("sts:AssumeRole", "*"), **context) is allowed


def test_the_policy_file_allows_what_the_task_role_does() -> None:
    policy = document("call-endpoints.json")
    named = {
        "EndpointArns": arn("endpoint", "my-llama-endpoint"),
        "InferenceComponentArns": arn("inference-component", "my-llama-component"),
        "AssumableRoleArns": f"arn:aws:iam::{ACCOUNT}:role/my-other-accounts-role",
    }
    written = task_role(**named)[0]["Statement"]
    assert [statement | {"Resource": _list(statement["Resource"])} for statement in written] == policy["Statement"]


@pytest.mark.parametrize(
    "call",
    [
        pytest.param(Call("s3:PutObject", "arn:aws:s3:::my-bucket/my-prefix/2026/key"), id="objects of one prefix"),
        pytest.param(Call("firehose:PutRecordBatch", STREAM), id="one stream"),
    ],
)
def test_usage_is_sent_only_where_that_is_asked_for(call: Call) -> None:
    assert allows(everything(), call)
    assert not allows(task_role(), call)
    assert allows([document("send-usage.json")], call)


def test_the_policy_file_for_usage_is_the_task_roles() -> None:
    policies = task_role(UsageObjectsArn=OBJECTS, UsageStreamArn=STREAM)[1:3]
    assert [each for policy in policies for each in policy["Statement"]] == document("send-usage.json")["Statement"]


@pytest.mark.parametrize(
    "arn", ["arn:aws:s3:::*", "arn:aws:s3:::my-bucket", "arn:aws:s3:::my-bucket/*/x/*", "arn:aws:s3:::my-bucket/a*"]
)
def test_usage_goes_below_one_prefix_and_nowhere_else(arn: str) -> None:
    with pytest.raises(AssertionError):
        task_role(UsageObjectsArn=arn)


@pytest.mark.parametrize(
    ("file", "action", "context", "allowed"),
    [
        pytest.param(
            "trust-irsa.json", "sts:AssumeRoleWithWebIdentity", "system:serviceaccount:lmi-gateway:lmi-gateway", True,
            id="IRSA, the gateway",
        ),
        pytest.param(
            "trust-irsa.json", "sts:AssumeRoleWithWebIdentity", "system:serviceaccount:default:lmi-gateway", False,
            id="IRSA, another namespace",
        ),
        pytest.param("trust-irsa.json", "sts:AssumeRole", "system:serviceaccount:lmi-gateway:lmi-gateway", False,
                     id="IRSA, without a token"),
        pytest.param("trust-pod-identity.json", "sts:TagSession", "lmi-gateway", True, id="Pod Identity, the gateway"),
        pytest.param("trust-pod-identity.json", "sts:AssumeRole", "other", False, id="Pod Identity, another account"),
    ],
)  # fmt: skip
def test_only_the_gateways_service_account_gets_the_role(file: str, action: str, context: str, allowed: bool) -> None:
    provider = f"oidc.eks.{REGION}.amazonaws.com/id/ABC"
    keys = {f"{provider}:aud": "sts.amazonaws.com", f"{provider}:sub": context} | {
        "aws:RequestTag/kubernetes-namespace": "lmi-gateway",
        "aws:RequestTag/kubernetes-service-account": context,
    }
    assert allows([document(file)], Call(action, "*"), **keys) is allowed


@pytest.mark.parametrize(
    ("statement", "allowed"),
    [
        pytest.param({"Action": "s3:Get*", "Resource": "arn:aws:s3:::b/?"}, True, id="wildcards"),
        pytest.param({"Action": "s3:GetObject", "Resource": "arn:aws:s3:::b"}, False, id="another resource"),
        pytest.param({"Action": "S3:getobject", "Resource": "*"}, True, id="letters of either case"),
        pytest.param(
            {"Action": "*", "Resource": "*", "Condition": {"StringEquals": {"aws:a": "x"}}}, True, id="a condition met"
        ),
        pytest.param(
            {"Action": "*", "Resource": "*", "Condition": {"ArnLike": {"aws:b": "*"}}}, False, id="a key that is absent"
        ),
    ],
)
def test_the_judge_judges_as_iam_does(statement: dict[str, Any], allowed: bool) -> None:
    policy = {"Statement": [{"Effect": "Allow", **statement}]}
    call = Call("s3:GetObject", "arn:aws:s3:::b/k")
    assert allows([policy], call, aws__a="x") is allowed
    denied = {"Statement": [{"Effect": "Deny", "Action": "s3:*", "Resource": "*"}]}
    assert not allows([policy, denied], call, aws__a="x")


@pytest.mark.parametrize(
    "statement",
    [
        pytest.param({"NotAction": "s3:*", "Resource": "*", "Action": "*"}, id="NotAction"),
        pytest.param({"Action": "*", "Condition": {"DateLessThan": {"aws:a": "x"}}}, id="an operator"),
    ],
)
def test_the_judge_refuses_what_it_does_not_know(statement: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="not judged here"):
        allows([{"Statement": [{"Effect": "Allow", **statement}]}], Call("s3:GetObject", "*"), aws__a="x")


def test_every_action_named_exists() -> None:
    known = json.loads(resources.files("cfnlint.data.AdditionalSpecs").joinpath("Policies.json").read_text())
    given = GIVEN | {"AssumableRoleArns": ROLE, "UsageObjectsArn": OBJECTS, "UsageStreamArn": STREAM}
    roles = Template(TEMPLATE, **given).of_type("AWS::IAM::Role").values()
    policies = [each["PolicyDocument"] for role in roles for each in role["Policies"]]
    named = {
        action for policy in policies for statement in policy["Statement"] for action in _list(statement["Action"])
    }
    assert len(named) > 8
    assert {name for name in named if name.split(":")[1].lower() not in known[name.split(":")[0]]["Actions"]} == set()


def _list(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value
