"""A real container reached by URL: any server with `GET /ping` and `POST /invocations`."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator

import aiohttp

from deploy.local.container import ContainerReply, ContainerRequest

CONNECT_TIMEOUT_S = 2.0


class HttpContainer:
    """Passes calls on; chunks come back as they arrive, and closing the reply's body closes the connection."""

    def __init__(self, url: str) -> None:
        """`url` has no path: http://127.0.0.1:8080."""
        self._url = url.rstrip("/")
        self._opened: aiohttp.ClientSession | None = None

    async def ping(self) -> int:
        try:
            async with self._session().get(f"{self._url}/ping") as response:
                return response.status
        except aiohttp.ClientError as error:
            raise ConnectionError(str(error)) from error

    async def invoke(self, request: ContainerRequest) -> ContainerReply:
        """Answer as the server does.

        Raises:
            ConnectionError: the server is not there or hung up.
        """
        try:
            response = await self._session().post(
                f"{self._url}/invocations", data=io.BytesIO(request.body), headers=dict(request.headers)
            )
        except aiohttp.ClientError as error:
            raise ConnectionError(str(error)) from error
        headers = {name.lower(): value for name, value in response.headers.items()}
        return ContainerReply(response.status, headers, _Body(response))

    async def aclose(self) -> None:
        if self._opened is not None:
            await self._opened.close()
            self._opened = None

    def _session(self) -> aiohttp.ClientSession:
        if self._opened is None:
            self._opened = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S),
                auto_decompress=False,
                cookie_jar=aiohttp.DummyCookieJar(),
                skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
            )
        return self._opened


class _Body:
    """A reply's chunks. A class, because an async generator that was never started has nothing to close."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response
        self._chunks = response.content.iter_chunks()

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        try:
            while True:
                data, _ = await anext(self._chunks)
                if data:
                    return data
        except asyncio.CancelledError:
            self._response.close()
            raise
        except aiohttp.ClientError as error:
            raise ConnectionError(str(error)) from error

    async def aclose(self) -> None:
        """Close the connection, unless the reply was read to its end and the connection can be used again."""
        if not self._response.content.at_eof():
            self._response.close()
