"""A short-lived process that asks aioboto3 for AWS credentials.

Reads one JSON question from standard input and writes one JSON answer to standard output, both pipes of the process
that started it. Serving processes so hold neither botocore's tables nor its HTTP stack (about 25 MB each), and no
credential provider, however slow, can hold up their event loop.

Question: [{"role_arn": null, "external_id": null, "region": "us-east-1"}, …]
Answer: [{"access_key": …, "secret_key": …, "token": …, "expires_at": …} | {"error": …}, …], in the same order
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from typing import Any

import aioboto3
from botocore.exceptions import ClientError

ATTEMPT_TIMEOUT_S = 20.0


async def answer(question: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the answer to `question`; what could not be had is an `error` in its place."""
    try:
        session = aioboto3.Session()
    except Exception as error:  # as for a profile that does not exist
        return [{"error": type(error).__name__}] * len(question)
    return await asyncio.gather(*(_identity(session, wanted) for wanted in question))


async def _identity(session: aioboto3.Session, wanted: dict[str, Any]) -> dict[str, Any]:
    try:
        async with asyncio.timeout(ATTEMPT_TIMEOUT_S):
            return await (_assume(session, wanted) if wanted["role_arn"] else _find(session))
    except ClientError as error:
        # Only the error's code: its text can hold account ids and session names.
        return {"error": str(error.response.get("Error", {}).get("Code", "ClientError"))}
    except Exception as error:
        # Providers raise what they like, KeyError included; one identity's trouble is not the others'.
        return {"error": type(error).__name__}


async def _find(session: aioboto3.Session) -> dict[str, Any]:
    found = await session.get_credentials()
    if found is None:
        return {"error": "NoCredentials"}
    frozen = await found.get_frozen_credentials()
    expiry = getattr(found, "_expiry_time", None)  # absent on credentials that do not expire
    return {
        "access_key": frozen.access_key,
        "secret_key": frozen.secret_key,
        "token": frozen.token,
        "expires_at": expiry.timestamp() if expiry is not None else None,
    }


async def _assume(session: aioboto3.Session, wanted: dict[str, Any]) -> dict[str, Any]:
    request = {"RoleArn": wanted["role_arn"], "RoleSessionName": "lmi-gateway"}
    if wanted["external_id"]:
        request["ExternalId"] = wanted["external_id"]
    async with session.client("sts", region_name=wanted["region"]) as sts:
        credentials = (await sts.assume_role(**request))["Credentials"]
    return {
        "access_key": credentials["AccessKeyId"],
        "secret_key": credentials["SecretAccessKey"],
        "token": credentials["SessionToken"],
        "expires_at": credentials["Expiration"].timestamp(),
    }


def main() -> None:
    logging.disable(logging.CRITICAL)
    json.dump(asyncio.run(answer(json.load(sys.stdin))), sys.stdout)


if __name__ == "__main__":
    main()
