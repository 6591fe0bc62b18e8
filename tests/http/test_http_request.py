"""What is read of a request besides its JSON: the headers the gateway acts upon, and the body, within its limit."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest

from gateway.errors import GatewayError, RequestTooLarge, UnsupportedMediaType
from gateway.http.request import Head, read_body, read_head

OWN_ID = re.compile(r"req_[0-9a-f]{32}")


@pytest.mark.parametrize("given", ["a", "7", "trace-1.2_3", "Z" * 64])
def test_an_acceptable_request_id_is_taken_over(given: str) -> None:
    assert read_head([(b"x-request-id", given.encode())]).request_id == given


@pytest.mark.parametrize("given", ["", "-a", ".a", "_a", "a b", "a\tb", "a,b", "a/b", "ä", "a\n", "Z" * 65])
def test_any_other_is_replaced(given: str) -> None:
    assert OWN_ID.fullmatch(read_head([(b"x-request-id", given.encode())]).request_id)


def test_every_request_without_an_id_gets_its_own() -> None:
    assert len({read_head([]).request_id for _ in range(100)}) == 100


def test_the_head_holds_what_the_gateway_reads() -> None:
    head = read_head(
        [
            (b"host", b"a"),
            (b"content-type", b"application/json"),
            (b"content-length", b"0012"),
            (b"content-encoding", b"identity"),
            (b"x-request-id", b"mine"),
        ]
    )
    assert head == Head("mine", b"application/json", b"identity", 12)


class Body:
    """An ASGI `receive` that hands out these pieces, then says that the caller has left."""

    def __init__(self, *pieces: bytes, complete: bool = True) -> None:
        self._pieces = list(pieces)
        self._complete = complete
        self.reads = 0

    async def __call__(self) -> dict[str, Any]:
        self.reads += 1
        if not self._pieces:
            return {"type": "http.disconnect"}
        piece = self._pieces.pop(0)
        return {"type": "http.request", "body": piece, "more_body": bool(self._pieces) or not self._complete}


def read(body: Body, head: Head | None = None, limit: int = 10) -> bytes | None:
    return asyncio.run(read_body(head or Head("id"), body, limit))


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        pytest.param([b""], b"", id="empty"),
        pytest.param([b"0123456789"], b"0123456789", id="just the limit"),
        pytest.param([b"01234", b"", b"56789", b""], b"0123456789", id="just the limit in pieces"),
    ],
)
def test_a_body_within_the_limit_is_returned_whole(pieces: list[bytes], expected: bytes) -> None:
    assert read(Body(*pieces)) == expected


@pytest.mark.parametrize("pieces", [[], [b"0123"], [b"01", b"23"]], ids=["at once", "in the body", "later"])
def test_a_caller_who_left_has_sent_no_body(pieces: list[bytes]) -> None:
    assert read(Body(*pieces, complete=False)) is None


@pytest.mark.parametrize(
    ("pieces", "reads"),
    [
        pytest.param([b"01234567890"], 1, id="in one piece"),
        pytest.param([b"0123456789", b"0"], 2, id="by its last piece"),
        pytest.param([b"01234567890", b"1", b"2", b"3"], 1, id="by its first piece"),
        pytest.param([b"012345", b"678901", b"2", b"3"], 2, id="in the middle"),
    ],
)
def test_a_body_over_the_limit_is_read_no_further(pieces: list[bytes], reads: int) -> None:
    body = Body(*pieces)
    with pytest.raises(RequestTooLarge, match="over the limit of 10 bytes"):
        read(body)
    assert body.reads == reads


@pytest.mark.parametrize(
    ("head", "error"),
    [
        pytest.param(Head("id", content_length=11), RequestTooLarge, id="too long, as it says"),
        pytest.param(Head("id", content_length=10**12), RequestTooLarge, id="a terabyte"),
        pytest.param(Head("id", content_type=b"text/plain"), UnsupportedMediaType, id="text"),
        pytest.param(Head("id", content_type=b"multipart/form-data; boundary=x"), UnsupportedMediaType, id="a form"),
        pytest.param(Head("id", content_type=b"application/jsonlines"), UnsupportedMediaType, id="JSON lines"),
        pytest.param(Head("id", content_type=b"application/json-seq"), UnsupportedMediaType, id="a JSON sequence"),
        pytest.param(Head("id", content_encoding=b"gzip"), UnsupportedMediaType, id="gzip"),
        pytest.param(Head("id", content_encoding=b"gzip, identity"), UnsupportedMediaType, id="two codings"),
    ],
)
def test_what_the_head_rules_out_is_not_read(head: Head, error: type[GatewayError]) -> None:
    body = Body(b"{}")
    with pytest.raises(error):
        read(body, head)
    assert body.reads == 0


@pytest.mark.parametrize(
    "content_type",
    [b"", b"application/json", b"APPLICATION/JSON", b"application/json;charset=utf-8", b"application/json ; x=y",
     b"application/vnd.api+json", b"application/problem+json; a=b"],
)  # fmt: skip
def test_json_in_every_spelling_is_read(content_type: bytes) -> None:
    assert read(Body(b"{}"), Head("id", content_type=content_type)) == b"{}"


@pytest.mark.parametrize("coding", [b"", b"identity", b"Identity"])
def test_identity_is_no_coding(coding: bytes) -> None:
    assert read(Body(b"{}"), Head("id", content_encoding=coding)) == b"{}"
