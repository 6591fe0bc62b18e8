"""`/admin/keys`: keys in Redis, made, listed, shown, changed, rotated, disabled, enabled and revoked.

A key itself is in one answer only: that of the request which made it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from time import time
from typing import Any

from litestar import Request, Response, delete, get, patch, post
from litestar.handlers import HTTPRouteHandler
from pydantic import ValidationError

from gateway.admin.body import read_fields, refusal, whole_number
from gateway.auth.known import Known
from gateway.auth.records import MAX_OVERLAP_S, TERMS, KeyRecord, changed, made, rotated, shown
from gateway.auth.registry import KeyRegistry
from gateway.errors import KeyExists

log = logging.getLogger(__name__)

OVERLAP_S = 3600
"""How long a key stays valid beside the one that a rotation put in its place, unless told otherwise."""
_Request = Request[Any, Any, Any]
_Answer = Response[dict[str, Any]]


def key_routes(registry: KeyRegistry, known: Known, *, clock: Callable[[], float] = time) -> list[HTTPRouteHandler]:
    """Return the handlers. `known`: what keys may name. `clock` returns Unix seconds."""

    def answer(record: KeyRecord, key: str | None = None, *, status: int = 200) -> _Answer:
        told = shown(record, clock()) | ({} if key is None else {"key": key})
        return Response(told, status_code=status, headers={"cache-control": "no-store"})

    @get("/admin/keys")
    async def list_keys() -> _Answer:
        records = await registry.all()
        return Response({"object": "list", "data": [shown(record, clock()) for record in records]})

    @post("/admin/keys")
    async def create(request: _Request) -> _Answer:
        terms = read_fields(await request.body(), TERMS)
        try:
            record, key = made(terms, clock())
        except ValidationError as error:
            raise refusal(error) from None
        known.check(record)
        if record.id in known.file_ids:
            raise KeyExists(f"There is a key {record.id!r} in the configuration file.", param="id")
        await registry.create(record)
        _told("create", record.id)
        return answer(record, key, status=201)

    @get("/admin/keys/{key_id:str}")
    async def show(request: _Request) -> _Answer:
        return answer(await registry.get(_id(request)))

    @patch("/admin/keys/{key_id:str}")
    async def change(request: _Request) -> _Answer:
        changes = read_fields(await request.body(), [name for name in TERMS if name != "id"])

        def apply(record: KeyRecord) -> KeyRecord:
            try:
                return changed(record, changes)
            except ValidationError as error:
                raise refusal(error) from None

        def checked(record: KeyRecord) -> KeyRecord:
            known.check(after := apply(record))
            return after

        record = await registry.change(_id(request), checked)
        _told("change", record.id)
        return answer(record)

    @delete("/admin/keys/{key_id:str}", status_code=200)
    async def revoke(request: _Request) -> _Answer:
        key_id = _id(request)
        await registry.revoke(key_id)
        _told("revoke", key_id)
        return Response({"id": key_id, "object": "key", "deleted": True})

    @post("/admin/keys/{key_id:str}/rotate", status_code=200)
    async def rotate(request: _Request) -> _Answer:
        fields = read_fields(await request.body(), ["overlap_s"])
        overlap_s = whole_number(fields, "overlap_s", default=OVERLAP_S, most=MAX_OVERLAP_S)
        keys: list[str] = []

        def apply(record: KeyRecord) -> KeyRecord:
            after, key = rotated(record, overlap_s, clock())
            keys.append(key)
            return after

        record = await registry.change(_id(request), apply)
        _told("rotate", record.id)
        return answer(record, keys[-1])

    def switch(path: str, *, disabled: bool) -> HTTPRouteHandler:
        @post(f"/admin/keys/{{key_id:str}}/{path}", status_code=200, name=f"{path} a key")
        async def handler(request: _Request) -> _Answer:
            read_fields(await request.body(), ())
            record = await registry.change(
                _id(request), lambda record: record.model_copy(update={"disabled": disabled})
            )
            _told(path, record.id)
            return answer(record)

        return handler

    return [
        list_keys,
        create,
        show,
        change,
        revoke,
        rotate,
        switch("enable", disabled=False),
        switch("disable", disabled=True),
    ]


def _id(request: _Request) -> str:
    key_id: str = request.path_params["key_id"]
    return key_id


def _told(action: str, key_id: str) -> None:
    log.info("key changed", extra={"key": key_id, "action": action})
