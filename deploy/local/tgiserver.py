"""An imitated TGI on a port of its own, with TGI's own routes: what TGI's clients speak to without SageMaker.

https://github.com/huggingface/text-generation-inference: router/src/server.rs
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from http import HTTPStatus
from types import TracebackType
from typing import Self

from deploy.local.container import ContainerReply, ContainerRequest
from deploy.local.containerio import close_body
from deploy.local.engine import Engine
from deploy.local.http1 import HttpServer
from deploy.local.httpreply import Reply, Request

_UNHEALTHY = b'{"error":"unhealthy","error_type":"healthcheck"}'
_JSON = {"content-type": "application/json"}
_MOST_BODY_BYTES = 16 * 1024 * 1024
"""More than TGI reads, so that TGI's own refusal is what a larger body gets."""
_IDLE_TIMEOUT_S = 60.0


class TgiServer:
    """Serves an engine of a `tgi` dialect.

    async with TgiServer(engine.build("tgi")) as server:
        client = text_generation.AsyncClient(server.url)
    """

    def __init__(self, engine: Engine, *, host: str = "127.0.0.1", port: int = 0) -> None:
        """Raise ValueError if the engine is no TGI; port 0 takes a free one."""
        if engine.tgi is None:
            raise ValueError(f"{engine.dialect.name} is no TGI")
        self.engine = engine
        self.port = port
        self._host = host
        self._http = HttpServer(self._serve, max_body_bytes=_MOST_BODY_BYTES, idle_timeout_s=_IDLE_TIMEOUT_S)
        self._pages: dict[str, Callable[[], bytes]] = {"/info": engine.tgi.info}
        if engine.tgi.release.since(2, 2):
            self._pages["/v1/models"] = engine.tgi.models

    async def __aenter__(self) -> Self:
        self.port = await self._http.start(self._host, self.port)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._http.aclose()
        await self.engine.aclose()

    @property
    def url(self) -> str:
        """Where it is, without a path."""
        return f"http://{self._host}:{self.port}"

    async def _serve(self, request: Request, reply: Reply) -> None:
        answer = await self._answer(request)
        headers = answer.headers.items()
        if isinstance(answer.body, bytes):
            reply.send(answer.status, headers, answer.body)
            return
        try:
            await _stream(reply, answer)
        finally:
            await close_body(answer.body)

    async def _answer(self, request: Request) -> ContainerReply:
        if request.oversized:
            return ContainerReply(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, {}, b"")
        if request.method == "POST":
            asked = ContainerRequest(request.body, dict(request.headers))
            return await self.engine.post(request.path, asked)
        if request.method != "GET":
            return ContainerReply(HTTPStatus.METHOD_NOT_ALLOWED, {}, b"")
        if request.path in ("/", "/health", "/ping"):
            status = await self.engine.ping()
            return (
                ContainerReply(status, {}, b"")
                if status == HTTPStatus.OK
                else ContainerReply(status, _JSON, _UNHEALTHY)
            )
        page = self._pages.get(request.path)
        return ContainerReply(HTTPStatus.NOT_FOUND, {}, b"") if page is None else ContainerReply(200, _JSON, page())


async def _stream(reply: Reply, answer: ContainerReply) -> None:
    """Pass a stream's chunks on as they come."""
    chunks: AsyncIterator[bytes] = aiter(answer.body)  # type: ignore[arg-type]  # a body of bytes was sent before
    reply.start(answer.status, answer.headers.items(), length=None)
    async for chunk in chunks:
        await reply.write(chunk)
    reply.end()
