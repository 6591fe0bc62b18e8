"""Signatures, checked against AWS' published examples, botocore's signer and real boto3 clients."""

from __future__ import annotations

import asyncio
import calendar
import re
import time
from dataclasses import replace
from typing import Any

import boto3
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

from deploy.local import DEMO_KEY, AccessKey, LocalSageMaker
from deploy.local.awserrors import Refused
from deploy.local.scripted import ScriptedContainer
from deploy.local.sigv4 import SignedRequest, Verifier, canonical_request, signature, string_to_sign

SESSION = boto3.Session()
TEMPORARY = AccessKey("ASIATEMPORARY", "temporary-secret", session_token="token/with+signs==")

# --- published examples --------------------------------------------------------------------------------------------

EXAMPLE_SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
VECTORS = [
    # https://github.com/awslabs/aws-c-auth/tree/main/tests/aws-signing-test-suite/v4/get-vanilla
    pytest.param(
        SignedRequest("GET", "/", (("host", "example.amazonaws.com"), ("x-amz-date", "20150830T123600Z")), b""),
        "service",
        "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
        id="get-vanilla",
    ),
    # https://docs.aws.amazon.com/general/latest/gr/sigv4-calculate-signature.html
    pytest.param(
        SignedRequest(
            "GET",
            "/?Action=ListUsers&Version=2010-05-08",
            (
                ("content-type", "application/x-www-form-urlencoded; charset=utf-8"),
                ("host", "iam.amazonaws.com"),
                ("x-amz-date", "20150830T123600Z"),
            ),
            b"",
        ),
        "iam",
        "5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7",
        id="ListUsers",
    ),
]


@pytest.mark.parametrize(("request_", "service", "expected"), VECTORS)
def test_published_signatures(request_: SignedRequest, service: str, expected: str) -> None:
    scope = f"20150830/us-east-1/{service}/aws4_request"
    canonical = canonical_request(request_, [name for name, _ in request_.headers])
    assert signature(EXAMPLE_SECRET, scope, string_to_sign("20150830T123600Z", scope, canonical)) == expected


# --- what botocore signs -------------------------------------------------------------------------------------------


def signed_by_botocore(
    *,
    target: str = "/endpoints/chat/invocations",
    body: bytes = b'{"a": 1}',
    headers: dict[str, str] | None = None,
    key: AccessKey = DEMO_KEY,
    region: str = "us-east-1",
    service: str = "sagemaker",
) -> SignedRequest:
    """Return a request with the headers botocore's signer adds."""
    given = {"Host": "127.0.0.1:8080"} | (headers or {})
    request: Any = AWSRequest("POST", f"http://127.0.0.1:8080{target}", data=body, headers=given)
    credentials: Any = Credentials(key.id, key.secret, key.session_token)
    SigV4Auth(credentials, service, region).add_auth(request)
    return SignedRequest("POST", target, tuple((name.lower(), value) for name, value in request.headers.items()), body)


def changed(request: SignedRequest, **headers: str | None) -> SignedRequest:
    """Return the request with some headers replaced, or dropped for None."""
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    kept = [(name, value) for name, value in request.headers if name not in names]
    return replace(request, headers=(*kept, *((n, v) for n, v in names.items() if v is not None)))


def verifier(*keys: AccessKey, **options: Any) -> Verifier:
    return Verifier(keys or (DEMO_KEY, TEMPORARY), region="us-east-1", **options)


GOOD = [
    pytest.param({}, id="plain"),
    pytest.param({"body": b""}, id="no body"),
    pytest.param({"body": bytes(range(256)) * 100}, id="binary body"),
    pytest.param({"key": TEMPORARY}, id="session token"),
    pytest.param({"target": "/endpoints/a%2Fb%20c/invocations"}, id="escaped path"),
    pytest.param({"target": "/endpoints/chat/invocations?b=2&a=1&c&a=%20x~"}, id="query"),
    pytest.param({"headers": {"Content-Type": "application/json", "X-Amzn-SageMaker-Accept": "*/*"}}, id="headers"),
    pytest.param({"headers": {"X-Spaces": "  a   b  c "}}, id="spaces in a header"),
]


@pytest.mark.parametrize("options", GOOD)
def test_what_botocore_signs_is_verified(options: dict[str, Any]) -> None:
    assert verifier().verify(signed_by_botocore(**options)) == options.get("key", DEMO_KEY)


def test_any_whitespace_and_order_in_the_authorization_header_is_good() -> None:
    request = signed_by_botocore()
    (value,) = (value for name, value in request.headers if name == "authorization")
    scheme, credential, names, signed = re.split(r",?\s+", value)
    assert verifier().verify(changed(request, authorization=f"{scheme} {signed},{names},   {credential}")) == DEMO_KEY


WRONG = "The request signature we calculated does not match the signature you provided."
NOW = time.time()
"""When the requests below were signed: the last of them may be checked much later."""
GOOD_REQUEST = signed_by_botocore(headers={"Content-Type": "application/json"})
SIGNED_AT = dict(GOOD_REQUEST.headers)["X-Amz-Date".lower()]
AUTHORIZATION = dict(GOOD_REQUEST.headers)["authorization"]
REFUSED = [
    pytest.param(replace(GOOD_REQUEST, body=b'{"a": 2}'), "InvalidSignatureException", WRONG, id="body"),
    pytest.param(replace(GOOD_REQUEST, method="GET"), "InvalidSignatureException", WRONG, id="method"),
    pytest.param(
        replace(GOOD_REQUEST, target="/endpoints/other/invocations"), "InvalidSignatureException", WRONG, id="path"
    ),
    pytest.param(
        replace(GOOD_REQUEST, target=GOOD_REQUEST.target + "?x=1"), "InvalidSignatureException", WRONG, id="query"
    ),
    pytest.param(changed(GOOD_REQUEST, content_type="text/plain"), "InvalidSignatureException", WRONG, id="header"),
    pytest.param(changed(GOOD_REQUEST, host="evil.example"), "InvalidSignatureException", WRONG, id="host"),
    pytest.param(
        signed_by_botocore(key=AccessKey(DEMO_KEY.id, "wrong")), "InvalidSignatureException", WRONG, id="secret"
    ),
    pytest.param(
        changed(GOOD_REQUEST, authorization=AUTHORIZATION[:-1] + "é"), "InvalidSignatureException", WRONG, id="not hex"
    ),
    pytest.param(
        signed_by_botocore(region="eu-west-1"),
        "InvalidSignatureException",
        "Credential should be scoped to a valid region, not 'eu-west-1'.",
        id="region",
    ),
    pytest.param(
        signed_by_botocore(service="bedrock"),
        "InvalidSignatureException",
        "Credential should be scoped to correct service: 'sagemaker'.",
        id="service",
    ),
    pytest.param(
        changed(GOOD_REQUEST, x_amz_date=f"20010101{SIGNED_AT[8:]}"),
        "InvalidSignatureException",
        "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: "
        f"'{SIGNED_AT[:8]}' != '20010101', from '20010101{SIGNED_AT[8:]}'.",
        id="date of the scope",
    ),
    pytest.param(
        changed(GOOD_REQUEST, x_amz_date=SIGNED_AT[:8] + "T9"),
        "IncompleteSignatureException",
        "Date must be in ISO-8601 'basic format'.",
        id="date that is none",
    ),
    pytest.param(
        changed(GOOD_REQUEST, x_amz_date=None),
        "IncompleteSignatureException",
        "Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header.",
        id="no date",
    ),
    pytest.param(
        changed(GOOD_REQUEST, x_amz_target="x"),
        "InvalidSignatureException",
        "'x-amz-target' must be a 'SignedHeader' in the AWS Authorization.",
        id="an unsigned x-amz header",
    ),
    pytest.param(
        changed(GOOD_REQUEST, authorization=AUTHORIZATION.replace(";host", "")),
        "InvalidSignatureException",
        "'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization.",
        id="host not signed",
    ),
    pytest.param(
        changed(GOOD_REQUEST, authorization=None),
        "MissingAuthenticationTokenException",
        "Missing Authentication Token",
        id="no authorization",
    ),
    pytest.param(
        changed(GOOD_REQUEST, authorization="Bearer sk-1"),
        "MissingAuthenticationTokenException",
        "Missing Authentication Token",
        id="another scheme",
    ),
    pytest.param(
        changed(GOOD_REQUEST, authorization="AWS4-HMAC-SHA256 Credential=a/b/c/d/e"),
        "IncompleteSignatureException",
        "Authorization header requires 'Signature' parameter. Authorization header requires 'SignedHeaders' parameter.",
        id="parts missing",
    ),
    pytest.param(
        changed(GOOD_REQUEST, authorization="AWS4-HMAC-SHA256 Credential=a/b, SignedHeaders=host, Signature=00"),
        "IncompleteSignatureException",
        "Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term.",
        id="half a credential",
    ),
    pytest.param(
        signed_by_botocore(key=AccessKey("AKIANOBODY", "x")),
        "UnrecognizedClientException",
        "The security token included in the request is invalid.",
        id="unknown key",
    ),
    pytest.param(
        signed_by_botocore(key=replace(TEMPORARY, session_token="other")),
        "UnrecognizedClientException",
        "The security token included in the request is invalid.",
        id="wrong session token",
    ),
    pytest.param(
        signed_by_botocore(key=replace(TEMPORARY, session_token=None)),
        "UnrecognizedClientException",
        "The security token included in the request is invalid.",
        id="no session token",
    ),
    pytest.param(
        signed_by_botocore(key=replace(DEMO_KEY, session_token="extra")),
        "UnrecognizedClientException",
        "The security token included in the request is invalid.",
        id="a session token too many",
    ),
]


@pytest.mark.parametrize(("request_", "code", "message"), REFUSED)
def test_what_is_refused(request_: SignedRequest, code: str, message: str) -> None:
    with pytest.raises(Refused) as caught:
        verifier(clock=lambda: NOW).verify(request_)
    text = str(caught.value.members["message"])
    assert (caught.value.status, caught.value.code) == (403, code)
    assert text.startswith(message)
    assert DEMO_KEY.secret not in text


def test_a_wrong_signature_is_answered_with_what_should_have_been_signed() -> None:
    with pytest.raises(Refused) as caught:
        verifier(clock=lambda: NOW).verify(replace(GOOD_REQUEST, body=b"other"))
    text = str(caught.value.members["message"])
    assert "\n\nThe Canonical String for this request should have been\n'POST\n/endpoints/chat/invocations\n\n" in text
    assert (
        f"\n\nThe String-to-Sign should have been\n'AWS4-HMAC-SHA256\n{SIGNED_AT}\n{SIGNED_AT[:8]}/us-east-1/" in text
    )


SKEWS = [
    pytest.param(299, None, id="299 s late"),
    pytest.param(
        301,
        "Signature expired: 20261122T120000Z is now earlier than 20261122T120001Z (20261122T120501Z - 5 min.)",
        id="301 s late",
    ),
    pytest.param(-299, None, id="299 s early"),
    pytest.param(
        -301,
        "Signature not yet current: 20261122T120000Z is still later than 20261122T115959Z (20261122T115459Z + 5 min.)",
        id="301 s early",
    ),
]


@pytest.mark.parametrize(("skew_s", "message"), SKEWS)
def test_the_clock_may_be_five_minutes_off(skew_s: int, message: str | None) -> None:
    scope = "20261122/us-east-1/sagemaker/aws4_request"
    unsigned = SignedRequest("POST", "/", (("host", "h"), ("x-amz-date", "20261122T120000Z")), b"")
    canonical = canonical_request(unsigned, ["host", "x-amz-date"])
    signed = signature(DEMO_KEY.secret, scope, string_to_sign("20261122T120000Z", scope, canonical))
    authorization = (
        f"AWS4-HMAC-SHA256 Credential={DEMO_KEY.id}/{scope}, SignedHeaders=host;x-amz-date, Signature={signed}"
    )
    now = calendar.timegm((2026, 11, 22, 12, 0, 0)) + skew_s
    request = changed(unsigned, authorization=authorization)
    if message is None:
        assert verifier(clock=lambda: now).verify(request) == DEMO_KEY
        return
    with pytest.raises(Refused) as caught:
        verifier(clock=lambda: now).verify(request)
    assert (caught.value.code, caught.value.members) == ("InvalidSignatureException", {"message": message})


def test_a_key_expires_at_its_time() -> None:
    now = time.time()
    key = replace(TEMPORARY, expires_at=now + 100)
    request = signed_by_botocore(key=key)
    assert verifier(key, clock=lambda: now + 99).verify(request) == key
    with pytest.raises(Refused) as caught:
        verifier(key, clock=lambda: now + 100).verify(request)
    assert caught.value.code == "ExpiredTokenException"


# --- through the server, with real clients -------------------------------------------------------------------------


def call(local: LocalSageMaker, key: AccessKey, *, region: str = "us-east-1") -> tuple[int, str]:
    """Return status and error code of one boto3 call."""
    options: Any = local.client_options(key) | {"region_name": region}
    client = SESSION.client("sagemaker-runtime", config=Config(retries={"total_max_attempts": 1}), **options)
    try:
        client.invoke_endpoint(EndpointName="chat", Body=b"{}")
    except ClientError as error:
        response: Any = error.response
        return response["ResponseMetadata"]["HTTPStatusCode"], response["Error"]["Code"]
    return 200, ""


EXPIRED = AccessKey("ASIAEXPIRED", "s", session_token="t", expires_at=1.0)
DENIED = AccessKey("AKIADENIED", "s", denied=True)
THROUGH = [
    pytest.param(DEMO_KEY, "us-east-1", 0, (200, ""), True, id="good"),
    pytest.param(TEMPORARY, "us-east-1", 0, (200, ""), True, id="good, temporary"),
    pytest.param(EXPIRED, "us-east-1", 0, (403, "ExpiredTokenException"), False, id="expired"),
    pytest.param(DENIED, "us-east-1", 0, (403, "AccessDeniedException"), True, id="denied"),
    pytest.param(
        AccessKey(DENIED.id, "wrong"), "us-east-1", 0, (403, "InvalidSignatureException"), False, id="denied and wrong"
    ),
    pytest.param(
        AccessKey(DEMO_KEY.id, "wrong"), "us-east-1", 0, (403, "InvalidSignatureException"), False, id="wrong secret"
    ),
    pytest.param(
        AccessKey("AKIANOBODY", "x"), "us-east-1", 0, (403, "UnrecognizedClientException"), False, id="unknown"
    ),
    pytest.param(DEMO_KEY, "eu-west-1", 0, (403, "InvalidSignatureException"), False, id="other region"),
    pytest.param(DEMO_KEY, "us-east-1", 1200, (403, "InvalidSignatureException"), False, id="client 20 minutes late"),
    pytest.param(DEMO_KEY, "us-east-1", -1200, (403, "InvalidSignatureException"), False, id="client 20 minutes early"),
]


@pytest.mark.anyio
@pytest.mark.parametrize(("key", "region", "skew_s", "expected", "verified"), THROUGH)
async def test_real_clients_are_let_in_or_refused(
    key: AccessKey, region: str, skew_s: int, expected: tuple[int, str], verified: bool
) -> None:
    container = ScriptedContainer()
    keys = [DEMO_KEY, TEMPORARY, EXPIRED, DENIED]
    async with LocalSageMaker({"chat": container}, access_keys=keys, clock=lambda: time.time() + skew_s) as local:
        assert await asyncio.to_thread(call, local, key, region=region) == expected
        record = local.calls[0]
    assert (record.verified, record.access_key_id, record.status) == (verified, key.id, expected[0])
    assert len(container.requests) == (1 if expected[0] == 200 else 0)
    assert not any(secret in str(record) for secret in (key.secret, key.session_token or key.secret) if len(secret) > 1)


@pytest.mark.anyio
async def test_access_keys_can_be_changed_while_the_server_runs() -> None:
    async with LocalSageMaker({"chat": ScriptedContainer()}) as local:
        assert await asyncio.to_thread(call, local, TEMPORARY) == (403, "UnrecognizedClientException")
        local.set_access_keys([TEMPORARY])
        assert await asyncio.to_thread(call, local, TEMPORARY) == (200, "")
        assert await asyncio.to_thread(call, local, DEMO_KEY) == (403, "UnrecognizedClientException")


def test_secrets_are_not_in_the_texts_of_keys() -> None:
    assert repr(TEMPORARY) == "AccessKey(id='ASIATEMPORARY', expires_at=None, denied=False)"
