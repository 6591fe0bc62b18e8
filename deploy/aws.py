"""AWS as the commands use it: clients from boto3's own chain, its errors in plain words, and secrets kept out of them.

https://boto3.amazonaws.com/v1/documentation/api/latest/guide/retries.html#standard-retry-mode
"""

from __future__ import annotations

import functools
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    EndpointConnectionError,
    NoCredentialsError,
    NoRegionError,
    ParamValidationError,
    PartialCredentialsError,
    ProfileNotFound,
    SSOError,
    TokenRetrievalError,
)

from deploy.resources import SecretRef

ATTEMPTS = 8
"""Tries of one call, when AWS throttles it or does not answer."""
EXPIRED = frozenset({"ExpiredToken", "ExpiredTokenException", "RequestExpired"})
REFUSED = frozenset({"AccessDenied", "AccessDeniedException", "UnauthorizedOperation"})
UNKNOWN = frozenset({"UnrecognizedClientException", "InvalidClientTokenId", "InvalidSignatureException"})
GONE = frozenset({"ResourceNotFound", "ResourceNotFoundException", "ObjectNotFoundException"})


class DeployError(Exception):
    """Ends a command with exit code 1; its text is for whoever typed it."""


class Aws:
    """One region of one account."""

    def __init__(self, region: str | None = None, environ: Mapping[str, str] | None = None) -> None:
        self._environ = os.environ if environ is None else environ
        self._config = Config(
            retries={"mode": "standard", "total_max_attempts": ATTEMPTS}, user_agent_extra="lmi-deploy"
        )
        # boto3 itself reads AWS_DEFAULT_REGION alone; the other tools of AWS' go by this one first.
        self._region = region or self._environ.get("AWS_REGION") or None
        self._hidden: set[str] = set()

    @functools.cached_property
    def _session(self) -> boto3.Session:
        return boto3.Session(region_name=self._region)

    @functools.cached_property
    def sagemaker(self) -> Any:
        return self._client("sagemaker")

    @functools.cached_property
    def runtime(self) -> Any:
        return self._client("sagemaker-runtime")

    @functools.cached_property
    def scaling(self) -> Any:
        return self._client("application-autoscaling")

    @functools.cached_property
    def cloudwatch(self) -> Any:
        return self._client("cloudwatch")

    @functools.cached_property
    def logs(self) -> Any:
        return self._client("logs")

    @functools.cached_property
    def tagging(self) -> Any:
        return self._client("resourcegroupstaggingapi")

    @property
    def region(self) -> str:
        name = self.sagemaker.meta.region_name
        if not name:  # a variable that is set to nothing
            raise NoRegionError
        return str(name)

    def secret(self, ref: SecretRef) -> str:
        """Return what a secret is; from then on no text of this object holds it.

        Raises:
            DeployError: there is no such secret.
        """
        if ref.store == "env":
            value = self._environ.get(ref.name)
            if not value:
                raise DeployError(f"the environment variable {ref.name} holds a secret of the manifest, and is not set")
        else:
            value = self._client("secretsmanager").get_secret_value(SecretId=ref.name).get("SecretString")
            if value is None:
                raise DeployError(f"the secret {ref} is not text")
            self._hidden.add(value)
        if ref.json_key is not None:
            value = _member(value, ref)
        # A file or `echo` leaves the end of a line, with which a token is none.
        value = value.strip()
        if not value:
            raise DeployError(f"the secret {ref} is empty")
        self._hidden.add(value)
        return value

    def lacks(self, ref: SecretRef) -> bool:
        """Tell whether a secret is known to be missing, without reading it."""
        return ref.store == "env" and not self._environ.get(ref.name)

    def redacted(self, text: str) -> str:
        """Return `text` without any secret that was read."""
        for value in sorted(self._hidden, key=len, reverse=True):
            text = text.replace(value, "(secret)")
        return text

    def words(self, error: Exception) -> str:
        """Return what an error of AWS or of boto3 means, without secrets."""
        return self.redacted(plain(error))

    def _client(self, service: str) -> Any:
        return self._session.client(service, config=self._config)  # type: ignore[call-overload]  # a name, not a literal


def plain(error: Exception) -> str:
    """Return one line that says what went wrong and, where it can be said, what to do."""
    match error:
        case ClientError():
            return _client_error(error)
        case NoCredentialsError() | PartialCredentialsError():
            return "no AWS credentials were found: set AWS_PROFILE, or sign in with `aws sso login` or `aws configure`"
        case SSOError() | TokenRetrievalError() | CredentialRetrievalError():
            return f"AWS credentials could not be had: sign in again, then run the same command ({error})"
        case NoRegionError():
            return "no AWS region is set: name it in the manifest, with --region or as AWS_REGION"
        case ProfileNotFound() | EndpointConnectionError():
            return str(error)
        case ParamValidationError():
            return f"this boto3 does not take what the manifest asks for; a newer one may: {error}"
        case BotoCoreError():
            return f"AWS was not reached: {error}"
    return str(error)


def code_of(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


def is_missing(error: ClientError) -> bool:
    """Tell whether AWS says that something is not there.

    SageMaker says so in the text of a ValidationException alone.
    """
    text = str(error).lower()
    return code_of(error) in GONE or (
        code_of(error) == "ValidationException" and ("could not find" in text or "does not exist" in text)
    )


def is_there_already(error: ClientError) -> bool:
    """Tell whether AWS says that something of this name is there."""
    return "already exist" in str(error).lower()


def if_there(call: Callable[..., Any], **request: Any) -> dict[str, Any] | None:
    """Return what a call answers, None if AWS does not know what it is about."""
    try:
        return dict(call(**request))
    except ClientError as error:
        if is_missing(error):
            return None
        raise


def pages(client: Any, operation: str, member: str, **request: Any) -> Iterator[dict[str, Any]]:
    """Yield the entries of every page of a listing."""
    for page in client.get_paginator(operation).paginate(**request):
        yield from page[member]


def _client_error(error: ClientError) -> str:
    code, operation = code_of(error), error.operation_name
    message = re.sub(r"\s+", " ", str(error.response.get("Error", {}).get("Message", ""))).strip()
    if code in EXPIRED:
        return "the AWS credentials have expired: sign in again, then run the same command"
    if code in UNKNOWN:
        return f"AWS does not accept these credentials ({code}): `aws sts get-caller-identity` shows which are used"
    if code in REFUSED:
        return f"not allowed to call {operation}: {message or code}"
    return f"{operation} failed ({code}): {message}" if message else f"{operation} failed: {code}"


def _member(text: str, ref: SecretRef) -> str:
    try:
        members = json.loads(text)
    except ValueError:
        raise DeployError(f"the secret {ref} is not a JSON object") from None
    value = members.get(ref.json_key) if isinstance(members, dict) else None
    if not isinstance(value, str) or not value:
        raise DeployError(f"the secret {ref} has no text under that key")
    return value
