"""In the image, whose botocore describes few services, credentials are found in every place that AWS tools look in."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.stack.awspeer import EXPIRES, aws_peer
from tests.deploy.stack.containers import environment
from tests.deploy.stack.dockerfile import Build, Stage

ROLE = "arn:aws:iam::123456789012:role/invoke"
SSO_PROFILE = """
[default]
sso_session = ours
sso_account_id = 123456789012
sso_role_name = caller
region = us-east-1
[sso-session ours]
sso_region = us-east-1
sso_start_url = https://ours.awsapps.com/start
sso_registration_scopes = sso:account:access
"""
OLD_SSO_PROFILE = """
[default]
sso_start_url = https://ours.awsapps.com/start
sso_region = us-east-1
sso_account_id = 123456789012
sso_role_name = caller
region = us-east-1
"""
ROLE_PROFILE = """
[default]
role_arn = arn:aws:iam::123456789012:role/profile
source_profile = base
region = us-east-1
[profile base]
aws_access_key_id = AKIABASE
aws_secret_access_key = secret
"""


@pytest.mark.parametrize(
    ("variables", "files", "role", "key", "asked"),
    [
        pytest.param(
            {"AWS_ACCESS_KEY_ID": "AKIAENV", "AWS_SECRET_ACCESS_KEY": "secret"}, {}, None, "AKIAENV", [],
            id="the environment",
        ),
        pytest.param(
            {"AWS_ACCESS_KEY_ID": "AKIAENV", "AWS_SECRET_ACCESS_KEY": "secret"}, {}, ROLE, "ASIAASSUMEROLE",
            ["AssumeRole"], id="a role of a deployment",
        ),
        pytest.param({}, {".aws/config": ROLE_PROFILE}, None, "ASIAASSUMEROLE", ["AssumeRole"], id="a profile's role"),
        pytest.param(
            {"AWS_ROLE_ARN": ROLE, "AWS_WEB_IDENTITY_TOKEN_FILE": "{home}/token"}, {"token": "eyJhbGciOiJSUzI1NiJ9"},
            None, "ASIAASSUMEROLEWITHWEBIDENTITY", ["AssumeRoleWithWebIdentity"], id="IRSA",
        ),
        pytest.param(
            {"AWS_CONTAINER_CREDENTIALS_FULL_URI": "{url}/v1/credentials"}, {}, None, "ASIACONTAINER",
            ["/v1/credentials"], id="an ECS task, or EKS Pod Identity",
        ),
        pytest.param(
            {"AWS_EC2_METADATA_DISABLED": "false", "AWS_EC2_METADATA_SERVICE_ENDPOINT": "{url}"}, {}, None,
            "ASIAINSTANCE",
            [
                "/latest/api/token",
                "/latest/meta-data/iam/security-credentials/",
                "/latest/meta-data/iam/security-credentials/the-role",
            ],
            id="an instance",
        ),
        pytest.param(
            {}, {".aws/config": SSO_PROFILE, "sso": "2030-01-01T00:00:00Z"}, None, "ASIASSO",
            ["/federation/credentials"], id="Identity Center",
        ),
        pytest.param(
            {}, {".aws/config": SSO_PROFILE, "sso": "2020-01-01T00:00:00Z"}, None, "ASIASSO",
            ["/token", "/federation/credentials"], id="Identity Center, its token to be renewed",
        ),
        pytest.param(
            {}, {".aws/config": OLD_SSO_PROFILE, "old sso": "2030-01-01T00:00:00Z"}, None, "ASIASSO",
            ["/federation/credentials"], id="Identity Center without a session",
        ),
    ],
)  # fmt: skip
def test_credentials_are_found(
    image: Build,
    dockerfile: dict[str, Stage],
    tmp_path: Path,
    variables: Mapping[str, str],
    files: Mapping[str, str],
    role: str | None,
    key: str,
    asked: list[str],
) -> None:
    with aws_peer() as peer:
        for name, text in files.items():
            write(tmp_path, name, text)
        endpoints = {f"AWS_ENDPOINT_URL_{service}": peer.url for service in ("STS", "SSO", "SSO_OIDC")}
        given = {name: value.format(url=peer.url, home=tmp_path) for name, value in variables.items()}
        found = agent(
            image,
            environment(image, [dockerfile["base"]], AWS_DEFAULT_REGION="us-east-1", HOME=str(tmp_path))
            | endpoints
            | given,
            [{"role_arn": role, "external_id": None, "region": "us-east-1"}],
        )
    assert [(each.get("access_key"), each.get("error")) for each in found] == [(key, None)]
    assert found[0]["expires_at"] == (None if key == "AKIAENV" else EXPIRES)
    assert peer.asked == asked


def write(home: Path, name: str, text: str) -> None:
    """Put a file where an SDK looks for it; `sso` and `old sso` are tokens that are valid until `text`."""
    content = text
    if name in ("sso", "old sso"):
        cached = "ours" if name == "sso" else "https://ours.awsapps.com/start"
        name = f".aws/sso/cache/{hashlib.sha1(cached.encode()).hexdigest()}.json"
        content = json.dumps(
            {"startUrl": "https://ours.awsapps.com/start", "region": "us-east-1", "accessToken": "token",
             "expiresAt": text, "clientId": "id", "clientSecret": "secret", "refreshToken": "again",
             "registrationExpiresAt": "2033-01-01T00:00:00Z"}
        )  # fmt: skip
    path = home / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)


def agent(image: Build, variables: dict[str, str], question: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return what the image's process for credentials answers."""
    folder = image.folder / "opt/lmi-gateway"
    done = subprocess.run(
        [folder / "bin/python", "-P", folder / "app/gateway/sagemaker/agent.py"],
        input=json.dumps(question),
        env=variables,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    answer: list[dict[str, Any]] = json.loads(done.stdout)
    return answer
