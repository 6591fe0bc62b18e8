"""`/console`: the page itself. It needs no key, as it holds nothing; whatever it shows it asks for with one.

What the browser may do with it is in its headers: nothing from elsewhere, nothing inline, no text turned into markup.
https://www.w3.org/TR/CSP3/, https://www.w3.org/TR/trusted-types/
"""

from __future__ import annotations

from hashlib import sha256
from importlib.resources import files
from typing import Any

from litestar import Request, Response, get
from litestar.handlers import HTTPRouteHandler

from gateway.admin import console
from gateway.admin.app import OPEN
from gateway.errors import RouteNotFound

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-cache",
}
# Litestar adds that texts are UTF-8.
_TYPES = {
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}
INDEX = "index.html"


class Assets:
    """The files, read once, each with its entity tag."""

    def __init__(self) -> None:
        self._files: dict[str, tuple[bytes, str, str]] = {}
        for file in files(console).iterdir():
            media_type = _TYPES.get("." + file.name.rpartition(".")[2])
            if media_type is not None:
                data = file.read_bytes()
                self._files[file.name] = data, media_type, f'"{sha256(data).hexdigest()[:32]}"'

    @property
    def names(self) -> list[str]:
        return sorted(self._files)

    def answer(self, name: str, if_none_match: str | None) -> Response[bytes]:
        """Return a file, or that it has not changed.

        Raises:
            RouteNotFound: there is none of this name.
        """
        if name not in self._files:
            raise RouteNotFound("There is nothing at this URL. The console is at /console.")
        data, media_type, tag = self._files[name]
        headers = {**HEADERS, "etag": tag}
        if if_none_match is not None and (if_none_match == "*" or tag in _tags(if_none_match)):
            return Response(b"", status_code=304, headers=headers, media_type=media_type)
        return Response(data, headers=headers, media_type=media_type)


def page_routes(assets: Assets) -> list[HTTPRouteHandler]:
    """Return the handlers."""

    @get("/console", opt={OPEN: True})
    async def page(request: Request[Any, Any, Any]) -> Response[bytes]:
        return assets.answer(INDEX, request.headers.get("if-none-match"))

    @get("/console/{name:str}", opt={OPEN: True})
    async def asset(request: Request[Any, Any, Any]) -> Response[bytes]:
        return assets.answer(request.path_params["name"], request.headers.get("if-none-match"))

    return [page, asset]


def _tags(header: str) -> set[str]:
    return {tag.strip().removeprefix("W/") for tag in header.split(",")}
