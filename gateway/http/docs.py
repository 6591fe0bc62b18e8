"""`/docs`: the OpenAPI document as a page, and `/docs/openapi.json`.

Litestar gathers its own routes; docs_document.py adds the generating calls, and docs_page.py turns the result into
HTML. All of it is imported and built when someone asks for the first time, and nothing comes from another host.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from litestar import Request, Response, Router
from litestar.enums import MediaType
from litestar.handlers import HTTPRouteHandler
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin, OpenAPIRenderPlugin
from litestar.openapi.spec import OpenAPI

from gateway import __version__
from gateway.errors import RouteNotFound

PATH = "/docs"
HEADERS = {
    # The page is one file: no script, and nothing from anywhere.
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none';"
    " form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "cache-control": "no-cache",
}


def openapi_config(*, keys_required: bool) -> OpenAPIConfig:
    """Return what makes Litestar serve the document; `keys_required` is whether the document says so."""
    return _Config(
        title="lmi-gateway",
        version=__version__,
        use_handler_docstrings=True,
        operation_id_creator=_operation_id,
        render_plugins=[PagePlugin(), JsonRenderPlugin(media_type=MediaType.JSON)],
        openapi_router=Router(
            PATH, route_handlers=[], include_in_schema=False, response_headers=HEADERS, after_request=_own_not_found
        ),
        keys_required=keys_required,
    )


class PagePlugin(OpenAPIRenderPlugin):
    """The document as a page for people, made once."""

    def __init__(self) -> None:
        super().__init__(path="/", media_type=MediaType.HTML, favicon="", style="")
        self._page = b""

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        if not self._page:
            from gateway.http.docs_page import page

            self._page = page(openapi_schema, f"{PATH}/openapi.json").encode()
        return self._page


@dataclass
class _Config(OpenAPIConfig):
    keys_required: bool = True

    def to_openapi_schema(self) -> OpenAPI:
        return _Document(super().to_openapi_schema(), keys_required=self.keys_required)


class _Document(OpenAPI):
    """Litestar fills in the paths of its own routes; the rest is added when it becomes JSON, which happens once."""

    def __init__(self, empty: OpenAPI, *, keys_required: bool) -> None:
        super().__init__(**{field.name: getattr(empty, field.name) for field in fields(empty)})
        self._keys_required = keys_required

    def to_schema(self) -> dict[str, Any]:
        from gateway.http.docs_document import complete

        return complete(super().to_schema(), keys_required=self._keys_required)


def _operation_id(handler: HTTPRouteHandler, *_: object) -> str:
    return handler.handler_name


def _own_not_found(response: Response[Any]) -> Response[Any]:
    """Litestar answers unknown paths below the document's with a page of its own."""
    if response.status_code == 404:
        raise RouteNotFound("There is nothing at this URL.")
    return response
