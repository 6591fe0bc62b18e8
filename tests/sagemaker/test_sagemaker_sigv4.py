"""The signer against botocore's, request by request."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import botocore.auth
import pytest
from botocore.awsrequest import AWSRequest
from botocore.credentials import ReadOnlyCredentials
from hypothesis import given
from hypothesis import strategies as st

from gateway.sagemaker.sigv4 import Credentials, Signer

REGION = "us-east-1"
HOST = "runtime.sagemaker.us-east-1.amazonaws.com"
PATH = "/endpoints/chat/invocations"
NOON = 1_767_268_800.0  # 2026-01-01T12:00:00Z
LASTING = Credentials("AKIAEXAMPLE", "lasting-secret")
TEMPORARY = Credentials("ASIAEXAMPLE", "temporary-secret", "token/with+signs==", NOON + 900)
MINIMAL = [("host", HOST)]
OPTIONAL = [
    ("accept", "application/json"),
    ("content-type", "application/json"),
    ("x-amzn-sagemaker-accept", "application/json"),
    ("x-amzn-sagemaker-custom-attributes", "a=1;b=two three, four"),
    ("x-amzn-sagemaker-enable-explanations", "`true`"),
    ("x-amzn-sagemaker-inference-component", "base"),
    ("x-amzn-sagemaker-inference-id", "req_0123"),
    ("x-amzn-sagemaker-prefix-aware-id", "group/1"),
    ("x-amzn-sagemaker-session-id", "session"),
    ("x-amzn-sagemaker-target-container-hostname", "second"),
    ("x-amzn-sagemaker-target-model", "model.tar.gz"),
    ("x-amzn-sagemaker-target-variant", "AllTraffic"),
]


def headers(extra: list[tuple[str, str]], credentials: Credentials) -> list[tuple[str, str]]:
    token = [("x-amz-security-token", credentials.token)] if credentials.token else []
    return sorted([*MINIMAL, *extra, *token])


def by_botocore(
    credentials: Credentials,
    path: str,
    signed: list[tuple[str, str]],
    body: bytes,
    now: float,
    *,
    host: str,
    region: str,
) -> tuple[str, str]:
    """Return botocore's x-amz-date and authorization for the same request at the same time."""
    request: Any = AWSRequest("POST", f"https://{host}{path}", data=body, headers=dict(reversed(signed)))
    theirs = ReadOnlyCredentials(credentials.access_key, credentials.secret_key, credentials.token)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(botocore.auth, "get_current_datetime", lambda: datetime.fromtimestamp(now, UTC))
        botocore.auth.SigV4Auth(theirs, "sagemaker", region).add_auth(request)
    return request.headers["X-Amz-Date"], request.headers["Authorization"]


def same(
    signer: Signer,
    credentials: Credentials,
    extra: list[tuple[str, str]],
    *,
    path: str = PATH,
    body: bytes = b"{}",
    now: float = NOON,
) -> str:
    """Assert that both sign alike; return the signature."""
    signed = headers(extra, credentials)
    expected = by_botocore(credentials, path, signed, body, now, host=HOST, region=signer.region)
    assert signer.sign(credentials, path, signed, body, now) == expected
    return expected[1].rpartition("=")[2]


@pytest.mark.parametrize("credentials", [
    pytest.param(LASTING, id="without a token"), pytest.param(TEMPORARY, id="with a token")
])  # fmt: skip
@pytest.mark.parametrize("extra", [
    pytest.param([], id="host alone"),
    *[pytest.param([header], id=header[0]) for header in OPTIONAL],
    pytest.param(OPTIONAL, id="all of them"),
])  # fmt: skip
def test_headers(credentials: Credentials, extra: list[tuple[str, str]]) -> None:
    same(Signer(REGION), credentials, extra)


@pytest.mark.parametrize("path", [
    pytest.param("/endpoints/chat/invocations-response-stream", id="stream"),
    pytest.param("/endpoints/" + "a" * 63 + "/invocations", id="the longest name"),
    pytest.param("/endpoints/A-1-b/invocations", id="capitals, digits, hyphens"),
])  # fmt: skip
def test_paths(path: str) -> None:
    same(Signer(REGION), LASTING, OPTIONAL, path=path)


@pytest.mark.parametrize("body", [
    pytest.param(b"", id="empty"),
    pytest.param(b"\x00", id="one byte"),
    pytest.param("\u00e9\U0001f600".encode(), id="not ASCII"),
    pytest.param(b"x" * 55, id="just below a block of SHA-256"),
    pytest.param(b"x" * 64, id="a block"),
    pytest.param(b"x" * (6 * 2**20), id="6 MiB"),
])  # fmt: skip
def test_bodies(body: bytes) -> None:
    same(Signer(REGION), TEMPORARY, OPTIONAL, body=body)


@pytest.mark.parametrize("region", ["eu-central-1", "us-gov-west-1", "cn-north-1", "ap-southeast-7"])
def test_regions(region: str) -> None:
    same(Signer(region), LASTING, OPTIONAL)


MIDNIGHT = NOON + 12 * 3600


def test_one_signer_stays_right_as_time_and_credentials_change() -> None:
    signer = Signer(REGION)
    other = Credentials("AKIAEXAMPLE", "another-secret")
    steps = [
        (LASTING, NOON),
        (LASTING, NOON + 0.999),  # the same second
        (LASTING, NOON + 1),
        (other, NOON + 1),  # another secret in the same second
        (LASTING, NOON + 1),  # and back
        (TEMPORARY, NOON + 1),
        (TEMPORARY, MIDNIGHT - 0.001),
        (TEMPORARY, MIDNIGHT),  # another day
        (LASTING, MIDNIGHT),
        (LASTING, MIDNIGHT - 1),  # the clock was set back
        (Credentials("AKIAOTHER", "lasting-secret"), MIDNIGHT - 1),  # the same secret under another name
        (LASTING, 951_782_400.0),  # 29 February 2000
    ]
    signatures = [same(signer, credentials, OPTIONAL, now=now) for credentials, now in steps]
    assert signatures[0] == signatures[1] != signatures[2] == signatures[4] != signatures[3]


NAMES = st.from_regex(r"[a-z][a-z0-9-]{0,20}", fullmatch=True).filter(
    # Not signed by botocore, or written by both signers themselves.
    lambda name: (
        name not in {*botocore.auth.SIGNED_HEADERS_BLACKLIST, "authorization", "date", "host"}
        and not name.startswith("x-amz-")
    )
)
VALUES = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=20)


@given(
    extra=st.dictionaries(NAMES, VALUES, max_size=6),
    body=st.binary(max_size=50),
    now=st.integers(0, 4_102_444_800),
    temporary=st.booleans(),
)
def test_any_headers_at_any_time(extra: dict[str, str], body: bytes, now: int, temporary: bool) -> None:
    same(Signer(REGION), TEMPORARY if temporary else LASTING, list(extra.items()), body=body, now=now)


def test_secrets_stay_out_of_repr() -> None:
    text = repr(TEMPORARY)
    assert "ASIAEXAMPLE" in text
    assert "temporary-secret" not in text
    assert "token/with" not in text
