"""What only straight calls of SageMaker need: AWS' credentials, the runtime's URL, and signatures, all by botocore.

Credentials are found where every AWS tool looks, are renewed in a thread of their own, and never leave this module but
as a signature. https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_runtime_InvokeEndpoint.html
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import botocore.session
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import ReadOnlyCredentials
from botocore.exceptions import BotoCoreError, ClientError

RENEW_EVERY_S = 30.0


class AwsProblem(Exception):
    """AWS' side of the set-up is incomplete; the text is for the user."""


def runtime_origin(region: str) -> str:
    """Return the URL of SageMaker's runtime in a Region, or the one that AWS' variables set.

    Raises:
        AwsProblem: there is no such Region.
    """
    session = botocore.session.get_session()
    try:
        # The client is only asked for its URL; without keys it would look for credentials.
        client = session.create_client(
            "sagemaker-runtime",
            region_name=region,
            aws_access_key_id="-",
            aws_secret_access_key="-",  # noqa: S106 - no secret at all
        )
    except (BotoCoreError, ValueError) as error:
        raise AwsProblem(f"no runtime URL for region {region!r}: {error}") from None
    return str(client.meta.endpoint_url)


class Signer:
    """Signs requests with the credentials of the moment."""

    def __init__(self, region: str) -> None:
        """Raise AwsProblem if there are no credentials."""
        self._region = region
        try:
            session = botocore.session.get_session()
            session.set_config_variable("region", region)  # where STS is asked for a role, unless a profile says
            source = session.get_credentials()
        except BotoCoreError as error:
            raise AwsProblem(f"AWS credentials: {error}") from None
        if source is None:
            raise AwsProblem("no AWS credentials were found; set them as for every AWS tool")
        self._source = source
        self._renew()

    def _renew(self) -> None:
        try:
            frozen: ReadOnlyCredentials = self._source.get_frozen_credentials()
        except (BotoCoreError, ClientError) as error:  # the latter is what STS refuses, and none of the former
            raise AwsProblem(f"AWS credentials: {error}") from None
        self._auth = SigV4Auth(frozen, "sagemaker", self._region)

    async def keep_fresh(self) -> None:
        """Renew for ever, off the event loop; a failure keeps the last credentials, and calls will tell."""
        while True:
            await asyncio.sleep(RENEW_EVERY_S)
            try:
                await asyncio.to_thread(self._renew)
            except AwsProblem:
                continue

    def sign(self, url: str, headers: Mapping[str, str], body: bytes) -> dict[str, str]:
        """Return all the headers of a signed POST."""
        request = AWSRequest("POST", url, headers=dict(headers), data=body)
        self._auth.add_auth(request)
        return dict(request.headers.items())
